"""Session State Database Documentation (the first seed), sentence by sentence."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from ledger import InvalidInput, SessionLedger, ValueTooLarge
from ledger.compat.session_records import COLUMNS
from ledger.compat.session_states import (
    configure,
    delete_session_state,
    get_db_connection,
    get_session_analytics,
    get_session_state,
    get_session_states_by_criteria,
    save_session_state,
)
from ledger.testing import SetClock
from support.session_states import DOCUMENTED, STATE, saved, script, selected

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def configured(ledger: SessionLedger) -> Iterator[None]:
    configure(ledger)
    yield
    configure(None)


# Overview: "captures and stores complete information about each problem generation workflow"


def test_overview_a_workflow_is_stored_with_input_problem_code_results_and_status() -> None:
    saved()
    found = get_session_state("t")
    assert found is not None
    assert {name: found[name] for name in STATE} == STATE
    assert (found["run_id"], found["workflow_status"]) == ("run", "completed")


def test_overview_what_a_state_holds_beside_the_columns_is_kept_as_context(ledger: SessionLedger) -> None:
    class Step(BaseModel):
        at: datetime

    class Level(Enum):
        HARD = "hard"

    @dataclass
    class Note:
        text: str

    at = datetime.fromisoformat("2026-03-05T09:30:00+00:00")
    state = {"topic": "arrays", "difficulty": Level.HARD, "steps": [Step(at=at)], "note": Note("n"), "record_id": 7}
    save_session_state("t", state)
    session = ledger.get_session("t")
    assert session is not None
    assert session.context == {"steps": [{"at": "2026-03-05T09:30:00Z"}], "note": {"text": "n"}, "record_id": 7}
    assert get_session_state("t")["difficulty"] == "hard"  # type: ignore[index]


# Database Schema: "Table: session_states"


def test_table_session_states_has_exactly_the_documented_columns() -> None:
    saved()
    with closing(get_db_connection()) as connection:
        assert [column[0] for column in connection.execute("SELECT * FROM session_states").description] == DOCUMENTED
    assert list(COLUMNS) == DOCUMENTED
    assert list(get_session_state("t") or ()) == DOCUMENTED


def test_table_every_column_reads_in_sql_as_in_python() -> None:
    saved()
    (row,) = selected("SELECT * FROM session_states")
    found = get_session_state("t")
    assert found is not None
    values = dict(zip(DOCUMENTED, row, strict=True))
    assert json.loads(values.pop("problem_tests")) == found.pop("problem_tests")
    assert values.pop("tests_passed") == 1
    assert found.pop("tests_passed") is True
    times = {name: datetime.fromisoformat(f"{values.pop(name)}+00:00") for name in ("created_at", "updated_at")}
    assert values | times == found


def test_column_id_is_a_uuid_made_by_itself_and_stays() -> None:
    first = saved()
    assert str(uuid.UUID(first)) == first
    assert saved(code="other") == first
    assert get_session_state("t")["id"] == first  # type: ignore[index]
    assert saved("u") != first


def test_columns_created_at_and_updated_at_are_kept_by_the_ledger(clock: SetClock) -> None:
    began = clock.now
    saved()
    changed = clock.move(60)
    saved(code="better")
    found = get_session_state("t")
    assert found is not None
    assert (found["created_at"], found["updated_at"]) == (began, changed)


def test_column_thread_id_is_the_unique_id_of_the_workflow_of_up_to_255_characters() -> None:
    saved("x" * 255)
    saved("x" * 255)
    assert selected("SELECT COUNT(*), MAX(thread_id) FROM session_states") == [(1, "x" * 255)]
    with pytest.raises(InvalidInput, match="255"):
        saved("x" * 256)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("user_prompt", 1, "user_prompt must be text"),
        ("topic", ["arrays"], "topic must be text"),
        ("difficulty", 3, "difficulty must be text"),
        ("problem_description", {}, "problem_description must be text"),
        ("problem_tests", "none", "problem_tests must be an array"),
        ("tests_passed", 1, "tests_passed must be true or false"),
        ("code_attempts", True, "code_attempts must be a whole number"),
        ("problem_attempts", -1, "problem_attempts must be a whole number"),
        ("workflow_status", "done", "workflow_status must be one of running, completed, failed"),
        ("thread_id", "another", "another thread"),
        ("a lock", threading.Lock(), "a lock is of type _thread.lock, which has no usual JSON form"),
    ],
)
def test_columns_have_the_documented_types_and_anything_else_is_a_typed_error(
    column: str, value: Any, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        save_session_state("t", {**STATE, column: value})
    assert get_session_state("t") is None


def test_column_workflow_status_is_running_completed_or_failed(ledger: SessionLedger) -> None:
    save_session_state("t", STATE)
    assert get_session_state("t")["workflow_status"] == "running"  # type: ignore[index]
    assert ledger.get_session("t")["status"] == "active"  # type: ignore[index]
    for status in ("completed", "failed", "running"):
        save_session_state("t", STATE, workflow_status=status)
        assert get_session_state("t")["workflow_status"] == status  # type: ignore[index]
        assert selected("SELECT workflow_status FROM session_states") == [(status,)]


def test_setup_init_session_states_makes_table_indexes_times_and_summary_and_can_be_repeated(tmp_path: Path) -> None:
    place = {"LEDGER_URL": f"sqlite:///{tmp_path / 'states.db'}"}
    shown = script("init_session_states.py", tmp_path, **place)
    assert shown == (
        f"The ledger {place['LEDGER_URL']} is ready.\nsession_states: 0 rows\nsession_states_summary: 0 rows\n"
    )
    script("example_session_states.py", tmp_path, **place)
    found = json.loads(script("init_session_states.py", tmp_path, "--json", **place))
    assert found["views"] == ["session_states", "session_states_summary"]


def test_setup_the_ledger_is_the_one_at_ledger_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(None)
    for name in ("one.db", "two.db"):
        monkeypatch.setenv("LEDGER_URL", f"sqlite:///{tmp_path / name}")
        save_session_state(name, STATE)
        assert [found["thread_id"] for found in get_session_states_by_criteria()] == [name]
    configure(None)


def test_setup_a_ledger_can_be_given_to_each_call(tmp_path: Path) -> None:
    with SessionLedger(f"sqlite:///{tmp_path / 'given.db'}") as given:
        save_session_state("t", STATE, ledger=given)
        assert get_session_state("t", ledger=given) is not None
    assert get_session_state("t") is None


# Usage: Python API


def test_python_api_the_documented_calls_run_as_written() -> None:
    session_state_dict = STATE
    record_id = save_session_state(
        thread_id="unique-thread-id", state=session_state_dict, run_id="mlflow-run-id", workflow_status="completed"
    )
    assert record_id
    session_data = get_session_state("unique-thread-id")
    sessions = get_session_states_by_criteria(topic="arrays", difficulty="easy", tests_passed=True, limit=50)
    assert list(sessions) == [session_data]
    assert get_session_analytics()["total_sessions"] == 1


def test_save_updates_what_changed_and_records_nothing_where_nothing_did(ledger: SessionLedger) -> None:
    saved()
    saved()
    assert ledger.get_session("t")["version"] == 1  # type: ignore[index]
    saved(code="better", code_attempts=3)
    second = ledger.history("t")[1]
    assert sorted((change.field, change.key) for change in second.changes) == [
        ("attribute", "code_attempts"),
        ("context", "code"),
    ]
    assert ledger.get_session("t", version=1).context["code"] == STATE["code"]  # type: ignore[union-attr]


def test_save_leaves_what_the_state_does_not_name_and_takes_away_what_is_none() -> None:
    saved()
    save_session_state("t", {"code": None, "run_id": None, "tests_passed": False})
    found = get_session_state("t")
    assert found is not None
    assert (found["code"], found["tests_passed"], found["topic"]) == (None, False, "arrays")
    assert (found["run_id"], found["workflow_status"]) == ("run", "completed")


def test_save_takes_a_record_that_was_read_before(ledger: SessionLedger) -> None:
    saved()
    found = get_session_state("t")
    save_session_state("t", found)
    assert ledger.get_session("t")["version"] == 1  # type: ignore[index]


def test_save_takes_a_state_that_is_a_model() -> None:
    class State(BaseModel):
        topic: str
        tests_passed: bool

    save_session_state("t", State(topic="graphs", tests_passed=False))
    assert get_session_state("t")["topic"] == "graphs"  # type: ignore[index]
    with pytest.raises(InvalidInput, match="must be an object"):
        save_session_state("t", [1])


def test_save_from_many_threads_makes_one_record_with_all_they_said(ledger: SessionLedger) -> None:
    threads = [threading.Thread(target=save_session_state, args=("t", {f"step_{n}": n})) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.get_session("t").context == {f"step_{n}": n for n in range(8)}  # type: ignore[union-attr]
    assert get_session_analytics()["total_sessions"] == 1


def test_get_session_state_of_an_unknown_thread_or_another_kind_of_session_is_none(ledger: SessionLedger) -> None:
    other = ledger.create_session("ada", "something else")
    assert get_session_state("nobody") is None
    assert get_session_state(other) is None
    assert delete_session_state(other) is False
    assert get_session_analytics()["total_sessions"] == 0


@pytest.mark.parametrize(
    ("criteria", "threads"),
    [
        ({}, ["c", "b", "a"]),
        ({"topic": "arrays"}, ["b", "a"]),
        ({"difficulty": "hard"}, ["c"]),
        ({"workflow_status": "running"}, ["b"]),
        ({"workflow_status": "failed"}, ["c"]),
        ({"tests_passed": True}, ["a"]),
        ({"tests_passed": False}, ["c"]),
        ({"topic": "arrays", "tests_passed": True, "workflow_status": "completed"}, ["a"]),
        ({"topic": "trees"}, []),
        ({"limit": 2}, ["c", "b"]),
    ],
)
def test_get_session_states_by_criteria_meets_every_criterion_newest_first(
    criteria: dict[str, Any], threads: list[str], clock: SetClock
) -> None:
    save_session_state("a", STATE, workflow_status="completed")
    clock.move(1)
    save_session_state("b", {"topic": "arrays", "difficulty": "easy"}, workflow_status="running")
    clock.move(1)
    save_session_state("c", {"topic": "graphs", "difficulty": "hard", "tests_passed": False}, workflow_status="failed")
    assert [found["thread_id"] for found in get_session_states_by_criteria(**criteria)] == threads


def test_get_session_states_by_criteria_says_whether_more_follows() -> None:
    for number in range(3):
        saved(f"t{number}")
    page = get_session_states_by_criteria(limit=2)
    rest = get_session_states_by_criteria(limit=2, after=page.next)
    assert len({found["thread_id"] for found in (*page, *rest)}) == 3
    assert rest.next is None


def test_query_parameter_limit_is_50_by_default_and_100_at_most() -> None:
    for number in range(51):
        save_session_state(f"t{number}", {})
    assert len(get_session_states_by_criteria()) == 50
    assert len(get_session_states_by_criteria(limit=100)) == 51
    for limit in (0, 101):
        with pytest.raises(InvalidInput, match="limit"):
            get_session_states_by_criteria(limit=limit)


@pytest.mark.parametrize(
    ("criteria", "words"),
    [
        (
            {"colour": "red"},
            "There is no criterion 'colour'. There are: difficulty, tests_passed, topic, workflow_status",
        ),
        ({"workflow": "done"}, "There is no criterion 'workflow'. Did you mean workflow_status?"),
        ({"workflow_status": "done"}, "workflow_status must be one of"),
        ({"tests_passed": "yes"}, "tests_passed must be true or false"),
        ({"topic": 3}, "topic must be text"),
    ],
)
def test_an_unknown_criterion_is_a_typed_error(criteria: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        get_session_states_by_criteria(**criteria)


def test_delete_session_state_takes_it_out_of_every_read_and_keeps_its_history(ledger: SessionLedger) -> None:
    saved()
    assert delete_session_state("t") is True
    assert delete_session_state("t") is False
    assert delete_session_state("nobody") is False
    assert get_session_state("t") is None
    assert list(get_session_states_by_criteria()) == []
    assert selected("SELECT COUNT(*) FROM session_states") == [(0,)]
    assert len(ledger.history("t")) == 2


def test_a_deleted_session_state_that_is_saved_again_begins_empty() -> None:
    first = saved()
    delete_session_state("t")
    assert save_session_state("t", {"topic": "graphs"}) == first
    found = get_session_state("t")
    assert found is not None
    assert (found["topic"], found["code"], found["run_id"], found["workflow_status"]) == (
        "graphs",
        None,
        None,
        "running",
    )


@pytest.mark.parametrize(
    "refused", [{"code": "x" * 9_000_000}, {f"name {number}": 1 for number in range(1001)}], ids=["size", "changes"]
)
def test_a_save_that_is_refused_leaves_a_deleted_session_state_deleted(
    ledger: SessionLedger, refused: dict[str, Any]
) -> None:
    saved(secret="s")
    delete_session_state("t")
    before = len(ledger.history("t"))
    with pytest.raises((InvalidInput, ValueTooLarge)):
        save_session_state("t", refused)
    assert get_session_state("t") is None
    assert len(ledger.history("t")) == before
    save_session_state("t", {"topic": "graphs"})
    assert len(ledger.history("t")) == before + 1
    session = ledger.get_session("t")
    assert session is not None
    assert (session.status, session.expires_at, session.context) == ("active", None, {})
    assert get_session_state("t")["code"] is None  # type: ignore[index]


def test_a_session_of_another_kind_is_not_taken_over(ledger: SessionLedger) -> None:
    ledger.create_session("ada", "my chat", session_id="chat")
    with pytest.raises(InvalidInput, match="another kind"):
        save_session_state("chat", STATE)
    assert len(ledger.history("chat")) == 1
    assert delete_session_state("chat") is False
    ledger.delete_session("chat")
    with pytest.raises(InvalidInput, match="another kind"):
        save_session_state("chat", STATE)

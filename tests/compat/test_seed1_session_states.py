"""Session State Database Documentation (the first seed), sentence by sentence."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import runpy
import sqlite3
import subprocess
import sys
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

from ledger import CapabilityMissing, InvalidInput, PermissionDenied, SessionLedger, ValueTooLarge
from ledger.compat import session_states
from ledger.compat.session_records import COLUMNS
from ledger.compat.session_states import (
    VerifiedWorkflow,
    configure,
    delete_session_state,
    get_db_connection,
    get_session_analytics,
    get_session_state,
    get_session_states_by_criteria,
    run_verified,
    save_session_state,
    verified_workflow,
)
from ledger.testing import SetClock

ROOT = Path(__file__).resolve().parents[2]
STATE: dict[str, Any] = {
    "user_prompt": "An easy problem about arrays",
    "topic": "arrays",
    "difficulty": "easy",
    "problem_description": "Sum the numbers.",
    "problem_tests": [{"input": [1, 2], "expected": 3}],
    "code": "def total(numbers):\n    return sum(numbers)",
    "tests_passed": True,
    "code_attempts": 2,
    "problem_attempts": 1,
}
DOCUMENTED = [
    *("id", "created_at", "updated_at", "thread_id", "run_id", "user_prompt", "topic", "difficulty"),
    *("problem_description", "problem_tests", "code", "tests_passed", "code_attempts", "problem_attempts"),
    "workflow_status",
]


@pytest.fixture(autouse=True)
def configured(ledger: SessionLedger) -> Iterator[None]:
    configure(ledger)
    yield
    configure(None)


def saved(thread_id: str = "t", **changed: Any) -> str:
    return save_session_state(thread_id, {**STATE, **changed}, "run", "completed")


def selected(sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with closing(get_db_connection()) as connection:
        return [tuple(row) for row in connection.execute(sql, parameters)]


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
        ("code", b"\xff", "code"),
        ("tests_passed", 1, "tests_passed must be true or false"),
        ("code_attempts", True, "code_attempts must be a whole number"),
        ("problem_attempts", -1, "problem_attempts must be a whole number"),
        ("workflow_status", "done", "workflow_status must be one of running, completed, failed"),
        ("thread_id", "another", "another thread"),
        ("a lock", threading.Lock(), "contains a value that cannot be represented in JSON"),
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


# Setup


def script(name: str, folder: Path, *args: str, **environment: str) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith("LEDGER_")} | environment
    command = [sys.executable, str(ROOT / "scripts" / name), *args]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


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
            "Unknown criterion colour; the criteria are topic, difficulty, workflow_status, tests_passed",
        ),
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


# Integration with Agent Workflow: "/problems/verified"


def test_verified_a_unique_thread_id_is_generated_and_the_agent_runs_with_it() -> None:
    seen: list[str] = []

    def agent(prompt: str, *, thread_id: str, level: str) -> dict[str, Any]:
        seen.append(thread_id)
        assert get_session_state(thread_id)["workflow_status"] == "running"  # type: ignore[index]
        return {**STATE, "user_prompt": f"{prompt}, {level}"}

    done = [run_verified(agent, "a problem", level="easy", run_id="r", state={"topic": "x"}) for _ in range(2)]
    assert seen == [workflow.thread_id for workflow in done]
    assert len(set(seen)) == 2
    found = get_session_state(seen[0])
    assert found is not None
    assert (found["id"], found["run_id"], found["user_prompt"]) == (done[0].record_id, "r", "a problem, easy")


@pytest.mark.parametrize(("passed", "status"), [(True, "completed"), (False, "failed"), (None, "failed")])
def test_verified_the_status_is_set_by_whether_tests_passed(passed: bool | None, status: str) -> None:
    done = run_verified(lambda thread_id: {**STATE, "tests_passed": passed})
    assert done.workflow_status == status
    assert get_session_state(done.thread_id)["workflow_status"] == status  # type: ignore[index]


def test_verified_the_final_state_is_correlated_with_the_run_that_the_agent_names() -> None:
    done = run_verified(lambda thread_id: {**STATE, "run_id": "mlflow-7"})
    assert get_session_state(done.thread_id)["run_id"] == "mlflow-7"  # type: ignore[index]


def test_verified_serves_an_agent_that_is_awaited() -> None:
    async def endpoint() -> str:
        with verified_workflow({"topic": "arrays"}) as workflow:
            await asyncio.sleep(0)
            workflow.run_id = "known late"
            workflow.state = STATE
        return workflow.thread_id

    found = get_session_state(asyncio.run(endpoint()))
    assert found is not None
    assert (found["run_id"], found["workflow_status"]) == ("known late", "completed")


def test_verified_an_agent_that_fails_is_recorded_as_failed_with_its_error(ledger: SessionLedger) -> None:
    started: list[VerifiedWorkflow] = []

    def fail() -> None:
        with verified_workflow({"topic": "arrays"}) as workflow:
            started.append(workflow)
            workflow.state = {"code_attempts": 3}
            raise RuntimeError("no model")

    with pytest.raises(RuntimeError, match="no model"):
        fail()
    (workflow,) = started
    session = ledger.get_session(workflow.thread_id)
    assert session is not None
    assert session.error == {"type": "RuntimeError", "message": "no model"}
    found = get_session_state(workflow.thread_id)
    assert found is not None
    assert (found["workflow_status"], found["topic"], found["code_attempts"]) == ("failed", "arrays", 3)
    save_session_state(workflow.thread_id, STATE, workflow_status="completed")
    assert ledger.get_session(workflow.thread_id).error is None  # type: ignore[union-attr]


def test_verified_the_agents_error_goes_on_where_it_cannot_be_recorded(ledger: SessionLedger) -> None:
    def agent(thread_id: str) -> None:
        ledger.close()
        raise RuntimeError(f"no model for {thread_id}")

    with pytest.raises(RuntimeError, match="no model") as raised:
        run_verified(agent)
    assert "could not be recorded: " in raised.value.__notes__[0]
    assert str(raised.value).split()[-1] in raised.value.__notes__[0]


def test_verified_a_final_state_that_cannot_be_saved_is_a_failure(ledger: SessionLedger) -> None:
    with pytest.raises(InvalidInput, match="tests_passed"), verified_workflow() as workflow:
        workflow.state = {"tests_passed": "yes"}
    assert ledger.get_session(workflow.thread_id).error["type"] == "InvalidInput"  # type: ignore[union-attr,index]


# Database Functions: get_db_connection


def test_get_db_connection_reads_and_never_writes() -> None:
    saved()
    with closing(get_db_connection()) as connection:
        (row,) = connection.execute("SELECT * FROM session_states WHERE topic = ?", ("arrays",))
        assert row["thread_id"] == "t"
        for statement in (
            "DELETE FROM session_states",
            "DELETE FROM main.session_heads",
            "DROP VIEW session_states",
            "CREATE TABLE x (y)",
        ):
            with pytest.raises(sqlite3.OperationalError):
                connection.execute(statement)


def test_get_db_connection_sees_what_was_saved_after_it_was_opened() -> None:
    with closing(get_db_connection()) as connection:
        saved()
        assert connection.execute("SELECT COUNT(*) FROM session_states").fetchone()[0] == 1


def test_get_db_connection_is_not_for_one_user_nor_for_a_ledger_without_a_file(ledger: SessionLedger) -> None:
    with pytest.raises(PermissionDenied, match="user ada"):
        get_db_connection(ledger=ledger.for_user("ada"))
    elsewhere = type("Elsewhere", (), {"user_id": None, "store": object(), "url": "bigquery://p/d"})
    with pytest.raises(CapabilityMissing, match="bigquery://p/d"):
        get_db_connection(ledger=elsewhere)  # type: ignore[arg-type]


def test_the_view_session_states_summary_has_a_row_a_session_without_its_texts() -> None:
    saved()
    with closing(get_db_connection()) as connection:
        (row,) = connection.execute("SELECT * FROM session_states_summary")
    assert set(DOCUMENTED) - set(row.keys()) == {"user_prompt", "problem_description", "problem_tests", "code"}
    assert (row["thread_id"], row["test_count"]) == ("t", 1)


# Monitoring and Analytics: "Key Metrics Tracked"


def test_analytics_success_rate_attempts_topics_difficulties_and_statuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_states, "SESSIONS_PAGE", 2)  # every page counts
    rows = [
        ("arrays", "easy", True, 1, 1, "completed"),
        ("arrays", "hard", False, 4, 2, "failed"),
        ("graphs", "easy", True, 2, None, "completed"),
        (None, None, None, None, None, "running"),
        ("arrays", "easy", False, 1, 1, "failed"),
    ]
    for number, row in enumerate(rows):
        columns = ("topic", "difficulty", "tests_passed", "code_attempts", "problem_attempts", "workflow_status")
        save_session_state(f"t{number}", dict(zip(columns, row, strict=True)))
    assert get_session_analytics() == {
        "total_sessions": 5,
        "success_rate": 40.0,
        "average_code_attempts": 2.0,
        "average_problem_attempts": 4 / 3,
        "topic_distribution": {"arrays": 3, "graphs": 1},
        "difficulty_distribution": {"easy": 3, "hard": 1},
        "workflow_status_distribution": {"completed": 2, "failed": 2, "running": 1},
    }


def test_analytics_of_no_sessions_are_zero() -> None:
    found = get_session_analytics()
    assert (found["total_sessions"], found["success_rate"], found["average_code_attempts"]) == (0, 0.0, None)


# Debug Mode


def test_debug_session_states_switches_on_the_log_which_holds_no_values(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = logging.getLogger("ledger.compat.session_states")
    log.setLevel(logging.NOTSET)
    saved()
    assert not caplog.records
    monkeypatch.setenv("DEBUG_SESSION_STATES", "1")
    saved(code="secret code", topic="secret topic")
    get_session_state("t")
    get_session_states_by_criteria(topic="secret topic")
    get_session_analytics()
    delete_session_state("t")
    assert {record.name for record in caplog.records} == {"ledger.compat.session_states"}
    assert "saved session state of thread t: code, topic" in caplog.messages
    assert len(caplog.messages) == 5
    assert "secret" not in caplog.text
    log.setLevel(logging.NOTSET)


def test_debug_mode_shows_on_stderr_in_a_program_that_set_up_no_logging(tmp_path: Path) -> None:
    program = "from ledger.compat import session_states as s; s.save_session_state('t', {'topic': 'secret'})"
    env = os.environ | {"DEBUG_SESSION_STATES": "1", "LEDGER_URL": f"sqlite:///{tmp_path / 'debug.db'}"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert done.stderr == "saved session state of thread t: topic\n"


# Performance Considerations: "Indexes"


def test_indexes_a_thread_is_found_in_sql_without_a_scan() -> None:
    (*_, detail) = selected("EXPLAIN QUERY PLAN SELECT topic FROM session_states WHERE thread_id = 't'")[0]
    assert detail.startswith("SEARCH heads USING PRIMARY KEY")


# Future Enhancements


def test_user_attribution_a_session_may_be_somebodys(ledger: SessionLedger) -> None:
    save_session_state("t", STATE, user_id="ada")
    save_session_state("u", STATE)
    view = ledger.for_user("ada")
    assert [found["thread_id"] for found in get_session_states_by_criteria(ledger=view)] == ["t"]
    save_session_state("v", STATE, ledger=view)
    assert get_session_analytics(ledger=view)["total_sessions"] == 2


def test_version_tracking_every_saved_state_is_still_there(ledger: SessionLedger) -> None:
    for attempt in range(1, 4):
        save_session_state("t", {"code": f"attempt {attempt}", "code_attempts": attempt})
    codes = [ledger.get_session("t", version=version).context["code"] for version in (1, 2, 3)]  # type: ignore[union-attr]
    assert codes == ["attempt 1", "attempt 2", "attempt 3"]


# Example Usage


def test_example_session_states_demonstrates_every_function(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    found = json.loads(script("example_session_states.py", folder, "--json"))
    assert list(found) == [
        "save_session_state",
        "get_session_state",
        "get_session_states_by_criteria",
        "get_session_analytics",
        "delete_session_state",
    ]
    assert found["get_session_state"]["workflow_status"] == "completed"
    assert list(folder.iterdir()) == []


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LEDGER_URL", raising=False)
    runpy.run_path(str(ROOT / "examples" / "seed1_session_states.py"), run_name="__main__")
    configure(None)

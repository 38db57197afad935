"""Session State Database Documentation (the first seed): the workflow, the connection, analytics and what follows."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import runpy
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ledger import CapabilityMissing, InvalidInput, PermissionDenied, SessionLedger
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
from support.session_states import DOCUMENTED, STATE, saved, script, selected

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def configured(ledger: SessionLedger) -> Iterator[None]:
    configure(ledger)
    yield
    configure(None)


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
    with (
        SessionLedger("bigquery://my-project/agents") as elsewhere,  # opening asks nothing
        pytest.raises(CapabilityMissing, match="bigquery://my-project/agents"),
    ):
        get_db_connection(ledger=elsewhere)


def test_the_view_session_states_summary_has_a_row_a_session_without_its_texts() -> None:
    saved()
    with closing(get_db_connection()) as connection:
        (row,) = connection.execute("SELECT * FROM session_states_summary")
    assert set(DOCUMENTED) - set(row.keys()) == {"user_prompt", "problem_description", "problem_tests", "code"}
    assert (row["thread_id"], row["test_count"]) == ("t", 1)


# Monitoring and Analytics: "Key Metrics Tracked"


def test_analytics_success_rate_attempts_topics_difficulties_and_statuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.sdk.ledger.SESSIONS_PAGE", 2)  # every page counts
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

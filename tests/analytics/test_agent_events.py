"""The view agent_events: the rows of a conversation, its schema, and what Google's own SDK reads from it."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import SessionLedger
from ledger.testing import START, CountedIds, SetClock
from support.bigquery_stores import Datasets, environment

ROOT = Path(__file__).parents[2]
#: Version 2 of the table that the plugin writes: google-adk 2.13, _get_events_schema.
SCHEMA = [
    ("timestamp", "TIMESTAMP"),
    *((name, "STRING") for name in ("event_id", "event_type", "agent", "session_id", "invocation_id", "user_id")),
    *((name, "STRING") for name in ("trace_id", "span_id", "parent_span_id")),
    ("content", "JSON"),
    ("content_parts", "RECORD"),
    *((name, "JSON") for name in ("attributes", "latency_ms")),
    *((name, "STRING") for name in ("status", "error_message")),
    ("is_truncated", "BOOLEAN"),
]
PARTS = ["mime_type", "uri", "object_ref", "text", "part_index", "part_attributes", "storage_mode"]


def record(ledger: SessionLedger, clock: SetClock) -> None:
    """Two turns of one session, the first with a question, a tool that fails once and a model call."""
    ledger.create_session("ada", "How many orders?", session_id="s1")
    ledger.update_session("s1", {"tool_calls": [{"name": "sql", "arguments": {"q": "SELECT 1"}}]})
    for status, result in [("running", None), ("failed", TimeoutError("late")), ("running", None), ("completed", [2])]:
        clock.now += timedelta(seconds=1.5)
        ledger.update_tool_call_status("s1", "sql", status, result)
    ledger.add_message("s1", "assistant", "There are 2.", message_id="m1")
    ledger.record_model_call(
        "s1", "small", input_tokens=100, output_tokens=20, cached_input_tokens=50, duration_ms=500.4, message_id="m1"
    )
    ledger.add_message("s1", "user", [{"type": "text", "text": "And"}, {"type": "image", "url": "x"}], message_id="m2")
    ledger.record_model_call("s1", "small", error="overloaded")
    ledger.create_session("bob", "?", session_id="s2")
    ledger.fork_session("s1")


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[list[dict[str, Any]]]:
    clock = SetClock()
    with SessionLedger.open(f"sqlite:///{tmp_path / 'l.db'}", clock=clock, ids=CountedIds()) as ledger:
        record(ledger, clock)
        statement = "SELECT * FROM agent_events ORDER BY session_id, timestamp, event_id"
        yield [dict(row) for row in ledger.sql(statement)]


@pytest.mark.duckdb
def test_a_conversation_is_told_in_turns_and_a_fork_tells_nothing_twice(rows):
    of_s1 = [row for row in rows if row["session_id"] == "s1"]
    turns = list(dict.fromkeys(row["invocation_id"] for row in of_s1))
    assert turns == ["s1", "m2"]
    told = {turn: Counter(row["event_type"] for row in of_s1 if row["invocation_id"] == turn) for turn in turns}
    begun = ("INVOCATION_STARTING", "AGENT_STARTING", "USER_MESSAGE_RECEIVED")
    ended = ("AGENT_RESPONSE", "AGENT_COMPLETED", "INVOCATION_COMPLETED")
    tools = {"TOOL_STARTING": 2, "TOOL_ERROR": 1, "TOOL_COMPLETED": 1}
    assert told["s1"] == {**dict.fromkeys((*begun, *ended, "LLM_REQUEST", "LLM_RESPONSE"), 1), **tools}
    assert told["m2"] == dict.fromkeys((*begun, "LLM_REQUEST", "LLM_ERROR"), 1)
    assert {row["session_id"] for row in rows} == {"s1", "s2"}
    assert len({row["event_id"] for row in rows}) == len(rows)
    assert {row["trace_id"][:16] for row in of_s1} == {row["parent_span_id"] or row["span_id"] for row in of_s1}


@pytest.mark.duckdb
def test_a_rewind_tells_nothing_and_takes_nothing_back(tmp_path: Path):
    clock = SetClock()
    with SessionLedger.open(f"sqlite:///{tmp_path / 'l.db'}", relay="off", clock=clock, ids=CountedIds()) as ledger:
        record(ledger, clock)
        statement = "SELECT * FROM agent_events ORDER BY session_id, timestamp, event_id"
        before = ledger.sql(statement).rows
        clock.now += timedelta(hours=1)
        for version in (4, 1):  # to the failed call, and to before it was planned
            ledger.rewind("s1", version)
            assert ledger.sql(statement).rows == before


@pytest.mark.duckdb
def test_rows_say_what_was_said_what_failed_and_how_long_it_took(rows):
    def one(event_type: str) -> dict[str, Any]:
        return next(row for row in rows if row["event_type"] == event_type)

    assert one("USER_MESSAGE_RECEIVED")["content"] == {"text_summary": "How many orders?"}
    failed, completed = one("TOOL_ERROR"), one("TOOL_COMPLETED")
    assert (failed["status"], failed["error_message"]) == ("ERROR", "late")
    assert failed["timestamp"] == START + timedelta(seconds=3)
    assert completed["content"] == {"tool": "sql", "args": {"q": "SELECT 1"}, "result": [2]}
    assert completed["latency_ms"]["total_ms"] == 1500
    response, request = one("LLM_RESPONSE"), one("LLM_REQUEST")
    assert response["content"] == {"response": "There are 2.", "usage": {"prompt": 100, "completion": 20, "total": 120}}
    assert response["timestamp"] - request["timestamp"] == timedelta(milliseconds=500.4)
    assert response["span_id"] == request["span_id"]
    assert "usage_metadata" not in request["attributes"]
    assert one("LLM_ERROR")["error_message"] == "overloaded"
    (message,) = [row for row in rows if row["event_type"] == "USER_MESSAGE_RECEIVED" and row["invocation_id"] == "m2"]
    assert [part["text"] for part in message["content_parts"]] == ["And", None]
    assert json.loads(message["content_parts"][1]["part_attributes"]) == {"type": "image", "url": "x"}


@pytest.mark.emulator
@pytest.mark.slow
def test_googles_sdk_reads_it_as_a_table_of_the_plugin(emulator: Any, tmp_path: Path):
    place = Datasets(emulator, "agents").place("events")
    url, clock = f"bigquery://{place.project}/{place.name}", SetClock()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(emulator).items():
            patch.setenv(name, value)
        with SessionLedger.open(
            f"sqlite:///{tmp_path / 'l.db'}", warehouse=url, relay="off", clock=clock, ids=CountedIds()
        ) as ledger:
            record(ledger, clock)
            ledger.warehouse.sync()
    found = emulator.client.query_and_wait(f"SELECT * FROM `{place.name}.agent_events` LIMIT 1").schema
    assert [(column.name, column.field_type) for column in found] == SCHEMA
    assert [part.name for column in found if column.name == "content_parts" for part in column.fields] == PARTS

    told = sdk(emulator.rest, place.project, place.name)
    assert told["doctor"]["schema"]["status"] == "ok"
    assert told["doctor"]["warnings"] == []
    assert [(call["tool_name"], call["status"], call["latency_ms"]) for call in told["trace"]["tool_calls"]] == [
        ("sql", "ERROR", 1500),
        ("sql", "OK", 1500),
    ]
    assert told["trace"]["final_response"] == "There are 2."
    assert [error["error_message"] for error in told["trace"]["errors"]] == ["late", "overloaded"]
    assert told["sessions"] == ["s1", "s2"]
    assert told["tokens"]["s1"] == 120
    assert told["turns"] == {"s1": 2, "s2": 1}
    assert told["error_rate"]["s1"] == 0.5
    # One of its views does not run on the emulator, which takes SAFE.TIMESTAMP_MICROS for a cast.
    assert told["views_missing"] == ["compaction_windows"]
    assert told["rows_of_views"] == {"adk_user_messages": 3, "adk_llm_responses": 1, "adk_tool_errors": 1}


def sdk(endpoint: str, project: str, dataset: str) -> dict[str, Any]:
    """What the SDK says, which runs in an environment of its own: `make setup-agent-analytics`."""
    python = ROOT / ".venv-agent-analytics" / "bin" / "python"
    program = ROOT / "tests" / "support" / "agent_analytics_sdk.py"
    run = subprocess.run(
        [python, program, endpoint, project, dataset, "EU"], capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr
    told: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return told

"""When tool calls started and finished, told by the history; and who wrote a message when."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from ledger import Change, SessionLedger, SessionNotFound
from ledger.testing import START, CountedIds, SetClock
from support.shell import Shell

DAYS = {"day": START - timedelta(days=1), "next": START + timedelta(days=1)}


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: SetClock) -> Iterator[SessionLedger]:
    url, warehouse = f"sqlite:///{tmp_path / 'l.db'}", f"duckdb:///{tmp_path / 'w.duckdb'}"
    with SessionLedger.open(url, warehouse=warehouse, relay="off", clock=clock, ids=CountedIds()) as opened:
        yield opened


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def test_a_call_tells_when_it_ran_and_how_often_it_was_tried(ledger, clock):
    sid = ledger.create_session("ada", "q", fields={"tool_calls": ["a", "b", "c"]})
    for status, after in (("running", 1), ("failed", 2), ("running", 4), ("completed", 7), ("completed", 9)):
        clock.now = START + seconds(after)
        ledger.update_tool_call_status(sid, "a", status)
    ledger.update_tool_call_status(sid, "b", "failed")
    ledger.update_tool_call_status(sid, "at once", "completed")
    told = {call.call_id: call.times for call in ledger.get_tool_calls(sid)}
    assert (told["a"].started_at, told["a"].finished_at) == (START + seconds(4), START + seconds(7))
    assert (told["a"].latency_ms, told["a"].retry_count) == (3000.0, 1)
    assert (told["b"].started_at, told["b"].latency_ms) == (START, 9000.0)  # it never was running
    assert (told["c"].started_at, told["c"].finished_at, told["c"].latency_ms) == (None, None, None)
    assert (told["at once"].started_at, told["at once"].finished_at) == (None, START + seconds(9))
    ledger.warehouse.sync()
    rows = ledger.sql("SELECT call_id, started_at, finished_at, latency_ms, retry_count FROM tool_calls").rows
    assert {row[0]: row[1:] for row in rows} == {
        name: (it.started_at, it.finished_at, it.latency_ms, it.retry_count) for name, it in told.items()
    }


def test_the_writers_own_times_count_and_a_clock_that_went_back_gives_no_latency(ledger):
    sid = ledger.create_session("ada", "q", fields={"tool_calls": ["a"]})
    ledger.update_tool_call_status(sid, "a", "running", occurred_at=START - seconds(60))
    ledger.update_tool_call_status(sid, "a", "completed", occurred_at=START - seconds(61.5))
    (call,) = ledger.get_tool_calls(sid)
    assert (call.times.started_at, call.times.finished_at) == (START - seconds(60), START - seconds(61.5))
    assert call.times.latency_ms is None


def test_a_call_that_was_withdrawn_and_planned_again_begins_anew(ledger, clock):
    sid = ledger.create_session("ada", "q", fields={"tool_calls": ["a"]})
    ledger.update_tool_call_status(sid, "a", "running")
    ledger.update_session(sid, {"tool_call": {"a": None}})
    clock.now = START + seconds(5)
    ledger.append(sid, "call.planned", [Change("tool_call_status", "a", "completed")])
    (call,) = ledger.get_tool_calls(sid)
    assert (call.times.started_at, call.times.finished_at) == (None, START + seconds(5))
    assert ledger.require_session(sid).calls[0].times is None


def told(ledger, sid, call="a"):
    """The times of a call, which Python, the warehouse's views and the file's view agree on."""
    times = {each.call_id: each.times for each in ledger.get_tool_calls(sid)}[call]
    ledger.warehouse.sync()
    columns = "started_at, finished_at, latency_ms, retry_count, failure_count"
    expected = [(times.started_at, times.finished_at, times.latency_ms, times.retry_count, times.failure_count)]
    for view in ("tool_calls", "tool_call_history"):
        assert ledger.sql(f"SELECT {columns} FROM {view} WHERE call_id = @id", {"id": call}).rows == expected
    with closing(sqlite3.connect(ledger.store.path)) as connection:
        counted = "SELECT latency_ms, retry_count, failure_count FROM tool_calls WHERE call_id = ?"
        assert connection.execute(counted, (call,)).fetchall() == [expected[0][2:]]
    return times


def test_a_rewind_is_no_attempt_no_failure_and_no_end(ledger, clock):
    sid = ledger.create_session("ada", "q", fields={"tool_calls": ["a"]})
    versions = {}
    for status, after in (("running", 1), ("failed", 3), ("running", 10), ("completed", 14)):
        clock.now = START + seconds(after)
        versions[status] = ledger.update_tool_call_status(sid, "a", status).version
    clock.now = START + seconds(3600)
    ledger.rewind(sid, versions["failed"])
    failed = told(ledger, sid)
    assert (failed.latency_ms, failed.retry_count, failed.failure_count) == (4000.0, 1, 1)
    ledger.rewind(sid, 1)
    pending = told(ledger, sid)
    assert (pending.finished_at, pending.latency_ms, pending.retry_count, pending.failure_count) == (None, None, 1, 1)
    for status, after in (("running", 3700), ("completed", 3701)):
        clock.now = START + seconds(after)
        ledger.update_tool_call_status(sid, "a", status)
    again = told(ledger, sid)
    assert (again.latency_ms, again.retry_count, again.failure_count) == (1000.0, 2, 1)


def test_a_call_that_failed_and_was_completed_without_running_again_was_tried_twice(ledger, clock):
    sid = ledger.create_session("ada", "q", fields={"tool_calls": ["a"]})
    for status, after in (("running", 1), ("failed", 3), ("completed", 60)):
        clock.now = START + seconds(after)
        ledger.update_tool_call_status(sid, "a", status)
    times = told(ledger, sid)
    assert (times.started_at, times.finished_at) == (None, START + seconds(60))
    assert (times.latency_ms, times.retry_count, times.failure_count) == (None, 1, 1)


def test_a_call_that_was_withdrawn_or_taken_back_keeps_its_times_in_the_history_of_calls(ledger, clock):
    sid = ledger.create_session("ada", "q")
    for call in ("a", "b"):
        ledger.update_tool_call_status(sid, call, "running", occurred_at=START)
        ledger.update_tool_call_status(sid, call, "completed", occurred_at=START + seconds(2))
    ledger.update_session(sid, {"tool_call": {"a": None}})
    ledger.rewind(sid, 1)
    ledger.warehouse.sync()
    rows = ledger.sql("SELECT call_id, is_current, last_status, finished_at, latency_ms FROM tool_call_history").rows
    assert sorted(rows) == [(call, False, "completed", START + seconds(2), 2000.0) for call in ("a", "b")]
    assert ledger.sql("SELECT latency_max_ms FROM tool_usage(@day, @next, 1)", DAYS).rows == [(2000.0,)] * 2


def test_the_calls_of_no_session_are_an_error(ledger):
    with pytest.raises(SessionNotFound):
        ledger.get_tool_calls("none")


def test_the_terminal_lists_calls_with_their_times(ledger, clock, tmp_path: Path):
    sid = ledger.create_session("ada", "q", fields={"tool_calls": ["search"]})
    ledger.update_tool_call_status(sid, "search", "running")
    clock.now = START + seconds(1.25)
    ledger.update_tool_call_status(sid, "search", "completed", {"rows": 3})
    shell = Shell(tmp_path / "l.db")
    assert "1,250 ms" in shell.ok("tool-calls", sid)
    (call,) = json.loads(shell.ok("tool-calls", sid, "--json"))["tool_calls"]
    assert (call["started_at"], call["latency_ms"], call["result"]) == (
        "2026-03-05T09:30:00.000000Z",
        1250.0,
        {"rows": 3},
    )
    empty = ledger.create_session("ada", "q")
    assert "No tool calls." in shell.ok("tool-calls", empty)


def test_a_message_tells_who_wrote_it_and_when(ledger, clock):
    sid = ledger.create_session("ada", "q")
    clock.now = START + seconds(3)
    ledger.add_message(sid, "user", "hi", actor="web", occurred_at=START + seconds(1))
    read = ledger.get_session(sid, messages=True).messages[0]
    assert (read.actor, read.occurred_at, read.recorded_at) == ("web", START + seconds(1), START + seconds(3))
    assert read == ledger.get_messages(sid)[0] == ledger.get_session(sid, version=2, messages=True).messages[0]
    parts = read.to_dict()
    assert (parts["actor"], parts["occurred_at"]) == ("web", "2026-03-05T09:30:01.000000Z")

"""When tool calls started and finished, told by the history; and who wrote a message when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ledger import Change, SessionLedger, SessionNotFound
from ledger.testing import START, CountedIds, SetClock
from support.shell import Shell


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

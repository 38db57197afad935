"""Recorded OpenAI chat runs become sessions: nothing is lost, nothing is doubled."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger import Change, IdempotencyConflict, InvalidInput, NewEvent, Session, SessionLedger, ValueTooLarge
from ledger.formats.openai_chat import import_runs, read_runs
from ledger.model.events import RecordedEvent
from ledger.model.integrity import verify
from ledger.testing import START
from support.recorded_runs import REAL
from support.shell import Shell

ROOT = Path(__file__).resolve().parents[2]


def call(call_id: str, name: str, arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def answer(call_id: str, content: Any, name: str = "tool") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "name": name, "content": content}


def said(content: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


RUN: dict[str, Any] = {
    "task_id": 7,
    "trial": 2,
    "reward": 1.0,
    "info": {"task": {"user_id": "mia", "instruction": "You are Mia."}, "source": "user"},
    "traj": [
        {"role": "system", "content": "Be helpful."},
        {"role": "user", "content": "Book a flight."},
        {"role": "assistant", "content": None, "tool_calls": [call("c1", "find", '{"from": "JFK"}')]},
        answer("c1", '{"flights": [1, 2]}', "find"),
        {"role": "assistant", "content": None, "tool_calls": [call("c1", "book", "not json"), call("c2", "pay")]},
        answer("c2", "Error: payment method not found", "pay"),
        answer("c1", "Booked", "book"),
        {"role": "assistant", "content": "Wait.", "refusal": None, "tool_calls": [call("c3", "think")]},
        {"role": "user", "content": "Thanks."},
    ],
}


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with SessionLedger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as opened:
        yield opened


def imported(ledger: SessionLedger, *records: Any) -> list[Session]:
    """The sessions of some records, with their messages, oldest first."""
    import_runs(ledger.store, lines(*records))
    found = [ledger.get_session(each.session_id, messages=True) for each in ledger.list_sessions()]
    return [each for each in reversed(found) if each is not None]


def lines(*records: Any) -> list[bytes]:
    return [json.dumps(record).encode() + b"\n" for record in records]


def as_new(event: RecordedEvent, *changes: Change) -> NewEvent:
    """An event of an import as one that is appended, with other changes where some are given."""
    same = [Change(change.field, change.key, change.value, change.removed) for change in event.changes]
    return NewEvent(event.event_type, changes or same, event.event_id, event.actor, user_id=event.user_id)


def test_a_run_becomes_a_session_with_its_question_user_and_outcome(ledger: SessionLedger) -> None:
    (session,) = imported(ledger, RUN)
    assert session.question == "Book a flight."
    assert session.user_id == "mia"
    assert session.status == "completed"
    assert session.attributes == {"task_id": 7, "trial": 2, "reward": 1.0}
    assert session.results == {"info": RUN["info"]}


def test_every_message_is_kept_in_order(ledger: SessionLedger) -> None:
    (session,) = imported(ledger, RUN)
    assert session.messages is not None
    assert [(it.role, it.content) for it in session.messages] == [(it["role"], it["content"]) for it in RUN["traj"]]
    assert session.messages[4].tools_used == ["book", "pay"]
    assert session.messages[4].metadata == {"call_ids": ["c1#2", "c2"]}
    assert session.messages[3].metadata == {"tool_call_id": "c1", "name": "find", "call_ids": ["c1"]}
    assert session.messages[7].metadata == {"refusal": None, "call_ids": ["c3"]}


def test_every_tool_call_is_kept_though_ids_repeat_with_status_and_result(ledger: SessionLedger) -> None:
    (session,) = imported(ledger, RUN)
    assert {call.call_id: (call.name, call.status, call.result) for call in session.calls} == {
        "c1": ("find", "completed", {"flights": [1, 2]}),
        "c1#2": ("book", "completed", "Booked"),
        "c2": ("pay", "failed", "Error: payment method not found"),
        "c3": ("think", "pending", None),
    }
    by_id = {call.call_id: call for call in session.calls}
    assert by_id["c1"].definition == {"name": "find", "arguments": {"from": "JFK"}, "message_id": "message-0003"}
    assert by_id["c1#2"].definition["arguments"] == "not json"
    assert by_id["c1#2"].definition["id"] == "c1"
    assert not by_id["c3"].has_result


def test_a_key_made_for_a_repeated_id_never_takes_one_that_is_there(ledger: SessionLedger) -> None:
    calls = [call("c", "a"), call("c#2", "b"), call("c", "c")]
    (session,) = imported(ledger, [{"role": "assistant", "content": None, "tool_calls": calls}])
    assert {each.call_id: each.name for each in session.calls} == {"c": "a", "c#2": "b", "c#3": "c"}


def test_the_run_can_be_followed_as_it_went(ledger: SessionLedger) -> None:
    (session,) = imported(ledger, RUN)
    types = [event.event_type for event in ledger.history(session.session_id)]
    assert types == ["session.created", *["message.added"] * 9, "session.completed"]
    then = ledger.get_session(session.session_id, version=4)
    assert then is not None
    assert (then.tool_call_status, then.status, "reward" in then.attributes) == (["pending"], "active", False)


def test_importing_again_adds_nothing_and_leaves_later_changes(ledger: SessionLedger) -> None:
    first = import_runs(ledger.store, lines(RUN, [{"role": "user", "content": "hi"}]))
    assert (first.sessions, first.events, first.new) == (2, 14, 14)
    session_id = ledger.list_sessions(attributes={"task_id": 7})[0].session_id
    ledger.update_summary(session_id, "mine")
    again = import_runs(ledger.store, lines(RUN, [{"role": "user", "content": "hi"}]))
    assert (again.sessions, again.events, again.new) == (2, 14, 0)
    session = ledger.get_session(session_id)
    assert session is not None
    assert (session.summary, session.version) == ("mine", 12)


def test_an_import_that_was_cut_short_goes_on_behind_what_came_in_between(ledger: SessionLedger) -> None:
    (run,) = read_runs(lines(RUN))
    for event in run.events[:4]:
        ledger.store.append(run.session_id, as_new(event))
    ledger.update_summary(run.session_id, "mine")
    before = ledger.history(run.session_id)[:]
    for _ in range(2):
        done = import_runs(ledger.store, lines(RUN), clock=lambda: START)
        assert (done.sessions, done.events) == (1, len(run.events))
        history = ledger.history(run.session_id)
        assert history[:5] == before
        assert [event.event_id for event in history[5:]] == [event.event_id for event in run.events[4:]]
        assert verify(history) == len(history) == len(run.events) + 1
        assert {event.created_at for event in history} == {before[0].created_at}
        # The import's clock is long behind that of the session.
        assert {event.recorded_at for event in history[5:]} == {before[-1].recorded_at}
        assert {event.occurred_at for event in history[5:]} == {START}
    assert done.new == 0


def test_a_run_is_created_when_it_is_imported_and_its_events_carry_a_hash_chain(ledger: SessionLedger) -> None:
    at = START.replace(microsecond=5)
    import_runs(ledger.store, lines(RUN), clock=lambda: at)
    (session,) = ledger.list_sessions()
    history = ledger.history(session.session_id)
    assert {(event.created_at, event.occurred_at, event.recorded_at) for event in history} == {(at, at, at)}
    assert {event.store_id for event in history} == {ledger.store.store_id}
    assert verify(history) == len(history) == 11


def test_a_run_that_is_here_with_other_content_is_named_and_the_runs_before_it_are_kept(ledger: SessionLedger) -> None:
    records = [RUN, said("two"), said("three")]
    runs = list(read_runs(lines(*records)))
    ledger.store.append(runs[1].session_id, as_new(runs[1].events[0], Change("question", value="other")))
    with pytest.raises(IdempotencyConflict, match=rf"^Line 2: session {runs[1].session_id}: version 1, event "):
        import_runs(ledger.store, lines(*records))
    versions = [ledger.get_session(run.session_id) for run in runs]
    assert [session and session.version for session in versions] == [11, 1, None]


def test_a_value_that_was_erased_since_is_no_other_content(ledger: SessionLedger, tmp_path: Path) -> None:
    import_runs(ledger.store, lines(RUN))
    events = list(ledger.history(ledger.list_sessions()[0].session_id))
    gone = [replace(change, text=None, value_salt=None) for change in events[1].changes]
    events[1] = replace(events[1], changes=tuple(gone))
    with SessionLedger.open(f"sqlite:///{tmp_path / 'erased.db'}") as erased:
        erased.store.ingest(events)
        assert import_runs(erased.store, lines(RUN)).new == 0


def test_runs_are_recorded_while_later_ones_are_read(ledger: SessionLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.formats.recording.BATCH_EVENTS", 6)
    there = []

    def watched() -> Iterator[bytes]:
        for number in range(7):
            there.append(len(ledger.list_sessions()))
            yield from lines(said(str(number)))

    assert import_runs(ledger.store, watched()).new == 21
    assert there == [0, 0, 2, 2, 4, 4, 6]


def test_a_store_that_takes_only_so_much_at_once_gets_less(
    ledger: SessionLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest, handed_in = ledger.store.ingest, []

    def narrow(events: list[RecordedEvent]) -> int:
        handed_in.append(len(events))
        if len(events) > 11:
            raise ValueTooLarge("too much")
        return ingest(events)

    monkeypatch.setattr(ledger.store, "ingest", narrow)
    assert import_runs(ledger.store, lines(said("one"), said("two"), RUN, said("three"))).new == 20
    assert handed_in == [20, 6, 14, 11, 3]


def test_a_session_that_is_here_is_read_once(ledger: SessionLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [said("new"), RUN, said("two")]
    import_runs(ledger.store, lines(*records[1:]))
    read: Counter[str] = Counter()
    events = ledger.store.events

    def counted(session_id: str, **page: Any) -> Any:
        read[session_id] += 1
        return events(session_id, **page)

    monkeypatch.setattr(ledger.store, "events", counted)
    assert import_runs(ledger.store, lines(*records)).new == 3
    # The first of a batch is asked for whether any of it may be here.
    assert sorted(read.values()) == [1, 1, 2]


def test_the_same_run_twice_in_one_file_is_two_sessions(ledger: SessionLedger) -> None:
    assert len(imported(ledger, RUN, RUN)) == 2
    assert import_runs(ledger.store, lines(RUN, RUN)).new == 0


@pytest.mark.parametrize("wrap", [list, lambda messages: {"messages": messages}, lambda messages: {"traj": messages}])
def test_a_bare_list_and_an_object_with_messages_are_runs_too(ledger: SessionLedger, wrap: Any) -> None:
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "u"}}]
    (session,) = imported(
        ledger, wrap([{"role": "user", "content": parts}, {"role": "assistant", "content": "A cat."}])
    )
    assert (session.user_id, session.question) == ("imported", "What is this?")
    assert session.messages is not None
    assert session.messages[0].content == parts


def test_numbers_that_no_store_keeps_exactly_stay_text(ledger: SessionLedger) -> None:
    arguments = '{"id": 123456789012345678901234567890}'
    (session,) = imported(
        ledger, [{"role": "assistant", "content": "", "tool_calls": [call("c", "f", arguments)]}, answer("c", "NaN")]
    )
    assert session.calls[0].definition["arguments"] == arguments
    assert session.calls[0].result == "NaN"


def test_an_answer_to_no_call_is_a_message_and_nothing_more(ledger: SessionLedger) -> None:
    (session,) = imported(ledger, [answer("ghost", "boo")])
    assert session.calls == ()
    assert session.messages is not None
    assert session.messages[0].metadata == {"tool_call_id": "ghost", "name": "tool"}


@pytest.mark.parametrize(
    "bad",
    [
        b"{",
        b"5",
        b'"text"',
        b"{}",
        b'{"messages": 5}',
        b'{"messages": [{"content": "no role"}]}',
        b'{"messages": [{"role": "robot", "content": ""}]}',
        b'{"messages": [{"role": "assistant", "content": null, "tool_calls": [{"id": "c"}]}]}',
        b'{"messages": [], "big": 123456789012345678901234567890}',
        b'{"messages": [], "user": " blank "}',
        b"[" * 100_000,
    ],
    ids=lambda bad: bad[:60].decode(),
)
def test_a_line_that_is_no_run_is_named_and_the_runs_before_it_are_kept(ledger: SessionLedger, bad: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"^Line 3: "):
        import_runs(ledger.store, [*lines(RUN), b"\n", bad])
    assert [session.user_id for session in ledger.list_sessions()] == ["mia"]


def test_the_command_line_imports_runs(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_bytes(b"".join(lines(RUN, [{"role": "user", "content": "hi"}])))
    args = ("import", "--format", "openai-chat", str(tmp_path / "runs.jsonl"), "--user", "somebody")
    assert shell.json(*args) == {"sessions": 2, "events": 14, "new_events": 14}
    assert shell.ok(*args) == "2 sessions, 14 events: 0 new, 14 already recorded.\n"
    assert len(shell.json("list", "--user", "somebody")["sessions"]) == 1


@pytest.mark.skipif(not REAL.is_file(), reason="the recorded runs are not beside this checkout")
def test_the_real_runs_give_the_counts_of_the_file_by_list_show_and_sql(shell: Shell) -> None:
    runs = [json.loads(line) for line in REAL.read_text(encoding="utf-8").splitlines()]
    messages = [message for run in runs for message in run["traj"]]
    calls = [call["function"]["name"] for message in messages for call in message.get("tool_calls") or ()]
    failures = sum(it["role"] == "tool" and it["content"].startswith("Error:") for it in messages)
    args = ("import", "--format", "openai-chat", str(REAL))
    events = len(messages) + 2 * len(runs)
    assert shell.json(*args) == {"sessions": len(runs), "events": events, "new_events": events}
    assert shell.json(*args) == {"sessions": len(runs), "events": events, "new_events": 0}

    sessions = shell.json("list", "--limit", "1000", "--status", "completed")["sessions"]
    assert Counter(each["attributes"]["reward"] for each in sessions) == Counter(run["reward"] for run in runs)
    assert Counter(each["user_id"] for each in sessions) == Counter(run["info"]["task"]["user_id"] for run in runs)
    assert Counter(call["name"] for each in sessions for call in each["tool_calls"]) == Counter(calls)

    by_task = {(each["attributes"]["task_id"], each["attributes"]["trial"]): each["session_id"] for each in sessions}
    for run in (runs[0], runs[-1]):
        shown = shell.json("show", by_task[run["task_id"], run["trial"]], "--messages")
        assert [(it["role"], it["content"]) for it in shown["messages"]] == [
            (it["role"], it["content"]) for it in run["traj"]
        ]

    def sql(statement: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = shell.json("sql", statement)["rows"]
        return rows

    roles = sql("SELECT role, COUNT(*) AS n FROM messages GROUP BY role")
    assert {row["role"]: row["n"] for row in roles} == Counter(message["role"] for message in messages)
    names = sql("SELECT name, COUNT(*) AS n FROM tool_calls WHERE has_result GROUP BY name")
    assert {row["name"]: row["n"] for row in names} == Counter(calls)
    statuses = sql("SELECT status, COUNT(*) AS n FROM tool_calls GROUP BY status")
    assert {row["status"]: row["n"] for row in statuses} == {"completed": len(calls) - failures, "failed": failures}
    rewards = sql(
        "SELECT SUM(CAST(JSON_VALUE(value) AS FLOAT64)) AS total, COUNT(*) AS n FROM session_fields "
        "WHERE field = 'attribute' AND key = 'reward'"
    )
    assert rewards == [{"total": sum(run["reward"] for run in runs), "n": len(runs)}]

"""Runs that have an id and times of their own: a longer export of a run extends its session."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import IdempotencyConflict, Session, SessionLedger
from ledger.formats.openai_chat import IDS, import_runs
from ledger.model.integrity import verify
from ledger.testing import START

MESSAGES = [
    {"role": "system", "content": "Be helpful."},
    {"role": "user", "content": "Book a flight."},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "function": {"name": "find", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "none"},
    {"role": "assistant", "content": "There is none."},
]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SessionLedger]:
    with SessionLedger.open(f"sqlite:///{tmp_path / 'ledger.db'}?synchronous=NORMAL") as opened:
        yield opened


def run(length: int, **keys: Any) -> bytes:
    return json.dumps({"conversation_id": "conv-1", "messages": MESSAGES[:length], **keys}).encode()


def read(ledger: SessionLedger, session_id: str = "conv-1") -> Session:
    found = ledger.get_session(session_id, messages=True)
    assert found is not None
    return found


def test_a_run_with_an_id_becomes_the_session_of_that_id(ledger: SessionLedger) -> None:
    import_runs(ledger.store, [run(5, model="m", usage={"tokens": 3})])
    session = read(ledger)
    assert (session.question, session.status) == ("Book a flight.", "completed")
    assert session.attributes == {"conversation_id": "conv-1", "model": "m"}
    assert session.results == {"usage": {"tokens": 3}}


@pytest.mark.parametrize("name", IDS)
def test_the_id_is_found_under_each_usual_name(ledger: SessionLedger, name: str) -> None:
    import_runs(ledger.store, [json.dumps({name: "own", "messages": MESSAGES}).encode()])
    assert [session.session_id for session in ledger.list_sessions()] == ["own"]


@pytest.mark.parametrize("value", [7, "", None, " blank ", "x" * 300])
def test_a_number_and_what_no_session_can_be_called_are_not_taken_for_an_id(ledger: SessionLedger, value: Any) -> None:
    import_runs(ledger.store, [json.dumps({"id": value, "messages": MESSAGES}).encode()])
    (session,) = ledger.list_sessions()
    assert session.session_id != value
    assert session.attributes.get("id") == value


def test_a_longer_export_extends_the_session_and_importing_it_again_adds_nothing(
    ledger: SessionLedger, tmp_path: Path
) -> None:
    import_runs(ledger.store, [run(2, message_count=2)])
    before = ledger.history("conv-1")[:]
    assert import_runs(ledger.store, [run(5, message_count=5)]).new == 4
    history = ledger.history("conv-1")
    assert history[: len(before)] == before
    assert verify(history) == len(history)
    session = read(ledger)
    assert [message.content for message in session.messages] == [message["content"] for message in MESSAGES]
    assert [(call.name, call.status) for call in session.calls] == [("find", "completed")]
    assert session.attributes["message_count"] == 5
    assert import_runs(ledger.store, [run(5, message_count=5)]).new == 0
    with SessionLedger.open(f"sqlite:///{tmp_path / 'fresh.db'}?synchronous=NORMAL") as fresh:
        import_runs(fresh.store, [run(5, message_count=5)])
        alone = read(fresh)
    assert (alone.messages[-1].content, alone.attributes) == ("There is none.", session.attributes)


def test_an_older_export_that_comes_later_changes_nothing(ledger: SessionLedger) -> None:
    import_runs(ledger.store, [run(5, message_count=5)])
    assert import_runs(ledger.store, [run(3, message_count=3)]).new == 0
    assert read(ledger).attributes["message_count"] == 5


def test_snapshots_of_one_run_in_one_file_are_one_session(ledger: SessionLedger) -> None:
    done = import_runs(ledger.store, [run(2), b"\n", run(3), run(5), run(5)])
    assert done.sessions == 1
    assert len(read(ledger).messages) == 5


def test_an_export_in_which_only_the_keys_of_the_run_changed_records_them(ledger: SessionLedger) -> None:
    import_runs(ledger.store, [run(5, feedback="none")])
    assert import_runs(ledger.store, [run(5, feedback="good")]).new == 1
    assert read(ledger).attributes["feedback"] == "good"


def test_another_run_with_the_same_id_is_refused(ledger: SessionLedger) -> None:
    import_runs(ledger.store, [run(5)])
    edited = json.dumps({"id": "conv-1", "messages": [{"role": "user", "content": "Other."}]}).encode()
    with pytest.raises(IdempotencyConflict, match=r"^Line 1: session conv-1: version 2, .*a run with the same id"):
        import_runs(ledger.store, [edited])
    assert len(ledger.history("conv-1")) == 7


def test_a_session_of_the_ledgers_own_is_not_extended_by_a_run_with_its_id(ledger: SessionLedger) -> None:
    ledger.create_session("Mine.", "ada", session_id="conv-1")
    with pytest.raises(IdempotencyConflict, match=r"^Line 1: session conv-1: the ledger has a session with this id"):
        import_runs(ledger.store, [run(5)])
    assert len(ledger.history("conv-1")) == 1


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


def times(ledger: SessionLedger, given: dict[str, Any], now: datetime = START + timedelta(days=1)) -> list[datetime]:
    import_runs(ledger.store, [json.dumps({"id": "r", **given}).encode()], clock=lambda: now)
    history = ledger.history("r")
    assert [event.occurred_at for event in history] == [event.recorded_at for event in history]
    assert {event.created_at for event in history} == {history[0].recorded_at}
    return [event.occurred_at for event in history]


def said(**keys: Any) -> dict[str, Any]:
    return {"role": "user", "content": "hi", **keys}


def test_events_have_the_times_of_the_run_and_its_messages(ledger: SessionLedger) -> None:
    messages = [
        said(created_at=at(1).isoformat()),
        said(timestamp=at(3).timestamp()),
        said(create_time=at(4).timestamp() * 1000),
        said(),
        said(timestamp=[0.0, 3.2]),
    ]
    given = {"created_at": at(0).isoformat(), "completed_at": at(9).isoformat(), "messages": messages}
    assert times(ledger, given) == [at(0), at(1), at(3), at(4), at(4), at(4), at(9)]
    assert read(ledger, "r").messages[0].metadata == {"created_at": at(1).isoformat()}
    found = ledger.get_session("r", at=at(3), messages=True)
    assert found is not None
    assert len(found.messages) == 2


def test_times_never_go_backwards_and_the_first_known_one_is_the_beginning(ledger: SessionLedger) -> None:
    messages = [said(), said(timestamp=at(5).isoformat()), said(timestamp=at(2).isoformat())]
    assert times(ledger, {"messages": messages}) == [at(5)] * 5


def test_a_time_without_an_offset_is_utc(ledger: SessionLedger) -> None:
    naive = at(1).replace(tzinfo=None).isoformat()
    assert times(ledger, {"created": naive, "messages": [said()]}) == [at(1)] * 3


def test_a_run_without_times_has_the_time_of_the_import(ledger: SessionLedger) -> None:
    assert times(ledger, {"messages": [said()]}, START) == [START] * 3


def test_the_events_that_an_extension_adds_are_not_before_those_recorded(ledger: SessionLedger) -> None:
    first = {"id": "r", "messages": [said(timestamp=at(1).isoformat())], "updated_at": at(8).isoformat()}
    second = {"id": "r", "messages": [*first["messages"], said(timestamp=at(5).isoformat())]}
    for each in (first, second):
        import_runs(ledger.store, [json.dumps(each).encode()], clock=lambda: at(60))
    assert [event.recorded_at for event in ledger.history("r")] == [at(1), at(1), at(8), at(8), at(8)]
    assert [event.occurred_at for event in ledger.history("r")] == [at(1), at(1), at(8), at(5), at(5)]

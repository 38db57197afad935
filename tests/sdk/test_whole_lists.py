"""What is asked for without a limit is given whole, however many pages the store reads it in."""

from __future__ import annotations

import asyncio

import pytest

from ledger import AsyncSessionLedger, InvalidInput, SessionLedger, SessionNotFound
from ledger.testing import SetClock


@pytest.fixture
def ledger(tmp_path, clock, monkeypatch):
    for page in (
        "ledger.sdk.messages.EVENTS_PAGE",
        "ledger.sdk.reading.EVENTS_PAGE",
        "ledger.sdk.ledger.SESSIONS_PAGE",
    ):
        monkeypatch.setattr(page, 3)
    with SessionLedger(f"sqlite:///{tmp_path / 'ledger.db'}", clock=clock) as opened:
        yield opened


def talk(ledger: SessionLedger, number: int) -> str:
    session_id = ledger.create_session("ada", "q")
    for n in range(number):
        ledger.add_message(session_id, "user", str(n))
    return session_id


def test_messages_are_all_of_the_sessions(ledger: SessionLedger) -> None:
    sid = talk(ledger, 8)
    page = ledger.get_messages(sid)
    assert [it.content for it in page] == list("01234567")
    assert page.next is None
    part = ledger.get_messages(sid, limit=2)
    assert [it.content for it in part] == list("01")
    assert [it.content for it in ledger.get_messages(sid, after=part.next)] == list("234567")
    assert [it.content for it in ledger.get_messages(sid, after=part.next, limit=1)] == ["2"]
    assert [it.content for it in ledger.get_messages(sid, last=4)] == list("4567")


def test_a_history_is_all_of_the_sessions(ledger: SessionLedger) -> None:
    sid = talk(ledger, 8)
    page = ledger.history(sid)
    assert ([it.version for it in page], page.next) == (list(range(1, 10)), None)
    assert [it.version for it in ledger.history(sid, after=5)] == [6, 7, 8, 9]
    part = ledger.history(sid, after=5, limit=2)
    assert ([it.version for it in part], part.next) == ([6, 7], "7")
    assert [it.version for it in ledger.history(sid, after=part.next)] == [8, 9]
    assert [it.version for it in ledger.history(sid, after=None, limit=2)] == [1, 2]
    for bad in ("", "7:x", "-1", "9" * 19, "9" * 30, 1.0, True):
        with pytest.raises(InvalidInput, match="after"):
            ledger.history(sid, after=bad)  # type: ignore[arg-type]


def test_what_is_no_limit_is_refused_and_not_read_as_none(ledger: SessionLedger) -> None:
    sid = talk(ledger, 1)
    for bad in (0, -1, True, "5", 10_001):
        for call in (ledger.get_messages, ledger.history):
            with pytest.raises(InvalidInput, match="limit"):
                call(sid, limit=bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="last always returns"):
        ledger.get_messages(sid, last=1, limit=1)
    for read in (ledger.get_messages, ledger.history):
        with pytest.raises(SessionNotFound):
            read("nobody")


def test_iterating_sessions_gives_all_that_a_list_gives_in_pages(ledger: SessionLedger, clock: SetClock) -> None:
    made = []
    for n in range(8):
        clock.move(1)
        made.append(ledger.create_session("ada" if n % 2 else "bob", str(n), fields={"tag": {"hot": True}}))
    assert [it.session_id for it in ledger.iter_sessions()] == made[::-1]
    assert [it.session_id for it in ledger.iter_sessions("ada", tag="hot")] == made[7::-2]
    assert list(ledger.iter_sessions(status="failed")) == []
    assert [it.session_id for it in ledger.for_user("bob").iter_sessions()] == made[6::-2]
    with pytest.raises(InvalidInput):
        ledger.iter_sessions(shared=True)  # refused by the call, before anything is iterated


def test_sessions_are_iterated_in_a_program_with_an_event_loop(ledger: SessionLedger) -> None:
    made = {ledger.create_session("ada", str(n)) for n in range(7)}

    async def listed() -> set[str]:
        async with AsyncSessionLedger(ledger.url) as other:
            return {it.session_id async for it in other.iter_sessions("ada")}

    assert asyncio.run(listed()) == made

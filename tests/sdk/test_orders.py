"""Lists by last event: the chats of a sidebar, for owners, guests and programs with an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from ledger import AsyncSessionLedger, InvalidInput, Session, SessionLedger
from ledger.testing import SetClock


def ids(sessions: Iterable[Session]) -> list[str]:
    return [session.session_id for session in sessions]


@pytest.fixture
def made(ledger: SessionLedger, clock: SetClock) -> list[str]:
    """Six sessions, of ada and of bob in turn; the first has the latest event, the third the one before."""
    found = []
    for number in range(6):
        clock.move(1)
        found.append(ledger.create_session("bob" if number % 2 else "ada", f"Question {number}?"))
    for number in (2, 0):
        clock.move(1)
        ledger.add_message(found[number], "user", "And the week before?")
    return found


def test_the_session_with_the_latest_event_is_first(ledger: SessionLedger, made: list[str]) -> None:
    newest = [made[number] for number in (0, 2, 5, 4, 3, 1)]
    assert ids(ledger.list_sessions(order_by="updated")) == ids(ledger.iter_sessions(order_by="updated")) == newest
    assert ids(ledger.list_sessions("ada", order_by="updated")) == [made[0], made[2], made[4]]
    assert ids(ledger.list_sessions(order_by="created")) == ids(ledger.list_sessions()) == made[::-1]


def test_pages_join_in_either_order_and_a_cursor_is_of_one(ledger: SessionLedger, made: list[str]) -> None:
    page = ledger.list_sessions(order_by="updated", limit=4)
    rest = ledger.list_sessions(order_by="updated", limit=4, after=page.next)
    assert ids(page) + ids(rest) == [made[number] for number in (0, 2, 5, 4, 3, 1)]
    assert rest.next is None
    with pytest.raises(InvalidInput, match="give all pages of a list the same order_by"):
        ledger.list_sessions(after=page.next)
    with pytest.raises(InvalidInput, match="order_by must be 'created' or 'updated', not 'newest'"):
        ledger.list_sessions(order_by="newest")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="order_by"):
        list(ledger.iter_sessions(order_by=None))  # type: ignore[arg-type]


def test_a_guest_sees_the_latest_of_what_is_shared_first(
    ledger: SessionLedger, clock: SetClock, made: list[str]
) -> None:
    clock.move(1)
    for session_id in (made[4], made[0], made[2]):
        ledger.grant_access(session_id, "bob", "write")
    bob = ledger.for_user("bob")
    clock.move(1)
    bob.add_message(made[0], "user", "I am here as well.")
    clock.move(1)
    ledger.add_message(made[4], "assistant", "Welcome.")
    shared = bob.list_sessions(shared=True, order_by="updated", limit=2)
    assert ids(shared) == [made[4], made[0]]
    assert ids(bob.list_sessions(shared=True, order_by="updated", after=shared.next)) == [made[2]]
    assert ids(bob.iter_sessions(order_by="updated")) == [made[5], made[3], made[1]]
    assert ids(bob.iter_sessions("ada", order_by="updated")) == [made[4], made[0], made[2]]


def test_what_is_updated_during_an_iteration_costs_no_other_session_its_place(
    ledger: SessionLedger, clock: SetClock, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.sdk.ledger.SESSIONS_PAGE", 2)
    found = []
    for session in ledger.iter_sessions(order_by="updated"):
        found.append(session.session_id)
        clock.move(1)
        ledger.update_summary(session.session_id, "Seen.")  # each moves to the front as it is given
        if len(found) == 2:
            ledger.update_summary(made[3], "Of a page to come.")
    assert found == [made[number] for number in (0, 2, 5, 4, 1)]
    assert ids(ledger.list_sessions(order_by="updated")) == [made[number] for number in (1, 4, 5, 3, 2, 0)]


def test_lists_have_an_order_in_a_program_with_an_event_loop(ledger: SessionLedger, made: list[str]) -> None:
    async def listed() -> tuple[list[str], list[str]]:
        async with AsyncSessionLedger(ledger.url) as other:
            page = await other.for_user("ada").list_sessions(order_by="updated")
            return ids(page), [each.session_id async for each in other.iter_sessions("bob", order_by="updated")]

    assert asyncio.run(listed()) == ([made[0], made[2], made[4]], [made[5], made[3], made[1]])

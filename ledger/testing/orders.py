"""The contract of orders: lists by creation and by last event, in pages that join, beside writers."""

from __future__ import annotations

from typing import Any

import pytest

from ledger import Change, InvalidInput
from ledger.model.queries import SessionQuery
from ledger.stores.base import EventStore
from ledger.testing.harness import ALL, Harness, begin, listed, refusals, state_of
from ledger.testing.streams import SetClock, event

UPDATED = SessionQuery(order_by="updated")
#: Numbers of sessions in the order of their last events. A session that is not named has only its first event.
TOUCHED = (4, 0, 6, 1, 4)
#: Criteria, each with the numbers of the sessions that meet it, the latest event first.
NEWEST: list[tuple[dict[str, Any], list[int]]] = [
    ({"user_id": "ada"}, [4, 1, 6, 0, 7, 5, 3, 2]),
    ({"granted_to": "eve"}, [1, 7, 5, 3]),
    ({"status": "completed", "tag": "even"}, [4, 0]),
    ({"user_id": "nobody"}, []),
]


def eight_sessions(store: EventStore, clock: SetClock) -> list[str]:
    """Create eight sessions, each a second after the one before, and return their ids."""
    ids = [f"s:{number}" for number in range(8)]
    for number, session_id in enumerate(ids):
        clock.move(1)
        more = [Change("grant", "eve", "read")] if number % 2 else [Change("tag", "even", True)]
        begin(store, session_id, Change("status", value="active" if number % 4 else "completed"), *more)
    return ids


def touch(store: EventStore, clock: SetClock, session_id: str, number: int) -> None:
    """Append event ``number`` to a session, a second after the event before."""
    clock.move(1)
    store.append(session_id, event(number, Change("context", "n", number)))


def ids_of(page: Any) -> list[str]:
    """Return the ids of a page's sessions."""
    return [head.session_id for head, _ in page]


class OrdersContract(Harness):
    """Tests that a list has the order that its query names, and that its pages join while sessions are updated."""

    def test_sessions_are_listed_by_their_last_events(self, store: EventStore, clock: SetClock) -> None:
        eight = eight_sessions(store, clock)
        for number, touched in enumerate(TOUCHED, 1):
            touch(store, clock, eight[touched], number)
        for criteria, numbers in NEWEST:
            query = SessionQuery(**criteria, order_by="updated")
            expected = [eight[number] for number in numbers]
            assert listed(store, query, 5) == expected, criteria
        assert [head.updated_at for head, _ in store.sessions(UPDATED, limit=3)] == [
            state_of(store, eight[number])[0].updated_at for number in (4, 1, 6)
        ]

    def test_sessions_of_one_last_instant_are_paged_without_gap_or_repeat(self, store: EventStore) -> None:
        ids = [f"updated:{n}:{n}" for n in range(5)]  # the cursor of this order begins with that word too
        for session_id in ids:
            begin(store, session_id)
        for query in (UPDATED, ALL):
            assert listed(store, query, 2) == sorted(ids, reverse=True)

    def test_what_is_updated_between_pages_costs_no_other_session_its_place(
        self, store: EventStore, clock: SetClock
    ) -> None:
        eight = eight_sessions(store, clock)
        first = store.sessions(UPDATED, limit=3)
        assert ids_of(first) == [eight[7], eight[6], eight[5]]
        touch(store, clock, eight[6], 1)  # listed already
        touch(store, clock, eight[2], 2)  # on a page to come
        clock.move(1)
        begin(store, "new")
        second = store.sessions(UPDATED, after=first.next, limit=2)
        assert ids_of(second) == [eight[4], eight[3]]
        touch(store, clock, eight[3], 3)  # its last session, after which the next page begins
        touch(store, clock, eight[0], 4)
        third = store.sessions(UPDATED, after=second.next, limit=2)
        assert (ids_of(third), third.next) == ([eight[1]], None)
        moved = [eight[0], eight[3], "new", eight[2], eight[6]]
        assert listed(store, UPDATED, 4) == [*moved, eight[7], eight[5], eight[4], eight[1]]

    def test_a_cursor_is_of_one_order(self, store: EventStore, clock: SetClock) -> None:
        eight_sessions(store, clock)
        cursors = {}
        for query in (ALL, UPDATED):
            page = store.sessions(query, limit=2)
            assert page.next is not None
            cursors[query.order_by] = page.next
        with pytest.raises(InvalidInput, match="order 'created', and this list has the order 'updated'"):
            store.sessions(UPDATED, after=cursors["created"])
        with pytest.raises(InvalidInput, match="order 'updated', and this list has the order 'created'"):
            store.sessions(ALL, after=cursors["updated"])
        assert [len(store.sessions(query, after=cursors[query.order_by])) for query in (ALL, UPDATED)] == [6, 6]
        bad: list[Any] = ["", "updated", "updated:", "updated:5", "updated:x:y", "updated:updated:1:s", 5, b"1:x"]
        refusals(InvalidInput, bad, lambda it: store.sessions(UPDATED, after=it), "after")

    def test_an_order_that_does_not_exist_is_refused(self, store: EventStore) -> None:
        bad: list[Any] = ["", "UPDATED", "updated_at", None, True, ["updated"], b"updated"]
        refusals(InvalidInput, bad, lambda it: store.sessions(SessionQuery(order_by=it)), "order_by")

"""The contract of ingest: events recorded by another store are recorded unchanged, or not at all."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ledger import Change, IdempotencyConflict, InvalidInput, RecordedEvent, WrongExpectedVersion
from ledger.model.integrity import verify
from ledger.stores.base import EventStore
from ledger.testing.harness import Harness, OpenStore, Refused, begin, events_of, state_of, values
from ledger.testing.streams import START, chained, event, event_id, key_of, recorded, uuid7


def titled(number: int) -> list[Change]:
    """Return two changes for event ``number``. They are sorted by field, so that tests can compare whole events."""
    return [Change("tag", str(number), True), Change("title", value=str(number))]


def abroad(session_id: str, count: int = 4) -> list[RecordedEvent]:
    """Return the first ``count`` events of a session, as recorded by another store with a hash chain."""
    return chained(
        recorded(number + 1, number, titled(number), session_id=session_id, idempotency_key=key_of(number))
        for number in range(count)
    )


class ExchangeContract(Harness):
    """Tests that a store ingests the events of another store, in any order and any number of times."""

    @pytest.fixture
    def elsewhere(self, open_store: OpenStore) -> EventStore:
        """Fixture: a second store of the same kind, with the sessions ``a`` (four events) and ``b`` (two events)."""
        other = open_store("elsewhere")
        for session_id, count in (("a", 4), ("b", 2)):
            begin(other, session_id)
            for number in range(1, count):
                other.append(session_id, event(number, *titled(number), idempotency_key=key_of(number)))
        return other

    def test_events_are_taken_over_as_they_were_recorded(self, store: EventStore, elsewhere: EventStore) -> None:
        brought = {session_id: events_of(elsewhere, session_id) for session_id in ("a", "b")}
        assert store.ingest([*brought["a"], *brought["b"]]) == 6
        for session_id, events in brought.items():
            assert events_of(store, session_id) == events
            assert state_of(store, session_id)[1] == state_of(elsewhere, session_id)[1]

    def test_hashes_are_taken_over_by_a_store_that_makes_none_too(self, store: EventStore) -> None:
        store.ingest(abroad("a"))
        assert events_of(store, "a") == abroad("a")
        assert verify(store.events("a", upcast=False)) == 4

    def test_taking_over_again_adds_nothing(self, store: EventStore) -> None:
        brought = abroad("a")
        assert store.ingest(brought[:2]) == 2
        assert store.ingest(brought + brought) == 2
        assert store.ingest(brought) == 0
        assert store.ingest([]) == 0
        assert events_of(store, "a") == brought

    def test_the_order_in_which_events_are_handed_in_does_not_matter(self, store: EventStore) -> None:
        brought = abroad("a")
        assert store.ingest(brought[::-1]) == 4
        assert events_of(store, "a") == brought

    def test_a_session_that_was_taken_over_goes_on(self, store: EventStore, elsewhere: EventStore) -> None:
        store.ingest(events_of(elsewhere, "a"))
        assert store.append("a", event(9), expected_version=4).version == 5
        assert store.append("a", event(2, *titled(2))).replayed
        assert verify(store.events("a", upcast=False)) == (5 if self.capabilities.hash_chain else 0)

    def test_a_session_that_went_on_in_two_places_is_refused(self, store: EventStore, refused: Refused) -> None:
        there = abroad("a", 5)
        store.ingest(there[:4])
        store.append("a", event(9))
        error = refused(WrongExpectedVersion, lambda: store.ingest(there))
        assert (error.session_id, error.actual) == ("a", 5)

    def test_an_event_with_other_content_is_a_conflict(self, store: EventStore, refused: Refused) -> None:
        store.ingest(abroad("a"))
        begin(store, "b", number=1)
        error = refused(IdempotencyConflict, lambda: store.ingest(abroad("b")))
        assert (error.session_id, error.event_id) == ("b", event_id(1))

    def test_of_several_sessions_all_are_taken_or_none(self, store: EventStore, refused: Refused) -> None:
        begin(store, "b", number=77)
        refused(WrongExpectedVersion, lambda: store.ingest([*abroad("a"), *abroad("b")]))
        assert store.state("a") is None

    def test_owner_and_creation_time_are_one_for_a_session(self, store: EventStore, refused: Refused) -> None:
        first = recorded(1, 1, [Change("title", value="a")])
        second = [Change("title", value="b")]
        others = [{"user_id": "bob"}, {"created_at": START + timedelta(days=1)}]
        refused.each(
            InvalidInput, others, lambda it: store.ingest([first, recorded(2, 2, second, **it)]), "never change"
        )
        store.ingest([first])
        refused.each(InvalidInput, others, lambda it: store.ingest([recorded(2, 2, second, **it)]), "never change")

    def test_the_creation_time_of_a_uuid7_session_is_the_one_inside(self, store: EventStore, refused: Refused) -> None:
        wrong = recorded(1, 1, [Change("title", value="a")], session_id=uuid7(START - timedelta(days=1), 1))
        refused(InvalidInput, lambda: store.ingest([wrong]), "inside")

    def test_an_event_that_no_append_would_take_is_refused(self, store: EventStore, refused: Refused) -> None:
        most = self.capabilities.max_changes
        changes = [Change("context", str(number), number) for number in range(most + 1)]
        refused.each(
            InvalidInput,
            [0, most + 1],
            lambda count: store.ingest([recorded(1, 1, changes[:count])]),
            f"1 to {most:,}",
        )

    def test_unchecked_writers_events_of_one_version_are_both_kept(self, store: EventStore) -> None:
        both = [recorded(1, 1, [Change("status", value="active")])] + [
            recorded(2, number, [Change("title", value=str(number))]) for number in (3, 2)
        ]
        store.ingest(both)
        assert [it.event_id for it in store.events("s")] == [event_id(1), event_id(2), event_id(3)]
        assert [len(store.events("s", after=after, limit=1)) for after in (0, 1)] == [1, 2]
        assert values(store)["title", ""] == values(store, version=2)["title", ""] == "3"

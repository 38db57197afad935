"""The contract of event ids: an event that is sent again is still recorded only once."""

from __future__ import annotations

from dataclasses import replace

from ledger import Change, IdempotencyConflict, InvalidInput
from ledger.stores.base import EventStore
from ledger.testing.harness import Harness, Refused, begin, events_of
from ledger.testing.streams import START, SetClock, event, event_id


class IdempotencyContract(Harness):
    """Tests that an event sent again is not recorded again, and that its id with other content is a conflict."""

    def test_the_same_event_again_is_replayed(self, store: EventStore, clock: SetClock) -> None:
        begin(store)
        first = store.append("s", event(1, Change("strategy", value={"a": 1, "b": 2})))
        store.append("s", event(2))
        clock.move(60)
        again = store.append("s", event(1, Change("strategy", value={"b": 2, "a": 1}), actor="bob", occurred_at=START))
        assert again == replace(first, replayed=True)
        assert len(events_of(store)) == 3

    def test_a_replay_does_not_mind_what_version_is_expected(self, store: EventStore) -> None:
        begin(store)
        store.append("s", event(1), expected_version=1)
        assert store.append("s", event(1), expected_version=1).replayed
        assert store.append("s", event(1), expected_version=77).replayed

    def test_a_creation_can_be_repeated(self, store: EventStore) -> None:
        begin(store)
        again = store.append("s", event(0, Change("status", value="active"), user_id="ada"), expected_version=0)
        assert (again.version, again.replayed) == (1, True)

    def test_an_event_id_with_other_content_is_a_conflict(self, store: EventStore, refused: Refused) -> None:
        begin(store)
        store.append("s", event(1, Change("title", value="t")))
        others = [
            event(1, Change("title", value="other")),
            event(1, Change("title", value="t"), event_type="other.made"),
            event(1, Change("title", value="t"), Change("summary", value="s")),
            event(1, Change("title", removed=True)),
            event(1, Change("summary", value="t")),
        ]
        errors = refused.each(IdempotencyConflict, others, lambda it: store.append("s", it))
        assert {(it.session_id, it.event_id) for it in errors} == {("s", event_id(1))}

    def test_an_event_keeps_the_idempotency_key_of_its_first_append(self, store: EventStore, refused: Refused) -> None:
        begin(store)
        keys = ["job-42", None, "ü 🙂'" * 256]
        two = (Change("tag", "t", True), Change("title", value="t"))
        for number, key in enumerate(keys, 1):
            store.append("s", event(number, *two, idempotency_key=key))
        assert store.append("s", event(1, *two, idempotency_key="job-43")).replayed
        assert [it.idempotency_key for it in events_of(store)] == [None, *keys]
        bad = ["", " job", "a\nb", "\ud800", "x" * 1025]
        refused.each(InvalidInput, bad, lambda key: store.append("s", event(9, idempotency_key=key)), "idempotency_key")

    def test_one_and_one_point_zero_are_other_content(self, store: EventStore, refused: Refused) -> None:
        begin(store, "s", Change("strategy", value=1), number=1)
        refused(IdempotencyConflict, lambda: store.append("s", event(1, Change("strategy", value=1.0))))

    def test_an_event_id_belongs_to_its_session(self, store: EventStore) -> None:
        begin(store, "a", number=1)
        begin(store, "b", number=1)
        assert store.version_of("a", event_id(1)) == store.version_of("b", event_id(1)) == 1

    def test_the_version_of_an_event_can_be_looked_up(self, store: EventStore) -> None:
        begin(store)
        store.append("s", event(1))
        assert store.version_of("s", event_id(1)) == 2
        assert store.version_of("s", event_id(9)) is None
        assert store.version_of("nope", event_id(1)) is None

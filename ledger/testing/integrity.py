"""The contract of the hash chain: tampering with a recorded event is detected. Capability: ``hash_chain``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from ledger import Change, CorruptEvent, RecordedEvent
from ledger.model.integrity import verify
from ledger.stores.base import EventStore
from ledger.testing.exchange import abroad
from ledger.testing.harness import Harness, Refused, begin, events_of, state_of, values
from ledger.testing.streams import START, event, recorded


def carry_no_hashes(events: Iterable[RecordedEvent]) -> bool:
    """Return True if no event has hashes."""
    return all(
        (it.prev_hash, it.event_hash, change.value_hash, change.value_salt) == (None, None, None, None)
        for it in events
        for change in it.changes
    )


class IntegrityContract(Harness):
    """Tests that the hash chain of every session passes ``verify``, and that events with a broken chain are refused.

    Without the capability, appended events have no hashes.
    """

    def test_what_was_appended_verifies(self, store: EventStore) -> None:
        begin(store)
        for number in range(1, 6):
            gone = number % 2 == 0
            store.append("s", event(number, Change("title", removed=gone, value=None if gone else "t")))
        events = events_of(store)
        head = state_of(store)[0]
        if not self.capabilities.hash_chain:
            assert carry_no_hashes(events)
            assert head.event_hash is None
            return
        assert verify(events) == 6
        assert head.event_hash == events[-1].event_hash

    def test_an_event_that_was_tampered_with_is_refused(self, store: EventStore, refused: Refused) -> None:
        if not self.capabilities.hash_chain:
            self.appends_no_hashes(store)
            return
        brought = abroad("a")
        tampered: list[dict[str, Any]] = [
            {"event_type": "other.made"},
            {"actor": "eve"},
            {"idempotency_key": "job-42"},
            {"idempotency_key": None},
            {"prev_hash": "0" * 64},
            {"recorded_at": START - timedelta(1)},
            {"changes": (replace(brought[1].changes[0], text='"other"'), *brought[1].changes[1:])},
        ]
        refused.each(
            CorruptEvent,
            tampered,
            lambda it: store.ingest([brought[0], replace(brought[1], **it), *brought[2:]]),
            "version 2",
        )

    def test_a_gap_in_a_chain_is_refused(self, store: EventStore, refused: Refused) -> None:
        if not self.capabilities.hash_chain:
            self.appends_no_hashes(store)
            return
        brought = abroad("a")
        refused.each(CorruptEvent, [brought[1:], brought[:1] + brought[2:]], store.ingest)

    def test_events_without_a_chain_do_not_break_that_of_their_session(self, store: EventStore) -> None:
        begin(store)
        store.ingest([recorded(2, 2, [Change("title", value="unchained")])])
        store.append("s", event(3))
        assert values(store)["title", ""] == "title 3"
        if not self.capabilities.hash_chain:
            assert carry_no_hashes(events_of(store))
            return
        assert verify(events_of(store)) == 2

    def appends_no_hashes(self, store: EventStore) -> None:
        """Check that appended events have no hashes, so that there is nothing to verify."""
        begin(store)
        assert carry_no_hashes(events_of(store))

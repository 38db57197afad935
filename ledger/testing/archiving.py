"""The contract of purging and archiving, by which sessions leave a store. Capabilities: ``purge`` and ``tiered``."""

from __future__ import annotations

from typing import Any

from ledger import Change
from ledger.stores.base import purging_store, tiered_store
from ledger.testing.harness import Harness, begin, events_of, listed
from ledger.testing.streams import event


class ArchivingContract(Harness):
    """Tests of ``PurgingStore`` and ``TieredStore``.

    In a store without a protocol's capability, the protocol's methods are absent or raise CapabilityMissing.
    """

    def test_a_session_is_purged_at_the_version_that_it_has(self, store: Any) -> None:
        for session_id in ("s", "other"):
            begin(store, session_id)
        store.append("s", event(1, Change("title", value="t")))
        if self.lacks("purge", lambda: store.purge("s", 2)):
            self.lacks("purge", lambda: store.pending_deletions())
            assert purging_store(store) is None
            assert len(events_of(store)) == 2
            return
        assert purging_store(store) is not None
        assert [store.purge("nowhere", 1), store.purge("s", 1), store.purge("s", 3)] == [False] * 3
        assert len(events_of(store)) == 2
        assert store.purge("s", 2)
        store.forget_purged()
        assert (store.state("s"), list(store.events("s")), listed(store)) == (None, [], ["other"])
        assert store.pending_deletions() == []  # no warehouse has its rows
        begin(store, "s")
        assert len(events_of(store)) == 1

    def test_an_archived_session_stays_until_it_has_arrived_in_the_warehouse(self, store: Any) -> None:
        begin(store)
        store.append("s", event(1, Change("status", value="archived")))
        if self.lacks("tiered", lambda: store.drop_archived(["s"])):
            self.lacks("tiered", lambda: store.rehydrate("s"))
            self.lacks("tiered", lambda: store.purge_warehouse())
            assert tiered_store(store) is None
            return
        assert tiered_store(store) is not None
        assert [store.drop_archived(["s"]), store.rehydrate("s"), store.rehydrate("nowhere")] == [0] * 3
        if self.capabilities.purge:
            assert store.purge_warehouse() == 0
        assert [recorded.version for recorded in events_of(store)] == [1, 2]

"""The contract of seals: comparing with a seal finds tampering, but no later appends. Capability: ``seals``."""

from __future__ import annotations

from typing import Any

from ledger import Change
from ledger.model.instants import to_micros
from ledger.model.seals import Leaf, MerkleTree
from ledger.stores.base import sealing_store
from ledger.testing.harness import Harness, begin, state_of
from ledger.testing.streams import event, recorded


class SealsContract(Harness):
    """Tests of ``SealingStore``.

    Without the capability, the methods of ``SealingStore`` are absent or raise CapabilityMissing.
    """

    def test_a_seal_covers_the_head_of_every_session(self, store: Any) -> None:
        if self.lacks("seals", lambda: store.seal()):
            self.lacks("seals", lambda: store.seals())
            self.lacks("seals", lambda: store.sealed("none"))
            self.lacks("seals", lambda: store.compare_sealed([]))
            assert sealing_store(store) is None
            return
        assert sealing_store(store) is not None
        assert store.seals() == []
        nothing = store.seal()
        assert (nothing.sessions, nothing.events, nothing.root) == (0, 0, MerkleTree().root())
        for session_id in ("b", "a"):
            begin(store, session_id)
        store.append("a", event(1, Change("title", value="t")))
        seal = store.seal()
        heads = [(session_id, state_of(store, session_id)[0]) for session_id in ("a", "b")]
        leaves = [Leaf(name, to_micros(head.created_at), head.version, head.event_hash) for name, head in heads]
        assert list(store.sealed(seal.seal_id)) == leaves
        tree = MerkleTree()
        for leaf in leaves:
            tree.add(leaf.entry())
        assert (seal.root, seal.sessions, seal.events, seal.store_id) == (tree.root(), 2, 3, store.store_id)
        assert seal.previous_root == nothing.root
        assert store.seals() == [nothing, seal]
        assert list(store.sealed(nothing.seal_id)) == list(store.sealed("none")) == []

    def test_later_events_leave_a_sealed_session_the_same(self, store: Any) -> None:
        if not self.capabilities.seals:
            return
        begin(store)
        store.ingest([recorded(2, 2, [Change("title", value="unchained")])])
        first = store.seal()
        leaves = list(store.sealed(first.seal_id))
        assert [(check.found, check.actual) for check in store.compare_sealed(leaves)] == [("same", 2)]
        store.append("s", event(3))
        begin(store, "later")
        second = store.seal()
        assert [(check.found, check.actual) for check in store.compare_sealed(leaves)] == [("same", 3)]
        assert list(store.sealed(first.seal_id)) == leaves
        assert [leaf.version for leaf in store.sealed(second.seal_id)] == [1, 3]

    def test_a_purged_session_is_no_missing_one(self, store: Any) -> None:
        if not self.capabilities.seals or not self.capabilities.purge:
            return
        begin(store)
        begin(store, "other")
        leaves = list(store.sealed(store.seal().seal_id))
        assert store.purge("s", 1)
        nowhere = leaves[0]._replace(session_id="nowhere")
        found = [check.found for check in store.compare_sealed([*leaves, nowhere])]
        assert found == ["same", "purged", "missing"]
        assert [leaf.session_id for leaf in store.sealed(store.seal().seal_id)] == ["other"]
        begin(store)
        assert [leaf.session_id for leaf in store.sealed(store.seal().seal_id)] == ["other", "s"]

    def test_what_differs_from_a_leaf_is_told_apart(self, store: Any) -> None:
        if not self.capabilities.seals:
            return
        begin(store)
        (leaf,) = store.sealed(store.seal().seal_id)
        others = [
            leaf._replace(version=2),
            leaf._replace(event_hash="0" * 64),
            leaf._replace(event_hash=None),
            leaf._replace(created_at=leaf.created_at + 1),
        ]
        found = [check.found for check in store.compare_sealed(others)]
        assert found == ["shortened", "rewritten", "rewritten", "replaced"]

"""Contract tests of opening and closing a store: capabilities, identity, and that recorded events are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ledger import Change, StoreRejected
from ledger.stores.base import EventStore
from ledger.testing.harness import ALL, Harness, OpenStore, begin, events_of, refusals
from ledger.testing.streams import event, event_id, recorded


class OpeningContract(Harness):
    """Tests that a store declares its capabilities, keeps its data when reopened, and refuses all calls once closed."""

    def test_the_capabilities_are_those_expected(self, store: EventStore) -> None:
        assert store.capabilities == self.capabilities

    def test_a_store_keeps_its_identity(self, store: EventStore, open_store: OpenStore) -> None:
        store.close()
        assert open_store("main").store_id == store.store_id != open_store("other").store_id

    def test_what_was_appended_is_there_after_reopening(self, store: EventStore, open_store: OpenStore) -> None:
        begin(store)
        store.append("s", event(1, Change("title", value="kept")))
        before, state = events_of(store), store.state("s")
        store.close()
        again = open_store("main")
        assert events_of(again) == before
        assert again.state("s") == state

    def test_a_closed_store_refuses_everything_and_closes_again(self, store: EventStore, tmp_path: Path) -> None:
        begin(store)
        store.close()
        store.close()
        uses: dict[str, Any] = {
            "append": lambda: store.append("s", event(1)),
            "state": lambda: store.state("s"),
            "state at a version": lambda: store.state("s", version=1),
            "events": lambda: store.events("s"),
            "messages": lambda: store.messages("s", after=None, limit=1),
            "sessions": lambda: store.sessions(ALL),
            "version_of": lambda: store.version_of("s", event_id(1)),
            "ingest": lambda: store.ingest([recorded(1, 1, [Change("title", value="x")], session_id="t")]),
        }
        if self.capabilities.commit_order:
            uses["rows_after"] = lambda: store.rows_after(0, 1)
            uses["last_seq"] = store.last_seq
        if self.capabilities.backup:
            uses["backup"] = lambda: store.backup(tmp_path / "copy")
        refusals(StoreRejected, uses, lambda name: uses[name](), "closed")
        assert not (tmp_path / "copy").exists()

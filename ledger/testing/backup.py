"""The contract of backup: a consistent copy in a separate file. Capability: ``backup``."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger import StoreRejected
from ledger.stores.base import EventStore
from ledger.testing.harness import Harness, begin, events_of
from ledger.testing.streams import event


class BackupContract(Harness):
    """Tests that a backup is an independent store.

    Without the capability, ``backup`` raises CapabilityMissing and writes no file.
    """

    def test_a_backup_is_a_store_of_its_own(
        self, store: EventStore, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        begin(store)
        store.append("s", event(1))
        if self.lacks("backup", lambda: store.backup(tmp_path / "copy")):
            assert not (tmp_path / "copy").exists()
            return
        store.backup(tmp_path / "copy")
        store.append("s", event(2))
        copy: EventStore = request.getfixturevalue("open_backup")(tmp_path / "copy")
        assert events_of(copy) == events_of(store)[:2]
        copy.append("s", event(3))
        assert len(events_of(copy)) == len(events_of(store)) == 3

    def test_a_backup_overwrites_nothing(self, store: EventStore, tmp_path: Path) -> None:
        (tmp_path / "copy").write_text("mine")
        if not self.lacks("backup", lambda: store.backup(tmp_path / "copy")):
            with pytest.raises(StoreRejected, match="exists"):
                store.backup(tmp_path / "copy")
            with pytest.raises(StoreRejected):
                store.backup(tmp_path / "nowhere" / "copy")
        assert (tmp_path / "copy").read_text() == "mine"

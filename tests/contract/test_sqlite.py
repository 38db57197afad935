"""The embedded store keeps the contract."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from ledger.stores.base import Capabilities, EventStore
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import CountedIds, OpenStore, SetClock, StoreContract, StoreMachine


@pytest.fixture
def open_store(tmp_path: Path, clock: SetClock) -> Iterator[OpenStore]:
    opened: list[EventStore] = []

    def open_store(name: str) -> EventStore:
        # A second store has ids of its own, as another machine would.
        ids = CountedIds(sum(name.encode()) * 1000)
        opened.append(SqliteStore(tmp_path / f"{name}.db", clock=clock, ids=ids, synchronous="NORMAL"))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


@pytest.fixture
def open_backup(clock: SetClock) -> Iterator[Callable[[Path], EventStore]]:
    opened: list[EventStore] = []

    def open_backup(path: Path) -> EventStore:
        opened.append(SqliteStore(path, clock=clock, create=False))
        return opened[-1]

    yield open_backup
    for store in opened:
        store.close()


class TestSqliteStore(StoreContract):
    capabilities = Capabilities(
        compare_and_append=True,
        gapless_versions=True,
        hash_chain=True,
        backup=True,
        commit_order=True,
        outbox=True,
        archive=True,
        purge=True,
        verify=True,
        seals=True,
        max_changes=1000,
        max_event_bytes=8_000_000,
    )


class SqliteMachine(StoreMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()

    def open(self, clock: SetClock) -> EventStore:
        return SqliteStore(Path(self.folder.name) / "l.db", clock=clock, synchronous="NORMAL")

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


TestSqliteMachine = SqliteMachine.TestCase
TestSqliteMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)

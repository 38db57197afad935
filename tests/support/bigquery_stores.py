"""BigQuery stores over the emulator: datasets are made once and emptied between tests, as making them takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ledger.stores.bigquery.store import BigQueryStore
from ledger.testing import SetClock
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

if TYPE_CHECKING:
    from support.emulator import Emulator

TABLES = ("session_events", "session_heads", "session_index", "relay_leases")


def environment(emulator: Emulator) -> dict[str, str]:
    """The settings under which the ledger finds the emulator."""
    return {"BIGQUERY_EMULATOR_HOST": emulator.rest, "BIGQUERY_EMULATOR_GRPC_HOST": emulator.grpc}


class Datasets:
    """Datasets with the ledger's tables, by name; a prefix keeps those of several modules apart."""

    def __init__(self, emulator: Emulator, prefix: str) -> None:
        self._emulator = emulator
        self._prefix = prefix
        self._made: set[str] = set()
        self._used: set[str] = set()

    def place(self, name: str, **settings: Any) -> Dataset:
        """A dataset that holds the tables, empty at its first use in a test."""
        dataset = f"{self._prefix}_{name}"
        place = Dataset(self._emulator.project, dataset, retry_timeout=20, **settings)
        if name not in self._made:
            warehouse = BigQueryWarehouse(place, environment=environment(self._emulator))
            warehouse.create()
            warehouse.close()
            self._made.add(name)
        elif name not in self._used:
            tables = (f"`{self._emulator.project}.{dataset}.{table}`" for table in TABLES)
            self._emulator.client.query_and_wait(" ".join(f"DELETE FROM {table} WHERE TRUE;" for table in tables))
        self._used.add(name)
        return place

    @contextmanager
    def emptied(self, name: str) -> Iterator[Dataset]:
        """A dataset that holds the tables and no rows."""
        self._used.discard(name)
        yield self.place(name)

    @contextmanager
    def stores(self, clock: SetClock, **settings: Any) -> Iterator[Any]:
        """A function that opens the store of a name; all of them are closed at the end."""
        self._used.clear()
        opened: list[BigQueryStore] = []

        def open_store(name: str) -> BigQueryStore:
            place = self.place(name, **settings)
            opened.append(BigQueryStore(place, clock=clock, environment=environment(self._emulator)))
            return opened[-1]

        yield open_store
        for store in opened:
            store.close()

    def drop(self) -> None:
        """Drop them all."""
        for name in self._made:
            self._emulator.client.delete_dataset(f"{self._prefix}_{name}", delete_contents=True)

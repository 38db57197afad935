"""Datasets for the tests of the ledger's tables."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

from faults.proxy import Proxy, Script, proxy
from ledger.warehouse import catalog
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.tables import ObjectChange
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from support.bigquery_stores import environment
from support.emulator import Emulator

TABLES = [item.name for item in catalog.objects() if item.kind == "table"]


KEY = "projects/p/locations/eu/keyRings/r/cryptoKeys/k"


class Datasets:
    """Datasets of a module; all of them are dropped at its end."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.names: list[str] = []
        self.open = contextlib.ExitStack()

    def new(self, *, made: bool = False) -> Dataset:
        """A dataset that is not there yet, or that is empty."""
        self.names.append(f"tables_{uuid.uuid4().hex}")
        if made:
            self.emulator.client.create_dataset(self.names[-1])
        return Dataset(self.emulator.project, self.names[-1], retry_timeout=20)

    def warehouse(self, place: Dataset, settings: dict[str, str] | None = None) -> BigQueryWarehouse:
        it = BigQueryWarehouse(place, environment=settings or environment(self.emulator), sleep=lambda _: None)
        return self.open.enter_context(contextlib.closing(it))

    def run(self, place: Dataset, sql: str) -> list[tuple[Any, ...]]:
        """Anything, as the owner of the dataset may."""
        bound = catalog.bind(sql, place.project, place.name)
        return [tuple(row.values()) for row in self.emulator.client.query_and_wait(bound)]

    def kinds(self, place: Dataset) -> dict[str, str]:
        """What stands in a dataset."""
        client = self.emulator.client
        found = {table.table_id: table.table_type.lower() for table in client.list_tables(place.name)}
        return found | {routine.reference.routine_id: "function" for routine in client.list_routines(place.name)}


@contextlib.contextmanager
def through(datasets: Datasets, place: Dataset, script: dict[str, dict[int, str]]) -> Iterator[tuple[Proxy, Any]]:
    emulator = datasets.emulator
    with proxy(emulator.rest, emulator.grpc, Script(script)) as running:
        settings = {"BIGQUERY_EMULATOR_HOST": running.rest, "BIGQUERY_EMULATOR_GRPC_HOST": running.grpc}
        yield running, datasets.warehouse(place, settings)


def done(changes: list[ObjectChange]) -> dict[str, str]:
    """What was done to objects to which something was done."""
    return {change.name: change.done for change in changes if change.done != "unchanged"}

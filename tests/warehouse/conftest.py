"""Fixtures of the warehouses' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ledger.warehouse.arrow_rows import record_batch
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.tables import ObjectChange, create
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from support.emulator import Emulator
from support.histories import event, rows_of
from support.table_datasets import Datasets
from support.warehouse_fixtures import ask, direct, place, sink, sinks, warehouse

__all__ = ["ask", "direct", "place", "sink", "sinks", "warehouse"]


@pytest.fixture(scope="module")
def datasets(emulator: Emulator) -> Iterator[Datasets]:
    found = Datasets(emulator)
    with found.open:
        yield found
    for name in found.names:
        emulator.client.delete_dataset(name, delete_contents=True, not_found_ok=True)


@pytest.fixture(scope="module")
def kept(datasets: Datasets) -> tuple[Dataset, BigQueryWarehouse, list[ObjectChange]]:
    """A dataset with all objects and some rows, as it was made; tests leave it as they find it."""
    place = datasets.new()
    it = datasets.warehouse(place)
    changes = create(it)
    it.append("session_events", record_batch(rows_of([event(1, ("title", "", "kept"), ("summary", "", "s"))])))
    return place, it, changes

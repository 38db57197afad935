"""Warehouses for the SQL tests: a DuckDB file for each, and a dataset of the emulator for a module."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from ledger.model.events import RecordedEvent
from support.histories import rows_of, shuffled
from support.sql_targets import OnDuckDB

if TYPE_CHECKING:
    from ledger.warehouse.bigquery.settings import Dataset
    from ledger.warehouse.bigquery.sink import BigQuerySink
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
    from support.emulator import Emulator


@pytest.fixture
def warehouse(tmp_path: Any) -> OnDuckDB:
    """An empty DuckDB warehouse."""
    return OnDuckDB(tmp_path)


@pytest.fixture
def ask(warehouse: OnDuckDB) -> Callable[..., list[tuple[Any, ...]]]:
    """Load events, out of order and one of them twice, and ask for rows."""

    def answer(events: list[RecordedEvent], sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        warehouse.load(shuffled(rows_of([*events, events[0]]), 7))
        return warehouse.query(sql, parameters).rows

    return answer


@pytest.fixture(scope="module")
def place(emulator: Emulator) -> Iterator[Dataset]:
    """A dataset with the ledger's tables; each test has sessions of its own."""
    from ledger.warehouse.bigquery.settings import Dataset
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
    from support.bigquery_stores import environment

    place = Dataset(emulator.project, f"warehouse_{uuid.uuid4().hex}", retry_timeout=20)
    with contextlib.closing(BigQueryWarehouse(place, environment=environment(emulator))) as made:
        made.create()
    yield place
    emulator.client.delete_dataset(place.name, delete_contents=True)


@pytest.fixture(scope="module")
def direct(emulator: Emulator, place: Dataset) -> Iterator[BigQueryWarehouse]:
    """The dataset's warehouse, with nothing between it and the emulator."""
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
    from support.bigquery_stores import environment

    with contextlib.closing(BigQueryWarehouse(place, environment=environment(emulator))) as opened:
        yield opened


@pytest.fixture
def sinks(emulator: Emulator, place: Dataset) -> Iterator[Callable[[], BigQuerySink]]:
    """Opens sinks into the module's dataset, each with a warehouse of its own; all of them are closed at the end."""
    from support.bigquery_relays import sink_of

    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(sink_of(emulator, place)))


@pytest.fixture
def sink(sinks: Callable[[], BigQuerySink]) -> BigQuerySink:
    return sinks()

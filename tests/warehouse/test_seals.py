"""The copies of seals in a warehouse: each once, however often it is sent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ledger.model.seals import Seal
from ledger.warehouse import catalog
from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse
from ledger.warehouse.seals import record, recorded, send
from support.bigquery_warehouses import through
from support.histories import DAY

if TYPE_CHECKING:
    from ledger.warehouse.bigquery.settings import Dataset
    from support.emulator import Emulator

FIRST = Seal("seal-1", DAY, "store-1", 2, 7, 12, "1" * 64, None)
SECOND = replace(FIRST, seal_id="seal-2", made_at=DAY + timedelta(days=1), root="2" * 64, previous_root="1" * 64)
OTHER = replace(FIRST, seal_id="seal-3", store_id="store-2")


class OnDuckDB:
    def __init__(self, folder: Path) -> None:
        self.warehouse = DuckDBWarehouse(folder / "w.duckdb")

    def run(self, sql: str) -> None:
        with self.warehouse.writing() as connection:
            connection.execute(catalog.bind(sql).replace("`", '"'))


class OnBigQuery:
    def __init__(self, emulator: Emulator, place: Dataset, warehouse: Any) -> None:
        self.warehouse = warehouse
        self._emulator, self._place = emulator, place

    def run(self, sql: str) -> None:
        self._emulator.client.query_and_wait(catalog.bind(sql, self._place.project, self._place.name))


@pytest.fixture(
    params=[pytest.param("duckdb", marks=pytest.mark.duckdb), pytest.param("bigquery", marks=pytest.mark.emulator)]
)
def on(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OnDuckDB | OnBigQuery]:
    if request.param == "duckdb":
        yield OnDuckDB(tmp_path)
        return
    emulator, place = request.getfixturevalue("emulator"), request.getfixturevalue("place")
    with through(emulator, place) as (_, warehouse):
        yield OnBigQuery(emulator, place, warehouse)
        with contextlib.suppress(Exception):
            warehouse.run("clear", "DELETE FROM `${project}.${dataset}.seals` WHERE TRUE")


def test_a_seal_is_recorded_once_and_read_by_its_store(on: OnDuckDB | OnBigQuery) -> None:
    for seal in (SECOND, FIRST, FIRST, OTHER):
        record(on.warehouse, seal)
    assert recorded(on.warehouse, "store-1") == [FIRST, SECOND]
    assert recorded(on.warehouse, "store-2") == [OTHER]
    assert on.warehouse.query("SELECT COUNT(*) AS n FROM seals").rows == [(3,)]
    on.run("INSERT INTO `${project}.${dataset}.seals` SELECT * FROM `${project}.${dataset}.seals`")
    assert recorded(on.warehouse, "store-1") == [FIRST, SECOND], "two that sent one at the same time recorded it twice"


def test_what_a_warehouse_lacks_is_sent(on: OnDuckDB | OnBigQuery) -> None:
    record(on.warehouse, FIRST)
    assert send(on.warehouse, [FIRST, SECOND], "store-1") == 1
    assert send(on.warehouse, [FIRST, SECOND], "store-1") == 0
    assert recorded(on.warehouse, "store-1") == [FIRST, SECOND]


@pytest.mark.emulator
def test_a_dataset_of_an_earlier_release_gets_the_table_with_the_first_seal(emulator: Emulator, place: Dataset) -> None:
    with through(emulator, place) as (_, warehouse):
        OnBigQuery(emulator, place, warehouse).run("DROP TABLE `${project}.${dataset}.seals`")
        assert send(warehouse, [FIRST], "store-1") == 1
        assert recorded(warehouse, "store-1") == [FIRST]

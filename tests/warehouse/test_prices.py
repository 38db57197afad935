"""The price list in a warehouse: the last import of a price counts, on DuckDB and BigQuery alike."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ledger.model.prices import ModelPrice
from ledger.warehouse.base import Warehouse
from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse
from ledger.warehouse.prices import bring, recorded, send
from support.bigquery_warehouses import through
from support.histories import DAY

if TYPE_CHECKING:
    from ledger.warehouse.bigquery.settings import Dataset
    from support.emulator import Emulator

OLD = ModelPrice("m", date(2026, 1, 1), 1, 2)
OF_PROVIDER = ModelPrice("m", date(2026, 1, 1), 3, 4, 0, "p")
NEW = ModelPrice("m", date(2026, 3, 1), 5, 6, 0.5)
LATER = DAY + timedelta(days=1)


@pytest.fixture(
    params=[pytest.param("duckdb", marks=pytest.mark.duckdb), pytest.param("bigquery", marks=pytest.mark.emulator)]
)
def on(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Warehouse]:
    if request.param == "duckdb":
        yield DuckDBWarehouse(tmp_path / "w.duckdb")
        return
    with through(request.getfixturevalue("emulator"), request.getfixturevalue("place")) as (_, warehouse):
        send(warehouse, [], DAY, replace=True)
        yield warehouse


def test_the_last_import_of_a_price_counts_and_periods_end_where_the_next_one_begins(on: Warehouse) -> None:
    send(on, [NEW, OLD, OF_PROVIDER], DAY, replace=False)
    assert recorded(on) == [OLD, NEW, OF_PROVIDER]
    changed = ModelPrice("m", date(2026, 1, 1), 7, 8)
    for _ in range(2):  # as if the answer to the first request was lost
        send(on, [changed], LATER, replace=False)
    assert recorded(on) == [changed, NEW, OF_PROVIDER]
    answer = on.query(
        "SELECT provider, valid_from, valid_until, cached_input_usd_per_million AS cached FROM model_price_periods "
        "ORDER BY provider, valid_from"
    )
    assert answer.rows == [
        ("", date(2026, 1, 1), date(2026, 3, 1), 7.0),
        ("", date(2026, 3, 1), date(9999, 12, 31), 0.5),
        ("p", date(2026, 1, 1), date(9999, 12, 31), 0.0),
    ]


def test_a_list_is_replaced_also_by_an_empty_one_and_brought_where_it_differs(on: Warehouse) -> None:
    send(on, [OLD], DAY, replace=False)
    bring(on, [NEW], LATER)
    assert recorded(on) == [NEW]
    bring(on, [NEW], LATER)
    assert on.query("SELECT COUNT(*) AS n FROM model_prices").rows == [(1,)]
    send(on, [], LATER, replace=True)
    assert recorded(on) == []


@pytest.mark.emulator
def test_a_dataset_of_an_earlier_release_gets_the_table_with_the_first_import(
    emulator: Emulator, place: Dataset
) -> None:
    with through(emulator, place) as (_, warehouse):
        _drop(emulator, place)
        send(warehouse, [OLD], DAY, replace=False)
        assert recorded(warehouse) == [OLD]
        send(warehouse, [], DAY, replace=True)


def _drop(emulator: Any, place: Any) -> None:
    for kind, name in (("VIEW", "model_price_periods"), ("TABLE", "model_prices")):
        emulator.client.query_and_wait(f"DROP {kind} `{place.project}.{place.name}.{name}`")

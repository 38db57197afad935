"""The figures from which docs/cost.md is worked out are those of the benchmarks and of the model of what is billed."""

from __future__ import annotations

import re
import runpy
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ledger.formats.prices_csv import read_prices
from ledger.warehouse.bigquery.list_prices import query_usd, storage_usd

if TYPE_CHECKING:
    from support.emulator import Emulator

ROOT = Path(__file__).resolve().parents[2]
TABLES: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "cost_tables.py"))
#: MB of events of a day and in the buffer, of the two datasets.
DATASETS = (500, 100), (10, 5)


def test_the_tables_of_the_page_are_up_to_date() -> None:
    text = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
    assert text.count("<!-- table: ") == len(TABLES["TABLES"])
    assert TABLES["page"](text) == text, "run `make docs`"


def test_the_price_list_of_the_page_can_be_imported() -> None:
    text = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```csv\n(.*?)```", text, re.DOTALL)
    assert [price.model for price in read_prices(example.encode())] == ["embedding-model", *["small-model"] * 3]


def test_prices_are_by_tebibytes_and_by_gibibytes() -> None:
    assert query_usd(2**40) == 6.25
    assert storage_usd(2**30, 2**31) == pytest.approx(0.04)


@pytest.mark.duckdb
def test_an_event_has_as_many_bytes_as_those_of_the_benchmarks() -> None:
    rows = list(runpy.run_path(str(ROOT / "benchmarks" / "views.py"))["rows"](50))
    sizes = [sum(_logical_bytes(value) for value in row) for row in rows]
    assert round(sum(sizes) / len(sizes)) == TABLES["EVENT_BYTES"]


def _logical_bytes(value: Any) -> int:
    """The size of a value by BigQuery's rules: NULL has none, text has 2 bytes and its UTF-8, others have 8."""
    if value is None:
        return 0
    return 2 + len(value.encode()) if isinstance(value, str) else 8


@pytest.mark.slow
@pytest.mark.emulator
@pytest.mark.parametrize("place", [0, 1])
def test_operations_are_billed_what_the_page_says(emulator: Emulator, place: int) -> None:
    from service.billing import BytesBilled
    from service.bytes_billed import DATASET, Costs
    from service.layer import service

    billing = BytesBilled()
    with service(*emulator.bare, [billing]) as layer:
        costs = Costs(layer.rest, layer.grpc, billing, datetime.now(UTC).replace(hour=12))
        costs.run(365, *DATASETS[place])
    emulator.client.delete_dataset(DATASET, delete_contents=True)
    # The sizes of columns, of which the sessions that are stored have their shares, differ a little between runs.
    assert costs.billed == {name: pytest.approx(it[place], rel=0.02, abs=1) for name, it in TABLES["BILLED"].items()}

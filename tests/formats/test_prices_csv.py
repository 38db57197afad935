"""Price lists as CSV: what is written is read again, and each mistake is named with its line."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from ledger import InvalidInput, ModelPrice
from ledger.formats.prices_csv import csv_of, read_prices

HEADER = "model,valid_from,input_usd_per_million,output_usd_per_million\n"
PRICES = [
    ModelPrice("embed", date(2026, 1, 1), 0.02, 0),
    ModelPrice("small", date(2026, 1, 1), 0.15, 0.6, 0.075),
    ModelPrice('sm"all, ü', date(2026, 6, 1), 0.25, 2, provider="openai"),
]


def test_what_is_written_is_read_again() -> None:
    assert read_prices(csv_of(PRICES).encode()) == sorted(PRICES, key=lambda price: price.key)


def test_a_spreadsheets_file_is_read_with_its_mark_its_line_ends_and_its_empty_lines() -> None:
    text = "\ufeff" + HEADER.replace("\n", "\r\n") + " small ,2026-01-01, 1 ,2\r\n,,,\r\n"
    assert read_prices(text.encode()) == [ModelPrice("small", date(2026, 1, 1), 1, 2)]


def test_a_file_without_lines_has_no_prices() -> None:
    assert read_prices(HEADER.encode()) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "Line 1: model, valid_from, input_usd_per_million, output_usd_per_million missing."),
        (b"modell,valid_from\n", "Line 1: there is no column 'modell'. Did you mean model?"),
        (b"model,model\n", "Line 1: the column model is there twice"),
        ((HEADER + "m,2026-01-01,1\n").encode(), "Line 2: 3 values, and 4 columns."),
        ((HEADER + "m,1.1.2026,1,2\n").encode(), "Line 2: valid_from is '1.1.2026'; it must be a day such as"),
        ((HEADER + "m,2026-01-01,$1,2\n").encode(), "Line 2: input_usd_per_million is '$1'; it must be a number"),
        ((HEADER + "\nm,2026-01-01,1,-2\n").encode(), "Line 3: output_usd_per_million is -2.0; it must be from 0 to"),
        ((HEADER + "m,2026-01-01,nan,2\n").encode(), "Line 2: input_usd_per_million is nan; it must be from 0 to"),
        ((HEADER + ",2026-01-01,1,2\n").encode(), "Line 2: model is empty"),
        ((HEADER + "m,2026-01-01,1,2\n" * 2).encode(), "There are two prices of m from 2026-01-01 on; remove one."),
        ((HEADER + '"m,2026').encode(), "Line 2: this is not CSV"),
        (b"\xff\xfem\x00", "The file is not text in UTF-8"),
    ],
)
def test_a_mistake_is_named_with_its_line(content: bytes, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_prices(content)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "given",
    [
        {"model": 5},
        {"provider": " x"},
        {"valid_from": "2026-01-01"},
        {"input_usd_per_million": None},
        {"output_usd_per_million": True},
        {"cached_input_usd_per_million": float("inf")},
        {"input_usd_per_million": 1_000_001},
    ],
)
def test_a_price_of_another_type_or_size_is_refused(given: dict[str, Any]) -> None:
    right: dict[str, Any] = {
        "model": "m",
        "valid_from": date(2026, 1, 1),
        "input_usd_per_million": 1,
        "output_usd_per_million": 2,
    }
    with pytest.raises(InvalidInput):
        ModelPrice(**(right | given))

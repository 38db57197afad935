"""Price lists of language models as CSV: one line for each model and the day from which its prices hold."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import date

from ledger.errors import InvalidInput
from ledger.model.names import did_you_mean
from ledger.model.prices import ModelPrice, merged

REQUIRED = ("model", "valid_from", "input_usd_per_million", "output_usd_per_million")
#: The columns, in the order in which they are written.
COLUMNS = ("provider", *REQUIRED[:3], "cached_input_usd_per_million", REQUIRED[3])


def read_prices(content: bytes) -> list[ModelPrice]:
    """Return the prices in a CSV file, sorted.

    Args:
        content: The file, in UTF-8. Its first line names the columns, in any order; ``provider`` and
            ``cached_input_usd_per_million`` may be missing or empty. Empty lines are skipped.

    Raises:
        InvalidInput: The file has no such columns, a line is wrong, or two lines have the same provider, model and
            first day. The message names the line.
    """
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        columns = [name.strip() for name in next(reader, [])]
        _check_columns(columns)
        prices = [_price(columns, row, reader.line_num) for row in reader if any(map(str.strip, row))]
    except UnicodeDecodeError as error:
        raise InvalidInput("The file is not text in UTF-8; save it as CSV in UTF-8.") from error
    except csv.Error as error:
        raise InvalidInput(f"Line {reader.line_num}: this is not CSV: {error}.") from error
    return merged((), prices)


def csv_of(prices: Iterable[ModelPrice]) -> str:
    """Return prices as a CSV file, which ``read_prices`` reads again."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for price in prices:
        writer.writerow(["" if (value := getattr(price, name)) is None else value for name in COLUMNS])
    return buffer.getvalue()


def _check_columns(columns: list[str]) -> None:
    listed = f"The columns are {', '.join(COLUMNS)}."
    for name in columns:
        if name not in COLUMNS:
            raise InvalidInput(f"Line 1: there is no column {name[:70]!r}. {did_you_mean(name, COLUMNS, listed)}")
        if columns.count(name) > 1:
            raise InvalidInput(f"Line 1: the column {name} is there twice; remove one.")
    if missing := [name for name in REQUIRED if name not in columns]:
        raise InvalidInput(f"Line 1: {', '.join(missing)} missing. {listed}")


def _price(columns: list[str], row: list[str], line: int) -> ModelPrice:
    if len(row) != len(columns):
        raise InvalidInput(f"Line {line}: {len(row)} values, and {len(columns)} columns.")
    cells = {name: cell.strip() for name, cell in zip(columns, row, strict=True)}
    try:
        cached = cells.get("cached_input_usd_per_million", "")
        return ModelPrice(
            cells["model"],
            _day(cells["valid_from"]),
            _number(cells, "input_usd_per_million"),
            _number(cells, "output_usd_per_million"),
            _number(cells, "cached_input_usd_per_million") if cached else None,
            cells.get("provider", ""),
        )
    except InvalidInput as error:
        raise InvalidInput(f"Line {line}: {error}") from error


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"valid_from is {text[:40]!r}; it must be a day such as 2026-11-30.") from error


def _number(cells: dict[str, str], name: str) -> float:
    text = cells[name]
    try:
        return float(text)
    except ValueError as error:
        raise InvalidInput(f"{name} is {text[:40]!r}; it must be a number such as 1.25, without a currency.") from error

"""CSV for files, pipes and spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import chain
from typing import Any

import click

from ledger.cli.output.text import safe

#: First characters of a cell that a spreadsheet takes for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

with_csv_safe = click.option(
    "--csv-safe",
    is_flag=True,
    help="With --format csv, put an apostrophe before text that a spreadsheet would run as a formula: text that begins "
    "with =, +, -, @, a tab or a carriage return.",
)


def check_csv_safe(csv_safe: bool, form: str) -> None:
    """Raise UsageError if --csv-safe is given without --format csv."""
    if csv_safe and form != "csv":
        raise click.UsageError("--csv-safe requires --format csv.", click.get_current_context())


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, csv_safe: bool) -> None:
    """Print a header and rows as CSV. Control characters other than newline and tab are escaped, as in ``\\u001b``.

    Args:
        columns: The names of the columns.
        rows: The values of each row, in this order.
        csv_safe: True to put an apostrophe before text that a spreadsheet would run as a formula.
    """
    click.echo("".join(csv_lines(columns, rows, csv_safe=csv_safe)), nl=False)


def csv_lines(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, csv_safe: bool) -> Iterator[str]:
    """Yield a header and rows as CSV, each with its line break; see ``print_csv``."""
    from ledger.cli.output.tables import cell  # loads rich, which --help does without

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in chain([columns], rows):
        writer.writerow([_shown(value, cell(value), csv_safe) for value in row])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _shown(value: Any, text: str, csv_safe: bool) -> str:
    is_formula = csv_safe and not isinstance(value, int | float | Decimal) and text.startswith(_FORMULA)
    return safe(f"'{text}" if is_formula else text)

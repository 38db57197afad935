"""Tables and facts as text. A table in a file or a pipe has one line per row, and nothing of it is cut."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.measure import Measurement
from rich.padding import Padding
from rich.rule import Rule
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ledger.cli.output.shapes import json_text, with_float_texts
from ledger.cli.output.text import one_line, plain, safe
from ledger.settings import TERMINAL_COLUMNS

#: Width of the output if it is a file or pipe: no line is as long.
_ANY = 1_000_000_000
#: Width of a line across the page if the output is a file or pipe.
_PAGE = 80
#: If a column that may wrap would be narrower than this, each value of a table is printed on its own line.
_NARROWEST = 11
#: A column is not wrapped if none of its values has spaces or is longer than this, so that ids and times stay whole.
_WHOLE = 40
#: In a file or pipe, values up to this length are padded, so that columns are aligned.
_ALIGNED = 60


def has_any_width() -> bool:
    """Return True if lines may have any length: stdout is a file or pipe, and COLUMNS is not set."""
    return console().width == _ANY


def console() -> Console:
    """Return a console on stdout that prints text as it is: no markup, no emoji codes, and no highlighting."""
    stdout = Console(markup=False, highlight=False, emoji=False)
    if not stdout.is_terminal and not TERMINAL_COLUMNS.is_set():
        stdout.width = _ANY
    return stdout


def emit(*parts: RenderableType) -> None:
    """Print each part to stdout. If stdout is not a terminal, spaces at the end of a line are removed.

    A table that is wider than the terminal is printed wider, so that its ids are whole.
    """
    out = console()
    out.width = max(out.width, *(_fixed_width(part) for part in parts if isinstance(part, Table)), 0)
    if out.is_terminal:
        out.print(*parts, sep="\n")
        return
    with out.capture() as captured:
        out.print(*parts, sep="\n")
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def shortened(text: str, width: int) -> str:
    """Return a text on one line. It is cut to ``width`` characters unless the output is a file or pipe."""
    return one_line(text, None if has_any_width() else width)


def drawn(mark: str, fallback: str) -> str:
    """Return a mark, or ``fallback`` if the encoding of stdout lacks it."""
    try:
        mark.encode(console().encoding)
    except (LookupError, UnicodeEncodeError):
        return fallback
    return mark


def table_of(*columns: str) -> Table:
    """Return a table without rows and borders. If the terminal is too narrow, only the last column shrinks.

    Args:
        columns: Headings of the columns. A column whose heading starts with ``>`` is aligned to the right.
    """
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        right = column.startswith(">")
        # Rich shrinks only the columns that may wrap. The cells of the last column are truncated by ``cut``.
        last = column is columns[-1]
        table.add_column(plain(column.removeprefix(">")), justify="right" if right else "left", no_wrap=not last)
    return table


def cut(text: Text) -> Text:
    """Return the text after setting it to end with an ellipsis if it is wider than its column."""
    text.no_wrap = True
    text.overflow = "ellipsis"
    return text


def rows_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> RenderableType:
    """Return rows as a table, or as one line per value if the columns of the table would be too narrow.

    On a terminal, an object or array is cut at the end of its line. In a file or pipe, each row is one line.
    """
    cells = [[cell(value) for value in row] for row in rows]
    if has_any_width():
        return _Lines([list(columns), *cells])
    is_json = [[isinstance(value, dict | list | tuple) for value in row] for row in rows]
    whole = [
        not any(each[at] for each in is_json) and all(_is_word(row[at]) for row in cells) for at in range(len(columns))
    ]
    widths = [max(map(cell_len, [name, *(row[at] for row in cells)])) for at, name in enumerate(columns)]
    needed = sum((width if fixed else min(width, _NARROWEST)) + 2 for width, fixed in zip(widths, whole, strict=True))
    shown = [[_shown(*pair) for pair in zip(*row, strict=True)] for row in zip(cells, is_json, strict=True)]
    if needed - 2 > console().width:
        records = [facts(*zip(columns, row, strict=True)) for row in shown]
        return Group(*(part for record in records for part in (rule(), record)))
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column, fixed in zip(columns, whole, strict=True):
        table.add_column(plain(column), overflow="fold", no_wrap=fixed)
    for row in shown:
        table.add_row(*row)
    return table


def cell(value: Any) -> str:
    """Return a value as text for a table or CSV.

    A string is returned as it is, and None as an empty string. A time is formatted as in RFC 3339, a float that is no
    finite number as in GoogleSQL: ``inf``, ``-inf``, ``nan``. Any other value is formatted as JSON.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = json_text(value, indent=False)
    if "null" in text:  # which is also what orjson writes of NaN
        text = json_text(with_float_texts(value), indent=False)
    return text if isinstance(value, dict | list | tuple) else text.strip('"')


def facts(*pairs: tuple[str, str | Text | None]) -> Table:
    """Return a table of pairs of a name and a value, one pair per line. A pair whose value is None is left out."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None:
            table.add_row(name, plain(value) if isinstance(value, str) else value)
    return table


def indented(part: RenderableType) -> Padding:
    """Return the part indented by two characters."""
    return Padding(part, (0, 0, 0, 2), expand=False)


def rule(name: str = "", note: str = "") -> RenderableType:
    """Return a line across the page that begins with a name and a note."""
    title = Text.assemble(plain(name, "bold"), plain(f"  {note}", "dim") if note else "")
    line = Rule(title, align="left", style="dim")
    return Constrain(line, _PAGE) if has_any_width() else line


class _Lines:
    """A table for a file or pipe. The first row is the header; a longer value moves the rest of its line."""

    def __init__(self, rows: Iterable[Sequence[str]]) -> None:
        # A line break within a value is written as \n, so that each row is one line.
        escaped = [[safe(text).replace("\n", "\\n").replace("\t", "\\t") for text in row] for row in rows]
        columns = zip(*escaped, strict=True)
        widths = [max((wide for wide in map(cell_len, column) if wide <= _ALIGNED), default=0) for column in columns]
        self._lines = [
            "".join(
                text + " " * (2 + max(0, width - cell_len(text))) for text, width in zip(row, widths, strict=True)
            ).rstrip()
            for row in escaped
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self._lines:
            yield Segment(line)
            yield Segment.line()

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        width = max(map(cell_len, self._lines), default=0)
        return Measurement(width, width)


def _is_word(text: str) -> bool:
    return len(text) <= _WHOLE and not any(map(str.isspace, text))


def _shown(text: str, is_json: bool) -> Text:
    shown = plain(text)
    return cut(shown) if is_json else shown


def _fixed_width(table: Table) -> int:
    """Return the width of the columns of a table that never shrink, and of the beginning of the others."""
    return sum(max(map(_width, column.cells), default=0) + 2 if column.no_wrap else 2 for column in table.columns)


def _width(part: RenderableType) -> int:
    return part.cell_len if isinstance(part, Text) else len(str(part))

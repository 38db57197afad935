"""HTML of sessions, pages and answers for notebooks. What was recorded is data: it is escaped, and never markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from ledger.errors import InvalidInput
from ledger.model.values import canonical

#: Maximum number of characters of a value, and of rows of a table, that are shown.
_CHARACTERS, _ROWS = 300, 100


def html_of(value: Any) -> str:
    """Return a value as escaped text, cut to 300 characters.

    Text stays as it is, and other JSON values become JSON. What else SQL has (times, decimals, bytes, NaN) is shown as
    ``str`` gives it.
    """
    try:
        text = "" if value is None else value if isinstance(value, str) else canonical(value)
    except InvalidInput:
        text = str(value)
    return escape(text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}…").replace("\n", "<br>")


def html_of_object(title: str, values: Mapping[str, Any]) -> str:
    """Return a table with a row for each value that is neither None nor empty."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{html_of(value)}</td></tr>"
        for name, value in values.items()
        if value not in (None, "", [], {})
    )
    return f"<table><caption>{escape(title)}</caption>{rows}</table>"


def html_of_table(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a table with a column for each key that has a value in some row; 100 rows are shown at most."""
    used = {name: None for row in rows[:_ROWS] for name, value in row.items() if value not in (None, "", [], {})}
    return html_of_rows(title, tuple(used), [[row.get(name) for name in used] for row in rows[: _ROWS + 1]])


def html_of_rows(title: str, columns: Iterable[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table with the given columns; 100 rows are shown at most."""
    body = "".join(f"<tr>{_cells('td', map(html_of, row))}</tr>" for row in rows[:_ROWS])
    cut = f" The first {_ROWS} are shown." if len(rows) > _ROWS else ""
    head = f"<thead><tr>{_cells('th', map(escape, columns))}</tr></thead>"
    return f"<table><caption>{escape(title)}{cut}</caption>{head}<tbody>{body}</tbody></table>"


def _cells(tag: str, cells: Iterable[str]) -> str:
    return "".join(f"<{tag} style='text-align:left'>{cell}</{tag}>" for cell in cells)

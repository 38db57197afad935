"""HTML pages that people keep and pass on: one file, nothing loaded from elsewhere, no script.

What was recorded is data: every text is escaped. The page forbids a browser to load or run anything, and allows its
own style sheet by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from html import escape
from typing import Any

#: Maximum number of rows of a table.
ROWS = 1000
#: Maximum number of rows of a table that is open.
_OPEN_ROWS = 12
#: Maximum number of characters of a value in a table.
_CHARACTERS = 300
_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --muted: #59636e; --line: #d8dee4; --page: #fff; --soft: #f6f8fa;
  --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --muted: #9aa4af; --line: #3a424b; --page: #14181d; --soft: #1d232a; --link: #7cc0ff; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 3rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 0; }
a { color: var(--link); }
p { margin: .25rem 0; }
.note, footer { color: var(--muted); }
nav { margin: 1rem 0 0; }
nav ul { list-style: none; margin: 0; padding: 0; columns: 2; }
section { margin-top: 2.5rem; }
figure { margin: .75rem 0; overflow-x: auto; }
figure svg { display: block; max-width: 100%; height: auto; overflow: visible; }
svg .ink { fill: var(--ink); }
svg .muted { fill: var(--muted); }
svg .line { stroke: var(--line); }
.numbers { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.numbers div { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem; }
.numbers dt { color: var(--muted); font-size: .85rem; }
.numbers dd { margin: 0; font-size: .85rem; color: var(--muted); overflow-wrap: anywhere; }
.numbers dd:first-of-type { color: var(--ink); font-size: 1.45rem; font-weight: 600; line-height: 1.3; }
summary { cursor: pointer; color: var(--link); }
.table { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); padding-bottom: .25rem; }
th, td { padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td { max-width: 24rem; overflow-wrap: break-word; }
th { vertical-align: bottom; color: var(--muted); font-weight: 600; }
.number { text-align: right; }
td.number { white-space: nowrap; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .75rem; font-size: .85rem; }
@media (max-width: 40rem) { nav ul { columns: 1; } }
@media print {
  :root { --ink: #000; --muted: #444; --line: #d0d0d0; --page: #fff; --soft: #fff; --link: #000; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  h2, figure, .numbers div, tr { break-inside: avoid; }
  h2, .note { break-after: avoid; }
  details:not([open]) { display: none; }
  table { font-size: .72rem; }
  th, td { padding-right: .5rem; }
  summary { list-style: none; color: var(--muted); }
  a { text-decoration: none; }
}
"""
#: Characters that change what a reader sees: control characters, and marks of the writing direction.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]")


def html(text: str) -> str:
    """Return text as HTML."""
    lines = text.replace("\r\n", "\n")
    return escape(_UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", lines))


def page(title: str, body: str, *, style: str = _STYLE) -> str:
    """Return an HTML document, which may use its own style sheet and nothing else.

    Args:
        title: The title, as plain text.
        body: The content as HTML, in which all data is escaped.
        style: The style sheet.
    """
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-{digest}'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n"
        "</html>\n"
    )


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table as HTML that can be folded, and is if it is long. At most 1,000 rows are shown.

    Args:
        caption: What the rows are, as plain text.
        columns: The column names.
        rows: The rows. A column whose values are numbers is aligned to the right.
    """
    shown = rows[:ROWS]
    numeric = [
        any(map(_is_number, values)) and all(value is None or _is_number(value) for value in values)
        for values in zip(*shown, strict=True)
    ] or [False] * len(columns)
    marks = [' class="number"' if is_number else "" for is_number in numeric]
    head = "".join(f'<th scope="col"{mark}>{html(name)}</th>' for name, mark in zip(columns, marks, strict=True))
    body = "\n".join(
        f"<tr>{''.join(f'<td{mark}>{cell(value)}</td>' for value, mark in zip(row, marks, strict=True))}</tr>"
        for row in shown
    )
    count = f"{len(rows):,} row{'' if len(rows) == 1 else 's'}"
    cut = f", the first {ROWS:,} shown" if len(rows) > ROWS else ""
    is_open = " open" if len(rows) <= _OPEN_ROWS else ""
    return (
        f'<details{is_open}><summary>Table: {count}{cut}</summary>\n<div class="table"><table>'
        f"<caption>{html(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
        "</details>"
    )


def cell(value: Any) -> str:
    """Return a value of a table as escaped text: numbers with separators, no more digits than people read."""
    if value is None:
        return "-"
    if isinstance(value, float):
        whole = abs(value) >= 1000 or value.is_integer()
        return f"{value:,.0f}" if whole else f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, date):
        return value.isoformat()
    text = str(value)
    return html(text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}…")


def numbers(facts: Iterable[tuple[str, str, str]]) -> str:
    """Return numbers that stand out: what each is, its value and a note, all as plain text."""
    return (
        '<dl class="numbers">'
        + "".join(
            f"<div><dt>{html(name)}</dt><dd>{html(value)}</dd><dd>{html(note)}</dd></div>"
            for name, value, note in facts
        )
        + "</dl>"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

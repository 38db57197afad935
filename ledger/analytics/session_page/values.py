"""Recorded values as HTML: escaped, in short if they are long, and with a word where nothing is left of them.

What agents record is data. Besides markup, characters that would change what a reader sees are written as escapes:
control characters, and marks of the writing direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

import orjson

from ledger.analytics.pages import html
from ledger.model.events import RecordedChange

T = TypeVar("T")
#: What stands for a value that was erased.
ERASED = '<span class="erased">erased</span>'


def text_of(value: Any) -> str:
    """Return a JSON value as text: a string as it is, any other value as indented JSON."""
    if isinstance(value, str):
        return value
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()


def cut_html(text: str, characters: int) -> str:
    """Return the beginning of a text as HTML, and a note of how much is left out."""
    left = len(text) - characters
    if left <= 0:
        return html(text)
    return f'{html(text[:characters])}<span class="cut">… {left:,} more characters</span>'


def value_html(value: Any, characters: int) -> str:
    """Return a JSON value as HTML of at most this many characters."""
    return cut_html(text_of(value), characters)


def one_line_html(value: Any, characters: int) -> str:
    """Return a JSON value as HTML on one line, of at most this many characters."""
    text = value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    line = " ".join(text[: 4 * characters].split())
    return html(line if len(line) <= characters and len(text) <= 4 * characters else f"{line[:characters]}…")


def content_html(content: Any, characters: int) -> str:
    """Return the content of a message as HTML: text, or a list of parts, of which texts are shown as such."""
    if content is None:
        return '<span class="muted">no content</span>'
    return value_html(content_text(content), characters)


def content_text(content: Any) -> Any:
    """Return the content of a message as text if it is text, or a list of texts; any other content as it is."""
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    is_text = bool(parts) and all(isinstance(text, str) for text in texts)
    return "\n\n".join(map(str, texts)) if is_text else content


def change_html(change: RecordedChange | None, characters: int, *, one_line: bool = False) -> str:
    """Return what a change left in its register as HTML; empty if it left nothing."""
    if change is None or change.removed:
        return ""
    if change.text is None:
        return ERASED
    return one_line_html(change.value, characters) if one_line else value_html(change.value, characters)


def time_html(at: datetime, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a time in UTC as HTML, with all its digits as the title."""
    whole = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return f'<time datetime="{whole}" title="{whole}">{at.strftime(form)}</time>'


def ends(items: Sequence[T], most: int) -> tuple[Sequence[T], int, Sequence[T]]:
    """Return the beginning and the end of a long list, and the number of items left out between them.

    Args:
        items: The list.
        most: Maximum number of items in both parts; the beginning has a fifth of them.
    """
    if len(items) <= most:
        return items, 0, items[:0]
    first = most // 5
    return items[:first], len(items) - most, items[len(items) - (most - first) :]

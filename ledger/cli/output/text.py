"""Text for terminals. What agents wrote is data: nothing in it may move the cursor, hide a line or pass for markup."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ledger.model.values import canonical

if TYPE_CHECKING:
    from rich.text import Text

#: Controls other than line break and tab, marks that turn the direction of writing, and separators that break lines.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def safe(text: str) -> str:
    """The text with every control character written out as an escape: ``\\u001b``."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def one_line(text: str, width: int | None = None) -> str:
    """The text on one line, cut to ``width`` characters with an ellipsis where it is longer."""
    line = " ".join(safe(text if width is None else text[: 4 * width]).split())
    return line if width is None or len(line) <= width else line[: max(width - 1, 0)] + "…"


def shown(value: Any) -> str:
    """A value as people read it: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else canonical(value)


def plain(text: str, style: str = "") -> Text:
    """The text for rich, safe and never read as markup."""
    from rich.text import Text

    return Text(safe(text), style=style)

"""Text that is safe to print on a terminal.

Text recorded by agents is untrusted. When it is printed, it must not move the cursor, hide a line or act as markup.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from ledger.model.values import canonical

if TYPE_CHECKING:
    from rich.text import Text

#: The characters to escape: bidirectional marks, line separators, surrogates, and control characters except newline
#: and tab.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def safe(text: str) -> str:
    """Return the text with control characters escaped, as in ``\\u001b``."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def open_closed() -> None:
    """Give the process a stdout and a stderr that discard what is written, if it was started without them (``>&-``)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # as Python does not open a file for a closed descriptor
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as the process


def escape_unshown() -> None:
    """Have stdout and stderr escape the characters that their encoding lacks, as in ``\\u65e5``.

    A character above U+FFFF becomes two escapes, as in JSON, so that JSON stays what it is.
    """
    codecs.register_error("ledger_escapes", _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="ledger_escapes")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    escapes = [f"\\u{int.from_bytes(units[at : at + 2]):04x}" for at in range(0, len(units), 2)]
    return "".join(escapes), error.end


def one_line(text: str, width: int | None = None) -> str:
    """Return the text on one line, with control characters escaped and white space collapsed to single spaces.

    Args:
        text: The text.
        width: Maximum length, or None for no maximum. A longer line is truncated, and ends with an ellipsis.
    """
    line = " ".join(safe(text if width is None else text[: 4 * width]).split())
    return line if width is None or len(line) <= width else line[: max(width - 1, 0)] + "…"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number and a noun: ``1 row``, ``1,217 rows``. ``plural`` is needed unless it is the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def shown(value: Any) -> str:
    """Return a string unchanged, and any other value as JSON."""
    return value if isinstance(value, str) else canonical(value)


def plain(text: str, style: str = "") -> Text:
    """Return the text as a ``Text`` of the package rich. Control characters are escaped; markup has no effect."""
    from rich.text import Text

    return Text(safe(text), style=style)

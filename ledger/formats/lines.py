"""Reading of JSON Lines, and of what people have instead: a byte order mark, UTF-16, arrays, indented JSON.

Whatever the form, the input is read as records, each of which is the JSON text of one value. A line is usually one
record. Only input whose first value goes on over several lines is read into memory as a whole.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ledger.errors import InvalidInput
from ledger.formats.batches import Place
from ledger.formats.recognition import binary_kind
from ledger.formats.refusals import Refuse, end_import, locate

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SPACE = re.compile(r"\s*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Record:
    """The JSON text of one value.

    Attributes:
        line: Number of the line on which the value begins.
        item: Number of the value in an array, from 1; None if it is not in one.
    """

    line: int
    text: bytes
    item: int | None = None

    @property
    def place(self) -> Place:
        """The position for messages."""
        return Place(self.line, self.item)

    @property
    def where(self) -> str:
        """The position as text."""
        return self.place.where


def records(
    lines: Iterable[bytes],
    *,
    seen: Callable[[bytes], object] = lambda line: None,
    refuse: Refuse = end_import,
) -> Iterator[Record]:
    """Yield the values of an input. Blank lines are skipped. The texts are not checked, if each value has one line.

    Args:
        lines: Lines in UTF-8, or in UTF-16 with a byte order mark.
        seen: Called with each line as it is read, to display progress.
        refuse: Called if a value over several lines is not valid JSON. The rest of the input is not read.

    Raises:
        InvalidInput: The input is not text, but for example a database or a compressed file.
    """
    numbered = enumerate(_utf8(_watched(lines, seen)), 1)
    filled = ((number, line) for number, line in numbered if line.strip())
    first = next(filled, None)
    if first is None:
        return
    second = next(filled, None)
    ahead = [first] if second is None else [first, second]
    if _goes_on(*(line for _, line in ahead)):
        # Line breaks within the text are kept, so that a position in it tells the line.
        yield from _values(first[0], _whole(first[0], chain(ahead, filled)), refuse)
        return
    for number, line in chain(ahead, filled):
        yield Record(number, line)


def first_item(record: Record) -> Any:
    """Return the first item of a record that is an array; None if it is no array, or the item is not valid JSON."""
    if not record.text.lstrip().startswith(b"["):
        return None
    text = record.text.decode(errors="surrogateescape")
    try:
        return _DECODER.raw_decode(text, _skip(text, _skip(text, 0) + 1))[0]
    except (ValueError, RecursionError):
        return None


def items(record: Record) -> Iterator[Record]:
    """Yield the items of a record that is an array with items, or else the record itself."""
    if not record.text.lstrip().startswith(b"["):
        yield record
        return
    text = record.text.decode(errors="surrogateescape")
    try:
        spans = list(_spans(text))
    except ValueError:  # whoever decodes the record says what is wrong with it
        spans = []
    line, at = record.line, 0
    for number, (start, end) in enumerate(spans, 1):
        line, at = line + text.count("\n", at, start), start
        yield Record(line, text[start:end].encode(errors="surrogateescape"), number)
    if not spans:
        yield record


def _watched(lines: Iterable[bytes], seen: Callable[[bytes], object]) -> Iterator[bytes]:
    for line in lines:
        seen(line)
        yield line


def _utf8(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield lines in UTF-8 without a byte order mark."""
    first = next(lines, b"")
    if first.startswith(_UTF_16):
        yield from _decoded(chain([first], lines))
        return
    if (kind := binary_kind(first)) is not None:
        raise InvalidInput(f"Line 1: {kind}")
    yield first.removeprefix(codecs.BOM_UTF8)
    yield from lines


def _decoded(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of UTF-16 text, whose bytes were cut at each byte that is a line break in ASCII."""
    decoder = codecs.getincrementaldecoder("utf-16")()
    parts: list[str] = []  # of a line: many, if its characters have the byte of a line break, as U+0A05 does
    try:
        for piece in chain(lines, (None,)):
            end, *begun = decoder.decode(piece or b"", final=piece is None).split("\n")
            parts.append(end)
            for part in begun:
                yield f"{''.join(parts)}\n".encode(errors="surrogatepass")
                parts = [part]
    except UnicodeDecodeError as error:
        raise InvalidInput(f"Line 1: the file begins as UTF-16, but is not valid UTF-16: {error}.") from error
    yield "".join(parts).encode(errors="surrogatepass")


def _goes_on(first: bytes, second: bytes = b"") -> bool:
    """Return True if the input is one value, or several, over many lines."""
    opening = first.strip()
    if not second or opening[:1] not in (b"[", b"{") or _is_json(first):
        return False
    # A line that is only damaged is followed by lines that are whole.
    return opening in (b"[", b"{", b"[{", b"[[") or second.strip()[:1] not in (b"[", b"{") or not _is_json(second)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _whole(start: int, numbered: Iterable[tuple[int, bytes]]) -> str:
    """Return the lines as one text, in which blank lines that were skipped are blank again."""
    parts, at = [], start
    for number, line in numbered:
        parts.append(b"\n" * (number - at))
        parts.append(line.rstrip(b"\r\n") + b"\n")
        at = number + 1
    return b"".join(parts).decode(errors="surrogateescape")


def _values(line: int, text: str, refuse: Refuse) -> Iterator[Record]:
    """Yield the values that a text consists of."""
    position, at = _skip(text, 0), 0
    while position < len(text):
        line, at = line + text.count("\n", at, position), position
        try:
            end = _end(text, position)
        except ValueError as error:
            broken = InvalidInput(
                f"invalid JSON: {error}. The value that begins here goes on over several lines, so what follows cannot "
                "be read."
            )
            locate(broken, f"Line {line}")
            refuse(broken)
            return
        yield Record(line, text[position:end].encode(errors="surrogateescape"))
        position = _skip(text, end)


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each item of an array.

    Raises:
        ValueError: The text is not one array.
    """
    position = _skip(text, _skip(text, 0) + 1)
    while not text.startswith("]", position):
        end = _end(text, position)
        yield position, end
        position = _skip(text, end)
        if text.startswith(",", position):
            position = _skip(text, position + 1)
        elif not text.startswith("]", position):
            raise ValueError(f"no comma or bracket at character {position}")
    if _skip(text, position + 1) < len(text):
        raise ValueError(f"more than one value at character {position}")


def _end(text: str, position: int) -> int:
    """Return where the JSON value ends that begins at ``position``; raise ValueError if it is invalid."""
    try:
        return _DECODER.raw_decode(text, position)[1]
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return position if found is None else found.end()

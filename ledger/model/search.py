"""Search: which words a text holds, what is looked for, and where it stands. One rule, whichever store finds it.

A word is a run of letters, marks and digits (Unicode's L, M and N) that begins with no mark; everything else parts
words. Case does not count, accents do. Scripts that are written without blanks have no words within a run.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple

from ledger.errors import CorruptEvent, InvalidInput
from ledger.model.fields import FIELDS
from ledger.model.instants import to_micros
from ledger.model.values import canonical, decode

#: The fields whose texts are searched.
SEARCHED_FIELDS = tuple(sorted(field.name for field in FIELDS.values() if field.searched))
#: Characters that may be looked for at once.
MAX_TEXT = 1000
#: Characters of a snippet, and how many of them stand before what was found.
SNIPPET, BEFORE = 160, 40
#: Where marks are among the code points.
_MARKS = (range(0x300, 0x20000), range(0xE0100, 0xE01F0))
_PLAIN = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Match:
    """A text that was found.

    Attributes:
        session_id, user_id: Its session, and whose that is.
        field: One of ``SEARCHED_FIELDS``: ``message``, ``question``, ``summary`` or ``title``.
        key: The id of a message; else empty.
        version: At which it was written.
        created_at: When the session began.
        snippet: The text around the first hit on one line, shortened where there is an ellipsis.
    """

    session_id: str
    user_id: str
    field: str
    key: str
    version: int
    created_at: datetime
    snippet: str


class SearchCursor(NamedTuple):
    """Where a match stands in the order of matches: the newest session first, in it the lowest version first."""

    created_at: int  # microseconds
    session_id: str
    version: int
    field: str
    key: str

    def to_text(self) -> str:
        """The place as a page's ``next``."""
        return base64.urlsafe_b64encode(canonical(list(self)).encode()).decode().rstrip("=")

    @classmethod
    def of_match(cls, match: Match) -> SearchCursor:
        """The place of a match."""
        return cls(to_micros(match.created_at), match.session_id, match.version, match.field, match.key)

    @classmethod
    def of(cls, after: str) -> SearchCursor:
        """The place that a page's ``next`` names.

        Raises:
            InvalidInput: No page gave it.
        """
        try:
            padded = after + "=" * (-len(after) % 4)
            place = cls(*decode(base64.b64decode(padded, altchars="-_", validate=True)))
        except (TypeError, ValueError, CorruptEvent):
            place = None
        kinds = None if place is None else tuple(type(part) for part in place)
        if place is None or kinds != (int, str, int, str, str) or not _fits(place):
            raise InvalidInput(f"after must be the next of an earlier page, not {str(after)[:70]!r}.")
        return place


def _fits(place: SearchCursor) -> bool:
    return abs(place.created_at) < 2**60 and abs(place.version) < 2**63


@dataclass(frozen=True, slots=True)
class Terms:
    """What is looked for: every term must occur. A term is a word, or several in a row with a blank between them."""

    terms: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Terms:
        """The words of a text; those between two double quotes are one term, and nothing else is syntax.

        Raises:
            InvalidInput: It has no word, or is longer than ``MAX_TEXT``.
        """
        if not isinstance(text, str):
            raise InvalidInput(f"The text to look for must be text, not {type(text).__name__}.")
        if len(text) > MAX_TEXT:
            raise InvalidInput(f"The text to look for has {len(text):,} characters; at most {MAX_TEXT:,} are allowed.")
        parts = text.split('"')
        found: list[str] = []
        for place, part in enumerate(parts):
            quoted = place % 2 == 1 and place < len(parts) - 1  # a last quote that is never closed quotes nothing
            found += [" ".join(words(part))] if quoted else words(part)
        terms = tuple(dict.fromkeys(term for term in found if term))
        if not terms:
            raise InvalidInput("The text to look for has no word in it; give letters or digits.")
        return cls(terms)

    @property
    def single(self) -> tuple[str, ...]:
        """Every word by itself."""
        return tuple(dict.fromkeys(word for term in self.terms for word in term.split()))

    def in_text(self, text: str) -> bool:
        """Whether a text has all of them."""
        held = f" {' '.join(words(text))} "
        return all(f" {term} " in held for term in self.terms)

    def snippet(self, text: str) -> str:
        """A text around the first term that it has, on one line."""
        start = self._first(text)
        begin = max(0, start - BEFORE)
        if begin:
            blanks = (place for place in range(begin, start) if text[place].isspace())
            begin = next(blanks, begin)
        line = " ".join(text[begin : start + 4 * SNIPPET].split())
        if begin:
            line = f"…{line}"
        whole = len(line) <= SNIPPET and start + 4 * SNIPPET >= len(text)
        return line if whole else f"{line[: SNIPPET - 1].rstrip()}…"

    def _first(self, text: str) -> int:
        """Where in a text the first term begins; 0 where it has none."""
        rows = [term.split() for term in self.terms]
        last: deque[tuple[str, int]] = deque(maxlen=max(map(len, rows)))
        for found in _word(text).finditer(text):
            last.append((_folded(found[0]), found.start()))
            for row in rows:
                tail = list(last)[-len(row) :]
                if [word for word, _ in tail] == row:
                    return tail[0][1]
        return 0


def words(text: str) -> list[str]:
    """The words of a text in order, in the case in which they are compared."""
    folded = _folded(text)
    return _word(folded).findall(folded)


def text_of(field: str, value: Any) -> str:
    """The text of a value that is searched; of a message its content, or the texts of the parts of it.

    Args:
        field: One of ``SEARCHED_FIELDS``.
        value: As it was recorded; None where it was erased.
    """
    if field == "message":
        value = value.get("content") if isinstance(value, Mapping) else None
    if field == "message" and isinstance(value, list):
        texts = [part.get("text") for part in value if isinstance(part, Mapping)]
        return "\n".join(text for text in texts if isinstance(text, str))
    return value if isinstance(value, str) else ""


def _folded(text: str) -> str:
    """In lower case, character for character, as SQL has it: Python's depends on what stands beside a sigma."""
    lower = text.lower()
    return lower if lower.isascii() else lower.replace("\u03c2", "\u03c3").replace("i\u0307", "i")


def _word(text: str) -> re.Pattern[str]:
    """What matches a word of this text; plain text needs no table of marks."""
    return _PLAIN if text.isascii() else _word_with_marks()


@cache
def _word_with_marks() -> re.Pattern[str]:
    """Python's regular expressions know no marks: letters and digits alone would cut words of many scripts."""
    marks = [code for codes in _MARKS for code in codes if unicodedata.category(chr(code))[0] == "M"]
    runs = [[code for _, code in run] for _, run in groupby(enumerate(marks), lambda pair: pair[1] - pair[0])]
    table = "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)
    return re.compile(rf"[^\W_](?:[^\W_]|[{table}])*")

"""Full-text search: words, search terms, matches and snippets. The rules are the same in all stores.

A word is a run of letters, marks and digits (Unicode's L, M and N) that does not start with a mark; all other
characters separate words. Matching ignores case, but not accents. In scripts written without spaces, a whole
run of characters is one word.

Words are compared in Unicode's normal form NFC, so a word is found whether its accents are part of its letters or marks
that follow them. Characters that only resemble each other (compatibility forms, such as full-width letters) differ:
BigQuery could fold them, a DuckDB file cannot, and folding joins signs such as a trade mark to the word before.
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
from ledger.model.values import canonical, decode, full_name

#: Names of the searched fields.
SEARCHED_FIELDS = tuple(sorted(field.name for field in FIELDS.values() if field.searched))
#: Maximum length of a search text, in characters.
MAX_TEXT = 1000
#: Maximum length of a snippet, and of its part before the match, in characters.
SNIPPET, BEFORE = 160, 40
#: Ranges of code points that together include every mark. They include other characters as well.
_MARKS = (range(0x300, 0x20000), range(0xE0100, 0xE01F0))
_PLAIN = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Match:
    """A text that matches a search.

    Attributes:
        session_id, user_id: The text's session, and the session's owner.
        field: One of ``SEARCHED_FIELDS``: ``message``, ``question``, ``summary`` or ``title``.
        key: The message id; empty for other fields.
        version: The version that wrote the text.
        created_at: The session's creation time.
        snippet: The text around the first matching term, on one line; an ellipsis marks an omission.
        role: The message's role; None for other fields.
    """

    session_id: str
    user_id: str
    field: str
    key: str
    version: int
    created_at: datetime
    snippet: str
    role: str | None = None


class SearchCursor(NamedTuple):
    """The position of a match in the order of matches: newest session first, then lowest version first."""

    created_at: int  # microseconds
    session_id: str
    version: int
    field: str
    key: str

    def to_text(self) -> str:
        """Return the cursor as text, for a page's ``next``."""
        return base64.urlsafe_b64encode(canonical(list(self)).encode()).decode().rstrip("=")

    @classmethod
    def of_match(cls, match: Match) -> SearchCursor:
        """Return the cursor of a match."""
        return cls(to_micros(match.created_at), match.session_id, match.version, match.field, match.key)

    @classmethod
    def of(cls, after: str) -> SearchCursor:
        """Parse a page's ``next`` and return its cursor.

        Raises:
            InvalidInput: ``after`` is not the ``next`` of a page.
        """
        try:
            padded = after + "=" * (-len(after) % 4)
            cursor = cls(*decode(base64.b64decode(padded, altchars="-_", validate=True)))
        except (TypeError, ValueError, CorruptEvent):
            cursor = None
        kinds = None if cursor is None else tuple(type(part) for part in cursor)
        if cursor is None or kinds != (int, str, int, str, str) or not _is_in_range(cursor):
            raise InvalidInput(f"after must be the next of an earlier page, not {str(after)[:70]!r}.")
        return cursor


def _is_in_range(cursor: SearchCursor) -> bool:
    return abs(cursor.created_at) < 2**60 and abs(cursor.version) < 2**63


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a search. A text must contain all of them. A term is one or more words, joined by single spaces."""

    terms: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Terms:
        """Parse a search text.

        Words between a pair of double quotes form one term, and every other word is a term. There is no other syntax.

        Raises:
            InvalidInput: The text has no word, or is longer than ``MAX_TEXT``.
        """
        if not isinstance(text, str):
            raise InvalidInput(f"The search text must be text, not {full_name(text)}.")
        if len(text) > MAX_TEXT:
            raise InvalidInput(f"The search text has {len(text):,} characters; at most {MAX_TEXT:,} are allowed.")
        parts = text.split('"')
        parsed: list[str] = []
        for index, part in enumerate(parts):
            is_quoted = index % 2 == 1 and index < len(parts) - 1  # an unclosed quote has no effect
            parsed += [" ".join(words(part))] if is_quoted else words(part)
        terms = tuple(dict.fromkeys(term for term in parsed if term))
        if not terms:
            raise InvalidInput("The search text has no word; give letters or digits.")
        return cls(terms)

    @property
    def single(self) -> tuple[str, ...]:
        """The distinct words of all terms."""
        return tuple(dict.fromkeys(word for term in self.terms for word in term.split()))

    def in_text(self, text: str) -> bool:
        """Return True if a text contains all terms."""
        normalised = f" {' '.join(words(text))} "
        return all(f" {term} " in normalised for term in self.terms)

    def snippet(self, text: str) -> str:
        """Return the text around the first matching term on one line, in at most ``SNIPPET`` characters."""
        start = self._first_match(text)
        begin = max(0, start - BEFORE)
        if begin:
            spaces = (index for index in range(begin, start) if text[index].isspace())
            begin = next(spaces, begin)
        line = " ".join(text[begin : start + 4 * SNIPPET].split())
        if begin:
            line = f"…{line}"
        is_complete = len(line) <= SNIPPET and start + 4 * SNIPPET >= len(text)
        return line if is_complete else f"{line[: SNIPPET - 1].rstrip()}…"

    def _first_match(self, text: str) -> int:
        """Return the index in ``text`` at which the first matching term begins, or 0 if no term matches."""
        phrases = [term.split() for term in self.terms]
        last: deque[tuple[str, int]] = deque(maxlen=max(map(len, phrases)))
        for match in _word(text).finditer(text):
            last.append((_folded(match[0]), match.start()))
            for phrase in phrases:
                tail = list(last)[-len(phrase) :]
                if [word for word, _ in tail] == phrase:
                    return tail[0][1]
        return 0


def words(text: str) -> list[str]:
    """Return the words of a text in order, folded for comparison: in lower case, and in the form NFC."""
    folded = _folded(text)
    return _word(folded).findall(folded)


def text_of(field: str, value: Any) -> str:
    """Return the searchable text of a field's value; the empty string if there is none.

    The text of a message is its content. If the content is a list of parts, the text is made of the texts
    of the parts, one per line.

    Args:
        field: One of ``SEARCHED_FIELDS``.
        value: The value as recorded; None if it was erased.
    """
    if field == "message":
        value = value.get("content") if isinstance(value, Mapping) else None
    if field == "message" and isinstance(value, list):
        texts = [part.get("text") for part in value if isinstance(part, Mapping)]
        return "\n".join(text for text in texts if isinstance(text, str))
    return value if isinstance(value, str) else ""


def role_of(field: str, value: Any) -> str | None:
    """Return the role of a message, given its field and its value as recorded; None for any other field."""
    role = value.get("role") if field == "message" and isinstance(value, Mapping) else None
    return role if isinstance(role, str) else None


def _folded(text: str) -> str:
    """Return a text in lower case, converted character by character as SQL does, and in the form NFC.

    Python's ``lower`` converts a sigma at the end of a word and a dotted capital I differently from SQL. Both are
    corrected.
    """
    lower = text.lower()
    if lower.isascii():
        return lower
    return unicodedata.normalize("NFC", lower).replace("\u03c2", "\u03c3").replace("i\u0307", "i")


def _word(text: str) -> re.Pattern[str]:
    """Return the pattern that finds the words of a text. ASCII text has no marks, so its pattern is a faster one."""
    return _PLAIN if text.isascii() else _word_with_marks()


@cache
def _word_with_marks() -> re.Pattern[str]:
    """Return the pattern of a word that may contain marks. ``re`` has no class for marks, so it lists their ranges."""
    marks = [code for codes in _MARKS for code in codes if unicodedata.category(chr(code))[0] == "M"]
    runs = [[code for _, code in run] for _, run in groupby(enumerate(marks), lambda pair: pair[1] - pair[0])]
    table = "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)
    return re.compile(rf"[^\W_](?:[^\W_]|[{table}])*")

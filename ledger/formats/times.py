"""Times as other programs write them: text in a few forms, and numbers that count from 1970.

Only unambiguous forms are read. ``11/20/2026`` is not: the order of day and month differs between countries.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

from ledger.model.instants import EPOCH, from_micros, to_micros

#: Examples of the forms of text that are read, for error messages.
EXAMPLES = "2026-11-20T10:00:00Z or 2026-11-20 10:00:00 UTC"
#: The end of a time in UTC as BigQuery, Ruby and Go write it. Go repeats the offset.
_UTC = re.compile(r"(?: \+0000)? (?:UTC|GMT|Z)\Z")
#: The space before an offset, as Ruby and git write it, which ISO 8601 does not have.
_SPACE = re.compile(r" (?=[+-]\d\d:?\d\d\Z)")
_MAIL = re.compile(
    r"(?:[A-Z][a-z]{2}, )?\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d(?::\d\d)? (?:GMT|UTC?|\+\d{4}|-(?!0000)\d{4})"
)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,2})?")
#: Smaller numbers are not taken for times: as seconds since 1970, they are in March 1973 or before.
FEWEST = 100_000_000
#: Numbers from here on are milliseconds; a thousand times as many are microseconds, and again, nanoseconds.
_MILLISECONDS = 100_000_000_000


def read_text(text: str) -> datetime | None:
    """Return the time in a text; None if the text has no form that is read.

    The forms are RFC 3339 and other ISO 8601 with a date, the same with ``UTC`` at the end, and RFC 1123
    (``Fri, 20 Nov 2026 10:00:00 GMT``). If the text names no time zone, the time has none.
    """
    text = text.strip()
    if text.isdecimal() and len(text) != len("20261120"):
        return None  # fromisoformat would take any digit for the T between date and time
    try:
        if _MAIL.fullmatch(text):
            return parsedate_to_datetime(text)
        return datetime.fromisoformat(_SPACE.sub("", _UTC.sub("Z", text)))
    except ValueError:
        return None


def read_number(number: Decimal) -> datetime | None:
    """Return the time of a number of seconds, milli-, micro- or nanoseconds since 1970; None if it is of no time.

    The size says which of them it is: for the years 1973 to 5138, they do not overlap.
    """
    if not FEWEST <= number < _MILLISECONDS * 10**9:
        return None
    unit = 1
    while number >= unit * _MILLISECONDS:
        unit *= 1000
    return EPOCH + timedelta(microseconds=round(number * 1_000_000 / unit))


def number_of(value: Any) -> Decimal | None:
    """Return a number, or the one that a text consists of; None for any other value, and for infinity and NaN."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = value.strip() if isinstance(value, str) else repr(value)
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def in_utc(at: datetime, name: str) -> datetime:
    """Return a time in UTC. A time without a time zone is taken as UTC.

    Raises:
        InvalidInput: The time is outside the years 1 to 9999 in UTC.
    """
    return from_micros(to_micros(at.replace(tzinfo=UTC) if at.tzinfo is None else at, name))

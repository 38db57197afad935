"""Instants: timezone-aware UTC datetimes in Python, integer microseconds since 1970 in rows, RFC 3339 text in JSON."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ledger.errors import CorruptEvent, InvalidInput
from ledger.model.values import full_name

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: The first and the last time that a store records, in microseconds since 1970.
FIRST = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // _MICROSECOND
LAST = (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC) - EPOCH) // _MICROSECOND


def to_micros(instant: datetime, name: str = "time") -> int:
    """Return a timezone-aware datetime as microseconds since 1970.

    Raises:
        InvalidInput: ``instant`` is not a datetime, has no time zone (its meaning would depend on the machine), or is
            outside the years 1 to 9999 in UTC.
    """
    if type(instant) is datetime and instant.tzinfo is UTC:  # the common case, which needs no further check
        return (instant - EPOCH) // _MICROSECOND
    if not isinstance(instant, datetime):
        raise InvalidInput(f"{name} must be a datetime with a time zone, not {full_name(instant)}.")
    if instant.tzinfo is None or instant.utcoffset() is None:
        raise InvalidInput(
            f"{name} {instant.isoformat()} has no time zone; add one, for example .replace(tzinfo=timezone.utc)."
        )
    micros = (instant - EPOCH) // _MICROSECOND
    if not FIRST <= micros <= LAST:
        raise InvalidInput(f"{name} {instant.isoformat()} is outside the years 1 to 9999 in UTC.")
    return micros


def from_micros(micros: int) -> datetime:
    """Return the UTC datetime of ``micros`` microseconds since 1970.

    Raises:
        CorruptEvent: ``micros`` is no whole number, or outside the years 1 to 9999, so the store did not write it.
    """
    try:
        return EPOCH + timedelta(0, 0, micros)  # by position: that takes two thirds of the time
    except (TypeError, OverflowError) as error:
        raise CorruptEvent(f"A stored time, {micros!r:.50}, is not in microseconds since 1970 ({error}).") from error


def to_text(instant: datetime, name: str = "time") -> str:
    """Return RFC 3339 text in UTC with six decimals, which sorts as text: ``2026-11-21T05:00:00.000000Z``.

    Raises:
        InvalidInput: ``instant`` is not a datetime, has no time zone, or is outside the years 1 to 9999 in UTC.
    """
    return from_micros(to_micros(instant, name)).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def from_text(text: str, name: str = "time") -> datetime:
    """Return the UTC datetime of an RFC 3339 text with a UTC offset.

    Raises:
        InvalidInput: The text is not a timestamp or has no UTC offset.
    """
    try:
        instant = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise InvalidInput(f"{name} {text!r} is not an RFC 3339 timestamp such as 2026-11-21T05:00:00Z.") from None
    return from_micros(to_micros(instant, name))

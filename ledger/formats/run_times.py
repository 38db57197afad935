"""Times of a run's events: those that the run gives, which differ in name and form, or else the time of the import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any

from ledger.model.ids import OLDEST
from ledger.model.instants import from_micros, to_micros

#: Keys of a run with the time at which it began, and at which it ended.
BEGAN = ("created_at", "started_at", "start_time", "create_time", "created", "createdAt", "timestamp")
ENDED = ("completed_at", "ended_at", "end_time", "finished_at", "updated_at", "update_time", "updatedAt")
#: Keys of a message with its time.
SAID = ("created_at", "timestamp", "create_time", "created", "createdAt")
#: Stand for the first and the last event of a run, in place of a message.
START, END = object(), object()
#: Numbers above this are milliseconds since 1970, others are seconds.
_SECONDS_UP_TO = 100_000_000_000


def times_of(now: datetime, run: Mapping[str, Any], steps: Sequence[Any]) -> list[datetime]:
    """Return the time of each event of a run. No event is earlier than the one before it.

    An event without a time has that of the event before it, and the first one that of the next with a time. Times in
    the future become the time of the import. Times of more than ten years ago are not believed.

    Args:
        now: The time of the import.
        run: The run's keys.
        steps: A message as it is in the run, ``START`` or ``END``, for each event.
    """
    now = from_micros(to_micros(now))
    given = [
        _first(run, BEGAN if step is START else ENDED, now) if step in (START, END) else _first(step, SAID, now)
        for step in steps
    ]
    latest = next((at for at in given if at is not None), now)
    return list(accumulate((at or latest for at in given), max, initial=latest))[1:]


def _first(given: Any, names: Sequence[str], now: datetime) -> datetime | None:
    """Return the first time that an object has under one of the names; None if it has none."""
    times = (_time(given.get(name), now) for name in names) if isinstance(given, Mapping) else ()
    return next((at for at in times if at is not None), None)


def _time(value: Any, now: datetime) -> datetime | None:
    """Return a time from RFC 3339 text, or from seconds or milliseconds since 1970. Text without an offset is UTC."""
    try:
        if isinstance(value, str):
            at = datetime.fromisoformat(value)
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            seconds = value / 1000 if value > _SECONDS_UP_TO else value
            at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return min(at, now) if at >= now - OLDEST else None

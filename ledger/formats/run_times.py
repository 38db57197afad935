"""Times of a run's events: those that the run gives, which differ in name and form, or else the time of the import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

from ledger.errors import InvalidInput
from ledger.formats.times import EXAMPLES, FEWEST, in_utc, number_of, read_number, read_text
from ledger.model.ids import OLDEST
from ledger.model.instants import EPOCH, FIRST, from_micros, to_micros

#: Keys of a run with the time at which it began, and at which it ended.
BEGAN = ("created_at", "started_at", "start_time", "create_time", "created", "createdAt", "timestamp")
ENDED = ("completed_at", "ended_at", "end_time", "finished_at", "updated_at", "update_time", "updatedAt")
#: Keys of a message with its time.
SAID = ("created_at", "timestamp", "create_time", "created", "createdAt")
#: Keys that other programs also use for numbers that are no times, such as an offset from the start of a recording.
_OFTEN_NO_TIME = ("timestamp", "created")
#: Stand for the first and the last event of a run, in place of a message.
START, END = object(), object()
#: Times that programs write if a time is not set.
_UNSET = (EPOCH, from_micros(FIRST))
#: How far the clock of the computer that wrote a run may be ahead of the clock of the one that imports it.
_AHEAD = timedelta(minutes=5)


def times_of(now: datetime, run: Mapping[str, Any], steps: Sequence[Any]) -> list[datetime]:
    """Return the time of each event of a run. No event is earlier than the one before it.

    An event without a time has that of the event before it, and the first one that of the next with a time. If nothing
    has a time, all events have the time of the import. A time up to five minutes in the future becomes the time of the
    import, since clocks differ.

    Args:
        now: The time of the import.
        run: The run's keys.
        steps: A message as it is in the run, ``START`` or ``END``, for each event.

    Raises:
        InvalidInput: Text or a number under one of the keys for times cannot be read as a time, or is a time in the
            future, or more than ten years ago.
    """
    now = from_micros(to_micros(now))
    given = []
    for index, step in enumerate(steps, -1):
        if step is START or step is END:
            given.append(_first(run, BEGAN if step is START else ENDED, "", now))
        else:
            given.append(_first(step, SAID, f"messages.{index}.", now))
    latest = next((at for at in given if at is not None), now)
    return list(accumulate((at or latest for at in given), max, initial=latest))[1:]


def _first(given: Any, names: Sequence[str], where: str, now: datetime) -> datetime | None:
    """Return the first time that an object has under one of the names; None if it has none."""
    times = (_time(given.get(name), name, where, now) for name in names) if isinstance(given, Mapping) else ()
    return next((at for at in times if at is not None), None)


def _time(value: Any, name: str, where: str, now: datetime) -> datetime | None:
    """Return the time in a value; None if it is not set, or if the value is neither text nor a number."""
    number = number_of(value)
    text = value.strip() if isinstance(value, str) else ""
    if number == 0 or (number is None and not text):
        return None
    at = (None if number is None else read_number(number)) or read_text(text)
    shown = f"{where}{name} {value!r:.70}"
    if at is None:
        if number is not None and number < FEWEST and name in _OFTEN_NO_TIME and not isinstance(value, str):
            return None
        raise InvalidInput(
            f"{shown} is not a time such as {EXAMPLES}, nor a number of seconds or milliseconds since 1970. Write the "
            "time like this, or give the key another name if it is no time."
        )
    at = in_utc(at, f"{where}{name}")
    if at in _UNSET:
        return None
    if at > now + _AHEAD:
        raise InvalidInput(
            f"{shown} is in the future: it is {now.isoformat(timespec='seconds')} now. Correct it, or the clock of "
            "this computer."
        )
    if at < now - OLDEST:
        raise InvalidInput(
            f"{shown} is more than ten years ago, which a warehouse does not accept. Correct it, or give the key "
            "another name: then the run has the time of the import."
        )
    return min(at, now)

"""Building blocks of store tests: a clock, ids, events, and a Hypothesis strategy for changes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from ledger import Change, NewEvent, RecordedChange, RecordedEvent
from ledger.model.instants import to_micros
from ledger.model.integrity import event_hash, value_hash
from ledger.model.values import canonical

START = datetime(2026, 3, 5, 9, 30, tzinfo=UTC)


class SetClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> datetime:
        """Move the clock forward by a number of seconds, or back if it is negative; return the new time."""
        self.now += timedelta(seconds=seconds)
        return self.now


def uuid7(now: datetime, count: int) -> str:
    """Return a UUIDv7 whose timestamp is the millisecond of ``now``. The ids of one millisecond sort by ``count``."""
    millis = (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    return str(uuid.UUID(int=millis << 80 | 7 << 76 | 2 << 62 | count))


class CountedIds:
    """A source of predictable UUIDv7s. The ids of one millisecond sort in the order in which they were made."""

    def __init__(self, offset: int = 0) -> None:
        self.made = offset

    def __call__(self, now: datetime) -> str:
        self.made += 1
        return uuid7(now, self.made)


def event_id(number: int) -> str:
    """Return the id of event ``number``."""
    return uuid7(START, 1_000_000 + number)


def key_of(number: int) -> str | None:
    """Return the idempotency key of event ``number``; None for every other event."""
    return f"job-{number}" if number % 2 else None


def event(
    number: int, *changes: Change, user_id: str | None = None, event_type: str = "test.made", **more: Any
) -> NewEvent:
    """Return an event to append, with the id ``event_id(number)``. If no changes are given, it sets the title."""
    changes = changes or (Change("title", value=f"title {number}"),)
    return NewEvent(event_type, changes, event_id(number), user_id=user_id, **more)


def recorded(
    version: int, number: int, changes: Iterable[Change], *, session_id: str = "s", at: datetime = START, **more: Any
) -> RecordedEvent:
    """Return an event as recorded by a store without a hash chain."""
    times: dict[str, Any] = {"occurred_at": at, "recorded_at": at, "created_at": START}
    return RecordedEvent(
        session_id=session_id,
        version=version,
        event_id=event_id(number),
        event_type="test.made",
        changes=tuple(
            RecordedChange(it.field, it.key, None if it.removed else canonical(it.value), it.removed) for it in changes
        ),
        **times | {"user_id": "ada", "actor": None, "schema_version": 1, "store_id": "elsewhere"} | more,
    )


def chained(events: Iterable[RecordedEvent]) -> list[RecordedEvent]:
    """Return all events of one session as recorded by a store with a hash chain."""
    made: list[RecordedEvent] = []
    for number, it in enumerate(events):
        salt = f"{number:032x}"
        changes = tuple(
            change
            if change.text is None
            else replace(change, value_hash=value_hash(salt, change.text), value_salt=salt)
            for change in it.changes
        )
        prev_hash = made[-1].event_hash if made else None
        hashed = event_hash(
            prev_hash,
            (
                *(it.session_id, it.version, it.event_id, it.event_type, it.user_id, it.actor),
                *(to_micros(it.occurred_at), to_micros(it.recorded_at), to_micros(it.created_at), it.schema_version),
            ),
            [(change.field, change.key, change.removed, change.value_hash) for change in changes],
            it.idempotency_key,
        )
        made.append(replace(it, changes=changes, prev_hash=prev_hash, event_hash=hashed))
    return made


SLOTS = [("title", ""), ("summary", ""), ("context", "a"), ("context", "b"), ("tag", "a"), ("x_note", "")]


@st.composite
def changes(draw: st.DrawFn) -> list[Change]:
    """Hypothesis strategy for the changes of one event. They set or remove one to three different registers."""
    slots = draw(st.lists(st.sampled_from(SLOTS), min_size=1, max_size=3, unique=True))
    made = []
    for field, key in slots:
        removed = draw(st.booleans())
        value = True if field == "tag" else draw(st.sampled_from(["one", "two", "three"]))
        made.append(Change(field, key, None if removed else value, removed))
    return made

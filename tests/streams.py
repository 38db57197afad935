"""What tests of the core share: a clock and ids passed in, made-up streams of events, Hypothesis strategies."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from ledger import Change, NewEvent, RecordedChange, RecordedEvent
from ledger.model.values import canonical

START = datetime(2026, 3, 5, 9, 30, tzinfo=UTC)


class SetClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now


def uuid7(now: datetime, count: int) -> str:
    """The UUIDv7 of a millisecond that sorts as number ``count`` within it."""
    millis = (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    return str(uuid.UUID(int=millis << 80 | 7 << 76 | 2 << 62 | count))


class CountedIds:
    """UUIDv7s that can be told in advance: those of one millisecond sort in the order they were made."""

    def __init__(self, offset: int = 0) -> None:
        self.made = offset

    def __call__(self, now: datetime) -> str:
        self.made += 1
        return uuid7(now, self.made)


def event_id(number: int) -> str:
    """The id of event ``number`` of a test."""
    return uuid7(START, 1_000_000 + number)


def event(
    number: int, *changes: Change, user_id: str | None = None, event_type: str = "test.made", **more: Any
) -> NewEvent:
    """An event to append; its id is that of ``number``."""
    changes = changes or (Change("title", value=f"title {number}"),)
    return NewEvent(event_type, changes, event_id(number), user_id=user_id, **more)


def recorded(
    version: int, number: int, changes: Iterable[Change], *, session_id: str = "s", at: datetime = START, **more: Any
) -> RecordedEvent:
    """An event as a store without a hash chain would have recorded it."""
    return RecordedEvent(
        session_id=session_id,
        version=version,
        event_id=event_id(number),
        event_type="test.made",
        changes=tuple(
            RecordedChange(it.field, it.key, None if it.removed else canonical(it.value), it.removed) for it in changes
        ),
        **{"user_id": "ada", "actor": None, "occurred_at": at, "recorded_at": at, "created_at": START}
        | {"schema_version": 1, "store_id": "elsewhere"}
        | more,
    )


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
integers = st.integers(-(2**63), 2**64 - 1)
scalars = st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | texts
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
SLOTS = [("title", ""), ("summary", ""), ("context", "a"), ("context", "b"), ("tag", "a"), ("x_note", "")]


@st.composite
def changes(draw: st.DrawFn) -> list[Change]:
    """The changes of one event: one to three slots, set or removed."""
    slots = draw(st.lists(st.sampled_from(SLOTS), min_size=1, max_size=3, unique=True))
    made = []
    for field, key in slots:
        removed = draw(st.booleans())
        value = True if field == "tag" else draw(st.sampled_from(["one", "two", "three"]))
        made.append(Change(field, key, None if removed else value, removed))
    return made


@st.composite
def histories(draw: st.DrawFn, *, ties: bool = True) -> list[RecordedEvent]:
    """The events of one session in order; with ``ties``, several have one version, as unchecked writers leave them."""
    events: list[RecordedEvent] = []
    version, at = 0, START
    for number in range(draw(st.integers(0, 10))):
        if not (ties and version and draw(st.booleans())):
            version += 1
            at += timedelta(seconds=draw(st.integers(0, 2)))
        events.append(recorded(version, number, draw(changes()), at=at))
    return events

"""Latest, as-of and history statements over any warehouse, and what their rows mean.

Every look-up by id names the day that the session was created on, so the warehouse reads one partition. A UUIDv7
carries its day; for other ids the warehouse's ``session_index`` knows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple

from ledger.errors import CorruptEvent, InvalidInput
from ledger.model.events import RecordedChange, RecordedEvent
from ledger.model.fold import Interval, State, Written, fold
from ledger.model.ids import check_session_id, created_at_of, creation_day
from ledger.model.instants import to_micros
from ledger.model.session import Head
from ledger.model.upcast import Upcaster
from ledger.model.values import canonical, decode
from ledger.warehouse.base import Parameters, Warehouse

#: Stands for "the latest" and "no end": parameters always have a type that way, which NULL has not.
LAST_VERSION = 2**63 - 1

_CREATION = """
SELECT MIN(created_at) AS created_at FROM `${project}.${dataset}.session_index` WHERE session_id = @session_id
"""
_VERSION_AT = """
SELECT version FROM `${project}.${dataset}.session_version_at`(@session_id, @first_day, @next_day, @at_time)
"""
_SLOTS = """
SELECT
  field, key, IF(value IS NULL, NULL, TO_JSON_STRING(value)) AS text, removed, version, event_id, user_id, created_at,
  schema_version, store_id, event_hash, session_updated_at
FROM `${project}.${dataset}.session_slots`(@session_id, @first_day, @next_day, @at_version)
"""
_CHANGES = """
SELECT
  session_id, version, event_id, event_type, user_id, actor, occurred_at, recorded_at, created_at, schema_version,
  store_id, prev_hash, event_hash, field, key, IF(value IS NULL, NULL, TO_JSON_STRING(value)) AS text, removed,
  value_hash, value_salt, superseded_by
FROM `${project}.${dataset}.session_changes`(@session_id, @first_day, @next_day, @after_version, @until_version)
ORDER BY version, event_id, field, key
"""


class _Slot(NamedTuple):
    """A row of ``session_slots``."""

    field: str
    key: str
    text: str | None
    removed: bool
    version: int
    event_id: str
    user_id: str
    created_at: datetime
    schema_version: int
    store_id: str
    event_hash: str | None
    session_updated_at: datetime


class Projection:
    """A warehouse's sessions as the model's objects.

    Args:
        warehouse: Any.
        upcast: Brings events of an older shape up to the present one.
    """

    def __init__(self, warehouse: Warehouse, upcast: Upcaster | None = None) -> None:
        self._warehouse = warehouse
        self._upcast = upcast or Upcaster()

    def creation_of(self, session_id: str) -> datetime | None:
        """When a session was created: the time in its id, else what the index says; None for an unknown id.

        Source: sql/tables/session_index.sql
        """
        created_at = created_at_of(check_session_id(session_id))
        if created_at is not None:
            return created_at
        found: datetime | None = self._warehouse.query(_CREATION, {"session_id": session_id}).rows[0][0]
        return found

    def state(
        self, session_id: str, *, version: int | None = None, at: datetime | None = None
    ) -> tuple[Head, State] | None:
        """The head and state of a session, messages included: now, at a version, or at a time.

        Args:
            session_id: The session.
            version: In events; above the last it is the latest.
            at: By the clock of the session's store; aware.

        Returns:
            None where there was no such session.

        Raises:
            InvalidInput: Both a version and a time were given, or the time is naive.

        Source: sql/functions/session_slots.sql, sql/functions/session_version_at.sql
        """
        if version is not None and at is not None:
            raise InvalidInput("Give a version or a time, not both.")
        scope = self._scope(session_id)
        if scope is None:
            return None
        if at is not None:
            to_micros(at, "at")
            version = self._warehouse.query(_VERSION_AT, {**scope, "at_time": at}).rows[0][0]
        until = LAST_VERSION if version is None else version
        rows = self._warehouse.query(_SLOTS, {**scope, "at_version": until}).rows
        if not rows:
            return None
        slots = [_Slot(*row) for row in rows]
        if any(slot.schema_version != self._upcast.current for slot in slots):
            return _head(session_id, slots), fold(self._events(scope, 0, until))
        return _head(session_id, slots), _state(slots)

    def events(self, session_id: str, *, after: int = 0, until: int = LAST_VERSION) -> list[RecordedEvent]:
        """A session's events, each once, in order, brought up to the present shape.

        Args:
            session_id: The session; an unknown one has no events.
            after: Only versions above this one.
            until: Only versions up to this one.

        Source: sql/functions/session_changes.sql
        """
        scope = self._scope(session_id)
        return [] if scope is None else list(self._events(scope, after, until))

    def history(self, session_id: str) -> list[Interval]:
        """Every write of a session once, as recorded, with the version that superseded it; in order.

        Source: sql/functions/session_changes.sql
        """
        scope = self._scope(session_id)
        if scope is None:
            return []
        rows = self._changes(scope, 0, LAST_VERSION)
        return [
            Interval(field, key, _canonical(text), removed, version, event_id, superseded_by)
            for _, version, event_id, *_, field, key, text, removed, _, _, superseded_by in rows
        ]

    def _scope(self, session_id: str) -> dict[str, Any] | None:
        """The parameters that every look-up by id has."""
        created_at = self.creation_of(session_id)
        if created_at is None:
            return None
        first_day, next_day = creation_day(created_at)
        return {"session_id": session_id, "first_day": first_day, "next_day": next_day}

    def _changes(self, scope: Parameters, after: int, until: int) -> list[tuple[Any, ...]]:
        parameters = {**scope, "after_version": after, "until_version": until}
        return self._warehouse.query(_CHANGES, parameters).rows

    def _events(self, scope: Parameters, after: int, until: int) -> Iterator[RecordedEvent]:
        # Two events may share a version; an event_id stands for one event.
        for _, rows in groupby(self._changes(scope, after, until), key=lambda row: row[1:3]):
            yield self._upcast(_event(list(rows)))


def _head(session_id: str, slots: Iterable[_Slot]) -> Head:
    """Where a session stood: the last of its slots in the order of events was written by its last event."""
    last = max(slots, key=lambda slot: (slot.version, slot.event_id))
    return Head(
        session_id,
        last.user_id,
        last.created_at,
        last.version,
        last.session_updated_at,
        last.event_hash,
        last.store_id,
    )


def _state(slots: Iterable[_Slot]) -> State:
    return {
        (slot.field, slot.key): Written(_canonical(slot.text), slot.version, slot.event_id)
        for slot in slots
        if not slot.removed
    }


def _canonical(text: str | None) -> str | None:
    """The text that was hashed: a warehouse may order an object's keys and place blanks as it likes."""
    return None if text is None else canonical(decode(text))


def _event(rows: list[tuple[Any, ...]]) -> RecordedEvent:
    """The event of its rows.

    Raises:
        CorruptEvent: The rows do not agree on the event that they belong to.
    """
    envelope = rows[0][:13]
    if any(row[:13] != envelope for row in rows):
        raise CorruptEvent(
            f"Session {envelope[0]}, version {envelope[1]}: the rows of event {envelope[2]} contradict each other.",
            session_id=envelope[0],
            version=envelope[1],
        )
    session_id, version, event_id, event_type, user_id, actor, *times, schema_version, store_id, prev, own = envelope
    occurred_at, recorded_at, created_at = times
    return RecordedEvent(
        session_id=session_id,
        version=version,
        event_id=event_id,
        event_type=event_type,
        changes=tuple(
            RecordedChange(field, key, _canonical(text), removed, value_hash, value_salt)
            for *_, field, key, text, removed, value_hash, value_salt, _ in rows
        ),
        user_id=user_id,
        actor=actor,
        occurred_at=occurred_at,
        recorded_at=recorded_at,
        created_at=created_at,
        schema_version=schema_version,
        store_id=store_id,
        prev_hash=prev,
        event_hash=own,
    )

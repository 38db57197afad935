"""Conversion of the embedded store's rows to the model's objects; nothing here queries the database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

from ledger.errors import CorruptEvent
from ledger.model.events import ROW_BYTES, RecordedChange, RecordedEvent
from ledger.model.instants import EPOCH, FIRST, LAST, from_micros
from ledger.model.session import Head
from ledger.model.upcast import Upcaster
from ledger.outbox import columns
from ledger.outbox.rows import Row, index_of
from ledger.stores.sqlite.errors import damaged

#: Positions in a row without ``seq``.
_SESSION, _VERSION, _EVENT_ID, _CREATED = map(columns.position, ("session_id", "version", "event_id", "created_at"))
_FIELD, _KEY, _TEXT, _REMOVED, _HASH, _SALT = map(columns.position, columns.CHANGE)
_EVENT_VALUES = itemgetter(*map(columns.position, columns.EVENT))
#: Positions in a ``Row``, which begins with ``seq``.
_OF_SESSION, _OF_VERSION, _OF_EVENT, _VALUE = map(index_of, ("session_id", "version", "event_id", "value"))


class HeadRow(NamedTuple):
    """A session's row of ``session_heads``, without its id; times are microseconds since 1970."""

    user_id: str
    created_at: int
    version: int
    updated_at: int
    event_hash: str | None
    store_id: str


def checked_head(session_id: str, row: Sequence[Any]) -> HeadRow:
    """Return a row of ``session_heads`` as a ``HeadRow``, after a check of its values.

    Raises:
        CorruptEvent: The row is missing, so that its columns are NULL, or no store would write such values.
    """
    user_id, created_at, version, updated_at, event_hash, _ = row
    numbers = type(version) is type(created_at) is type(updated_at) is int and version > 0
    if not (numbers and type(user_id) is str and (event_hash is None or type(event_hash) is str)):
        raise damaged("session_heads", session_id, "the head is missing, or a column of it has another type")
    if not (FIRST <= created_at <= LAST and FIRST <= updated_at <= LAST):
        raise damaged("session_heads", session_id, "a time is outside the years 1 to 9999")
    return HeadRow._make(row)


def head_of(session_id: str, row: HeadRow) -> Head:
    """Return the ``Head`` that a row of ``session_heads`` describes."""
    user_id, created_at, version, updated_at, event_hash, store_id = row
    return Head(session_id, user_id, from_micros(created_at), version, from_micros(updated_at), event_hash, store_id)


def whole_events(rows: Iterable[Row], limit: int, max_bytes: int) -> list[Row]:
    """Return the raw rows of the first events: as many whole events as fit into both limits.

    If there are rows, at least one event is returned, even if it exceeds a limit.
    """
    result: list[Row] = []
    event, event_start, size = None, 0, 0
    for row in rows:
        if (row[_OF_SESSION], row[_OF_EVENT]) != event:
            if len(result) >= limit or size >= max_bytes:
                break
            event, event_start = (row[_OF_SESSION], row[_OF_EVENT]), len(result)
        value = row[_VALUE] or ""
        if type(value) is not str:
            raise damaged("session_events", row[_OF_SESSION], "a value is no text", version=row[_OF_VERSION])
        size += ROW_BYTES + (len(value) if value.isascii() else len(value.encode()))
        if event_start and (len(result) >= limit or size > max_bytes):
            return result[:event_start]
        result.append(row)
    return result


def events_from_rows(rows: Iterable[tuple[Any, ...]], upcast: Upcaster | None) -> list[RecordedEvent]:
    """Return the events of one session.

    Args:
        rows: The session's rows, without ``seq``, in order of version; the rows of an event are adjacent.
        upcast: Brings events to the present schema version; None to return them as recorded.

    Raises:
        CorruptEvent: A row is not as a store writes it.
    """
    events: list[RecordedEvent] = []
    changes: list[RecordedChange] = []
    created = EPOCH
    row: tuple[Any, ...] | None = None
    try:
        for next_row in rows:
            if row is not None and (next_row[_VERSION] != row[_VERSION] or next_row[_EVENT_ID] != row[_EVENT_ID]):
                events.append(_event(row, changes, created, upcast))
                changes = []
            if row is None:
                created = from_micros(next_row[_CREATED])  # converted once: it is the same for the whole session
            row = next_row
            changes.append(
                RecordedChange(row[_FIELD], row[_KEY], row[_TEXT], row[_REMOVED] != 0, row[_HASH], row[_SALT])
            )
        if row is not None:
            events.append(_event(row, changes, created, upcast))
    except (TypeError, ValueError, OverflowError, CorruptEvent) as error:
        session_id, version = (row or next_row)[_SESSION], (row or next_row)[_VERSION]
        raise damaged("session_events", session_id, str(error), version=version) from error
    if any(event.version == next_event.version for event, next_event in pairwise(events)):
        events.sort(key=lambda event: event.position)  # equal versions are in the order of their arrival
    return events


def _event(
    row: tuple[Any, ...], changes: list[RecordedChange], created: datetime, upcast: Upcaster | None
) -> RecordedEvent:
    # Unpacked in full, so that a new column raises here; a star would cost a tuple and a list.
    (
        session_id,
        version,
        event_id,
        event_type,
        user_id,
        actor,
        occurred_at,
        recorded_at,
        _,
        schema_version,
        store_id,
        prev_hash,
        event_hash,
        idempotency_key,
    ) = _EVENT_VALUES(row)
    recorded = from_micros(recorded_at)
    event = RecordedEvent(
        session_id,
        version,
        event_id,
        event_type,
        tuple(changes),
        user_id,
        actor,
        recorded if occurred_at == recorded_at else from_micros(occurred_at),
        recorded,
        created,
        schema_version,
        store_id,
        prev_hash,
        event_hash,
        idempotency_key,
    )
    return event if upcast is None or schema_version == upcast.current else upcast(event)

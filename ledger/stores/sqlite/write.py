"""Writes of the embedded store, inside transactions that the caller begins and commits."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from ledger.errors import StoreUnavailable
from ledger.model.events import ANY_VERSION, AppendResult, PreparedEvent, RecordedEvent
from ledger.model.fold import fold
from ledger.model.ids import created_at_for
from ledger.model.instants import from_micros, to_micros
from ledger.model.integrity import seal
from ledger.model.lifetime import LIFETIME_FIELDS, check_open
from ledger.model.upcast import Upcaster
from ledger.outbox import columns
from ledger.outbox.columns import ChangeValues, EventValues
from ledger.stores.archived import ARCHIVED_TEXT, UNOWNED
from ledger.stores.checks import (
    EventInRows,
    FoundEvent,
    StreamHead,
    by_session,
    check_expected,
    check_owner,
    check_same,
    plan_ingest,
)
from ledger.stores.sqlite import read
from ledger.stores.sqlite import search_index as index
from ledger.stores.sqlite import tombstones as kept
from ledger.stores.sqlite.rows import HeadRow

#: The columns of a row. Those that an event's rows share come first, so that their values are assembled once.
_COLUMNS = ("seq", *columns.EVENT, *columns.CHANGE)
_INSERT_ROW = f"INSERT INTO session_events ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_HEAD_COLUMNS = ("session_id", *HeadRow._fields)
#: Statement that inserts a head. Its parameters are the session's id and the values of the ``HeadRow``.
PUT_HEAD = f"INSERT INTO session_heads ({', '.join(_HEAD_COLUMNS)}) VALUES ({', '.join('?' * len(_HEAD_COLUMNS))})"  # noqa: S608
_MOVE_HEAD = (
    "UPDATE session_heads SET version = ?, updated_at = ?, event_hash = ? "
    "WHERE session_id = ? AND version = ? AND event_hash IS ? AND store_id = ?"
)
_SIZE = ("page_size", "page_count", "freelist_count")
#: Types of small events of which ``maintain`` makes room.
_MAKING_ROOM = ("session.archived", "session.deleted")
#: Maximum number of cached heads.
KNOWN_HEADS = 1024
_SET_REGISTER = (
    "INSERT INTO session_state (session_id, field, key, version, event_id, event_seq, value) "
    "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "version = excluded.version, event_id = excluded.event_id, event_seq = excluded.event_seq, value = excluded.value"
)
_LIFETIME = (
    "SELECT field, value FROM session_state WHERE session_id = ? AND field IN ('status', 'expires_at') AND key = ''"
)
_NOTE_FOREIGN = (
    "INSERT INTO foreign_events (session_id, first_version, last_version, store_id, chained) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET last_version = MAX(last_version, excluded.last_version)"
)
_REMOVE_REGISTER = "DELETE FROM session_state WHERE session_id = ? AND field = ? AND key = ?"


class _RecordedRow(NamedTuple):
    """The columns of a recorded event's rows that are compared if its event_id is appended or ingested again."""

    version: int
    event_type: str
    field: str
    key: str
    value: str | None
    removed: int
    value_hash: str | None


_FIND_EVENT = (
    f"SELECT {', '.join(_RecordedRow._fields)} FROM session_events "  # noqa: S608
    "INDEXED BY session_events_by_id WHERE session_id = ? AND event_id = ?"
)
#: Cached heads by session_id, each with the time until which the session is open, in microseconds; 0 if it is unknown.
KnownHeads = dict[str, tuple[HeadRow, int]]


def check_room(
    connection: sqlite3.Connection, max_bytes: int | None, path: Path, event_type: str | None = None
) -> None:
    """Raise StoreUnavailable if the file has reached its maximum size.

    Writes of relays are not limited, nor are events that lead to room: of the types in ``_MAKING_ROOM``.
    """
    if max_bytes is None or event_type in _MAKING_ROOM:
        return
    if used_bytes(connection) >= max_bytes:
        raise StoreUnavailable(
            f"The ledger {path} has reached its maximum of {max_bytes:,} bytes (max_bytes in its URL); nothing was "
            "written. Raise max_bytes; or archive or delete sessions, which is still recorded, ship that with `ledger "
            "sync`, and make room with `ledger maintain`."
        )


def used_bytes(connection: sqlite3.Connection) -> int:
    """Return the size of the pages in use, which ``max_bytes`` limits. SQLite uses freed pages again."""
    size, pages, free = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _SIZE)
    return int((pages - free) * size)


def append(
    connection: sqlite3.Connection,
    heads: KnownHeads,
    session_id: str,
    event: PreparedEvent,
    salts: Sequence[str | None],
    *,
    expected_version: int,
    now: datetime,
    schema_version: int,
    store_id: str,
) -> AppendResult:
    """Check an event against the session's head, then write the event's rows, its registers and the new head.

    Args:
        connection: A connection in a transaction.
        heads: The cache of heads. A head in the database is updated only if it equals the cached one. So it does
            no harm if a cached head is stale or comes from a transaction that was rolled back.
        session_id: The session.
        event: The event.
        salts: The salt of each change's value hash, in order; None for a change that removes the value.
        expected_version: The expected version, or ``ANY_VERSION``.
        now: The time of recording. If the session's last event was recorded later, that event's time is used.
        schema_version: The schema version of the event.
        store_id: The id of this store, for the event's rows and for the head of a session that the event creates.

    Raises:
        SessionNotFound, WrongExpectedVersion, IdempotencyConflict, SessionEnded, InvalidInput, StoreUnavailable:
            Nothing was written.
    """
    head, open_until = heads.pop(session_id, (None, 0))
    if head is None or expected_version not in (ANY_VERSION, head.version):
        head, open_until = read.head_row(connection, session_id), 0
    if head is not None and event.check_duplicate:
        version = _recorded_version(connection, session_id, event)
        if version is not None:
            check_owner(session_id, head.user_id, event)
            return AppendResult(session_id, version, event.event_id, replayed=True)
    version, owner = (0, None) if head is None else (head.version, head.user_id)
    user_id = check_expected(session_id, version, owner, event, expected_version)
    recorded_at = to_micros(now)
    if event.require_open and head is not None and recorded_at >= open_until:
        lifetime = dict(connection.execute(_LIFETIME, (session_id,)).fetchall())
        open_until = check_open(session_id, lifetime.get("status"), lifetime.get("expires_at"), now)
    if head is None:
        kept.check_not_deleted(connection, session_id)
    elif head.store_id == UNOWNED:
        check_open(session_id, ARCHIVED_TEXT, None, now)  # an event cannot follow rows that the store does not hold
    if head is None:
        created_at, version, prev_hash = to_micros(created_at_for(session_id, now)), 1, None
    else:
        created_at, version, prev_hash = head.created_at, head.version + 1, head.event_hash
        recorded_at = max(recorded_at, head.updated_at)
    occurred_at = recorded_at if event.occurred_at is None else event.occurred_at
    envelope = (
        *(session_id, version, event.event_id, event.event_type, user_id, event.actor),
        *(occurred_at, recorded_at, created_at, schema_version),
    )
    changes, hashed = seal(prev_hash, envelope, event.changes, salts, event.idempotency_key)
    new = HeadRow(user_id, created_at, version, recorded_at, hashed, store_id if head is None else head.store_id)
    if head is None:
        connection.execute(PUT_HEAD, (session_id, *new))
    elif not _move_head(connection, session_id, head, new):  # the cached head was stale and is evicted: read it
        return append(
            *(connection, heads, session_id, event, salts),
            expected_version=expected_version,
            now=now,
            schema_version=schema_version,
            store_id=store_id,
        )
    _write_rows(connection, EventValues(*envelope, store_id, prev_hash, hashed, event.idempotency_key), changes)
    if len(heads) >= KNOWN_HEADS:
        heads.clear()
    if any(change.field in LIFETIME_FIELDS for change in event.changes):
        open_until = 0
    heads[session_id] = new, open_until
    return AppendResult(session_id, version, event.event_id)


def _move_head(connection: sqlite3.Connection, session_id: str, known: HeadRow, new: HeadRow) -> bool:
    """Replace a session's head by ``new`` if the stored head equals ``known``; otherwise return False."""
    condition = (session_id, known.version, known.event_hash, known.store_id)
    return connection.execute(_MOVE_HEAD, (new.version, new.updated_at, new.event_hash, *condition)).rowcount > 0


def ingest(connection: sqlite3.Connection, events: Sequence[RecordedEvent], *, now: datetime, upcast: Upcaster) -> int:
    """Write events that another store recorded, all or none; return the number of new ones.

    Raises:
        IdempotencyConflict, WrongExpectedVersion, InvalidInput, CorruptEvent, SessionEnded, StoreUnavailable: Nothing
            of the call was written.
    """
    sessions = by_session(events)
    with all_or_none(connection):
        return sum(
            _ingest_session(connection, session_id, of_session, now, upcast)
            for session_id, of_session in sessions.items()
        )


def refold(connection: sqlite3.Connection, upcast: Upcaster) -> None:
    """Fold every session again from its events, after the schema version of events has changed."""
    with all_or_none(connection):
        # An archived session without rows keeps its registers as they are.
        owned = "SELECT session_id FROM session_heads WHERE store_id <> ?"
        for (session_id,) in connection.execute(owned, (UNOWNED,)).fetchall():
            refold_session(connection, session_id, upcast)
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('state_schema', ?)", (str(upcast.current),))


@contextmanager
def all_or_none(connection: sqlite3.Connection) -> Iterator[None]:
    """Context manager that rolls back the writes of its block if the block raises; the transaction stays open."""
    connection.execute("SAVEPOINT whole")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK TO whole")
        raise
    finally:
        connection.execute("RELEASE whole")


def _ingest_session(
    connection: sqlite3.Connection, session_id: str, events: Sequence[RecordedEvent], now: datetime, upcast: Upcaster
) -> int:
    head = read.head_row(connection, session_id)
    stream = None
    if head is not None:
        stream = StreamHead(head.user_id, from_micros(head.created_at), head.version, head.event_hash)
    own = read.meta(connection, "store_id")
    plan = plan_ingest(events, stream, lambda event: _is_recorded(connection, event), now, own_store_id=own)
    if plan is None:
        return 0
    if head is None:
        kept.check_not_deleted(connection, session_id)
    elif head.store_id == UNOWNED:
        check_open(session_id, ARCHIVED_TEXT, None, now)
    for event in plan.events:
        write_recorded(connection, event)
    note_foreign(connection, plan.events, own)
    last, updated_at = plan.events[-1], to_micros(plan.updated_at)
    if head is None:
        fixed = (session_id, last.user_id, to_micros(last.created_at))
        connection.execute(PUT_HEAD, (*fixed, last.version, updated_at, plan.event_hash, own))
    else:
        moved = head._replace(version=last.version, updated_at=max(updated_at, head.updated_at))
        _move_head(connection, session_id, head, moved._replace(event_hash=plan.event_hash))
    if any(event.schema_version != upcast.current for event in plan.events):
        refold_session(connection, session_id, upcast)
    return len(plan.events)


def note_foreign(connection: sqlite3.Connection, events: Iterable[RecordedEvent], own_store_id: str) -> None:
    """Record in ``foreign_events`` which of these events another store recorded. The events must be in order."""
    runs = groupby(events, key=lambda event: (event.session_id, event.store_id, event.event_hash is not None))
    for (session_id, store_id, chained), run in runs:
        versions = [event.version for event in run]
        if store_id != own_store_id:
            connection.execute(_NOTE_FOREIGN, (session_id, versions[0], versions[-1], store_id, chained))


def write_recorded(connection: sqlite3.Connection, event: RecordedEvent, first_seq: int | None = None) -> list[int]:
    """Write a recorded event's rows and registers; return the ``seq`` of each row.

    Args:
        connection: A connection in a transaction.
        event: The event.
        first_seq: The ``seq`` that the event's first row had in this store before; None if its rows are new.
    """
    return _write_rows(connection, columns.event_values(event), columns.change_values(event), first_seq)


def _write_rows(
    connection: sqlite3.Connection,
    event: EventValues,
    changes: Iterable[ChangeValues],
    first_seq: int | None = None,
) -> list[int]:
    """Write an event's rows and registers; return the ``seq`` of each row."""
    session_id, version, event_id = event.session_id, event.version, event.event_id
    written: list[int] = []
    for change in changes:
        old_seq = None if first_seq is None else first_seq + len(written)
        seq = connection.execute(_INSERT_ROW, (old_seq, *event, *change)).lastrowid
        assert seq is not None  # noqa: S101 - an INSERT sets it
        written.append(seq)
        field, key, text, removed, _, _ = change
        if removed:
            connection.execute(_REMOVE_REGISTER, (session_id, field, key))
        else:
            value = None if field == "message" else text  # a message's value is only in its event row
            connection.execute(_SET_REGISTER, (session_id, field, key, version, event_id, seq, value))
    return written


def refold_session(connection: sqlite3.Connection, session_id: str, upcast: Upcaster) -> None:
    """Fold a session's registers again from its events, and let the next search index the session again."""
    events = read.all_events(connection, session_id, upcast)
    connection.execute("DELETE FROM session_state WHERE session_id = ?", (session_id,))
    for (field, key), register in fold(events).items():
        seq, text = connection.execute(
            "SELECT seq, value FROM session_events INDEXED BY session_events_by_id "
            "WHERE session_id = ? AND event_id = ? ORDER BY field <> ?, key <> ?",
            (session_id, register.event_id, field, key),
        ).fetchone()
        # A message's value is only in its event row, unless an upcast changed it.
        value = None if field == "message" and text == register.text else register.text
        connection.execute(_SET_REGISTER, (session_id, field, key, register.version, register.event_id, seq, value))
    index.reindex(connection, session_id)


def _recorded_version(connection: sqlite3.Connection, session_id: str, event: PreparedEvent) -> int | None:
    """Return the version at which this event is recorded; None if its event_id is new."""
    recorded = _find_event(connection, session_id, event.event_id)
    if recorded is None:
        return None
    check_same(session_id, event, recorded)
    return recorded.version


def _is_recorded(connection: sqlite3.Connection, event: RecordedEvent) -> bool:
    recorded = _find_event(connection, event.session_id, event.event_id)
    if recorded is not None:
        check_same(event.session_id, event, recorded)
    return recorded is not None


def _find_event(connection: sqlite3.Connection, session_id: str, event_id: str) -> FoundEvent | None:
    """Return a recorded event, from its tombstone if its rows were dropped; None if no event has this id."""
    rows = [_RecordedRow._make(row) for row in connection.execute(_FIND_EVENT, (session_id, event_id)).fetchall()]
    if not rows:
        return kept.event(connection, session_id, event_id)
    content = {(row.field, row.key, row.value, bool(row.removed)) for row in rows}
    hashes = {(row.field, row.key, row.value_hash) for row in rows}
    return EventInRows(rows[0].version, rows[0].event_type, content, hashes)

"""What the embedded store writes, inside transactions that others begin and end."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
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

#: What the rows of an event share comes first, so that it is put together once.
_COLUMNS = ("seq", *columns.EVENT, *columns.CHANGE)
_INSERT_ROW = f"INSERT INTO session_events ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_HEAD_COLUMNS = ("session_id", *HeadRow._fields)
#: A session's head, from its id and its row.
PUT_HEAD = f"INSERT INTO session_heads ({', '.join(_HEAD_COLUMNS)}) VALUES ({', '.join('?' * len(_HEAD_COLUMNS))})"  # noqa: S608
_MOVE_HEAD = (
    "UPDATE session_heads SET version = ?, updated_at = ?, event_hash = ? "
    "WHERE session_id = ? AND version = ? AND event_hash IS ? AND store_id = ?"
)
_SIZE = ("page_size", "page_count", "freelist_count")
#: Heads that a process remembers.
KNOWN_HEADS = 1024
_SET_SLOT = (
    "INSERT INTO session_state (session_id, field, key, version, event_id, event_seq, value) "
    "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "version = excluded.version, event_id = excluded.event_id, event_seq = excluded.event_seq, value = excluded.value"
)
_LIFETIME = (
    "SELECT field, value FROM session_state WHERE session_id = ? AND field IN ('status', 'expires_at') AND key = ''"
)
_REMOVE_SLOT = "DELETE FROM session_state WHERE session_id = ? AND field = ? AND key = ?"


class _Written(NamedTuple):
    """What tells whether a recorded event is the one that is appended again: a row of it."""

    version: int
    event_type: str
    field: str
    key: str
    value: str | None
    removed: int
    value_hash: str | None


_FIND_EVENT = (
    f"SELECT {', '.join(_Written._fields)} FROM session_events "  # noqa: S608
    "INDEXED BY session_events_by_id WHERE session_id = ? AND event_id = ?"
)
#: Heads as a process last knew them, by session, each with the time until which the session is open, 0 for not known.
KnownHeads = dict[str, tuple[HeadRow, int]]


def check_room(connection: sqlite3.Connection, max_bytes: int | None, path: Path) -> None:
    """Raise StoreUnavailable where the file is as large as it may be; what the relay keeps there is not asked."""
    if max_bytes is None:
        return
    size, pages, free = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _SIZE)
    if (pages - free) * size >= max_bytes:
        raise StoreUnavailable(
            f"The ledger {path} has reached its bound of {max_bytes:,} bytes (max_bytes in its URL); nothing was "
            "written. Raise the bound, or make room."
        )


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
    """Check an event against the session's head, then write its rows, its slots and the head.

    Args:
        heads: The head is moved only from exactly what was known, so one that is out of date, or of a transaction
            rolled back since, is found out.
        salts: One for each change, None for a removal.
        now: Time of recording; an earlier one than the session's last is moved up to that.

    Raises:
        SessionNotFound, WrongExpectedVersion, IdempotencyConflict, SessionEnded, InvalidInput: Before anything was
            written.
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
        check_open(session_id, ARCHIVED_TEXT, None, now)  # no event can follow rows that are not here
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
    changes, hashed = seal(prev_hash, envelope, event.changes, salts)
    new = HeadRow(user_id, created_at, version, recorded_at, hashed, store_id if head is None else head.store_id)
    if head is None:
        connection.execute(PUT_HEAD, (session_id, *new))
    elif not _move_head(connection, session_id, head, new):  # out of date, and no longer in heads: look again
        return append(
            *(connection, heads, session_id, event, salts),
            expected_version=expected_version,
            now=now,
            schema_version=schema_version,
            store_id=store_id,
        )
    _write_rows(connection, EventValues(*envelope, store_id, prev_hash, hashed), changes)
    if len(heads) >= KNOWN_HEADS:
        heads.clear()
    if any(change.field in LIFETIME_FIELDS for change in event.changes):
        open_until = 0
    heads[session_id] = new, open_until
    return AppendResult(session_id, version, event.event_id)


def _move_head(connection: sqlite3.Connection, session_id: str, known: HeadRow, new: HeadRow) -> bool:
    """Move a session's head on; False where it is not as it was known."""
    where = (session_id, known.version, known.event_hash, known.store_id)
    return connection.execute(_MOVE_HEAD, (new.version, new.updated_at, new.event_hash, *where)).rowcount > 0


def ingest(connection: sqlite3.Connection, events: Sequence[RecordedEvent], *, now: datetime, upcast: Upcaster) -> int:
    """Write events as they were recorded elsewhere, all or none; return how many were new.

    Raises:
        IdempotencyConflict, WrongExpectedVersion, InvalidInput, CorruptEvent: Nothing of the call was written.
    """
    sessions = by_session(events)
    with all_or_none(connection):
        return sum(
            _ingest_session(connection, session_id, of_session, now, upcast)
            for session_id, of_session in sessions.items()
        )


def refold(connection: sqlite3.Connection, upcast: Upcaster) -> None:
    """Fold every session anew from its events, after the shape of events has changed."""
    with all_or_none(connection):
        # An archived session without rows keeps its few slots as they are.
        here = "SELECT session_id FROM session_heads WHERE store_id <> ?"
        for (session_id,) in connection.execute(here, (UNOWNED,)).fetchall():
            refold_session(connection, session_id, upcast)
        connection.execute("UPDATE meta SET value = ? WHERE name = 'state_schema'", (str(upcast.current),))


@contextmanager
def all_or_none(connection: sqlite3.Connection) -> Iterator[None]:
    """What is written within stays only if nothing is raised; the transaction around it goes on either way."""
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
    standing = None
    if head is not None:
        standing = StreamHead(head.user_id, from_micros(head.created_at), head.version, head.event_hash)
    taken = plan_ingest(events, standing, lambda event: _is_recorded(connection, event), now)
    if taken is None:
        return 0
    if head is None:
        kept.check_not_deleted(connection, session_id)
    elif head.store_id == UNOWNED:
        check_open(session_id, ARCHIVED_TEXT, None, now)
    for event in taken.events:
        write_recorded(connection, event)
    last, updated_at = taken.events[-1], to_micros(taken.updated_at)
    if head is None:
        fixed = (session_id, last.user_id, to_micros(last.created_at))
        owner = read.meta(connection, "store_id")
        connection.execute(PUT_HEAD, (*fixed, last.version, updated_at, taken.event_hash, owner))
    else:
        moved = head._replace(version=last.version, updated_at=max(updated_at, head.updated_at))
        _move_head(connection, session_id, head, moved._replace(event_hash=taken.event_hash))
    if any(event.schema_version != upcast.current for event in taken.events):
        refold_session(connection, session_id, upcast)
    return len(taken.events)


def write_recorded(connection: sqlite3.Connection, event: RecordedEvent, first_seq: int | None = None) -> list[int]:
    """Write a recorded event's rows and slots; return the ``seq`` of each row.

    Args:
        first_seq: Of its rows, where they were here before; new ones where None.
    """
    return _write_rows(connection, columns.event_values(event), columns.change_values(event), first_seq)


def _write_rows(
    connection: sqlite3.Connection,
    event: EventValues,
    changes: Iterable[ChangeValues],
    first_seq: int | None = None,
) -> list[int]:
    """Write an event's rows and slots."""
    session_id, version, event_id = event.session_id, event.version, event.event_id
    written: list[int] = []
    for change in changes:
        given = None if first_seq is None else first_seq + len(written)
        seq = connection.execute(_INSERT_ROW, (given, *event, *change)).lastrowid
        assert seq is not None  # noqa: S101 - of an INSERT
        written.append(seq)
        field, key, text, removed, _, _ = change
        if removed:
            connection.execute(_REMOVE_SLOT, (session_id, field, key))
        else:
            value = None if field == "message" else text  # a message's value stays in its event row
            connection.execute(_SET_SLOT, (session_id, field, key, version, event_id, seq, value))
    return written


def refold_session(connection: sqlite3.Connection, session_id: str, upcast: Upcaster) -> None:
    """Fold a session anew from its events."""
    events = read.all_events(connection, session_id, upcast)
    connection.execute("DELETE FROM session_state WHERE session_id = ?", (session_id,))
    for (field, key), written in fold(events).items():
        seq, text = connection.execute(
            "SELECT seq, value FROM session_events INDEXED BY session_events_by_id "
            "WHERE session_id = ? AND event_id = ? ORDER BY field <> ?, key <> ?",
            (session_id, written.event_id, field, key),
        ).fetchone()
        # A message stays where it is unless an upcast changed it; then the slot holds the new text itself.
        value = None if field == "message" and text == written.text else written.text
        connection.execute(_SET_SLOT, (session_id, field, key, written.version, written.event_id, seq, value))
    index.again(connection, session_id)


def _recorded_version(connection: sqlite3.Connection, session_id: str, event: PreparedEvent) -> int | None:
    """Return the version at which this very event is recorded; None if its id is new here."""
    found = _find_event(connection, session_id, event.event_id)
    if found is None:
        return None
    check_same(session_id, event, found)
    return found.version


def _is_recorded(connection: sqlite3.Connection, event: RecordedEvent) -> bool:
    found = _find_event(connection, event.session_id, event.event_id)
    if found is not None:
        check_same(event.session_id, event, found)
    return found is not None


def _find_event(connection: sqlite3.Connection, session_id: str, event_id: str) -> FoundEvent | None:
    """Return what is here of a recorded event: its rows, else what is kept of them."""
    rows = [_Written._make(row) for row in connection.execute(_FIND_EVENT, (session_id, event_id)).fetchall()]
    if not rows:
        return kept.event(connection, session_id, event_id)
    content = {(row.field, row.key, row.value, bool(row.removed)) for row in rows}
    hashes = {(row.field, row.key, row.value_hash) for row in rows}
    return EventInRows(rows[0].version, rows[0].event_type, content, hashes)

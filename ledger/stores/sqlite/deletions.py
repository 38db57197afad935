"""Removing a session, and the deletions that a file records, which are carried over into a backup that replaces it.

A session that was purged since the backup was written must not come back with it: ``purged_sessions`` records each one,
and ``deleted_sessions`` those that a warehouse must still delete. A session that was deleted and not purged comes back
deleted from a warehouse that has its deletion; for others, its id is kept here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from ledger.model.instants import from_micros, to_micros
from ledger.stores.sqlite import read
from ledger.stores.sqlite import search_index as index
from ledger.stores.sqlite import tombstones as kept

_PURGED = (
    "SELECT p.session_id, p.created_at, p.version, p.purged_at, h.session_id IS NOT NULL FROM purged_sessions AS p "
    "LEFT JOIN session_heads AS h USING (session_id) WHERE h.created_at IS NOT p.created_at"
)
_PENDING = "SELECT session_id, created_at, version, warehouse FROM deleted_sessions"
_DELETED = (
    "SELECT session_id, event_id FROM session_state WHERE field = 'status' AND key = '' AND value = '\"deleted\"' "
    "ORDER BY session_id"
)
#: Statement that records a session which a warehouse must delete.
DELETE_IN = (
    "INSERT INTO deleted_sessions (session_id, created_at, warehouse, version, purged_at) VALUES (?, ?, ?, ?, ?)"
)
_FORGET_DEAD_LETTERS = "DELETE FROM relay_aside WHERE seq IN (SELECT seq FROM session_events WHERE session_id = ?)"
_PURGED_AT = "SELECT purged_at FROM purged_sessions WHERE session_id = ? AND created_at = ?"
_OF_A_SESSION = (
    *("session_heads", "session_state", "foreign_events"),
    *("archived_sessions", "archived_events", "archived_in"),
)
_HAS_TABLE = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?"


class PurgedSession(NamedTuple):
    """A session that was purged.

    Attributes:
        session_id: Its id.
        created_at: Its time of creation, in microseconds.
        version: Its version when it was purged.
        purged_at: When it was purged, in microseconds; None if only its pending deletion is recorded.
        is_replaced: True if another session has its id now, so that no warehouse has the purged one.
    """

    session_id: str
    created_at: int
    version: int
    purged_at: int | None
    is_replaced: bool


class Deletions(NamedTuple):
    """The deletions that a file records.

    Attributes:
        purged: The sessions that were purged.
        pending: Those that a warehouse must still delete, with the URL of that warehouse.
        deleted: The sessions that are deleted and not purged, each with the id of the event that deleted it.
    """

    purged: Sequence[PurgedSession]
    pending: Sequence[tuple[PurgedSession, str]]
    deleted: Sequence[tuple[str, str]]


def recorded(connection: sqlite3.Connection) -> Deletions:
    """Return the deletions that a ledger's file records; an older release may have recorded fewer."""
    pending = [
        (PurgedSession(session_id, created_at, version, None, False), warehouse)
        for session_id, created_at, version, warehouse in (
            connection.execute(_PENDING) if _has(connection, "deleted_sessions") else ()
        )
    ]
    purged = [
        PurgedSession(session_id, created_at, version, purged_at, bool(is_replaced))
        for session_id, created_at, version, purged_at, is_replaced in (
            connection.execute(_PURGED) if _has(connection, "purged_sessions") else ()
        )
    ]
    known = {each[:2]: each for each in [*(session for session, _ in pending), *purged]}
    return Deletions(list(known.values()), pending, connection.execute(_DELETED).fetchall())


def carry(connection: sqlite3.Connection, found: Deletions, warehouses: Collection[str], now: datetime) -> list[str]:
    """Carry deletions over into a file, in the caller's transaction; see ``SqliteArchive.carry_deletions``."""
    purged = []
    pending = list(found.pending)
    for each in found.purged:
        at = to_micros(now) if each.purged_at is None else each.purged_at
        own = connection.execute(_PURGED_AT, each[:2]).fetchone()
        if own is not None and own[0] >= at:  # what the file has of the session was imported after that purge
            continue
        kept.record_purge(connection, each.session_id, each.created_at, each.version, from_micros(at))
        head = read.head_row(connection, each.session_id)
        if head is None or head.created_at != each.created_at:
            continue
        remove(connection, each.session_id)
        purged.append(each.session_id)
        if not each.is_replaced:
            pending += [(each, name) for name in warehouses]
    connection.executemany(
        f"{DELETE_IN} ON CONFLICT DO UPDATE SET version = MAX(version, excluded.version)",
        [
            (each.session_id, each.created_at, name, each.version, to_micros(now))
            for each, name in pending
            if read.head_row(connection, each.session_id) is None
        ],
    )
    return sorted(purged)


def remove(connection: sqlite3.Connection, session_id: str) -> None:
    """Delete everything that the store keeps of a session, and its rows."""
    connection.execute(_FORGET_DEAD_LETTERS, (session_id,))
    connection.execute("DELETE FROM session_events WHERE session_id = ?", (session_id,))
    clear(connection, session_id)
    index.mark_purged(connection)


def clear(connection: sqlite3.Connection, session_id: str) -> None:
    """Delete everything that the store keeps of a session, except its rows."""
    for table in _OF_A_SESSION:
        connection.execute(f"DELETE FROM {table} WHERE session_id = ?", (session_id,))  # noqa: S608
    index.remove(connection, session_id)


def _has(connection: sqlite3.Connection, table: str) -> bool:
    return connection.execute(_HAS_TABLE, (table,)).fetchone() is not None

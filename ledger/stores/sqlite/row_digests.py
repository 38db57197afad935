"""Digests of the embedded store's rows, to compare with the digests of the same rows in a warehouse."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from datetime import datetime

from ledger.model.instants import from_micros, to_micros
from ledger.outbox.row_digests import RowDigest, SessionDigest, SessionKey, Tombstone, session_digest
from ledger.stores.archived import UNOWNED

#: Maximum number of sessions in one read. A longer read would keep SQLite from checkpointing the WAL.
PAGE = 1000
_HEADS = (
    "SELECT created_at, session_id, store_id, version FROM session_heads "
    "WHERE (created_at, session_id) > (?, ?) AND created_at < ? ORDER BY created_at, session_id LIMIT ?"
)
_DIGEST_COLUMNS = ", ".join(RowDigest._fields)
_OF_SESSION = "FROM session_events INDEXED BY session_events_by_version WHERE session_id = ? AND created_at = ?"
_SHIPPED = (
    f"SELECT {_DIGEST_COLUMNS} {_OF_SESSION} AND seq <= ? AND NOT EXISTS "  # noqa: S608
    "(SELECT 1 FROM relay_aside WHERE warehouse = ? AND relay_aside.seq = session_events.seq)"
)
_ARCHIVED_DIGEST = "SELECT rows, slots, digest FROM archived_sessions WHERE session_id = ?"
_ARCHIVED_EVENTS = "SELECT event_id, version FROM archived_events WHERE session_id = ?"
_IS_ARCHIVED = "SELECT version FROM session_heads WHERE session_id = ? AND created_at = ? AND store_id = ?"
_ALL = f"SELECT seq, {_DIGEST_COLUMNS} {_OF_SESSION}"


def session_digests(
    connection: sqlite3.Connection,
    warehouse: str,
    after: tuple[datetime, str],
    created_until: datetime,
    *,
    upto: int,
) -> list[tuple[SessionKey, SessionDigest]]:
    """Return the next page of sessions, ordered by (created_at, id).

    Each session has a digest of the rows that the warehouse should have.

    Args:
        connection: A connection that reads a snapshot.
        warehouse: The warehouse's URL; its dead letters are left out.
        after: Creation time and id of the previous page's last session.
        created_until: Return only sessions created before this time.
        upto: The last ``seq`` to include. If a session's rows were dropped, its digest covers all of them.
    """
    page = (to_micros(after[0]), after[1], to_micros(created_until), PAGE)
    result = []
    for created_at, session_id, owner, version in connection.execute(_HEADS, page).fetchall():
        if owner == UNOWNED:
            digest = _archived_digest(connection, session_id, version)
            result.append((SessionKey(session_id, from_micros(created_at)), digest))
            continue
        rows = connection.execute(_SHIPPED, (session_id, created_at, upto, warehouse))
        result.append((SessionKey(session_id, from_micros(created_at)), session_digest(map(RowDigest._make, rows))))
    return result


def _archived_digest(connection: sqlite3.Connection, session_id: str, version: int) -> SessionDigest:
    """Return the digest of an archived session's rows, recorded when they were dropped."""
    rows, distinct_rows, digest = connection.execute(_ARCHIVED_DIGEST, (session_id,)).fetchone()
    return SessionDigest(rows, distinct_rows, version, digest)


def tombstones(connection: sqlite3.Connection, sessions: Collection[SessionKey]) -> dict[SessionKey, Tombstone]:
    """Return the tombstones of the given sessions; a session whose rows were not dropped is left out."""
    result = {}
    for session in sessions:
        session_id, created_at = session
        head = connection.execute(_IS_ARCHIVED, (session_id, to_micros(created_at), UNOWNED)).fetchone()
        if head is not None:
            events = dict(connection.execute(_ARCHIVED_EVENTS, (session_id,)).fetchall())
            result[session] = Tombstone(_archived_digest(connection, session_id, head[0]), events)
    return result


def row_digests(
    connection: sqlite3.Connection, sessions: Collection[SessionKey]
) -> dict[SessionKey, list[tuple[int, RowDigest]]]:
    """Return each session's rows as ``(seq, digest)``. A session without rows has an empty list."""
    return {
        session: [
            (row[0], RowDigest._make(row[1:]))
            for row in connection.execute(_ALL, (session.session_id, to_micros(session.created_at)))
        ]
        for session in sessions
    }

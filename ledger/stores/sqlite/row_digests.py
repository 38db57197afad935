"""What the embedded store compares with a warehouse: the rows of its sessions without their values."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from datetime import datetime

from ledger.model.instants import from_micros, to_micros
from ledger.outbox.row_digests import RowDigest, SessionDigest, SessionKey, Tombstone, session_digest
from ledger.stores.archived import UNOWNED

#: Sessions in one look: no read stays open for long, which would keep the WAL from being folded in.
PAGE = 1000
_HEADS = (
    "SELECT created_at, session_id, store_id, version FROM session_heads "
    "WHERE (created_at, session_id) > (?, ?) AND created_at < ? ORDER BY created_at, session_id LIMIT ?"
)
_TRACE = ", ".join(RowDigest._fields)
_OF_SESSION = "FROM session_events INDEXED BY session_events_by_version WHERE session_id = ? AND created_at = ?"
_SETTLED = (
    f"SELECT {_TRACE} {_OF_SESSION} AND seq <= ? AND NOT EXISTS "  # noqa: S608
    "(SELECT 1 FROM relay_aside WHERE warehouse = ? AND relay_aside.seq = session_events.seq)"
)
_AMOUNT = "SELECT rows, slots, digest FROM archived_sessions WHERE session_id = ?"
_KEPT_EVENTS = "SELECT event_id, version FROM archived_events WHERE session_id = ?"
_IS_ARCHIVED = "SELECT version FROM session_heads WHERE session_id = ? AND created_at = ? AND store_id = ?"
_ALL = f"SELECT seq, {_TRACE} {_OF_SESSION}"


def session_digests(
    connection: sqlite3.Connection,
    warehouse: str,
    after: tuple[datetime, str],
    created_until: datetime,
    *,
    upto: int,
) -> list[tuple[SessionKey, SessionDigest]]:
    """What the rows of the next sessions amount to that must be in a warehouse, in the order of (created_at, id).

    Args:
        warehouse: Its URL; rows that are put aside for it need not be there.
        after: The creation and id of the last session seen.
        created_until: Only sessions that were created before.
        upto: The last ``seq`` to look at.
    """
    page = (to_micros(after[0]), after[1], to_micros(created_until), PAGE)
    found = []
    for created_at, session_id, owner, version in connection.execute(_HEADS, page).fetchall():
        if owner == UNOWNED:
            amount = _amount(connection, session_id, version)
            found.append((SessionKey(session_id, from_micros(created_at)), amount))
            continue
        rows = connection.execute(_SETTLED, (session_id, created_at, upto, warehouse))
        found.append((SessionKey(session_id, from_micros(created_at)), session_digest(map(RowDigest._make, rows))))
    return found


def _amount(connection: sqlite3.Connection, session_id: str, version: int) -> SessionDigest:
    """What the rows of an archived session amounted to when they were dropped."""
    rows, slots, digest = connection.execute(_AMOUNT, (session_id,)).fetchone()
    return SessionDigest(rows, slots, version, digest)


def tombstones(connection: sqlite3.Connection, sessions: Collection[SessionKey]) -> dict[SessionKey, Tombstone]:
    """What is left of those of some sessions that are archived, and whose rows were dropped."""
    found = {}
    for session in sessions:
        session_id, created_at = session
        head = connection.execute(_IS_ARCHIVED, (session_id, to_micros(created_at), UNOWNED)).fetchone()
        if head is not None:
            events = dict(connection.execute(_KEPT_EVENTS, (session_id,)).fetchall())
            found[session] = Tombstone(_amount(connection, session_id, head[0]), events)
    return found


def row_digests(
    connection: sqlite3.Connection, sessions: Collection[SessionKey]
) -> dict[SessionKey, list[tuple[int, RowDigest]]]:
    """All rows of some sessions, each after its ``seq``; of a session that is not here there are none."""
    return {
        session: [
            (row[0], RowDigest._make(row[1:]))
            for row in connection.execute(_ALL, (session.session_id, to_micros(session.created_at)))
        ]
        for session in sessions
    }

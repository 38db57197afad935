"""Tombstones of archived sessions whose rows were dropped, pending deletions, and records of purged sessions."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

import orjson

from ledger.errors import StoreUnavailable
from ledger.model.instants import to_micros
from ledger.stores.checks import Content, ValueHashes

#: Query for the warehouses that may have rows of this store. What a relay has recorded lags behind what it has sent:
#: a batch under way counts, and so do rows that it must look up before it sends them. A relay that holds the lease may
#: have read rows for a batch that it has not recorded yet.
WAREHOUSES = (
    "SELECT warehouse FROM relays WHERE checkpoint > 0 OR unsure_upto > 0 OR place <> '' OR batch IS NOT NULL "
    "OR holder IS NOT NULL OR EXISTS (SELECT 1 FROM relay_aside AS a WHERE a.warehouse = relays.warehouse) "
    "ORDER BY warehouse"
)
_EVENT = "SELECT version, salt, digest FROM archived_events WHERE session_id = ? AND event_id = ?"
_DELETED = "SELECT warehouse FROM deleted_sessions WHERE session_id = ? LIMIT 1"

#: What is kept of an archived session. The head's ``store_id`` is left out: it only says that the session is archived.
_KEPT_COLUMNS = {
    "session_heads": ("session_id", "user_id", "created_at", "version", "updated_at", "event_hash"),
    "session_state": ("field", "key", "version", "event_id", "event_seq", "value"),
    "archived_sessions": ("rows", "slots", "digest"),
    "archived_events": ("event_id", "version", "seq", "rows", "salt", "digest"),
}
# As bytes, so that a damaged text can be digested too.
_KEPT = tuple(
    f"SELECT {', '.join(f'typeof({name}), CAST({name} AS BLOB)' for name in names)} FROM {table} "  # noqa: S608
    f"WHERE session_id = ? ORDER BY {', '.join(names)}"
    for table, names in _KEPT_COLUMNS.items()
)
_RECORD_PURGE = (
    "INSERT INTO purged_sessions VALUES (?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET version = excluded.version, purged_at = excluded.purged_at"
)


class KeptEvent(NamedTuple):
    """The tombstone of an event whose rows are only in a warehouse."""

    version: int
    salt: str | None
    digest: str | None

    def says(self, event_type: str, content: Content, hashes: ValueHashes | None = None) -> bool:
        """Return True if the event had this type and content. ``hashes`` is ignored, because a tombstone has no hashes.

        If there is no salt, there is no digest to compare. The method then returns True for every type and content.
        """
        return self.salt is None or self.digest == content_digest(self.salt, event_type, content)


def content_digest(salt: str, event_type: str, content: Content) -> str:
    """Return the hex SHA-256 of an event's type and content, salted so that content cannot be guessed."""
    return sha256(orjson.dumps([salt, event_type, sorted(content, key=lambda change: change[:2])])).hexdigest()


def event(connection: sqlite3.Connection, session_id: str, event_id: str) -> KeptEvent | None:
    """Return the tombstone of an event of an archived session; None if there is none."""
    row = connection.execute(_EVENT, (session_id, event_id)).fetchone()
    return None if row is None else KeptEvent(*row)


def warehouses(connection: sqlite3.Connection) -> list[str]:
    """Return the URLs of the warehouses that may have rows of this store."""
    return [name for (name,) in connection.execute(WAREHOUSES).fetchall()]


def check_not_deleted(connection: sqlite3.Connection, session_id: str) -> None:
    """Raise StoreUnavailable if a session with this id was purged and a warehouse must still delete that session.

    Call it before a session is created. The warehouse could not tell the rows of the new session from those of the
    purged one, and would delete both.
    """
    deletion = connection.execute(_DELETED, (session_id,)).fetchone()
    if deletion is not None:
        raise StoreUnavailable(
            f"Session {session_id} was purged here and must still be deleted in {deletion[0]}; nothing was written. "
            "Run `ledger maintain` with this warehouse, or choose another id."
        )


def kept_digest(connection: sqlite3.Connection, session_id: str) -> str:
    """Return the SHA-256 of what the store keeps of an archived session. ``archived_sessions`` records it."""
    digest = sha256()
    for statement in _KEPT:
        for row in connection.execute(statement, (session_id,)):
            for cell in row:
                content = cell.encode() if isinstance(cell, str) else cell or b""
                digest.update(b"%d:%b" % (len(content), content))
        digest.update(b";")
    return digest.hexdigest()


def bind(connection: sqlite3.Connection, session_id: str) -> None:
    """Record in a session's tombstone the digest of what is kept of it. Call it when everything else is written."""
    change = "UPDATE archived_sessions SET kept = ? WHERE session_id = ?"
    connection.execute(change, (kept_digest(connection, session_id), session_id))


def bind_all(connection: sqlite3.Connection) -> None:
    """Record the digests of the sessions that an older release archived, as what it kept of them is now."""
    for (session_id,) in connection.execute("SELECT session_id FROM archived_sessions").fetchall():
        bind(connection, session_id)


def record_purge(connection: sqlite3.Connection, session_id: str, created_at: int, version: int, now: datetime) -> None:
    """Record that a session is purged: for a restore of an older backup, and for a verification against a seal."""
    connection.execute(_RECORD_PURGE, (session_id, created_at, version, to_micros(now)))

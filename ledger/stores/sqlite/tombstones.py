"""What the embedded store looks up of sessions whose rows it has not, or is to have no more."""

from __future__ import annotations

import sqlite3
from hashlib import sha256
from typing import NamedTuple

import orjson

from ledger.errors import StoreUnavailable
from ledger.stores.checks import Content, ValueHashes

#: Relays that have begun with their warehouse: it may have rows of this store, and waits for more.
WAREHOUSES = "SELECT warehouse FROM relays WHERE checkpoint > 0 OR place <> '' ORDER BY warehouse"
_EVENT = "SELECT version, salt, digest FROM archived_events WHERE session_id = ? AND event_id = ?"
_DELETED = "SELECT warehouse FROM deleted_sessions WHERE session_id = ? LIMIT 1"


class KeptEvent(NamedTuple):
    """What is kept of an event whose rows are in a warehouse alone."""

    version: int
    salt: str | None
    digest: str | None

    def says(self, event_type: str, content: Content, hashes: ValueHashes | None = None) -> bool:
        """Return whether the event was of this type and content; its hashes are not kept here."""
        return self.salt is None or self.digest == content_digest(self.salt, event_type, content)


def content_digest(salt: str, event_type: str, content: Content) -> str:
    """Hex SHA-256 of what an event says, under a salt, so that nothing can be looked up by it."""
    return sha256(orjson.dumps([salt, event_type, sorted(content, key=lambda change: change[:2])])).hexdigest()


def event(connection: sqlite3.Connection, session_id: str, event_id: str) -> KeptEvent | None:
    """What is kept of an event of an archived session; None where there is no such event."""
    row = connection.execute(_EVENT, (session_id, event_id)).fetchone()
    return None if row is None else KeptEvent(*row)


def warehouses(connection: sqlite3.Connection) -> list[str]:
    """The warehouses that this store has shipped to."""
    return [name for (name,) in connection.execute(WAREHOUSES).fetchall()]


def check_not_deleted(connection: sqlite3.Connection, session_id: str) -> None:
    """Raise StoreUnavailable where a session about to begin was deleted for good and is still in a warehouse.

    The new one's rows could not be told from the old one's, and would be deleted with them.
    """
    found = connection.execute(_DELETED, (session_id,)).fetchone()
    if found is not None:
        raise StoreUnavailable(
            f"Session {session_id} was deleted for good here, and is still to be deleted in {found[0]}; nothing was "
            "written. Do that with `ledger maintain` and this warehouse, or choose another id."
        )

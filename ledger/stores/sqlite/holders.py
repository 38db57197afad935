"""Which warehouses hold the rows of an archived session: those that the store shipped to when it dropped the rows.

A warehouse that the ledger ships to only since then never gets these rows. A session that an earlier release archived
may have no record; its rows may then be in any warehouse that the store has shipped to.
"""

from __future__ import annotations

import sqlite3
from itertools import groupby

from ledger.stores.base import ArchivedElsewhere
from ledger.stores.sqlite import tombstones as kept

_RECORD = "INSERT OR IGNORE INTO archived_in (session_id, warehouse) VALUES (?, ?)"
_HAS_SHIPPED = "SELECT EXISTS (SELECT 1 FROM relays WHERE warehouse = ? AND (checkpoint > 0 OR place <> ''))"
_UNRECORDED = "NOT EXISTS (SELECT 1 FROM archived_in AS i WHERE i.session_id = a.session_id)"
_IN = "EXISTS (SELECT 1 FROM archived_in AS i WHERE i.session_id = a.session_id AND i.warehouse = ?1)"
_ELSEWHERE = "EXISTS (SELECT 1 FROM archived_in AS i WHERE i.session_id = a.session_id AND i.warehouse <> ?1)"
_COUNT_IN = f"SELECT COUNT(*) FROM archived_sessions AS a WHERE {_UNRECORDED} OR {_IN}"  # noqa: S608
_COUNT_ALONE = f"SELECT COUNT(*) FROM archived_sessions AS a WHERE {_UNRECORDED} OR {_IN} AND NOT {_ELSEWHERE}"  # noqa: S608
_LIST_ELSEWHERE = (
    "SELECT a.session_id, o.warehouse FROM archived_sessions AS a JOIN archived_in AS o USING (session_id) "  # noqa: S608
    f"WHERE NOT {_IN} ORDER BY a.session_id, o.warehouse"
)
_OF = "SELECT warehouse FROM archived_in WHERE session_id = ? ORDER BY warehouse"


def record(connection: sqlite3.Connection, session_id: str) -> None:
    """Record that every warehouse of the store has the rows of a session. Call it when the rows are dropped."""
    connection.executemany(_RECORD, [(session_id, name) for name in kept.warehouses(connection)])


def of(connection: sqlite3.Connection, session_id: str) -> list[str]:
    """Return the URLs of the warehouses that have the rows of an archived session, or may have them."""
    return [name for (name,) in connection.execute(_OF, (session_id,)).fetchall()] or kept.warehouses(connection)


def count(connection: sqlite3.Connection, warehouse: str, *, alone: bool = False) -> int:
    """Return the number of archived sessions whose rows are in a warehouse; see ``OutboxStore.archived_in``."""
    if not connection.execute(_HAS_SHIPPED, (warehouse,)).fetchone()[0]:
        return 0
    return int(connection.execute(_COUNT_ALONE if alone else _COUNT_IN, (warehouse,)).fetchone()[0])


def elsewhere(connection: sqlite3.Connection, warehouse: str) -> list[ArchivedElsewhere]:
    """Return the archived sessions that only other warehouses have; see ``OutboxStore.archived_elsewhere``."""
    rows = connection.execute(_LIST_ELSEWHERE, (warehouse,)).fetchall()
    return [
        ArchivedElsewhere(session_id, tuple(name for _, name in of_session))
        for session_id, of_session in groupby(rows, key=lambda row: str(row[0]))
    ]

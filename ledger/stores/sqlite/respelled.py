"""Warehouses that are recorded under another URL: a former spelling of the path of a file, or its former place.

Up to release 0.2, a ledger opened as ``../an.db`` recorded the DuckDB file beside it with ``..`` in its URL, as another
warehouse. URLs are without ``..`` since; what is recorded under the former one is renamed when the ledger is opened.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime

from ledger.stores.sqlite.lease import lease_of
from ledger.stores.sqlite.unreconciled import PREFIX
from ledger.stores.sqlite.verify_errors import is_damage
from ledger.warehouse.urls import duckdb_file, duckdb_url

_RESPELLED = "SELECT warehouse FROM relays WHERE warehouse LIKE 'duckdb:///%/../%'"
_IS_KNOWN = "SELECT 1 FROM relays WHERE warehouse = ?"
#: What is recorded of a warehouse beside its relay, and what of it is kept if it is recorded under both spellings.
_RENAME_RELAY = (
    "UPDATE relays SET warehouse = :new WHERE warehouse = :old",
    "UPDATE OR REPLACE relay_aside SET warehouse = :new WHERE warehouse = :old",
)
_DROP_RELAY = ("DELETE FROM relays WHERE warehouse = :old", "DELETE FROM relay_aside WHERE warehouse = :old")
_RENAME_REST = (
    "UPDATE OR IGNORE deleted_sessions SET warehouse = :new WHERE warehouse = :old",
    "DELETE FROM deleted_sessions WHERE warehouse = :old",
    "UPDATE OR REPLACE archived_in SET warehouse = :new WHERE warehouse = :old",
    f"UPDATE OR IGNORE meta SET name = '{PREFIX}' || :new WHERE name = '{PREFIX}' || :old",  # noqa: S608
    f"DELETE FROM meta WHERE name = '{PREFIX}' || :old",  # noqa: S608
)


def are_recorded(connection: sqlite3.Connection) -> bool:
    """Return True if a warehouse is recorded under a URL with ``..``."""
    try:
        return connection.execute(_RESPELLED).fetchone() is not None
    except sqlite3.OperationalError as error:
        if not is_damage(error):
            raise
        return False  # the table is gone: ``verify`` says so


def rename(connection: sqlite3.Connection) -> None:
    """Record each warehouse under its one URL, in the caller's transaction.

    If it is recorded under that URL too, the checkpoint and the dead letters there stay: that relay has compared them
    with the same file.
    """
    for (old,) in connection.execute(_RESPELLED).fetchall():
        path = duckdb_file(old)
        if path is None or (new := duckdb_url(path)) == old:
            continue
        rename_one(connection, old, new)


def move(connection: sqlite3.Connection, old: str, new: str, now: datetime) -> None:
    """Record a file under its new URL after it was moved; see ``OutboxStore.rename_warehouse``."""
    for warehouse in (old, new):
        lease = lease_of(connection, warehouse)
        if lease is not None:
            lease.check_free(warehouse, now)
    rename_one(connection, old, new)


def rename_one(connection: sqlite3.Connection, old: str, new: str) -> None:
    """Record a warehouse under another URL. A relay that is known under that URL stays as it is."""
    known = connection.execute(_IS_KNOWN, (new,)).fetchone() is not None
    for statement in (*(_DROP_RELAY if known else _RENAME_RELAY), *_RENAME_REST):
        connection.execute(statement, {"old": old, "new": new})

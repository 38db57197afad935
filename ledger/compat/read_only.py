"""A read-only SQL connection to a ledger's file, with the tables that an older session store had as views.

The views are temporary: they exist on this connection alone, and nothing of them is written to the file. Python's own
``sqlite3`` is the copy of SQLite that the ledger uses as well; a second copy must never open the live file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ledger.errors import CapabilityMissing, PermissionDenied
from ledger.stores.base import outbox_store
from ledger.stores.sqlite.errors import translate

if TYPE_CHECKING:
    from ledger.sdk.ledger import SessionLedger


def connect(ledger: SessionLedger, views: Mapping[str, str]) -> sqlite3.Connection:
    """A connection that reads and never writes; close it when you are done.

    Args:
        ledger: Whose file it reads; one that is kept in SQLite.
        views: Name of each view to the SELECT behind it.

    Returns:
        A DB-API connection whose rows know their columns' names; parameters are ``?`` or ``:name``.

    Raises:
        PermissionDenied: The ledger is the view of one user; SQL sees everybody's sessions.
        CapabilityMissing: The ledger is not in a SQLite file.
        StoreUnavailable, StoreRejected: The file cannot be opened.
    """
    if ledger.user_id is not None:
        raise PermissionDenied(
            f"SQL sees everybody's sessions, and this is the view of user {ledger.user_id} alone; use the ledger that "
            "for_user() was called on."
        )
    store = outbox_store(ledger.store)
    if store is None:
        raise CapabilityMissing(
            f"{ledger.url} is no SQLite file; ask BigQuery for its views, or `ledger sql`, instead."
        )
    try:
        connection = sqlite3.connect(f"{store.path.as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            for name, select in views.items():
                connection.execute(f"CREATE TEMP VIEW {name} AS {select}")
            connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise translate(error, store.path) from error
    connection.row_factory = sqlite3.Row
    return connection


def slot(field: str, key: str = "") -> str:
    """SQL for the value of a session's slot, where ``heads`` is the session: text, a number, or JSON text."""
    return (
        "(SELECT json_extract(value, '$') FROM session_state "  # noqa: S608 - names of this package only
        f"WHERE session_id = heads.session_id AND field = '{field}' AND key = '{key}')"
    )


def instant(column: str) -> str:
    """SQL for a time in microseconds as text in UTC, which sorts: ``2026-11-21 05:00:00.000000``."""
    return f"strftime('%Y-%m-%d %H:%M:%S', {column} / 1000000, 'unixepoch') || printf('.%06d', {column} % 1000000)"

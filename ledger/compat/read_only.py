"""A read-only SQL connection to a ledger's file, with views in place of an earlier store's tables.

The views are temporary: they exist on this connection only and are never written to the file. The connection uses
Python's own ``sqlite3``, as the ledger does, because a second copy of SQLite must never open the live file.
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
    """Return a read-only connection to a ledger's file; the caller closes it.

    Args:
        ledger: A ledger in a SQLite file.
        views: The SELECT statement of each view to create, by view name.

    Returns:
        A DB-API connection with these views. Its rows can be accessed by column name, and the parameters of a
            statement are written ``?`` or ``:name``.

    Raises:
        PermissionDenied: The ledger is limited to one user, but SQL reads the sessions of all users.
        CapabilityMissing: The ledger is not a SQLite file.
        StoreUnavailable, StoreRejected: The file cannot be opened.
    """
    if ledger.user_id is not None:
        raise PermissionDenied(
            f"SQL reads the sessions of all users, and this ledger is limited to user {ledger.user_id}; use the "
            "ledger that for_user() was called on."
        )
    store = outbox_store(ledger.store)
    if store is None:
        raise CapabilityMissing(f"{ledger.url} is not a SQLite file; query the views in BigQuery, or run `ledger sql`.")
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
    """Return a SQL expression for the value of a register of the session in the current row of ``heads``.

    Text and numbers stay as they are. A boolean becomes 1 or 0, and an object or array becomes JSON text. If the
    register has no value, the result is NULL.
    """
    return (
        "(SELECT json_extract(value, '$') FROM session_state "  # noqa: S608 - names of this package only
        f"WHERE session_id = heads.session_id AND field = '{field}' AND key = '{key}')"
    )


def instant(column: str) -> str:
    """Return a SQL expression that formats a column of microseconds as UTC text: ``2026-11-21 05:00:00.000000``."""
    return f"strftime('%Y-%m-%d %H:%M:%S', {column} / 1000000, 'unixepoch') || printf('.%06d', {column} % 1000000)"

"""A read-only SQL connection to a ledger's file, which has views in place of the earlier stores' tables.

The connection uses Python's own ``sqlite3``, as the ledger does, because a second copy of SQLite must never open the
live file in the same process. The views are those of ``ledger.stores.sqlite.views``.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from ledger.errors import CapabilityMissing, PermissionDenied
from ledger.stores.base import outbox_store
from ledger.stores.sqlite.errors import translate

if TYPE_CHECKING:
    from ledger.sdk.ledger import SessionLedger


def connect(ledger: SessionLedger) -> sqlite3.Connection:
    """Return a read-only connection to a ledger's file; the caller closes it.

    Args:
        ledger: A ledger in a SQLite file.

    Returns:
        A DB-API connection. Its rows can be accessed by column name, and the parameters of a statement are written
            ``?`` or ``:name``.

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
            connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise translate(error, store.path) from error
    connection.row_factory = sqlite3.Row
    return connection

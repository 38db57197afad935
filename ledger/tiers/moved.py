"""A DuckDB file that was moved: what the store records of it is recorded under its new path.

The store knows a warehouse by its URL, which has the path of the file. Under another path, the file would count as
another warehouse, and the former one as lost.
"""

from __future__ import annotations

import shlex
from contextlib import closing
from datetime import UTC, datetime

from ledger.errors import InvalidInput, StoreRejected
from ledger.relay.reconcile import reconcile
from ledger.stores.base import OutboxStore
from ledger.tiers.opening import warehouse_for
from ledger.warehouse.duckdb.creation import absence
from ledger.warehouse.row_comparison import ComparedRows
from ledger.warehouse.urls import duckdb_file, duckdb_url

#: All creation times of sessions.
_EVER = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


def move_warehouse(store: OutboxStore, former: str, present: str) -> str:
    """Record a DuckDB file under its present path, after a check that it has every row that the store shipped to it.

    Args:
        store: The store, which has shipped to the file.
        former: URL of the file before it was moved. There must be no file any more.
        present: URL of the file now.

    Returns:
        The URL under which the store knows the file now.

    Raises:
        InvalidInput: A URL names no DuckDB file, the store has not shipped to ``former``, a file is still there, or
            there is none at ``present``.
        StoreRejected: The file lacks rows that were shipped to ``former``, or has others; nothing was recorded.
        LeaseHeld: A relay ships to one of the two at this moment.
    """
    before, after = duckdb_file(former), duckdb_file(present)
    if before is None or after is None:
        raise InvalidInput("Only a DuckDB file can be moved: give its former and its present URL, duckdb:///FILE.")
    former, present = duckdb_url(before), duckdb_url(after)
    if former not in store.warehouses():
        raise InvalidInput(f"This ledger does not ship to {former}; list its warehouses with: ledger warehouse list")
    if absence(before) is None:
        raise InvalidInput(f"{before} is still there, so that {after} is a copy of it; move it away first.")
    if found := absence(after):
        raise InvalidInput(f"{after} {found}; move the file there first.")
    with closing(warehouse_for(store, present)) as warehouse:
        differences = reconcile(store.outbox(former), ComparedRows(warehouse), *_EVER).differences
    lacking = [each for each in differences if each.missing or each.gone or each.changed]
    if lacking:
        sessions = f"{len(lacking):,} session{'s' if len(lacking) > 1 else ''}, such as {lacking[0].session_id}"
        raise StoreRejected(
            f"{after} is not the file that was at {before}, or an older copy of it: it lacks rows of {sessions}; "
            f"nothing was changed. Move the file there that was at {before}. If it is lost: "
            f"`ledger warehouse forget {shlex.quote(former)}`."
        )
    store.rename_warehouse(former, present)
    return present

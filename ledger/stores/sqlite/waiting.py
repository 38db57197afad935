"""The warehouses that the embedded store ships to, what holds up the retention of its sessions, and forgetting one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import datetime

from ledger.errors import InvalidInput, StoreRejected
from ledger.model.instants import from_micros
from ledger.stores.archived import ARCHIVED_TEXT, UNOWNED
from ledger.stores.base import Forgotten, Waiting
from ledger.stores.sqlite import holders, unreconciled
from ledger.stores.sqlite import tombstones as kept
from ledger.stores.sqlite.lease import lease_of

_ENDED = "s.field = 'status' AND s.key = '' AND s.value IN ('\"expired\"', '\"archived\"', '\"deleted\"')"
_OF = "CROSS JOIN session_state AS s USING (session_id) CROSS JOIN session_heads AS h USING (session_id)"
#: Ended sessions with rows that a relay has not shipped: above its checkpoint, or dead letters that are not settled.
_ABOVE = (
    "SELECT e.session_id, s.value, h.updated_at, MIN(e.recorded_at), 'shipping' FROM session_events AS e "  # noqa: S608
    f"{_OF} WHERE e.seq > (SELECT checkpoint FROM relays WHERE warehouse = ?) AND {_ENDED} GROUP BY e.session_id"
)
_DEAD_LETTERS = (
    "SELECT e.session_id, s.value, h.updated_at, MIN(a.put_at), IIF(MAX(a.state = 'refused'), 'redrive', 'shipping') "  # noqa: S608
    f"FROM relay_aside AS a CROSS JOIN session_events AS e ON e.seq = a.seq {_OF} "
    f"WHERE a.warehouse = ? AND a.state NOT IN ('expired', 'dismissed') AND {_ENDED} GROUP BY e.session_id"
)
#: Archived sessions whose rows the store still holds.
_UNDROPPED = (
    "SELECT s.session_id, s.value, h.updated_at, h.updated_at, 'dropping' "  # noqa: S608
    "FROM session_state AS s JOIN session_heads AS h USING (session_id) "
    f"WHERE s.field = 'status' AND s.key = '' AND s.value = '{ARCHIVED_TEXT}' AND h.store_id <> '{UNOWNED}'"
)
_DELETIONS = "SELECT session_id, warehouse, purged_at FROM deleted_sessions ORDER BY created_at, session_id"
_COUNT = {
    "rows": "SELECT COUNT(*) FROM session_events WHERE seq > (SELECT checkpoint FROM relays WHERE warehouse = ?)",
    "deletions": "SELECT COUNT(*) FROM deleted_sessions WHERE warehouse = ?",
}
_TABLES = ("relay_aside", "deleted_sessions", "archived_in", "relays")


def waiting(connection: sqlite3.Connection) -> list[Waiting]:
    """Return the sessions whose retention waits for a warehouse; see ``PurgingStore.waiting``."""
    found = [
        Waiting(session_id, "purged", warehouse, "deletion", None if at is None else from_micros(at), None)
        for session_id, warehouse, at in connection.execute(_DELETIONS).fetchall()
    ]
    warehouses = kept.warehouses(connection)
    for warehouse in warehouses:
        rows = [row for sql in (_ABOVE, _DEAD_LETTERS) for row in connection.execute(sql, (warehouse,)).fetchall()]
        found += [_waiting(warehouse, *row) for row in _once(rows)]
    if warehouses:
        known = {each.session_id for each in found}
        rows = connection.execute(_UNDROPPED).fetchall()
        found += [_waiting(warehouses[0], *row) for row in rows if row[0] not in known]
    return found


def forget(connection: sqlite3.Connection, warehouse: str, now: datetime, *, even_if_needed: bool) -> Forgotten:
    """Forget a warehouse, in the caller's transaction; see ``OutboxStore.forget_warehouse``."""
    lease = lease_of(connection, warehouse)
    known = kept.warehouses(connection)
    if unreconciled.clear(connection, warehouse) and warehouse not in known:
        deletions = connection.execute(_COUNT["deletions"], (warehouse,)).fetchone()[0]
        if deletions and not even_if_needed:
            raise _needed(warehouse, 0, deletions)
        connection.execute("DELETE FROM deleted_sessions WHERE warehouse = ?", (warehouse,))
        return Forgotten(warehouse, 0, deletions, 0)
    if lease is None or warehouse not in known:
        ships_to = f"it ships to {', '.join(known)}" if known else "it ships to none"
        raise InvalidInput(f"This ledger does not ship to {warehouse}: {ships_to}.")
    lease.check_free(warehouse, now)
    rows, deletions = (connection.execute(sql, (warehouse,)).fetchone()[0] for sql in _COUNT.values())
    archived = holders.count(connection, warehouse, alone=True)
    if (archived or deletions) and not even_if_needed:
        raise _needed(warehouse, archived, deletions)
    for table in _TABLES:  # the row in ``relays`` is made anew
        connection.execute(f"DELETE FROM {table} WHERE warehouse = ?", (warehouse,))  # noqa: S608
    # A relay that lost its lease may still run: without a later epoch it could save when the warehouse is used again.
    connection.execute("INSERT INTO relays (warehouse, epoch) VALUES (?, ?)", (warehouse, lease.epoch + 1))
    return Forgotten(warehouse, rows, deletions, archived)


def _needed(warehouse: str, archived: int, deletions: int) -> StoreRejected:
    """Return the error for a warehouse that is not forgotten, with the numbers of sessions that need it."""
    return StoreRejected(
        f"{warehouse} is still needed, and nothing was forgotten: archived sessions whose rows may be only there: "
        f"{archived}; purged sessions that must still be deleted there: {deletions}. Hydrate the archived sessions "
        "and run `ledger maintain` with this warehouse first. If it is lost, use "
        "forget_warehouse(even_if_needed=True)."
    )


def _once(rows: Iterable[tuple[str, str, int, int, str]]) -> list[tuple[str, str, int, int, str]]:
    """Return one row per session, since the oldest, as new rows and requeued ones of a session may wait at once.

    A session with refused rows waits for ``redrive``: shipping the others does not end its wait.
    """
    by_id: dict[str, tuple[str, str, int, int, str]] = {}
    for session_id, status, updated_at, since, waits_for in rows:
        *_, first, before = by_id.get(session_id, (since, waits_for))
        waits_for = "redrive" if "redrive" in (before, waits_for) else waits_for
        by_id[session_id] = session_id, status, updated_at, min(first, since), waits_for
    return list(by_id.values())


def _waiting(warehouse: str, session_id: str, status: str, updated_at: int, since: int, waits_for: str) -> Waiting:
    return Waiting(session_id, status.strip('"'), warehouse, waits_for, from_micros(since), from_micros(updated_at))

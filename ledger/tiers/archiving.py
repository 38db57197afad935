"""Drop and restore the rows of archived sessions, and delete purged sessions in the warehouse.

A session's rows are dropped only after a query has shown that the warehouse has every one of them. The relay's
checkpoint alone does not show that: the warehouse may have been restored from a backup, replaced or emptied since the
rows were sent.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ledger.errors import ArchiveLost, ConfigurationError, SessionArchived, SessionEnded, WrongExpectedVersion
from ledger.model.events import ANY_VERSION, AppendResult, Change, NewEvent
from ledger.model.fold import State
from ledger.model.ids import created_at_of
from ledger.model.instants import to_micros
from ledger.model.lifetime import check_open
from ledger.model.session import Head
from ledger.model.values import canonical
from ledger.outbox.comparison import batches, by_day, parts
from ledger.outbox.row_digests import SessionKey
from ledger.stores.archived import Droppable, status_change
from ledger.stores.base import EventStore, PendingDeletion
from ledger.tiers.local import LocalTier
from ledger.warehouse import catalog
from ledger.warehouse.base import Warehouse
from ledger.warehouse.projection import Projection, span_of
from ledger.warehouse.row_comparison import ComparedRows
from ledger.warehouse.rows import HeadRow

log = logging.getLogger("ledger.archive")

#: Maximum number of consecutive days whose sessions one statement deletes. BigQuery bills all columns of these days,
#: and refuses a statement above ``maximum_bytes_billed``, but reads the streaming buffer only once for all of them.
DAYS_AT_ONCE = 7


def is_older_or_other(found: Head, archived: Head) -> bool:
    """Return True if a warehouse's session lacks events of the archived one, or is another session with its id."""
    return found.version < archived.version or _identity(found) != _identity(archived)


def archive_lost(archived: SessionArchived, warehouse: str, found: Head | None = None) -> ArchiveLost:
    """Return the error for an archived session of which the warehouse lacks rows; ``found`` is what it has."""
    has = "has none of its rows"
    if found is not None:
        is_other = _identity(found) != _identity(archived.head)
        has = "has another session with this id" if is_other else f"has it only up to version {found.version}"
    session_id = archived.head.session_id
    remedy = "Open the ledger with the warehouse that it was shipped to, or restore that warehouse."
    if archived.warehouses and warehouse not in archived.warehouses:
        one = "one of them" if len(archived.warehouses) > 1 else "that"
        remedy = (
            f"Its rows are in {' and '.join(archived.warehouses)}: open the ledger with {one} (warehouse=, or "
            f"LEDGER_WAREHOUSE), or bring them back with `ledger hydrate {shlex.quote(session_id)} --warehouse "
            f"{shlex.quote(archived.warehouses[0])}`."
        )
    return ArchiveLost(
        f"Session {session_id} is archived, and {warehouse} {has}; nothing was written. {remedy}",
        head=archived.head,
        state=archived.state,
        warehouses=archived.warehouses,
    )


def drop_archived(
    store: LocalTier, warehouse: Callable[[], Warehouse], name: str, session_ids: Collection[str] | None = None
) -> int:
    """Drop the rows of archived sessions. A session is skipped if the warehouse does not have every one of its rows.

    Args:
        store: The store that has the rows.
        warehouse: Function that opens the warehouse. It is not called if no session can be dropped.
        name: The URL under which the store knows the warehouse.
        session_ids: Only these sessions; None for all.

    Returns:
        The number of sessions whose rows were dropped. The other sessions keep their rows until a later call.

    Raises:
        StoreUnavailable: The warehouse cannot be reached; some sessions may have been dropped.
    """
    droppable = {each.key: each for each in store.droppable(name, session_ids)}
    dropped = 0
    for of_day in by_day(droppable):
        for part in parts({key: droppable[key].rows for key in of_day}):
            arrived = _arrived(store, warehouse(), name, [droppable[key] for key in part])
            dropped += store.drop(arrived, name)
    return dropped


def rehydrate(store: LocalTier, warehouse: Warehouse, name: str, session_id: str) -> int:
    """Restore a session's rows from a warehouse; see ``LocalTier.restore_history``.

    Returns:
        The number of events restored; 0 if the warehouse has no event of the session, or if the store holds the
        session's rows already.
    """
    events = Projection(warehouse).events(session_id, upcast=False)
    if not events:
        return 0
    return store.restore_history(events, name)


def open_again(
    store: EventStore, session_id: str, event: NewEvent, expected_version: int, now: datetime
) -> AppendResult | None:
    """Open an archived session whose rows the store holds, by appending ``session.hydrated``.

    Args:
        store: The store.
        session_id: The session.
        event: ``session.hydrated``, without its changes.
        expected_version: The expected version of the append that the caller makes next. It does not count
            ``session.hydrated``.
        now: The time of the call.

    Returns:
        The result of the append, or None if nothing was recorded. Nothing is recorded if the session is not archived
        any more, if another writer appended first, or if the session is not at ``expected_version``.

    Raises:
        SessionEnded: Once open, the session would be expired or deleted; nothing was written.
    """
    latest = store.state(session_id)
    status = None if latest is None else latest[1].get(("status", ""))
    if latest is None or status is None or status.value != "archived":
        return None
    head, state = latest
    if expected_version not in (ANY_VERSION, head.version):
        return None
    changes = status_change(store, session_id, state)
    _check_opens(session_id, changes, state, now)
    try:
        return store.append(session_id, replace(event, changes=changes), expected_version=head.version)
    except WrongExpectedVersion:
        return None


def purge_warehouse(store: LocalTier, warehouse: Warehouse, name: str) -> int:
    """Delete in a warehouse the sessions that were purged in a store. The call can be repeated at any time.

    If another store has hydrated a session and appended to it, the session belongs to that store and is not deleted.
    Of a session with two histories of this store, as after a restore from a backup, both are deleted.

    Returns:
        The number of sessions deleted in the warehouse.

    Raises:
        StoreUnavailable: The warehouse cannot be reached; some sessions may have been deleted.
    """
    pending = {each.key: each for each in store.pending_deletions(name)}
    deleted = 0
    for keys in batches(pending, days=DAYS_AT_ONCE):
        part = [pending[key] for key in keys]
        unchanged, strict = _unchanged(warehouse, part, store.store_id)
        if unchanged:
            _delete(warehouse, unchanged, strict)
        store.deleted(part, name)
        deleted += len(unchanged)
    return deleted


def is_to_be_deleted(warehouse: Warehouse, session: PendingDeletion, store_id: str) -> bool:
    """Return True if the session that the warehouse has under a purged session's id must still be deleted.

    The result is False if another store has hydrated that session and appended to it, or has created another session
    under the same id.

    Args:
        warehouse: The warehouse.
        session: The purged session.
        store_id: The store that purged it.
    """
    created_at = Projection(warehouse).creation_of(session.key.session_id)
    return created_at == session.key.created_at and bool(_unchanged(warehouse, [session], store_id)[0])


def _identity(head: Head) -> tuple[str, datetime]:
    return head.user_id, head.created_at


def _check_opens(session_id: str, changes: Sequence[Change], state: State, now: datetime) -> None:
    """Raise SessionEnded if an archived session would be expired or deleted once it is open.

    Args:
        session_id: The session, for the message.
        changes: The one change of ``session.hydrated``. It sets the status that the session had before archiving.
        state: The session's latest state.
        now: The time of the call.
    """
    (status,) = changes
    expires_at = state.get(("expires_at", ""))
    try:
        check_open(
            session_id,
            None if status.removed else canonical(status.value),
            None if expires_at is None else expires_at.text,
            now,
        )
    except SessionEnded as ended:
        raise SessionEnded(
            f"Session {session_id} is archived, and would be {ended.status} once hydrated; nothing was written. Open "
            "it with hydrate_session(), then restore_session().",
            session_id=session_id,
            status="archived",
        ) from ended


def _arrived(store: LocalTier, warehouse: Warehouse, name: str, sessions: Sequence[Droppable]) -> list[Droppable]:
    """Return the sessions whose rows in the store are all in the warehouse too, with the same digests.

    A session of which the warehouse has other rows up to the same version is not returned: it has two histories, as
    after a restore from a backup that was not reconciled, and could not be restored.
    """
    keys = [each.key for each in sessions]
    remote = ComparedRows(warehouse).rows_of(keys)
    local = store.outbox(name).row_digests(keys)
    arrived = []
    for each in sessions:
        here = {digest for _, digest in local[each.key]}
        there = {row.digest for row in remote.get(each.key, ())}
        if any(digest.version <= each.version for digest in there - here):
            log.warning(
                "The rows of session %s are kept: %s has another history of it; see `ledger reconcile`.",
                *(each.key.session_id, name),
            )
        elif here <= there:
            arrived.append(each)
    return arrived


def _delete(warehouse: Warehouse, sessions: Sequence[SessionKey], strict: Collection[SessionKey]) -> None:
    """Delete sessions in a warehouse, from the tables that may have rows of them.

    Args:
        strict: Those of the sessions that have a row in ``session_heads``.
    """
    warehouse.change("delete_sessions", _parameters(sessions))
    try:
        warehouse.change("delete_latest", _parameters(sessions))
    except ConfigurationError:  # an earlier release created the dataset
        warehouse.add_missing()
        warehouse.change("delete_latest", _parameters(sessions))
    if strict:
        warehouse.change("delete_heads", _parameters([key for key in sessions if key in strict]))
    indexed = [key for key in sessions if warehouse.indexes_every_session or created_at_of(key.session_id) is None]
    if indexed:
        parameters = _parameters(indexed)
        warehouse.change("delete_creations", {name: parameters[name] for name in ("session_ids", "sessions")})


def _parameters(sessions: Sequence[SessionKey]) -> dict[str, Any]:
    identities = [f"{to_micros(key.created_at)}/{key.session_id}" for key in sessions]
    return {**span_of(sessions), "sessions": identities}


def _unchanged(
    warehouse: Warehouse, sessions: Sequence[PendingDeletion], store_id: str
) -> tuple[list[SessionKey], frozenset[SessionKey]]:
    """Return the sessions to which no other store has appended since they were purged.

    The version of such a session in the warehouse is at most that at which it was purged; or all rows above it are of
    the store ``store_id``, which lost them with a file that a backup replaced. Sessions that the warehouse does not
    have are returned too. The second value has those that are strict.
    """
    parameters = {**span_of(each.key for each in sessions), "event_id": ""}
    rows = warehouse.query(catalog.query("read_heads"), parameters, operation="read_heads").rows
    heads = [HeadRow(*row) for row in rows]
    versions = {SessionKey(head.session_id, head.created_at): head.version for head in heads}
    strict = frozenset(SessionKey(head.session_id, head.created_at) for head in heads if head.strict)
    purged_at = {each.key: each.version for each in sessions}
    above = [key for key, version in purged_at.items() if versions.get(key, 0) > version]
    rows_above = ComparedRows(warehouse).rows_of(above) if above else {}
    writers = {
        key: {row.store_id for row in rows_above.get(key, ()) if row.digest.version > purged_at[key]} for key in above
    }
    return [key for key in purged_at if writers.get(key, {store_id}) == {store_id}], strict

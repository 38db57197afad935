"""Archived sessions between a store and its warehouse: their rows dropped here, brought back, and deleted there.

A row is dropped only after the warehouse has been asked whether it has it: a relay remembers what it sent, and not that
the warehouse was restored, replaced or emptied since.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime
from itertools import groupby

from ledger.errors import ArchiveLost, SessionArchived, SessionEnded, WrongExpectedVersion
from ledger.model.events import ANY_VERSION, AppendResult, Change, NewEvent
from ledger.model.fold import State
from ledger.model.instants import to_micros
from ledger.model.lifetime import check_open
from ledger.model.values import canonical
from ledger.outbox.comparison import SESSIONS_AT_ONCE, parts
from ledger.outbox.row_digests import SessionKey
from ledger.stores.archived import Droppable, status_change
from ledger.stores.base import EventStore, PendingDeletion
from ledger.tiers.local import LocalTier
from ledger.warehouse import catalog
from ledger.warehouse.base import Warehouse
from ledger.warehouse.projection import Projection, span_of
from ledger.warehouse.row_comparison import ComparedRows
from ledger.warehouse.rows import HeadRow


def archive_lost(archived: SessionArchived, warehouse: str) -> ArchiveLost:
    """The error of an archived session of which the warehouse that was asked has nothing."""
    return ArchiveLost(
        f"Session {archived.head.session_id} is archived, and {warehouse}, where its rows are to be, has none of "
        "them; nothing was written. Open the ledger with the warehouse that it was shipped to, or restore that.",
        head=archived.head,
        state=archived.state,
    )


def drop_archived(
    store: LocalTier, warehouse: Callable[[], Warehouse], name: str, session_ids: Collection[str] | None = None
) -> int:
    """Drop the rows of archived sessions that the warehouse turns out to have, every one.

    Args:
        store: Where the rows are.
        warehouse: Opens it; not called where nothing can be dropped.
        name: What the warehouse is called in the store.
        session_ids: Only these; all where None.

    Returns:
        How many sessions were dropped. The others are dropped another time.

    Raises:
        StoreUnavailable: The warehouse cannot be asked; some may be dropped.
    """
    found = {each.key: each for each in store.droppable(name, session_ids)}
    dropped = 0
    for _, of_day in _by_day(found):
        for part in parts({key: found[key].rows for key in of_day}):
            sure = _arrived(store, warehouse(), name, [found[key] for key in part])
            dropped += store.drop(sure, name)
    return dropped


def rehydrate(store: LocalTier, warehouse: Warehouse, name: str, session_id: str) -> int:
    """Take a session over from a warehouse; see ``LocalTier.restore_history``.

    Returns:
        How many events were brought back; 0 where the warehouse has none.
    """
    events = Projection(warehouse).events(session_id, upcast=False)
    if not events:
        return 0
    return store.restore_history(events, name)


def open_again(
    store: EventStore, session_id: str, event: NewEvent, expected_version: int, now: datetime
) -> AppendResult | None:
    """Record that an archived session whose rows are in the store is open again, so that an append can follow.

    Args:
        event: ``session.hydrated``, without its changes.
        expected_version: By that append.

    Returns:
        None where nothing was recorded: somebody else did, or the append will be refused as it expects other versions.

    Raises:
        SessionEnded: It would be over as soon as it is open; nothing was written.
    """
    found = store.state(session_id)
    status = None if found is None else found[1].get(("status", ""))
    if found is None or status is None or status.value != "archived":
        return None
    head, state = found
    if expected_version not in (ANY_VERSION, head.version):
        return None
    changes = status_change(store, session_id, state)
    _check_opens(session_id, changes, state, now)
    try:
        return store.append(session_id, replace(event, changes=changes), expected_version=head.version)
    except WrongExpectedVersion:
        return None


def purge_warehouse(store: LocalTier, warehouse: Warehouse, name: str) -> int:
    """Delete in a warehouse what was deleted for good in a store; one may do it again at any time.

    A session that went on in another store, which took it over, is that store's and stays.

    Returns:
        How many sessions were deleted there.

    Raises:
        StoreUnavailable: The warehouse cannot be asked; some may be deleted.
    """
    pending = {each.key: each for each in store.pending_deletions(name)}
    deleted = 0
    for _, of_day in _by_day(pending):
        for keys in _cut(of_day):
            asked = [pending[key] for key in keys]
            ours = _not_gone_on(warehouse, asked)
            if ours:
                identities = [f"{to_micros(each.key.created_at)}/{each.key.session_id}" for each in ours]
                span = span_of({each.key.session_id: each.key.created_at for each in ours})
                warehouse.change("delete_sessions", {**span, "sessions": identities})
            store.deleted(asked, name)
            deleted += len(ours)
    return deleted


def is_to_be_deleted(warehouse: Warehouse, session: PendingDeletion) -> bool:
    """Whether what a warehouse has under the id of a session is the one that was deleted for good in its store.

    It is not where another store took that over and went on with it, or began one of its own.
    """
    created_at = Projection(warehouse).creation_of(session.key.session_id)
    return created_at == session.key.created_at and bool(_not_gone_on(warehouse, [session]))


def _check_opens(session_id: str, changes: Sequence[Change], state: State, now: datetime) -> None:
    """Raise SessionEnded where a session is over that has again the status which it had before it was archived."""
    (status,) = changes
    ends = state.get(("expires_at", ""))
    try:
        check_open(
            session_id,
            None if status.removed else canonical(status.value),
            None if ends is None else ends.text,
            now,
        )
    except SessionEnded as ended:
        raise SessionEnded(
            f"Session {session_id} is archived, and would be {ended.status} once it is open again; nothing was "
            "written. hydrate_session(), then restore_session() open it.",
            session_id=session_id,
            status="archived",
        ) from ended


def _arrived(store: LocalTier, warehouse: Warehouse, name: str, sessions: Sequence[Droppable]) -> list[Droppable]:
    """Those of some sessions whose every row is in the warehouse, in the same words."""
    keys = [each.key for each in sessions]
    there = ComparedRows(warehouse).rows_of(keys)
    here = store.outbox(name).row_digests(keys)
    return [
        each
        for each in sessions
        if {digest for _, digest in here[each.key]} <= {found.digest for found in there.get(each.key, ())}
    ]


def _not_gone_on(warehouse: Warehouse, sessions: Sequence[PendingDeletion]) -> list[PendingDeletion]:
    """Those of some sessions that have come no further in the warehouse than they had in the store."""
    span = span_of({each.key.session_id: each.key.created_at for each in sessions})
    parameters = {**span, "event_id": ""}
    rows = warehouse.query(catalog.query("read_heads"), parameters, operation="read_heads").rows
    heads = [HeadRow(*row) for row in rows]
    versions = {SessionKey(head.session_id, head.created_at): head.version for head in heads}
    return [each for each in sessions if versions.get(each.key, 0) <= each.version]


def _by_day(keys: Iterable[SessionKey]) -> Iterator[tuple[date, list[SessionKey]]]:
    """Sessions, in the order of their creation, by its day: one partition each."""
    for day, of_day in groupby(keys, key=lambda key: key.created_at.date()):
        yield day, list(of_day)


def _cut(keys: Sequence[SessionKey]) -> Iterator[Sequence[SessionKey]]:
    """So many sessions at a time, and no id twice among them."""
    part: dict[str, SessionKey] = {}
    for key in keys:
        if len(part) == SESSIONS_AT_ONCE or key.session_id in part:
            yield list(part.values())
            part = {}
        part[key.session_id] = key
    if part:
        yield list(part.values())

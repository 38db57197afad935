"""Two tiers: the embedded store, and behind it the warehouse, for sessions that the store does not hold."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from ledger import forking
from ledger.clock import Clock, NewId, new_id, utc_now
from ledger.errors import SessionArchived, SessionEnded, SessionNotFound, StoreRejected, WrongExpectedVersion
from ledger.model.events import ANY_VERSION, AppendResult, NewEvent, RecordedEvent
from ledger.model.fold import State
from ledger.model.page import Page
from ledger.model.queries import SearchQuery, SessionQuery
from ledger.model.search import Match
from ledger.model.session import Head, Message
from ledger.stores.base import MAX_BYTES, Capabilities, PendingDeletion, StoreOutbox
from ledger.tiers.local import LocalTier
from ledger.warehouse.base import Warehouse
from ledger.warehouse.projection import Projection
from ledger.warehouse.reads import WarehouseReads

T = TypeVar("T")
#: Warehouses that were open when the process forked: a child never touches its parent's.
_ABANDONED: list[Warehouse | None] = []


class TwoTierStore:
    """The embedded store, whose reads of a session that it does not hold go on to a warehouse.

    A session that was deleted for good here is read no more, also while the warehouse still has it. All else is the
    embedded store's alone: lists and searches show what it holds, and an append never waits for the network, so it does
    not find out either whether an id is taken in the warehouse; but an append to a session that is archived brings it
    back first. A session that is read from the warehouse is as old as the rows that have arrived there.

    Args:
        local: The embedded store, which is closed with this one.
        open_warehouse: Opens the warehouse; called at the first read that needs it, by one thread, and again after it
            failed. What it gives is closed with this store.
        name: Says what the warehouse is called in ``local``, where its relay stands under that; where None, its URL.
        clock, ids: Sources of times and ids, for events that bring sessions back.
    """

    def __init__(
        self,
        local: LocalTier,
        open_warehouse: Callable[[], Warehouse],
        *,
        name: Callable[[], str] | None = None,
        clock: Clock = utc_now,
        ids: NewId = new_id,
    ) -> None:
        self._local = local
        self._open_warehouse = open_warehouse
        self._name = name
        self._clock = clock
        self._ids = ids
        self._opening = threading.Lock()  # guards all below
        self._warehouse: Warehouse | None = None
        self._closed = False
        forking.register(self)

    @property
    def capabilities(self) -> Capabilities:
        """What the embedded store can do, and that archived sessions come back."""
        return replace(self._local.capabilities, tiered=True)

    @property
    def store_id(self) -> str:
        """The identity of the embedded store."""
        return self._local.store_id

    @property
    def path(self) -> Path:
        """The file of the embedded store."""
        return self._local.path

    def outbox(self, warehouse: str) -> StoreOutbox:
        """The embedded store as the outbox of a relay to a warehouse, which its URL names."""
        return self._local.outbox(warehouse)

    def append(self, session_id: str, event: NewEvent, *, expected_version: int = ANY_VERSION) -> AppendResult:
        """Record one event in the embedded store; see ``EventStore.append``.

        A session that is archived is brought back first, and where only open sessions take the event it is opened again
        (``session.hydrated``), unless the event would be refused then. ``expected_version`` is of before.

        Raises:
            StoreUnavailable: It is archived, and the warehouse cannot be reached; nothing was written.
            StoreRejected, CorruptEvent: It is archived, and the warehouse has it not as it was; nothing was written.
            SessionEnded: It is archived, and would have ended if it were open; nothing was written.
            SessionNotFound: The session is not in the embedded store, and the event does not begin it: also where it is
                in the warehouse, and at the version that was expected.
        """
        if isinstance(event.changes, Iterator):  # it may be appended twice
            event = replace(event, changes=tuple(event.changes))
        try:
            return self._local.append(session_id, event, expected_version=expected_version)
        except SessionEnded as ended:
            if ended.status != "archived":
                raise
            return self._append_archived(session_id, event, expected_version)
        except SessionNotFound as error:
            raise _not_here(session_id) from error
        except WrongExpectedVersion as error:
            # Decided on a state out of the warehouse: reading that again, as the error advises, would end here again.
            if error.actual == 0 and event.user_id is None:
                raise _not_here(session_id) from error
            raise

    def state(
        self, session_id: str, *, version: int | None = None, at: datetime | None = None, with_messages: bool = False
    ) -> tuple[Head, State] | None:
        """Head and state of a session, now or then; see ``EventStore.state``."""
        try:
            found = self._local.state(session_id, version=version, at=at, with_messages=with_messages)
        except SessionArchived:
            found = None
        if found is not None or self._holds(session_id):
            return found
        return self._read_warehouse(
            session_id,
            lambda reads: reads.state(session_id, version=version, at=at, with_messages=with_messages),
            missing=None,
        )

    def messages(self, session_id: str, *, after: str | None, limit: int, newest: bool = False) -> Page[Message]:
        """Messages in order; see ``EventStore.messages``."""
        try:
            page = self._local.messages(session_id, after=after, limit=limit, newest=newest)
        except SessionArchived:
            page = Page([])
        if page or self._holds(session_id):
            return page
        return self._read_warehouse(
            session_id,
            lambda reads: reads.messages(session_id, after=after, limit=limit, newest=newest),
            missing=page,
        )

    def events(self, session_id: str, *, after: int = 0, limit: int = 1000, upcast: bool = True) -> Page[RecordedEvent]:
        """Events in order; see ``EventStore.events``."""
        try:
            page = self._local.events(session_id, after=after, limit=limit, upcast=upcast)
        except SessionArchived:
            page = Page([])
        if page or self._holds(session_id):
            return page
        return self._read_warehouse(
            session_id,
            lambda reads: reads.events(session_id, after=after, limit=limit, upcast=upcast),
            missing=page,
        )

    def version_of(self, session_id: str, event_id: str) -> int | None:
        """The version of a recorded event; see ``EventStore.version_of``."""
        version = self._local.version_of(session_id, event_id)
        if version is not None or self._holds(session_id):
            return version
        return self._read_warehouse(session_id, lambda reads: reads.version_of(session_id, event_id), missing=None)

    def sessions(self, query: SessionQuery, *, after: str | None = None, limit: int = 50) -> Page[tuple[Head, State]]:
        """The embedded store's sessions, newest first; see ``EventStore.sessions``."""
        return self._local.sessions(query, after=after, limit=limit)

    def search(self, query: SearchQuery, *, after: str | None = None, limit: int = 50) -> Page[Match]:
        """Texts of the embedded store's sessions alone; see ``EventStore.search``.

        What only the warehouse has is not found: of an archived session without rows here its question and title are.
        """
        return self._local.search(query, after=after, limit=limit)

    def ingest(self, events: Iterable[RecordedEvent]) -> int:
        """Take over whole events into the embedded store; see ``EventStore.ingest``."""
        return self._local.ingest(events)

    def rows_after(self, seq: int, limit: int, *, max_bytes: int = MAX_BYTES) -> Sequence[tuple[Any, ...]]:
        """Raw rows of the embedded store in the order of their commits; see ``EventStore.rows_after``."""
        return self._local.rows_after(seq, limit, max_bytes=max_bytes)

    def last_seq(self) -> int:
        """The ``seq`` of the embedded store's last row; see ``EventStore.last_seq``."""
        return self._local.last_seq()

    def backup(self, path: Path) -> None:
        """Write a consistent copy of the embedded store; see ``EventStore.backup``."""
        self._local.backup(path)

    def check_shippable(self, session_id: str) -> None:
        """Raise StoreRejected if a warehouse refused rows of a session; see ``ArchivingStore.check_shippable``."""
        self._local.check_shippable(session_id)

    def drop_archived(self, session_ids: Collection[str] | None = None) -> int:
        """Drop the rows of archived sessions that have arrived in the warehouse; see ``TieredStore.drop_archived``."""
        from ledger.tiers.archiving import drop_archived

        return drop_archived(self._local, self._opened, self._called(), session_ids)

    def rehydrate(self, session_id: str) -> int:
        """Have the embedded store take a session over from the warehouse; see ``TieredStore.rehydrate``."""
        from ledger.tiers.archiving import rehydrate

        if self._holds(session_id):
            return 0
        brought = rehydrate(self._local, self._opened(), self._called(), session_id)
        if not brought:
            self._check_not_lost(session_id)
        return brought

    def purge(self, session_id: str, version: int) -> bool:
        """Delete a session for good here, and remember to in the warehouses; see ``PurgingStore.purge``."""
        return self._local.purge(session_id, version)

    def pending_deletions(self) -> list[PendingDeletion]:
        """Sessions that were deleted for good here, and not yet in the warehouses."""
        return self._local.pending_deletions()

    def purge_warehouse(self) -> int:
        """Delete in the warehouse what was deleted for good here; see ``TieredStore.purge_warehouse``."""
        from ledger.tiers.archiving import purge_warehouse

        if not self._local.pending_deletions():
            return 0
        return purge_warehouse(self._local, self._opened(), self._called())

    def close(self) -> None:
        """Close the embedded store, and the warehouse where it was opened; calling it again does nothing."""
        forking.unregister(self)
        with self._opening:
            self._closed = True
            warehouse, self._warehouse = self._warehouse, None
        try:
            self._local.close()
        finally:
            if warehouse is not None:
                warehouse.close()

    def before_fork(self) -> None:
        """Wait until no thread opens the warehouse; see ``ledger.forking``."""
        self._opening.acquire()

    def after_fork_in_parent(self) -> None:
        """Let the threads go on."""
        self._opening.release()

    def after_fork_in_child(self) -> None:
        """Leave the warehouse to the parent; the next read that needs one opens another."""
        _ABANDONED.append(self._warehouse)
        self._warehouse = None
        self._opening = threading.Lock()

    def _holds(self, session_id: str) -> bool:
        """Whether a session is in the embedded store; it may be, and have had no state at a time or no messages."""
        try:
            return self._local.state(session_id) is not None
        except SessionArchived:
            return False

    def _archived(self, session_id: str) -> SessionArchived | None:
        """What says that a session is archived, and its rows are not in the embedded store; None where it is not so."""
        try:
            self._local.state(session_id)
        except SessionArchived as archived:
            return archived
        return None

    def _append_archived(self, session_id: str, event: NewEvent, expected_version: int) -> AppendResult:
        """Append to a session that is archived: first it is brought back, and opened again where it must be open."""
        from ledger.tiers.archiving import open_again

        self.rehydrate(session_id)
        if event.require_open:
            now = self._clock()
            hydrated = NewEvent("session.hydrated", (), self._ids(now), event.actor, check_duplicate=False)
            opened = open_again(self._local, session_id, hydrated, expected_version, now)
            if opened is not None and expected_version == opened.version - 1:
                expected_version = opened.version
        return self._local.append(session_id, event, expected_version=expected_version)

    def _called(self) -> str:
        """What the warehouse is called in the embedded store."""
        if self._name is not None:
            return self._name()
        from ledger.tiers.opening import sink_of

        return sink_of(self._opened()).url

    def _read_warehouse(self, session_id: str, read: Callable[[WarehouseReads], T], *, missing: T) -> T:
        """What the warehouse answers about a session, or ``missing`` where it was deleted for good here.

        Raises:
            ArchiveLost: The session is archived, and the warehouse has nothing of it.
        """
        from ledger.tiers.archiving import is_to_be_deleted

        pending = self._local.pending_deletion(session_id)
        if pending is not None and is_to_be_deleted(self._opened(), pending):
            return missing
        reads = WarehouseReads(Projection(self._opened()))
        found = read(reads)
        if not found and self._archived(session_id) is not None and reads.state(session_id) is None:
            self._check_not_lost(session_id)
        return found

    def _check_not_lost(self, session_id: str) -> None:
        """Raise ArchiveLost where a session is archived: the warehouse was asked, and has nothing of it."""
        from ledger.tiers.archiving import archive_lost

        archived = self._archived(session_id)  # it may be gone, or here again, since the warehouse was asked
        if archived is not None:
            raise archive_lost(archived, self._called())

    def _opened(self) -> Warehouse:
        """The warehouse, opened by whoever asks first."""
        with self._opening:
            if self._closed:  # since the embedded store answered
                raise StoreRejected("The ledger is closed; open it again with SessionLedger.open().")
            if self._warehouse is None:
                self._warehouse = self._open_warehouse()
            return self._warehouse


def _not_here(session_id: str) -> SessionNotFound:
    return SessionNotFound(
        f"There is no session {session_id} in this store; nothing was written. Begin it with create_session(). One "
        "that is only in the warehouse can be read from here, but not changed before hydrate_session().",
        session_id=session_id,
    )

"""Two tiers: the embedded store, and behind it the warehouse, for sessions that the store does not hold."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ledger.errors import SessionNotFound, StoreRejected, WrongExpectedVersion
from ledger.model.events import ANY_VERSION, Appended, NewEvent, RecordedEvent
from ledger.model.fold import State
from ledger.model.page import Page
from ledger.model.session import Head, Message
from ledger.model.upcast import Upcaster
from ledger.projection import Projection
from ledger.stores import forking
from ledger.stores.base import MAX_BYTES, Capabilities, EventStore, SessionQuery
from ledger.stores.warehouse_reads import WarehouseReads
from ledger.warehouse.base import Warehouse

if TYPE_CHECKING:
    from ledger.stores.sqlite import SqliteStore
    from ledger.stores.sqlite_outbox import SqliteOutbox

#: Warehouses that were open when the process forked: a child never touches its parent's.
_ABANDONED: list[Warehouse | None] = []


class TwoTierStore:
    """The embedded store, whose reads of a session that it does not hold go on to a warehouse.

    All else is the embedded store's alone: lists show what it holds, and an append never waits for the network, so it
    does not find out either whether an id is taken in the warehouse. A session that is read from the warehouse is as
    old as the rows that have arrived there.

    Args:
        local: The embedded store, which is closed with this one.
        open_warehouse: Opens the warehouse; called at the first read that needs it, by one thread, and again after it
            failed. What it gives is closed with this store.
        upcaster: Brings events of older shapes up to the present one; the same as that of ``local``.
    """

    def __init__(
        self, local: EventStore, open_warehouse: Callable[[], Warehouse], *, upcaster: Upcaster | None = None
    ) -> None:
        self._local = local
        # `path` and `outbox` are no part of EventStore: where the store has them not, this one has them not either.
        self._file = cast("SqliteStore", local)
        self._open_warehouse = open_warehouse
        self._upcast = upcaster or Upcaster()
        self._opening = threading.Lock()  # guards all below
        # Not `warehouse`: a store with an attribute of that name is itself in one.
        self._behind: Warehouse | None = None
        self._closed = False
        forking.watch(self)

    @property
    def capabilities(self) -> Capabilities:
        """What the embedded store can do."""
        return self._local.capabilities

    @property
    def store_id(self) -> str:
        """The identity of the embedded store."""
        return self._local.store_id

    @property
    def path(self) -> Path:
        """The file of the embedded store."""
        return self._file.path

    @property
    def outbox(self) -> Callable[[str], SqliteOutbox]:
        """Gives the embedded store as the outbox of a relay to a warehouse, which its URL names."""
        return self._file.outbox

    def append(self, session_id: str, event: NewEvent, *, expected_version: int = ANY_VERSION) -> Appended:
        """Record one event in the embedded store; see ``EventStore.append``.

        Raises:
            SessionNotFound: The session is not in the embedded store, and the event does not begin it: also where it is
                in the warehouse, and at the version that was expected.
        """
        try:
            return self._local.append(session_id, event, expected_version=expected_version)
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
        found = self._local.state(session_id, version=version, at=at, with_messages=with_messages)
        if found is not None or self._holds(session_id):
            return found
        return self._reads().state(session_id, version=version, at=at, with_messages=with_messages)

    def messages(self, session_id: str, *, after: str | None, limit: int, newest: bool = False) -> Page[Message]:
        """Messages in order; see ``EventStore.messages``."""
        page = self._local.messages(session_id, after=after, limit=limit, newest=newest)
        if page or self._holds(session_id):
            return page
        return self._reads().messages(session_id, after=after, limit=limit, newest=newest)

    def events(self, session_id: str, *, after: int = 0, limit: int = 1000, upcast: bool = True) -> Page[RecordedEvent]:
        """Events in order; see ``EventStore.events``."""
        page = self._local.events(session_id, after=after, limit=limit, upcast=upcast)
        if page or self._holds(session_id):
            return page
        return self._reads().events(session_id, after=after, limit=limit, upcast=upcast)

    def version_of(self, session_id: str, event_id: str) -> int | None:
        """The version of a recorded event; see ``EventStore.version_of``."""
        version = self._local.version_of(session_id, event_id)
        if version is not None or self._holds(session_id):
            return version
        return self._reads().version_of(session_id, event_id)

    def sessions(self, query: SessionQuery, *, after: str | None = None, limit: int = 50) -> Page[tuple[Head, State]]:
        """The embedded store's sessions, newest first; see ``EventStore.sessions``."""
        return self._local.sessions(query, after=after, limit=limit)

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

    def close(self) -> None:
        """Close the embedded store, and the warehouse where it was opened; calling it again does nothing."""
        forking.forget(self)
        with self._opening:
            self._closed = True
            behind, self._behind = self._behind, None
        try:
            self._local.close()
        finally:
            if behind is not None:
                behind.close()

    def before_fork(self) -> None:
        """Wait until no thread opens the warehouse; see ``ledger.stores.forking``."""
        self._opening.acquire()

    def after_fork_in_parent(self) -> None:
        """Let the threads go on."""
        self._opening.release()

    def after_fork_in_child(self) -> None:
        """Leave the warehouse to the parent; the next read that needs one opens another."""
        _ABANDONED.append(self._behind)
        self._behind = None
        self._opening = threading.Lock()

    def _holds(self, session_id: str) -> bool:
        """Whether a session is in the embedded store; it may be, and have had no state at a time or no messages."""
        return self._local.state(session_id) is not None

    def _reads(self) -> WarehouseReads:
        """The warehouse, opened by whoever asks first."""
        with self._opening:
            if self._closed:  # since the embedded store answered
                raise StoreRejected("The ledger is closed; open it again with SessionLedger.open().")
            if self._behind is None:
                self._behind = self._open_warehouse()
            return WarehouseReads(Projection(self._behind, self._upcast))


def _not_here(session_id: str) -> SessionNotFound:
    return SessionNotFound(
        f"There is no session {session_id} in this store; nothing was written. Begin it with create_session(). One "
        "that is only in the warehouse can be read from here, but not changed.",
        session_id=session_id,
    )

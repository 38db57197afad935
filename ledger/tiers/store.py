"""The two-tier store: it reads from a warehouse the sessions that the embedded store does not hold."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ledger.clock import Clock, NewId, new_id, utc_now
from ledger.errors import (
    SessionArchived,
    SessionEnded,
    SessionNotFound,
    WrongExpectedVersion,
)
from ledger.files import check_apart
from ledger.holding import ending
from ledger.model.events import ANY_VERSION, AppendResult, NewEvent, RecordedEvent
from ledger.model.findings import Verification
from ledger.model.fold import State
from ledger.model.page import Page
from ledger.model.prices import ModelPrice
from ledger.model.queries import SearchQuery, SessionQuery
from ledger.model.seals import Leaf, LeafCheck, Seal
from ledger.model.search import Match
from ledger.model.session import Head, Message
from ledger.outbox.comparison import StoreOutbox
from ledger.stores.base import (
    MAX_BYTES,
    MAX_FINDINGS,
    ArchivedElsewhere,
    Capabilities,
    Forgotten,
    PendingDeletion,
    Unreconciled,
    Waiting,
)
from ledger.tiers.late_warehouse import LateWarehouse
from ledger.tiers.local import LocalTier
from ledger.warehouse.base import Warehouse

if TYPE_CHECKING:  # a program that opens a ledger and reads nothing from a warehouse does without them
    from ledger.warehouse.reads import WarehouseReads

T = TypeVar("T")


class TwoTierStore:
    """An embedded store and a warehouse, used as one store.

    A session that the embedded store does not hold is read from the warehouse, as recent as its last shipped row. A
    purged session is not read, even while the warehouse still has it. Lists and searches cover only the sessions in
    the embedded store.

    Appends go to the embedded store and do not wait for the network. They therefore do not detect that the warehouse
    has a session of the same id. The exception is an append to an archived session, which hydrates the session first.

    Args:
        local: The embedded store; closed with this one.
        open_warehouse: Function that opens the warehouse, when an operation first needs it; see ``LateWarehouse``. The
            warehouse is closed with this store.
        name: Function that returns the URL under which ``local`` knows the warehouse; None for the sink's URL.
        files: The paths of the warehouse, if it is a file. A backup is never written to one of them.
        is_default: True if nobody named the warehouse, so that it is the DuckDB file beside the embedded store. It is
            then used only for archived sessions, and only if the embedded store ships to it.
        clock, ids: Sources of the time and the id of ``session.hydrated``.
    """

    def __init__(
        self,
        local: LocalTier,
        open_warehouse: Callable[[], Warehouse],
        *,
        name: Callable[[], str] | None = None,
        files: Sequence[Path] = (),
        is_default: bool = False,
        clock: Clock = utc_now,
        ids: NewId = new_id,
    ) -> None:
        self._local = local
        self._warehouse = LateWarehouse(open_warehouse)
        self._name = name
        self._files = files
        self._is_default = is_default
        self._clock = clock
        self._ids = ids
        self._known = local.capabilities
        self._capabilities = replace(self._known, tiered=True)

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the embedded store, with ``tiered`` set to True."""
        if self._local.capabilities is not self._known:
            self._known = self._local.capabilities
            self._capabilities = replace(self._known, tiered=True)
        return self._capabilities

    @property
    def store_id(self) -> str:
        """The id of the embedded store."""
        return self._local.store_id

    @property
    def path(self) -> Path:
        """The file of the embedded store."""
        return self._local.path

    def outbox(self, warehouse: str) -> StoreOutbox:
        """Return the embedded store's outbox for the relay to a warehouse, given the warehouse's URL."""
        return self._local.outbox(warehouse)

    def ids_with(self, part: str, *, limit: int) -> list[str]:
        """Return ids of the embedded store that begin or end with a part; see ``OutboxStore.ids_with``."""
        return self._local.ids_with(part, limit=limit)

    def warehouses(self) -> list[str]:
        """Return the URLs of the warehouses that may have rows of the embedded store."""
        return self._local.warehouses()

    def archived_in(self, warehouse: str, *, alone: bool = False) -> int:
        """Return the number of archived sessions whose rows are in a warehouse; see ``OutboxStore.archived_in``."""
        return self._local.archived_in(warehouse, alone=alone)

    def archived_elsewhere(self, warehouse: str) -> list[ArchivedElsewhere]:
        """Return the archived sessions that only other warehouses have; see ``OutboxStore.archived_elsewhere``."""
        return self._local.archived_elsewhere(warehouse)

    def unreconciled(self) -> list[Unreconciled]:
        """Return the warehouses that may have events which a restored file lacks; see ``OutboxStore.unreconciled``."""
        return self._local.unreconciled()

    def forget_warehouse(self, warehouse: str, *, even_if_needed: bool = False) -> Forgotten:
        """Forget a warehouse; see ``OutboxStore.forget_warehouse``."""
        return self._local.forget_warehouse(warehouse, even_if_needed=even_if_needed)

    def rename_warehouse(self, former: str, present: str) -> None:
        """Record a warehouse under another URL; see ``OutboxStore.rename_warehouse``."""
        self._local.rename_warehouse(former, present)

    def own_files(self) -> list[Path]:
        """Return the files of the embedded store and of the warehouse; see ``OutboxStore.own_files``."""
        return [*self._local.own_files(), *self._files]

    def append(self, session_id: str, event: NewEvent, *, expected_version: int = ANY_VERSION) -> AppendResult:
        """Record one event in the embedded store; see ``EventStore.append``.

        If the session is archived, its rows are restored first, if the embedded store has dropped them. If the event
        also requires an open session, ``session.hydrated`` is then appended to open the session, unless the event
        would be refused anyway.
        ``expected_version`` is the session's version before ``session.hydrated``.

        Raises:
            StoreUnavailable: The session is archived, and the warehouse cannot be reached; nothing was written.
            StoreRejected, CorruptEvent: The session is archived, and the warehouse lacks its history; nothing was
                written.
            SessionArchived: The session is archived, and its rows are only in another warehouse than this one; nothing
                was written.
            SessionEnded: The session is archived and, once open, would be expired or deleted; nothing was written.
            SessionNotFound: The embedded store does not have the session, and the event does not create one; nothing
                was written. The warehouse may have the session.
        """
        if isinstance(event.changes, Iterator):  # read again if the session is archived
            event = replace(event, changes=tuple(event.changes))
        try:
            return self._local.append(session_id, event, expected_version=expected_version)
        except SessionEnded as ended:
            if ended.status != "archived":
                raise
            return self._append_archived(session_id, event, expected_version)
        except SessionNotFound as error:
            if self._is_default:
                raise
            raise _not_here(session_id) from error
        except WrongExpectedVersion as error:
            # The caller read the state from the warehouse; reading it again, as the error advises, would not help.
            if error.actual == 0 and event.user_id is None and not self._is_default:
                raise _not_here(session_id) from error
            raise

    def state(
        self, session_id: str, *, version: int | None = None, at: datetime | None = None, with_messages: bool = False
    ) -> tuple[Head, State] | None:
        """Return the head and state of a session; see ``EventStore.state``."""
        return self._read(
            session_id,
            lambda tier: tier.state(session_id, version=version, at=at, with_messages=with_messages),
            missing=None,
        )

    def messages(self, session_id: str, *, after: str | None, limit: int, newest: bool = False) -> Page[Message]:
        """Return a page of messages; see ``EventStore.messages``."""
        return self._read(
            session_id,
            lambda tier: tier.messages(session_id, after=after, limit=limit, newest=newest),
            missing=Page([]),
        )

    def events(self, session_id: str, *, after: int = 0, limit: int = 1000, upcast: bool = True) -> Page[RecordedEvent]:
        """Return a page of events; see ``EventStore.events``."""
        return self._read(
            session_id,
            lambda tier: tier.events(session_id, after=after, limit=limit, upcast=upcast),
            missing=Page([]),
        )

    def version_of(self, session_id: str, event_id: str) -> int | None:
        """Return the version of a recorded event; see ``EventStore.version_of``."""
        return self._read(session_id, lambda tier: tier.version_of(session_id, event_id), missing=None)

    def sessions(self, query: SessionQuery, *, after: str | None = None, limit: int = 50) -> Page[tuple[Head, State]]:
        """Return a page of the embedded store's sessions; see ``EventStore.sessions``."""
        return self._local.sessions(query, after=after, limit=limit)

    def search(self, query: SearchQuery, *, after: str | None = None, limit: int = 50) -> Page[Match]:
        """Search the embedded store's sessions; see ``EventStore.search``.

        Texts that only the warehouse has are not found. If a session's rows were dropped, only its question and title
        are found.
        """
        return self._local.search(query, after=after, limit=limit)

    def ingest(self, events: Iterable[RecordedEvent]) -> int:
        """Record whole events of another store in the embedded store; see ``EventStore.ingest``."""
        return self._local.ingest(events)

    def rows_after(self, seq: int, limit: int, *, max_bytes: int = MAX_BYTES) -> Sequence[tuple[Any, ...]]:
        """Return raw rows of the embedded store in commit order; see ``EventStore.rows_after``."""
        return self._local.rows_after(seq, limit, max_bytes=max_bytes)

    def last_seq(self) -> int:
        """Return the ``seq`` of the embedded store's last row; see ``EventStore.last_seq``."""
        return self._local.last_seq()

    def backup(self, path: Path) -> None:
        """Write a consistent copy of the embedded store; see ``EventStore.backup``."""
        check_apart(path, self._files)
        self._local.backup(path)

    def verify(
        self,
        session_ids: Collection[str] | None = None,
        *,
        rebuild: bool = False,
        limit: int = MAX_FINDINGS,
        progress: Callable[[int], object] | None = None,
    ) -> Verification:
        """Verify sessions of the embedded store; see ``VerifyingStore.verify``. The warehouse is not read."""
        return self._local.verify(session_ids, rebuild=rebuild, limit=limit, progress=progress)

    def check_shippable(self, session_id: str) -> None:
        """Raise StoreRejected if a warehouse refused rows of a session; see ``ArchivingStore.check_shippable``."""
        self._local.check_shippable(session_id)

    def drop_archived(self, session_ids: Collection[str] | None = None) -> int:
        """Drop archived sessions' rows if the warehouse has them; see ``TieredStore.drop_archived``."""
        from ledger.tiers.archiving import drop_archived

        return drop_archived(self._local, self._warehouse.opened, self._warehouse_url(), session_ids)

    def rehydrate(self, session_id: str) -> int:
        """Restore a session's rows from the warehouse; see ``TieredStore.rehydrate``."""
        from ledger.tiers.archiving import rehydrate

        if self._holds(session_id) or not (self._is_used() or any(file.exists() for file in self._files)):
            return 0
        restored = rehydrate(self._local, self._warehouse.opened(), self._warehouse_url(), session_id)
        if not restored:
            self._check_not_lost(session_id)
        return restored

    def recorded(self, session_id: str) -> tuple[int, str | None] | None:
        """Return the version and the recorded status of a session in the embedded store; see ``PurgingStore``."""
        return self._local.recorded(session_id)

    def purge(self, session_id: str, version: int) -> bool:
        """Delete a session, and record which warehouses must still delete it; see ``PurgingStore.purge``."""
        return self._local.purge(session_id, version)

    def forget_purged(self) -> None:
        """Remove the words of deleted texts from the embedded store; see ``PurgingStore.forget_purged``."""
        self._local.forget_purged()

    def pending_deletions(self) -> list[PendingDeletion]:
        """Return the sessions that were purged in the embedded store and must still be deleted in a warehouse."""
        return self._local.pending_deletions()

    def waiting(self) -> list[Waiting]:
        """Return the sessions whose retention waits for a warehouse; see ``PurgingStore.waiting``."""
        return self._local.waiting()

    def seal(self) -> Seal:
        """Seal the sessions of the embedded store; see ``SealingStore.seal``."""
        return self._local.seal()

    def seals(self) -> list[Seal]:
        """Return the embedded store's seals, oldest first."""
        return self._local.seals()

    def sealed(self, seal_id: str) -> Iterator[Leaf]:
        """Return the leaves that the embedded store keeps of a seal; see ``SealingStore.sealed``."""
        return self._local.sealed(seal_id)

    def compare_sealed(self, leaves: Sequence[Leaf]) -> list[LeafCheck]:
        """Compare sealed sessions with both tiers; see ``SealingStore.compare_sealed``.

        If the embedded store dropped a session's rows, the rows are looked up in the warehouse.

        Raises:
            StoreUnavailable: A session's rows are only in the warehouse, which cannot be reached.
        """
        from ledger.tiers.sealed import compare_with_warehouse

        checks = self._local.compare_sealed(leaves)
        if all(check.found != "elsewhere" for check in checks) or not self._is_used():
            return checks
        return compare_with_warehouse(self._warehouse.opened(), checks)

    def model_prices(self) -> list[ModelPrice]:
        """Return the embedded store's price list."""
        return self._local.model_prices()

    def import_model_prices(self, prices: Iterable[ModelPrice], *, replace: bool = False) -> None:
        """Add prices to the embedded store's list; see ``PriceListStore``."""
        self._local.import_model_prices(prices, replace=replace)

    def purge_warehouse(self) -> int:
        """Delete purged sessions in the warehouse; see ``TieredStore.purge_warehouse``."""
        from ledger.tiers.archiving import purge_warehouse

        if not self._local.pending_deletions():
            return 0
        return purge_warehouse(self._local, self._warehouse.opened(), self._warehouse_url())

    def close(self) -> None:
        """Close the embedded store, and the warehouse if it is open; a second call does nothing."""
        with ending(self._warehouse.close):
            self._local.close()

    def _read(self, session_id: str, read: Callable[[LocalTier | WarehouseReads], T], *, missing: T) -> T:
        """Return what ``read`` returns of the embedded store, or else of the warehouse.

        Args:
            session_id: The session.
            read: Function that reads the session from a tier.
            missing: What ``read`` returns if a tier lacks the session; false, unlike everything else it returns.
        """
        try:
            answer = read(self._local)
            if answer or self._is_default:
                return answer
            if self._holds(session_id):
                return read(self._local)  # again, because the rows may have been restored after the first read
        except SessionArchived:
            if not self._is_used():
                raise
            # Read the warehouse even if the rows were restored meanwhile: it has every row that was dropped.
            return self._read_warehouse(session_id, read, missing=missing)
        return self._read_warehouse(session_id, read, missing=missing)

    def _holds(self, session_id: str) -> bool:
        """Return True if the embedded store holds a session's rows. If it does, the warehouse need not be read."""
        try:
            return self._local.state(session_id) is not None
        except SessionArchived:
            return False

    def _archived(self, session_id: str) -> SessionArchived | None:
        """Return the SessionArchived error for a session whose rows were dropped; None for any other session."""
        try:
            self._local.state(session_id)
        except SessionArchived as archived:
            return archived
        return None

    def _append_archived(self, session_id: str, event: NewEvent, expected_version: int) -> AppendResult:
        """Append to an archived session: restore its rows, and open it if the event requires that."""
        from ledger.tiers.archiving import open_again

        if not self.rehydrate(session_id) and (archived := self._archived(session_id)) is not None:
            raise archived
        if event.require_open:
            now = self._clock()
            hydrated = NewEvent("session.hydrated", (), self._ids(now), event.actor, check_duplicate=False)
            opened = open_again(self._local, session_id, hydrated, expected_version, now)
            if opened is not None and expected_version == opened.version - 1:
                expected_version = opened.version
        return self._local.append(session_id, event, expected_version=expected_version)

    def _is_used(self) -> bool:
        """Return False if the warehouse is the default one, and the embedded store does not ship to it."""
        return not self._is_default or self._warehouse_url() in self._local.warehouses()

    def _warehouse_url(self) -> str:
        """Return the URL under which the embedded store knows the warehouse."""
        if self._name is not None:
            return self._name()
        from ledger.tiers.opening import sink_of

        return sink_of(self._warehouse.opened()).url

    def _read_warehouse(self, session_id: str, read: Callable[[WarehouseReads], T], *, missing: T) -> T:
        """Call ``read`` on the warehouse and return its result.

        If the warehouse's session is one that was purged in the embedded store, return ``missing`` instead.

        Raises:
            ArchiveLost: The session is archived, and the warehouse has no rows of it, or not the latest ones, or those
                of another session with the same id.
        """
        from ledger.tiers.archiving import archive_lost, is_older_or_other, is_to_be_deleted
        from ledger.warehouse.projection import Projection
        from ledger.warehouse.reads import WarehouseReads

        pending = self._local.pending_deletion(session_id)
        if pending is not None and is_to_be_deleted(self._warehouse.opened(), pending, self.store_id):
            return missing
        archived = self._archived(session_id)  # before the warehouse is read, which may get more of it meanwhile
        reads = WarehouseReads(Projection(self._warehouse.opened()))
        if archived is not None:
            found = reads.state(session_id)
            if found is None:
                self._check_not_lost(session_id)
                return missing
            if is_older_or_other(found[0], archived.head):
                raise archive_lost(archived, self._warehouse_url(), found[0])
        return read(reads)

    def _check_not_lost(self, session_id: str) -> None:
        """Raise ArchiveLost if the embedded store has dropped a session's rows. Call it if the warehouse has none."""
        from ledger.tiers.archiving import archive_lost

        archived = self._archived(session_id)  # it may have been purged or restored meanwhile
        if archived is not None:
            raise archive_lost(archived, self._warehouse_url())


def _not_here(session_id: str) -> SessionNotFound:
    return SessionNotFound(
        f"There is no session {session_id} in this store; nothing was written. Create it with create_session(), or, "
        "if the warehouse has it, hydrate it with hydrate_session() before you change it.",
        session_id=session_id,
    )

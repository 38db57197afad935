"""The protocols of event stores. ``ledger.stores.sqlite.store`` holds the embedded store.

Every store implements ``EventStore``. Each further protocol belongs to a flag of ``Capabilities``, and a store that
declares the flag has the protocol's methods. For each of these protocols a function such as ``outbox_store`` checks
the flag. It returns the store as that protocol, or None if the store does not declare the flag.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from ledger.model.events import ANY_VERSION, MAX_CHANGES, MAX_EVENT_BYTES, AppendResult, NewEvent, RecordedEvent
from ledger.model.findings import Verification
from ledger.model.fold import State
from ledger.model.page import Page
from ledger.model.queries import SearchQuery, SessionQuery
from ledger.model.seals import Leaf, LeafCheck, Seal
from ledger.model.search import Match
from ledger.model.session import Head, Message

if TYPE_CHECKING:  # protocols are slow to create, and most programs need only EventStore
    from ledger.outbox.comparison import StoreOutbox
    from ledger.outbox.row_digests import SessionKey
    from ledger.warehouse.base import Warehouse

#: Default of ``max_bytes``, the maximum size of one answer of ``rows_after``.
MAX_BYTES = 32_000_000
#: Default of ``limit``, the maximum number of findings of one verification.
MAX_FINDINGS = 1000


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capabilities that a store declares.

    The contract (``ledger.testing``) asserts that each declared capability works. It also asserts that calls that need
    an undeclared capability are refused.

    Attributes:
        compare_and_append: ``expected_version`` is compared in the transaction of the append, so no other process can
            append in between. Without this capability, ``expected_version`` is compared with the version that the
            store last read.
        gapless_versions: A session's versions are 1, 2, 3 ... without gaps or repeats, however many writers append.
        hash_chain: Events that the store appends carry ``prev_hash`` and ``event_hash``.
        backup: ``backup`` works.
        commit_order: Rows are numbered in the order of their commits, and ``rows_after`` and ``last_seq`` work.
        outbox: Rows can be shipped to warehouses; the store is an ``OutboxStore``.
        archive: The store can tell if a warehouse refused rows of a session; the store is an ``ArchivingStore``.
        purge: Sessions can be purged; the store is a ``PurgingStore``.
        tiered: The store reads from a warehouse what it does not hold. If an append requires an open session and the
            session is archived, the store hydrates the session; other stores refuse the append. The store is a
            ``TieredStore``.
        warehouse: Sessions are stored in a warehouse; the store is a ``WarehouseStore``.
        search: ``search`` works.
        verify: ``verify`` works: the store is a ``VerifyingStore``.
        seals: Seals can be made and checked; the store is a ``SealingStore``.
        max_changes: Maximum number of changes in one event.
        max_event_bytes: Maximum size of one event, in bytes. An event's size is that of its keys and values, plus
            ``ROW_BYTES`` for each change.
    """

    compare_and_append: bool
    gapless_versions: bool
    hash_chain: bool
    backup: bool
    commit_order: bool
    outbox: bool = False
    archive: bool = False
    purge: bool = False
    tiered: bool = False
    warehouse: bool = False
    search: bool = True
    verify: bool = False
    seals: bool = False
    max_changes: int = MAX_CHANGES
    max_event_bytes: int = MAX_EVENT_BYTES


class EventStore(Protocol):
    """A store of sessions. Its methods append and ingest events, read and search sessions, export rows and back up.

    Every method raises InvalidInput for invalid arguments (an id, a limit, a cursor, a naive datetime), and
    StoreUnavailable or StoreRejected if the store cannot be read or is closed.
    """

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of this store."""
        ...

    @property
    def store_id(self) -> str:
        """The id that this store writes into its rows."""
        ...

    def append(self, session_id: str, event: NewEvent, *, expected_version: int = ANY_VERSION) -> AppendResult:
        """Record one event, whole or not at all.

        When the method returns, the event is durable. Appending the same event again, with the same event_id, records
        nothing.

        Args:
            session_id: The session's id, at most 255 characters. The first event creates the session and must name the
                owner.
            event: An event of 1 to ``capabilities.max_changes`` changes, no two of them with the same (field, key).
            expected_version: The version that the session must have before this append. If it is 0, the session
                must not exist. If it is ``ANY_VERSION``, the version is not compared.

        Returns:
            The version of the event; ``replayed=True`` if this event_id was already recorded with the same content.

        Raises:
            SessionNotFound: The session does not exist and the event names no owner.
            WrongExpectedVersion: The session is at another version, ``actual``; nothing was written.
            SessionEnded: The event requires an open session, and this one is expired, archived or deleted. If the
                session is archived and the store does not hold its rows, every new event is refused.
            IdempotencyConflict: This event_id was recorded with other content.
            InvalidInput, ValueTooLarge: The event cannot be recorded.
            OutcomeUnknown: The answer was lost; append again with the same event_id.
            StoreUnavailable, StoreRejected: Nothing was written.
        """
        ...

    def state(
        self, session_id: str, *, version: int | None = None, at: datetime | None = None, with_messages: bool = False
    ) -> tuple[Head, State] | None:
        """Return a session's head and state: the latest ones, or those at a version or at a time.

        Args:
            version: The version whose state is wanted, 1 to the session's latest version.
            at: The time whose state is wanted, by the store's clock: a timezone-aware datetime. The state is the fold
                of the events recorded by then. It cannot be combined with ``version``.
            with_messages: Include the messages in the state.

        Returns:
            The head and the state. None if the session does not exist, or did not exist yet at the time ``at``.

        Raises:
            CorruptEvent, UpcastMissing: A row from which the state is folded cannot be read.
        """
        ...

    def messages(self, session_id: str, *, after: str | None, limit: int, newest: bool = False) -> Page[Message]:
        """Return a page of messages, in the order of their versions.

        Args:
            after: The ``next`` of the previous page; None for the first page.
            limit: Maximum number of messages, 1 to 10,000.
            newest: Return the last ``limit`` messages; ``after`` is ignored, and the page has no ``next``.

        Returns:
            An empty page if the session does not exist.
        """
        ...

    def events(self, session_id: str, *, after: int = 0, limit: int = 1000, upcast: bool = True) -> Page[RecordedEvent]:
        """Return a page of whole events, in order.

        Args:
            after: Return events with a greater version.
            limit: Maximum number of versions, 1 to 10,000. In a lenient session two events can have one version.
            upcast: True to bring events to the present schema version. False to return them as recorded; only then do
                they match their hashes.

        Returns:
            An empty page if the session does not exist or has no later event.

        Raises:
            CorruptEvent, UpcastMissing: A row cannot be read.
        """
        ...

    def version_of(self, session_id: str, event_id: str) -> int | None:
        """Return the version of a session's event; None if the session has no event with this id."""
        ...

    def sessions(self, query: SessionQuery, *, after: str | None = None, limit: int = 50) -> Page[tuple[Head, State]]:
        """Return a page of heads and states (without messages), newest session first.

        Args:
            query: Criteria that every returned session meets.
            after: The ``next`` of the previous page; None for the first page.
            limit: Maximum number of sessions, 1 to 10,000.
        """
        ...

    def search(self, query: SearchQuery, *, after: str | None = None, limit: int = 50) -> Page[Match]:
        """Return a page of current texts that contain every term. Texts of deleted sessions are left out.

        Matches are ordered by session, newest first, then by version, oldest first, then by field and key. The texts of
        all events appended before the call are searched.

        Args:
            query: The terms, and the sessions to search. ``ledger.model.search`` defines terms and words.
            after: The ``next`` of the previous page; None for the first page.
            limit: Maximum number of matches, 1 to 10,000.

        Raises:
            CapabilityMissing: The store cannot search.
        """
        ...

    def ingest(self, events: Iterable[RecordedEvent]) -> int:
        """Record whole events that another store recorded; skip events that this store already has.

        Returns:
            The number of new events.

        Raises:
            IdempotencyConflict: This store has an event with this event_id and other content. Nothing was written.
            WrongExpectedVersion: A session has diverged: both stores appended to it. Nothing of the call was written.
        """
        ...

    def rows_after(self, seq: int, limit: int, *, max_bytes: int = MAX_BYTES) -> Sequence[tuple[Any, ...]]:
        """Return raw rows with a greater ``seq`` than the given one, in commit order, each as ``(seq, *row)``.

        An event's rows are returned all together or not at all. ``row`` has the columns of
        ``sql/tables/session_events.sql``. Its times are microseconds since 1970, and its value is canonical JSON.

        Args:
            seq: The ``seq`` of the last row that the caller has; 0 for none.
            limit: Maximum number of rows. If the first event has more rows, it is still returned whole.
            max_bytes: Maximum total size, in bytes. A row counts as the size of its value plus 1,000. A larger first
                event is still returned whole.

        Raises:
            CapabilityMissing: The store has no ``commit_order``.
        """
        ...

    def last_seq(self) -> int:
        """Return the ``seq`` of the last committed row; 0 if there is none.

        Raises:
            CapabilityMissing: The store has no ``commit_order``.
        """
        ...

    def backup(self, path: Path) -> None:
        """Write a consistent copy of the live store to a new file.

        Raises:
            StoreRejected: ``path`` exists already, or it cannot be written.
            CapabilityMissing: The store makes no backups; nothing is written.
        """
        ...

    def close(self) -> None:
        """Wait for appends in progress and release all resources; a second call does nothing."""
        ...


class OutboxStore(EventStore, Protocol):
    """Protocol of stores that declare ``outbox``: the store is a file, and relays ship its rows to warehouses."""

    @property
    def path(self) -> Path:
        """The absolute path of the store's file."""
        ...

    def outbox(self, warehouse: str) -> StoreOutbox:
        """Return the store's side of the relay to one warehouse.

        Args:
            warehouse: The warehouse's URL, as ``Sink.url`` gives it.
        """
        ...

    def own_files(self) -> list[Path]:
        """Return the store's files, and the DuckDB files beside it and shipped to, with their logs. Some may not exist.

        Commands that write a file, such as an export, must refuse these paths.
        """
        ...


class ArchivingStore(EventStore, Protocol):
    """Protocol of stores that declare ``archive``: the store can tell if a session may be archived."""

    def check_shippable(self, session_id: str) -> None:
        """Raise StoreRejected if the session cannot be archived because a warehouse refused some of its rows."""
        ...


class PendingDeletion(NamedTuple):
    """A session that was purged in a store and must still be deleted in a warehouse.

    Attributes:
        key: The session's id and creation time.
        version: The version of the session's last event in the store.
    """

    key: SessionKey
    version: int


class PurgingStore(EventStore, Protocol):
    """Protocol of stores that declare ``purge``: the store can purge sessions."""

    def purge(self, session_id: str, version: int) -> bool:
        """Delete everything that the store holds of a session, including its tombstone, in one transaction.

        For each warehouse that it has shipped to, the store records that the session must still be deleted there; see
        ``pending_deletions``.

        Returns:
            True if the session was deleted. False if it does not exist, is not at ``version``, or has rows that must
            still be shipped or are dead letters.
        """
        ...

    def forget_purged(self) -> None:
        """Remove the words of deleted texts from the store's search index. Call it after the last of several purges.

        The store's own searches do not find these words, but its file may still contain them.
        """
        ...

    def pending_deletions(self) -> list[PendingDeletion]:
        """Return the purged sessions that a warehouse must still delete, oldest first.

        A session is returned once for each warehouse that must delete it.
        """
        ...


class VerifyingStore(EventStore, Protocol):
    """Protocol of stores that declare ``verify``: the store can compare its data with what was recorded."""

    def verify(
        self,
        session_ids: Collection[str] | None = None,
        *,
        rebuild: bool = False,
        limit: int = MAX_FINDINGS,
        progress: Callable[[int], object] | None = None,
    ) -> Verification:
        """Verify sessions: their events against the hash chain, and everything derived from events.

        Args:
            session_ids: The sessions; None for all sessions and for the store itself.
            rebuild: Compute wrong derived data again. Events are never changed. If a session's events are not what was
                recorded, nothing of the session is changed.
            limit: Maximum number of findings in the result.
            progress: Called with the number of rows read since the last call.

        Raises:
            SessionNotFound: The store does not know one of the sessions.
        """
        ...


class TieredStore(EventStore, Protocol):
    """Protocol of stores that declare ``tiered``: the store has a warehouse, which holds its archived sessions."""

    def drop_archived(self, session_ids: Collection[str] | None = None) -> int:
        """Drop the rows of each archived session, if the warehouse has every row of that session.

        Args:
            session_ids: Only these sessions; None for all.

        Returns:
            The number of sessions whose rows were dropped. If rows of a session have not arrived in the warehouse yet,
            a later call drops them.

        Raises:
            StoreUnavailable: The warehouse cannot be reached; some sessions may have been dropped.
        """
        ...

    def rehydrate(self, session_id: str) -> int:
        """Restore a session's rows from the warehouse, unless the store holds them.

        Returns:
            The number of events restored; 0 if the store holds the rows already, or the session does not exist.

        Raises:
            StoreUnavailable: The warehouse cannot be reached; nothing was written.
            CorruptEvent, StoreRejected: The warehouse lacks the history that this store archived; nothing was written.
        """
        ...

    def purge_warehouse(self) -> int:
        """Delete from the warehouse every session that was purged in the store; return the number deleted.

        Raises:
            StoreUnavailable: The warehouse cannot be reached; the next call deletes the rest.
        """
        ...


class SealingStore(EventStore, Protocol):
    """Protocol of stores that declare ``seals``: the store can seal its sessions; see ``ledger.model.seals``."""

    def seal(self) -> Seal:
        """Seal all sessions as they are now, and keep the seal and its leaves.

        Raises:
            StoreUnavailable: The store is busy or full; no seal was made.
        """
        ...

    def seals(self) -> list[Seal]:
        """Return the seals that the store keeps, oldest first."""
        ...

    def sealed(self, seal_id: str) -> Iterator[Leaf]:
        """Return the leaves that the store keeps of a seal, sorted by session; none if it does not have the seal."""
        ...

    def compare_sealed(self, leaves: Sequence[Leaf]) -> list[LeafCheck]:
        """Compare sealed sessions with what the store holds now.

        For each session, only the hash of the event at the sealed version is compared. This hash covers all earlier
        events, and ``ledger.model.integrity.verify`` checks the earlier events against it.

        Args:
            leaves: Some of the leaves of a seal. All leaves of one call are compared with one snapshot of the store.

        Returns:
            One result for each leaf, in the same order.
        """
        ...


class WarehouseStore(EventStore, Protocol):
    """Protocol of stores that declare ``warehouse``: the sessions are in a warehouse, and there is no local file."""

    @property
    def warehouse(self) -> Warehouse:
        """The warehouse; it is open as long as the store is."""
        ...


def outbox_store(store: EventStore) -> OutboxStore | None:
    """Return the store as an ``OutboxStore``; None if it does not declare ``outbox``."""
    return cast(OutboxStore, store) if store.capabilities.outbox else None


def archiving_store(store: EventStore) -> ArchivingStore | None:
    """Return the store as an ``ArchivingStore``; None if it does not declare ``archive``."""
    return cast(ArchivingStore, store) if store.capabilities.archive else None


def purging_store(store: EventStore) -> PurgingStore | None:
    """Return the store as a ``PurgingStore``; None if it does not declare ``purge``."""
    return cast(PurgingStore, store) if store.capabilities.purge else None


def verifying_store(store: EventStore) -> VerifyingStore | None:
    """Return the store as a ``VerifyingStore``; None if it does not declare ``verify``."""
    return cast(VerifyingStore, store) if store.capabilities.verify else None


def tiered_store(store: EventStore) -> TieredStore | None:
    """Return the store as a ``TieredStore``; None if it does not declare ``tiered``."""
    return cast(TieredStore, store) if store.capabilities.tiered else None


def sealing_store(store: EventStore) -> SealingStore | None:
    """Return the store as a ``SealingStore``; None if it does not declare ``seals``."""
    return cast(SealingStore, store) if store.capabilities.seals else None


def warehouse_store(store: EventStore) -> WarehouseStore | None:
    """Return the store as a ``WarehouseStore``; None if it does not declare ``warehouse``."""
    return cast(WarehouseStore, store) if store.capabilities.warehouse else None

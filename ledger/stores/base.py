"""What every event store does, and what some do besides. ``ledger.stores.sqlite.store`` is the embedded one.

``EventStore`` is the protocol of all stores. Each protocol below it belongs to a flag of ``Capabilities``, and a store
that declares the flag has its methods: ``outbox_store`` and its like look at the flag and return the store as one of
that protocol, or None.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from ledger.model.events import ANY_VERSION, MAX_CHANGES, MAX_EVENT_BYTES, AppendResult, NewEvent, RecordedEvent
from ledger.model.fold import State
from ledger.model.page import Page
from ledger.model.queries import SearchQuery, SessionQuery
from ledger.model.search import Match
from ledger.model.session import Head, Message
from ledger.outbox.comparison import ComparableOutbox
from ledger.outbox.contract import DeadLetter
from ledger.outbox.row_digests import SessionKey
from ledger.warehouse.base import Warehouse

#: Of values, in one answer of ``rows_after``.
MAX_BYTES = 32_000_000


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store can do; the contract (``ledger.testing``) asserts each, also that what is False is not there.

    Attributes:
        compare_and_append: ``expected_version`` is checked in the same transaction as the append, so it holds between
            processes; without, it is checked against what the store reads.
        gapless_versions: A session's versions are 1, 2, 3 ... without gaps or repeats, whoever appends.
        hash_chain: Events that the store appends carry ``prev_hash`` and ``event_hash``.
        backup: ``backup`` works.
        commit_order: ``rows_after`` and ``last_seq`` work: rows have a sequence, in which they were committed.
        outbox: Rows can be shipped to warehouses; the store is an ``OutboxStore``.
        archive: Sessions whose rows a warehouse refused are told apart; the store is an ``ArchivingStore``.
        purge: Sessions can be deleted for good; the store is a ``PurgingStore``.
        tiered: A warehouse is behind, and an event for open sessions brings an archived session back, where other
            stores refuse it; the store is a ``TieredStore``.
        warehouse: Sessions are in a warehouse themselves; the store is a ``WarehouseStore``.
        search: ``search`` works.
        max_changes: Changes in one event.
        max_event_bytes: Bytes of one event: its keys, its values and its rows.
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
    max_changes: int = MAX_CHANGES
    max_event_bytes: int = MAX_EVENT_BYTES


class EventStore(Protocol):
    """Append, five reads, a search, one road in and one out for whole events, backup and close.

    Every method raises InvalidInput for arguments that cannot be (an id, a limit, a cursor, a naive time), and
    StoreUnavailable or StoreRejected where the store cannot be read or is closed.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do."""
        ...

    @property
    def store_id(self) -> str:
        """The identity that this store writes into its rows."""
        ...

    def append(self, session_id: str, event: NewEvent, *, expected_version: int = ANY_VERSION) -> AppendResult:
        """Record one event, whole or not at all; on return it is durable. Idempotent by event_id.

        Args:
            session_id: The stream to write, at most 255 characters; its first event, which names the owner, creates it.
            event: 1 to ``capabilities.max_changes`` changes, no (field, key) twice.
            expected_version: Version before this append, in events; 0 means that the session must not exist.

        Returns:
            The version given, and ``replayed=True`` when this event_id was already recorded with the same content.

        Raises:
            SessionNotFound: There is no such session and the event names no owner.
            WrongExpectedVersion: Nothing was written; ``actual`` holds the version found.
            SessionEnded: The event is one for open sessions, and this one is expired, archived or deleted; or it is
                archived, and its rows are not here.
            IdempotencyConflict: This event_id was recorded with other content.
            InvalidInput, ValueTooLarge: The event cannot be recorded.
            OutcomeUnknown: The answer was lost; append again with the same event_id.
            StoreUnavailable, StoreRejected: Nothing was written.
        """
        ...

    def state(
        self, session_id: str, *, version: int | None = None, at: datetime | None = None, with_messages: bool = False
    ) -> tuple[Head, State] | None:
        """The head and state of a session: now, at a version, or at a time.

        Args:
            version: In events; the session must have had it.
            at: By the clock of the store, aware; not along with ``version``.
            with_messages: Whether the state holds the messages.

        Returns:
            None where there was no such session.

        Raises:
            CorruptEvent, UpcastMissing: A row cannot be read; an earlier state is folded from rows.
        """
        ...

    def messages(self, session_id: str, *, after: str | None, limit: int, newest: bool = False) -> Page[Message]:
        """Messages in the order of their versions, or the newest of them, in that order as well.

        Args:
            after: The ``next`` of an earlier page; None for the first.
            limit: At most this many, 1 to 10,000.
            newest: The last ``limit`` messages; ``after`` is not looked at, and no page follows.

        Returns:
            Empty where there is no such session.
        """
        ...

    def events(self, session_id: str, *, after: int = 0, limit: int = 1000, upcast: bool = True) -> Page[RecordedEvent]:
        """Events in order, each whole.

        Args:
            after: Only what came after this version.
            limit: At most this many versions, 1 to 10,000.
            upcast: False for the events as they were recorded, which is what their hashes speak of.

        Returns:
            Empty where there is no such session, or nothing came after.

        Raises:
            CorruptEvent, UpcastMissing: A row cannot be read.
        """
        ...

    def version_of(self, session_id: str, event_id: str) -> int | None:
        """The version at which a session recorded an event; None where it did not."""
        ...

    def sessions(self, query: SessionQuery, *, after: str | None = None, limit: int = 50) -> Page[tuple[Head, State]]:
        """Heads and states (without messages), newest session first.

        Args:
            query: What each of them meets.
            after: The ``next`` of an earlier page; None for the first.
            limit: At most this many, 1 to 10,000.
        """
        ...

    def search(self, query: SearchQuery, *, after: str | None = None, limit: int = 50) -> Page[Match]:
        """Texts as they stand now in which every term occurs; deleted sessions are left out.

        The newest session comes first, and within a session the text that was written first; of one version in the
        order of fields and keys. What was appended before the call is found.

        Args:
            query: What to look for, and in which sessions; ``ledger.model.search`` says what a word is.
            after: The ``next`` of an earlier page; None for the first.
            limit: At most this many, 1 to 10,000.

        Raises:
            CapabilityMissing: The store cannot search.
        """
        ...

    def ingest(self, events: Iterable[RecordedEvent]) -> int:
        """Take over whole events as they were recorded elsewhere; those already here count as done.

        Returns:
            How many events were new.

        Raises:
            IdempotencyConflict: An event_id is here with other content; nothing of the call was written.
            WrongExpectedVersion: The session went on here and there; nothing of the call was written.
        """
        ...

    def rows_after(self, seq: int, limit: int, *, max_bytes: int = MAX_BYTES) -> Sequence[tuple[Any, ...]]:
        """Raw rows beyond ``seq`` in the order they were committed, whole events only: ``(seq, *row)``.

        ``row`` has the columns of ``sql/tables/session_events.sql``: times are microseconds, values canonical JSON.

        Args:
            seq: Of the last row that the caller has.
            limit: At most this many rows, but for a first event that has more.
            max_bytes: At most this many bytes of values, and 1,000 for the rest of each row; but for a first event.

        Raises:
            CapabilityMissing: The store has no ``commit_order``.
        """
        ...

    def last_seq(self) -> int:
        """The ``seq`` of the last row that is committed; 0 where there is none.

        Raises:
            CapabilityMissing: The store has no ``commit_order``.
        """
        ...

    def backup(self, path: Path) -> None:
        """Write a consistent copy of the live store to a file that does not exist yet.

        Raises:
            StoreRejected: There is a file at ``path`` already, or it cannot be written.
            CapabilityMissing: The store makes no backups; nothing is written.
        """
        ...

    def close(self) -> None:
        """Finish what is under way and let go of the store; calling it again does nothing."""
        ...


class StoreOutbox(ComparableOutbox, Protocol):
    """A store's side of the relay to one warehouse: what a relay and a comparison need, and what people ask of it."""

    @property
    def warehouse(self) -> str:
        """The warehouse's URL."""
        ...

    def refused(self) -> list[DeadLetter]:
        """Return the events that the warehouse refused, in the order in which they were recorded."""
        ...

    def redrive_event(self, event_id: str | None = None) -> int:
        """Have refused events sent again, one or all; returns the number of rows."""
        ...


class OutboxStore(EventStore, Protocol):
    """A store in a file, whose rows a relay ships to warehouses. Declared by ``outbox``."""

    @property
    def path(self) -> Path:
        """The store's file, as an absolute path."""
        ...

    def outbox(self, warehouse: str) -> StoreOutbox:
        """Return the store's side of the relay to one warehouse.

        Args:
            warehouse: Its URL, as the sink gives it.
        """
        ...


class ArchivingStore(EventStore, Protocol):
    """A store that knows whether a session may be kept in a warehouse alone. Declared by ``archive``."""

    def check_shippable(self, session_id: str) -> None:
        """Raise StoreRejected if a warehouse refused rows of the session, so that it cannot be archived."""
        ...


class PendingDeletion(NamedTuple):
    """A session that was deleted for good in a store, and not yet in a warehouse.

    Attributes:
        version: Of its last event in the store.
    """

    key: SessionKey
    version: int


class PurgingStore(EventStore, Protocol):
    """A store that deletes sessions for good. Declared by ``purge``."""

    def purge(self, session_id: str, version: int) -> bool:
        """Delete a session for good: its rows, its head and all that is kept of it, in one transaction.

        What is to be deleted in the warehouses is remembered; see ``pending_deletions``.

        Returns:
            False if the session is not there, is not at ``version``, or has rows that are still to be shipped.
        """
        ...

    def pending_deletions(self) -> list[PendingDeletion]:
        """Return the sessions that were deleted here and not yet in every warehouse, the oldest first."""
        ...


class TieredStore(EventStore, Protocol):
    """A store with a warehouse behind it, where archived sessions are. Declared by ``tiered``."""

    def drop_archived(self, session_ids: Collection[str] | None = None) -> int:
        """Drop the rows of archived sessions that have arrived in the warehouse, of these or of all.

        Returns:
            The number of sessions dropped; what has not arrived yet is dropped another time.

        Raises:
            StoreUnavailable: The warehouse cannot be asked; some may be dropped.
        """
        ...

    def rehydrate(self, session_id: str) -> int:
        """Take a session over from the warehouse, unless it is here.

        Returns:
            The number of events brought back; 0 if the session is here, or nowhere.

        Raises:
            StoreUnavailable: The warehouse cannot be reached; nothing was written.
            CorruptEvent, StoreRejected: The warehouse has not the history that was archived here; nothing was written.
        """
        ...

    def purge_warehouse(self) -> int:
        """Delete in the warehouse what was deleted for good here; returns the number of sessions.

        Raises:
            StoreUnavailable: The warehouse cannot be reached; the next call goes on.
        """
        ...


class WarehouseStore(EventStore, Protocol):
    """A store whose sessions are in a warehouse, with no file before it. Declared by ``warehouse``."""

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


def tiered_store(store: EventStore) -> TieredStore | None:
    """Return the store as a ``TieredStore``; None if it does not declare ``tiered``."""
    return cast(TieredStore, store) if store.capabilities.tiered else None


def warehouse_store(store: EventStore) -> WarehouseStore | None:
    """Return the store as a ``WarehouseStore``; None if it does not declare ``warehouse``."""
    return cast(WarehouseStore, store) if store.capabilities.warehouse else None

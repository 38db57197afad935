"""The protocol that every event store implements, and the capabilities that a store declares.

``ledger.stores.base`` exports both, with the protocols of the capabilities.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from ledger.model.events import ANY_VERSION, MAX_CHANGES, MAX_EVENT_BYTES, AppendResult, NewEvent, RecordedEvent
from ledger.model.fold import State
from ledger.model.page import Page
from ledger.model.queries import SearchQuery, SessionQuery
from ledger.model.search import Match
from ledger.model.session import Head, Message

#: Default of ``max_bytes``, the maximum size of one answer of ``rows_after``.
MAX_BYTES = 32_000_000


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
            ``ROW_BYTES`` and the idempotency key for each change.
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
        """Return a page of heads and states (without messages), in the order that the query names, newest first.

        Pages join to a list that has every session once. In the order of the last events, an event that is appended
        between two pages moves its session to the front: the later pages may lack the session, but no other one.

        Args:
            query: Criteria that every returned session meets, and the order.
            after: The ``next`` of the previous page of a list in the same order; None for the first page.
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

"""What every event store does. ``ledger.stores.sqlite.store`` is the embedded one."""

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
        reopens: An event for open sessions brings an archived session back, where other stores refuse it.
        search: ``search`` works.
        max_changes: Changes in one event.
        max_event_bytes: Bytes of one event: its keys, its values and its rows.
    """

    compare_and_append: bool
    gapless_versions: bool
    hash_chain: bool
    backup: bool
    commit_order: bool
    reopens: bool = False
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

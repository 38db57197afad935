"""The protocols by which ``reconcile`` compares a store with its warehouse. They compare ids and hashes of rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import NamedTuple, Protocol

from ledger.model.events import RecordedEvent
from ledger.outbox.contract import DeadLetter, Outbox, RelayCheckpoint
from ledger.outbox.row_digests import RowDigest, SessionDigest, SessionKey, Tombstone

#: ``SESSIONS_AT_ONCE`` is the maximum number of sessions in a query, because each id is a query parameter.
#: ``ROWS_AT_ONCE`` is the approximate maximum number of rows, because the rows of both sides are held in memory.
SESSIONS_AT_ONCE, ROWS_AT_ONCE = 500, 200_000


class WarehouseRow(NamedTuple):
    """A row of the warehouse, with the number of identical copies of the row in the raw table."""

    digest: RowDigest
    store_id: str
    copies: int


def parts(sizes: Mapping[SessionKey, int]) -> Iterator[list[SessionKey]]:
    """Split sessions into parts whose rows fit in memory, and yield each part.

    A session with more than ``ROWS_AT_ONCE`` rows is a part of its own.

    Args:
        sizes: Number of rows by session.
    """
    part: list[SessionKey] = []
    rows = 0
    for session, size in sizes.items():
        if part and (len(part) == SESSIONS_AT_ONCE or rows + size > ROWS_AT_ONCE):
            yield part
            part, rows = [], 0
        part.append(session)
        rows += size
    if part:
        yield part


def by_day(sessions: Iterable[SessionKey]) -> Iterator[list[SessionKey]]:
    """Yield the sessions of each day of creation, which is one partition. ``sessions`` are in order of creation."""
    for _, of_day in groupby(sessions, key=lambda session: session.created_at.date()):
        yield list(of_day)


def batches(sessions: Iterable[SessionKey], *, days: int = 1) -> Iterator[list[SessionKey]]:
    """Split sessions, which are in order of creation, into batches for one query each, and yield each batch.

    A batch has at most ``SESSIONS_AT_ONCE`` sessions, and no session id twice.

    Args:
        sessions: The sessions.
        days: Maximum number of consecutive days on which the sessions of a batch were created.
    """
    part: dict[str, SessionKey] = {}
    first = last = date.min
    for of_day in by_day(sessions):
        day = of_day[0].created_at.date()
        is_near = day - last <= timedelta(days=1) and day - first < timedelta(days=days)
        if part and not (is_near and len(part) + len(of_day) <= SESSIONS_AT_ONCE):
            yield list(part.values())
            part = {}
        for session in of_day:
            if len(part) == SESSIONS_AT_ONCE or session.session_id in part:
                yield list(part.values())
                part = {}
            if not part:
                first = day
            part[session.session_id] = session
        last = day
    if part:
        yield list(part.values())


class ComparableOutbox(Outbox, Protocol):
    """An outbox that can also be compared with its warehouse."""

    def session_digests(
        self, created_from: datetime, created_until: datetime, *, upto: int
    ) -> Iterable[tuple[SessionKey, SessionDigest]]:
        """Return the digest of each session that was created in a range of time.

        A digest covers the session's rows whose ``seq`` is at most ``upto``, except dead letters. If the store dropped
        the rows of an archived session, the digest covers all of the dropped rows.

        Args:
            created_from, created_until: Range of creation times, as timezone-aware datetimes. ``created_from`` is
                inclusive and ``created_until`` exclusive.
            upto: The last ``seq`` to include.
        """
        ...

    def row_digests(self, sessions: Collection[SessionKey]) -> Mapping[SessionKey, Sequence[tuple[int, RowDigest]]]:
        """Return the digests of all rows of the given sessions, each as a pair ``(seq, digest)``.

        Dead letters and rows not yet shipped are included. A session without rows has an empty sequence.
        """
        ...

    def tombstones(self, sessions: Collection[SessionKey]) -> Mapping[SessionKey, Tombstone]:
        """Return the tombstone of each given session that has one. Sessions without a tombstone are left out."""
        ...

    def deleting(self) -> Collection[SessionKey]:
        """Return the sessions that were purged in the store and must still be deleted in the warehouse."""
        ...

    def restore(self, checkpoint: RelayCheckpoint, events: Sequence[RecordedEvent]) -> tuple[int, RelayCheckpoint]:
        """Write events of the warehouse back into the store, and mark their rows as in doubt.

        Both happen in one transaction. A relay therefore never takes the restored rows for rows that the warehouse
        lacks.

        Args:
            checkpoint: The latest checkpoint, with the epoch that ``acquire`` returned. It is saved with a new
                ``in_doubt_upto``.
            events: Whole events, as the warehouse has them.

        Returns:
            The number of events that the store did not have before, and the checkpoint as saved.

        Raises:
            LeaseLost: Another relay has taken the lease; nothing was written.
            SessionEnded: The session is archived and its rows were dropped; nothing was written.
            CorruptEvent, IdempotencyConflict, InvalidInput, UpcastMissing, WrongExpectedVersion: The events cannot be
                ingested; see ``EventStore.ingest``. Nothing was written.
        """
        ...


class StoreOutbox(ComparableOutbox, Protocol):
    """The store's side of the relay to one warehouse, as the relay, ``reconcile`` and the commands use it."""

    @property
    def warehouse(self) -> str:
        """The warehouse's URL."""
        ...

    def reconciled(self, created_from: datetime) -> None:
        """Record that the store lacks no events that the warehouse has, of the sessions created from a time on.

        A store whose file was replaced by a backup no longer counts as unreconciled then, if all of its sessions were
        compared.

        Args:
            created_from: Time of creation of the first sessions that were compared. All later ones were.
        """
        ...

    def refused(self) -> list[DeadLetter]:
        """Return the dead letters of the warehouse, in the order in which the store recorded their events."""
        ...

    def redrive_event(self, event_id: str | None = None) -> int:
        """Requeue the dead letters with this event_id, or all that are not dismissed if it is None.

        Returns:
            The number of rows requeued.
        """
        ...

    def dismiss(self, event_id: str) -> bool:
        """Dismiss a dead letter: the event stays out of the warehouse, and no longer counts as refused.

        Returns:
            True if the event is dismissed now. False if the warehouse has not refused it, or if it is requeued.
        """
        ...


class ComparableWarehouse(Protocol):
    """A warehouse that can be compared with a store."""

    def has_dropped(self, session: SessionKey) -> bool:
        """Return True if the warehouse drops all rows of a session, because the day of its creation has expired."""
        ...

    def session_digests(
        self, created_from: datetime, created_until: datetime, *, store_id: str
    ) -> Sequence[tuple[SessionKey, SessionDigest, bool]]:
        """Return a tuple (session, digest, own) for each session that was created in a range of time.

        ``own`` is True if the store ``store_id`` wrote at least one of the session's rows.

        Args:
            created_from, created_until: Range of creation times, as timezone-aware datetimes. ``created_from`` is
                inclusive and ``created_until`` exclusive. The range decides which partitions are read.
            store_id: The store to compare with.
        """
        ...

    def rows_of(self, sessions: Sequence[SessionKey]) -> Mapping[SessionKey, Sequence[WarehouseRow]]:
        """Return all rows of the given sessions. Sessions without rows are left out.

        Args:
            sessions: At least one session, in order of creation.
        """
        ...

    def events(self, session: SessionKey, *, after: int) -> list[RecordedEvent]:
        """Return a session's events above the version ``after``, as they were recorded (not upcast).

        Raises:
            InvalidInput: The warehouse returned no such event. The cause is usually that the warehouse has another
                session under this id, created at another time.
        """
        ...

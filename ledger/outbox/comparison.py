"""The contract of ``reconcile``: what it needs of the store and of the warehouse to compare them without values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from ledger.model.events import RecordedEvent
from ledger.outbox.contract import Outbox, RelayCheckpoint
from ledger.outbox.row_digests import RowDigest, SessionDigest, SessionKey, Tombstone

#: Sessions per query and, approximately, rows per query: ids are query parameters, and the rows of both sides are held
#: in memory.
SESSIONS_AT_ONCE, ROWS_AT_ONCE = 500, 200_000


class WarehouseRow(NamedTuple):
    """A row of the warehouse, and how many identical copies the raw table has."""

    digest: RowDigest
    store_id: str
    copies: int


def parts(sizes: Mapping[SessionKey, int]) -> Iterator[list[SessionKey]]:
    """Split sessions so that the rows of each part fit in memory; each part has at least one session."""
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


class ComparableOutbox(Outbox, Protocol):
    """An outbox that can also be compared with its warehouse."""

    def session_digests(
        self, created_from: datetime, created_until: datetime, *, upto: int
    ) -> Iterable[tuple[SessionKey, SessionDigest]]:
        """Return the digest of each session created in a half-open span: rows up to a ``seq``, without dead letters.

        If an archived session's rows were dropped, its digest covers all rows that it had.
        """
        ...

    def row_digests(self, sessions: Collection[SessionKey]) -> Mapping[SessionKey, Sequence[tuple[int, RowDigest]]]:
        """Return all rows of some sessions as ``(seq, digest)``, including dead letters and rows not yet shipped."""
        ...

    def tombstones(self, sessions: Collection[SessionKey]) -> Mapping[SessionKey, Tombstone]:
        """Return the tombstones of those sessions that are archived and whose rows were dropped."""
        ...

    def deleting(self) -> Collection[SessionKey]:
        """Return the sessions that were purged here and are still to be purged in the warehouse."""
        ...

    def restore(self, checkpoint: RelayCheckpoint, events: Sequence[RecordedEvent]) -> tuple[int, RelayCheckpoint]:
        """Write events that the warehouse has back into the store, and mark their rows in doubt.

        This is one transaction, so that no relay can mistake the rows for new ones.

        Args:
            checkpoint: With the epoch of ``acquire``; saved with a new ``in_doubt_upto``.

        Returns:
            The number of new events, and the checkpoint as saved.

        Raises:
            LeaseLost: Another relay has taken the lease.
            CorruptEvent, IdempotencyConflict, InvalidInput, UpcastMissing, WrongExpectedVersion: As for
                ``EventStore.ingest``; the checkpoint is unchanged.
        """
        ...


class ComparableWarehouse(Protocol):
    """A warehouse that can be compared with a store."""

    def session_digests(
        self, created_from: datetime, created_until: datetime, *, store_id: str
    ) -> Sequence[tuple[SessionKey, SessionDigest, bool]]:
        """Return the digest of each session created in a span, and whether the store wrote any of its rows.

        Args:
            created_from, created_until: Half-open span of creation, aware; it decides which partitions are read.
            store_id: The store to compare with.
        """
        ...

    def rows_of(self, sessions: Sequence[SessionKey]) -> Mapping[SessionKey, Sequence[WarehouseRow]]:
        """Return all rows of some sessions, given in order of creation; sessions without rows are left out."""
        ...

    def events(self, session: SessionKey, *, after: int) -> list[RecordedEvent]:
        """Return a session's events above a version, as recorded.

        Raises:
            InvalidInput: The id leads to another session, created at another time.
        """
        ...

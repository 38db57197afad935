"""What a comparison of a store with its warehouse needs of each side: rows without their values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from ledger.model.events import RecordedEvent
from ledger.outbox.contract import Outbox, RelayCheckpoint
from ledger.outbox.row_digests import RowDigest, SessionDigest, SessionKey, Tombstone

#: Sessions in one question about rows, and about how many rows they have: their ids are parameters, and the rows of
#: both sides are in memory together.
SESSIONS_AT_ONCE, ROWS_AT_ONCE = 500, 200_000


class WarehouseRow(NamedTuple):
    """Rows of the warehouse that are the same in every word that is compared."""

    trace: RowDigest
    store_id: str
    copies: int


def parts(sizes: Mapping[SessionKey, int]) -> Iterator[list[SessionKey]]:
    """Sessions in parts of so few rows that both sides' can be compared in memory; at least one in each."""
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
    """A store's rows without their values, besides what a relay needs of it."""

    def session_digests(
        self, created_from: datetime, created_until: datetime, *, upto: int
    ) -> Iterable[tuple[SessionKey, SessionDigest]]:
        """Of every session created in the span: its rows up to a ``seq``, without those put aside.

        Of an archived one whose rows were dropped: all that it had.
        """
        ...

    def row_digests(self, sessions: Collection[SessionKey]) -> Mapping[SessionKey, Sequence[tuple[int, RowDigest]]]:
        """All rows of some sessions, each after its ``seq``; those put aside and those that wait as well."""
        ...

    def archived(self, sessions: Collection[SessionKey]) -> Mapping[SessionKey, Tombstone]:
        """What is left of those of some sessions that are archived, and whose rows were dropped."""
        ...

    def deleting(self) -> Collection[SessionKey]:
        """Sessions that were deleted for good here, and are still to be deleted in the warehouse."""
        ...

    def restore(self, checkpoint: RelayCheckpoint, events: Sequence[RecordedEvent]) -> tuple[int, RelayCheckpoint]:
        """Have the store take over events that the warehouse has, as rows that a relay asks about before it ships.

        All of it or nothing, so that no relay, whenever it takes the lease, finds these rows and takes them for new.

        Args:
            checkpoint: With the epoch of ``acquire``; saved as it is but for ``in_doubt_upto``.

        Returns:
            How many events were new, and the checkpoint as saved.

        Raises:
            LeaseLost: Somebody else took over.
            CorruptEvent, IdempotencyConflict, InvalidInput, UpcastMissing, WrongExpectedVersion: As for
                ``EventStore.ingest``; the checkpoint stays.
        """
        ...


class ComparableWarehouse(Protocol):
    """A warehouse's rows without their values."""

    def session_digests(
        self, created_from: datetime, created_until: datetime, *, store_id: str
    ) -> Sequence[tuple[SessionKey, SessionDigest, bool]]:
        """The digest of every session created in the span, and whether the store wrote any of its rows.

        Args:
            created_from, created_until: Half-open span of creation, aware; the partitions that are read.
            store_id: The store that is compared.
        """
        ...

    def rows_of(self, sessions: Sequence[SessionKey]) -> Mapping[SessionKey, Sequence[WarehouseRow]]:
        """All rows of some sessions, which are in the order of their creation; sessions without rows are left out."""
        ...

    def events(self, session: SessionKey, *, after: int) -> list[RecordedEvent]:
        """The events of a session above a version, as they were recorded.

        Raises:
            InvalidInput: The id finds another session, created at another time.
        """
        ...

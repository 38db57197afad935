"""What a relay remembers, and what it needs of the store that it reads and of the warehouse that it fills."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import orjson

from ledger.errors import StoreRejected, StoreUnavailable

#: A row of a store with its place in the order of commits: ``(seq, *row)``, where ``row`` has the columns of
#: ``sql/tables/session_events.sql``, times in microseconds since 1970, values as JSON text.
Row = tuple[Any, ...]
_SESSION, _EVENT, _FIELD, _KEY, _HASH = 1, 3, 5, 6, 19
_SPEAKING = itemgetter(0, _EVENT, _FIELD, _KEY, _HASH)


class Slot(NamedTuple):
    """What tells a row from every other of the same store."""

    session_id: str
    event_id: str
    field: str
    key: str


def slot_of(row: Row) -> Slot:
    """The identity of a row."""
    return Slot(row[_SESSION], row[_EVENT], row[_FIELD], row[_KEY])


def event_of(row: Row) -> tuple[str, str]:
    """The event that a row belongs to: its session's id and its own."""
    return row[_SESSION], row[_EVENT]


def digest_of(rows: Sequence[Row]) -> str:
    """What tells one batch of rows from another; the hash of an event speaks for its values."""
    return hashlib.sha256(orjson.dumps(list(map(_SPEAKING, rows)))).hexdigest()


@dataclass(frozen=True, slots=True)
class Batch:
    """The identity of rows that are sent in one request; the store keeps it before they go out.

    Attributes:
        last: The ``seq`` up to which everything is settled once they have arrived.
        rows: How many they are.
        digest: Of the rows; see ``digest_of``.
        again: Whether they had been put aside and are sent again: then the checkpoint does not move.
    """

    last: int
    rows: int
    digest: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """Where the relay from a store to a warehouse stands, as the store remembers it.

    Attributes:
        epoch: Counts those who held the relay; whoever saves a position must hold the last.
        checkpoint: Every row up to this ``seq`` is in the warehouse, or put aside.
        unsure_upto: Rows between the checkpoint and this ``seq`` may be in the warehouse all the same.
        place: What the sink wants to be told again: its stream, and how many rows that has acknowledged.
        batch: Rows that were being sent.
    """

    epoch: int
    checkpoint: int = 0
    unsure_upto: int = 0
    place: str = ""
    batch: Batch | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """What a sink found out when a relay began.

    Attributes:
        place: To be remembered, before anything is sent.
        arrived: Whether the batch that was being sent has arrived; it can arrive no more where it has not.
        unsure_after: Where what the store remembers and what the warehouse says do not fit (the store was restored or
            copied, or the warehouse emptied): rows beyond this ``seq`` may be there or not. Else None.
    """

    place: str
    arrived: bool = False
    unsure_after: int | None = None


class StreamEnded(StoreUnavailable):
    """The sink takes no more rows where it stood; nothing is known of this batch until the relay begins again."""


class LeaseHeld(StoreUnavailable):
    """Another relay ships these rows now."""


class LeaseLost(StoreUnavailable):
    """Another relay took over; nothing was saved."""


class RowsRefused(StoreRejected):
    """The warehouse will never take these rows as they are; it took none of the batch.

    Attributes:
        reasons: Index within the batch to what is wrong with the row; empty where the warehouse did not say which.
        certain: Whether it is about the rows, and not about the table or the request as a whole.
    """

    def __init__(self, message: str, reasons: Mapping[int, str] | None = None, *, certain: bool = True) -> None:
        super().__init__(message)
        self.reasons = dict(reasons or {})
        self.certain = certain


class Sink(Protocol):
    """What a relay needs of a warehouse; a context manager that keeps what it has open while rows are sent.

    Calls come one at a time, but for ``pack`` and ``known``, which another thread may make meanwhile.
    """

    @property
    def url(self) -> str:
        """What the warehouse is called in the store: the same for everybody who means the same warehouse."""
        ...

    @property
    def batch_rows(self) -> int:
        """The most rows to hand over at once."""
        ...

    @property
    def batch_bytes(self) -> int:
        """About how many bytes of values to hand over at once; ``pack`` counts exactly."""
        ...

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def agrees(self, store_id: str, position: Position) -> bool:
        """Whether nothing that is cheap to see speaks against a position in which nothing waits."""
        ...

    def begin(self, store_id: str, position: Position) -> Begun:
        """Make sure that nobody else goes on for this store, and find out what became of the batch under way.

        Tables and columns that the rows need are there afterwards.

        Args:
            position: As saved last; its epoch belongs to the caller alone.

        Raises:
            StoreUnavailable: The warehouse cannot be reached; beginning again later finds out.
            StoreRejected, ConfigurationError: The warehouse is not as it must be.
        """
        ...

    def pack(self, rows: Sequence[Row]) -> tuple[int, Any]:
        """The leading rows that fit a request, whole events and at least one, and what ``send`` takes of them.

        Raises:
            CorruptEvent: A row does not have the columns and types it must.
        """
        ...

    def send(self, place: str, batch: Batch, content: Any) -> str:
        """Add a batch, all or nothing; on return it is there, once.

        Args:
            place: As remembered last.
            batch: As saved.
            content: As packed.

        Returns:
            The place to remember.

        Raises:
            StreamEnded: Another relay began, or the stream is no more: begin again.
            StoreUnavailable: It may be there or not: begin again, or send the very same later.
            RowsRefused: Nothing of it is there.
            StoreRejected, ConfigurationError: Nothing of it is there, until something is mended.
        """
        ...

    def known(self, rows: Sequence[Row]) -> Collection[Slot]:
        """Which of these rows are in the warehouse."""
        ...

    def close(self) -> None:
        """Let go of what is held; calling it again does nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Aside:
    """An event that a warehouse refused.

    Attributes:
        session_id, version, event_id: Of the event.
        rows: How many of its rows were put aside: all of them, but where single ones were missing.
        reason: What the warehouse said.
        put_at: When, in UTC.
        asked: Whether it will be sent again.
    """

    session_id: str
    version: int
    event_id: str
    rows: int
    reason: str
    put_at: datetime
    asked: bool


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """How the relay from a store to a warehouse is doing.

    Attributes:
        warehouse: Its URL.
        waiting_rows: Rows that are not in the warehouse yet, without those that it refused.
        waiting_since: When the oldest of them was recorded, in UTC.
        shipped_rows: Rows sent so far.
        shipped_at: When the last of them arrived, in UTC.
        rows_per_second: Of late, while rows were being sent.
        refused_events: Events that the warehouse refused, and that nobody asked to send again.
        last_error: Why the last failure was one.
        failed_at: When that was, in UTC.
        holder: Who ships now, as ``host/process``; None where nobody does.
        disk_bytes: What the store takes on the disk.
    """

    warehouse: str
    waiting_rows: int
    waiting_since: datetime | None
    shipped_rows: int
    shipped_at: datetime | None
    rows_per_second: float | None
    refused_events: int
    last_error: str | None
    failed_at: datetime | None
    holder: str | None
    disk_bytes: int


class Outbox(Protocol):
    """What a relay needs of a store: its rows, and a place to remember where it stands with one warehouse."""

    @property
    def store_id(self) -> str:
        """The identity of the store."""
        ...

    def rows_after(self, seq: int, limit: int, *, max_bytes: int) -> Sequence[Row]:
        """Rows beyond ``seq`` in order; at least one whole event, and never a part of one."""
        ...

    def aside_between(self, first: int, last: int) -> Collection[int]:
        """The ``seq`` of rows that were put aside, among those from ``first`` to ``last``."""
        ...

    def asked(self, limit: int, *, max_bytes: int) -> Sequence[Row]:
        """Rows put aside that are to be sent again, in order; at least one, where there are any."""
        ...

    def last_seq(self) -> int:
        """The ``seq`` of the last row; 0 where there is none."""
        ...

    def position(self) -> Position:
        """Where the relay stands; nothing is taken."""
        ...

    def take(self, holder: str, seconds: float) -> Position:
        """Become the one who ships, for some seconds from each ``save``.

        Raises:
            LeaseHeld: Somebody else is, and has not let go.
        """
        ...

    def save(
        self,
        position: Position,
        *,
        shipped: int = 0,
        rate: float | None = None,
        aside: Mapping[int, str] | None = None,
        sending: Collection[int] = (),
        settled: Collection[int] = (),
        resent: bool | None = None,
    ) -> None:
        """Remember a position, all of this or nothing; the lease is good for as long again.

        Args:
            position: With the epoch of ``take``.
            shipped: Rows that arrived since the last time.
            rate: Rows a second, of late.
            aside: ``seq`` of rows to put aside, and why.
            sending: ``seq`` of rows put aside that ``position.batch`` sends again.
            settled: ``seq`` of rows put aside that turned out to be in the warehouse.
            resent: Whether the rows that were being sent again have arrived; None where none were.

        Raises:
            LeaseLost: Somebody else took over.
        """
        ...

    def give_back(self, position: Position) -> None:
        """Let others ship; does nothing where somebody else took over already."""
        ...

    def failed(self, reason: str) -> None:
        """Remember why rows could not be shipped, for people."""
        ...

    def status(self) -> RelayStatus:
        """How the relay is doing."""
        ...

    def ask_for(self, rows: Mapping[int, str]) -> None:
        """Have rows sent again, whether or not they were put aside: ``seq`` to the reason."""
        ...

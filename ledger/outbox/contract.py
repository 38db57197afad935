"""The contract of a transactional outbox: what a relay needs of the store it reads and of the warehouse it fills.

``Outbox`` is the store's side, ``Sink`` the warehouse's. Between them travel rows in batches; a ``RelayCheckpoint``
says how far a relay has come. ``ledger/relay/loop.py`` is the only consumer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import orjson

from ledger.outbox import columns

#: A row of a store with its sequence number: ``(seq, *row)``, where ``row`` has the columns of
#: ``ledger.outbox.columns``. A plain tuple: naming the columns of each would add 4 % to a relay's work.
Row = tuple[Any, ...]
#: Position of the sequence number in a ``Row``.
SEQ = 0


def index_of(name: str) -> int:
    """Position of a column in a ``Row``; look it up once, when a module is loaded."""
    return 1 + columns.position(name)


_SESSION, _EVENT, _FIELD, _KEY = map(index_of, ("session_id", "event_id", "field", "key"))
_IDENTITY = itemgetter(SEQ, _EVENT, _FIELD, _KEY, index_of("event_hash"))


class RowKey(NamedTuple):
    """Primary key of a row."""

    session_id: str
    event_id: str
    field: str
    key: str


def row_key(row: Row) -> RowKey:
    """Return the primary key of a row."""
    return RowKey(row[_SESSION], row[_EVENT], row[_FIELD], row[_KEY])


def event_key(row: Row) -> tuple[str, str]:
    """Return the event that a row belongs to: ``(session_id, event_id)``."""
    return row[_SESSION], row[_EVENT]


def batch_digest(rows: Sequence[Row]) -> str:
    """Return a digest that differs between any two batches; an event's hash stands for its values."""
    return hashlib.sha256(orjson.dumps(list(map(_IDENTITY, rows)))).hexdigest()


@dataclass(frozen=True, slots=True)
class Batch:
    """The identity of the rows sent in one request. The store records it before the request goes out.

    Attributes:
        last: Every row up to this ``seq`` is acknowledged once the batch has arrived.
        rows: Number of rows.
        digest: See ``batch_digest``.
        redrive: The rows are dead letters that are sent again, so the checkpoint does not move.
    """

    last: int
    rows: int
    digest: str
    redrive: bool = False


@dataclass(frozen=True, slots=True)
class RelayCheckpoint:
    """The progress of the relay from a store to a warehouse, as the store records it.

    Attributes:
        epoch: Fencing epoch: it grows with each lease, and only the latest holder can save.
        seq: Every row up to this one is in the warehouse or dead-lettered.
        in_doubt_upto: Rows above ``seq`` up to this one may be in the warehouse already; the relay asks first.
        sink_state: Opaque sink state (BigQuery: fence, stream name, acknowledged offset).
        batch: The batch in flight, or None.
    """

    epoch: int
    seq: int = 0
    in_doubt_upto: int = 0
    sink_state: str = ""
    batch: Batch | None = None


#: Default lease duration, in seconds; every ``save`` renews the lease.
LEASE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """The findings of a sink when a relay starts.

    Attributes:
        sink_state: To be saved before anything is sent.
        arrived: Whether the batch in flight has arrived. If it has not, it cannot arrive any more.
        in_doubt_after: Rows above this ``seq`` may be in the warehouse, because store and warehouse disagree: the store
            was restored or copied, or the warehouse was emptied. None if they agree.
    """

    sink_state: str
    arrived: bool = False
    in_doubt_after: int | None = None


class Sink(Protocol):
    """The warehouse's side of a relay; entering it keeps connections and files open while batches are sent.

    Calls come one at a time, except ``pack`` and ``existing``, which another thread may call at the same time.
    """

    @property
    def url(self) -> str:
        """The warehouse's name in the store: equal for all URLs that mean the same warehouse."""
        ...

    @property
    def batch_rows(self) -> int:
        """Maximum number of rows in a batch."""
        ...

    @property
    def batch_bytes(self) -> int:
        """Approximate maximum of value bytes in a batch; ``pack`` counts exactly."""
        ...

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def is_consistent(self, store_id: str, checkpoint: RelayCheckpoint) -> bool:
        """Cheap check when no rows are pending; returns False if the warehouse visibly contradicts the checkpoint."""
        ...

    def recover(self, store_id: str, checkpoint: RelayCheckpoint) -> Recovery:
        """Fence off every other relay of this store and find out whether the batch in flight has arrived.

        Tables and columns that the rows need exist afterwards.

        Args:
            store_id: The store whose rows are shipped.
            checkpoint: As last saved; its epoch belongs to the caller alone.

        Raises:
            StoreUnavailable: The warehouse cannot be reached; call again later.
            StoreRejected, ConfigurationError: The warehouse must be repaired or configured first.
        """
        ...

    def pack(self, rows: Sequence[Row]) -> tuple[int, Any]:
        """Encode the leading rows that fit one request: whole events, at least one.

        Returns:
            The number of rows packed, and the content for ``send``.

        Raises:
            CorruptEvent: A row has wrong columns or types.
        """
        ...

    def send(self, sink_state: str, batch: Batch, content: Any) -> str:
        """Add a batch, all or nothing; on return its rows are in the warehouse exactly once.

        Args:
            sink_state: As last saved.
            batch: As saved.
            content: As packed.

        Returns:
            The sink state to save.

        Raises:
            StreamEnded: Another relay took over, or the stream is gone: recover.
            StoreUnavailable: The batch may have arrived: recover, or send the same batch later.
            RowsRefused: No row of the batch was taken.
            StoreRejected, ConfigurationError: No row was taken, and none will be until something is repaired.
        """
        ...

    def existing(self, rows: Sequence[Row]) -> Collection[RowKey]:
        """Return the keys of those rows that the warehouse has."""
        ...

    def close(self) -> None:
        """Release all resources; a second call does nothing."""
        ...


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that a warehouse refused.

    Attributes:
        session_id, version, event_id: The event.
        rows: Number of its rows that are dead-lettered: all of them, unless single rows were missing.
        reason: The warehouse's message.
        dead_lettered_at: Time of the refusal, in UTC.
        redriving: Whether it is going to be sent again.
    """

    session_id: str
    version: int
    event_id: str
    rows: int
    reason: str
    dead_lettered_at: datetime
    redriving: bool


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """Progress of the relay from a store to a warehouse.

    Attributes:
        warehouse: Its URL.
        waiting_rows: Rows not yet in the warehouse, without those it refused.
        waiting_since: When the oldest of them was recorded, in UTC.
        shipped_rows: Rows sent so far.
        shipped_at: Arrival of the latest batch, in UTC.
        rows_per_second: Recent rate while rows were being sent.
        refused_events: Dead letters that nobody has redriven.
        last_error: Message of the latest failure.
        failed_at: Time of the latest failure, in UTC.
        holder: Lease holder as ``host/process``; None if no relay is active.
        disk_bytes: Size of the store on disk.
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
    """The store's side of the relay to one warehouse: rows in commit order, a lease, a checkpoint, dead letters."""

    @property
    def store_id(self) -> str:
        """The identity of the store."""
        ...

    def rows_after(self, seq: int, limit: int, *, max_bytes: int) -> Sequence[Row]:
        """Return rows above ``seq`` in commit order: whole events, at least one."""
        ...

    def dead_letters_between(self, first: int, last: int) -> Collection[int]:
        """Return the ``seq`` of dead-lettered rows from ``first`` to ``last``, both included."""
        ...

    def rows_to_redrive(self, limit: int, *, max_bytes: int) -> Sequence[Row]:
        """Return dead-lettered rows that are to be sent again, in order; at least one event if there is any."""
        ...

    def last_seq(self) -> int:
        """Return the ``seq`` of the last row; 0 if there is none."""
        ...

    def checkpoint(self) -> RelayCheckpoint:
        """Return the checkpoint without acquiring the lease."""
        ...

    def acquire(self, holder: str, seconds: float) -> RelayCheckpoint:
        """Acquire the lease; each ``save`` renews it for ``seconds``.

        Raises:
            LeaseHeld: Another relay holds it.
        """
        ...

    def save(
        self,
        checkpoint: RelayCheckpoint,
        *,
        shipped: int = 0,
        rate: float | None = None,
        dead_letters: Mapping[int, str] | None = None,
        redriving: Collection[int] = (),
        acknowledged: Collection[int] = (),
        redriven: bool | None = None,
    ) -> None:
        """Save a checkpoint and all of this in one transaction, and renew the lease.

        Args:
            checkpoint: With the epoch of ``acquire``.
            shipped: Rows that arrived since the last call.
            rate: Recent rows per second.
            dead_letters: ``seq`` of rows to dead-letter, and the reason.
            redriving: ``seq`` of dead letters that ``checkpoint.batch`` sends again.
            acknowledged: ``seq`` of dead letters that turned out to be in the warehouse.
            redriven: Whether the dead letters in flight have arrived; None if none were in flight.

        Raises:
            LeaseLost: Another relay has taken the lease; nothing was saved.
        """
        ...

    def release(self, checkpoint: RelayCheckpoint) -> None:
        """Release the lease; does nothing if another relay has taken it."""
        ...

    def failed(self, reason: str) -> None:
        """Record the latest failure for ``status``."""
        ...

    def status(self) -> RelayStatus:
        """Return the relay's progress."""
        ...

    def redrive(self, rows: Mapping[int, str]) -> None:
        """Requeue rows, dead-lettered or not: ``seq`` to the reason."""
        ...

"""The protocols of a transactional outbox: what a relay needs of its store and of its warehouse.

``Outbox`` is the protocol of the store, from which the relay reads rows. ``Sink`` is the protocol of the warehouse, to
which the relay sends the rows in batches. A ``RelayCheckpoint`` says how far the relay has come. Only
``ledger/relay/loop.py`` calls both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol

import orjson

from ledger.outbox.rows import SEQ, Row, RowKey, batch_identity


@dataclass(frozen=True, slots=True)
class Batch:
    """The identity of the rows sent in one request. The store records it before the request goes out.

    Attributes:
        last: Every row up to this ``seq`` is acknowledged once the batch has arrived.
        rows: Number of rows in the batch.
        digest: Digest of each row's ``seq``, primary key and event hash. Two different batches never have the same.
        redrive: True if the rows are requeued rows. Such a batch does not move the checkpoint.
    """

    last: int
    rows: int
    digest: str
    redrive: bool = False

    @classmethod
    def of(cls, rows: Sequence[Row], *, last: int | None = None, redrive: bool = False) -> Batch:
        """Return the identity of a batch of rows. ``last`` defaults to the ``seq`` of the last row."""
        digest = hashlib.sha256(orjson.dumps(list(map(batch_identity, rows)))).hexdigest()
        return cls(rows[-1][SEQ] if last is None else last, len(rows), digest, redrive)


@dataclass(frozen=True, slots=True)
class RelayCheckpoint:
    """The progress of the relay from a store to a warehouse, as the store records it.

    Attributes:
        epoch: Counter that grows with each lease. A save under an older epoch is refused.
        seq: Every row up to this one is in the warehouse or dead-lettered.
        in_doubt_upto: Rows above ``seq``, up to and including this one, may be in the warehouse already. Before the
            relay sends such a row, it asks the warehouse for it.
        sink_state: Text that only the sink reads. BigQuery's sink keeps the fence, the name of the stream and the
            acknowledged offset in it.
        batch: The batch in flight, or None.
    """

    epoch: int
    seq: int = 0
    in_doubt_upto: int = 0
    sink_state: str = ""
    batch: Batch | None = None


#: Default duration of a lease, in seconds. Every ``save`` renews the lease.
LEASE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """The findings of a sink when a relay starts.

    Attributes:
        sink_state: The sink state that the relay must save before it sends anything.
        arrived: True if the batch in flight has arrived. False if it can no longer arrive, or if there is none.
        in_doubt_after: None if store and warehouse agree. If they disagree, rows above this ``seq`` may or may not be
            in the warehouse. They disagree if the store was restored or copied, or if the warehouse was emptied.
    """

    sink_state: str
    arrived: bool = False
    in_doubt_after: int | None = None


class Sink(Protocol):
    """The warehouse's side of a relay.

    A sink is a context manager. Between entering and leaving it, connections and files stay open, so that batches can
    be sent. Calls come one at a time, except ``pack`` and ``existing``, which another thread may call at the same time.
    """

    @property
    def url(self) -> str:
        """The warehouse's URL in the normal form that the store records. Users may spell the URL in other forms."""
        ...

    @property
    def batch_rows(self) -> int:
        """Maximum number of rows in a batch."""
        ...

    @property
    def batch_bytes(self) -> int:
        """Approximate maximum size of the rows that the relay reads for a batch, in bytes."""
        ...

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def is_consistent(self, store_id: str, checkpoint: RelayCheckpoint) -> bool:
        """Return False if a cheap check shows that the warehouse contradicts the checkpoint.

        The relay calls it when it starts and no rows are waiting. A sink that has no cheap check returns True.
        """
        ...

    def recover(self, store_id: str, checkpoint: RelayCheckpoint) -> Recovery:
        """Fence off every other relay of this store and find out whether the batch in flight has arrived.

        Afterwards the warehouse has all tables and columns that the rows need.

        Args:
            store_id: The store whose rows are shipped.
            checkpoint: The checkpoint as last saved, with the epoch of the caller's own lease.

        Raises:
            StoreUnavailable: The warehouse cannot be reached; call again later.
            StoreRejected, ConfigurationError: The warehouse must be repaired or configured first.
        """
        ...

    def pack(self, rows: Sequence[Row]) -> tuple[int, Any]:
        """Encode the first rows, as many as fit one request. No event is split, and at least one event is encoded.

        Returns:
            The number of rows packed, and the content for ``send``.

        Raises:
            CorruptEvent: A row has wrong columns or types.
        """
        ...

    def send(self, sink_state: str, batch: Batch, content: Any) -> str:
        """Add a batch, all or nothing. On return its rows are in the warehouse exactly once.

        Args:
            sink_state: The sink state as last saved.
            batch: The batch in flight, as saved in the checkpoint.
            content: The content that ``pack`` returned.

        Returns:
            The sink state to save.

        Raises:
            StreamEnded: Another relay took over, or the stream is gone. Call ``recover``.
            StoreUnavailable: The batch may or may not have arrived. Call ``recover``, or send the same batch later.
            RowsRefused: The warehouse refused the batch and took no row of it.
            StoreRejected, ConfigurationError: The warehouse took no row, and takes none until something is repaired.
        """
        ...

    def existing(self, rows: Sequence[Row]) -> Collection[RowKey]:
        """Return the keys of the given rows that the warehouse already has."""
        ...

    def close(self) -> None:
        """Release all resources; a second call does nothing."""
        ...


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that a warehouse refused.

    Attributes:
        session_id, version, event_id: Identify the event.
        rows: Number of the event's dead-lettered rows. If the event was refused, these are all of its rows. If
            ``repair`` requeued it, these are the rows that ``reconcile`` found missing.
        reason: The warehouse's message.
        dead_lettered_at: Time of the refusal, in UTC.
        redriving: True if the event is requeued and will be sent again.
        dismissed: True if the event was dismissed: it stays out of the warehouse, and no longer counts as refused.
    """

    session_id: str
    version: int
    event_id: str
    rows: int
    reason: str
    dead_lettered_at: datetime
    redriving: bool
    dismissed: bool = False


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """Progress of the relay from a store to a warehouse.

    Attributes:
        warehouse: The warehouse's URL.
        waiting_rows: Number of rows that are still to be shipped. Refused rows count only once they are requeued.
        waiting_since: Time at which the oldest waiting row was recorded, in UTC; None if no row waits.
        shipped_rows: Number of rows shipped so far. After a restore from a backup, it counts from the backup's figure.
        shipped_at: Time at which the latest batch arrived, in UTC; None if none has arrived.
        rows_per_second: Recent rate of shipping; None before the first batch. Pauses in which no rows were sent do not
            count.
        refused_events: Number of dead letters that are neither requeued nor dismissed.
        last_error: Message of the latest failure; None if there was none. It stays after a success: if ``shipped_at``
            is later than ``failed_at``, rows have arrived since.
        failed_at: Time of the latest failure, in UTC; None if there was none.
        holder: Relay that holds the lease, as ``host/process``; None if no relay is active.
        disk_bytes: Size of the store on disk, in bytes.
        dismissed_events: Number of dead letters that were dismissed.
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
    dismissed_events: int = 0


class Outbox(Protocol):
    """The store's side of the relay to one warehouse: rows in commit order, a lease, a checkpoint, dead letters."""

    @property
    def store_id(self) -> str:
        """The identity of the store."""
        ...

    def rows_after(self, seq: int, limit: int, *, max_bytes: int) -> Sequence[Row]:
        """Return rows above ``seq`` in commit order, up to about ``limit`` rows or ``max_bytes`` bytes.

        Events are never split. If any event is above ``seq``, at least one event is returned.
        """
        ...

    def dead_letters_between(self, first: int, last: int) -> Collection[int]:
        """Return the ``seq`` of each dead-lettered or requeued row from ``first`` to ``last``, both included."""
        ...

    def rows_to_redrive(self, limit: int, *, max_bytes: int) -> Sequence[Row]:
        """Return requeued rows in commit order, limited like ``rows_after``; empty if none are requeued."""
        ...

    def last_seq(self) -> int:
        """Return the highest ``seq`` that any row has had, even if the row was dropped; 0 if there was never a row."""
        ...

    def checkpoint(self) -> RelayCheckpoint:
        """Return the checkpoint without acquiring the lease."""
        ...

    def acquire(self, holder: str, seconds: float) -> RelayCheckpoint:
        """Acquire the lease for ``seconds``, and return the checkpoint with the new epoch.

        Each ``save`` renews the lease for the same number of seconds.

        Raises:
            LeaseHeld: Another relay holds the lease.
        """
        ...

    def save(
        self,
        checkpoint: RelayCheckpoint,
        *,
        shipped: int = 0,
        rate: float | None = None,
        dead_letters: Mapping[int, str] | None = None,
        expired: bool = False,
        redriving: Collection[int] = (),
        acknowledged: Collection[int] = (),
        redriven: bool | None = None,
    ) -> None:
        """Save a checkpoint together with the other arguments, in one transaction, and renew the lease.

        Args:
            checkpoint: The new checkpoint, with the epoch that ``acquire`` returned.
            shipped: Number of rows that arrived since the last call.
            rate: Recent rows per second; None to keep the rate saved before.
            dead_letters: Rows to dead-letter, as a mapping from each row's ``seq`` to the reason.
            expired: True if the dead-lettered rows are of days that the warehouse has dropped. Such dead letters do not
                keep a session from being purged.
            redriving: The ``seq`` of each requeued row that ``checkpoint.batch`` sends.
            acknowledged: The ``seq`` of each requeued row that the warehouse turned out to have.
            redriven: True if the requeued rows in flight have arrived. False if they have not and stay requeued.
                None changes nothing about them.

        Raises:
            LeaseLost: Another relay has taken the lease; nothing was saved.
        """
        ...

    def release(self, checkpoint: RelayCheckpoint) -> None:
        """Release the lease; does nothing if another relay has taken it."""
        ...

    def failed(self, reason: str) -> None:
        """Record why the relay failed; ``status`` reports it as the latest failure."""
        ...

    def status(self) -> RelayStatus:
        """Return the relay's progress."""
        ...

    def redrive(self, rows: Mapping[int, str]) -> None:
        """Requeue rows, even if they are not dead-lettered.

        Args:
            rows: Maps the ``seq`` of each row to the reason for requeueing it.
        """
        ...

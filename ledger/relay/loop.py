"""The relay's loop, which is the same for every warehouse. It acquires the lease, recovers, and sends the batches."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

from ledger.errors import CorruptEvent, LeaseHeld, LeaseLost, LedgerError, RowsRefused, StreamEnded
from ledger.holding import TimedLock
from ledger.outbox.contract import LEASE_SECONDS, Batch, Outbox, RelayCheckpoint, Sink
from ledger.outbox.rows import SEQ, Row, event_key, row_key
from ledger.relay.ahead import Ahead
from ledger.relay.telemetry import Instruments, Telemetry

log = logging.getLogger("ledger.relay")
#: Maximum number of consecutive recoveries without a batch arriving in between.
RESTARTS = 5
#: Seconds that a call waits while another thread uses the relay.
BUSY_TIMEOUT = 60.0
#: Weight of the latest batch in the moving averages from which the rate is computed.
_LATEST = 0.3


@dataclass(frozen=True, slots=True)
class _Packed:
    """A batch ready to send.

    Attributes:
        upto: Every row up to this ``seq`` is acknowledged once the batch has arrived.
        rows: The rows to send. Empty if rows were read but none of them needs to be sent.
        content: The sink's encoding of the rows, or the CorruptEvent that ``Sink.pack`` raised.
    """

    upto: int
    rows: Sequence[Row] = ()
    content: Any = None


class Relay:
    """The relay from a store to a warehouse: it ships the rows in commit order, each row exactly once.

    After an interruption at any point, the next relay recovers: it reads the saved checkpoint and asks the warehouse
    what has arrived. Any number of relays may run, but only the one that holds the lease ships. If several threads call
    one relay, the calls run one after another.

    Args:
        outbox: The store's side.
        sink: The warehouse's side.
        holder: Name of this relay in the lease, ``host/process/token``. No two relays may ever have the same name.
        lease_seconds: Duration of the lease.
        now: Monotonic clock in seconds, for the rate and for renewing the lease in time.
        instruments: Instruments that record metrics and spans; None for those that report to the program's global
            OpenTelemetry providers.
    """

    def __init__(
        self,
        outbox: Outbox,
        sink: Sink,
        *,
        holder: str,
        lease_seconds: float = LEASE_SECONDS,
        now: Callable[[], float] = time.monotonic,
        instruments: Instruments | None = None,
    ) -> None:
        self._outbox = outbox
        self._sink = sink
        self._holder = holder
        self._lease_seconds = lease_seconds
        self._now = now
        self._telemetry = Telemetry(sink.url, outbox, instruments)
        self._busy = TimedLock(f"the relay to {sink.url}")
        self._is_abandoned = False
        self._may_hold = False  # True if the store may have recorded this relay as the lease's holder
        self._taken: RelayCheckpoint | None = None  # set while this relay holds the lease
        self._checkpoint: RelayCheckpoint | None = None  # set once it has recovered
        self._saved_at = 0.0
        self._arrived_at = 0.0
        self._recent_rows = self._recent_seconds = 0.0  # moving averages, per batch
        self._sent = self._sent_before = 0
        self._doubts: list[RowsRefused] = []  # refusals that may not be about the rows

    def sync(
        self,
        *,
        progress: Callable[[int], None] = lambda rows: None,
        stop: Callable[[], bool] = lambda: False,
        retry_in: Callable[[], float] | None = None,
    ) -> int:
        """Ship all rows recorded before the call.

        Args:
            progress: Function called after each batch, with the number of rows that the batch acknowledged.
            stop: Function called between batches. If it returns True, the call ends, and the remaining rows wait for
                the next call.
            retry_in: Function that returns the number of seconds after which the caller will try again if this call
                fails, for the log; None if it will not.

        Returns:
            The number of rows sent. Events that the warehouse refused are dead-lettered.

        Raises:
            LeaseHeld: Another relay holds the lease.
            StoreUnavailable: The warehouse is unavailable. It has the rows sent so far; the other rows wait.
            StoreRejected, ConfigurationError: The warehouse takes no row until something is repaired.
        """
        return self._busy.call(BUSY_TIMEOUT, lambda: self._sync(progress, stop, retry_in))

    def close(self) -> None:
        """Release the lease and close the sink; a second call does nothing."""
        self._busy.call(BUSY_TIMEOUT, self._close)

    def abandon(self) -> bool:
        """Close the sink while another thread is in ``sync``. That call then fails, and the next relay recovers.

        The failure is not recorded, because the caller is its cause.

        Returns:
            True if the relay had not started to ship: it was acquiring the lease or recovering.
        """
        is_starting = self._checkpoint is None
        self._is_abandoned = True
        self._sink.close()
        return is_starting

    def _sync(
        self, progress: Callable[[int], None], stop: Callable[[], bool], retry_in: Callable[[], float] | None
    ) -> int:
        self._sent_before = self._sent
        try:
            if self._has_work():
                if self._checkpoint is None:  # before the sink is entered: another relay may keep it locked
                    self._acquire()
                with self._sink:
                    self._ship(progress, stop)
        except LeaseHeld:
            self._may_hold, self._taken, self._checkpoint = False, None, None
            raise
        except BaseException as error:
            self._fail(error, retry_in)
            raise
        finally:
            if sent := self._sent - self._sent_before:
                log.info("%d row%s shipped to %s.", sent, "" if sent == 1 else "s", self._sink.url)
        return self._sent - self._sent_before

    def _close(self) -> None:
        self._telemetry.close()
        try:
            self._release()
        except LedgerError as error:  # the store is closed already; the lease expires
            log.info("The relay to %s could not release its lease: %s", self._sink.url, error)
        finally:
            self._sink.close()

    def _has_work(self) -> bool:
        """Return whether there may be rows to send or a batch to recover. If not, renew the lease when it is due."""
        checkpoint = self._checkpoint or self._outbox.checkpoint()
        if self._outbox.last_seq() > checkpoint.seq or self._outbox.rows_to_redrive(1, max_bytes=1):
            return True
        if self._checkpoint is None:
            return checkpoint.batch is not None or not self._sink.is_consistent(self._outbox.store_id, checkpoint)
        if self._now() - self._saved_at > self._lease_seconds / 3:
            self._save(self._checkpoint)
        return False

    def _ship(self, progress: Callable[[int], None], stop: Callable[[], bool]) -> None:
        restarts, sent = 0, self._sent
        while True:
            try:
                self._arrived_at = self._now()
                if self._checkpoint is None:
                    self._recover()
                self._arrived_at = self._now()
                self._send_waiting(progress, stop)
                self._redrive(progress, stop)
            except (StreamEnded, LeaseLost) as ended:
                restarts = restarts + 1 if self._sent == sent else 1
                if restarts > RESTARTS:
                    raise
                log.info("The relay to %s recovers: %s", self._sink.url, ended)
                self._checkpoint, sent = None, self._sent
            else:
                return

    def _recover(self) -> None:
        """Acquire the lease and find out whether the batch in flight has arrived."""
        with self._telemetry.span("begin"):
            checkpoint = self._acquire()
            recovery = self._sink.recover(self._outbox.store_id, checkpoint)
        batch, checkpoint = checkpoint.batch, replace(checkpoint, sink_state=recovery.sink_state, batch=None)
        if recovery.in_doubt_after is not None:
            log.warning(
                "%s and this ledger differ in what was sent, as after a restore of one of them from a backup; each row "
                "is asked about before it is sent, so that none arrives twice. If the ledger was restored and "
                "reconciled, nothing is left to do. If the warehouse was restored, sessions archived since its backup "
                "are not in it: see `ledger reconcile`.",
                self._sink.url,
            )
            seq = min(checkpoint.seq, recovery.in_doubt_after)
            self._save(replace(checkpoint, seq=seq, in_doubt_upto=self._outbox.last_seq()), redriven=False)
        elif batch is not None and recovery.arrived:
            self._acknowledge(checkpoint, batch)
        else:
            self._save(checkpoint, redriven=False)

    def _send_waiting(self, progress: Callable[[int], None], stop: Callable[[], bool]) -> None:
        """Send the rows above the checkpoint. While the warehouse takes one batch, the next one is read."""
        # Rows appended from now on wait for the next call: a batch for every few rows would slow appends down, and a
        # writer that never pauses would keep this call from ending.
        next_batch = partial(self._next_batch, until=self._outbox.last_seq(), in_doubt_upto=self._held.in_doubt_upto)
        with Ahead() as ahead:
            self._send_each(lambda after: ahead.start(partial(next_batch, after)), progress, stop)

    def _send_each(
        self,
        read_after: Callable[[int], Callable[[], _Packed | None]],
        progress: Callable[[int], None],
        stop: Callable[[], bool],
    ) -> None:
        read = read_after(self._held.seq)
        while not stop() and (packed := read()) is not None:
            read = read_after(packed.upto)
            acknowledged = self._held.seq
            if packed.rows:
                self._deliver(packed)
            if self._held.seq < packed.upto:
                self._save(replace(self._held, seq=packed.upto))
            progress(self._held.seq - acknowledged)

    def _redrive(self, progress: Callable[[int], None], stop: Callable[[], bool]) -> None:
        """Send the requeued rows. Those that the warehouse already has are acknowledged without being sent."""
        while not stop() and (
            rows := self._outbox.rows_to_redrive(self._sink.batch_rows, max_bytes=self._sink.batch_bytes)
        ):
            known = self._sink.existing(rows)
            left = [row for row in rows if row_key(row) not in known]
            if len(left) < len(rows):
                self._save(self._held, acknowledged=[row[SEQ] for row in rows if row_key(row) in known])
            if left:
                self._deliver(self._pack(left), redrive=True)
            progress(len(rows))

    def _next_batch(self, after: int, until: int, in_doubt_upto: int) -> _Packed | None:
        """Return the next batch of rows above ``after``; None if ``after`` has reached ``until`` or no row follows.

        If all rows read are dead-lettered, requeued or already in the warehouse, the batch has no rows.
        """
        if after >= until:
            return None
        rows = self._outbox.rows_after(after, self._sink.batch_rows, max_bytes=self._sink.batch_bytes)
        if not rows:
            return None
        left: Sequence[Row] = rows
        if dead_letters := self._outbox.dead_letters_between(rows[0][SEQ], rows[-1][SEQ]):
            left = [row for row in left if row[SEQ] not in dead_letters]
        if left and left[0][SEQ] <= in_doubt_upto:
            known = self._sink.existing([row for row in left if row[SEQ] <= in_doubt_upto])
            left = [row for row in left if row_key(row) not in known]
        if not left:
            return _Packed(rows[-1][SEQ])
        return self._pack(left)

    def _pack(self, rows: Sequence[Row]) -> _Packed:
        try:
            count, content = self._sink.pack(rows)
        except CorruptEvent as error:
            count, content = len(rows), error
        return _Packed(rows[count - 1][SEQ], rows[:count], content)

    def _deliver(self, packed: _Packed, *, redrive: bool = False) -> None:
        """Send a batch. Events that the warehouse refuses are dead-lettered.

        Raises:
            RowsRefused: The warehouse refused an event without saying that its rows are the cause, and it has taken
                no row in this ``sync``. The table or the request is probably at fault, so the batch is requeued.
        """
        self._doubts.clear()
        self._send(packed, redrive)
        if self._doubts and self._sent == self._sent_before:
            self._outbox.redrive({row[SEQ]: str(self._doubts[0]) for row in packed.rows})
            raise self._doubts[0]

    def _send(self, packed: _Packed, redrive: bool) -> None:
        """Send a batch. If the warehouse refuses it, dead-letter the events at fault and send the others."""
        rows = packed.rows
        batch = Batch.of(rows, last=packed.upto, redrive=redrive)
        try:
            if isinstance(packed.content, CorruptEvent):
                raise RowsRefused(str(packed.content)) from packed.content
            self._save(replace(self._held, batch=batch), redriving=[row[SEQ] for row in rows] if redrive else ())
            with self._telemetry.span("send", rows=batch.rows):
                sink_state = self._sink.send(self._held.sink_state, batch, packed.content)
        except RowsRefused as refused:
            self._send_without(rows, refused, redrive)
        else:
            self._acknowledge(replace(self._held, sink_state=sink_state), batch)

    def _send_without(self, rows: Sequence[Row], refused: RowsRefused, redrive: bool) -> None:
        """Dead-letter the events at fault in a refused batch, and send the others.

        If the refusal names no event, each half of the batch is sent by itself. A batch of one event is dead-lettered.
        """
        events = [list(event) for _, event in groupby(rows, event_key)]
        self._save(replace(self._held, batch=None), redriven=False if redrive else None)
        unfit = {event_key(rows[index]): reason for index, reason in refused.reasons.items()}
        if len(events) == 1:
            unfit = {event_key(rows[0]): next(iter(refused.reasons.values()), str(refused))}
            self._doubts += [] if refused.certain else [refused]
        if unfit:
            reasons = {row[SEQ]: unfit[event_key(row)] for row in rows if event_key(row) in unfit}
            self._dead_letter(reasons, len(unfit), expired=refused.expired)
            parts = [[row for row in rows if event_key(row) not in unfit]]
        else:
            middle = len(events) // 2
            parts = [[row for event in half for row in event] for half in (events[:middle], events[middle:])]
        for part in parts:
            left: Sequence[Row] = part
            while left:
                packed = self._pack(left)
                self._send(packed, redrive)
                left = left[len(packed.rows) :]

    def _dead_letter(self, reasons: dict[int, str], events: int, *, expired: bool) -> None:
        # Not logged: the reasons may quote values.
        refused = "event, which is" if events == 1 else "events, which are"
        log.error("%s refused %d %s dead-lettered; see `ledger relay dead-letters`.", self._sink.url, events, refused)
        self._save(self._held, dead_letters=reasons, expired=expired)

    def _acknowledge(self, checkpoint: RelayCheckpoint, batch: Batch) -> None:
        """Save that a batch has arrived."""
        now = self._now()
        self._recent_rows += _LATEST * (batch.rows - self._recent_rows)
        self._recent_seconds += _LATEST * (now - self._arrived_at - self._recent_seconds)
        self._arrived_at = now
        self._save(
            replace(checkpoint, seq=max(checkpoint.seq, batch.last), batch=None),
            shipped=batch.rows,
            rate=self._recent_rows / max(self._recent_seconds, 1e-6),
            redriven=True if batch.redrive else None,
        )
        self._sent += batch.rows
        self._telemetry.shipped(batch.rows)

    @property
    def _held(self) -> RelayCheckpoint:
        assert self._checkpoint is not None  # noqa: S101 - callers have recovered
        return self._checkpoint

    def _save(self, checkpoint: RelayCheckpoint, **more: Any) -> None:
        self._outbox.save(checkpoint, **more)
        self._checkpoint = checkpoint
        self._saved_at = self._now()

    def _fail(self, error: BaseException, retry_in: Callable[[], float] | None) -> None:
        """Log and record the failure, and release the lease."""
        reason = None
        if self._is_abandoned:
            log.info("The relay to %s was cut off by close(): %s", self._sink.url, type(error).__name__)
        elif isinstance(error, LedgerError):
            reason, code = str(error), error.code
        elif isinstance(error, Exception):  # a bug; its message may quote values
            reason = code = type(error).__name__
        if reason is not None:
            said = "it takes no event; see `ledger status`." if isinstance(error, RowsRefused) else reason
            then = "" if retry_in is None else f" It will try again in {max(1.0, retry_in()):.0f} s."
            what = (self._sink.url, said.rstrip("."), then)
            log.warning("The relay to %s cannot ship: %s.%s", *what, extra={"error_code": code})
            self._telemetry.failed(code)
        try:
            if reason is not None:
                self._outbox.failed(reason)
            self._release()
        except LedgerError as also:  # the store cannot be written; the lease expires
            log.warning("The relay to %s could not record the failure in the store: %s", self._sink.url, also)
        self._checkpoint = None

    def _acquire(self) -> RelayCheckpoint:
        # An exception may strike when the store has recorded the lease, which an earlier epoch does not release.
        self._may_hold, self._taken = True, None
        self._taken = self._outbox.acquire(self._holder, self._lease_seconds)
        return self._taken

    def _release(self) -> None:
        """Release the lease if this relay holds it, or may hold it because an exception interrupted ``_acquire``."""
        if self._may_hold:
            try:
                self._outbox.release(self._taken or self._acquire())
            except LeaseHeld:
                log.debug("Another relay to %s holds the lease.", self._sink.url)
        self._may_hold, self._taken, self._checkpoint = False, None, None

"""The outbox of the embedded store. The rows to ship and each relay's checkpoint are in the same file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from ledger.clock import Clock
from ledger.model.events import RecordedEvent
from ledger.model.instants import from_micros, to_micros
from ledger.model.values import check_text
from ledger.outbox import columns
from ledger.outbox.contract import Batch, DeadLetter, RelayCheckpoint, RelayStatus
from ledger.outbox.row_digests import RowDigest, SessionDigest, SessionKey, Tombstone
from ledger.outbox.rows import Row
from ledger.stores.sqlite import read, unreconciled
from ledger.stores.sqlite import row_digests as digests
from ledger.stores.sqlite.connections import Read
from ledger.stores.sqlite.database_file import log_of
from ledger.stores.sqlite.errors import damaged
from ledger.stores.sqlite.lease import Lease, LeaseRow, process_of
from ledger.stores.sqlite.rows import whole_events

_ADD_WAREHOUSE = "INSERT INTO relays (warehouse) VALUES (?) ON CONFLICT DO NOTHING"
_CHECKPOINT = "SELECT epoch, checkpoint, unsure_upto, place, batch FROM relays WHERE warehouse = ?"
_SAVE = (
    "UPDATE relays SET checkpoint = :checkpoint, unsure_upto = :unsure_upto, place = :place, batch = :batch, "
    "rate = COALESCE(:rate, rate), shipped_rows = shipped_rows + :shipped, "
    "shipped_at = IIF(:shipped > 0, :now, shipped_at) WHERE warehouse = :warehouse"
)
_DEAD_LETTER = (
    "INSERT INTO relay_aside (warehouse, seq, reason, put_at, state) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET reason = excluded.reason, put_at = excluded.put_at, state = excluded.state"
)
_ACKNOWLEDGE = "DELETE FROM relay_aside WHERE warehouse = ? AND seq = ?"
_START_REDRIVE = "UPDATE relay_aside SET state = 'sending' WHERE warehouse = ? AND seq = ?"
_END_REDRIVE = "DELETE FROM relay_aside WHERE warehouse = ? AND state = 'sending'"
_CANCEL_REDRIVE = "UPDATE relay_aside SET state = 'asked' WHERE warehouse = ? AND state = 'sending'"
_REDRIVE_EVENT = (
    "UPDATE relay_aside SET state = 'asked' WHERE warehouse = :warehouse AND (state IN ('refused', 'expired') "
    "AND :event_id IS NULL OR state IN ('refused', 'expired', 'dismissed') AND "
    "seq IN (SELECT seq FROM session_events INDEXED BY session_events_by_id WHERE event_id = :event_id))"
)
_DISMISS = (
    "UPDATE relay_aside SET state = 'dismissed' WHERE warehouse = ? AND state IN ('refused', 'expired', 'dismissed') "
    "AND seq IN (SELECT seq FROM session_events INDEXED BY session_events_by_id WHERE event_id = ?)"
)
_DEAD_LETTER_ROWS = "FROM relay_aside AS a JOIN session_events AS e ON e.seq = a.seq WHERE a.warehouse = ?"
#: Condition for the requeued rows up to the checkpoint. Those above the checkpoint are sent together with the
#: other rows above it.
_IS_REQUEUED = (
    "a.state IN ('asked', 'sending') AND a.seq <= (SELECT checkpoint FROM relays WHERE warehouse = a.warehouse)"
)
_REQUEUED_ROWS = f"SELECT e.seq, {columns.sql_list(table='e')} {_DEAD_LETTER_ROWS} AND {_IS_REQUEUED} ORDER BY e.seq"
_DEAD_LETTERS = (
    "SELECT e.session_id, e.version, e.event_id, COUNT(*), MIN(a.reason), MIN(a.put_at), "
    "MAX(a.state IN ('asked', 'sending')), MAX(a.state = 'dismissed') "
    f"{_DEAD_LETTER_ROWS} GROUP BY e.session_id, e.version, e.event_id ORDER BY MIN(a.seq)"
)
_STATUS = (
    "SELECT checkpoint, shipped_rows, shipped_at, rate, last_error, failed_at, holder, lease_until, epoch "
    "FROM relays WHERE warehouse = ?"
)
#: Query for the number of rows to ship, and for the time at which the oldest of them was recorded. Rows to ship are
#: those above the checkpoint and the requeued ones.
_WAITING = (
    "SELECT COUNT(*), MIN(recorded_at) FROM (SELECT recorded_at FROM session_events WHERE seq > ?1 "  # noqa: S608
    f"UNION ALL SELECT e.recorded_at {_DEAD_LETTER_ROWS}2 AND {_IS_REQUEUED})"
)
_REFUSED_EVENTS = (
    "SELECT COUNT(DISTINCT event_id) FILTER (WHERE state <> 'dismissed'), "  # noqa: S608
    "COUNT(DISTINCT event_id) FILTER (WHERE state = 'dismissed') FROM (SELECT json_array(e.session_id, e.event_id) "
    f"AS event_id, a.state {_DEAD_LETTER_ROWS} AND a.state IN ('refused', 'expired', 'dismissed'))"
)


class SqliteOutbox:
    """The embedded store's side of the relay to one warehouse; see ``ledger.outbox.contract.Outbox``.

    Args:
        warehouse: The warehouse's URL.
        store_id: The store's id.
        run: Function that runs work in a transaction of the store.
        record: As ``run``, for work that may write the first rows of the store.
        read: Function that runs work on a connection for reading.
        ingest: Function that ingests events in the caller's transaction, all or none, and returns the number of new
            ones.
        clock: Source of times.
        path: The store's file.
    """

    def __init__(
        self,
        warehouse: str,
        *,
        store_id: str,
        run: Callable[[Callable[[sqlite3.Connection], Any]], Any],
        record: Callable[[Callable[[sqlite3.Connection], Any]], Any],
        read: Read,
        ingest: Callable[[sqlite3.Connection, Sequence[RecordedEvent]], int],
        clock: Clock,
        path: Path,
    ) -> None:
        self.warehouse = warehouse
        self.store_id = store_id
        self._run = run
        self._record = record
        self._read = read
        self._ingest = ingest
        self._clock = clock
        self._path = path
        self._lease = Lease(warehouse)

    def rows_after(self, seq: int, limit: int, *, max_bytes: int) -> Sequence[Row]:
        """Return rows with a greater ``seq``, in order and in whole events; see ``Outbox.rows_after``."""
        return self._read(lambda connection: read.rows_after(connection, seq, limit, max_bytes))

    def dead_letters_between(self, first: int, last: int) -> Collection[int]:
        """Return the ``seq`` of dead-lettered rows, from ``first`` to ``last``, both included."""
        sql = "SELECT seq FROM relay_aside WHERE warehouse = ? AND seq BETWEEN ? AND ?"
        return self._read(
            lambda connection: {seq for (seq,) in connection.execute(sql, (self.warehouse, first, last)).fetchall()}
        )

    def rows_to_redrive(self, limit: int, *, max_bytes: int) -> Sequence[Row]:
        """Return requeued rows, ordered by ``seq``: as many whole events as fit both limits, but at least one event."""
        return self._read(
            lambda connection: whole_events(connection.execute(_REQUEUED_ROWS, (self.warehouse,)), limit, max_bytes)
        )

    def last_seq(self) -> int:
        """Return the ``seq`` of the last row; 0 if there is none."""
        return self._read(lambda connection: read.last_seq(connection))

    def checkpoint(self) -> RelayCheckpoint:
        """Return the relay's checkpoint, without acquiring the lease."""
        return self._read(lambda connection: _checkpoint(connection.execute(_CHECKPOINT, (self.warehouse,)).fetchone()))

    def acquire(self, holder: str, seconds: float) -> RelayCheckpoint:
        """Acquire the lease; see ``Outbox.acquire``.

        Args:
            holder: ``host/process/token``. If the present holder is a process of this host that has ended, its lease
                counts as released.
            seconds: Duration of the lease; each ``save`` starts this duration anew.
        """
        now = self._clock()

        def work(connection: sqlite3.Connection) -> RelayCheckpoint:
            connection.execute(_ADD_WAREHOUSE, (self.warehouse,))
            self._lease.acquire(connection, holder, seconds, now)
            return _checkpoint(connection.execute(_CHECKPOINT, (self.warehouse,)).fetchone())

        checkpoint: RelayCheckpoint = self._run(work)
        return checkpoint

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
        """Save a checkpoint together with the other arguments, in one transaction; see ``Outbox.save``."""
        now = self._clock()

        def work(connection: sqlite3.Connection) -> None:
            self._save(connection, checkpoint, now, shipped=shipped, rate=rate)
            if redriven is not None:
                connection.execute(_END_REDRIVE if redriven else _CANCEL_REDRIVE, (self.warehouse,))
            connection.executemany(_START_REDRIVE, [(self.warehouse, seq) for seq in redriving])
            connection.executemany(_ACKNOWLEDGE, [(self.warehouse, seq) for seq in acknowledged])
            state, put_at = "expired" if expired else "refused", to_micros(now)
            refused = [(self.warehouse, seq, reason, put_at, state) for seq, reason in (dead_letters or {}).items()]
            connection.executemany(_DEAD_LETTER, refused)

        self._run(work)

    def restore(self, checkpoint: RelayCheckpoint, events: Sequence[RecordedEvent]) -> tuple[int, RelayCheckpoint]:
        """Ingest events that the warehouse has, and mark their rows in doubt; see ``ComparableOutbox.restore``."""
        now = self._clock()

        def work(connection: sqlite3.Connection) -> tuple[int, RelayCheckpoint]:
            self._save(connection, checkpoint, now)  # first, as another relay may have acquired the lease
            count = self._ingest(connection, events)
            moved = replace(checkpoint, in_doubt_upto=read.last_seq(connection))
            self._save(connection, moved, now)
            return count, moved

        result: tuple[int, RelayCheckpoint] = self._record(work)
        return result

    def _save(
        self,
        connection: sqlite3.Connection,
        checkpoint: RelayCheckpoint,
        now: datetime,
        *,
        shipped: int = 0,
        rate: float | None = None,
    ) -> None:
        self._lease.renew(connection, checkpoint.epoch, now)
        values = {
            "warehouse": self.warehouse,
            "checkpoint": checkpoint.seq,
            "unsure_upto": checkpoint.in_doubt_upto,
            "place": checkpoint.sink_state,
            "batch": _batch_text(checkpoint.batch),
            "rate": rate,
            "shipped": shipped,
            "now": to_micros(now),
        }
        connection.execute(_SAVE, values)

    def release(self, checkpoint: RelayCheckpoint) -> None:
        """Release the lease; does nothing if another relay has acquired it."""
        self._run(lambda connection: self._lease.release(connection, checkpoint.epoch))

    def failed(self, reason: str) -> None:
        """Record why rows could not be shipped. ``status`` returns this reason."""
        failure = (reason, to_micros(self._clock()), self.warehouse)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_ADD_WAREHOUSE, (self.warehouse,))
            connection.execute("UPDATE relays SET last_error = ?, failed_at = ? WHERE warehouse = ?", failure)

        self._run(work)

    def refused(self) -> list[DeadLetter]:
        """Return the dead letters, in the order in which the store recorded their events."""
        rows = self._read(lambda connection: connection.execute(_DEAD_LETTERS, (self.warehouse,)).fetchall())
        return [
            DeadLetter(
                *(session_id, version, event_id, count, reason, from_micros(put_at)),
                redriving=bool(requeued),
                dismissed=bool(dismissed),
            )
            for session_id, version, event_id, count, reason, put_at, requeued, dismissed in rows
        ]

    def redrive_event(self, event_id: str | None = None) -> int:
        """Requeue the dead letters of an event, or all that are not dismissed; see ``StoreOutbox.redrive_event``."""
        values = {"warehouse": self.warehouse, "event_id": event_id and check_text(event_id, "event_id")}
        rows: int = self._run(lambda connection: connection.execute(_REDRIVE_EVENT, values).rowcount)
        return rows

    def dismiss(self, event_id: str) -> bool:
        """Dismiss the dead letter of an event; see ``StoreOutbox.dismiss``."""
        values = self.warehouse, check_text(event_id, "event_id")
        rows: int = self._run(lambda connection: connection.execute(_DISMISS, values).rowcount)
        return rows > 0

    def redrive(self, rows: Mapping[int, str]) -> None:
        """Requeue rows that the warehouse lacks, whether they are dead letters or not.

        Args:
            rows: The reason for each row, by ``seq``.
        """
        now = to_micros(self._clock())
        requeued = [(self.warehouse, seq, reason, now, "asked") for seq, reason in rows.items()]

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_ADD_WAREHOUSE, (self.warehouse,))
            connection.executemany(_DEAD_LETTER, requeued)

        self._run(work)

    def session_digests(
        self, created_from: datetime, created_until: datetime, *, upto: int
    ) -> Iterator[tuple[SessionKey, SessionDigest]]:
        """Yield the key and the digest of each session; see ``ComparableOutbox.session_digests``.

        Args:
            created_from, created_until: Range of the sessions' creation times: from inclusive, until exclusive.
            upto: The last ``seq`` to include in a digest. Dead letters are not included.
        """
        after = created_from, ""
        while True:
            page = self._read(
                partial(
                    digests.session_digests,
                    warehouse=self.warehouse,
                    after=after,
                    created_until=created_until,
                    upto=upto,
                ),
                snapshot=True,
            )
            if not page:
                return
            yield from page
            last = page[-1][0]
            after = last.created_at, last.session_id

    def row_digests(self, sessions: Collection[SessionKey]) -> Mapping[SessionKey, Sequence[tuple[int, RowDigest]]]:
        """Return each session's rows as ``(seq, digest)``. A session without rows has an empty list."""
        return self._read(lambda connection: digests.row_digests(connection, sessions), snapshot=True)

    def tombstones(self, sessions: Collection[SessionKey]) -> Mapping[SessionKey, Tombstone]:
        """Return the tombstones of the given sessions; a session whose rows were not dropped is left out."""
        return self._read(lambda connection: digests.tombstones(connection, sessions), snapshot=True)

    def reconciled(self, created_from: datetime) -> None:
        """Remove the mark of a restored file, if its sessions were compared; see ``StoreOutbox.reconciled``."""
        if self._read(unreconciled.is_marked):
            self._run(lambda connection: unreconciled.clear_covered(connection, self.warehouse, created_from))

    def deleting(self) -> Collection[SessionKey]:
        """Return the sessions that were purged here and must still be deleted in the warehouse."""
        sql = "SELECT session_id, created_at FROM deleted_sessions WHERE warehouse = ?"
        rows = self._read(lambda connection: connection.execute(sql, (self.warehouse,)).fetchall())
        return {SessionKey(session_id, from_micros(created_at)) for session_id, created_at in rows}

    def status(self) -> RelayStatus:
        """Return the relay's status."""
        now = self._clock()

        def work(connection: sqlite3.Connection) -> tuple[Any, ...]:
            row = connection.execute(_STATUS, (self.warehouse,)).fetchone()
            row = row or (0, 0, None, None, None, None, None, 0, 0)
            waiting = connection.execute(_WAITING, (row[0], self.warehouse)).fetchone()
            return (*waiting, *connection.execute(_REFUSED_EVENTS, (self.warehouse,)).fetchone(), *row)

        waiting, since, refused, dismissed, _, *row = self._read(work, snapshot=True)
        shipped, shipped_at, rate, error, failed_at, *lease = row
        holder = LeaseRow(*lease).active_holder(now)
        return RelayStatus(
            warehouse=self.warehouse,
            waiting_rows=waiting,
            waiting_since=None if since is None else from_micros(since),
            shipped_rows=shipped,
            shipped_at=None if shipped_at is None else from_micros(shipped_at),
            rows_per_second=rate,
            refused_events=refused,
            last_error=error,
            failed_at=None if failed_at is None else from_micros(failed_at),
            holder=None if holder is None else process_of(holder),
            disk_bytes=disk_bytes(self._path),
            dismissed_events=dismissed,
        )


def disk_bytes(path: Path) -> int:
    """Return the size of a store on disk, in bytes, including its WAL."""
    files = (path, log_of(path))
    return sum(file.stat().st_size for file in files if file.exists())


def _checkpoint(row: tuple[Any, ...] | None) -> RelayCheckpoint:
    if row is None:
        return RelayCheckpoint(0)
    epoch, seq, in_doubt_upto, sink_state, batch = row
    return RelayCheckpoint(epoch, seq, in_doubt_upto, sink_state, None if batch is None else _batch(batch))


def _batch_text(batch: Batch | None) -> str | None:
    """Return a batch as JSON text for ``relays.batch``. The keys are still named as in the first release."""
    if batch is None:
        return None
    return json.dumps({"last": batch.last, "rows": batch.rows, "digest": batch.digest, "again": batch.redrive})


def _batch(text: str) -> Batch:
    try:
        values = json.loads(text)
        return Batch(values["last"], values["rows"], values["digest"], values.get("again", False))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise damaged("relays", "", f"the batch in flight is {text!r:.50}") from error

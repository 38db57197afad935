"""The embedded store as an outbox: its rows, and where the relay to a warehouse stands, in the same file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ledger.clock import Clock
from ledger.model.events import RecordedEvent
from ledger.model.instants import from_micros, to_micros
from ledger.model.values import check_text
from ledger.outbox import columns
from ledger.outbox.contract import Batch, DeadLetter, RelayCheckpoint, RelayStatus, Row
from ledger.outbox.row_digests import RowDigest, SessionDigest, SessionKey, Tombstone
from ledger.stores.sqlite import read
from ledger.stores.sqlite import row_digests as digests
from ledger.stores.sqlite.lease import Lease, LeaseRow, process_of
from ledger.stores.sqlite.rows import whole_events

_MEET = "INSERT INTO relays (warehouse) VALUES (?) ON CONFLICT DO NOTHING"
_POSITION = "SELECT epoch, checkpoint, unsure_upto, place, batch FROM relays WHERE warehouse = ?"
_SAVE = (
    "UPDATE relays SET checkpoint = :checkpoint, unsure_upto = :unsure_upto, place = :place, batch = :batch, "
    "rate = COALESCE(:rate, rate), shipped_rows = shipped_rows + :shipped, "
    "shipped_at = IIF(:shipped > 0, :now, shipped_at) WHERE warehouse = :warehouse"
)
_PUT_ASIDE = (
    "INSERT INTO relay_aside (warehouse, seq, reason, put_at, state) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET reason = excluded.reason, put_at = excluded.put_at, state = excluded.state"
)
_TAKE_OUT = "DELETE FROM relay_aside WHERE warehouse = ? AND seq = ?"
_SENDING = "UPDATE relay_aside SET state = 'sending' WHERE warehouse = ? AND seq = ?"
_RESENT = "DELETE FROM relay_aside WHERE warehouse = ? AND state = 'sending'"
_NOT_RESENT = "UPDATE relay_aside SET state = 'asked' WHERE warehouse = ? AND state = 'sending'"
_ASK_AGAIN = (
    "UPDATE relay_aside SET state = 'asked' WHERE warehouse = :warehouse AND state = 'refused' AND (:event_id IS NULL "
    "OR seq IN (SELECT seq FROM session_events INDEXED BY session_events_by_id WHERE event_id = :event_id))"
)
_ROWS_ASIDE = "FROM relay_aside AS a JOIN session_events AS e ON e.seq = a.seq WHERE a.warehouse = ?"
#: Not before the checkpoint has passed them: until then they would be sent in their turn as well.
_IS_ASKED = "a.state != 'refused' AND a.seq <= (SELECT checkpoint FROM relays WHERE warehouse = a.warehouse)"
_ASKED = f"SELECT e.seq, {columns.sql_list(table='e')} {_ROWS_ASIDE} AND {_IS_ASKED} ORDER BY e.seq"
_EVENTS_ASIDE = (
    "SELECT e.session_id, e.version, e.event_id, COUNT(*), MIN(a.reason), MIN(a.put_at), MAX(a.state != 'refused') "
    f"{_ROWS_ASIDE} GROUP BY e.session_id, e.version, e.event_id ORDER BY MIN(a.seq)"
)
_STATUS = (
    "SELECT checkpoint, shipped_rows, shipped_at, rate, last_error, failed_at, holder, lease_until, epoch "
    "FROM relays WHERE warehouse = ?"
)
#: Rows that wait, and when the oldest of them was recorded: those beyond the checkpoint, and those to be sent again.
_WAITING = (
    "SELECT COUNT(*), MIN(recorded_at) FROM (SELECT recorded_at FROM session_events WHERE seq > ?1 "  # noqa: S608
    f"UNION ALL SELECT e.recorded_at {_ROWS_ASIDE}2 AND {_IS_ASKED})"
)
_REFUSED_EVENTS = (
    "SELECT COUNT(*) FROM "  # noqa: S608
    f"(SELECT DISTINCT e.session_id, e.event_id {_ROWS_ASIDE} AND a.state = 'refused')"
)


class SqliteOutbox:
    """What a relay to one warehouse needs of the embedded store; see ``ledger.outbox.contract.Outbox``.

    Args:
        warehouse: Its URL.
        store_id: The identity of the store.
        run: Runs work in a transaction of the store's.
        reader: Gives a connection for reading.
        ingest: Takes events over within a transaction, all or none; returns how many were new.
        clock: Source of times.
        path: The store's file.
    """

    def __init__(
        self,
        warehouse: str,
        *,
        store_id: str,
        run: Callable[[Callable[[sqlite3.Connection], Any]], Any],
        reader: Callable[[], AbstractContextManager[sqlite3.Connection]],
        ingest: Callable[[sqlite3.Connection, Sequence[RecordedEvent]], int],
        clock: Clock,
        path: Path,
    ) -> None:
        self.warehouse = warehouse
        self.store_id = store_id
        self._run = run
        self._reader = reader
        self._ingest = ingest
        self._clock = clock
        self._path = path
        self._lease = Lease(warehouse)

    def rows_after(self, seq: int, limit: int, *, max_bytes: int) -> Sequence[Row]:
        """Rows beyond ``seq`` in order, whole events."""
        with self._reader() as connection:
            return read.rows_after(connection, seq, limit, max_bytes)

    def dead_letters_between(self, first: int, last: int) -> Collection[int]:
        """The ``seq`` of rows that were put aside, among those from ``first`` to ``last``."""
        sql = "SELECT seq FROM relay_aside WHERE warehouse = ? AND seq BETWEEN ? AND ?"
        with self._reader() as connection:
            return {seq for (seq,) in connection.execute(sql, (self.warehouse, first, last)).fetchall()}

    def rows_to_redrive(self, limit: int, *, max_bytes: int) -> Sequence[Row]:
        """Rows put aside that are to be sent again, in order."""
        with self._reader() as connection, closing(connection.execute(_ASKED, (self.warehouse,))) as rows:
            return whole_events(rows, limit, max_bytes)

    def last_seq(self) -> int:
        """The ``seq`` of the last row; 0 where there is none."""
        with self._reader() as connection:
            return read.last_seq(connection)

    def checkpoint(self) -> RelayCheckpoint:
        """Where the relay stands; nothing is taken."""
        with self._reader() as connection:
            return _checkpoint(connection.execute(_POSITION, (self.warehouse,)).fetchone())

    def acquire(self, holder: str, seconds: float) -> RelayCheckpoint:
        """Become the one who ships; see ``Outbox.acquire``.

        Args:
            holder: ``host/process/token``. Whoever is seen to have died on this host holds nothing any more.
            seconds: How long the lease is good for without a ``save``.
        """
        now = self._clock()

        def work(connection: sqlite3.Connection) -> RelayCheckpoint:
            connection.execute(_MEET, (self.warehouse,))
            self._lease.acquire(connection, holder, seconds, now)
            return _checkpoint(connection.execute(_POSITION, (self.warehouse,)).fetchone())

        checkpoint: RelayCheckpoint = self._run(work)
        return checkpoint

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
        """Remember a checkpoint, all of this or nothing; see ``Outbox.save``."""
        now = self._clock()

        def work(connection: sqlite3.Connection) -> None:
            self._save(connection, checkpoint, now, shipped=shipped, rate=rate)
            if redriven is not None:
                connection.execute(_RESENT if redriven else _NOT_RESENT, (self.warehouse,))
            connection.executemany(_SENDING, [(self.warehouse, seq) for seq in redriving])
            connection.executemany(_TAKE_OUT, [(self.warehouse, seq) for seq in acknowledged])
            put = [
                (self.warehouse, seq, reason, to_micros(now), "refused") for seq, reason in (dead_letters or {}).items()
            ]
            connection.executemany(_PUT_ASIDE, put)

        self._run(work)

    def restore(self, checkpoint: RelayCheckpoint, events: Sequence[RecordedEvent]) -> tuple[int, RelayCheckpoint]:
        """Have the store take over events that the warehouse has; see ``ComparableOutbox.restore``."""
        now = self._clock()

        def work(connection: sqlite3.Connection) -> tuple[int, RelayCheckpoint]:
            self._save(connection, checkpoint, now)  # before anything is written: the lease may be another's by now
            count = self._ingest(connection, events)
            moved = replace(checkpoint, in_doubt_upto=read.last_seq(connection))
            self._save(connection, moved, now)
            return count, moved

        found: tuple[int, RelayCheckpoint] = self._run(work)
        return found

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
        """Let others ship; does nothing where somebody else took over already."""
        self._run(lambda connection: self._lease.release(connection, checkpoint.epoch))

    def failed(self, reason: str) -> None:
        """Remember why rows could not be shipped, for people."""
        failed = (reason, to_micros(self._clock()), self.warehouse)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_MEET, (self.warehouse,))
            connection.execute("UPDATE relays SET last_error = ?, failed_at = ? WHERE warehouse = ?", failed)

        self._run(work)

    def refused(self) -> list[DeadLetter]:
        """The events that were put aside, in the order in which they were recorded."""
        with self._reader() as connection:
            rows = connection.execute(_EVENTS_ASIDE, (self.warehouse,)).fetchall()
        return [
            DeadLetter(session_id, version, event_id, count, reason, from_micros(dead_lettered_at), bool(asked))
            for session_id, version, event_id, count, reason, dead_lettered_at, asked in rows
        ]

    def redrive_event(self, event_id: str | None = None) -> int:
        """Have refused events sent again, one or all; returns how many rows that is."""
        values = {"warehouse": self.warehouse, "event_id": event_id and check_text(event_id, "event_id")}
        rows: int = self._run(lambda connection: connection.execute(_ASK_AGAIN, values).rowcount)
        return rows

    def redrive(self, rows: Mapping[int, str]) -> None:
        """Have rows sent that the warehouse turned out to lack: ``seq`` to the reason."""
        now = to_micros(self._clock())
        put = [(self.warehouse, seq, reason, now, "asked") for seq, reason in rows.items()]

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_MEET, (self.warehouse,))
            connection.executemany(_PUT_ASIDE, put)

        self._run(work)

    def session_digests(
        self, created_from: datetime, created_until: datetime, *, upto: int
    ) -> Iterator[tuple[SessionKey, SessionDigest]]:
        """What the rows up to a ``seq`` amount to, by session, without dead letters; see ``ComparableOutbox``.

        Args:
            created_from, created_until: Half-open span of the sessions' creation.
            upto: The last ``seq`` to look at.
        """
        after = created_from, ""
        while True:
            with self._reader() as connection, read.snapshot(connection):
                found = digests.session_digests(connection, self.warehouse, after, created_until, upto=upto)
            if not found:
                return
            yield from found
            last = found[-1][0]
            after = last.created_at, last.session_id

    def row_digests(self, sessions: Collection[SessionKey]) -> Mapping[SessionKey, Sequence[tuple[int, RowDigest]]]:
        """All rows of some sessions without their values, each after its ``seq``."""
        with self._reader() as connection, read.snapshot(connection):
            return digests.row_digests(connection, sessions)

    def tombstones(self, sessions: Collection[SessionKey]) -> Mapping[SessionKey, Tombstone]:
        """What is left of those of some sessions that are archived, and whose rows were dropped."""
        with self._reader() as connection, read.snapshot(connection):
            return digests.tombstones(connection, sessions)

    def deleting(self) -> Collection[SessionKey]:
        """Sessions that were deleted for good here, and are still to be deleted in the warehouse."""
        sql = "SELECT session_id, created_at FROM deleted_sessions WHERE warehouse = ?"
        with self._reader() as connection:
            rows = connection.execute(sql, (self.warehouse,)).fetchall()
        return {SessionKey(session_id, from_micros(created_at)) for session_id, created_at in rows}

    def status(self) -> RelayStatus:
        """How the relay is doing."""
        now = self._clock()
        with self._reader() as connection, read.snapshot(connection):
            found = connection.execute(_STATUS, (self.warehouse,)).fetchone()
            found = found or (0, 0, None, None, None, None, None, 0, 0)
            checkpoint, shipped, shipped_at, rate, error, failed_at, *lease = found
            waiting, since = connection.execute(_WAITING, (checkpoint, self.warehouse)).fetchone()
            (refused,) = connection.execute(_REFUSED_EVENTS, (self.warehouse,)).fetchone()
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
        )


def disk_bytes(path: Path) -> int:
    """What a store takes on the disk, with what was appended of late and is not yet folded in."""
    files = (path, path.with_name(f"{path.name}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


def _checkpoint(row: tuple[Any, ...] | None) -> RelayCheckpoint:
    if row is None:
        return RelayCheckpoint(0)
    epoch, seq, in_doubt_upto, sink_state, batch = row
    return RelayCheckpoint(epoch, seq, in_doubt_upto, sink_state, None if batch is None else _batch(batch))


def _batch_text(batch: Batch | None) -> str | None:
    """The batch as the column ``relays.batch`` holds it. Its names are those of the first release."""
    if batch is None:
        return None
    return json.dumps({"last": batch.last, "rows": batch.rows, "digest": batch.digest, "again": batch.redrive})


def _batch(text: str) -> Batch:
    found = json.loads(text)
    return Batch(found["last"], found["rows"], found["digest"], found["again"])

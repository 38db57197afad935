"""Archived sessions in the embedded store. Their rows are dropped once a warehouse has them, and can be restored.

Sessions are purged here too. Each session is dropped, restored or purged in one transaction. The caller
(``ledger.tiers.archiving``) checks which rows a warehouse has; this module checks the relays' checkpoints.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ledger.clock import Clock, new_salt
from ledger.errors import InvalidInput, StoreRejected
from ledger.model.events import RecordedEvent
from ledger.model.instants import from_micros, to_micros
from ledger.model.upcast import Upcaster
from ledger.model.values import check_session_id, decode
from ledger.outbox.row_digests import RowDigest, SessionKey, session_digest
from ledger.stores.archived import ARCHIVED_TEXT, LISTED, UNOWNED, Droppable
from ledger.stores.base import ArchivedElsewhere, Forgotten, PendingDeletion, Unreconciled, Waiting
from ledger.stores.checks import by_session, plan_ingest
from ledger.stores.sqlite import deletions, holders, read, respelled, restoring, unreconciled, waiting, write
from ledger.stores.sqlite import search_index as index
from ledger.stores.sqlite import tombstones as kept
from ledger.stores.sqlite.connections import Read
from ledger.stores.sqlite.deletions import Deletions
from ledger.stores.sqlite.errors import damaged


class _Row(NamedTuple):
    """The columns of a row to drop, from which its tombstone is made."""

    seq: int
    version: int
    event_id: str
    event_type: str
    field: str
    key: str
    value: str | None
    removed: int
    event_hash: str | None
    value_hash: str | None
    idempotency_key: str | None


_ROWS = f"SELECT {', '.join(_Row._fields)} FROM session_events WHERE session_id = ? ORDER BY version, seq"  # noqa: S608
#: Query for the archived sessions whose rows the store holds; SQLite finds them by the index on the status.
_ARCHIVED = (
    "SELECT h.session_id, h.created_at, h.version "  # noqa: S608
    "FROM session_state AS s JOIN session_heads AS h USING (session_id) "
    f"WHERE s.field = 'status' AND s.key = '' AND s.value = '{ARCHIVED_TEXT}' AND h.store_id <> ?"
)
_RECORDED = (
    "SELECT h.version, s.value FROM session_heads AS h LEFT JOIN session_state AS s "
    "ON s.session_id = h.session_id AND s.field = 'status' AND s.key = '' WHERE h.session_id = ?"
)
_LAST_SEQ = "SELECT MAX(seq), COUNT(*) FROM session_events WHERE session_id = ?"
_DEAD_LETTER = (
    "SELECT a.warehouse FROM session_events AS e INDEXED BY session_events_by_version "
    "JOIN relay_aside AS a ON a.seq = e.seq WHERE e.session_id = ?{} LIMIT 1"
)
#: Conditions on the dead letters of a session. Its rows are dropped from the store only if the warehouse has all of
#: them. It may be purged if the warehouse can get no more of them: it has dropped the day, or the event was dismissed.
_REFUSED, _ANY, _UNSETTLED = (
    " AND a.state IN ('refused', 'expired', 'dismissed')",
    "",
    " AND a.state NOT IN ('expired', 'dismissed')",
)


class SqliteArchive:
    """The part of ``SqliteStore`` that archives, restores and purges sessions."""

    path: Path
    store_id: str
    _clock: Clock
    _upcast: Upcaster
    _max_bytes: int | None
    _is_marked: bool
    _run: Callable[[Callable[[sqlite3.Connection], Any]], Any]
    _record: Callable[[Callable[[sqlite3.Connection], Any]], Any]
    _read: Read
    _fold_log: Callable[[], bool]

    def check_shippable(self, session_id: str) -> None:
        """Raise StoreRejected if a session cannot be archived because a warehouse refused some of its rows."""
        refused = _DEAD_LETTER.format(_REFUSED)
        refusal = self._read(lambda connection: connection.execute(refused, (session_id,)).fetchone())
        if refusal is not None:
            raise StoreRejected(
                f"Session {session_id} has events that {refusal[0]} refused, so it cannot be archived; nothing was "
                "written. See the reasons with `ledger relay dead-letters`, repair the cause, and send the events "
                "again with `ledger relay redrive`. A session whose day has expired there can be deleted instead."
            )

    def droppable(self, warehouse: str, session_ids: Collection[str] | None = None) -> list[Droppable]:
        """Return the archived sessions whose rows may be dropped, oldest first.

        These are sessions whose rows were shipped to every warehouse of this store and are not dead letters.

        Args:
            warehouse: The warehouse's URL; the result is empty if nothing was shipped to it.
            session_ids: Only these sessions; None for all.
        """
        droppable = self._read(lambda connection: _droppable(connection, warehouse, session_ids), snapshot=True)
        return sorted(droppable, key=lambda each: (each.key.created_at, each.key.session_id))

    def drop(self, sessions: Iterable[Droppable], warehouse: str) -> int:
        """Drop the rows of archived sessions, each in one transaction, and keep tombstones.

        A session is skipped if it has changed or been dropped since ``droppable`` returned it, or if it has rows that
        must still be shipped or are dead letters.

        Args:
            sessions: Sessions that ``droppable`` returned. The caller has checked that the warehouse has all of
                their rows.
            warehouse: The warehouse's URL.

        Returns:
            The number of sessions whose rows were dropped.
        """
        return sum(self._run(partial(self._drop, session=each, warehouse=warehouse)) for each in sessions)

    def restore_history(self, events: Sequence[RecordedEvent], warehouse: str) -> int:
        """Restore a session's rows from a warehouse, all or none. The session belongs to this store afterwards.

        Rows that the store had before get their old ``seq``. The relay to ``warehouse`` does not ship rows up to its
        checkpoint again, and treats the remaining rows as in doubt. Relays to other warehouses treat every row as in
        doubt. A relay looks up rows in doubt in its warehouse before it sends them.

        Args:
            events: The whole history of one session, as the warehouse has it.
            warehouse: The warehouse's URL.

        Returns:
            The number of events restored; 0 if this store holds the session's rows already.

        Raises:
            CorruptEvent: The events are not the history that this store archived, or the hash chain is broken.
            StoreRejected: The warehouse lacks events that this store archived.
            InvalidInput, IdempotencyConflict: The events are not of one session, or two have the same event_id.
            StoreUnavailable: The file has reached its maximum size, or a warehouse must still delete the session.
        """
        count: int = self._record(lambda connection: self._restore(connection, list(events), warehouse))
        return count

    def recorded(self, session_id: str) -> tuple[int, str | None] | None:
        """Return the version and the recorded status of a session; see ``PurgingStore.recorded``."""
        check_session_id(session_id)
        row = self._read(lambda connection: connection.execute(_RECORDED, (session_id,)).fetchone())
        return None if row is None else (row[0], None if row[1] is None else decode(row[1]))

    def purge(self, session_id: str, version: int) -> bool:
        """Delete everything that the store holds of a session, including its tombstone; see ``PurgingStore.purge``.

        Returns:
            True if the session was deleted. False if it does not exist, is not at ``version``, or has rows that must
            still be shipped, or dead letters that are neither dismissed nor of a day that the warehouse has dropped.
        """
        check_session_id(session_id)
        purged: bool = self._run(lambda connection: _purge(connection, session_id, version, self._clock()))
        return purged

    def carry_deletions(self, found: Deletions, warehouses: Collection[str]) -> list[str]:
        """Carry the deletions over that were made in the file which this one replaces.

        Args:
            found: The deletions that the replaced file records.
            warehouses: URLs of the warehouses that may have rows of the sessions.

        Returns:
            The ids of the sessions that this file had, and that were purged now.
        """
        purged: list[str] = self._run(lambda connection: deletions.carry(connection, found, warehouses, self._clock()))
        if purged:
            self.forget_purged()
        return purged

    def forget_purged(self) -> None:
        """Remove the words of deleted texts from the file's search index; see ``PurgingStore.forget_purged``.

        Appends can commit between two of its steps. It then empties the WAL, unless a read in progress needs it.

        Raises:
            CorruptEvent: The search index is damaged.
        """
        left: bool = self._run(partial(index.forget, first=True))
        most = self._read(index.most_steps)  # a damaged index could take steps for ever
        while left:
            if most == 0:
                raise damaged("search_slots", "", "the search index does not end its merges")
            left, most = self._run(partial(index.forget, first=False)), most - 1
        self._fold_log()

    def warehouses(self) -> list[str]:
        """Return the URLs of the warehouses that may have rows of this store."""
        return self._read(kept.warehouses)

    def archived_in(self, warehouse: str, *, alone: bool = False) -> int:
        """Return the number of archived sessions whose rows are in a warehouse; see ``OutboxStore.archived_in``."""
        return self._read(lambda connection: holders.count(connection, warehouse, alone=alone), snapshot=True)

    def archived_elsewhere(self, warehouse: str) -> list[ArchivedElsewhere]:
        """Return the archived sessions that only other warehouses have; see ``OutboxStore.archived_elsewhere``."""
        return self._read(lambda connection: holders.elsewhere(connection, warehouse), snapshot=True)

    def unreconciled(self) -> list[Unreconciled]:
        """Return the warehouses that may have events which a restored file lacks; see ``OutboxStore.unreconciled``."""
        return self._read(unreconciled.marks, snapshot=True)

    def _warn_unreconciled(self) -> None:
        self._is_marked = False  # so that no further append reads the marks
        unreconciled.warn(self.path, self._read)

    def forget_warehouse(self, warehouse: str, *, even_if_needed: bool = False) -> Forgotten:
        """Forget a warehouse; see ``OutboxStore.forget_warehouse``."""
        forgotten: Forgotten = self._run(
            lambda connection: waiting.forget(connection, warehouse, self._clock(), even_if_needed=even_if_needed)
        )
        return forgotten

    def rename_warehouse(self, former: str, present: str) -> None:
        """Record a warehouse under another URL; see ``OutboxStore.rename_warehouse``."""
        self._run(lambda connection: respelled.move(connection, former, present, self._clock()))

    def waiting(self) -> list[Waiting]:
        """Return the sessions whose retention waits for a warehouse; see ``PurgingStore.waiting``."""
        return self._read(waiting.waiting, snapshot=True)

    def pending_deletions(self, warehouse: str | None = None) -> list[PendingDeletion]:
        """Return the purged sessions that a warehouse must still delete, oldest first.

        If ``warehouse`` is None, a session is returned once for each warehouse that must delete it.
        """
        sql = "SELECT session_id, created_at, version FROM deleted_sessions {} ORDER BY created_at, session_id"
        condition, values = ("", ()) if warehouse is None else ("WHERE warehouse = ?", (warehouse,))
        rows = self._read(lambda connection: connection.execute(sql.format(condition), values).fetchall())
        return [_pending_deletion(*row) for row in rows]

    def pending_deletion(self, session_id: str) -> PendingDeletion | None:
        """Return the purged session of this id that a warehouse must still delete; None if there is none.

        There is at most one: until every warehouse has deleted it, its id cannot be used again.
        """
        sql = "SELECT session_id, created_at, version FROM deleted_sessions WHERE session_id = ? LIMIT 1"
        row = self._read(lambda connection: connection.execute(sql, (session_id,)).fetchone())
        return None if row is None else _pending_deletion(*row)

    def deleted(self, sessions: Iterable[PendingDeletion], warehouse: str) -> None:
        """Record that a warehouse has deleted purged sessions."""
        keys = [(each.key.session_id, to_micros(each.key.created_at), warehouse) for each in sessions]
        sql = "DELETE FROM deleted_sessions WHERE session_id = ? AND created_at = ? AND warehouse = ?"
        self._run(lambda connection: connection.executemany(sql, keys).rowcount)

    def _drop(self, connection: sqlite3.Connection, session: Droppable, warehouse: str) -> bool:
        (session_id, created_at), version, count = session
        listed = connection.execute(f"{_ARCHIVED} AND h.session_id = ?", (UNOWNED, session_id)).fetchone()
        if listed != (session_id, to_micros(created_at), version):
            return False
        if _settled_rows(connection, session_id, warehouse) != count:
            return False
        rows = [_Row._make(row) for row in connection.execute(_ROWS, (session_id,)).fetchall()]
        amount = session_digest(RowDigest(*(getattr(row, column) for column in RowDigest._fields)) for row in rows)
        events: dict[str, list[_Row]] = {}
        for row in rows:
            events.setdefault(row.event_id, []).append(row)
        for event_id, of_event in events.items():
            salt, first = new_salt(), of_event[0]
            content = {(row.field, row.key, row.value, bool(row.removed)) for row in of_event}
            digest = kept.content_digest(salt, first.event_type, content)
            position = restoring.Position(first.version, first.seq, len(of_event))
            connection.execute(
                "INSERT INTO archived_events VALUES (?, ?, ?, ?, ?, ?, ?)",
                (session_id, event_id, *position, salt, digest),
            )
        connection.execute(
            "INSERT INTO archived_sessions (session_id, rows, slots, digest) VALUES (?, ?, ?, ?)",
            (session_id, amount.rows, amount.distinct_rows, amount.digest),
        )
        connection.execute("DELETE FROM session_events WHERE session_id = ?", (session_id,))
        fields = ", ".join("?" * len(LISTED))
        connection.execute(
            f"DELETE FROM session_state WHERE session_id = ? AND field NOT IN ({fields})",  # noqa: S608
            (session_id, *LISTED),
        )
        index.reindex(connection, session_id)
        connection.execute("UPDATE session_heads SET store_id = ? WHERE session_id = ?", (UNOWNED, session_id))
        kept.bind(connection, session_id)
        holders.record(connection, session_id)
        return True

    def _restore(self, connection: sqlite3.Connection, events: list[RecordedEvent], warehouse: str) -> int:
        write.check_room(connection, self._max_bytes, self.path)
        sessions = by_session(events)
        if len(sessions) != 1:
            raise InvalidInput(f"The events are of {len(sessions)} sessions; restore one session at a time.")
        ((session_id, in_order),) = sessions.items()
        head = read.head_row(connection, session_id)
        if head is not None and head.store_id != UNOWNED:
            return 0
        if head is None:
            kept.check_not_deleted(connection, session_id)
        now = self._clock()
        positions = restoring.positions_of(connection, session_id)
        if head is not None:
            restoring.check_same(session_id, head, in_order, positions, warehouse)
        plan = plan_ingest(in_order, None, lambda event: False, now, own_store_id=self.store_id)
        assert plan is not None  # noqa: S101 - there is at least one event
        with write.all_or_none(connection):
            deletions.clear(connection, session_id)
            last = plan.events[-1]
            connection.execute(
                write.PUT_HEAD,
                (
                    *(session_id, last.user_id, to_micros(last.created_at), last.version),
                    *(to_micros(plan.updated_at), plan.event_hash, self.store_id),
                ),
            )
            before, new = restoring.write_events(connection, plan.events, positions)
            write.note_foreign(connection, plan.events, self.store_id)
            index.reindex(connection, session_id)  # the index does not see rows with an old seq
            if any(event.schema_version != self._upcast.current for event in plan.events):
                write.refold_session(connection, session_id, self._upcast)
            restoring.mark_in_doubt(connection, before, new, warehouse, now)
        return len(plan.events)


def _settled_rows(connection: sqlite3.Connection, session_id: str, warehouse: str) -> int:
    """Return the number of a session's rows; 0 if the rows may not be dropped.

    The rows may be dropped if all of them were shipped to every warehouse of this store, if ``warehouse`` is one of
    these warehouses, and if no row is a dead letter.
    """
    last, count = connection.execute(_LAST_SEQ, (session_id,)).fetchone()
    warehouses = kept.warehouses(connection) if count else []
    if warehouse not in warehouses:
        return 0
    return count if _passed(connection, session_id, last, warehouses, _ANY) else 0


def _passed(
    connection: sqlite3.Connection, session_id: str, last: int, warehouses: Sequence[str], dead_letters: str
) -> bool:
    """Return True if the relays to these warehouses are done with all rows of a session.

    Each relay's checkpoint is then at or above ``last``, the session's last ``seq``, and no row of the session is a
    dead letter that meets the condition ``dead_letters``.
    """
    for name in warehouses:
        checkpoint = connection.execute("SELECT checkpoint FROM relays WHERE warehouse = ?", (name,)).fetchone()
        if checkpoint is None or checkpoint[0] < last:
            return False
    return connection.execute(_DEAD_LETTER.format(dead_letters), (session_id,)).fetchone() is None


def _pending_deletion(session_id: str, created_at: int, version: int) -> PendingDeletion:
    return PendingDeletion(SessionKey(session_id, from_micros(created_at)), version)


def _droppable(connection: sqlite3.Connection, warehouse: str, session_ids: Collection[str] | None) -> list[Droppable]:
    if session_ids is None:
        rows = connection.execute(_ARCHIVED, (UNOWNED,)).fetchall()
    else:
        sql = f"{_ARCHIVED} AND h.session_id = ?"
        rows = [row for each in session_ids for row in connection.execute(sql, (UNOWNED, each)).fetchall()]
    return [
        Droppable(SessionKey(session_id, from_micros(created_at)), version, count)
        for session_id, created_at, version in rows
        if (count := _settled_rows(connection, session_id, warehouse))
    ]


def _purge(connection: sqlite3.Connection, session_id: str, version: int, now: datetime) -> bool:
    head = read.head_row(connection, session_id)
    if head is None or head.version != version:
        return False
    warehouses = kept.warehouses(connection)
    last = connection.execute(_LAST_SEQ, (session_id,)).fetchone()[0]
    if last is not None and not _passed(connection, session_id, last, warehouses, _UNSETTLED):
        return False
    # A warehouse that a restored file is not reconciled with has the session too, and would bring it back.
    names = sorted({*warehouses, *unreconciled.starts(connection)})
    connection.executemany(
        deletions.DELETE_IN, [(session_id, head.created_at, name, version, to_micros(now)) for name in names]
    )
    kept.record_purge(connection, session_id, head.created_at, version, now)
    deletions.remove(connection, session_id)
    return True

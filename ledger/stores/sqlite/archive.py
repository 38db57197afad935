"""Archived sessions in the embedded store: their rows dropped once they are in a warehouse, brought back, or gone.

Each step is one transaction, and whoever reads sees all of it or nothing. What a warehouse has is for the caller to
make sure of (``ledger.tiers.archiving``); here it counts what the relays remember.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ledger.clock import Clock, new_salt
from ledger.errors import CorruptEvent, InvalidInput, StoreRejected
from ledger.model.events import RecordedEvent
from ledger.model.ids import check_session_id
from ledger.model.instants import from_micros, to_micros
from ledger.model.upcast import Upcaster
from ledger.outbox.row_digests import RowDigest, SessionKey, session_digest
from ledger.stores.archived import ARCHIVED_TEXT, LISTED, UNOWNED, Droppable
from ledger.stores.base import PendingDeletion
from ledger.stores.checks import by_session, plan_ingest
from ledger.stores.sqlite import read, write
from ledger.stores.sqlite import search_index as index
from ledger.stores.sqlite import tombstones as kept
from ledger.stores.sqlite.rows import HeadRow

#: Why rows that were brought back are compared with a warehouse, for people who look at what is put aside.
REASON = "hydrated: it may be there"


class _Row(NamedTuple):
    """A row that is about to be dropped: what is kept of it is made from these columns."""

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


class _Place(NamedTuple):
    """An event that was here before its session was archived: its first ``seq``, and how many rows it had."""

    version: int
    seq: int
    rows: int


_ROWS = f"SELECT {', '.join(_Row._fields)} FROM session_events WHERE session_id = ? ORDER BY version, seq"  # noqa: S608
#: Archived sessions whose rows are here; the index on that status leads to them.
_HERE = (
    "SELECT h.session_id, h.created_at, h.version "  # noqa: S608
    "FROM session_state AS s JOIN session_heads AS h USING (session_id) "
    f"WHERE s.field = 'status' AND s.key = '' AND s.value = '{ARCHIVED_TEXT}' AND h.store_id <> ?"
)
_LAST_SEQ = "SELECT MAX(seq), COUNT(*) FROM session_events WHERE session_id = ?"
_ASIDE = (
    "SELECT a.warehouse FROM session_events AS e INDEXED BY session_events_by_version "
    "JOIN relay_aside AS a ON a.seq = e.seq WHERE e.session_id = ?{} LIMIT 1"
)
_ASK = (
    "INSERT INTO relay_aside (warehouse, seq, reason, put_at, state) VALUES (?, ?, ?, ?, 'asked') "
    "ON CONFLICT DO UPDATE SET state = 'asked'"
)


class SqliteArchive:
    """The part of ``SqliteStore`` that is about sessions whose rows are here no more."""

    path: Path
    store_id: str
    _clock: Clock
    _upcast: Upcaster
    _max_bytes: int | None
    _run: Callable[[Callable[[sqlite3.Connection], Any]], Any]
    _reader: Callable[[], AbstractContextManager[sqlite3.Connection]]

    def check_shippable(self, session_id: str) -> None:
        """Raise StoreRejected where a warehouse refused rows of a session, so that it cannot be archived."""
        with self._reader() as connection:
            found = connection.execute(_ASIDE.format(" AND a.state = 'refused'"), (session_id,)).fetchone()
        if found is not None:
            raise StoreRejected(
                f"Session {session_id} has events that {found[0]} refused, so it cannot be archived; nothing was "
                "written. `ledger relay refused` says why; mend that and send them again with `ledger relay retry`."
            )

    def droppable(self, warehouse: str, session_ids: Collection[str] | None = None) -> list[Droppable]:
        """Archived sessions whose rows may be dropped, the oldest first; all of them, or of these."""
        with self._reader() as connection, read.snapshot(connection):
            if session_ids is None:
                rows = connection.execute(_HERE, (UNOWNED,)).fetchall()
            else:
                one = f"{_HERE} AND h.session_id = ?"
                rows = [row for each in session_ids for row in connection.execute(one, (UNOWNED, each)).fetchall()]
            found = []
            for session_id, created_at, version in rows:
                count = _settled_rows(connection, session_id, warehouse)
                if count:
                    found.append(Droppable(SessionKey(session_id, from_micros(created_at)), version, count))
        return sorted(found, key=lambda each: (each.key.created_at, each.key.session_id))

    def drop(self, sessions: Iterable[Droppable], warehouse: str) -> int:
        """Drop the rows of archived sessions, each in one transaction, and keep what ``archived_events`` says.

        One that went on or was brought back meanwhile, or whose rows are no longer settled, stays as it is.

        Args:
            sessions: By ``droppable``, once the warehouse is known to have every one of their rows.
            warehouse: Its URL.

        Returns:
            How many sessions were dropped.
        """
        return sum(self._run(partial(self._drop, session=each, warehouse=warehouse)) for each in sessions)

    def restore_history(self, events: Sequence[RecordedEvent], warehouse: str) -> int:
        """Take a session over from a warehouse, all of it or nothing; the store owns it from then on.

        Rows that were here before are again where they were, behind the relay's checkpoint, so that nobody takes them
        for new. Of all others, and for other warehouses, a relay asks whether they are there before it sends them.

        Args:
            events: The whole history of one session, as it is in the warehouse.
            warehouse: Its URL.

        Returns:
            How many events were brought back; 0 where the session is here, owned by this store.

        Raises:
            CorruptEvent: It is not the history that was archived here, or the hash chain is broken.
            StoreRejected: The warehouse lacks events that were archived here.
            InvalidInput, IdempotencyConflict: The events are not of one session.
            StoreUnavailable: There is no room, or the session is being deleted for good.
        """
        count: int = self._run(lambda connection: self._take_back(connection, list(events), warehouse))
        return count

    def purge(self, session_id: str, version: int) -> bool:
        """Delete a session for good: its rows, its head and all that is kept of it, in one transaction.

        What is to be deleted in the warehouses is remembered; see ``pending_deletions``.

        Returns:
            False where it has gone on since ``version``, or rows of it still have to be shipped.
        """
        check_session_id(session_id)
        done: bool = self._run(lambda connection: _forget(connection, session_id, version))
        return done

    def pending_deletions(self, warehouse: str | None = None) -> list[PendingDeletion]:
        """Sessions that were deleted here and not yet in a warehouse, or in any; the oldest first."""
        sql = "SELECT session_id, created_at, version FROM deleted_sessions {} ORDER BY created_at, session_id"
        given = ("", ()) if warehouse is None else ("WHERE warehouse = ?", (warehouse,))
        with self._reader() as connection:
            rows = connection.execute(sql.format(given[0]), given[1]).fetchall()
        return [_pending_deletion(*row) for row in rows]

    def pending_deletion(self, session_id: str) -> PendingDeletion | None:
        """The session of this id that was deleted here, where a warehouse is still to delete it.

        There is one at most: until then its id cannot be used again.
        """
        sql = "SELECT session_id, created_at, version FROM deleted_sessions WHERE session_id = ? LIMIT 1"
        with self._reader() as connection:
            row = connection.execute(sql, (session_id,)).fetchone()
        return None if row is None else _pending_deletion(*row)

    def deleted(self, sessions: Iterable[PendingDeletion], warehouse: str) -> None:
        """Remember that sessions are in a warehouse no more."""
        keys = [(each.key.session_id, to_micros(each.key.created_at), warehouse) for each in sessions]
        sql = "DELETE FROM deleted_sessions WHERE session_id = ? AND created_at = ? AND warehouse = ?"
        self._run(lambda connection: connection.executemany(sql, keys).rowcount)

    def _drop(self, connection: sqlite3.Connection, session: Droppable, warehouse: str) -> bool:
        (session_id, created_at), version, count = session
        head = read.head_row(connection, session_id)
        archived = connection.execute(f"{_HERE} AND h.session_id = ?", (UNOWNED, session_id)).fetchone()
        if archived is None or head is None or (head.created_at, head.version) != (to_micros(created_at), version):
            return False
        if _settled_rows(connection, session_id, warehouse) != count:
            return False
        rows = [_Row._make(row) for row in connection.execute(_ROWS, (session_id,)).fetchall()]
        amount = session_digest(
            RowDigest(row.version, row.event_id, row.field, row.key, row.event_hash, row.value_hash) for row in rows
        )
        events: dict[str, list[_Row]] = {}
        for row in rows:
            events.setdefault(row.event_id, []).append(row)
        for event_id, of_event in events.items():
            salt, first = new_salt(), of_event[0]
            content = {(row.field, row.key, row.value, bool(row.removed)) for row in of_event}
            digest = kept.content_digest(salt, first.event_type, content)
            place = _Place(first.version, first.seq, len(of_event))
            connection.execute(
                "INSERT INTO archived_events VALUES (?, ?, ?, ?, ?, ?, ?)",
                (session_id, event_id, *place, salt, digest),
            )
        connection.execute(
            "INSERT INTO archived_sessions VALUES (?, ?, ?, ?)",
            (session_id, amount.rows, amount.distinct_rows, amount.digest),
        )
        connection.execute("DELETE FROM session_events WHERE session_id = ?", (session_id,))
        fields = ", ".join("?" * len(LISTED))
        connection.execute(
            f"DELETE FROM session_state WHERE session_id = ? AND field NOT IN ({fields})",  # noqa: S608
            (session_id, *LISTED),
        )
        index.again(connection, session_id)
        connection.execute("UPDATE session_heads SET store_id = ? WHERE session_id = ?", (UNOWNED, session_id))
        return True

    def _take_back(self, connection: sqlite3.Connection, events: list[RecordedEvent], warehouse: str) -> int:
        write.check_room(connection, self._max_bytes, self.path)
        sessions = by_session(events)
        if len(sessions) != 1:
            raise InvalidInput(f"Sessions are brought back one at a time, not {len(sessions)} at once.")
        ((session_id, in_order),) = sessions.items()
        head = read.head_row(connection, session_id)
        if head is not None and head.store_id != UNOWNED:
            return 0
        if head is None:
            kept.check_not_deleted(connection, session_id)
        now = self._clock()
        places = _places(connection, session_id)
        if head is not None:
            _check_same(session_id, head, in_order, places, warehouse)
        taken = plan_ingest(in_order, None, lambda event: False, now)
        assert taken is not None  # noqa: S101 - there is at least one event
        with write.all_or_none(connection):
            _clear(connection, session_id)
            last = taken.events[-1]
            updated_at = max(to_micros(taken.updated_at), 0 if head is None else head.updated_at)
            connection.execute(
                write.PUT_HEAD,
                (
                    *(session_id, last.user_id, to_micros(last.created_at), last.version),
                    *(updated_at, taken.event_hash, self.store_id),
                ),
            )
            before, new = _write(connection, taken.events, places)
            index.again(connection, session_id)  # rows that are where they were are no new ones
            if any(event.schema_version != self._upcast.current for event in taken.events):
                write.refold_session(connection, session_id, self._upcast)
            _ask_about(connection, before, new, warehouse, now)
        return len(taken.events)


def _settled_rows(connection: sqlite3.Connection, session_id: str, warehouse: str) -> int:
    """How many rows a session has, where all of them were shipped to every warehouse; else 0."""
    last, count = connection.execute(_LAST_SEQ, (session_id,)).fetchone()
    if not count or warehouse not in (known := kept.warehouses(connection)):
        return 0
    return count if _passed(connection, session_id, last, known) else 0


def _passed(connection: sqlite3.Connection, session_id: str, last: int, known: Sequence[str]) -> bool:
    """Whether the relay to each of these warehouses has passed the rows of a session, and put none of them aside."""
    for name in known:
        found = connection.execute("SELECT checkpoint FROM relays WHERE warehouse = ?", (name,)).fetchone()
        if found is None or found[0] < last:
            return False
    return connection.execute(_ASIDE.format(""), (session_id,)).fetchone() is None


def _places(connection: sqlite3.Connection, session_id: str) -> dict[str, _Place]:
    """Where each event was that was here before, by id."""
    sql = f"SELECT event_id, {', '.join(_Place._fields)} FROM archived_events WHERE session_id = ?"  # noqa: S608
    return {event_id: _Place(*place) for event_id, *place in connection.execute(sql, (session_id,)).fetchall()}


def _pending_deletion(session_id: str, created_at: int, version: int) -> PendingDeletion:
    return PendingDeletion(SessionKey(session_id, from_micros(created_at)), version)


def _check_same(
    session_id: str,
    head: HeadRow,
    events: Sequence[RecordedEvent],
    places: Mapping[str, _Place],
    warehouse: str,
) -> None:
    """Raise unless these events begin with exactly those that were archived here."""
    version = head.version
    there = {event.event_id: event for event in events}
    if missing := sorted(places.keys() - there.keys()):
        raise StoreRejected(
            f"{warehouse} lacks {len(missing)} of the {len(places)} events of session {session_id} that were archived "
            f"here, the first of them {missing[0]}; nothing was written. Open the ledger with the warehouse that it "
            "was shipped to, or restore that."
        )
    last = [event for event in events if event.version <= version]
    same = all(there[event_id].version == place.version for event_id, place in places.items())
    hashed = next((event.event_hash for event in reversed(last) if event.event_hash is not None), None)
    fixed = {(event.user_id, to_micros(event.created_at)) for event in events} == {(head.user_id, head.created_at)}
    if not (same and fixed and len(last) == len(places) and hashed == head.event_hash):
        raise CorruptEvent(
            f"Session {session_id}, version {version}: {warehouse} has another history than was archived here; nothing "
            "was written. `ledger reconcile` shows more; restore the warehouse.",
            session_id=session_id,
            version=version,
        )


def _write(
    connection: sqlite3.Connection, events: Sequence[RecordedEvent], places: Mapping[str, _Place]
) -> tuple[list[int], list[int]]:
    """Write events in order; the ``seq`` of rows that are where they were before, and of those that are new here."""
    before: list[int] = []
    new: list[int] = []
    for event in events:
        place = places.get(event.event_id)
        if place is not None and place.rows != len(event.changes):
            raise CorruptEvent(
                f"Session {event.session_id}, version {event.version}: the warehouse has {len(event.changes)} changes "
                f"of its event, and {place.rows} were archived here; nothing was written.",
                session_id=event.session_id,
                version=event.version,
            )
        written = write.write_recorded(connection, event, None if place is None else place.seq)
        (new if place is None else before).extend(written)
    return before, new


def _ask_about(
    connection: sqlite3.Connection, before: Sequence[int], new: Sequence[int], warehouse: str, now: datetime
) -> None:
    """Have relays ask about rows that they would take for new, or not look at any more.

    All of them are in ``warehouse``, so its relay need not look at those that it has passed.
    """
    for name in {*kept.warehouses(connection), warehouse}:
        connection.execute("INSERT INTO relays (warehouse) VALUES (?) ON CONFLICT DO NOTHING", (name,))
        (checkpoint,) = connection.execute("SELECT checkpoint FROM relays WHERE warehouse = ?", (name,)).fetchone()
        rows = [seq for seq in (*before, *new) if name != warehouse or seq > checkpoint]
        connection.executemany(_ASK, [(name, seq, REASON, to_micros(now)) for seq in rows])


def _forget(connection: sqlite3.Connection, session_id: str, version: int) -> bool:
    head = read.head_row(connection, session_id)
    if head is None or head.version != version:
        return False
    known = kept.warehouses(connection)
    last = connection.execute(_LAST_SEQ, (session_id,)).fetchone()[0]
    if last is not None and not _passed(connection, session_id, last, known):
        return False
    connection.executemany(
        "INSERT INTO deleted_sessions VALUES (?, ?, ?, ?)",
        [(session_id, head.created_at, name, version) for name in known],
    )
    connection.execute("DELETE FROM session_events WHERE session_id = ?", (session_id,))
    _clear(connection, session_id)
    return True


def _clear(connection: sqlite3.Connection, session_id: str) -> None:
    """Take away what is kept of a session beside its rows."""
    for table in ("session_heads", "session_state", "archived_sessions", "archived_events"):
        connection.execute(f"DELETE FROM {table} WHERE session_id = ?", (session_id,))  # noqa: S608
    index.leave(connection, session_id)

"""What the embedded store writes, inside transactions that others begin and end."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from ledger.errors import IdempotencyConflict, InvalidInput, SessionNotFound, WrongExpectedVersion
from ledger.model.events import ANY_VERSION, MAX_CHANGES, Appended, PreparedEvent, RecordedEvent
from ledger.model.fold import fold
from ledger.model.ids import check_created_at, created_at_for, created_at_of
from ledger.model.instants import to_micros
from ledger.model.integrity import event_hash, value_hash, verify
from ledger.model.upcast import Upcaster
from ledger.model.values import check_whole
from ledger.stores import sqlite_read as read
from ledger.stores.sqlite_schema import ROW

_INSERT_ROW = f"INSERT INTO session_events ({', '.join(ROW)}) VALUES ({', '.join('?' * len(ROW))})"  # noqa: S608
_PUT_HEAD = (
    "INSERT INTO session_heads (session_id, user_id, created_at, version, updated_at, event_hash, store_id) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_MOVE_HEAD = (
    "UPDATE session_heads SET version = ?, updated_at = ?, event_hash = ? "
    "WHERE session_id = ? AND version = ? AND event_hash IS ?"
)
#: Heads that a process remembers.
KNOWN_HEADS = 1024
_SET_SLOT = (
    "INSERT INTO session_state (session_id, field, key, version, event_id, event_seq, value) "
    "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "version = excluded.version, event_id = excluded.event_id, event_seq = excluded.event_seq, value = excluded.value"
)
_REMOVE_SLOT = "DELETE FROM session_state WHERE session_id = ? AND field = ? AND key = ?"
_FIND_EVENT = (
    "SELECT version, event_type, field, key, value, removed, value_hash FROM session_events "
    "INDEXED BY session_events_by_id WHERE session_id = ? AND event_id = ?"
)


def append(
    connection: sqlite3.Connection,
    heads: dict[str, tuple[Any, ...]],
    session_id: str,
    event: PreparedEvent,
    salts: Sequence[str | None],
    *,
    expected_version: int,
    now: datetime,
    schema_version: int,
    store_id: str,
) -> Appended:
    """Check an event against the session's head, then write its rows, its slots and the head.

    Args:
        heads: What this process last knew of sessions' heads, rows of ``HEAD``. The head is moved only from exactly
            what was known, so one that is out of date, or of a transaction rolled back since, is found out.
        salts: One for each change, None for a removal.
        now: Time of recording; an earlier one than the session's last is moved up to that.

    Raises:
        SessionNotFound, WrongExpectedVersion, IdempotencyConflict, InvalidInput: Before anything was written.
    """
    head = heads.pop(session_id, None)
    if head is None or expected_version not in (ANY_VERSION, head[2]):
        head = connection.execute(read.HEAD, (session_id,)).fetchone()
    if head is not None and event.may_repeat:
        version = _recorded_version(connection, session_id, event)
        if version is not None:
            return Appended(session_id, version, event.event_id, replayed=True)
    user_id = _check_expected(session_id, head, event, expected_version)
    recorded_at = to_micros(now)
    if head is None:
        created_at, version, prev_hash = to_micros(created_at_for(session_id, now)), 1, None
    else:
        _, created_at, version, updated_at, prev_hash, _ = head
        version += 1
        recorded_at = max(recorded_at, updated_at)
    occurred_at = recorded_at if event.occurred_at is None else event.occurred_at
    changes = [
        (*change, None if salt is None else value_hash(salt, change.text or ""), salt)
        for change, salt in zip(event.changes, salts, strict=True)
    ]
    before = (session_id, version, event.event_id, event.event_type)
    after = (user_id, event.actor, occurred_at, recorded_at, created_at, schema_version)
    hashed = event_hash(
        prev_hash, (*before, *after), [(field, key, gone, digest) for field, key, _, gone, digest, _ in changes]
    )
    if head is None:
        owned_by = store_id
        connection.execute(_PUT_HEAD, (session_id, user_id, created_at, version, recorded_at, hashed, owned_by))
    else:
        owned_by = head[5]
        move = (version, recorded_at, hashed, session_id, version - 1, prev_hash)
        if connection.execute(_MOVE_HEAD, move).rowcount == 0:  # out of date, and no longer in heads: look again
            return append(
                *(connection, heads, session_id, event, salts),
                expected_version=expected_version,
                now=now,
                schema_version=schema_version,
                store_id=store_id,
            )
    _write_rows(connection, before, changes, (*after, store_id), (prev_hash, hashed))
    if len(heads) >= KNOWN_HEADS:
        heads.clear()
    heads[session_id] = (user_id, created_at, version, recorded_at, hashed, owned_by)
    return Appended(session_id, version, event.event_id)


def ingest(connection: sqlite3.Connection, events: Sequence[RecordedEvent], *, now: datetime, upcast: Upcaster) -> int:
    """Write events as they were recorded elsewhere, all or none; return how many were new.

    Raises:
        IdempotencyConflict, WrongExpectedVersion, InvalidInput, CorruptEvent: Nothing of the call was written.
    """
    sessions: dict[str, dict[str, RecordedEvent]] = {}
    for event in events:
        known = sessions.setdefault(event.session_id, {}).setdefault(event.event_id, event)
        if known != event:
            raise _conflict(event.session_id, event.event_id)
    with _all_or_none(connection):
        return sum(
            _ingest_session(
                connection, session_id, sorted(of_session.values(), key=lambda event: event.position), now, upcast
            )
            for session_id, of_session in sessions.items()
        )


def refold(connection: sqlite3.Connection, upcast: Upcaster) -> None:
    """Fold every session anew from its events, after the shape of events has changed."""
    with _all_or_none(connection):
        for (session_id,) in connection.execute("SELECT session_id FROM session_heads").fetchall():
            _refold_session(connection, session_id, upcast)
        connection.execute("UPDATE meta SET value = ? WHERE name = 'state_schema'", (str(upcast.current),))


@contextmanager
def _all_or_none(connection: sqlite3.Connection) -> Iterator[None]:
    """What is written within stays only if nothing is raised; the transaction around it goes on either way."""
    connection.execute("SAVEPOINT whole")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK TO whole")
        raise
    finally:
        connection.execute("RELEASE whole")


def _ingest_session(
    connection: sqlite3.Connection, session_id: str, events: Sequence[RecordedEvent], now: datetime, upcast: Upcaster
) -> int:
    head = connection.execute(read.HEAD, (session_id,)).fetchone()
    version, prev_hash = (0, None) if head is None else (head[2], head[4])
    new = [event for event in events if head is None or not _is_recorded(connection, event)]
    if not new:
        return 0
    if new[0].version <= version:
        raise WrongExpectedVersion(
            f"Session {session_id} has version {version} here, and another event {new[0].version} in what is "
            "brought in: it went on in two places. Nothing was written; bring it in under another id.",
            session_id=session_id,
            expected=new[0].version - 1,
            actual=version,
        )
    check_created_at(new[0].created_at, now)
    last = new[-1]
    _check_fixed(new, (last.user_id, to_micros(last.created_at)) if head is None else head[:2])
    verify(new, prev_hash)
    # Events without a hash (from a store that keeps no chain) are passed over: the next one follows the last hash.
    chained = next((event.event_hash for event in reversed(new) if event.event_hash is not None), prev_hash)
    for event in new:
        _write_recorded(connection, event)
    updated_at = to_micros(max(event.recorded_at for event in new))
    if head is None:
        fixed = (session_id, last.user_id, to_micros(last.created_at))
        connection.execute(_PUT_HEAD, (*fixed, last.version, updated_at, chained, read.meta(connection, "store_id")))
    else:
        connection.execute(
            _MOVE_HEAD, (last.version, max(updated_at, head[3]), chained, session_id, version, prev_hash)
        )
    if any(event.schema_version != upcast.current for event in new):
        _refold_session(connection, session_id, upcast)
    return len(new)


def _check_fixed(events: Sequence[RecordedEvent], fixed: tuple[str, int]) -> None:
    """Raise InvalidInput where events are not of one owner and creation time, or would not fit one append."""
    for event in events:
        where = f"Session {event.session_id}, version {event.version}"
        if (event.user_id, to_micros(event.created_at)) != fixed:
            raise InvalidInput(f"{where} has another owner or created_at than its session; they never change.")
        if created_at_of(event.session_id) not in (None, event.created_at):
            raise InvalidInput(f"{where} has a created_at that is not the time inside the session's id.")
        if not 1 <= len(event.changes) <= MAX_CHANGES:
            raise InvalidInput(f"{where} holds {len(event.changes):,} changes; an event holds 1 to {MAX_CHANGES:,}.")


def _write_recorded(connection: sqlite3.Connection, event: RecordedEvent) -> None:
    _write_rows(
        connection,
        (event.session_id, event.version, event.event_id, event.event_type),
        [
            (change.field, change.key, change.text, change.removed, change.value_hash, change.value_salt)
            for change in event.changes
        ],
        (
            *(event.user_id, event.actor, to_micros(event.occurred_at), to_micros(event.recorded_at)),
            *(to_micros(event.created_at), event.schema_version, event.store_id),
        ),
        (event.prev_hash, event.event_hash),
    )


def _write_rows(
    connection: sqlite3.Connection,
    before: tuple[Any, ...],
    changes: Iterable[tuple[str, str, str | None, bool, str | None, str | None]],
    after: tuple[Any, ...],
    chain: tuple[str | None, str | None],
) -> None:
    """Write an event's rows and slots; ``before`` and ``after`` are the columns around those of a change."""
    session_id, version, event_id, _ = before
    for field, key, text, removed, digest, salt in changes:
        row = (*before, field, key, text, removed, *after, digest, salt, *chain)
        seq = connection.execute(_INSERT_ROW, row).lastrowid
        if removed:
            connection.execute(_REMOVE_SLOT, (session_id, field, key))
        else:
            value = None if field == "message" else text  # a message's value stays in its event row
            connection.execute(_SET_SLOT, (session_id, field, key, version, event_id, seq, value))


def _refold_session(connection: sqlite3.Connection, session_id: str, upcast: Upcaster) -> None:
    events = read.all_events(connection, session_id, upcast)
    connection.execute("DELETE FROM session_state WHERE session_id = ?", (session_id,))
    for (field, key), written in fold(events).items():
        row = connection.execute(
            "SELECT seq, value FROM session_events INDEXED BY session_events_by_id "
            "WHERE session_id = ? AND event_id = ? ORDER BY field <> ?, key <> ?",
            (session_id, written.event_id, field, key),
        ).fetchone()
        # A message stays where it is unless an upcast changed it; then the slot holds the new text itself.
        value = None if field == "message" and row[1] == written.text else written.text
        connection.execute(_SET_SLOT, (session_id, field, key, written.version, written.event_id, row[0], value))


def _check_expected(session_id: str, head: tuple[Any, ...] | None, event: PreparedEvent, expected: int) -> str:
    """The session's owner, once the event is known to fit its head."""
    actual = 0 if head is None else head[2]
    if check_whole(expected, "expected_version", at_least=ANY_VERSION) not in (ANY_VERSION, actual):
        raise WrongExpectedVersion(
            f"Session {session_id} is at version {actual}, not {expected}; nothing was written. Read it again and "
            "decide anew.",
            session_id=session_id,
            expected=expected,
            actual=actual,
        )
    owner = event.user_id if head is None else head[0]
    if owner is None:
        raise SessionNotFound(
            f"There is no session {session_id}; nothing was written. Begin it with create_session().",
            session_id=session_id,
        )
    if event.user_id not in (None, owner):
        raise InvalidInput(f"Session {session_id} has another owner; user_id never changes.")
    return str(owner)


def _recorded_version(connection: sqlite3.Connection, session_id: str, event: PreparedEvent) -> int | None:
    """The version at which this very event stands already; None where its id is new here."""
    rows = connection.execute(_FIND_EVENT, (session_id, event.event_id)).fetchall()
    if not rows:
        return None
    here = {(row[2], row[3], row[4], bool(row[5])) for row in rows}
    there = {(change.field, change.key, change.text, change.removed) for change in event.changes}
    if rows[0][1] != event.event_type or here != there:
        raise _conflict(session_id, event.event_id)
    return int(rows[0][0])


def _is_recorded(connection: sqlite3.Connection, event: RecordedEvent) -> bool:
    rows = connection.execute(_FIND_EVENT, (event.session_id, event.event_id)).fetchall()
    here = {(row[2], row[3], row[4], bool(row[5]), row[6]) for row in rows}
    there = {(change.field, change.key, change.text, change.removed, change.value_hash) for change in event.changes}
    if rows and (rows[0][:2] != (event.version, event.event_type) or here != there):
        raise _conflict(event.session_id, event.event_id)
    return bool(rows)


def _conflict(session_id: str, event_id: str) -> IdempotencyConflict:
    return IdempotencyConflict(
        f"Session {session_id} has an event {event_id} already, with other content; nothing was written. "
        "Use a new event_id for a new event.",
        session_id=session_id,
        event_id=event_id,
    )

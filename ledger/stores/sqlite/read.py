"""Reads of the embedded store: each answer comes from one statement or one snapshot, so it is consistent."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import chain

from ledger.errors import CorruptEvent, InvalidInput
from ledger.model.events import RecordedEvent
from ledger.model.fold import Origin, RegisterValue, State, fold
from ledger.model.instants import from_micros, to_micros
from ledger.model.page import Page, check_limit, position_of
from ledger.model.queries import SessionQuery
from ledger.model.session import Head, Message
from ledger.model.upcast import Upcaster
from ledger.model.values import canonical, check_text, check_whole, decode
from ledger.outbox import columns
from ledger.outbox.rows import Row
from ledger.stores.archived import UNOWNED, session_archived
from ledger.stores.sqlite import holders
from ledger.stores.sqlite import tombstones as kept
from ledger.stores.sqlite.criteria import conditions_of
from ledger.stores.sqlite.errors import damaged
from ledger.stores.sqlite.rows import HeadRow, checked_head, events_from_rows, head_of, whole_events

_HEAD_COLUMNS = ", ".join(HeadRow._fields)
HEAD = f"SELECT {_HEAD_COLUMNS} FROM session_heads WHERE session_id = ?"  # noqa: S608
_COLUMNS = columns.sql_list()
_REGISTERS = "SELECT field, key, version, event_id, value, NULL FROM session_state WHERE session_id = ?1"
#: Query for the head and then for the registers. Two ranges select all fields but ``message``; no message is read.
_LATEST = f"{HEAD}1 UNION ALL {_REGISTERS} AND field < 'message' UNION ALL {_REGISTERS} AND field > 'message'"
#: The same with the messages. They have two columns more, since a message has an origin.
_LATEST_WITH_MESSAGES = (
    f"SELECT *, NULL, NULL FROM ({_LATEST}) UNION ALL "  # noqa: S608
    "SELECT s.field, s.key, s.version, s.event_id, COALESCE(s.value, e.value), e.actor, e.occurred_at, e.recorded_at "
    "FROM session_state AS s JOIN session_events AS e ON e.seq = s.event_seq "
    "WHERE s.session_id = ?1 AND s.field = 'message'"
)
_MESSAGES = (
    "SELECT s.key, s.version, COALESCE(s.value, e.value), e.actor, e.occurred_at, e.recorded_at "
    "FROM session_state AS s JOIN session_events AS e ON e.seq = s.event_seq "
    "WHERE s.session_id = ? AND s.field = 'message' "
)
_EVENTS = f"SELECT {_COLUMNS} FROM session_events WHERE session_id = ? "  # noqa: S608
_LAST_EVENT = "SELECT version, event_hash, MAX(recorded_at) OVER () FROM session_events WHERE session_id = ? "
_LAST_FIRST = "ORDER BY version DESC, event_id DESC LIMIT 1"
_ROWS_AFTER = f"SELECT seq, {_COLUMNS} FROM session_events WHERE seq > ? ORDER BY seq"  # noqa: S608
_EVENTS_PAGE = (
    f"{_EVENTS}AND version > ?2 AND version <= (SELECT MAX(version) FROM (SELECT DISTINCT version FROM session_events "  # noqa: S608
    "WHERE session_id = ?1 AND version > ?2 ORDER BY version LIMIT ?3)) ORDER BY version, seq"
)
#: The largest number that a store would write as a position: SQLite can count on from there for long.
LARGEST = 2**62


def meta(connection: sqlite3.Connection, name: str) -> str:
    """Return a value from the table ``meta``, such as ``store_id``.

    Raises:
        CorruptEvent: The value is missing.
    """
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    if row is None or type(row[0]) is not str or not row[0]:
        raise damaged("meta", "", f"{name} is missing")
    return row[0]


def number(connection: sqlite3.Connection, name: str) -> int:
    """Return a number from the table ``meta``, such as ``search_upto``.

    Raises:
        CorruptEvent: The value is missing or no number.
    """
    text = meta(connection, name)
    found = whole(text)
    if found is None:
        raise damaged("meta", "", f"{name} is {text!r:.50}, not a number that the store would write")
    return found


def whole(text: object) -> int | None:
    """Return the number in a text of the table ``meta``; None if no store would write such a text."""
    if type(text) is not str or not (text.isascii() and text.isdecimal() and len(text) < 20):
        return None
    return int(text) if int(text) <= LARGEST else None


def state_schema(connection: sqlite3.Connection) -> int | None:
    """Return the schema version to which events were upcast before ``session_state`` was folded from them.

    Returns None if the version is missing or damaged.
    """
    try:
        return number(connection, "state_schema")
    except CorruptEvent:
        return None


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Context manager in whose block every statement reads the same snapshot of the database.

    After an exception the transaction stays open, because ``Connections.read`` then closes the connection.
    """
    connection.execute("BEGIN")
    yield
    connection.execute("COMMIT")


def version_of(connection: sqlite3.Connection, session_id: str, event_id: str) -> int | None:
    """Return the version of a recorded event, even if its rows were dropped; None if the event is not recorded."""
    check_text(session_id, "session_id")
    check_text(event_id, "event_id")
    row = connection.execute(
        "SELECT version FROM session_events INDEXED BY session_events_by_id WHERE session_id = ? AND event_id = ?",
        (session_id, event_id),
    ).fetchone()
    if row is None:
        tombstone = kept.event(connection, session_id, event_id)
        return None if tombstone is None else tombstone.version
    return int(row[0])


def head_row(connection: sqlite3.Connection, session_id: str) -> HeadRow | None:
    """Return a session's row of ``session_heads``; None if the session does not exist."""
    row = connection.execute(HEAD, (session_id,)).fetchone()
    return None if row is None else checked_head(session_id, row)


def latest(connection: sqlite3.Connection, session_id: str, *, with_messages: bool) -> tuple[HeadRow, State] | None:
    """Return a session's row of ``session_heads`` and its latest state; None if the session does not exist.

    Raises:
        SessionArchived: The session's rows are only in a warehouse.
    """
    rows = connection.execute(_LATEST_WITH_MESSAGES if with_messages else _LATEST, (session_id,)).fetchall()
    if not rows:
        return None
    head = checked_head(session_id, rows[0][: len(HeadRow._fields)])
    if with_messages:
        state = {
            (field, key): RegisterValue(text, version, event_id, _origin(*times) if field == "message" else None)
            for field, key, version, event_id, text, *times in rows[1:]
        }
    else:
        state = {
            (field, key): RegisterValue(text, version, event_id) for field, key, version, event_id, text, _ in rows[1:]
        }
    try:
        "".join(chain.from_iterable(state))  # the cheapest way to find one that is no text
    except TypeError as error:
        raise damaged("session_state", session_id, "a field or key is no text") from error
    if head.store_id == UNOWNED:
        raise session_archived(head_of(session_id, head), state, holders.of(connection, session_id))
    return head, state


def _require_rows(connection: sqlite3.Connection, session_id: str) -> None:
    """Raise SessionArchived if a session's rows are only in a warehouse."""
    head = head_row(connection, session_id)
    if head is not None and head.store_id == UNOWNED:
        latest(connection, session_id, with_messages=False)


def state_at(
    connection: sqlite3.Connection,
    session_id: str,
    version: int | None,
    at: datetime | None,
    with_messages: bool,
    upcast: Upcaster,
) -> tuple[Head, State] | None:
    """Return head and state at a version or time, folded from events; None if the session did not exist then.

    Raises:
        InvalidInput: Both a version and a time are given, or the session does not have the version.
        SessionArchived: The session's rows are only in a warehouse.
    """
    if version is not None and at is not None:
        raise InvalidInput("Give a version or a time, not both.")
    moment = None if at is None else to_micros(at, "at")
    if version is not None:
        check_whole(version, "version", at_least=1)
    head = head_row(connection, session_id)
    if head is None:
        return None
    if head.store_id == UNOWNED:
        latest(connection, session_id, with_messages=False)
    if version is not None and version > head.version:
        raise InvalidInput(f"Session {session_id} has versions 1 to {head.version}; there is no version {version}.")
    then, bound = ("AND recorded_at <= ? ", moment) if version is None else ("AND version <= ? ", version)
    last = connection.execute(f"{_LAST_EVENT}{then}{_LAST_FIRST}", (session_id, bound)).fetchone()
    if last is None:
        return None
    head_then = head._replace(**dict(zip(("version", "event_hash", "updated_at"), last, strict=True)))
    fields = "" if with_messages else "AND field <> 'message' "
    rows = connection.execute(f"{_EVENTS}{then}{fields}ORDER BY version, seq", (session_id, bound)).fetchall()
    return head_of(session_id, head_then), fold(events_from_rows(rows, upcast))


def events(
    connection: sqlite3.Connection, session_id: str, *, after: int, limit: int, upcast: Upcaster | None
) -> Page[RecordedEvent]:
    """Return a page of events: those of the first ``limit`` versions that are greater than ``after``.

    Raises:
        SessionArchived: The session's rows are only in a warehouse.
    """
    check_limit(limit)
    check_whole(after, "after")
    rows = connection.execute(_EVENTS_PAGE, (session_id, after, limit)).fetchall()
    if not rows:
        with snapshot(connection):  # a restore may be in progress
            _require_rows(connection, session_id)
            rows = connection.execute(_EVENTS_PAGE, (session_id, after, limit)).fetchall()
    page = events_from_rows(rows, upcast)
    last = page[-1].version if page else after
    more = (
        len(page) >= limit
        and connection.execute(
            "SELECT 1 FROM session_events WHERE session_id = ? AND version > ? LIMIT 1", (session_id, last)
        ).fetchone()
    )
    return Page(page, str(last) if more else None)


def all_events(connection: sqlite3.Connection, session_id: str, upcast: Upcaster) -> list[RecordedEvent]:
    """Return all events of a session, in order."""
    rows = connection.execute(f"{_EVENTS} ORDER BY version, seq", (session_id,)).fetchall()
    return events_from_rows(rows, upcast)


def messages(
    connection: sqlite3.Connection, session_id: str, *, after: str | None, limit: int, newest: bool
) -> Page[Message]:
    """Return a page of messages, in order. If ``newest`` is True, the page has the last ``limit`` messages.

    Raises:
        SessionArchived: The session's rows are only in a warehouse.
    """
    check_limit(limit)
    page = _messages(connection, session_id, after, limit, newest)
    if not page:
        with snapshot(connection):  # a restore may be in progress
            _require_rows(connection, session_id)
            page = _messages(connection, session_id, after, limit, newest)
    return page


def _messages(
    connection: sqlite3.Connection, session_id: str, after: str | None, limit: int, newest: bool
) -> Page[Message]:
    if newest:
        rows = connection.execute(
            _MESSAGES + "ORDER BY s.version DESC, s.key DESC LIMIT ?", (session_id, limit)
        ).fetchall()
        return Page([_message(*row) for row in reversed(rows)])
    version, key = (0, "") if after is None else position_of(after)
    rows = connection.execute(
        _MESSAGES + "AND (s.version, s.key) > (?, ?) ORDER BY s.version, s.key LIMIT ?",
        (session_id, version, key, limit + 1),
    ).fetchall()
    page = [_message(*row) for row in rows[:limit]]
    return Page(page, f"{page[-1].version}:{page[-1].message_id}" if len(rows) > limit else None)


def sessions(
    connection: sqlite3.Connection, query: SessionQuery, *, after: str | None, limit: int
) -> Page[tuple[Head, State]]:
    """Return a page of sessions that meet every criterion, newest first, with states but without messages.

    If a session's rows are only in a warehouse, its state has the fields of ``ledger.stores.archived.LISTED``.

    No index has the order of the last events, because each append would have to update it. A list in this order reads
    the heads of all sessions of the user, or of all users.
    """
    check_limit(limit)
    position = query.position(after)
    time = "updated_at" if query.order_by == "updated" else "created_at"
    conditions, parameters = conditions_of(connection, query)
    if position is not None:
        conditions.append(f"({time}, session_id) < (?, ?)")
        parameters.extend(position)
    heads = connection.execute(
        f"SELECT session_id, {_HEAD_COLUMNS} FROM session_heads "  # noqa: S608
        f"{'WHERE ' if conditions else ''}{' AND '.join(conditions)} "
        f"ORDER BY {time} DESC, session_id DESC LIMIT ?",
        (*parameters, limit + 1),
    ).fetchall()
    shown = {session_id: checked_head(session_id, head) for session_id, *head in heads[:limit]}
    states: dict[str, dict[tuple[str, str], RegisterValue]] = {session_id: {} for session_id in shown}
    registers = "SELECT session_id, field, key, version, event_id, value FROM session_state WHERE session_id IN "
    chosen = "(SELECT value FROM json_each(?1))"
    for session_id, field, key, version, event_id, text in connection.execute(
        f"{registers}{chosen} AND field < 'message' UNION ALL {registers}{chosen} AND field > 'message'",
        (canonical(list(states)),),
    ):
        states[session_id][field, key] = RegisterValue(text, version, event_id)
    page = [(head_of(session_id, head), states[session_id]) for session_id, head in shown.items()]
    if len(heads) <= limit:
        return Page(page)
    last, head = shown.popitem()
    return Page(page, query.cursor(getattr(head, time), last))


def rows_after(connection: sqlite3.Connection, seq: int, limit: int, max_bytes: int) -> list[Row]:
    """Return the raw rows after ``seq``: as many whole events as fit into both limits, but at least one event."""
    return whole_events(connection.execute(_ROWS_AFTER, (check_whole(seq, "seq"),)), limit, max_bytes)


def last_seq(connection: sqlite3.Connection) -> int:
    """Return the highest ``seq`` ever written, even if its row has been dropped; 0 if there is none."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'session_events'").fetchone()
    if row is not None and type(row[0]) is not int:
        raise damaged("sqlite_sequence", "", f"the last seq is {row[0]!r:.50}")
    return row[0] if row else 0


def _message(key: str, version: int, text: str | None, actor: str | None, occurred: int, recorded: int) -> Message:
    value = None if text is None else decode(text)
    return Message.from_value(key, version, value, _origin(actor, occurred, recorded))


def _origin(actor: str | None, occurred_at: int, recorded_at: int) -> Origin:
    recorded = from_micros(recorded_at)
    return Origin(actor, recorded if occurred_at == recorded_at else from_micros(occurred_at), recorded)

"""A table of sessions with one full row per update, as sessions.

It is the table that many teams make first in BigQuery: the columns of ``COLUMNS``, a row appended for each update, the
latest by ``updated_at`` the one that counts. Each row becomes an event with what it changed against the row before,
recorded when the row was; rows that change nothing become none. So ``get_session(version=k)`` is the k-th row that
changed anything, ``get_session(at=...)`` the row that held then, and what vanishes from a row is removed.

Other columns that hold something are kept as attributes. The names of tool calls are their ids; a name that a row has
twice gets a number. Calls that one row adds are ordered by id. A UUIDv7 says itself when its session was created; any
other session was created at the earliest ``created_at`` of its rows.

Rows may come in any order, so all of them are held until the last is read: each distinct value of a session once, as
JSON text.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from typing import Any

from ledger.errors import InvalidInput, LedgerError
from ledger.formats.events import Imported
from ledger.formats.recording import SessionEvents, locate, record
from ledger.model.events import MAX_CHANGES, SCHEMA_VERSION, RecordedChange, RecordedEvent, check_size
from ledger.model.fields import TOOL_STATUSES, check_change
from ledger.model.ids import check_session_id, created_at_of
from ledger.model.instants import from_micros, to_micros
from ledger.model.values import canonical, check_text, decode
from ledger.stores.base import EventStore

REQUIRED = ("session_id", "user_id", "question", "status", "created_at", "updated_at")
#: The columns of the table; those that are not required may be missing, which is NULL or, for an array, empty.
COLUMNS = (
    *REQUIRED,
    *("constraints", "response_plan", "strategy", "summary", "tool_calls", "tool_call_status", "tool_call_results"),
)
#: Other words for the status of a tool call; upper case, spaces and hyphens do not matter.
TOOL_STATUS_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("pending", "planned", "queued", "scheduled", "waiting", "not_started", "todo"), "pending"),
    **dict.fromkeys(("running", "in_progress", "started", "executing", "processing"), "running"),
    **dict.fromkeys(("completed", "complete", "done", "success", "successful", "succeeded", "finished"), "completed"),
    **dict.fromkeys(("failed", "failure", "error", "errored"), "failed"),
}
#: Namespace of the ids made here.
_ROWS = uuid.UUID("0193a5b1-7c55-7d0e-9f5e-3a1f0c2b7d65")
_OF_CALLS = frozenset(("tool_call", "tool_call_status", "tool_call_result"))
_OWN_TYPES = frozenset(("constraints", "response_plan", "strategy", "summary"))
#: How far a status is on its way: of rows with one ``updated_at``, the one that got further comes later.
_PROGRESS = {'"running"': 1, '"completed"': 2, '"failed"': 2}

Slot = tuple[str, str]


class LineRow(dict[str, Any]):
    """A row that knows which line it stood on."""

    def __init__(self, columns: Mapping[str, Any], line: int) -> None:
        super().__init__(columns)
        self.line = line


def import_rows(
    store: EventStore,
    rows: Iterable[Mapping[str, Any]],
) -> Imported:
    """Record a table's sessions with their whole history; what is here already stays as it is.

    A longer export of the same table adds what came after: rows have to be new, at the end of their session, and the
    session must not have gone on in the ledger itself.

    Args:
        rows: All rows of the sessions, in any order: ``rows_of_lines`` of an export, or what a query gives. They are
            all read before anything is written.

    Raises:
        InvalidInput: A row cannot be read; the message begins with its line, and nothing was written.
        InvalidInput, ValueTooLarge, WrongExpectedVersion: A session cannot be recorded; it is named, and nothing of it
            was written. Sessions before it may be recorded; the same rows, mended, bring in the rest.
    """
    return record(store, events_of_rows(rows, store_id=store.store_id), differences=True)


def rows_of_lines(lines: Iterable[bytes], *, seen: Callable[[bytes], object] = lambda line: None) -> Iterator[LineRow]:
    """The rows of a BigQuery export as JSON Lines; blank lines are passed over.

    Args:
        seen: Called with each line as it is read, for a display of progress.

    Raises:
        InvalidInput: A line is no JSON object; the message begins with its number.
    """
    for number, line in enumerate(lines, 1):
        seen(line)
        if not line.strip():
            continue
        try:
            columns = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"Line {number}: this is no JSON: {error}.") from error
        if not isinstance(columns, dict):
            raise InvalidInput(
                f"Line {number}: a row must be an object of column to value, not {type(columns).__name__}."
            )
        yield LineRow(columns, number)


def events_of_rows(rows: Iterable[Mapping[str, Any]], *, store_id: str = "") -> Iterator[SessionEvents]:
    """The events of each session in a table, oldest session first; order and repetition of the rows do not matter.

    Args:
        rows: Column to value. JSON columns are decoded or JSON text: objects, but for ``strategy``, where text that is
            no JSON object, array, string or null is what it says (Markdown). Times are aware datetimes, or text that
            ends with UTC or an offset.
        store_id: The store that is to record the events.

    Raises:
        InvalidInput: A row cannot be read, or a session has two owners; the message begins with the line.
        ValueTooLarge: What a row changed is over the limit of an event.
    """
    tables: dict[str, _Table] = {}
    for number, row in enumerate(rows, 1):
        where = f"Line {row.line}" if isinstance(row, LineRow) else f"Row {number}"
        try:
            _add(tables, row, where)
        except LedgerError as error:
            locate(error, where)
            raise
    for session_id in sorted(tables, key=lambda each: (tables[each].created_at, each)):
        table = tables.pop(session_id)
        yield SessionEvents(session_id, table.where, tuple(_events(session_id, table, store_id)))


@dataclass(frozen=True, slots=True)
class _Row:
    """One row: when it was written, and what it says as the text of each slot. ``row_id`` follows from these alone."""

    row_id: str
    where: str
    updated_at: int
    slots: Mapping[Slot, str]

    @property
    def place(self) -> tuple[int, int, int, str]:
        """Sorts rows: by time, and within one microsecond by how much they hold, then by how far their work got."""
        progress = sum(
            _PROGRESS.get(text, 0) for (field, _), text in self.slots.items() if field in ("status", "tool_call_status")
        )
        return self.updated_at, len(self.slots), progress, self.row_id


class _Table:
    """The rows of one session, each once."""

    def __init__(self, user_id: str, created_at: int, where: str) -> None:
        self.user_id = user_id
        self.created_at = created_at
        self.where = where
        self.rows: dict[str, _Row] = {}
        self._texts: dict[str, str] = {}

    def add(self, row: _Row) -> None:
        if row.row_id not in self.rows:
            # Full rows say most things again: equal texts are held once.
            shared = {slot: self._texts.setdefault(text, text) for slot, text in row.slots.items()}
            self.rows[row.row_id] = replace(row, slots=shared)


def _add(tables: dict[str, _Table], row: Mapping[str, Any], where: str) -> None:
    """Read a row and put it with the others of its session."""
    try:
        columns = dict(row)  # rows of BigQuery's client are no Mapping, but dict() takes them
    except (TypeError, ValueError):
        raise InvalidInput(f"a row must be an object of column to value, not {type(row).__name__}.") from None
    if missing := [name for name in REQUIRED if columns.get(name) is None]:
        raise InvalidInput(
            f"the row has no {', '.join(missing)}. A table of sessions has the columns {', '.join(COLUMNS)}."
        )
    session_id = check_session_id(columns["session_id"])
    try:
        user_id = check_text(columns["user_id"], "user_id")
        created_at = _micros(columns["created_at"], "created_at")
        updated_at = _micros(columns["updated_at"], "updated_at")
        slots = {
            (field, key): canonical(check_change(field, key, value, False), f"{field} {key}".rstrip())
            for field, key, value in _slots(columns)
        }
        table = tables.setdefault(session_id, _Table(user_id, created_at, where))
        if user_id != table.user_id:
            raise InvalidInput(
                f"it belongs to {user_id!r} here and to {table.user_id!r} on {table.where.lower()}. A session has one "
                "owner: correct the rows, or give one of the two sessions another id."
            )
    except LedgerError as error:
        locate(error, f"session {session_id}")
        raise
    table.created_at = min(table.created_at, created_at)
    # The id of a row, and so of its event, follows from the row alone and not from its place among others: it stays
    # when an export brings further rows or leaves old ones out, and in whatever form the row was exported.
    said = canonical([session_id, updated_at, [[*slot, slots[slot]] for slot in sorted(slots)]])
    table.add(_Row(str(uuid.uuid5(_ROWS, said)), where, updated_at, slots))


def _slots(columns: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """What a row says, as field, key and value."""
    yield "question", "", columns["question"]
    yield "status", "", _status_word(columns["status"])
    if columns.get("summary") is not None:
        yield "summary", "", columns["summary"]
    for name in ("constraints", "response_plan"):
        found = _object(columns.get(name), name)
        if found is not None:
            yield name, "", found
    strategy = _strategy(columns.get("strategy"))
    if strategy is not None:
        yield "strategy", "", strategy
    yield from _call_slots(_array(columns, "tool_calls"), _array(columns, "tool_call_status"))
    for name, result in (_object(columns.get("tool_call_results"), "tool_call_results") or {}).items():
        yield "tool_call_result", name, result
    for name in columns.keys() - set(COLUMNS):
        value = columns[name]
        if value is not None:
            yield "attribute", name, value.isoformat() if isinstance(value, date | time) else value


def _call_slots(names: Sequence[Any], statuses: Sequence[Any]) -> Iterator[tuple[str, str, Any]]:
    if statuses and len(statuses) != len(names):  # none at all is no status yet
        raise InvalidInput(
            f"tool_calls has {len(names)} entries and tool_call_status {len(statuses)}; they must run parallel."
        )
    given = {check_text(name, f"tool_calls[{index}]") for index, name in enumerate(names)}
    taken: set[str] = set()
    for index, name in enumerate(names):
        key, count = name, 1
        while key in taken or (count > 1 and key in given):
            count += 1
            key = f"{name}#{count}"
        taken.add(key)
        yield "tool_call", key, {"name": name}
        if statuses:
            yield "tool_call_status", key, _call_status(statuses[index], name)


def _events(session_id: str, table: _Table, store_id: str) -> Iterator[RecordedEvent]:
    """An event for each row that changes something; the first always does."""
    created_at = created_at_of(session_id) or from_micros(table.created_at)
    before: Mapping[Slot, str] = {}
    version = 0
    for row in sorted(table.rows.values(), key=lambda row: row.place):
        changes = _changes(before, row.slots)
        if not changes:
            continue
        version += 1
        try:
            if len(changes) > MAX_CHANGES:
                raise InvalidInput(f"the row makes {len(changes):,} changes; an event holds up to {MAX_CHANGES:,}.")
            check_size(changes)
        except LedgerError as error:
            locate(error, f"{row.where}: session {session_id}")
            raise
        at = from_micros(row.updated_at)
        yield RecordedEvent(
            session_id=session_id,
            version=version,
            event_id=row.row_id,
            event_type="session.created" if version == 1 else _event_type(before, changes),
            changes=changes,
            user_id=table.user_id,
            actor=None,
            occurred_at=at,
            recorded_at=at,
            created_at=created_at,
            schema_version=SCHEMA_VERSION,
            store_id=store_id,
        )
        before = row.slots


def _changes(before: Mapping[Slot, str], after: Mapping[Slot, str]) -> tuple[RecordedChange, ...]:
    """What turns one row into the next. A call that is new takes along what the row's constraints say of it."""
    changed = {slot: after.get(slot) for slot in before.keys() | after.keys() if before.get(slot) != after.get(slot)}
    planned: Mapping[str, Any] = {}
    if any(field == "tool_call" and text is not None for (field, _), text in changed.items()):
        planned = _definitions(after.get(("constraints", "")))
    changes = []
    for (field, key), text in sorted(changed.items()):
        if field == "tool_call" and text is not None:
            definition = planned.get(decode(text)["name"])
            text = text if definition is None else canonical(definition)
        changes.append(RecordedChange(field, key, text, text is None))
    return tuple(changes)


def _definitions(constraints: str | None) -> dict[str, Any]:
    """The tool calls that constraints list, by name."""
    calls = None if constraints is None else decode(constraints).get("tool_calls")
    listed = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return {call["name"]: call for call in listed if isinstance(call.get("name"), str)}


def _event_type(before: Mapping[Slot, str], changes: Sequence[RecordedChange]) -> str:
    """What the SDK's method for these changes would have called them."""
    singles = {change.field for change in changes} - _OF_CALLS
    calls = [change for change in changes if change.field in _OF_CALLS]
    if not singles:
        return "tool_call.updated" if len({change.key for change in calls}) == 1 else "session.updated"
    only = singles.pop()
    if singles or only not in _OWN_TYPES:
        return "session.updated"
    # New constraints plan tool calls; nothing else changes calls along with a field.
    plans = only == "constraints" and all(
        ("tool_call", change.key) not in before and (change.field == "tool_call" or change.text == '"pending"')
        for change in calls
    )
    return f"{only}.updated" if plans or not calls else "session.updated"


def _micros(value: Any, name: str) -> int:
    """A time as a query gives it, or as an export writes it: ``2025-03-11 10:00:00.123456 UTC``, or RFC 3339."""
    instant = value
    if isinstance(value, str):
        try:
            instant = datetime.fromisoformat(re.sub(r" UTC\Z", "+00:00", value))
        except ValueError:
            raise InvalidInput(f"{name} {value[:70]!r} is no time such as 2025-03-11 10:00:00.123456 UTC.") from None
    if not isinstance(instant, datetime):
        raise InvalidInput(f"{name} must be a time, not {type(value).__name__}.")
    if instant.tzinfo is None:
        raise InvalidInput(
            f"{name} {str(value)!r} has no time zone. BigQuery's times are UTC and its exports say so: add it."
        )
    return to_micros(instant, name)


def _object(value: Any, name: str) -> Any:
    """An object, or the one that JSON text holds, however often it was made text; JSON's null is none."""
    while isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{name} is text that is no JSON: {error}.") from error
    if value is not None and not isinstance(value, dict):
        raise InvalidInput(f"{name} must be an object, or JSON text of one, not {type(value).__name__}.")
    return value


def _strategy(value: Any) -> Any:
    """A strategy: JSON as it is, or what JSON text of an object, array or text holds; other text is itself."""
    while isinstance(value, str):
        try:
            inner = json.loads(value)
            canonical(inner)
        except (ValueError, RecursionError, InvalidInput):
            return value
        if not isinstance(inner, dict | list | str | None):
            return value
        value = inner
    return value


def _array(columns: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = columns.get(name)
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise InvalidInput(f"{name} must be an array, not {type(value).__name__}.")
    return value


def _call_status(word: Any, name: str) -> str:
    status = TOOL_STATUS_WORDS.get(_status_word(word)) if isinstance(word, str) else None
    if status is None:
        raise InvalidInput(
            f"the tool call {name!r} has the status {str(word)[:70]!r}, which is none of {', '.join(TOOL_STATUSES)}, "
            f"nor another word for one ({', '.join(sorted(set(TOOL_STATUS_WORDS) - set(TOOL_STATUSES)))})."
        )
    return status


def _status_word(status: Any) -> Any:
    """A status in the ledger's spelling: ``In Progress`` is ``in_progress``."""
    return "_".join(status.lower().replace("-", " ").split()) if isinstance(status, str) else status

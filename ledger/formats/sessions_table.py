"""Import of a table of sessions that has one full row per update.

Such a table is a common first design in BigQuery. It has the columns of ``COLUMNS``; each update appends a full row,
and the row with the latest ``updated_at`` is the current one. In the import, each row becomes an event, which holds
the differences from the row before it and has the time of the row. A row without differences becomes no event.
So ``get_session(version=k)`` returns the k-th row that differs from the one before it, and ``get_session(at=...)``
returns the row that was current at that time. If a row lacks a value that the row before it has, the event removes it.

Other columns with values become attributes. The id of a tool call is its name, with a number added if the name
occurs earlier in the same row. Calls that one row adds are ordered by id. If a session's id is a UUIDv7, the session's
creation time is the time in the id. Otherwise, it is the earliest ``created_at`` of the session's rows.

Since rows may be in any order, all rows are held in memory until the last is read. Within a session, equal values are
held once, as JSON text.
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
from ledger.model.ids import created_at_of
from ledger.model.instants import from_micros, to_micros
from ledger.model.tool_calls import distinct_ids
from ledger.model.values import canonical, check_session_id, check_text, decode
from ledger.stores.base import EventStore

REQUIRED = ("session_id", "user_id", "question", "status", "created_at", "updated_at")
#: The columns of the table. Columns that are not in ``REQUIRED`` may be missing or NULL; arrays may be empty too.
COLUMNS = (
    *REQUIRED,
    *("constraints", "response_plan", "strategy", "summary", "tool_calls", "tool_call_status", "tool_call_results"),
)
#: The ledger's tool call status for each accepted word. Case is ignored; spaces and hyphens count as ``_``.
TOOL_STATUS_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("pending", "planned", "queued", "scheduled", "waiting", "not_started", "todo"), "pending"),
    **dict.fromkeys(("running", "in_progress", "started", "executing", "processing"), "running"),
    **dict.fromkeys(("completed", "complete", "done", "success", "successful", "succeeded", "finished"), "completed"),
    **dict.fromkeys(("failed", "failure", "error", "errored"), "failed"),
}
#: Namespace of the UUIDv5 event ids that this module generates.
_ROWS = uuid.UUID("0193a5b1-7c55-7d0e-9f5e-3a1f0c2b7d65")
_OF_CALLS = frozenset(("tool_call", "tool_call_status", "tool_call_result"))
_OWN_TYPES = frozenset(("constraints", "response_plan", "strategy", "summary"))
#: Rank of each status, for sorting rows with the same ``updated_at`` and the same number of values. Others have rank 0.
_PROGRESS = {'"running"': 1, '"completed"': 2, '"failed"': 2}

Slot = tuple[str, str]


class LineRow(dict[str, Any]):
    """A row as a dict of column to value, with its line number."""

    def __init__(self, columns: Mapping[str, Any], line: int) -> None:
        super().__init__(columns)
        self.line = line


def import_rows(
    store: EventStore,
    rows: Iterable[Mapping[str, Any]],
) -> Imported:
    """Record the sessions of a table with their whole history. Events that are recorded already are skipped.

    Importing a later export of the same table appends its new rows. They must be later than the recorded rows of their
    session, and the session must have no other events in the ledger.

    Args:
        rows: All rows of the sessions, in any order, from ``rows_of_lines`` or from the result of a query. All rows are
            read before anything is written.

    Raises:
        InvalidInput: A row is invalid. The message begins with the row's line; nothing was written.
        InvalidInput, ValueTooLarge, WrongExpectedVersion: A session cannot be recorded. The message names the session,
            of which nothing was written. Sessions before it may be recorded; importing corrected rows adds the rest.
    """
    return record(store, events_of_rows(rows, store_id=store.store_id), differences=True)


def rows_of_lines(lines: Iterable[bytes], *, seen: Callable[[bytes], object] = lambda line: None) -> Iterator[LineRow]:
    """Yield the rows of a BigQuery export in JSON Lines; blank lines are skipped.

    Args:
        seen: Called with each line as it is read, to display progress.

    Raises:
        InvalidInput: A line is not a JSON object; the message begins with its number.
    """
    for number, line in enumerate(lines, 1):
        seen(line)
        if not line.strip():
            continue
        try:
            columns = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"Line {number}: invalid JSON: {error}.") from error
        if not isinstance(columns, dict):
            raise InvalidInput(
                f"Line {number}: a row must be an object of column to value, not {type(columns).__name__}."
            )
        yield LineRow(columns, number)


def events_of_rows(rows: Iterable[Mapping[str, Any]], *, store_id: str = "") -> Iterator[SessionEvents]:
    """Yield the events of each session of a table, oldest session first. Rows may be repeated, and in any order.

    Args:
        rows: Values by column. A JSON column holds an object, or the object's JSON text. ``strategy`` may hold any
            value. Text in ``strategy`` is decoded if it is a JSON object, array, string or null. Other text, such as
            Markdown, is kept as it is. Times are timezone-aware datetimes, or text that ends with UTC or an offset.
        store_id: Id of the store that will record the events.

    Raises:
        InvalidInput: A row is invalid, or a session has two owners; the message begins with the line.
        ValueTooLarge: The differences of a row exceed the limit of an event.
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
    """A row: its time, and its values by register as JSON text. Its id is derived from session id, time and values."""

    row_id: str
    where: str
    updated_at: int
    slots: Mapping[Slot, str]

    @property
    def sort_key(self) -> tuple[int, int, int, str]:
        """Key that sorts rows by time, and rows of the same time from the least to the most advanced.

        A row is more advanced if it has more values or, with as many values, if its statuses have a higher rank in sum.
        """
        progress = sum(
            _PROGRESS.get(text, 0) for (field, _), text in self.slots.items() if field in ("status", "tool_call_status")
        )
        return self.updated_at, len(self.slots), progress, self.row_id


class _Table:
    """The distinct rows of one session."""

    def __init__(self, user_id: str, created_at: int, where: str) -> None:
        self.user_id = user_id
        self.created_at = created_at
        self.where = where
        self.rows: dict[str, _Row] = {}
        self._texts: dict[str, str] = {}

    def add(self, row: _Row) -> None:
        if row.row_id not in self.rows:
            # Full rows repeat most values, so equal texts are shared.
            shared = {slot: self._texts.setdefault(text, text) for slot, text in row.slots.items()}
            self.rows[row.row_id] = replace(row, slots=shared)


def _add(tables: dict[str, _Table], row: Mapping[str, Any], where: str) -> None:
    """Add a row to the table of its session. Create the table if there is none yet."""
    try:
        columns = dict(row)  # BigQuery rows are not Mappings, but dict() accepts them
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
                f"it belongs to {user_id!r} here and to {table.user_id!r} on {table.where.lower()}. A session "
                "has one owner: correct the rows, or give one of the two sessions another id."
            )
    except LedgerError as error:
        locate(error, f"session {session_id}")
        raise
    table.created_at = min(table.created_at, created_at)
    # The id of a row, and of its event, depends on its content only, not on its position: it is the same if an export
    # adds or omits other rows, and in every form of export.
    content = canonical([session_id, updated_at, [[*slot, slots[slot]] for slot in sorted(slots)]])
    table.add(_Row(str(uuid.uuid5(_ROWS, content)), where, updated_at, slots))


def _slots(columns: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield a field, a key and a value for each register that a row sets."""
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
    if statuses and len(statuses) != len(names):  # empty means that no status was recorded yet
        raise InvalidInput(
            f"tool_calls has {len(names)} entries and tool_call_status has {len(statuses)}; they must have the "
            "same length."
        )
    checked = [check_text(name, f"tool_calls[{index}]") for index, name in enumerate(names)]
    for index, (key, name) in enumerate(zip(distinct_ids(checked), checked, strict=True)):
        yield "tool_call", key, {"name": name}
        if statuses:
            yield "tool_call_status", key, _call_status(statuses[index], name)


def _events(session_id: str, table: _Table, store_id: str) -> Iterator[RecordedEvent]:
    """Yield an event for each row that differs from the one before it. The first row always becomes an event."""
    created_at = created_at_of(session_id) or from_micros(table.created_at)
    before: Mapping[Slot, str] = {}
    version = 0
    for row in sorted(table.rows.values(), key=lambda row: row.sort_key):
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
    """Return the differences between two rows. A new tool call gets its definition from the constraints, if any."""
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
    """Return the definitions of tool calls that the constraints contain, by name of the call."""
    calls = None if constraints is None else decode(constraints).get("tool_calls")
    listed = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return {call["name"]: call for call in listed if isinstance(call.get("name"), str)}


def _event_type(before: Mapping[Slot, str], changes: Sequence[RecordedChange]) -> str:
    """Return the event type that the SDK uses for these changes."""
    singles = {change.field for change in changes} - _OF_CALLS
    calls = [change for change in changes if change.field in _OF_CALLS]
    if not singles:
        return "tool_call.updated" if len({change.key for change in calls}) == 1 else "session.updated"
    only = singles.pop()
    if singles or only not in _OWN_TYPES:
        return "session.updated"
    # New constraints plan tool calls; no other update combines a field with calls.
    plans = only == "constraints" and all(
        ("tool_call", change.key) not in before and (change.field == "tool_call" or change.text == '"pending"')
        for change in calls
    )
    return f"{only}.updated" if plans or not calls else "session.updated"


def _micros(value: Any, name: str) -> int:
    """Return a time in microseconds from a datetime or from text: ``2025-03-11 10:00:00.123456 UTC``, or RFC 3339."""
    instant = value
    if isinstance(value, str):
        try:
            instant = datetime.fromisoformat(re.sub(r" UTC\Z", "+00:00", value))
        except ValueError:
            raise InvalidInput(f"{name} {value[:70]!r} is not a time such as 2025-03-11 10:00:00.123456 UTC.") from None
    if not isinstance(instant, datetime):
        raise InvalidInput(f"{name} must be a time, not {type(value).__name__}.")
    if instant.tzinfo is None:
        raise InvalidInput(
            f"{name} {str(value)!r} has no time zone. Times in BigQuery are UTC, and its exports include that: add it."
        )
    return to_micros(instant, name)


def _object(value: Any, name: str) -> Any:
    """Return a JSON object; None for null. JSON text is decoded, even if it was encoded several times."""
    while isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{name} is not valid JSON text: {error}.") from error
    if value is not None and not isinstance(value, dict):
        raise InvalidInput(f"{name} must be an object, or an object as JSON text, not {type(value).__name__}.")
    return value


def _strategy(value: Any) -> Any:
    """Return a strategy. JSON text of an object, array, string or null is decoded; all else is returned unchanged."""
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
            f"the tool call {name!r} has the status {str(word)[:70]!r}, which is not one of "
            f"{', '.join(TOOL_STATUSES)}, nor a synonym "
            f"({', '.join(sorted(set(TOOL_STATUS_WORDS) - set(TOOL_STATUSES)))})."
        )
    return status


def _status_word(status: Any) -> Any:
    """Return a status in the ledger's spelling: ``In Progress`` becomes ``in_progress``."""
    return "_".join(status.lower().replace("-", " ").split()) if isinstance(status, str) else status

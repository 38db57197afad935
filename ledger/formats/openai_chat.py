"""Import of recorded runs in the OpenAI chat format as sessions.

A run is a list of messages, or an object with such a list under ``messages`` or ``traj``. Other keys of the object are
kept: texts, numbers and booleans as attributes, objects and arrays as results. A run becomes one event for its start,
one for each message and one for its end. A message's event also holds the tool calls that the message plans
or answers.

All ids are derived from the run, so importing it again adds nothing, and an interrupted import can be continued.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ledger.clock import Clock, utc_now
from ledger.errors import InvalidInput, LedgerError
from ledger.formats.events import Imported
from ledger.formats.recording import SessionEvents, locate, record
from ledger.model.events import SCHEMA_VERSION, Change, NewEvent, RecordedChange, RecordedEvent, prepare
from ledger.model.ids import created_at_for
from ledger.model.instants import from_micros, to_micros
from ledger.model.values import canonical
from ledger.stores.base import EventStore

#: Owner of a run that names no user.
DEFAULT_USER = "imported"
#: Prefix of an answer that reports the failure of a tool. Agent frameworks use it by custom. In the recorded runs that
#: were examined, all such answers begin with it, and no other answers do.
FAILED = "Error:"
#: Namespace of the UUIDv5 session ids that this module generates.
_RUNS = uuid.UUID("0193a5b1-7c55-7d0e-9f5e-3a1f0c2b7d64")


class _Loose(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class Function(_Loose):
    """The function of a tool call. ``arguments`` is usually JSON text, as models write it."""

    name: str
    arguments: Any = None


class Call(_Loose):
    """A tool call of an assistant message."""

    id: str
    function: Function


class ChatMessage(_Loose):
    """One message. Keys other than the fields of this model are kept as metadata."""

    role: str
    content: Any = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class Run(_Loose):
    """One recorded run. Keys other than ``messages`` are kept as attributes and results."""

    messages: list[ChatMessage]


def import_runs(
    store: EventStore,
    lines: Iterable[bytes],
    *,
    user_id: str = DEFAULT_USER,
    seen: Callable[[bytes], object] = lambda line: None,
    clock: Clock = utc_now,
) -> Imported:
    """Record the run of each line as a session. Events that are recorded already are skipped.

    Args:
        lines: One JSON run per line; blank lines are skipped.
        user_id: Owner of runs that name no user.
        seen: Called with each line as it is read, to display progress.
        clock: Function that returns the current time, which becomes the time of the imported events.

    Raises:
        InvalidInput, ValueTooLarge: A line is not a valid run. The message begins with the line's number; nothing of
            the line was written. The runs before it are recorded.
        IdempotencyConflict: A run is recorded already, with other content. The message names the run's line; nothing
            of the run was written. The runs before it are recorded.
    """
    runs = read_runs(lines, user_id=user_id, seen=seen, clock=clock, store_id=store.store_id)
    return record(store, runs)


def read_runs(
    lines: Iterable[bytes],
    *,
    user_id: str = DEFAULT_USER,
    seen: Callable[[bytes], object] = lambda line: None,
    clock: Clock = utc_now,
    store_id: str = "",
) -> Iterator[SessionEvents]:
    """Yield the run of each line as the events of a session; see ``import_runs``.

    Args:
        store_id: Id of the store that will record the events.
    """
    repeats: Counter[str] = Counter()
    for number, line in enumerate(lines, 1):
        seen(line)
        if not line.strip():
            continue
        where = f"Line {number}"
        try:
            run = _parse(line)
            identity = canonical(run, "the run")
            repeats[identity] += 1
            # A run that occurs twice in one input is two sessions; importing the input again finds the same two.
            run_id = uuid.uuid5(_RUNS, f"{repeats[identity]}:{identity}")
            events = events_from_record(run, run_id, user_id=user_id)
            yielded = SessionEvents(str(run_id), where, _recorded(str(run_id), events, clock(), store_id))
        except LedgerError as error:
            locate(error, where)
            raise
        yield yielded


def events_from_record(record: Any, run_id: uuid.UUID, *, user_id: str = DEFAULT_USER) -> list[NewEvent]:
    """Return the events that a run becomes, in order.

    Args:
        record: A list of messages, or an object with such a list under ``messages`` or ``traj``.
        run_id: The session's id. The event ids are derived from it.
        user_id: Owner, if the run names no user.

    Raises:
        InvalidInput: The record is not a run; the message names the part that is wrong.
    """
    run = _validated(record)
    owner = _owner(run) or user_id
    calls = _Calls()
    steps: list[tuple[str, list[Change], str | None]] = [("session.created", _beginning(run), None)]
    for index, message in enumerate(run.messages):
        message_id = f"message-{index + 1:04}"
        changes = calls.planned_by(message, message_id) + calls.answered_by(message)
        call_ids = [change.key for change in changes if change.field == "tool_call_status"]
        steps.append(
            ("message.added", [_message(message, message_id, call_ids, calls), *changes], _actor(message.role))
        )
    steps.append(("session.completed", _end(run), None))
    return [
        NewEvent(event_type, changes, str(uuid.uuid5(run_id, str(index))), actor, user_id=owner)
        for index, (event_type, changes, actor) in enumerate(steps)
    ]


class _Calls:
    """The tool calls of a run so far and, for each call id, a queue of the calls that are not answered yet."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self._open: dict[str, deque[str]] = {}

    def planned_by(self, message: ChatMessage, message_id: str) -> list[Change]:
        changes = []
        for call in message.tool_calls or ():
            key = self._new_key(call.id)
            self.names[key] = call.function.name
            self._open.setdefault(call.id, deque()).append(key)
            definition = {
                "name": call.function.name,
                "arguments": _json_or_text(call.function.arguments),
                "message_id": message_id,
                **({"id": call.id} if key != call.id else {}),
            }
            changes += [Change("tool_call", key, definition), Change("tool_call_status", key, "pending")]
        return changes

    def answered_by(self, message: ChatMessage) -> list[Change]:
        """Return the changes to the tool call that a message answers; an empty list if it answers none.

        The message names the id of a call. If several unanswered calls have this id, the message answers the oldest.
        """
        waiting = self._open.get(message.tool_call_id or "") if message.role == "tool" else None
        if not waiting:
            return []
        key = waiting.popleft()
        text = message.content if isinstance(message.content, str) else ""
        status = "failed" if text.startswith(FAILED) else "completed"
        return [
            Change("tool_call_status", key, status),
            Change("tool_call_result", key, _json_or_text(message.content)),
        ]

    def _new_key(self, call_id: str) -> str:
        """Return a key for a call: its id, with a number added if an earlier call of the run has that id."""
        key, count = call_id, 1
        while key in self.names:
            count += 1
            key = f"{call_id}#{count}"
        return key


def _recorded(session_id: str, events: Iterable[NewEvent], now: datetime, store_id: str) -> tuple[RecordedEvent, ...]:
    """Return events as a store would record them in a new session if all of them occurred at the time ``now``."""
    at = from_micros(to_micros(now))
    created_at = created_at_for(session_id, at)
    prepared = map(prepare, events)
    return tuple(
        RecordedEvent(
            session_id=session_id,
            version=version,
            event_id=event.event_id,
            event_type=event.event_type,
            changes=tuple(RecordedChange(*change) for change in event.changes),
            user_id=event.user_id or "",
            actor=event.actor,
            occurred_at=at,
            recorded_at=at,
            created_at=created_at,
            schema_version=SCHEMA_VERSION,
            store_id=store_id,
        )
        for version, event in enumerate(prepared, 1)
    )


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"invalid JSON: {error}.") from error


def _validated(record: Any) -> Run:
    if isinstance(record, list):
        record = {"messages": record}
    elif isinstance(record, dict) and "messages" not in record and "traj" in record:
        record = {name: value for name, value in record.items() if name != "traj"} | {"messages": record["traj"]}
    try:
        return Run.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the run"
        raise InvalidInput(
            f"not a run in the OpenAI chat format: {where}: {first['msg']}. Pass a list of messages, or an "
            "object with one under 'messages' or 'traj'."
        ) from error


def _owner(run: Run) -> str | None:
    """Return the user that a run names at its top level or in its task; None if it names none."""
    extra = _extra(run)
    info = extra.get("info")
    task = info.get("task") if isinstance(info, dict) else None
    candidates = (extra.get("user_id"), extra.get("user"), task.get("user_id") if isinstance(task, dict) else None)
    return next((name for name in candidates if isinstance(name, str) and name), None)


def _beginning(run: Run) -> list[Change]:
    question = next((_text(message.content) for message in run.messages if message.role == "user"), None)
    changes = [Change("status", "", "active")]
    if question is not None:
        changes.append(Change("question", "", question))
    return changes + [change for change in _extras(run) if not _is_outcome(change)]


def _end(run: Run) -> list[Change]:
    """Return the changes of a run's last event. The status is ``completed`` even if the reward shows a failure."""
    return [Change("status", "", "completed"), *filter(_is_outcome, _extras(run))]


def _is_outcome(change: Change) -> bool:
    return change.field == "result" or change.key == "reward"


def _extras(run: Run) -> list[Change]:
    return [
        Change("result" if isinstance(value, dict | list) else "attribute", name, value)
        for name, value in _extra(run).items()
    ]


def _message(message: ChatMessage, message_id: str, call_ids: Sequence[str], calls: _Calls) -> Change:
    metadata = dict(_extra(message))
    if message.tool_call_id is not None:
        metadata["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        metadata["name"] = message.name
    if call_ids:
        metadata["call_ids"] = list(call_ids)
    value: dict[str, Any] = {"role": message.role, "content": message.content}
    if call_ids:
        value["tools_used"] = list(dict.fromkeys(calls.names[key] for key in call_ids))
    if metadata:
        value["metadata"] = metadata
    return Change("message", message_id, value)


def _actor(role: str) -> str | None:
    """Return the actor of a message with this role; None for a user's message, whose actor is the owner."""
    return None if role == "user" else role


def _text(content: Any) -> str | None:
    """Return the text in a message's content, which is text or a list of parts; None if it contains no text."""
    if isinstance(content, list):
        parts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        return "\n".join(parts) or None
    return content if isinstance(content, str) else None


def _json_or_text(content: Any) -> Any:
    """Return the value of JSON text if a store can represent the value exactly. Return any other content unchanged."""
    if not isinstance(content, str):
        return content
    try:
        value = json.loads(content)
        canonical(value)
    except (ValueError, RecursionError, InvalidInput):
        return content
    return value


def _extra(model: BaseModel) -> Mapping[str, Any]:
    return model.model_extra or {}

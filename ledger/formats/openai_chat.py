"""Import of recorded runs in the OpenAI chat format, and formats like it, as sessions.

A run is a list of messages, or an object with such a list under ``messages``, ``traj`` or ``items``, or a response of
the Responses API, with its items under ``output`` and, before them, ``input``. ``ledger.formats.chat_messages`` reads
the messages. Of the other keys of the object, ``title`` becomes the title; the rest is kept: texts, numbers and
booleans as attributes, objects and arrays as results. A run becomes one event for its start, one for each message and
one for its end. A message's event also holds the tool calls that the message plans or answers, and the model call whose
usage it reports (``ledger.formats.model_usage``).

All ids are derived from the run, so importing it again adds nothing, and an interrupted import can be continued. A run
with an id of its own (one of ``IDS``) becomes the session of this id. A longer export of it extends the session: its
new messages are recorded, and what it says of the run as a whole is recorded again if it differs.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ledger.clock import Clock, utc_now
from ledger.errors import InvalidInput, LedgerError
from ledger.formats.chat_messages import ChatMessage, Message, text_of
from ledger.formats.events import Imported
from ledger.formats.lines import Record, first_item, items, records
from ledger.formats.model_usage import OF_RUN, amounts, model_calls
from ledger.formats.recognition import hint, text_hint
from ledger.formats.recording import SessionEvents, record
from ledger.formats.refusals import Refuse, end_import, locate
from ledger.formats.run_times import END, START, times_of
from ledger.model.events import SCHEMA_VERSION, Change, NewEvent, RecordedChange, RecordedEvent, prepare
from ledger.model.exact_json import decode, plain, repeated_key, value_or_text
from ledger.model.ids import created_at_for
from ledger.model.values import canonical, check_session_id
from ledger.stores.base import EventStore

#: Owner of a run that names no user.
DEFAULT_USER = "imported"
#: Keys under which a run has its own id, as text. The first that is present counts.
IDS = ("session_id", "conversation_id", "thread_id", "run_id", "trace_id", "id")
_LISTS = ("messages", "traj", "items", "output")
#: Keys whose objects are kept as text if a key is repeated in them.
_AS_TEXT = frozenset(("arguments", "args", "input", "output"))
#: Namespace of the UUIDv5 session ids that this module generates.
_RUNS = uuid.UUID("0193a5b1-7c55-7d0e-9f5e-3a1f0c2b7d64")


class _Messages(BaseModel):
    model_config = ConfigDict(strict=True)

    messages: list[ChatMessage]


@dataclass(frozen=True, slots=True)
class _Run:
    """One recorded run. ``extra`` has its other keys, which become attributes and results."""

    messages: list[Message]
    given: list[Any]
    extra: Mapping[str, Any]


def import_runs(
    store: EventStore,
    lines: Iterable[bytes],
    *,
    user_id: str = DEFAULT_USER,
    seen: Callable[[bytes], object] = lambda line: None,
    clock: Clock = utc_now,
    refuse: Refuse = end_import,
) -> Imported:
    """Record the run of each line as a session. Events that are recorded already are skipped.

    Args:
        lines: One JSON run per line; blank lines are skipped. Indented JSON and arrays of runs are accepted too.
        user_id: Owner of runs that name no user.
        seen: Called with each line as it is read, to display progress.
        clock: Function that returns the current time, which becomes the time of events without one.
        refuse: Called with the error of a run that cannot be recorded. By default, it raises the error. If it returns,
            the run is left out, and the import goes on.

    Raises:
        InvalidInput, ValueTooLarge: A line is not a valid run, or a time in it cannot be read. The message begins with
            the line's number; nothing of the line was written. The runs before it are recorded.
        IdempotencyConflict: A run is recorded already, with other content. The message names the run's line; nothing
            of the run was written. The runs before it are recorded.
    """
    runs = read_runs(lines, user_id=user_id, seen=seen, clock=clock, store_id=store.store_id, refuse=refuse)
    return record(store, runs, refuse=refuse)


def read_runs(
    lines: Iterable[bytes],
    *,
    user_id: str = DEFAULT_USER,
    seen: Callable[[bytes], object] = lambda line: None,
    clock: Clock = utc_now,
    store_id: str = "",
    refuse: Refuse = end_import,
) -> Iterator[SessionEvents]:
    """Yield the run of each line as the events of a session; see ``import_runs``.

    Args:
        store_id: Id of the store that will record the events.
    """
    repeats: Counter[str] = Counter()
    for each in _records(lines, seen, refuse):
        try:
            run = _parse(each.text)
            session_id = own_id(run)
            if session_id is None:
                identity = canonical(plain(run), "the run")
                repeats[identity] += 1
                # A run that occurs twice in one input is two sessions; importing the input again finds the same two.
                run_id = uuid.uuid5(_RUNS, f"{repeats[identity]}:{identity}")
            else:
                run_id = uuid.uuid5(_RUNS, f"id:{session_id}")
            checked = _validated(run)
            events = _events(checked, run_id, user_id, own=session_id is not None)
            times = times_of(clock(), checked.extra, [START, *checked.given, END])
            recorded = _recorded(session_id or str(run_id), events, times, store_id)
            successor = None if session_id is None else _message_event_id(run_id, len(checked.messages))
            session = SessionEvents(recorded[0].session_id, each.where, recorded, successor)
        except LedgerError as error:
            locate(error, each.where)
            refuse(error)
            continue
        yield session


def own_id(run: Any) -> str | None:
    """Return the id that a run has under one of ``IDS``; None if it has none that is valid as a session's id."""
    given = (run.get(name) for name in IDS) if isinstance(run, dict) else ()
    found = next((each for each in given if isinstance(each, str) and each), None)
    try:
        return None if found is None else check_session_id(found)
    except InvalidInput:
        return None


def events_from_record(record: Any, run_id: uuid.UUID, *, user_id: str = DEFAULT_USER) -> list[NewEvent]:
    """Return the events that a run becomes, in order.

    Args:
        record: A list of messages, or an object with such a list.
        run_id: The session's id. The event ids are derived from it.
        user_id: Owner, if the run names no user.

    Raises:
        InvalidInput: The record is not a run; the message names the part that is wrong.
    """
    return _events(_validated(record), run_id, user_id, own=False)


def _events(run: _Run, run_id: uuid.UUID, user_id: str, *, own: bool) -> list[NewEvent]:
    """Return the events of a run.

    Args:
        own: True if the run has an id of its own. Then an event's id and content do not depend on the messages after
            it, nor on what may differ in a later export, except for the last event.
    """
    owner = _owner(run) or user_id
    calls = _Calls()
    extras = _extras(run)
    question = next((index for index, it in enumerate(run.messages) if it.role == "user" and text_of(it.content)), None)
    asked = [] if question is None else [Change("question", "", text_of(run.messages[question].content))]
    first = [Change("status", "", "active")]
    messages = {f"message-{number:04}": message for number, message in enumerate(run.messages, 1)}
    used = model_calls(run.extra, {message_id: message.metadata for message_id, message in messages.items()})
    last = [Change("status", "", "completed"), *(change for change in extras if own or _is_outcome(change))]
    last += used.get(OF_RUN, ())
    if not own:
        first += [*asked, *(change for change in extras if not _is_outcome(change))]
    steps: list[tuple[str, list[Change], str | None]] = [("session.created", first, None)]
    for index, (message_id, message) in enumerate(messages.items()):
        changes = calls.changes(message, message_id)
        call_ids = [change.key for change in changes if change.field == "tool_call_status"]
        head = asked if own and index == question else []
        added = [_message(message, message_id, call_ids, calls), *head, *changes, *used.get(message_id, ())]
        steps.append(("message.added", added, _actor(message.role)))
    steps.append(("session.completed", last, None))
    ids = [str(uuid.uuid5(run_id, str(index))) for index in range(len(steps))]
    if own:
        content = canonical({change.key: change.value for change in extras}, "the run")
        ids[-1] = str(uuid.uuid5(run_id, f"end:{len(run.messages)}:{content}"))
    return [
        NewEvent(event_type, changes, event_id, actor, user_id=owner)
        for event_id, (event_type, changes, actor) in zip(ids, steps, strict=True)
    ]


def _message_event_id(run_id: uuid.UUID, index: int) -> str:
    return str(uuid.uuid5(run_id, str(index + 1)))


@dataclass(slots=True)
class _Open:
    """A call that is not answered yet."""

    key: str
    call_id: str | None
    name: str


class _Calls:
    """The tool calls of a run so far, and those that are not answered yet, oldest first."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self._open: list[_Open] = []

    def changes(self, message: Message, message_id: str) -> list[Change]:
        """Return the changes of the calls that a message plans and answers.

        If several unanswered calls have the id or the name that an answer gives, it answers the oldest.
        """
        changes: dict[tuple[str, str], Change] = {}
        for planned in message.planned:
            key = self._new_key(planned.call_id or planned.name)
            self.names[key] = planned.name
            self._open.append(_Open(key, planned.call_id, planned.name))
            definition = {
                "name": planned.name,
                "arguments": value_or_text(planned.arguments),
                "message_id": message_id,
                **({"id": planned.call_id} if planned.call_id not in (None, key) else {}),
            }
            changes["tool_call", key] = Change("tool_call", key, definition)
            changes["tool_call_status", key] = Change("tool_call_status", key, "pending")
        for answer in message.answered:
            answers = self._answered_by(answer.call_id, answer.name)
            if answers is None:
                continue
            status = "failed" if answer.failed else "completed"
            changes["tool_call_status", answers.key] = Change("tool_call_status", answers.key, status)
            if answer.has_result:
                result = Change("tool_call_result", answers.key, value_or_text(answer.content))
                changes["tool_call_result", answers.key] = result
        return list(changes.values())

    def _answered_by(self, call_id: str | None, name: str | None) -> _Open | None:
        """Remove and return the call that an answer names, by its id or else by its name; None if there is none."""
        for index, call in enumerate(self._open):
            if call.call_id == call_id if call_id else name is None or call.name == name:
                return self._open.pop(index)
        return None

    def _new_key(self, call_id: str) -> str:
        """Return a key for a call: its id, with a number added if an earlier call of the run has that id."""
        key, count = call_id, 1
        while key in self.names:
            count += 1
            key = f"{call_id}#{count}"
        return key


def _recorded(
    session_id: str, events: Iterable[NewEvent], times: Sequence[datetime], store_id: str
) -> tuple[RecordedEvent, ...]:
    """Return events as a store would record them in a new session at the given times."""
    prepared = list(map(prepare, events))
    created_at = created_at_for(session_id, times[0])
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
        for version, (event, at) in enumerate(zip(prepared, times, strict=True), 1)
    )


def _records(lines: Iterable[bytes], seen: Callable[[bytes], object], refuse: Refuse) -> Iterator[Record]:
    """Yield the records of an input. An array is one run if its items are messages, or else as many as it has items."""
    for each in records(lines, seen=seen, refuse=refuse):
        if _is_run(first_item(each)):
            yield from items(each)
        else:
            yield each


def _is_run(item: Any) -> bool:
    """Return True if the item of an array is a run, not a message."""
    return isinstance(item, list) or (
        isinstance(item, dict) and "role" not in item and any(isinstance(item.get(name), list) for name in _LISTS)
    )


def _parse(text: bytes) -> Any:
    try:
        return decode(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"invalid JSON: {error}.{text_hint(text, 'openai-chat')}") from error


def _validated(record: Any) -> _Run:
    if (repeated := repeated_key(record, _AS_TEXT)) is not None:
        raise InvalidInput(f"the key {repeated} is repeated, so one of its values would be lost; remove one.")
    given, extra = _listed(record)
    try:
        found = _Messages.model_validate({"messages": given})
        messages = [message.read(f"messages.{index}") for index, message in enumerate(found.messages)]
    except (ValidationError, InvalidInput) as error:
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False, include_input=False)[0]
            reason = f"{'.'.join(map(str, first['loc'])) or 'the run'}: {first['msg']}"
        else:
            reason = str(error).removesuffix(".")
        raise InvalidInput(
            f"not a run in the OpenAI chat format: {reason}. Pass a list of messages, or an "
            f"object with one under 'messages', 'traj', 'items' or 'output'.{hint(record, 'openai-chat')}"
        ) from error
    return _Run(messages, given, extra)


def _listed(record: Any) -> tuple[Any, Mapping[str, Any]]:
    """Return the messages of a run, which are a list if it is valid, and its other keys."""
    if not isinstance(record, dict):
        return record, {}
    name = next((name for name in _LISTS if name in record), "messages")
    given, apart = record.get(name), {name}
    if name == "output" and isinstance(given, list) and isinstance(record.get("input"), str | list):
        asked = record["input"]
        given = [*([{"role": "user", "content": asked}] if isinstance(asked, str) else asked), *given]
        apart.add("input")
    return given, {key: value for key, value in record.items() if key not in apart}


def _owner(run: _Run) -> str | None:
    """Return the user that a run names at its top level or in its task; None if it names none."""
    info = run.extra.get("info")
    task = info.get("task") if isinstance(info, dict) else None
    candidates = (
        run.extra.get("user_id"),
        run.extra.get("user"),
        task.get("user_id") if isinstance(task, dict) else None,
    )
    return next((name for name in candidates if isinstance(name, str) and name), None)


def _is_outcome(change: Change) -> bool:
    return change.field == "result" or change.key == "reward"


def _extras(run: _Run) -> list[Change]:
    return [_extra(name, plain(value)) for name, value in run.extra.items()]


def _extra(name: str, value: Any) -> Change:
    if name == "title" and isinstance(value, str) and value.strip():
        return Change("title", "", value)
    return Change("result" if isinstance(value, dict | list) else "attribute", name, value)


def _message(message: Message, message_id: str, call_ids: Sequence[str], calls: _Calls) -> Change:
    metadata = plain(dict(message.metadata))
    if call_ids:
        metadata["call_ids"] = list(call_ids)
    value: dict[str, Any] = {"role": message.role, "content": plain(message.content)}
    if call_ids:
        value["tools_used"] = list(dict.fromkeys(calls.names[key] for key in call_ids))
    measured = amounts(metadata)
    value |= measured
    metadata = {name: it for name, it in metadata.items() if name not in measured}
    if metadata:
        value["metadata"] = metadata
    return Change("message", message_id, value)


def _actor(role: str) -> str | None:
    """Return the actor of a message with this role; None for a user's message, whose actor is the owner."""
    return None if role == "user" else role

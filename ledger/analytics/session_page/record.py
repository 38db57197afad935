"""One session as a reader follows it: what was said and called, in order, and what each version changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger.model.call_times import CallTimes, call_times
from ledger.model.copying import is_copy
from ledger.model.events import RecordedChange, RecordedEvent
from ledger.model.fold import fold
from ledger.model.session import Message, Session, ToolCall
from ledger.sdk.ledger import SessionLedger


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A call of a language model. ``parts`` are those recorded; None if they were erased."""

    call_id: str
    parts: Mapping[str, Any] | None

    @property
    def failed(self) -> bool:
        """True if an error was recorded."""
        return bool(self.parts and self.parts.get("error"))

    def number(self, part: str) -> float | None:
        """Return a part that is a number from 0 up; None if it is not known."""
        value = (self.parts or {}).get(part)
        return value if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None


@dataclass(frozen=True, slots=True)
class Step:
    """A message or call of a session, with the event that recorded or planned it.

    Attributes:
        item: The message or call.
        version: The version that recorded a message or a model call, or planned a tool call.
        actor: Who did.
        at: When, by the clock of the writer.
        times: Times of a tool call.
        result_erased: True if the result of a tool call was erased.
        is_copy: True if a fork copied it from another session, so that its time is that of the copy.
    """

    item: Message | ToolCall | ModelCall
    version: int
    actor: str | None
    at: datetime
    times: CallTimes | None = None
    result_erased: bool = False
    is_copy: bool = False


@dataclass(frozen=True, slots=True)
class ChangedRegister:
    """A change of an event, and what the register held before; None if it held nothing."""

    change: RecordedChange
    before: RecordedChange | None


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session with its messages, its whole history, and the steps that it has now, in order."""

    session: Session
    events: Sequence[RecordedEvent]
    steps: Sequence[Step]

    @property
    def model_calls(self) -> list[Step]:
        """The calls of language models."""
        return [step for step in self.steps if isinstance(step.item, ModelCall)]

    @property
    def tool_calls(self) -> list[Step]:
        """The tool calls."""
        return [step for step in self.steps if isinstance(step.item, ToolCall)]

    def total(self, part: str) -> float | None:
        """Return the sum of a part of the model calls that the session made itself; None if none is known."""
        made = (it.item for it in self.model_calls if not it.is_copy)
        known = [call.number(part) for call in made if isinstance(call, ModelCall)]
        numbers = [number for number in known if number is not None]
        return sum(numbers) if numbers else None

    def versions(self) -> Iterator[tuple[RecordedEvent, list[ChangedRegister]]]:
        """Yield each event, oldest first, with its changes beside what they replaced."""
        held: dict[tuple[str, str], RecordedChange] = {}
        for event in self.events:
            yield event, [ChangedRegister(it, held.get((it.field, it.key))) for it in event.changes]
            for change in event.changes:
                if change.removed:
                    held.pop((change.field, change.key), None)
                else:
                    held[change.field, change.key] = change


def read_record(ledger: SessionLedger, session_id: str) -> SessionRecord:
    """Read a session and its history up to the session's version.

    Raises:
        SessionNotFound: The session does not exist.
        CorruptEvent, UpcastMissing: A row cannot be read.
    """
    session = ledger.require_session(session_id, messages=True)
    events = [event for event in ledger.history(session_id) if event.version <= session.version]
    return SessionRecord(session, events, _steps(session, events))


def _steps(session: Session, events: Sequence[RecordedEvent]) -> list[Step]:
    state, times = fold(events), call_times(events)
    by_id = {event.event_id: event for event in events}
    copies = _copies(events)
    steps = []
    for message in session.messages:
        is_copied = ("message", message.message_id) in copies
        steps.append(Step(message, message.version, message.actor, message.occurred_at, is_copy=is_copied))
    for (field, key), held in state.items():
        if field == "model_call":
            event, made = by_id[held.event_id], ModelCall(key, held.value)
            is_copied = (field, key) in copies
            steps.append(Step(made, held.version, event.actor, event.occurred_at, is_copy=is_copied))
    for call in session.calls:
        written = state.get(("tool_call", call.call_id)) or state.get(("tool_call_status", call.call_id))
        if written is None:  # in BigQuery, another writer may have added to the last version between both reads
            continue
        event, of_call = by_id[written.event_id], times.get(call.call_id)
        result = state.get(("tool_call_result", call.call_id))
        erased, is_copied = result is not None and result.text is None, ("tool_call", call.call_id) in copies
        steps.append(Step(call, written.version, event.actor, event.occurred_at, of_call, erased, is_copied))
    return sorted(steps, key=_place)


def _copies(events: Iterable[RecordedEvent]) -> set[tuple[str, str]]:
    """Return the items that a fork copied: those whose first write is a copy's, as ``session_items`` has it.

    A call is one item, whichever of its fields was written first.
    """
    first: dict[tuple[str, str], RecordedEvent] = {}
    for event in events:
        for change in event.changes:
            field = "tool_call" if change.field.startswith("tool_call") else change.field
            if not change.removed:
                first.setdefault((field, change.key), event)
    return {item for item, event in first.items() if is_copy(event)}


def _place(step: Step) -> tuple[int, int, str]:
    """Return the sort key: by version; in one version messages, then tool calls, then model calls."""
    if isinstance(step.item, Message):
        return step.version, 0, step.item.message_id
    return step.version, 1 if isinstance(step.item, ToolCall) else 2, step.item.call_id

"""The turns of a session: who asked, which models and tools were called, and what was answered, by its events.

A message of the role user begins a turn. The question of a session that does not begin with a message of a user counts
as that message, and the summary of one without answers counts as the answer. What happened stays, also if a rewind took
it back later; what a fork copied from another session is left out. An item has the time of its first write and the
values of its last one. What a rewind itself writes is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ledger.model.copying import REWIND_TYPES, is_copy
from ledger.model.events import RecordedEvent
from ledger.model.tool_calls import ANSWERED

#: What an item is in its turn.
Kind = Literal["user", "answer", "model_call", "tool_call", "error"]
_CALL = ("tool_call", "tool_call_status", "tool_call_result")
_FIELDS = ("message", "model_call", "question", "summary", "error", *_CALL)


@dataclass(slots=True)
class Item:
    """A message, a model call, an attempt of a tool call, or the error of a session.

    Attributes:
        item_type: Its field: message, model_call, tool_call, error, question or summary.
        key: Its key, such as a message id; empty for fields without keys.
        attempt: Number of attempts of a tool call before this one; 0 for other items.
        first: The event that wrote it first.
        value: Its last value; of a tool call, what was planned last. None if it was erased.
        kind: What it is in its turn; empty if it is not told.
        turn: Number of the turn, from 1; 0 before the first message of a user.
        invocation_id: The message that began the turn; else the session's id.
        status, result: The last status and result of an attempt.
        started_at, finished_at: When an attempt was running, or else pending; when it was completed or failed.
    """

    item_type: str
    key: str
    attempt: int
    first: RecordedEvent
    value: Any = None
    kind: Kind | Literal[""] = ""
    turn: int = 0
    invocation_id: str = ""
    status: str | None = None
    result: Any = None
    moves: list[tuple[str, datetime]] = field(default_factory=list)

    @property
    def parts(self) -> dict[str, Any]:
        """The value if it is an object, else an empty one."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def said(self) -> Any:
        """What a message says: text, or a list of parts."""
        return self.parts.get("content") if self.item_type == "message" else self.value

    @property
    def text(self) -> str | None:
        """What a message says, as text: the lines of its parts that are text; None if it has none."""
        if isinstance(self.said, str):
            return self.said
        parts = self.said if isinstance(self.said, list) else []
        texts = [text for part in parts if (text := text_of_part(part)) is not None]
        return "\n".join(texts) if texts else None

    @property
    def started_at(self) -> datetime:
        running = self._at("running") or self._at("pending")
        return min(running, default=self.first.occurred_at)

    @property
    def finished_at(self) -> datetime | None:
        return max(self._at(*ANSWERED), default=None)

    @property
    def position(self) -> tuple[Any, ...]:
        """The order of items: that of the events that wrote them first."""
        return self.first.version, self.first.event_id, self.item_type, self.key, self.attempt

    def _at(self, *statuses: str) -> list[datetime]:
        return [at for status, at in self.moves if status in statuses]


def text_of_part(part: Any) -> str | None:
    """Return the text of a part of a message; None if it has none."""
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else None


def turns(events: Iterable[RecordedEvent]) -> list[Item]:
    """Return the items of a session's turns, in the order in which they were first written.

    Args:
        events: All events of the session, each once, in order.
    """
    items = [item for item in _items(events) if not is_copy(item.first)]
    items.sort(key=lambda item: item.position)
    roles = [_role(item) for item in items]
    first_role = next((role for role in roles if role in ("user", "assistant")), None)
    told = []
    turn, invocation_id = 0, ""
    for item, role in zip(items, roles, strict=True):
        if role == "user" or (item.item_type == "question" and first_role != "user"):
            item.kind, turn, invocation_id = "user", turn + 1, item.key
        elif role == "assistant" or (item.item_type == "summary" and "assistant" not in roles):
            item.kind = "answer"
        elif item.item_type == "model_call":
            item.kind = "model_call"
        elif item.item_type == "error":
            item.kind = "error"
        elif item.item_type == "tool_call" and item.status in ("running", *ANSWERED):
            item.kind = "tool_call"
        item.turn, item.invocation_id = turn, invocation_id or item.first.session_id
        if item.kind:
            told.append(item)
    return told


def _role(item: Item) -> Any:
    return item.parts.get("role") if item.item_type == "message" else None


def _items(events: Iterable[RecordedEvent]) -> list[Item]:
    items: dict[tuple[str, str, int], Item] = {}
    statuses: dict[str, str | None] = {}
    attempts: dict[str, int] = {}
    definitions: dict[str, Any] = {}
    for event in events:
        if event.event_type in REWIND_TYPES:
            continue
        moved = set()
        for change in event.changes:
            if change.field == "tool_call_status":
                earlier = statuses.get(change.key)
                if change.value != earlier:
                    moved.add(change.key)
                    # A call that gets another status after it ended begins another attempt.
                    is_again = change.value is not None and earlier in ANSWERED
                    attempts[change.key] = attempts.get(change.key, 0) + is_again
                statuses[change.key] = change.value
        for change in event.changes:
            if change.removed or change.field not in _FIELDS:
                continue
            is_call = change.field in _CALL
            place = ("tool_call", change.key, attempts.get(change.key, 0)) if is_call else (change.field, change.key, 0)
            item = items.setdefault(place, Item(*place, event))
            if change.field == "tool_call_status":
                item.status = change.value
                if change.key in moved:
                    item.moves.append((change.value, event.occurred_at))
            elif change.field == "tool_call_result":
                item.result = change.value
            elif is_call:
                definitions[change.key] = change.value
            else:
                item.value = change.value
    for item in items.values():
        if item.item_type == "tool_call":
            item.value = definitions.get(item.key)
    return list(items.values())

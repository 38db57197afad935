"""The reference model of ``agent_events``, computed from all events of a session."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import md5
from typing import Any

from ledger.model.copying import REWIND_TYPES
from ledger.model.events import RecordedChange, RecordedEvent
from ledger.model.values import canonical
from ledger.testing.activity import in_order, is_copy, text_of

_FIELDS = ("message", "model_call", "question", "summary", "error")
_CALL = ("tool_call", "tool_call_status", "tool_call_result")
_ENDED = ("completed", "failed")
_OF_TURN = ("INVOCATION_STARTING", "AGENT_STARTING", "AGENT_COMPLETED", "INVOCATION_COMPLETED")
#: Durations above 30 days are no reason to look for a request before its answer.
_LONGEST_MS = 30 * 86_400_000
_LARGEST_TOKENS = 2**62 - 1


@dataclass(slots=True)
class _Item:
    """A message, model call, attempt of a tool call ... with its first event and its last values."""

    kind: str
    key: str
    attempt: int
    first: RecordedEvent
    value: Any = None
    status: str | None = None
    result: Any = None
    moves: list[tuple[str | None, datetime]] = field(default_factory=list)
    is_user: bool = False
    is_answer: bool = False
    turn: int = 0

    def at(self, *statuses: str) -> list[datetime]:
        return [at for status, at in self.moves if status in statuses]

    @property
    def part(self) -> dict[str, Any]:
        return self.value if isinstance(self.value, dict) else {}

    @property
    def said(self) -> Any:
        return self.part.get("content") if self.kind == "message" else self.value

    @property
    def text(self) -> str | None:
        if isinstance(self.said, str):
            return self.said
        texts = [_text_of_part(part) for part in self.said] if isinstance(self.said, list) else []
        known = [text for text in texts if text is not None]
        return "\n".join(known) if known else None

    @property
    def place(self) -> tuple[Any, ...]:
        return self.first.version, self.first.event_id, self.kind, self.key, self.attempt


def agent_events(events: Iterable[RecordedEvent]) -> list[dict[str, Any]]:
    """Return the rows of ``agent_events`` of one session, each with all columns."""
    items = sorted((item for item in _items(in_order(events)) if not is_copy(item.first)), key=lambda it: it.place)
    roles = [item.part.get("role") for item in items if item.kind == "message"]
    first_role = next((role for role in roles if role in ("user", "assistant")), None)
    for item in items:
        role = item.part.get("role") if item.kind == "message" else None
        item.is_user = role == "user" or (item.kind == "question" and first_role != "user")
        item.is_answer = role == "assistant" or (item.kind == "summary" and "assistant" not in roles)
    told = [item for item in items if _is_told(item)]
    turn = 0
    for item in told:
        turn += item.is_user
        item.turn = turn
    return [row for item in told for row in _rows(item, [it for it in told if it.turn == item.turn], told)]


def _is_told(item: _Item) -> bool:
    if item.kind == "tool_call":
        return item.status in ("running", *_ENDED)
    return item.is_user or item.is_answer or item.kind in ("model_call", "error")


def _items(ordered: Sequence[RecordedEvent]) -> list[_Item]:
    found: dict[tuple[str, str, int], _Item] = {}
    statuses: dict[str, str | None] = {}
    attempts: dict[str, int] = {}
    definitions: dict[str, Any] = {}
    for event in ordered:
        if event.event_type in REWIND_TYPES:
            continue
        changes = sorted(event.changes, key=lambda change: change.field)
        before = dict(statuses)
        for change in changes:
            if change.field == "tool_call_status":
                is_again = change.value not in (None, statuses.get(change.key)) and statuses.get(change.key) in _ENDED
                attempts[change.key] = attempts.get(change.key, 0) + is_again
                statuses[change.key] = change.value
        for change in changes:
            if change.removed or change.field not in (*_FIELDS, *_CALL):
                continue
            kind = "tool_call" if change.field in _CALL else change.field
            attempt = attempts.get(change.key, 0) if kind == "tool_call" else 0
            item = found.setdefault((kind, change.key, attempt), _Item(kind, change.key, attempt, event))
            _write(item, event, change, before.get(change.key))
            if change.field == "tool_call":
                definitions[change.key] = change.value
    for item in found.values():
        if item.kind == "tool_call":
            item.value = definitions.get(item.key)
    return list(found.values())


def _write(item: _Item, event: RecordedEvent, change: RecordedChange, status_before: str | None) -> None:
    if change.field == "tool_call_status":
        item.status = change.value
        if change.value != status_before:
            item.moves.append((change.value, event.occurred_at))
    elif change.field == "tool_call_result":
        item.result = change.value
    else:
        item.value = change.value


def _rows(item: _Item, turn: Sequence[_Item], told: Sequence[_Item]) -> list[dict[str, Any]]:
    first = item.first
    opening = next((it.key for it in turn if it.is_user), "")
    trace = _hash(first.session_id, str(item.turn))
    answers = [it for it in turn if it.is_answer]
    rows = []
    for event_type in _types(item, is_last=bool(answers) and answers[-1] is item):
        timestamp, total_ms = _times(item, event_type, turn)
        parts = (first.event_id, item.kind, *([item.key] if item.key else []), event_type)
        rows.append(
            {
                "timestamp": timestamp,
                "event_id": "/".join(parts),
                "event_type": event_type,
                "agent": first.actor,
                "session_id": first.session_id,
                "invocation_id": opening or first.session_id,
                "user_id": first.user_id,
                "trace_id": trace,
                "span_id": trace[:16]
                if event_type in _OF_TURN
                else _hash(first.session_id, item.kind, item.key, str(item.attempt))[:16],
                "parent_span_id": None if event_type in _OF_TURN else trace[:16],
                "content": _content(item, event_type, told),
                "content_parts": _parts(item.said) if event_type in ("USER_MESSAGE_RECEIVED", "AGENT_RESPONSE") else [],
                "attributes": _attributes(item, event_type),
                "latency_ms": _latency(item, total_ms),
                "status": "ERROR" if event_type in ("TOOL_ERROR", "LLM_ERROR", "AGENT_ERROR") else "OK",
                "error_message": _error_message(item, event_type),
                "is_truncated": False,
            }
        )
    return rows


def _hash(*parts: str) -> str:
    return md5("/".join(parts).encode(), usedforsecurity=False).hexdigest()


def _types(item: _Item, *, is_last: bool) -> list[str]:
    if item.is_user:
        return ["INVOCATION_STARTING", "AGENT_STARTING", "USER_MESSAGE_RECEIVED"]
    if item.is_answer:
        return ["AGENT_RESPONSE", *(["AGENT_COMPLETED", "INVOCATION_COMPLETED"] if is_last else [])]
    if item.kind == "model_call":
        return ["LLM_REQUEST", "LLM_RESPONSE" if item.part.get("error") in (None, False) else "LLM_ERROR"]
    if item.kind == "tool_call":
        end = {"completed": ["TOOL_COMPLETED"], "failed": ["TOOL_ERROR"]}
        return ["TOOL_STARTING", *end.get(item.status or "", [])]
    return ["AGENT_ERROR"]


def _times(item: _Item, event_type: str, turn: Sequence[_Item]) -> tuple[datetime, int | None]:
    """Return the time of an event and how long what it ends took, in milliseconds."""
    at = item.first.occurred_at
    if item.kind == "tool_call":
        started = min(item.at("running"), default=min(item.at("pending"), default=at))
        finished = max(item.at(*_ENDED), default=None)
        if event_type == "TOOL_STARTING":
            return started, None
        return finished or at, None if finished is None else _milliseconds(finished - started)
    if item.kind == "model_call":
        duration = item.part.get("duration_ms")
        if event_type != "LLM_REQUEST":
            return at, None if duration is None else _rounded(duration)
        if duration is not None and 0 <= duration <= _LONGEST_MS:
            return at - timedelta(microseconds=_rounded(duration * 1000)), None
        return at, None
    if event_type in ("AGENT_COMPLETED", "INVOCATION_COMPLETED"):
        return at, _milliseconds(at - min(it.first.occurred_at for it in turn))
    return at, None


def _milliseconds(taken: timedelta) -> int:
    """Return whole milliseconds, cut towards zero as TIMESTAMP_DIFF does."""
    return math.trunc(taken / timedelta(microseconds=1) / 1000)


def _rounded(number: float) -> int:
    return math.floor(number + 0.5)


def _content(item: _Item, event_type: str, told: Sequence[_Item]) -> Any:
    if event_type == "USER_MESSAGE_RECEIVED":
        return {"text_summary": item.text}
    if event_type in ("AGENT_RESPONSE", "AGENT_COMPLETED"):
        return {"response": item.text}
    if event_type in ("LLM_RESPONSE", "LLM_ERROR"):
        linked = item.part.get("message_id")
        texts = [it.text for it in told if it.kind == "message" and it.key == linked]
        prompt, completion = item.part.get("input_tokens"), item.part.get("output_tokens")
        usage = {"prompt": prompt, "completion": completion, "total": _total(item)}
        return {"response": texts[0] if texts else None, "usage": usage}
    call = {"tool": _tool(item), "args": item.part.get("arguments")}
    if event_type == "TOOL_STARTING":
        return call
    if item.kind == "tool_call":
        return call | {"result": item.result}
    return {"error": item.value} if event_type == "AGENT_ERROR" else None


def _tool(item: _Item) -> str:
    name = text_of(item.part.get("name"))
    return item.key if name is None else name


def _total(item: _Item) -> int | None:
    given, made = item.part.get("input_tokens"), item.part.get("output_tokens")
    if given is None or made is None or max(given, made) > _LARGEST_TOKENS:
        return None
    return int(given + made)


def _text_of_part(part: Any) -> str | None:
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else None


def _parts(said: Any) -> list[dict[str, Any]]:
    contents = [{"text": said}] if isinstance(said, str) else said if isinstance(said, list) else []
    return [
        {
            "mime_type": None if _text_of_part(part) is None else "text/plain",
            "uri": None,
            "object_ref": None,
            "text": _text_of_part(part),
            "part_index": index,
            "part_attributes": canonical(part) if _text_of_part(part) is None else "{}",
            "storage_mode": "INLINE",
        }
        for index, part in enumerate(contents)
    ]


def _attributes(item: _Item, event_type: str) -> dict[str, Any]:
    first = item.first
    place = {"event_id": first.event_id, "version": first.version, "item_type": item.kind, "item_id": item.key}
    if item.kind != "model_call":
        return {"ledger": place}
    part = item.part
    if event_type == "LLM_REQUEST":
        return {"ledger": place, "model": text_of(part.get("model"))}
    cost = part.get("cost_usd")
    return {
        "ledger": place,
        **{name: text_of(part.get(name)) for name in ("model", "provider", "finish_reason")},
        "model_version": text_of(part.get("model")),
        "usage_metadata": {
            "prompt_token_count": part.get("input_tokens"),
            "candidates_token_count": part.get("output_tokens"),
            "total_token_count": _total(item),
            "cached_content_token_count": part.get("cached_input_tokens"),
            "thoughts_token_count": part.get("reasoning_tokens"),
        },
        "cost_usd": None if cost is None else float(cost),
    }


def _latency(item: _Item, total_ms: int | None) -> dict[str, Any] | None:
    if total_ms is None or total_ms < 0:
        return None
    first_token = item.part.get("time_to_first_token_ms") if item.kind == "model_call" else None
    return {"total_ms": total_ms, "time_to_first_token_ms": None if first_token is None else _rounded(first_token)}


def _error_message(item: _Item, event_type: str) -> str | None:
    if item.kind == "error":
        return _message_of(item.value, "message")
    if event_type == "LLM_ERROR":
        return _message_of(item.part.get("error"), "message")
    return _message_of(item.result, "message", "error") if event_type == "TOOL_ERROR" else None


def _message_of(value: Any, *names: str) -> str | None:
    about = value if isinstance(value, dict) else {}
    texts = [*(text_of(about.get(name)) for name in names), text_of(value)]
    return next((text for text in texts if text is not None), None)

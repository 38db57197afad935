"""The reference model of ``agent_events``: the rows of a session's turns, which ``ledger.model.turns`` finds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from hashlib import md5
from typing import Any

from ledger.model.events import RecordedEvent
from ledger.model.turns import Item, text_of_part, turns
from ledger.model.values import canonical
from ledger.testing.activity import in_order, text_of

_OF_TURN = ("INVOCATION_STARTING", "AGENT_STARTING", "AGENT_COMPLETED", "INVOCATION_COMPLETED")
#: Durations above 30 days are no reason to look for a request before its answer.
_LONGEST_MS = 30 * 86_400_000
_LARGEST_TOKENS = 2**62 - 1


def agent_events(events: Iterable[RecordedEvent]) -> list[dict[str, Any]]:
    """Return the rows of ``agent_events`` of one session, each with all columns."""
    told = turns(in_order(events))
    return [row for item in told for row in _rows(item, [it for it in told if it.turn == item.turn], told)]


def _rows(item: Item, turn: Sequence[Item], told: Sequence[Item]) -> list[dict[str, Any]]:
    first = item.first
    trace = _hash(first.session_id, str(item.turn))
    answers = [it for it in turn if it.kind == "answer"]
    rows = []
    for event_type in _types(item, is_last=bool(answers) and answers[-1] is item):
        timestamp, total_ms = _times(item, event_type, turn)
        parts = (first.event_id, item.item_type, *([item.key] if item.key else []), event_type)
        rows.append(
            {
                "timestamp": timestamp,
                "event_id": "/".join(parts),
                "event_type": event_type,
                "agent": first.actor,
                "session_id": first.session_id,
                "invocation_id": item.invocation_id,
                "user_id": first.user_id,
                "trace_id": trace,
                "span_id": trace[:16]
                if event_type in _OF_TURN
                else _hash(first.session_id, item.item_type, item.key, str(item.attempt))[:16],
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


def _types(item: Item, *, is_last: bool) -> list[str]:
    if item.kind == "user":
        return ["INVOCATION_STARTING", "AGENT_STARTING", "USER_MESSAGE_RECEIVED"]
    if item.kind == "answer":
        return ["AGENT_RESPONSE", *(["AGENT_COMPLETED", "INVOCATION_COMPLETED"] if is_last else [])]
    if item.kind == "model_call":
        return ["LLM_REQUEST", "LLM_RESPONSE" if item.parts.get("error") in (None, False) else "LLM_ERROR"]
    if item.kind == "tool_call":
        end = {"completed": ["TOOL_COMPLETED"], "failed": ["TOOL_ERROR"]}
        return ["TOOL_STARTING", *end.get(item.status or "", [])]
    return ["AGENT_ERROR"]


def _times(item: Item, event_type: str, turn: Sequence[Item]) -> tuple[datetime, int | None]:
    """Return the time of an event and how long what it ends took, in milliseconds."""
    at = item.first.occurred_at
    if item.kind == "tool_call":
        started, finished = item.started_at, item.finished_at
        if event_type == "TOOL_STARTING":
            return started, None
        return finished or at, None if finished is None else _milliseconds(finished - started)
    if item.kind == "model_call":
        duration = item.parts.get("duration_ms")
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


def _content(item: Item, event_type: str, told: Sequence[Item]) -> Any:
    if event_type == "USER_MESSAGE_RECEIVED":
        return {"text_summary": item.text}
    if event_type in ("AGENT_RESPONSE", "AGENT_COMPLETED"):
        return {"response": item.text}
    if event_type in ("LLM_RESPONSE", "LLM_ERROR"):
        linked = item.parts.get("message_id")
        texts = [it.text for it in told if it.item_type == "message" and it.key == linked]
        prompt, completion = item.parts.get("input_tokens"), item.parts.get("output_tokens")
        usage = {"prompt": prompt, "completion": completion, "total": _total(item)}
        return {"response": texts[0] if texts else None, "usage": usage}
    call = {"tool": _tool(item), "args": item.parts.get("arguments")}
    if event_type == "TOOL_STARTING":
        return call
    if item.kind == "tool_call":
        return call | {"result": item.result}
    return {"error": item.value} if event_type == "AGENT_ERROR" else None


def _tool(item: Item) -> str:
    name = text_of(item.parts.get("name"))
    return item.key if name is None else name


def _total(item: Item) -> int | None:
    given, made = item.parts.get("input_tokens"), item.parts.get("output_tokens")
    if given is None or made is None or max(given, made) > _LARGEST_TOKENS:
        return None
    return int(given + made)


def _parts(said: Any) -> list[dict[str, Any]]:
    contents = [{"text": said}] if isinstance(said, str) else said if isinstance(said, list) else []
    return [
        {
            "mime_type": None if text_of_part(part) is None else "text/plain",
            "uri": None,
            "object_ref": None,
            "text": text_of_part(part),
            "part_index": index,
            "part_attributes": canonical(part) if text_of_part(part) is None else "{}",
            "storage_mode": "INLINE",
        }
        for index, part in enumerate(contents)
    ]


def _attributes(item: Item, event_type: str) -> dict[str, Any]:
    first = item.first
    place = {"event_id": first.event_id, "version": first.version, "item_type": item.item_type, "item_id": item.key}
    if item.kind != "model_call":
        return {"ledger": place}
    part = item.parts
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


def _latency(item: Item, total_ms: int | None) -> dict[str, Any] | None:
    if total_ms is None or total_ms < 0:
        return None
    first_token = item.parts.get("time_to_first_token_ms") if item.kind == "model_call" else None
    return {"total_ms": total_ms, "time_to_first_token_ms": None if first_token is None else _rounded(first_token)}


def _error_message(item: Item, event_type: str) -> str | None:
    if item.kind == "error":
        return _message_of(item.value, "message")
    if event_type == "LLM_ERROR":
        return _message_of(item.parts.get("error"), "message")
    return _message_of(item.result, "message", "error") if event_type == "TOOL_ERROR" else None


def _message_of(value: Any, *names: str) -> str | None:
    about = value if isinstance(value, dict) else {}
    texts = [*(text_of(about.get(name)) for name in names), text_of(value)]
    return next((text for text in texts if text is not None), None)

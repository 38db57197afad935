"""Export of sessions as OpenTelemetry spans, by the semantic conventions for generative AI, version 0.1.0.

A line is a JSON object as an OTLP/JSON file has it (``TracesData``), with the spans of one session. Each turn is a
trace: its first span, ``invoke_agent``, lasts from the message of the user to the last item of the turn, and has a
child for each model call (``chat`` or its operation) and each attempt of a tool call (``execute_tool``). Scores are
events ``gen_ai.evaluation.result`` of the last turn. Ids are hashes of session and item, so that a second export has
the same; they are those of the view ``agent_events``.

Source: the OTLP specification, "JSON Protobuf Encoding" and "File Exporter"; semantic-conventions-genai 0.1.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Any

import orjson

from ledger.formats.events import exported_events
from ledger.model.events import RecordedEvent
from ledger.model.queries import SessionQuery
from ledger.model.turns import Item, turns
from ledger.model.values import canonical
from ledger.stores.base import EventStore

SCHEMA_URL = "https://opentelemetry.io/schemas/gen-ai/0.1.0"
_INTERNAL, _CLIENT = 1, 3
_ERROR = 2
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Durations above 30 days are no reason to begin a span before its call was recorded.
_LONGEST_MS = 30 * 86_400_000
#: Parts of a model call, and the attributes that have them.
_USAGE = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cached_input_tokens": "gen_ai.usage.cache_read.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}


def export_spans(
    store: EventStore, session_ids: Iterable[str] | None = None, *, query: SessionQuery | None = None
) -> Iterator[bytes]:
    """Yield a line for each of the given sessions, or of all sessions, that has a turn. One is in memory at a time.

    What a fork copied from another session has no span, nor has a tool call that nobody began. What was erased is left
    out of its span.

    Args:
        store: The store.
        session_ids: The sessions.
        query: Criteria of the sessions, if they are not given.

    Raises:
        SessionNotFound: A given session does not exist.
    """
    events: list[RecordedEvent] = []
    for event in exported_events(store, session_ids, query=query):
        if events and event.session_id != events[0].session_id:
            yield from _line(events)
            events = []
        events.append(event)
    yield from _line(events)


def spans(events: Sequence[RecordedEvent]) -> list[dict[str, Any]]:
    """Return the spans of one session, in the JSON form of OTLP.

    Args:
        events: All events of the session, in order.
    """
    items = turns(events)
    found = []
    for number in dict.fromkeys(item.turn for item in items):
        of_turn = [item for item in items if item.turn == number]
        root = _root(of_turn)
        found += [root, *(_child(item, root, items) for item in of_turn if item.kind in ("model_call", "tool_call"))]
    roots = [span for span in found if "parentSpanId" not in span]
    if roots:
        roots[-1]["events"] += _evaluations(events)
    return found


def _line(events: Sequence[RecordedEvent]) -> Iterator[bytes]:
    found = spans(events) if events else []
    if not found:
        return
    scope = {"scope": {"name": "session-ledger"}, "spans": found, "schemaUrl": SCHEMA_URL}
    resource = {"attributes": _attributes({"service.name": "session-ledger"})}
    document = {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}
    yield orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def _root(of_turn: Sequence[Item]) -> dict[str, Any]:
    """Return the span of a turn."""
    first = of_turn[0].first
    asked = [item for item in of_turn if item.kind == "user"]
    answers = [item for item in of_turn if item.kind == "answer"]
    errors = [item for item in of_turn if item.kind == "error"]
    agents = [item.first.actor for item in answers if item.first.actor]
    name = agents[0] if agents else None
    times = [at for item in of_turn for at in _times(item)]
    trace = _hash(first.session_id, str(of_turn[0].turn))
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.conversation.id": first.session_id,
        "gen_ai.agent.name": name,
        "gen_ai.input.messages": _messages("user", asked),
        "gen_ai.output.messages": _messages("assistant", answers),
        "user.id": first.user_id,
        **_error_type(errors[-1].value if errors else None),
    }
    return _span(
        trace, trace[:16], "invoke_agent" if name is None else f"invoke_agent {name}", _INTERNAL, times, attributes
    ) | (_failed(errors[-1].value) if errors else {})


def _child(item: Item, root: dict[str, Any], items: Sequence[Item]) -> dict[str, Any]:
    """Return the span of a model call, or of an attempt of a tool call."""
    is_tool = item.kind == "tool_call"
    attributes = _tool(item) if is_tool else _model(item, items)
    operation = attributes["gen_ai.operation.name"]
    named = attributes.get("gen_ai.tool.name" if is_tool else "gen_ai.request.model")
    failure = (item.result if item.status == "failed" else None) if is_tool else item.parts.get("error")
    has_failed = item.status == "failed" if is_tool else failure not in (None, False)
    span = _span(
        root["traceId"],
        _hash(item.first.session_id, item.item_type, item.key, str(item.attempt))[:16],
        operation if named is None else f"{operation} {named}",
        _INTERNAL if is_tool else _CLIENT,
        _times(item),
        attributes | {"gen_ai.conversation.id": item.first.session_id} | _error_type(failure, has_failed=has_failed),
    )
    return span | {"parentSpanId": root["spanId"]} | (_failed(failure) if has_failed else {})


def _tool(item: Item) -> dict[str, Any]:
    given = item.parts.get("arguments")
    name = item.parts.get("name")
    return {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name if isinstance(name, str) else item.key,
        "gen_ai.tool.description": item.parts.get("description"),
        "gen_ai.tool.call.id": item.key,
        "gen_ai.tool.call.arguments": given if given is None or isinstance(given, str) else canonical(given),
        "gen_ai.tool.call.result": None if item.result is None else canonical(item.result),
    }


def _model(item: Item, items: Sequence[Item]) -> dict[str, Any]:
    call = item.parts
    answers = [it for it in items if it.item_type == "message" and it.key == call.get("message_id")]
    reason, first_token, cost = (call.get(name) for name in ("finish_reason", "time_to_first_token_ms", "cost_usd"))
    return {
        "gen_ai.operation.name": call.get("operation") or "chat",
        "gen_ai.provider.name": call.get("provider"),
        "gen_ai.request.model": call.get("model"),
        "gen_ai.response.finish_reasons": None if reason is None else [reason],
        "gen_ai.response.time_to_first_chunk": None if first_token is None else first_token / 1000,
        "gen_ai.output.messages": _messages("assistant", answers),
        **{name: call.get(part) for part, name in _USAGE.items()},
        # Not of the conventions, which have no cost; Langfuse and others read it.
        "gen_ai.usage.cost": None if cost is None else float(cost),
    }


def _evaluations(events: Iterable[RecordedEvent]) -> list[dict[str, Any]]:
    """Return the scores that the session has, as events."""
    scores: dict[str, tuple[RecordedEvent, Any]] = {}
    for event in events:
        for change in event.changes:
            if change.field == "score":
                scores[change.key] = (event, None if change.removed else change.value)
    found = []
    for event, score in scores.values():
        if not isinstance(score, dict):
            continue
        value = score.get("value")
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        attributes = {
            "gen_ai.evaluation.name": score.get("name"),
            "gen_ai.evaluation.score.value": number,
            "gen_ai.evaluation.score.label": None if number is not None or value is None else _text(value),
            "gen_ai.evaluation.explanation": score.get("comment"),
        }
        found.append(
            {
                "timeUnixNano": _nanoseconds(event.occurred_at),
                "name": "gen_ai.evaluation.result",
                "attributes": _attributes(attributes),
            }
        )
    return found


def _times(item: Item) -> list[datetime]:
    """Return the start and the end of an item."""
    at = item.first.occurred_at
    if item.kind == "tool_call":
        return [item.started_at, item.finished_at or item.started_at]
    duration = item.parts.get("duration_ms") if item.kind == "model_call" else None
    if isinstance(duration, int | float) and 0 <= duration <= _LONGEST_MS:
        return [at - timedelta(milliseconds=duration), at]
    return [at, at]


def _span(
    trace_id: str, span_id: str, name: str, kind: int, times: Sequence[datetime], attributes: dict[str, Any]
) -> dict[str, Any]:
    return {
        "traceId": trace_id,
        "spanId": span_id,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": _nanoseconds(min(times)),
        # Clocks may say that a call ended before it began.
        "endTimeUnixNano": _nanoseconds(max(times)),
        "attributes": _attributes(attributes),
        "events": [],
        "status": {},
    }


def _failed(error: Any) -> dict[str, Any]:
    message = error.get("message", error.get("error")) if isinstance(error, dict) else error
    return {"status": {"code": _ERROR} | ({"message": message} if isinstance(message, str) else {})}


def _error_type(error: Any, *, has_failed: bool | None = None) -> dict[str, Any]:
    if not (error is not None if has_failed is None else has_failed):
        return {}
    named = error.get("type") if isinstance(error, dict) else None
    return {"error.type": named if isinstance(named, str) and named else "_OTHER"}


def _messages(role: str, items: Iterable[Item]) -> str | None:
    """Return messages in the JSON form of the conventions; None if there are none."""
    found = []
    for item in items:
        said = item.said
        parts = [{"type": "text", "content": said}] if isinstance(said, str) else said
        if isinstance(parts, list):
            found.append({"role": role, "parts": [_part(part) for part in parts]})
    return canonical(found) if found else None


def _part(part: Any) -> Any:
    """Return a part of a message; of the API's text parts, in the form of the conventions."""
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return {"type": "text", "content": part["text"]}
    return part


def _attributes(given: dict[str, Any]) -> list[dict[str, Any]]:
    """Return attributes in the JSON form of OTLP, without those that are None."""
    return [{"key": name, "value": _value(value)} for name, value in given.items() if value is not None]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": _text(value)}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value)


def _nanoseconds(at: datetime) -> str:
    return str((at - _EPOCH) // timedelta(microseconds=1) * 1000)


def _hash(*parts: str) -> str:
    return md5("/".join(parts).encode(), usedforsecurity=False).hexdigest()

"""JSON schemas of what ``to_dict`` returns, for pydantic and for the OpenAPI of FastAPI."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import cache
from typing import Any

from ledger.model.fields import FIELDS, TOOL_STATUSES

Schema = dict[str, Any]

_ANY: Schema = {}
_TEXT: Schema = {"type": "string"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_WHOLE: Schema = {"type": "integer"}
_OBJECT: Schema = {"type": "object", "additionalProperties": True}
_OBJECT_OR_NULL: Schema = {"type": ["object", "null"], "additionalProperties": True}
_TIME: Schema = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}


def schema_of(name: str) -> Schema:
    """Return a new schema of what ``to_dict`` of the class of this name returns; any object for other classes."""
    return deepcopy(_schemas().get(name, _OBJECT))  # callers may add to it


@cache
def _schemas() -> Mapping[str, Schema]:
    change = _object(
        "RecordedChange",
        {"field": _TEXT, "key": _TEXT, "removed": {"type": "boolean"}, "value": _ANY},
        optional=("value",),
    )
    times = {"started_at": _TIME_OR_NULL, "finished_at": _TIME_OR_NULL}
    times |= {"latency_ms": {"type": ["number", "null"]}, "retry_count": _WHOLE, "failure_count": _WHOLE}
    status = {"type": "string", "enum": list(TOOL_STATUSES)}
    call = _object(
        "ToolCall",
        {"call_id": _TEXT, "name": _TEXT, "status": status, "definition": _OBJECT, "result": _ANY, **times},
        optional=("result", *times),
    )
    parts = ("content", "tools_used", "processing_time_ms", "token_count", "error", "metadata", "payload")
    message = _object(
        "Message",
        {
            "message_id": _TEXT,
            "version": _WHOLE,
            "role": _TEXT,
            **dict.fromkeys(parts, _ANY),
            "actor": _TEXT_OR_NULL,
            "occurred_at": _TIME,
            "recorded_at": _TIME,
        },
    )
    event = {
        "version": _WHOLE,
        "event_id": _TEXT,
        "idempotency_key": _TEXT_OR_NULL,
        "event_type": _TEXT,
        "actor": _TEXT_OR_NULL,
        "occurred_at": _TIME,
        "recorded_at": _TIME,
        "changes": _list(change),
    }
    difference = {"field": _TEXT, "key": _TEXT, "before": _ANY, "after": _ANY}
    found = (
        change,
        call,
        message,
        _session(call, message),
        _object("CallTimes", times),
        _object("RecordedEvent", event),
        _object("Difference", difference, optional=("before", "after")),
    )
    return {schema["title"]: schema for schema in found}


def _session(call: Schema, message: Schema) -> Schema:
    maps = [it.attribute for it in FIELDS.values() if it.keyed and not it.own_form]
    free = _object("FreeField", {"field": _TEXT, "key": _TEXT, "value": _ANY})
    return _object(
        "Session",
        {
            "session_id": _TEXT,
            "user_id": _TEXT,
            "question": _TEXT_OR_NULL,
            "title": _TEXT_OR_NULL,
            "session_type": _TEXT_OR_NULL,
            "summary": _TEXT_OR_NULL,
            "status": _TEXT_OR_NULL,
            "version": _WHOLE,
            "created_at": _TIME,
            "updated_at": _TIME,
            "expires_at": _TIME_OR_NULL,
            "constraints": _OBJECT_OR_NULL,
            "response_plan": _OBJECT_OR_NULL,
            "strategy": _ANY,
            "error": _OBJECT_OR_NULL,
            "lineage": _OBJECT_OR_NULL,
            **dict.fromkeys(maps, _OBJECT),
            "tool_calls": _list(call),
            "tags": _list(_TEXT),
            "free": _list(free),
            "messages": _list(message),
        },
        optional=("messages",),
    )


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _object(title: str, properties: Mapping[str, Schema], *, optional: Iterable[str] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"title": title, "type": "object", "properties": dict(properties), "required": required}

"""The fields of a session, in one place: which are keyed, and what shape each value has.

Everything that reads or writes fields (checks, the session object, command line, documentation) goes by ``FIELDS``.
Fields that begin with ``x_`` are free for adapters and users: any value, keyed or not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger.errors import InvalidInput
from ledger.model.instants import from_text, to_text
from ledger.model.values import check_text

TOOL_STATUSES = ("pending", "running", "completed", "failed")
ACCESS = ("read", "write")
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
#: Columns of every row: they are set when the session begins and never change.
FIXED = ("session_id", "user_id", "created_at", "updated_at", "version")
_STATUS = re.compile(r"[a-z][a-z0-9_]{0,62}")
#: The one that the ledger itself uses: under which key a session was begun.
SESSION_KEY = "x_session_key"
_FREE = re.compile(r"x_[a-z0-9_]{1,60}")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a session.

    Attributes:
        name: As it stands in rows.
        keyed: Whether each value has a key of its own.
        shape: What a value looks like, for people.
        check: Takes a value and the words to name it by; returns what to record or raises InvalidInput.
    """

    name: str
    keyed: bool
    shape: str
    check: Callable[[Any, str], Any]


def _any(value: Any, name: str) -> Any:
    return value


def _text(value: Any, name: str) -> Any:
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be text, not {type(value).__name__}.")
    return value


def _object(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise InvalidInput(f"{name} must be an object (a dict), not {type(value).__name__}.")
    return value


def _status(value: Any, name: str) -> Any:
    if not _STATUS.fullmatch(_text(value, name)):
        raise InvalidInput(f"{name} {value[:70]!r} must be a lower-case word such as active, completed or failed.")
    return value


def _one_of(*allowed: str) -> Callable[[Any, str], Any]:
    def check(value: Any, name: str) -> Any:
        if not isinstance(value, str) or value not in allowed:
            raise InvalidInput(f"{name} must be one of {', '.join(allowed)}, not {str(value)[:70]!r}.")
        return value

    return check


def _true(value: Any, name: str) -> Any:
    if value is not True:
        raise InvalidInput(f"{name} must be true; remove the key to take it away.")
    return value


def _instant(value: Any, name: str) -> Any:
    if value is None:
        return None
    if isinstance(value, datetime):
        return to_text(value, name)
    return to_text(from_text(_text(value, name), name), name)


def _object_with(**parts: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """A check for an object that must have ``parts``; it may have more."""

    def check(value: Any, name: str) -> Any:
        _object(value, name)
        for part, inner in parts.items():
            if part not in value:
                raise InvalidInput(f"{name} lacks {part!r}.")
            inner(value[part], f"{name}.{part}")
        return value

    return check


def _fields(*fields: Field) -> Mapping[str, Field]:
    return {field.name: field for field in fields}


FIELDS: Mapping[str, Field] = _fields(
    Field("question", False, "text", _text),
    Field("title", False, "text", _text),
    Field("session_type", False, "text", _text),
    Field("summary", False, "text", _text),
    Field("status", False, "a lower-case word; active at first, completed and failed end a session", _status),
    Field("constraints", False, "object", _object),
    Field("response_plan", False, "object", _object),
    Field("strategy", False, "any JSON, often Markdown text", _any),
    Field("expires_at", False, "UTC timestamp, or null for none", _instant),
    Field("error", False, "{type, message}", _object_with(type=_text, message=_text)),
    Field("lineage", False, "{session_id, version, kind}", _object_with(session_id=_text, version=_any, kind=_text)),
    Field("tool_call", True, "{name, description, tables, arguments, message_id ...}", _object_with(name=_text)),
    Field("tool_call_status", True, "one of " + ", ".join(TOOL_STATUSES), _one_of(*TOOL_STATUSES)),
    Field("tool_call_result", True, "any JSON", _any),
    Field(
        "message",
        True,
        "{role, content, tools_used, processing_time_ms, token_count, error, metadata, payload}",
        _object_with(role=_one_of(*ROLES), content=_any),
    ),
    Field(
        "query",
        True,
        "{query_type, parameters, result_summary, cache_hit, execution_time_ms}",
        _object_with(query_type=_text),
    ),
    Field("context", True, "any JSON", _any),
    Field("result", True, "any JSON", _any),
    Field("attribute", True, "any JSON", _any),
    Field("tag", True, "true", _true),
    Field("grant", True, "read or write", _one_of(*ACCESS)),
    Field("child", True, "{version, kind}", _object_with(version=_any, kind=_text)),
    Field("score", True, "{name, value, source, comment}", _object_with(name=_text, value=_any)),
)


def field_named(name: Any) -> Field:
    """The field of this name.

    Raises:
        InvalidInput: There is none; the message names those there are.
    """
    field = FIELDS.get(name) if isinstance(name, str) else None
    if field is not None:
        return field
    if isinstance(name, str) and _FREE.fullmatch(name):
        return Field(name, False, "any JSON", _any)
    if name in FIXED:
        raise InvalidInput(f"{name} is fixed for the life of a session and cannot be set.")
    raise InvalidInput(
        f"There is no field {str(name)[:70]!r}. The fields are {', '.join(FIELDS)}, "
        "and any x_name of lower-case letters, digits and underscores."
    )


def check_change(name: Any, key: Any, value: Any, removed: bool) -> Any:
    """Check one change and return the value to record.

    Raises:
        InvalidInput: The field is unknown, the key is missing or too many, or the value has the wrong shape.
    """
    field = field_named(name)
    if field.keyed or (key != "" and name.startswith("x_")):
        check_text(key, f"key of {name}")
    elif key != "":
        raise InvalidInput(f"{name} takes no key, but {str(key)[:70]!r} was given.")
    if removed:
        return None
    return field.check(value, f"{name}[{key!r}]" if key else name)

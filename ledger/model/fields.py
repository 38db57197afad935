"""The fields of a session. To add one, add it to ``FIELDS`` and declare its attribute in ``Session``.

``FIELDS`` determines how changes and updates are checked, what ``ledger show`` prints, and what is searched. It
determines what forks, templates and rewinds copy, in which order, and what the store keeps of an archived session.
``make docs`` writes docs/fields.md from it.

``Session`` declares an attribute for each field, so that type checkers and editors see it. If one is missing,
tests/model/test_fields.py prints the lines to add. Fields whose names begin with ``x_`` are free for adapters and
users. They take any value, with or without a key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, get_args

from ledger.errors import InvalidInput
from ledger.model.instants import from_text, to_text
from ledger.model.names import unknown
from ledger.model.values import check_text, check_whole, full_name, named

ToolStatus = Literal["pending", "running", "completed", "failed"]
AccessLevel = Literal["read", "write"]
Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
TOOL_STATUSES: tuple[ToolStatus, ...] = get_args(ToolStatus)
ACCESS: tuple[AccessLevel, ...] = get_args(AccessLevel)
ROLES: tuple[Role, ...] = get_args(Role)
#: Names of row columns, which cannot be set as fields.
FIXED = ("session_id", "user_id", "created_at", "updated_at", "version")
_STATUS = re.compile(r"[a-z][a-z0-9_]{0,62}")
#: The ``x_`` field that the ledger itself uses. It holds the key of ``get_or_create_session``.
SESSION_KEY = "x_session_key"
_FREE = re.compile(r"x_[a-z0-9_]{1,60}")


def _any(value: Any, name: str) -> Any:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a session.

    Attributes:
        name: The name in rows.
        doc: One sentence. It is the docstring of the attribute of ``Session``, and the field's text in docs/fields.md.
        shape: The shape of a value, in words.
        check: Function that takes a value, and a name for messages. It returns the value to record, or raises
            InvalidInput.
        key: The meaning of the keys, in words, for example ``call id``. Empty if the field is not keyed.
        attribute: Name of the attribute of ``Session`` and of the key in JSON; the same as ``name`` if empty.
        own_form: True if ``Session`` and JSON have code of their own for the field. Otherwise they show the value, or
            for a keyed field a dict of key to value.
        ordered: True if keys are read in the order in which they were written. Copies keep that order.
        copied: True if forks and rewinds copy the field. False if it belongs to one session.
        in_template: True if a session created from a template copies the field.
        searched: True if searches look at the field. Then sql/statements/search_text.sql must name the field,
            ``search.text_of`` must return its text, and existing files must be indexed again.
        listed: True if the store keeps the field when the session is archived, so that lists can show it
            and filter by it.
        keeps_null: True if None in updates sets the field to null. Otherwise None removes the field.
    """

    name: str
    doc: str
    shape: str
    check: Callable[[Any, str], Any] = _any
    key: str = ""
    attribute: str = ""
    own_form: bool = False
    ordered: bool = False
    copied: bool = True
    in_template: bool = False
    searched: bool = False
    listed: bool = False
    keeps_null: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "attribute", self.attribute or self.name)

    @property
    def keyed(self) -> bool:
        """True if the field has one value per key."""
        return self.key != ""


def _text(value: Any, name: str) -> Any:
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be text, not {full_name(value)}.")
    return value


def _object(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise InvalidInput(f"{name} must be an object (a dict), not {full_name(value)}.")
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


def _number(value: Any, name: str) -> Any:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidInput(f"{name} must be a number, not {full_name(value)}.")
    return value


def _amount(value: Any, name: str) -> Any:
    if _number(value, name) < 0:
        raise InvalidInput(f"{name} must be a number from 0 up, not a negative one.")
    return value


def _name(value: Any, name: str) -> Any:
    if not _text(value, name):
        raise InvalidInput(f"{name} must not be empty.")
    return value


def _object_with(
    optional: Mapping[str, Callable[[Any, str], Any]] | None = None, **parts: Callable[[Any, str], Any]
) -> Callable[[Any, str], Any]:
    """Return a validator for objects that must have the given keys; other keys are allowed.

    Args:
        optional: For each key that the object may lack, the validator of its value if that is not None.
        parts: For each key that it must have, the validator of its value.
    """
    optional = optional or {}

    def check(value: Any, name: str) -> Any:
        _object(value, name)
        for part, inner in parts.items():
            if part not in value:
                raise InvalidInput(f"{name} lacks {part!r}.")
            inner(value[part], f"{name}.{part}")
        for part, inner in optional.items():
            if value.get(part) is not None:
                inner(value[part], f"{name}.{part}")
        return value

    return check


#: Parts of a model call besides ``model``; all may be missing or None.
_MODEL_CALL_PARTS: Mapping[str, Callable[[Any, str], Any]] = {
    **dict.fromkeys(("provider", "operation", "finish_reason", "message_id"), _text),
    **dict.fromkeys(("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens"), check_whole),
    **dict.fromkeys(("cost_usd", "duration_ms", "time_to_first_token_ms"), _amount),
    "error": _object_with(type=_text, message=_text),
}


def _fields(*fields: Field) -> Mapping[str, Field]:
    return {field.name: field for field in fields}


#: All fields by name, in the order in which ``ledger show --json`` prints them.
FIELDS: Mapping[str, Field] = _fields(
    Field(name="question", doc="The user's question.", shape="text", check=_text, searched=True, listed=True),
    Field(name="title", doc="A short name, for lists.", shape="text", check=_text, searched=True, listed=True),
    Field(
        name="session_type", doc="The kind of session, for example ``chat``.", shape="text", check=_text, listed=True
    ),
    Field(name="summary", doc="The outcome, in short.", shape="text", check=_text, searched=True),
    Field(
        name="status",
        doc="The status: active, completed, failed, expired, archived, deleted, or a word of your own.",
        shape="a lower-case word; active at first",
        check=_status,
        own_form=True,
        listed=True,
    ),
    Field(
        name="constraints",
        doc="The constraints that narrow the question; tool calls listed in them become pending.",
        shape="object",
        check=_object,
        in_template=True,
    ),
    Field(name="response_plan", doc="The plan of the answer.", shape="object", check=_object, in_template=True),
    Field(
        name="strategy",
        doc="The strategy for answering the question.",
        shape="any JSON, often Markdown text",
        in_template=True,
    ),
    Field(
        name="expires_at",
        doc="The time at which the session expires.",
        shape="UTC timestamp, or null for no expiry",
        check=_instant,
        own_form=True,
        copied=False,
        keeps_null=True,
    ),
    Field(
        name="error",
        doc="The error that made the session fail.",
        shape="{type, message}",
        check=_object_with(type=_text, message=_text),
    ),
    Field(
        name="lineage",
        doc="The session and version that this session was forked from, or that was its template.",
        shape="{session_id, version, kind}",
        check=_object_with(session_id=_text, version=_any, kind=_text),
        copied=False,
    ),
    Field(
        name="tool_call",
        doc="A planned tool call.",
        shape="{name, description, tables, arguments, message_id ...}",
        check=_object_with(name=_text),
        key="call id",
        attribute="calls",
        own_form=True,
        ordered=True,
    ),
    Field(
        name="tool_call_status",
        doc="The status of a tool call.",
        shape="one of " + ", ".join(TOOL_STATUSES),
        check=_one_of(*TOOL_STATUSES),
        key="call id",
        own_form=True,
    ),
    Field(
        name="tool_call_result",
        doc="The result of a tool call.",
        shape="any JSON",
        key="call id",
        attribute="tool_call_results",
        own_form=True,
    ),
    Field(
        name="model_call",
        doc="Calls of language models by call id.",
        shape="{model, " + ", ".join(_MODEL_CALL_PARTS) + "}",
        check=_object_with(_MODEL_CALL_PARTS, model=_name),
        key="call id",
        attribute="model_calls",
        ordered=True,
    ),
    Field(
        name="message",
        doc="A message.",
        shape="{role, content, tools_used, processing_time_ms, token_count, error, metadata, payload}",
        check=_object_with(role=_one_of(*ROLES), content=_any),
        key="message id",
        attribute="messages",
        own_form=True,
        ordered=True,
        searched=True,
    ),
    Field(
        name="attribute",
        doc="Attributes by name; sessions can be listed and counted by them.",
        shape="any JSON",
        key="name",
        attribute="attributes",
        listed=True,
    ),
    Field(name="context", doc="Context values by name.", shape="any JSON", key="name", in_template=True),
    Field(name="result", doc="Intermediate results by name.", shape="any JSON", key="name", attribute="results"),
    Field(
        name="query",
        doc="Queries made for the session, by query id.",
        shape="{query_type, parameters, result_summary, cache_hit, execution_time_ms}",
        check=_object_with(query_type=_text),
        key="query id",
        attribute="queries",
        ordered=True,
    ),
    Field(
        name="score",
        doc="Scores of the session by score id.",
        shape="{name, value, source, comment}",
        check=_object_with(name=_text, value=_any),
        key="score id",
        attribute="scores",
        ordered=True,
    ),
    Field(
        name="grant",
        doc="Grants to other users by user id.",
        shape="read or write",
        check=_one_of(*ACCESS),
        key="user id",
        attribute="grants",
        copied=False,
        listed=True,
    ),
    Field(
        name="child",
        doc="Forks of this session and sessions created from it as a template, by session id.",
        shape="{version, kind}",
        check=_object_with(version=_any, kind=_text),
        key="session id",
        attribute="children",
        copied=False,
    ),
    Field(
        name="tag",
        doc="A tag.",
        shape="true",
        check=_true,
        key="tag",
        attribute="tags",
        own_form=True,
        listed=True,
    ),
)


def field_named(name: Any) -> Field:
    """Return the field of this name.

    Raises:
        InvalidInput: There is no such field; the message lists the fields.
    """
    field = FIELDS.get(name) if isinstance(name, str) else None
    if field is not None:
        return field
    if isinstance(name, str) and _FREE.fullmatch(name):
        return _free_field(name)
    if name in FIXED:
        raise InvalidInput(f"{name} is set by the ledger and cannot be changed.")
    raise _unknown_field(str(name))


def _unknown_field(name: str) -> InvalidInput:
    everything = f"The fields are {', '.join(FIELDS)}, and any x_name of lower-case letters, digits and underscores."
    for field in FIELDS.values():
        if name == field.attribute:  # the attribute of a Session, such as tags
            return InvalidInput(f"There is no field {name!r}. Did you mean {field.name}?")
    return unknown("field", name, FIELDS, everything)


@lru_cache(maxsize=256)
def _free_field(name: str) -> Field:
    return Field(name=name, doc="Free for adapters and users.", shape="any JSON")


def check_role(value: Any) -> Any:
    """Return a role; raise InvalidInput if it is not one that messages can have."""
    return _one_of(*ROLES)(value, "role")


def check_change(name: Any, key: Any, value: Any, removed: bool) -> Any:
    """Check one change and return the value to record, None for a removal.

    Raises:
        InvalidInput: The field does not exist, a key is missing or not allowed, or the value has the wrong shape.
    """
    field = field_named(name)
    if field.key or (key != "" and name.startswith("x_")):
        check_text(key, f"key of {name}")
    elif key != "":
        raise InvalidInput(f"{name} takes no key, but {str(key)[:70]!r} was given.")
    if removed:
        return None
    return field.check(value, named(name, key))

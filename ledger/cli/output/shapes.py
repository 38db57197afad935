"""JSON output of the commands. Keys may be added, and are never renamed or removed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click
import orjson

from ledger.cli.output.text import counted, safe
from ledger.model.events import AppendResult, RecordedEvent
from ledger.model.fields import FIELDS
from ledger.model.fold import Difference, RegisterValue
from ledger.model.instants import to_text
from ledger.model.session import COLUMNS, MESSAGE_PARTS, Message, Session, ToolCall

if TYPE_CHECKING:
    from ledger.formats.events import Imported

K = TypeVar("K", str, tuple[str, str])
V = TypeVar("V")
#: Attributes of ``Session`` that ``session_object`` copies. Those in VALUES hold one value and are not columns of the
#: view ``sessions``. Those in MAPS hold mappings.
VALUES = tuple(
    field.attribute
    for field in FIELDS.values()
    if not field.keyed and not field.own_form and field.attribute not in COLUMNS
)
MAPS = tuple(field.attribute for field in FIELDS.values() if field.keyed and not field.own_form)


def print_json(value: Any) -> None:
    """Print a value as indented JSON with control characters escaped."""
    click.echo(json_text(value))


def json_text(value: Any, *, indent: bool = True) -> str:
    """Return a value as JSON text that is safe to print on a terminal.

    Control characters are escaped. The escapes do not change the value that the text parses to.
    """
    options = (orjson.OPT_INDENT_2 if indent else 0) | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS
    return safe(orjson.dumps(value, default=_other, option=options).decode())


def session_object(session: Session) -> dict[str, Any]:
    """Return a session as a JSON object.

    The object has the columns of the view ``sessions``. However, the key ``tool_calls`` replaces ``tool_call_status``
    and ``tool_call_results``. The object also has fields that the view lacks, each named like its
    attribute of ``Session``. If the session was read without messages, there is no key ``messages``.
    """
    document = {column: session[column] for column in session}
    document["tool_calls"] = [call_object(call) for call in session.calls]
    del document["tool_call_status"], document["tool_call_results"]
    document |= {name: getattr(session, name) for name in VALUES}
    document |= {name: in_order(getattr(session, name)) for name in MAPS}
    document["tags"] = list(session.tags)
    document["free"] = [
        {"field": field, "key": key, "value": value} for (field, key), value in in_order(session.free).items()
    ]
    if session.messages is not None:
        document["messages"] = [message_object(message) for message in session.messages]
    return document


def in_order(values: Mapping[K, V]) -> dict[K, V]:
    """Return a mapping as a dictionary sorted by key, because stores return the keys of a state in different orders."""
    return dict(sorted(values.items(), key=lambda item: item[0]))


def call_object(call: ToolCall) -> dict[str, Any]:
    """Return a tool call as a JSON object. It has the key ``result`` only if a result was recorded."""
    result = {"result": call.result} if call.has_result else {}
    return {
        "call_id": call.call_id,
        "name": call.name,
        "status": call.status,
        "definition": call.definition,
        **result,
    }


def message_object(message: Message) -> dict[str, Any]:
    """Return a message as a JSON object. It has a key for every part of a message; a missing part is None."""
    return {
        "message_id": message.message_id,
        "version": message.version,
        **{part: getattr(message, part) for part in MESSAGE_PARTS},
    }


def event_object(event: RecordedEvent) -> dict[str, Any]:
    """Return an event as a JSON object with its changes.

    A change has no key ``value`` if it removed the field, or if the value that it set was erased later.
    """
    return {
        "version": event.version,
        "event_id": event.event_id,
        "event_type": event.event_type,
        "actor": event.actor,
        "occurred_at": event.occurred_at,
        "recorded_at": event.recorded_at,
        "changes": [
            {"field": change.field, "key": change.key, "removed": change.removed}
            | ({} if change.text is None else {"value": change.value})
            for change in event.changes
        ],
    }


def difference_object(difference: Difference) -> dict[str, Any]:
    """Return a difference as a JSON object. The key ``before`` or ``after`` is left out if there was no value then."""
    return {
        "field": difference.field,
        "key": difference.key,
        **_side("before", difference.before),
        **_side("after", difference.after),
    }


def appended_object(appended: AppendResult) -> dict[str, Any]:
    """Return the result of an append as a JSON object."""
    return {
        "session_id": appended.session_id,
        "version": appended.version,
        "event_id": appended.event_id,
        "replayed": appended.replayed,
    }


def print_appended(appended: AppendResult, as_json: bool) -> None:
    """Print the result of an append, as JSON or as a sentence with the session's version."""
    if as_json:
        print_json(appended_object(appended))
    else:
        replayed = ", recorded before" if appended.replayed else ""
        click.echo(f"{safe(appended.session_id)} is at version {appended.version}{replayed}.")


def print_imported(done: Imported, as_json: bool) -> None:
    """Print the result of an import."""
    if as_json:
        print_json({"sessions": done.sessions, "events": done.events, "new_events": done.new})
    else:
        known = done.events - done.new
        click.echo(
            f"{counted(done.sessions, 'session')}, {counted(done.events, 'event')}: {done.new:,} new"
            + (f", {known:,} already recorded." if known else ".")
        )


def to_terminal() -> bool:
    """Return True if stdout is a terminal."""
    return sys.stdout.isatty()


def _side(name: str, register: RegisterValue | None) -> dict[str, Any]:
    return {} if register is None else {name: register.value}


def _other(value: Any) -> Any:
    if isinstance(value, datetime):
        return to_text(value)
    return str(value)

"""The JSON that commands answer with. These keys are a promise: they are added to, never renamed or taken away."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click
import orjson

from ledger.cli.output.text import safe
from ledger.model.events import AppendResult, RecordedEvent
from ledger.model.fields import FIELDS
from ledger.model.fold import Difference, RegisterValue
from ledger.model.instants import to_text
from ledger.model.session import COLUMNS, MESSAGE_PARTS, Message, Session, ToolCall

if TYPE_CHECKING:
    from ledger.formats.events import Imported

K = TypeVar("K", str, tuple[str, str])
V = TypeVar("V")
#: Attributes of a session that stand for one field as it is: those that are no columns of the sessions view, and those
#: that are dicts by key.
VALUES = tuple(
    field.attribute
    for field in FIELDS.values()
    if not field.keyed and not field.own_form and field.attribute not in COLUMNS
)
MAPS = tuple(field.attribute for field in FIELDS.values() if field.keyed and not field.own_form)


def print_json(value: Any) -> None:
    """Write a document to stdout: indented, UTF-8, with every control character escaped."""
    click.echo(json_text(value))


def json_text(value: Any, *, indent: bool = True) -> str:
    """JSON text that is safe on a terminal; it means the same as without the escapes."""
    options = (orjson.OPT_INDENT_2 if indent else 0) | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS
    return safe(orjson.dumps(value, default=_other, option=options).decode())


def session_object(session: Session) -> dict[str, Any]:
    """A session: ``COLUMNS`` of the sessions view, and all other fields under the names of their attributes."""
    found = {column: session[column] for column in session}
    found["tool_calls"] = [call_object(call) for call in session.calls]
    del found["tool_call_status"], found["tool_call_results"]
    found |= {name: getattr(session, name) for name in VALUES}
    found |= {name: in_order(getattr(session, name)) for name in MAPS}
    found["tags"] = list(session.tags)
    found["free"] = [
        {"field": field, "key": key, "value": value} for (field, key), value in in_order(session.free).items()
    ]
    if session.messages is not None:
        found["messages"] = [message_object(message) for message in session.messages]
    return found


def in_order(found: Mapping[K, V]) -> dict[K, V]:
    """A map in the order of its keys: a state's own order differs from store to store."""
    return dict(sorted(found.items(), key=lambda item: item[0]))


def call_object(call: ToolCall) -> dict[str, Any]:
    """A tool call; ``result`` is there only where one was recorded."""
    result = {"result": call.result} if call.has_result else {}
    return {
        "call_id": call.call_id,
        "name": call.name,
        "status": call.status,
        "definition": call.definition,
        **result,
    }


def message_object(message: Message) -> dict[str, Any]:
    """A message with all its parts; those that were not given are null."""
    return {
        "message_id": message.message_id,
        "version": message.version,
        **{part: getattr(message, part) for part in MESSAGE_PARTS},
    }


def event_object(event: RecordedEvent) -> dict[str, Any]:
    """An event with its changes; a change without ``value`` was removed or erased."""
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
    """A register that differs; a side on which it is missing has no key."""
    return {
        "field": difference.field,
        "key": difference.key,
        **_side("before", difference.before),
        **_side("after", difference.after),
    }


def appended_object(appended: AppendResult) -> dict[str, Any]:
    """What a change did."""
    return {
        "session_id": appended.session_id,
        "version": appended.version,
        "event_id": appended.event_id,
        "replayed": appended.replayed,
    }


def print_appended(appended: AppendResult, as_json: bool) -> None:
    """Say at which version a change stands."""
    if as_json:
        print_json(appended_object(appended))
    else:
        again = ", recorded before" if appended.replayed else ""
        click.echo(f"{safe(appended.session_id)} is at version {appended.version}{again}.")


def print_imported(done: Imported, as_json: bool) -> None:
    """Say what an import brought in."""
    if as_json:
        print_json({"sessions": done.sessions, "events": done.events, "new_events": done.new})
    else:
        known = done.events - done.new
        click.echo(
            f"{done.sessions:,} sessions, {done.events:,} events: {done.new:,} new"
            + (f", {known:,} were here already." if known else ".")
        )


def to_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def _side(name: str, written: RegisterValue | None) -> dict[str, Any]:
    return {} if written is None else {name: written.value}


def _other(value: Any) -> Any:
    if isinstance(value, datetime):
        return to_text(value)
    return str(value)

"""Conversion of updates to changes. Updates are mappings of field to value, as callers pass them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ledger.errors import InvalidInput
from ledger.model.events import Change
from ledger.model.fields import field_named
from ledger.model.fold import State
from ledger.model.values import check_text


def changes_of(updates: Mapping[str, Any]) -> list[Change]:
    """Return one change per field, or per key of a keyed field.

    Args:
        updates: Mapping of field to value. For a keyed field the value is a mapping of key to value. For any other
            field None removes the field, or sets it to None if the field keeps null (``expires_at``).

    Raises:
        InvalidInput: A field does not exist, or ``updates`` or the value of a keyed field is not a mapping.
    """
    if not isinstance(updates, Mapping):
        raise InvalidInput(f"Updates must be an object of field to value, not {type(updates).__name__}.")
    changes = []
    for name, value in updates.items():
        field = field_named(name)
        if not field.keyed:
            removed = value is None and not field.keeps_null
            value = dict(value) if isinstance(value, Mapping) else value
            changes.append(Change(name, "", value, removed))
        elif isinstance(value, Mapping):
            changes.extend(Change(name, key, item) for key, item in value.items())
        else:
            raise InvalidInput(f"{name} is keyed: give an object of key to value, not {type(value).__name__}.")
    return changes


def changes_with_plan(updates: Mapping[str, Any], state: State) -> list[Change]:
    """Return the changes of ``updates``, and the changes that create new tool calls listed in its ``constraints``."""
    changes = changes_of(updates)
    return changes + planned_calls(updates.get("constraints"), state, changes)


def planned_calls(constraints: Any, state: State, changes: Sequence[Change]) -> list[Change]:
    """Return the changes that create the tool calls listed in constraints, with the status ``pending``.

    Args:
        constraints: A value of the field ``constraints``. Each item of its list ``tool_calls`` is an object with a
            name, or a name.
        state: The session's state; tool calls that it has already are skipped.
        changes: Other changes of the event; tool calls that they create are skipped too.

    Raises:
        InvalidInput: A tool call has no name, or its id is invalid.
    """
    calls = constraints.get("tool_calls") if isinstance(constraints, Mapping) else None
    existing = {key for field, key in state if field in ("tool_call", "tool_call_status")}
    existing |= {change.key for change in changes if change.field in ("tool_call", "tool_call_status")}
    planned: list[Change] = []
    for call in calls if isinstance(calls, list | tuple) else ():
        definition = {"name": call} if isinstance(call, str) else call
        if not isinstance(definition, Mapping) or not isinstance(definition.get("name"), str):
            raise InvalidInput("A tool call in constraints must be an object with a name, or a name.")
        call_id = definition.get("id") or definition.get("call_id") or definition["name"]
        if check_text(call_id, "The id of a tool call in constraints") not in existing:
            existing.add(call_id)
            planned.append(Change("tool_call", call_id, dict(definition)))
            planned.append(Change("tool_call_status", call_id, "pending"))
    return planned


def call_id_of(tool_name: str, state: State) -> str:
    """Return the id of the tool call that has this id or name. If there is no such call, return ``tool_name``.

    Raises:
        InvalidInput: Several calls have this name.
    """
    if ("tool_call", tool_name) in state or ("tool_call_status", tool_name) in state:
        return tool_name
    call_ids = [
        key
        for (field, key), held in state.items()
        if field == "tool_call" and (held.value or {}).get("name") == tool_name
    ]
    if len(call_ids) > 1:
        raise InvalidInput(f"Several tool calls are named {tool_name!r}; give the id: {', '.join(sorted(call_ids))}.")
    return call_ids[0] if call_ids else tool_name

"""Conversion of updates to changes. Updates are mappings of field to value, as callers pass them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.errors import InvalidInput
from ledger.model.events import Change
from ledger.model.fields import field_named
from ledger.model.fold import State
from ledger.model.tool_calls import call_id_of, ids_in_order, listed_calls, listed_in, planned_calls

#: Columns of the view ``sessions`` that hold tool calls. Updates take them as they are read.
_CALL_COLUMNS = ("tool_calls", "tool_call_status", "tool_call_results")


def changes_of(updates: Mapping[str, Any]) -> list[Change]:
    """Return one change per field, or per key of a keyed field.

    Args:
        updates: Mapping of field to value. None removes the field, or sets it to None if the field keeps null
            (``expires_at``). For a keyed field the value is a mapping of key to value, in which None removes the key.

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
            changes.extend(Change(name, key, item, item is None) for key, item in value.items())
        else:
            raise InvalidInput(f"{name} is keyed: give an object of key to value, not {type(value).__name__}.")
    return changes


def changes_with_calls(updates: Mapping[str, Any], state: State) -> list[Change]:
    """Return the changes of updates, with those of tool calls in their three columns, and in their constraints.

    Args:
        updates: As for ``changes_of``. It may also have ``tool_calls``, a list of calls, of which those that are new
            become pending; ``tool_call_status``, an object of call to status, or a list parallel to ``tool_calls`` (of
            the session if the updates have none); and ``tool_call_results``, an object of call to result. A call is
            named by its id or name.
        state: The session's state.

    Raises:
        InvalidInput: As for ``changes_of``; or a call has no name or an invalid id, or the two lists differ in length.
    """
    columns = {name: updates[name] for name in _CALL_COLUMNS if isinstance(updates, Mapping) and name in updates}
    rest = {name: value for name, value in updates.items() if name not in columns} if columns else updates
    changes = changes_of(rest)
    calls = columns.get("tool_calls")
    if "tool_calls" in columns and not isinstance(calls, list | tuple):
        raise InvalidInput(f"tool_calls must be a list of calls or names, not {type(calls).__name__}.")
    changes += planned_calls(calls, state, changes)
    changes += planned_calls(listed_in(updates.get("constraints")), state, changes)
    statuses = columns.get("tool_call_status")
    if isinstance(statuses, list | tuple):
        ids = ids_in_order(state) if calls is None else [call_id for call_id, _ in listed_calls(calls)]
        if len(statuses) != len(ids):
            raise InvalidInput(f"tool_call_status has {len(statuses)} items for {len(ids)} tool calls.")
        statuses = dict(zip(ids, statuses, strict=True))
    return _merged(changes, _by_call("tool_call_status", statuses, state), columns, state)


def _merged(changes: list[Change], statuses: list[Change], columns: Mapping[str, Any], state: State) -> list[Change]:
    """Return changes with statuses in place of those that planning has set, and with the results."""
    given = {change.key for change in statuses}
    kept = [it for it in changes if it.field != "tool_call_status" or it.key not in given]
    return [*kept, *statuses, *_by_call("tool_call_result", columns.get("tool_call_results"), state)]


def _by_call(field: str, values: Any, state: State) -> list[Change]:
    if values is None:
        return []
    if not isinstance(values, Mapping):
        raise InvalidInput(f"{field} must be an object of call to value, not {type(values).__name__}.")
    by_id = {call_id_of(name, state) if isinstance(name, str) else name: value for name, value in values.items()}
    return [Change(field, call_id, value, value is None) for call_id, value in by_id.items()]

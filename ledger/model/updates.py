"""Conversion of updates to changes. Updates are mappings of field to value, as callers pass them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.errors import InvalidInput
from ledger.model.events import Change
from ledger.model.fields import field_named
from ledger.model.fold import State
from ledger.model.lifetime import CLOSED
from ledger.model.tool_calls import (
    id_in_object,
    ids_in_order,
    listed_calls,
    listed_in,
    named_calls,
    planned_calls,
    with_calls,
)
from ledger.model.values import full_name

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
        raise InvalidInput(f"Updates must be an object of field to value, not {full_name(updates)}.")
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
            given = "in which None removes a key, not None" if value is None else f"not {full_name(value)}"
            raise InvalidInput(f"{name} is keyed: give an object of key to value, {given}.")
    return changes


def changes_with_calls(updates: Mapping[str, Any], state: State) -> list[Change]:
    """Return the changes of updates, with those of tool calls in their three columns, and in their constraints.

    If a failed session gets another open status, its error is removed, unless the updates set one.

    Args:
        updates: As for ``changes_of``, but None for a key of ``tool_call`` also removes the call's status and result,
            unless the updates set them. It may also have ``tool_calls``, a list of calls, of which those that are new
            become pending; ``tool_call_status``, an object of call to status, or a list parallel to ``tool_calls`` (of
            the session if the updates have none); and ``tool_call_results``, an object of call to result. A call is
            named by its id or name.
        state: The session's state.

    Raises:
        InvalidInput: As for ``changes_of``; or a call has no name or an invalid id, the two lists differ in length, or
            a column has two values for one call.
    """
    columns = {name: updates[name] for name in _CALL_COLUMNS if isinstance(updates, Mapping) and name in updates}
    rest = {name: value for name, value in updates.items() if name not in columns} if columns else updates
    changes = changes_of(rest)
    if "status" in rest and "error" not in rest:
        changes += without_error(rest["status"], state)
    if "tool_calls" in columns and not isinstance(columns["tool_calls"], list | tuple):
        raise InvalidInput(
            f"tool_calls must be a list of calls, ids or names, not {type(columns['tool_calls']).__name__}."
        )
    listed = named_calls(columns["tool_calls"], state) if "tool_calls" in columns else []
    planned = planned_calls(listed, state, changes)
    in_constraints = listed_calls(listed_in(updates.get("constraints")), with_calls(state, planned))
    planned += planned_calls(in_constraints, state, [*changes, *planned])
    if listed and updates.keys() == {"tool_calls"} and not planned:
        known_calls = ", ".join(call_id for call_id, _ in listed)
        raise InvalidInput(
            f"Nothing was written, since the session has these tool calls: {known_calls}. "
            "To record a further call of a tool, give it other arguments, or an id of its own."
        )
    if not columns:
        return _with_withdrawn([*changes, *planned], state)
    statuses = columns.get("tool_call_status")
    if isinstance(statuses, list | tuple):
        ids = [call_id for call_id, _ in listed] if "tool_calls" in columns else ids_in_order(state)
        if len(statuses) != len(ids) or len(set(ids)) < len(ids):
            raise InvalidInput(
                f"tool_call_status must be as long as the list of different tool calls, {len(set(ids))}, not "
                f"{len(statuses)}."
            )
        statuses = dict(zip(ids, statuses, strict=True))
    known = with_calls(state, planned)
    given = _by_call("tool_call_status", "a list of statuses, or an object of call to status", statuses, known)
    results = _by_call(
        "tool_call_result", "an object of call to result", columns.get("tool_call_results"), known, "tool_call_results"
    )
    replaced = {change.key for change in given}
    planned = [it for it in planned if it.field != "tool_call_status" or it.key not in replaced]
    return _with_withdrawn([*changes, *planned, *given, *results], state)


def without_error(status: Any, state: State) -> list[Change]:
    """Return the removal of the error of a failed session that gets another open status; no change otherwise.

    Args:
        status: The new status; None if it is removed.
        state: The session's state before.
    """
    held = state.get(("status", ""))
    is_left = held is not None and held.value == "failed" and status not in ("failed", *CLOSED)
    return [Change("error", "", removed=True)] if is_left and ("error", "") in state else []


def _with_withdrawn(changes: list[Change], state: State) -> list[Change]:
    """Return changes with the removals of the status and the result of each call that they remove."""
    given = {(change.field, change.key) for change in changes}
    withdrawn = [change.key for change in changes if change.removed and change.field == "tool_call"]
    parts = [(field, key) for key in withdrawn for field in ("tool_call_status", "tool_call_result")]
    return changes + [Change(*part, removed=True) for part in parts if part in state and part not in given]


def _by_call(field: str, shape: str, values: Any, state: State, column: str = "") -> list[Change]:
    if values is None:
        return []
    if not isinstance(values, Mapping):
        raise InvalidInput(f"{column or field} must be {shape}, not {full_name(values)}.")
    found: dict[Any, Any] = {}
    for call, value in values.items():
        call_id = id_in_object(call, state) if isinstance(call, str) else call
        if call_id in found:
            raise InvalidInput(f"{column or field} has two values for the tool call {call_id!r}; give one.")
        found[call_id] = value
    return [Change(field, call_id, value, value is None) for call_id, value in found.items()]

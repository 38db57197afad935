"""Conversion between a record of ``session_states`` and the session that holds it, in Python and in SQL."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from ledger.errors import InvalidInput
from ledger.model.json_form import json_form
from ledger.model.session import Session
from ledger.model.values import canonical, check_text, check_whole, full_name
from ledger.stores.sqlite import views

#: The columns of ``session_states``, in the documented order.
COLUMNS = (
    *("id", "created_at", "updated_at", "thread_id", "run_id", "user_prompt", "topic", "difficulty"),
    *("problem_description", "problem_tests", "code", "tests_passed", "code_attempts", "problem_attempts"),
    "workflow_status",
)
#: Attributes of a record, by which records can be filtered and counted. Each holds the column of the same name, except
#: ``record_id``, which holds the column ``id``.
ATTRIBUTES = ("run_id", "topic", "difficulty", "tests_passed", "code_attempts", "problem_attempts", "record_id")
#: Columns stored as context. Values of a state that belong to no column are stored as context too.
CONTEXT = ("problem_description", "problem_tests", "code")
STATUSES = ("running", "completed", "failed")
CRITERIA = ("topic", "difficulty", "workflow_status", "tests_passed")
#: Tag that marks a session as a record.
TAG = views.RECORD
#: Namespace of the UUIDv5 record ids.
_RECORDS = uuid.UUID("0193a5b1-7c55-7d0e-9f5e-3a1f0c2b7d66")
_TEXTS = ("run_id", "user_prompt", "topic", "difficulty", "problem_description", "code", "workflow_status")
#: Columns that count attempts.
ATTEMPT_COUNTERS = ("code_attempts", "problem_attempts")


def registers_from_state(values: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """Return the registers that a state sets, with their values. None means that the register is to be removed.

    Columns that the ledger sets itself, such as ``created_at``, are left out.

    Raises:
        InvalidInput: A column has the wrong type, or a name is not valid.
    """
    slots: dict[tuple[str, str], Any] = {}
    for name, value in values.items():
        if name in ("id", "created_at", "updated_at", "thread_id"):
            continue  # set by the ledger; present if a record is saved again
        if name in COLUMNS and value is not None:
            value = checked(name, value)
        if name == "user_prompt":
            slots["question", ""] = value
        elif name == "workflow_status":
            if value is not None:
                slots["status", ""] = status_of(value)
        else:
            kept = "attribute" if name in ATTRIBUTES and name in COLUMNS else "context"
            slots[kept, check_text(name, "A name in the state")] = value
    return slots


def record_id_of(thread_id: str) -> str:
    """Return the record id derived from a thread's id. A record that was imported may have another id."""
    return str(uuid.uuid5(_RECORDS, thread_id))


def recorded_values(session: Session) -> dict[tuple[str, str], str]:
    """Return the recorded values of the registers that this module writes, as JSON text.

    JSON text can be compared: it tells 1 from true, whereas ``1 == True`` in Python.
    """
    found: dict[tuple[str, str], Any] = {("attribute", name): value for name, value in session.attributes.items()}
    found |= {("context", name): value for name, value in session.context.items()}
    found |= {("tag", tag): True for tag in session.tags}
    single = {"question": session.question, "status": session.recorded_status, "error": session.error}
    found |= {(name, ""): value for name, value in single.items() if value is not None}
    return {slot: canonical(value) for slot, value in found.items()}


def record_of(session: Session) -> dict[str, Any]:
    """Return a session as a record: every documented column, with None where no value was saved."""
    values = {name: session.attributes.get(name) for name in ATTRIBUTES}
    values |= {name: session.context.get(name) for name in CONTEXT}
    status = session.status
    values |= {
        "id": values["record_id"],
        "created_at": session.created_at,
        "updated_at": session.updated_at,
        "thread_id": session.session_id,
        "user_prompt": session.question,
        "workflow_status": "running" if status == "active" else status,
    }
    return {column: values[column] for column in COLUMNS}


def is_state(session: Session) -> bool:
    """Return True if the session is a record and not deleted."""
    return TAG in session.tags and session.recorded_status != "deleted"


def as_object(state: Any) -> dict[str, Any]:
    """Return a state as a dict of JSON values. Models, dataclasses, dates, enums and sets are converted.

    Raises:
        InvalidInput: The state is not an object, or contains a value without JSON form.
    """
    if isinstance(state, Mapping):
        return {name: json_form(value, str(name)[:70]) for name, value in state.items()}
    found = json_form(state, "The state")
    if not isinstance(found, dict):
        raise InvalidInput(f"The state must be an object of name to value, not {full_name(state)}.")
    return found


def checked(name: str, value: Any) -> Any:
    """Return a column's value after checking its type.

    Raises:
        InvalidInput: The value has the wrong type.
    """
    if name in ATTEMPT_COUNTERS:
        return check_whole(value, name)
    expected: type = str if name in _TEXTS else bool if name == "tests_passed" else list
    if name in COLUMNS and not isinstance(value, expected):
        words = {str: "text", bool: "true or false", list: "an array"}
        raise InvalidInput(f"{name} must be {words[expected]}, not {full_name(value)}.")
    return value


def status_of(word: Any) -> str:
    """Return the session status for a ``workflow_status``: ``active`` for ``running``, else the same word.

    Raises:
        InvalidInput: The word is not a ``workflow_status``.
    """
    if word not in STATUSES:
        raise InvalidInput(f"workflow_status must be one of {', '.join(STATUSES)}, not {str(word)[:70]!r}.")
    return "active" if word == "running" else str(word)

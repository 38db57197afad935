"""Values of a row in a table of sessions: times, JSON columns that may hold JSON text, and words for statuses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ledger.errors import InvalidInput
from ledger.formats.times import read_text
from ledger.model.fields import TOOL_STATUSES
from ledger.model.instants import to_micros
from ledger.model.values import canonical

#: The ledger's tool call status for each accepted word. Case is ignored; spaces and hyphens count as ``_``.
TOOL_STATUS_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("pending", "planned", "queued", "scheduled", "waiting", "not_started", "todo"), "pending"),
    **dict.fromkeys(("running", "in_progress", "started", "executing", "processing"), "running"),
    **dict.fromkeys(("completed", "complete", "done", "success", "successful", "succeeded", "finished"), "completed"),
    **dict.fromkeys(("failed", "failure", "error", "errored"), "failed"),
}


def micros(value: Any, name: str) -> int:
    """Return a time in microseconds from a datetime or from text: ``2025-03-11 10:00:00.123456 UTC``, or RFC 3339."""
    instant = value
    if isinstance(value, str):
        instant = read_text(value)
        if instant is None:
            raise InvalidInput(f"{name} {value[:70]!r} is not a time such as 2025-03-11 10:00:00.123456 UTC.")
    if not isinstance(instant, datetime):
        raise InvalidInput(f"{name} must be a time, not {type(value).__name__}.")
    if instant.tzinfo is None:
        raise InvalidInput(
            f"{name} {str(value)!r} has no time zone. Times in BigQuery are UTC, and its exports include that: add it."
        )
    return to_micros(instant, name)


def object_of(value: Any, name: str) -> Any:
    """Return a JSON object; None for null. JSON text is decoded, even if it was encoded several times."""
    while isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{name} is not valid JSON text: {error}.") from error
    if value is not None and not isinstance(value, dict):
        raise InvalidInput(f"{name} must be an object, or an object as JSON text, not {type(value).__name__}.")
    return value


def strategy_of(value: Any) -> Any:
    """Return a strategy. JSON text of an object, array, string or null is decoded; all else is returned unchanged."""
    while isinstance(value, str):
        try:
            inner = json.loads(value)
            canonical(inner)
        except (ValueError, RecursionError, InvalidInput):
            return value
        if not isinstance(inner, dict | list | str | None):
            return value
        value = inner
    return value


def array_of(columns: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = columns.get(name)
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise InvalidInput(f"{name} must be an array, not {type(value).__name__}.")
    return value


def call_status(word: Any, name: str) -> str:
    status = TOOL_STATUS_WORDS.get(status_word(word)) if isinstance(word, str) else None
    if status is None:
        raise InvalidInput(
            f"the tool call {name!r} has the status {str(word)[:70]!r}, which is not one of "
            f"{', '.join(TOOL_STATUSES)}, nor a synonym "
            f"({', '.join(sorted(set(TOOL_STATUS_WORDS) - set(TOOL_STATUSES)))})."
        )
    return status


def status_word(status: Any) -> Any:
    """Return a status in the ledger's spelling: ``In Progress`` becomes ``in_progress``."""
    return "_".join(status.lower().replace("-", " ").split()) if isinstance(status, str) else status

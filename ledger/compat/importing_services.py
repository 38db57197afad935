"""Import of the data of conversation services and analysis sessions. Ids and times are preserved.

The functions of this module import into the sessions of ``ledger.compat.conversations`` and
``ledger.compat.analysis_sessions``. The rules are those of ``ledger.compat.importing``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.clock import Clock, utc_now
from ledger.compat.analysis_sessions.models import ANONYMOUS, SessionType
from ledger.compat.analysis_sessions.slots import MARK, METRICS, PREFERENCE
from ledger.compat.arguments import names_of
from ledger.compat.conversations import CONVERSATION
from ledger.compat.importing import other_columns
from ledger.compat.importing_sources import (
    boolean_of,
    first_of,
    id_text,
    instant,
    json_value,
    number,
    open_source,
    value_of,
)
from ledger.compat.importing_steps import BadRows, Step, check_and_record, in_order, session_of, statement
from ledger.errors import ConfigurationError, InvalidInput, LedgerError
from ledger.formats.events import Imported
from ledger.formats.recording import SessionEvents
from ledger.model.events import Change, NewEvent, prepare
from ledger.model.instants import to_text
from ledger.sdk.ledger import SessionLedger

if TYPE_CHECKING:
    from sqlalchemy import Engine

_OF_CONVERSATION = {
    *("id", "session_id", "user_id", "title", "description", "context_data", "session_metadata", "is_active"),
    *("created_at", "last_activity_at"),
}
_OF_MESSAGE = {
    *("id", "session_id", "role", "content", "tools_used", "processing_time_ms", "token_count", "has_error"),
    *("error_message", "message_metadata", "created_at"),
}
#: Columns of analysis sessions. Each tuple lists the names that a table may use for one column.
_ID, _KIND = ("id", "session_id"), ("type", "session_type")
_STATE = ("state", "session_state", "state_data")
_USED = ("last_accessed_at", "updated_at", "last_accessed")
_ARCHIVED, _ARCHIVED_AT = ("is_archived", "archived"), ("archived_at",)
_OF_ANALYSIS = {
    *(*_ID, *_KIND, *_STATE, *_USED, *_ARCHIVED, *_ARCHIVED_AT, "user_id", "assets", "tags", "created_at"),
    "expires_at",
}
#: Attribute that holds a session's row of the imported metrics table, without the column ``id``.
OLDER_METRICS = "older_metrics"
#: Attributes that the store itself uses. A column of such a name is stored with the prefix ``column_``.
_RESERVED = (MARK, METRICS, OLDER_METRICS)


def import_conversations(
    engine_or_url: Engine | str | Path, ledger: SessionLedger, *, clock: Clock = utc_now
) -> Imported:
    """Import ``conversation_sessions`` and ``conversation_messages`` as chats of ``ConversationService``.

    A chat is created at ``created_at``; each message is added at its own time; all other values are set at
    ``last_activity_at``. A chat that is not active is imported as expired. Undocumented columns of a chat become its
    attributes, and those of a message become its metadata.

    Args:
        engine_or_url: An SQLAlchemy engine, a URL, or the path of a SQLite file.
        clock: Source of the current time. Sessions older than ten years are refused, as no warehouse accepts them.

    Raises:
        InvalidInput: Rows cannot be recorded, or messages belong to no chat. The error names them by id, and nothing
            was written.
        IdempotencyConflict, WrongExpectedVersion, InvalidInput: A session that is already in the ledger contradicts a
            row. This is found while writing. The message names the session, of which nothing was written. Sessions
            imported earlier in the same call stay. Remove the contradiction and import again to record the rest.
        ConfigurationError, MissingExtra, StoreUnavailable: The tables cannot be read.
    """
    with open_source(engine_or_url) as source:
        chats = source.table("conversation_sessions", "session_id", "user_id", "created_at")
        messages = source.table("conversation_messages", "id", "session_id", "role", "content", "created_at")

        by_insertion = source.insertion_column(messages, "id")

        def read(bad: BadRows) -> Iterator[SessionEvents]:
            for row in source.orphans(messages, chats, "session_id"):
                bad.add(f"message {row['id']}", f"belongs to no session (session_id {row['session_id']!r})")
            for row in source.rows(chats, "created_at", "session_id"):
                where = f"session {row['session_id']}"
                message_rows = source.rows(messages, by_insertion, session_id=row["session_id"])
                with bad.row(where):
                    session_id = id_text(row["session_id"], "session_id")
                    steps = in_order(
                        [*_creation_step(row), *map(_message_step, message_rows), *_conversation_steps(row)]
                    )
                    owner, steps = id_text(row["user_id"], "user_id"), bad.unrecorded(session_id, steps)
                    yield bad.unique(session_of(session_id, owner, where, steps, ledger, clock))

        return check_and_record(read, "conversation_sessions and conversation_messages", ledger)


def import_analysis_sessions(
    engine_or_url: Engine | str | Path,
    ledger: SessionLedger,
    *,
    table: str = "sessions",
    metrics_table: str = "session_metrics",
    clock: Clock = utc_now,
) -> Imported:
    """Import the analysis sessions of a database. They become sessions of ``SessionStore``.

    A session is created at ``created_at``; each query of its history is added at its ``timestamp``; context,
    preferences and results are set at the last access. A session that the table marks as archived is imported as
    archived. Sessions that exist only in Redis are not imported; let the earlier service archive them first. If a
    session has a row in the metrics table, the row becomes the attribute ``older_metrics``. Undocumented columns
    become attributes of the same names.

    Args:
        engine_or_url: An SQLAlchemy engine, a URL, or the path of a SQLite file.
        table, metrics_table: Names of the two tables. The metrics table need not exist.
        clock: Source of the current time. Sessions older than ten years are refused, as no warehouse accepts them.

    Raises:
        InvalidInput: Rows cannot be recorded. The error names them by id, and nothing was written.
        IdempotencyConflict, WrongExpectedVersion, InvalidInput: A session that is already in the ledger contradicts a
            row. This is found while writing. The message names the session, of which nothing was written. Sessions
            imported earlier in the same call stay. Remove the contradiction and import again to record the rest.
        ConfigurationError, MissingExtra, StoreUnavailable: The tables cannot be read.
    """
    with open_source(engine_or_url) as source:
        sessions = source.table(table, "created_at")
        id_column = first_of(sessions.c.keys(), *_ID)
        if id_column is None:
            raise ConfigurationError(f"The table {table} needs a column id or session_id.")
        try:
            metrics = source.table(metrics_table, "session_id")
        except ConfigurationError:  # analytics were disabled or never ran
            metrics = None

        def read(bad: BadRows) -> Iterator[SessionEvents]:
            for row in source.rows(sessions, "created_at", id_column):
                where = f"session {row[id_column]}"
                metrics_rows = [] if metrics is None else source.rows(metrics, "session_id", session_id=row[id_column])
                with bad.row(where):
                    session_id = id_text(row[id_column], id_column)
                    steps = _analysis_steps(row, [other_columns(each, {"id"}) for each in metrics_rows])
                    owner = id_text(ANONYMOUS if row.get("user_id") is None else row["user_id"], "user_id")
                    steps = bad.unrecorded(session_id, steps)
                    yield bad.unique(session_of(session_id, owner, where, steps, ledger, clock))

        return check_and_record(read, table, ledger)


def _creation_step(row: Mapping[str, Any]) -> Iterator[Step]:
    changes = [Change("status", "", "active"), Change("session_type", "", CONVERSATION)]
    yield Step("session.created", instant(row["created_at"], "created_at"), changes, "created")


def _conversation_steps(row: Mapping[str, Any]) -> Iterator[Step]:
    """Yield the steps that set a chat's values, and a step that expires the chat if it is inactive."""
    created_at = instant(row["created_at"], "created_at")
    at = created_at if row.get("last_activity_at") is None else instant(row["last_activity_at"], "last_activity_at")
    attributes = other_columns(row, _OF_CONVERSATION) | {"description": row.get("description")}
    attributes["session_metadata"] = _object(row, "session_metadata")
    changes = [Change("context", name, value) for name, value in (_object(row, "context_data") or {}).items()]
    changes += [Change("attribute", name, value) for name, value in attributes.items() if value is not None]
    if row.get("title") is not None:
        changes.append(Change("title", "", row["title"]))
    # Recorded even if nothing changed: the event has the time of last use.
    yield from statement("session.updated", at, changes or [Change("session_type", "", CONVERSATION)])
    if boolean_of(row.get("is_active"), "is_active") is False:
        end = [Change("status", "", "expired"), Change("expires_at", "", to_text(at))]
        yield from statement("session.expired", at, end)


def _message_step(row: Mapping[str, Any]) -> Step:
    try:
        message_id = id_text(row["id"], "its id")
        at = instant(row["created_at"], "created_at")
        failed = boolean_of(row.get("has_error"), "has_error") or row.get("error_message") is not None
        metadata = {name: value for name, value in other_columns(row, _OF_MESSAGE).items() if value is not None}
        metadata |= _object(row, "message_metadata") or {}
        if not isinstance(row["content"], str):
            raise InvalidInput("content must be text")
        value = {
            "role": row["role"],
            "content": row["content"],
            "tools_used": json_value(row.get("tools_used"), "tools_used"),
            "processing_time_ms": number(row.get("processing_time_ms")),
            "token_count": number(row.get("token_count")),
            "error": {"type": "error", "message": row.get("error_message") or ""} if failed else None,
            "metadata": metadata or None,
        }
        changes = [Change("message", message_id, {name: it for name, it in value.items() if it is not None})]
        prepare(NewEvent("message.added", changes, message_id))
    except LedgerError as error:
        raise InvalidInput(f"message {row['id']}: {error}") from error
    return Step("message.added", at, changes, f"message {message_id}")


def _analysis_steps(row: Mapping[str, Any], metrics: list[dict[str, Any]]) -> list[Step]:
    created_at = instant(row["created_at"], "created_at")
    used = _time(row, _USED) or created_at
    state = _object({"state": value_of(row, *_STATE)}, "state") or {}
    history = state.get("history") or {}
    if not isinstance(history, dict) or not isinstance(history.get("queries", []), list):
        raise InvalidInput("state.history must be an object with a list of queries")
    creation = [Change("status", "", "active"), Change("attribute", MARK, True)]
    steps = [_query_step(query, index, created_at) for index, query in enumerate(history.get("queries", []), 1)]
    steps.sort(key=lambda step: step.at)
    steps += statement(
        "session.updated", max([used, *(step.at for step in steps)]), _final_changes(row, state, metrics)
    )
    if boolean_of(value_of(row, *_ARCHIVED), "is_archived"):
        at = max(_time(row, _ARCHIVED_AT) or used, used)
        steps += statement("session.archived", at, [Change("status", "", "archived")])
    return [Step("session.created", created_at, creation, "created"), *steps]


def _final_changes(row: Mapping[str, Any], state: Mapping[str, Any], metrics: list[dict[str, Any]]) -> list[Change]:
    """Return the changes that set all values of a session except its queries."""
    changes = [Change("session_type", "", _kind(row)), Change("attribute", "assets", _names(row, "assets"))]
    changes += [Change("tag", tag, True) for tag in dict.fromkeys(_names(row, "tags"))]
    ends = row.get("expires_at")
    changes.append(Change("expires_at", "", None if ends is None else to_text(instant(ends, "expires_at"))))
    for field, name in (("context", "context"), (PREFERENCE, "preferences"), ("result", "intermediate_results")):
        values = state.get(name) or {}
        if not isinstance(values, dict):
            raise InvalidInput(f"state.{name} must be an object of name to value")
        changes += [Change(field, key, value) for key, value in values.items()]
    known = {"context", "preferences", "intermediate_results", "history"}
    changes += [Change("x_state", name, value) for name, value in state.items() if name not in known]
    columns = other_columns(row, _OF_ANALYSIS).items()
    others = {f"column_{it}" if it in _RESERVED else it: value for it, value in columns if value is not None}
    if metrics:
        others[OLDER_METRICS] = metrics[-1]
    return changes + [Change("attribute", name, value) for name, value in others.items()]


def _query_step(query: Any, index: int, created_at: datetime) -> Step:
    if not isinstance(query, dict):
        raise InvalidInput(f"query {index} must be an object, not {type(query).__name__}")
    query_id = str(query.get("query_id") or query.get("id") or f"query-{index:04}")
    at = created_at if query.get("timestamp") is None else instant(query["timestamp"], f"query {index}: timestamp")
    execution_time = query.get("execution_time_ms")
    if execution_time is not None and (isinstance(execution_time, bool) or not isinstance(execution_time, int | float)):
        raise InvalidInput(f"query {index}: execution_time_ms must be a number, not {str(execution_time)[:70]!r}")
    if not isinstance(query.get("parameters") or {}, dict):
        raise InvalidInput(f"query {index}: parameters must be an object of name to value")
    value = {name: it for name, it in query.items() if name not in ("query_id", "id")} | {"timestamp": to_text(at)}
    changes = [Change("query", query_id, value)]
    return Step("query.added", max(at, created_at), changes, f"query {query_id}")


def _object(row: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    value = json_value(row.get(name), name)
    if value is not None and not isinstance(value, dict):
        raise InvalidInput(f"{name} must be an object of name to value")
    return value


def _names(row: Mapping[str, Any], name: str) -> list[str]:
    value = json_value(row.get(name), name)
    return [] if value is None else names_of(value, name)


def _time(row: Mapping[str, Any], names: tuple[str, ...]) -> datetime | None:
    found = value_of(row, *names)
    return None if found is None else instant(found, " or ".join(names))


def _kind(row: Mapping[str, Any]) -> str:
    word = value_of(row, *_KIND)
    try:
        return str(SessionType(str(word).lower()))
    except ValueError as error:
        raise InvalidInput(f"the type {word!r} is not one of {', '.join(SessionType)}") from error

"""Import of the data of earlier session stores. Ids and times are preserved.

SQLite and Postgres databases are read through SQLAlchemy (the extra ``migrate``). All rows are read and checked before
anything is written. If any row cannot be recorded, nothing is written, and the error names the bad rows. Importing an
unchanged source again adds nothing. If the source has changed, its new values are appended, and values that it no
longer has are removed. Times without a time zone are UTC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.clock import Clock, utc_now
from ledger.compat import chat_store, session_records, session_states
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

#: Columns that may hold a message's id. The id is taken from the first of these columns that has a value.
_IDS = ("message_id", "id")
_OF_STATE = {*session_records.COLUMNS, "user_id"}
_OF_CHAT = {"session_id", "user_id", "created_at", "updated_at", "last_activity", "expired_at", "context"}
_OF_MESSAGE = {
    *("message_id", "id", "session_id", "role", "content", "query_plan", "candidate_set", "timestamp", "created_at"),
}


def import_session_states(
    engine_or_url: Engine | str | Path | None,
    ledger: SessionLedger,
    *,
    user_id: str = session_states.OWNER,
    clock: Clock = utc_now,
) -> Imported:
    """Import a ``session_states`` table as records of ``ledger.compat.session_states``.

    Each row becomes a session. The session is created at ``created_at``, and its values are set at ``updated_at``.
    Undocumented columns are stored as context.

    Args:
        engine_or_url: An SQLAlchemy engine, a URL, the path of a SQLite file, or None for the database that the
            ``POSTGRES_*`` variables name.
        user_id: Owner of rows without a ``user_id``.
        clock: Source of the current time. Sessions older than ten years are refused, as no warehouse accepts them.

    Raises:
        InvalidInput: Rows cannot be recorded. The error names them by id, and nothing was written.
        IdempotencyConflict, WrongExpectedVersion, InvalidInput: A session that is already in the ledger contradicts a
            row. This is found while writing. The message names the session, of which nothing was written. Sessions
            imported earlier in the same call stay. Remove the contradiction and import again to record the rest.
        ConfigurationError, MissingExtra, StoreUnavailable: The table cannot be read.
    """
    with open_source(engine_or_url) as source:
        table = source.table("session_states", "thread_id", "created_at")

        def read(bad: BadRows) -> Iterator[SessionEvents]:
            for row in source.rows(table, "created_at", "thread_id"):
                where = f"row {row.get('id', row['thread_id'])}"
                with bad.row(where):
                    thread_id = id_text(row["thread_id"], "thread_id")
                    steps = bad.unrecorded(thread_id, _state_steps(row, thread_id))
                    owner = id_text(user_id if row.get("user_id") is None else row["user_id"], "user_id")
                    yield bad.unique(session_of(thread_id, owner, where, steps, ledger, clock))

        return check_and_record(read, "session_states", ledger)


def import_chat_store(path_or_url: Engine | str | Path, ledger: SessionLedger, *, clock: Clock = utc_now) -> Imported:
    """Import the tables ``chat_sessions`` and ``chat_messages`` as chats of ``ledger.compat.chat_store``.

    A chat is created at ``created_at``; each message is added at its own time; the context is set at ``updated_at``;
    the chat expires at ``expired_at``. Undocumented columns of a chat become its attributes, and those of a message
    become its metadata.

    Args:
        path_or_url: The path of the SQLite file, a URL, or an SQLAlchemy engine. It must not be the ledger's own file.
        clock: Source of the current time. Sessions older than ten years are refused, as no warehouse accepts them.

    Raises:
        InvalidInput: Rows cannot be recorded, or messages belong to no chat. The error names them by id, and nothing
            was written.
        IdempotencyConflict, WrongExpectedVersion, InvalidInput: A session that is already in the ledger contradicts a
            row. This is found while writing. The message names the session, of which nothing was written. Sessions
            imported earlier in the same call stay. Remove the contradiction and import again to record the rest.
        ConfigurationError, MissingExtra, StoreUnavailable: The tables cannot be read.
    """
    with open_source(path_or_url) as source:
        chats = source.table("chat_sessions", "session_id", "created_at")
        messages = source.table("chat_messages", "session_id", "role", "content")
        columns = messages.c.keys()
        id_column, time_column = first_of(columns, *_IDS), first_of(columns, "timestamp", "created_at")
        if id_column is None or time_column is None:
            raise ConfigurationError(
                f"chat_messages needs a column message_id or id, and timestamp or created_at; it has "
                f"{', '.join(columns)}."
            )

        by_insertion = source.insertion_column(messages, "id", "message_id")

        def read(bad: BadRows) -> Iterator[SessionEvents]:
            for row in source.orphans(messages, chats, "session_id"):
                bad.add(f"message {value_of(row, *_IDS)}", f"belongs to no chat (session_id {row['session_id']!r})")
            for row in source.rows(chats, "created_at", "session_id"):
                where = f"session {row['session_id']}"
                message_rows = source.rows(messages, by_insertion, session_id=row["session_id"])
                with bad.row(where):
                    session_id = id_text(row["session_id"], "session_id")
                    added = [_message_step(each, time_column) for each in message_rows]
                    steps = bad.unrecorded(session_id, _chat_steps(row, added))
                    owner = chat_store.ANONYMOUS if row.get("user_id") is None else row["user_id"]
                    yield bad.unique(session_of(session_id, id_text(owner, "user_id"), where, steps, ledger, clock))

        return check_and_record(read, "chat_sessions and chat_messages", ledger)


def _state_steps(row: Mapping[str, Any], thread_id: str) -> list[Step]:
    created_at = instant(row["created_at"], "created_at")
    changed = created_at if row.get("updated_at") is None else instant(row["updated_at"], "updated_at")
    record_id = session_records.record_id_of(thread_id) if row.get("id") is None else str(row["id"])
    values = {name: row[name] for name in session_records.COLUMNS if name in row}
    values["problem_tests"] = json_value(values.get("problem_tests"), "problem_tests")
    values["tests_passed"] = boolean_of(values.get("tests_passed"), "tests_passed")
    values |= {name: number(values[name]) for name in session_records.ATTEMPT_COUNTERS if name in values}
    values |= other_columns(row, _OF_STATE)
    slots = session_records.registers_from_state(values)
    slots.setdefault(("status", ""), "active")
    # NULL is recorded as a removal: on a repeated import, the row may have lost a value.
    changes = [Change(*slot, value, value is None) for slot, value in slots.items()]
    creation = [
        Change("status", "", "active"),
        Change("tag", session_records.TAG, True),
        Change("attribute", "record_id", record_id),
    ]
    return [
        Step("session.created", created_at, creation, "created"),
        *statement("session.updated", changed, changes),
    ]


def _chat_steps(row: Mapping[str, Any], messages: list[Step]) -> list[Step]:
    created_at = instant(row["created_at"], "created_at")
    used = value_of(row, "updated_at", "last_activity")
    changed = created_at if used is None else instant(used, "the time of the last change")
    creation = [Change("status", "", "active"), Change("session_type", "", chat_store.SESSION_TYPE)]
    context = json_value(row.get("context"), "context")
    if context is not None and not isinstance(context, dict):
        raise InvalidInput("context must be an object of name to value")
    changes = [Change("context", name, value) for name, value in (context or {}).items()]
    changes += [
        Change("attribute", name, value) for name, value in other_columns(row, _OF_CHAT).items() if value is not None
    ]
    steps = [Step("session.created", created_at, creation, "created"), *messages]
    if changes:
        steps += statement("context.updated", changed, changes)
    elif changed > max(step.at for step in steps):  # no other event records the time of last use
        steps += statement("session.updated", changed, creation[1:])
    if row.get("expired_at") is not None:
        ended = instant(row["expired_at"], "expired_at")
        end = [Change("status", "", "expired"), Change("expires_at", "", to_text(ended))]
        steps += statement("session.expired", ended, end)
    return in_order(steps)


def _message_step(row: Mapping[str, Any], time_column: str) -> Step:
    found = value_of(row, *_IDS)
    try:
        message_id = id_text(found, "its id")
        at = instant(row[time_column], time_column)
        payload = {name: json_value(row.get(name), name) for name in ("query_plan", "candidate_set")}
        payload = {name: value for name, value in payload.items() if value is not None}
        metadata = {name: other for name, other in other_columns(row, _OF_MESSAGE).items() if other is not None}
        if not isinstance(row["content"], str):
            raise InvalidInput("content must be text")
        value = {"role": row["role"], "content": row["content"], "metadata": {**metadata, "timestamp": to_text(at)}}
        if payload:
            value["payload"] = payload
        changes = [Change("message", message_id, value)]
        prepare(NewEvent("message.added", changes, message_id))
    except LedgerError as error:
        raise InvalidInput(f"message {found}: {error}") from error
    return Step("message.added", at, changes, f"message {message_id}")


def other_columns(row: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    """Return the columns of a row that are not in ``known``, as JSON values by name."""
    return session_records.as_object({name: value for name, value in row.items() if name not in known})

"""What an older session store holds, brought into a ledger: ids and times stay what they were.

Read through SQLAlchemy (the extra ``migrate``), so that SQLite and Postgres are alike. All rows are read and checked
before anything is written: where one cannot be recorded, none is, and the error names the rows. Importing again adds
nothing; where the older store has gone on meanwhile, what is new there follows what is here, and what it took back is
taken back. Times without a zone are UTC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.clock import Clock, utc_now
from ledger.compat import chat_store, session_records, session_states
from ledger.compat.importing_sources import (
    first_of,
    instant,
    json_value,
    number,
    open_source,
    text_of,
    truth,
    value_of,
)
from ledger.compat.importing_steps import BadRows, Step, bring_in, in_order, session_of, statement
from ledger.errors import ConfigurationError, InvalidInput, LedgerError
from ledger.formats.events import Imported
from ledger.formats.recording import SessionEvents
from ledger.model.events import Change, NewEvent, prepare
from ledger.model.instants import to_text
from ledger.sdk.ledger import SessionLedger

if TYPE_CHECKING:
    from sqlalchemy import Engine

#: Columns that may name a message, the first before the second.
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
    """Bring in a ``session_states`` table, as ``ledger.compat.session_states`` keeps its records.

    A row becomes a session with two events: it began at ``created_at``, and was what the row says at ``updated_at``.
    Columns beside the documented ones are kept as context.

    Args:
        engine_or_url: An SQLAlchemy engine, a URL, the path of a SQLite file, or None for the database that the
            ``POSTGRES_*`` variables name.
        user_id: Owner of the rows that name none in a ``user_id`` column.
        clock: By which a row may be too old for a warehouse: ten years.

    Raises:
        InvalidInput: Rows cannot be recorded; the message names them by id, and nothing was written.
        IdempotencyConflict, WrongExpectedVersion, InvalidInput: A session here contradicts a row; it is named, and
            nothing of it was written. Those before it may be recorded; importing again goes on.
        ConfigurationError, MissingExtra, StoreUnavailable: The table cannot be read.
    """
    with open_source(engine_or_url) as source:
        table = source.table("session_states", "thread_id", "created_at")

        def read(bad: BadRows) -> Iterator[SessionEvents]:
            for row in source.rows(table, "created_at", "thread_id"):
                where = f"row {row.get('id', row['thread_id'])}"
                with bad.row(where):
                    thread_id = text_of(row["thread_id"], "thread_id")
                    steps = bad.new(thread_id, _state_steps(row, thread_id))
                    owner = text_of(user_id if row.get("user_id") is None else row["user_id"], "user_id")
                    yield bad.once(session_of(thread_id, owner, where, steps, ledger, clock))

        return bring_in(read, "session_states", ledger)


def import_chat_store(path_or_url: Engine | str | Path, ledger: SessionLedger, *, clock: Clock = utc_now) -> Imported:
    """Bring in the tables ``chat_sessions`` and ``chat_messages``, as ``ledger.compat.chat_store`` keeps its chats.

    A chat began at ``created_at``; each message was added at its time; the context was what it is at ``updated_at``;
    and it expired at ``expired_at``. Columns beside these are kept: of a chat as attributes, of a message as metadata.

    Args:
        path_or_url: The path of the SQLite file, a URL, or an SQLAlchemy engine. Not the ledger's own file.
        clock: By which a row may be too old for a warehouse: ten years.

    Raises:
        InvalidInput: Rows cannot be recorded, or messages belong to no chat; the message names them by id, and nothing
            was written.
        IdempotencyConflict, WrongExpectedVersion, InvalidInput: A session here contradicts a row; it is named, and
            nothing of it was written. Those before it may be recorded; importing again goes on.
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

        inserted = source.inserted(messages, "id", "message_id")

        def read(bad: BadRows) -> Iterator[SessionEvents]:
            for row in source.strays(messages, chats, "session_id"):
                bad.found(f"message {value_of(row, *_IDS)}", f"belongs to no chat (session_id {row['session_id']!r})")
            for row in source.rows(chats, "created_at", "session_id"):
                where = f"session {row['session_id']}"
                said = source.rows(messages, inserted, session_id=row["session_id"])
                with bad.row(where):
                    session_id = text_of(row["session_id"], "session_id")
                    steps = bad.new(session_id, _chat_steps(row, [_message_step(each, time_column) for each in said]))
                    owner = chat_store.ANONYMOUS if row.get("user_id") is None else row["user_id"]
                    yield bad.once(session_of(session_id, text_of(owner, "user_id"), where, steps, ledger, clock))

        return bring_in(read, "chat_sessions and chat_messages", ledger)


def _state_steps(row: Mapping[str, Any], thread_id: str) -> list[Step]:
    began = instant(row["created_at"], "created_at")
    changed = began if row.get("updated_at") is None else instant(row["updated_at"], "updated_at")
    record_id = session_records.record_id_of(thread_id) if row.get("id") is None else str(row["id"])
    values = {name: row[name] for name in session_records.COLUMNS if name in row}
    values["problem_tests"] = json_value(values.get("problem_tests"), "problem_tests")
    values["tests_passed"] = truth(values.get("tests_passed"), "tests_passed")
    values |= {name: number(values[name]) for name in session_records.ATTEMPT_COUNTERS if name in values}
    values |= other_columns(row, _OF_STATE)
    slots = session_records.slots_of(values)
    slots.setdefault(("status", ""), "active")
    # What is NULL is said to be gone: a row that is brought in again may have lost what it had.
    changes = [Change(*slot, value, value is None) for slot, value in slots.items()]
    beginning = [
        Change("status", "", "active"),
        Change("tag", session_records.TAG, True),
        Change("attribute", "record_id", record_id),
    ]
    return [
        Step("session.created", began, beginning, "created"),
        *statement("session.updated", changed, changes),
    ]


def _chat_steps(row: Mapping[str, Any], messages: list[Step]) -> list[Step]:
    began = instant(row["created_at"], "created_at")
    used = value_of(row, "updated_at", "last_activity")
    changed = began if used is None else instant(used, "the time of its last change")
    beginning = [Change("status", "", "active"), Change("session_type", "", chat_store.SESSION_TYPE)]
    context = json_value(row.get("context"), "context")
    if context is not None and not isinstance(context, dict):
        raise InvalidInput("context must be an object of name to value")
    changes = [Change("context", name, value) for name, value in (context or {}).items()]
    changes += [
        Change("attribute", name, value) for name, value in other_columns(row, _OF_CHAT).items() if value is not None
    ]
    steps = [Step("session.created", began, beginning, "created"), *messages]
    if changes:
        steps += statement("context.updated", changed, changes)
    elif changed > max(step.at for step in steps):  # nothing else says when it was used last
        steps += statement("session.updated", changed, beginning[1:])
    if row.get("expired_at") is not None:
        ended = instant(row["expired_at"], "expired_at")
        end = [Change("status", "", "expired"), Change("expires_at", "", to_text(ended))]
        steps += statement("session.expired", ended, end)
    return in_order(steps)


def _message_step(row: Mapping[str, Any], time_column: str) -> Step:
    found = value_of(row, *_IDS)
    try:
        message_id = text_of(found, "its id")
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
    """The columns that nobody documented, as JSON."""
    return session_records.as_object({name: value for name, value in row.items() if name not in known})

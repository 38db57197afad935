"""What an older session store holds, brought into a ledger: ids and times stay what they were.

Read through SQLAlchemy (the extra ``migrate``), so that SQLite and Postgres are alike. All rows are read and checked
before anything is written: where one cannot be recorded, none is, and the error names the rows. Importing again adds
nothing; where the older store has gone on meanwhile, what is new there follows what is here. Times without a zone are
UTC.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.clock import Clock, utc_now
from ledger.compat import chat_store, session_records, session_states
from ledger.compat.importing_sources import first_of, instant, json_value, open_source
from ledger.errors import ConfigurationError, InvalidInput, LedgerError
from ledger.exchange import Imported
from ledger.model.events import SCHEMA_VERSION, Change, NewEvent, RecordedChange, RecordedEvent, prepare
from ledger.model.ids import check_created_at, check_session_id, created_at_of
from ledger.model.instants import to_text
from ledger.model.values import canonical, check_text
from ledger.recording import SessionEvents, record
from ledger.sessions import SessionLedger

if TYPE_CHECKING:
    from sqlalchemy import Engine

#: Bad rows that an error names; of the others it says how many there are.
NAMED = 20
#: Namespace of the ids made here.
_ROWS = uuid.UUID("0193a5b1-7c55-7d0e-9f5e-3a1f0c2b7d67")
_OF_STATE = {*session_records.COLUMNS, "user_id"}
_OF_CHAT = {"session_id", "user_id", "created_at", "updated_at", "last_activity", "expired_at", "context"}
_OF_MESSAGE = {
    *("message_id", "id", "session_id", "role", "content", "query_plan", "candidate_set", "timestamp", "created_at"),
}


@dataclass(frozen=True, slots=True)
class Step:
    """An event to be. ``key`` is what it says apart from others of its session, and for good."""

    event_type: str
    at: datetime
    changes: list[Change]
    key: str


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
                    steps = _state_steps(row)
                    owner = user_id if row.get("user_id") is None else row["user_id"]
                    yield bad.once(session_of(row["thread_id"], owner, where, steps, ledger, clock))

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
        id_column, time_column = first_of(columns, "message_id", "id"), first_of(columns, "timestamp", "created_at")
        if id_column is None or time_column is None:
            raise ConfigurationError(
                f"chat_messages needs a column message_id or id, and timestamp or created_at; it has "
                f"{', '.join(columns)}."
            )

        def read(bad: BadRows) -> Iterator[SessionEvents]:
            for row in source.strays(messages, chats, "session_id"):
                bad.found(f"message {row[id_column]}", f"belongs to no chat (session_id {row['session_id']!r})")
            for row in source.rows(chats, "created_at", "session_id"):
                where = f"session {row['session_id']}"
                said = source.rows(messages, time_column, id_column, session_id=row["session_id"])
                with bad.row(where):
                    steps = _chat_steps(row, (_message_step(each, id_column, time_column) for each in said))
                    owner = chat_store.ANONYMOUS if row.get("user_id") is None else row["user_id"]
                    yield bad.once(session_of(row["session_id"], owner, where, steps, ledger, clock))

        return bring_in(read, "chat_sessions and chat_messages", ledger)


def bring_in(read: Callable[[BadRows], Iterator[SessionEvents]], what: str, ledger: SessionLedger) -> Imported:
    """Read all once to find what is bad, then once more to record it: no more is held than a batch."""
    bad = BadRows()
    for _ in read(bad):
        pass
    bad.check(what)
    return record(ledger.store, read(BadRows(strict=True)))


class BadRows:
    """The rows that cannot be recorded, and why."""

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._rows: list[str] = []
        self._count = 0
        self._ids: set[str] = set()

    def row(self, where: str) -> _Row:
        return _Row(self, where)

    def once(self, session: SessionEvents) -> SessionEvents:
        if session.session_id in self._ids:
            raise InvalidInput(f"there are two rows of {session.session_id}")
        self._ids.add(session.session_id)
        return session

    def found(self, where: str, why: str) -> None:
        self._count += 1
        if len(self._rows) < NAMED:
            self._rows.append(f"{where}: {why.rstrip('.')}")
        if self._strict:  # the older store has changed since all was checked
            self.check("the older store")

    def check(self, what: str) -> None:
        if self._count:
            more = f"; and {self._count - len(self._rows)} more" if self._count > len(self._rows) else ""
            raise InvalidInput(
                f"{self._count} rows of {what} cannot be recorded; nothing was written. {'; '.join(self._rows)}{more}."
            )


class _Row:
    """A row that is being read; what is wrong with it is kept, and the next one follows."""

    def __init__(self, bad: BadRows, where: str) -> None:
        self._bad = bad
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, LedgerError):
            return False
        self._bad.found(self._where, str(error))
        return True


def _state_steps(row: Mapping[str, Any]) -> list[Step]:
    began = instant(row["created_at"], "created_at")
    changed = began if row.get("updated_at") is None else instant(row["updated_at"], "updated_at")
    thread_id = check_text(row["thread_id"], "thread_id")
    record_id = session_records.record_id_of(thread_id) if row.get("id") is None else str(row["id"])
    values = {name: row[name] for name in session_records.COLUMNS if name in row}
    values["problem_tests"] = json_value(values.get("problem_tests"), "problem_tests")
    if values.get("tests_passed") in (0, 1):  # SQLite has no other truth
        values["tests_passed"] = bool(values["tests_passed"])
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
        Step("session.updated", changed, changes, content_of(changed, changes)),
    ]


def _chat_steps(row: Mapping[str, Any], messages: Iterator[Step]) -> list[Step]:
    began = instant(row["created_at"], "created_at")
    changed_column = first_of(row, "updated_at", "last_activity")
    changed = began if changed_column is None or row[changed_column] is None else instant(row[changed_column], "time")
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
        steps.append(Step("context.updated", changed, changes, content_of(changed, changes)))
    elif changed > max(step.at for step in steps):  # nothing else says when it was used last
        steps.append(Step("session.updated", changed, beginning[:1], content_of(changed, beginning[:1])))
    if row.get("expired_at") is not None:
        ended = instant(row["expired_at"], "expired_at")
        end = [Change("status", "", "expired"), Change("expires_at", "", to_text(ended))]
        steps.append(Step("session.expired", ended, end, content_of(ended, end)))
    return steps


def _message_step(row: Mapping[str, Any], id_column: str, time_column: str) -> Step:
    try:
        at = instant(row[time_column], time_column)
        message_id = check_text(str(row[id_column]), id_column)
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
        raise InvalidInput(f"message {row[id_column]}: {error}") from error
    return Step("message.added", at, changes, f"message {message_id}")


def other_columns(row: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    """The columns that nobody documented, as JSON."""
    return session_records.as_object({name: value for name, value in row.items() if name not in known})


def content_of(at: datetime, changes: list[Change]) -> str:
    """What an event says that may be said again, otherwise, when the older store has gone on."""
    return canonical([to_text(at), [[change.field, change.key, change.value] for change in changes]])


def session_of(
    session_id: Any, user_id: Any, where: str, steps: list[Step], ledger: SessionLedger, clock: Clock
) -> SessionEvents:
    """Steps as the events of a session, recorded when they happened."""
    check_session_id(session_id)
    created_at = created_at_of(session_id) or steps[0].at
    check_created_at(created_at, clock())
    recorded_at = steps[0].at
    events = []
    for version, step in enumerate(steps, 1):
        event_id = str(uuid.uuid5(_ROWS, canonical([session_id, step.key])))
        event = prepare(
            NewEvent(step.event_type, step.changes, event_id, None, step.at, check_text(user_id, "user_id"))
        )
        recorded_at = max(recorded_at, step.at)  # within a session it never goes backwards
        events.append(
            RecordedEvent(
                session_id=session_id,
                version=version,
                event_id=event_id,
                event_type=step.event_type,
                changes=tuple(RecordedChange(*change) for change in event.changes),
                user_id=user_id,
                actor=None,
                occurred_at=step.at,
                recorded_at=recorded_at,
                created_at=created_at,
                schema_version=SCHEMA_VERSION,
                store_id=ledger.store.store_id,
            )
        )
    return SessionEvents(session_id, where, tuple(events))

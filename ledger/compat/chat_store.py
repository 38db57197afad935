"""A chat session store on a SQLite file, over a ledger.

A chat is a session of the type ``chat``; other sessions of the same ledger are none to this store. It lives until
somebody expires it, and is kept when it has expired. Messages are read when they are asked for, so that the newest ten
of a long chat cost ten.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from ledger.clock import Clock, new_id, utc_now
from ledger.compat import read_only
from ledger.compat.arguments import object_of
from ledger.errors import ConfigurationError, InvalidInput, SessionEnded, SessionNotFound, WrongExpectedVersion
from ledger.model.ids import check_session_id
from ledger.model.instants import from_text, to_text
from ledger.model.lifetime import CLOSED, DONE
from ledger.model.page import EVENTS_PAGE, SESSIONS_PAGE
from ledger.model.queries import SessionQuery
from ledger.model.session import Message as Recorded
from ledger.model.session import Session
from ledger.sdk.ledger import SessionLedger

#: Owner of the sessions of nobody in particular.
ANONYMOUS = "anonymous"
#: What tells chats from other sessions of a ledger.
SESSION_TYPE = "chat"

_SESSIONS = f"""
SELECT
  heads.session_id,
  NULLIF(heads.user_id, '{ANONYMOUS}') AS user_id,
  {read_only.instant("heads.created_at")} AS created_at,
  {read_only.instant("heads.updated_at")} AS updated_at,
  CASE
    WHEN {read_only.slot("status")} = 'expired' THEN {read_only.slot("expires_at")}
    WHEN {read_only.slot("status")} IN ('completed', 'failed', 'archived') THEN NULL
    WHEN {read_only.slot("expires_at")} <= strftime('%Y-%m-%dT%H:%M:%fZ', 'now') THEN {read_only.slot("expires_at")}
  END AS expired_at,
  (
    SELECT COALESCE(json_group_object(key, json(value)), '{{}}') FROM session_state
    WHERE session_id = heads.session_id AND field = 'context'
  ) AS context
FROM session_heads AS heads
WHERE {read_only.slot("session_type")} = '{SESSION_TYPE}' AND {read_only.slot("status")} IS NOT 'deleted'
"""  # noqa: S608 - names of this module only
_MESSAGES = """
SELECT
  slots.key AS message_id,
  slots.session_id,
  json_extract(COALESCE(slots.value, events.value), '$.role') AS role,
  json_extract(COALESCE(slots.value, events.value), '$.content') AS content,
  json_extract(COALESCE(slots.value, events.value), '$.payload.query_plan') AS query_plan,
  json_extract(COALESCE(slots.value, events.value), '$.payload.candidate_set') AS candidate_set,
  json_extract(COALESCE(slots.value, events.value), '$.metadata.timestamp') AS timestamp
FROM chat_sessions AS chats
JOIN session_state AS slots ON slots.session_id = chats.session_id AND slots.field = 'message'
JOIN session_events AS events ON events.seq = slots.event_seq
"""
#: The views in place of the two tables: one row a chat, one row a message.
VIEWS: Mapping[str, str] = {"chat_sessions": _SESSIONS, "chat_messages": _MESSAGES}


class Message(BaseModel):
    """One message of a chat.

    Attributes:
        query_plan, candidate_set: What the message's query was and found: any pydantic model, or JSON.
        timestamp: When it was said, aware; when the message was made, where nobody says.
        metadata: Whatever else belongs to it, as JSON.
        message_id: Made with the message, so that adding the same message again, after an error, records it once.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str
    query_plan: Any = None
    candidate_set: Any = None
    timestamp: datetime = Field(default_factory=utc_now)
    metadata: dict[str, Any] | None = None
    message_id: str = Field(default_factory=lambda: new_id(utc_now()))


class ChatResponse(BaseModel):
    """What a chat endpoint answers with."""

    message: str
    candidate_set: Any = None
    session_id: str


class ChatSession:
    """A chat as it was when it was read.

    Attributes:
        session_id: Its id.
        user_id: Its owner; None for the anonymous user.
        context: What is carried from turn to turn.
        created_at, updated_at: When it began, and when something last happened to it, in UTC.
        expired_at: When it expired; None for one that has not.
    """

    def __init__(self, store: SessionStore, session: Session) -> None:
        self._store = store
        self._messages: list[Message] | None = None
        self.session_id: str = session.session_id
        self.user_id: str | None = None if session.user_id == ANONYMOUS else session.user_id
        self.context: dict[str, Any] = session.context
        self.created_at: datetime = session.created_at
        self.updated_at: datetime = session.updated_at
        self.expired_at: datetime | None = session.expires_at if session.status == "expired" else None

    @property
    def messages(self) -> list[Message]:
        """All messages, the oldest first: read when they are first asked for, and kept."""
        if self._messages is None:
            self._messages = self._store._all_messages(self.session_id)
        return self._messages

    def get_recent_messages(self, n: int = 10) -> list[Message]:
        """The newest ``n`` messages, the oldest of them first; no others are read.

        Raises:
            InvalidInput: ``n`` is no whole number from 1 to 10,000.
        """
        return self._store._newest_messages(self.session_id, n)

    def __repr__(self) -> str:
        return f"ChatSession({self.session_id!r}, user_id={self.user_id!r})"


class SessionStore:
    """Chats in a ledger's file, for any number of threads and processes. Close it, or use it as a context manager.

    Args:
        path: The file; made, with its folder, where it does not exist. Or the URL of a ledger.
        ledger: A ledger of yours instead, which you close; or the view of one user, ``ledger.for_user(...)``, to whom
            the chats of others are not there.
        query_plan_type, candidate_set_type: Pydantic models that messages come back with; JSON where None.
        clock: By which messages and expiry go.

    Raises:
        ConfigurationError: Neither or both of path and ledger are given, or the file is no ledger. One of the older
            store is brought in by ``ledger.compat.importing.import_chat_store``.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        ledger: SessionLedger | None = None,
        query_plan_type: type[BaseModel] | None = None,
        candidate_set_type: type[BaseModel] | None = None,
        clock: Clock = utc_now,
    ) -> None:
        if (path is None) == (ledger is None):
            raise ConfigurationError("A SessionStore is on the path of a file or over a ledger; give one of the two.")
        self._types = {"query_plan": query_plan_type, "candidate_set": candidate_set_type}
        self._clock = clock
        self._own = ledger is None
        self.ledger = SessionLedger(_url(path), clock=clock) if ledger is None else ledger

    def create_session(self, user_id: str | None = None) -> ChatSession:
        """Begin a chat, of the anonymous user where nobody is named; over the view of a user, it is theirs."""
        owner = user_id if user_id is not None or self.ledger.user_id is not None else ANONYMOUS
        session_id = self.ledger.create_session(owner, fields={"session_type": SESSION_TYPE}, ttl=None)
        return ChatSession(self, self._require(session_id))

    def get_session(self, session_id: str) -> ChatSession | None:
        """A chat; None where it has expired or does not exist, also where no chat could have the id."""
        try:
            session = self._find(check_session_id(session_id))
        except InvalidInput:
            return None
        return None if session is None or session.status in CLOSED else ChatSession(self, session)

    def add_message(self, session_id: str, message: Message) -> str:
        """Add a message at the end of a chat; any number of writers may at the same time.

        Returns:
            The message's id.

        Raises:
            SessionNotFound: There is no such chat.
            SessionEnded: It has expired.
            IdempotencyConflict: Another message has this id.
            InvalidInput: It is no message, or what belongs to it cannot be recorded as JSON.
        """
        if not isinstance(message, Message):
            raise InvalidInput(
                f"message must be a Message(role=..., content=...), not {type(message).__name__}; nothing was written."
            )
        self._require(session_id)
        parts = {name: getattr(message, name) for name in self._types}
        payload = {name: _jsonable(value, name) for name, value in parts.items() if value is not None}
        metadata = {
            **_jsonable(message.metadata or {}, "metadata"),
            "timestamp": to_text(message.timestamp, "timestamp"),
        }
        self.ledger.add_message(
            session_id,
            message.role,
            message.content,
            message_id=message.message_id,
            metadata=metadata,
            payload=payload or None,
            event_id=message.message_id,
            occurred_at=message.timestamp,
        )
        return message.message_id

    def update_context(self, session_id: str, context: Mapping[str, Any]) -> None:
        """Merge names into a chat's context; the others stay as they are.

        Raises:
            SessionNotFound: There is no such chat.
            SessionEnded: It has expired.
            InvalidInput: The context is no object, or JSON cannot hold it.
        """
        self._require(session_id)
        names = object_of(context, "context")
        if names:
            self.ledger.update_context(session_id, _jsonable(names, "context"))

    def list_user_sessions(self, user_id: str | None, *, include_expired: bool = False) -> list[ChatSession]:
        """All chats of a user, newest first, without their messages; None for the anonymous user."""
        found: list[ChatSession] = []
        after: str | None = None
        owner = ANONYMOUS if user_id is None else user_id
        while True:
            page = self.ledger.list_sessions(owner, session_type=SESSION_TYPE, after=after, limit=SESSIONS_PAGE)
            found += [ChatSession(self, each) for each in page if include_expired or each.status not in CLOSED]
            after = page.next
            if after is None:
                return found

    def expire_session(self, session_id: str) -> bool:
        """End a chat now; it is kept. False where it had expired before.

        Raises:
            SessionNotFound: There is no such chat.
        """
        self._require(session_id)
        return self.ledger.expire_session(session_id) is not None

    def expire_old_sessions(self, max_age_hours: float = 24) -> int:
        """End every chat to which nothing has happened for so many hours; one that is used meanwhile goes on.

        Returns:
            How many it ended.

        Raises:
            InvalidInput: The hours are below zero.
        """
        if isinstance(max_age_hours, bool) or not isinstance(max_age_hours, int | float) or not max_age_hours >= 0:
            raise InvalidInput(f"max_age_hours must be a number of hours from 0 up, not {str(max_age_hours)[:70]!r}.")
        try:
            before = self._clock() - timedelta(hours=max_age_hours)
        except OverflowError:
            return 0  # longer ago than there are dates
        query = SessionQuery(
            session_type=SESSION_TYPE, updated_before=before, without=(*CLOSED, *DONE), at=self._clock()
        )
        expired = 0
        after: str | None = None
        while True:
            page = self.ledger.store.sessions(query, after=after, limit=SESSIONS_PAGE)
            for head, _ in page:
                try:
                    expired += self.ledger.expire_session(head.session_id, expected_version=head.version) is not None
                except (WrongExpectedVersion, SessionNotFound, SessionEnded):
                    continue  # somebody goes on with it, or was faster
            after = page.next
            if after is None:
                return expired

    def get_db_connection(self) -> sqlite3.Connection:
        """A read-only DB-API connection that has ``chat_sessions`` and ``chat_messages``; close it.

        ``expired_at`` is NULL for a chat that has not expired; times are text in UTC; ``context``, ``query_plan`` and
        ``candidate_set`` are JSON text.

        Raises:
            CapabilityMissing: The ledger is not in a SQLite file.
            PermissionDenied: It is the view of one user.
        """
        return read_only.connect(self.ledger, VIEWS)

    def close(self) -> None:
        """Close the file; a ledger that was handed in stays open. Calling it again does nothing."""
        if self._own:
            self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _find(self, session_id: str) -> Session | None:
        session = self.ledger.get_session(session_id)
        return session if session is not None and session.session_type == SESSION_TYPE else None

    def _require(self, session_id: str) -> Session:
        session = self._find(session_id)
        if session is None:
            raise SessionNotFound(
                f"There is no chat {session_id}; begin one with create_session().", session_id=session_id
            )
        return session

    def _all_messages(self, session_id: str) -> list[Message]:
        found: list[Message] = []
        after: str | None = None
        while True:
            page = self.ledger.get_messages(session_id, after=after, limit=EVENTS_PAGE)
            found += [self._message(each) for each in page]
            after = page.next
            if after is None:
                return found

    def _newest_messages(self, session_id: str, n: int) -> list[Message]:
        return [self._message(each) for each in self.ledger.get_messages(session_id, last=n)]

    def _message(self, recorded: Recorded) -> Message:
        # Another program may have recorded any JSON in either.
        metadata = dict(_object_in(recorded.metadata, "metadata"))
        said = None
        with suppress(InvalidInput, KeyError):
            said = from_text(metadata["timestamp"])
            del metadata["timestamp"]
        payload = _object_in(recorded.payload, "payload")
        parts = {name: self._typed(name, payload.get(name), recorded) for name in self._types}
        # Not checked again: one that was erased has no role and no content, and one of the SDK's no timestamp.
        return Message.model_construct(
            role=recorded.role,
            content=recorded.content or "",
            timestamp=said,
            metadata=metadata or None,
            message_id=recorded.message_id,
            **parts,
        )

    def _typed(self, name: str, value: Any, recorded: Recorded) -> Any:
        model = self._types[name]
        if model is None or value is None:
            return value
        try:
            return model.model_validate(value)
        except ValidationError as error:
            raise InvalidInput(
                f"The {name} of message {recorded.message_id} is no {model.__name__}: {error.error_count()} parts do "
                f"not fit it. Read it without {name}_type."
            ) from error


def _object_in(value: Any, name: str) -> Mapping[str, Any]:
    """An object as it is, and any other JSON under a name."""
    return value if isinstance(value, Mapping) else {} if value is None else {name: value}


def _jsonable(value: Any, name: str) -> Any:
    try:
        return to_jsonable_python(value)
    except (PydanticSerializationError, ValueError) as error:
        raise InvalidInput(
            f"{name} holds something that JSON cannot ({type(value).__name__}); nothing was written."
        ) from error


def _url(path: str | Path | None) -> str:
    text = str(path)
    if isinstance(path, str) and "://" in text:
        return text
    if "?" in text:
        raise ConfigurationError(f"The path {text!r} has a question mark, which a ledger's URL cannot say; rename it.")
    return f"sqlite:///{text}"

"""A chat session store on a SQLite file, backed by a ledger.

A chat is a session of the type ``chat``; the store ignores other sessions of the ledger. A chat has no TTL. It ends
when a method of the store expires it, and is kept afterwards. Messages are read only on request, and only as many as
requested: to return the newest ten of a long chat, the store reads ten.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ledger.clock import Clock, new_id, utc_now
from ledger.compat import read_only
from ledger.compat.arguments import object_of
from ledger.errors import ConfigurationError, InvalidInput, SessionEnded, SessionNotFound, WrongExpectedVersion
from ledger.model.instants import from_text, to_text
from ledger.model.json_form import json_form
from ledger.model.lifetime import CLOSED, DONE
from ledger.model.page import SESSIONS_PAGE, every_item
from ledger.model.queries import SessionQuery
from ledger.model.session import Message as Recorded
from ledger.model.session import Session
from ledger.model.values import check_session_id, full_name
from ledger.sdk.ledger import SessionLedger
from ledger.stores.sqlite import views
from ledger.warehouse.urls import file_path

#: Owner of sessions created without a user.
ANONYMOUS = views.ANONYMOUS
#: Session type of chats.
SESSION_TYPE = views.CHAT


class Message(BaseModel):
    """One message of a chat.

    Attributes:
        query_plan, candidate_set: The query that belongs to the message, and its results. Each is a pydantic model or
            any JSON value.
        timestamp: Time of the message, timezone-aware; defaults to now.
        metadata: Any other JSON values.
        message_id: Generated when the object is created. So a message that is added again after an error is recorded
            only once.
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
    """The answer of a chat endpoint."""

    message: str
    candidate_set: Any = None
    session_id: str


class ChatSession:
    """A snapshot of a chat.

    Attributes:
        session_id: The chat's id.
        user_id: The owner; None for the anonymous user.
        context: Values carried from turn to turn.
        created_at, updated_at: Times of creation and of the last event, in UTC.
        expired_at: Time of expiry; None if the chat has not expired.
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
        """All messages, oldest first. They are read at the first access, then kept in this object."""
        if self._messages is None:
            self._messages = self._store._all_messages(self.session_id)
        return self._messages

    def get_recent_messages(self, n: int = 10) -> list[Message]:
        """Return the newest ``n`` messages in the order they were added, without reading the others.

        Raises:
            InvalidInput: ``n`` is not a whole number from 1 to 10,000.
        """
        return self._store._newest_messages(self.session_id, n)

    def __repr__(self) -> str:
        return f"ChatSession({self.session_id!r}, user_id={self.user_id!r})"


class SessionStore:
    """A store of chats, for any number of threads and processes. Close it, or use it as a context manager.

    Args:
        path: Path of the file, or URL of a ledger. A file that does not exist is created, with its folder.
        ledger: A ledger to use instead of a path; the caller closes it. A ledger limited to one user, as
            ``ledger.for_user(...)`` returns it, hides the chats of other users.
        query_plan_type, candidate_set_type: Pydantic models to which ``query_plan`` and ``candidate_set`` of a message
            are converted when read. Without a model, the part is returned as a JSON value.
        clock: Source of times, for messages and expiry.

    Raises:
        ConfigurationError: Both or neither of ``path`` and ``ledger`` are given, or the file is not a ledger. Use
            ``ledger.compat.importing.import_chat_store`` to import a file of the earlier store.
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
            raise ConfigurationError("Pass exactly one of path and ledger to SessionStore.")
        self._types = {"query_plan": query_plan_type, "candidate_set": candidate_set_type}
        self._clock = clock
        self._own = ledger is None
        self.ledger = SessionLedger(_url(path), clock=clock) if ledger is None else ledger

    def create_session(self, user_id: str | None = None) -> ChatSession:
        """Create a chat. The default owner is the ledger's user if it is limited to one, or else the anonymous user."""
        owner = user_id if user_id is not None or self.ledger.user_id is not None else ANONYMOUS
        session_id = self.ledger.create_session(owner, fields={"session_type": SESSION_TYPE})
        return ChatSession(self, self._require(session_id))

    def get_session(self, session_id: str) -> ChatSession | None:
        """Return a chat; None if it is expired, archived or deleted, or if no chat has this id."""
        try:
            session = self._find(check_session_id(session_id))
        except InvalidInput:
            return None
        return None if session is None or session.status in CLOSED else ChatSession(self, session)

    def add_message(self, session_id: str, message: Message) -> str:
        """Append a message to a chat. Several writers may append to one chat at the same time.

        Returns:
            The message's id.

        Raises:
            SessionNotFound: The chat does not exist.
            SessionEnded: The chat is expired or deleted; or archived, in a ledger in BigQuery.
            IdempotencyConflict: Another message has this id.
            InvalidInput: The argument is not a Message, or a part of it cannot be recorded as JSON.
        """
        if not isinstance(message, Message):
            raise InvalidInput(
                f"message must be a Message(role=..., content=...), not {full_name(message)}; nothing was written."
            )
        self._require(session_id)
        parts = {name: getattr(message, name) for name in self._types}
        payload = {name: json_form(value, name) for name, value in parts.items() if value is not None}
        metadata = {
            **json_form(message.metadata or {}, "metadata"),
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

    def ask(self, session_id: str, question: str | Message, answer: Callable[[ChatSession], str | Message]) -> Message:
        """Record a question of the user, call a function that answers it, and record what it returns.

        Args:
            session_id: The chat.
            question: The user's message, or its content.
            answer: Function that takes the chat, of which the question is the newest message, and returns the answer:
                the content of the assistant's message, or a Message.

        Returns:
            The message with the answer, as recorded.

        Raises:
            SessionNotFound, SessionEnded, InvalidInput: As for ``add_message``. If ``answer`` returns anything else
                than text or a Message, or raises an exception, the question is recorded and no answer.
        """
        self.add_message(session_id, Message(role="user", content=question) if isinstance(question, str) else question)
        found = answer(ChatSession(self, self._require(session_id)))
        message = Message(role="assistant", content=found) if isinstance(found, str) else found
        self.add_message(session_id, message)
        return message

    def update_context(self, session_id: str, context: Mapping[str, Any]) -> None:
        """Merge values into a chat's context; other keys are unchanged.

        Raises:
            SessionNotFound: The chat does not exist.
            SessionEnded: The chat is expired or deleted; or archived, in a ledger in BigQuery.
            InvalidInput: The context is not a mapping, or cannot be recorded as JSON.
        """
        self._require(session_id)
        names = object_of(context, "context")
        if names:
            self.ledger.update_context(session_id, json_form(names, "context"))

    def list_user_sessions(self, user_id: str | None, *, include_expired: bool = False) -> list[ChatSession]:
        """Return all chats of a user (None: the anonymous user), newest first, without reading their messages."""
        owner = ANONYMOUS if user_id is None else user_id
        listed = self.ledger.iter_sessions(owner, session_type=SESSION_TYPE)
        return [ChatSession(self, each) for each in listed if include_expired or each.status not in CLOSED]

    def expire_session(self, session_id: str) -> bool:
        """Expire a chat now; its messages are kept.

        Returns:
            False if no chat has this id, or if the chat is recorded as expired already.

        Raises:
            SessionEnded: The chat is archived or deleted.
        """
        try:
            found = self._find(check_session_id(session_id))
        except InvalidInput:
            return False
        return found is not None and self.ledger.expire_session(session_id) is not None

    def expire_old_sessions(self, max_age_hours: float = 24) -> int:
        """Expire every open chat that had no event for ``max_age_hours``, and gets none while this method runs.

        Returns:
            Number of chats expired.

        Raises:
            InvalidInput: ``max_age_hours`` is negative or not a number.
        """
        if isinstance(max_age_hours, bool) or not isinstance(max_age_hours, int | float) or not max_age_hours >= 0:
            raise InvalidInput(f"max_age_hours must be a number of hours, at least 0, not {str(max_age_hours)[:70]!r}.")
        try:
            before = self._clock() - timedelta(hours=max_age_hours)
        except OverflowError:
            return 0  # before datetime.min
        query = SessionQuery(
            session_type=SESSION_TYPE, updated_before=before, without=(*CLOSED, *DONE), at=self._clock()
        )
        expired = 0
        store = self.ledger.store
        for head, _ in every_item(lambda after: store.sessions(query, after=after, limit=SESSIONS_PAGE)):
            try:
                expired += self.ledger.expire_session(head.session_id, expected_version=head.version) is not None
            except (WrongExpectedVersion, SessionNotFound, SessionEnded):
                continue  # another writer appended to it, or expired it first
        return expired

    def get_db_connection(self) -> sqlite3.Connection:
        """Return a read-only DB-API connection to the ledger's file; the caller closes it.

        The file has the views ``chat_sessions``, with one row per chat, and ``chat_messages``, with one per message.
        Times are text in UTC; ``expired_at`` is NULL for a chat that has not expired. ``context``, ``query_plan`` and
        ``candidate_set`` are JSON text.

        Raises:
            CapabilityMissing: The ledger is not a SQLite file.
            PermissionDenied: The ledger is limited to one user.
        """
        return read_only.connect(self.ledger)

    def close(self) -> None:
        """Close the file. A ledger that the caller passed stays open. Safe to call again."""
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
                f"There is no chat {session_id}; create one with create_session().", session_id=session_id
            )
        return session

    def _all_messages(self, session_id: str) -> list[Message]:
        return [self._message(each) for each in self.ledger.get_messages(session_id)]

    def _newest_messages(self, session_id: str, n: int) -> list[Message]:
        return [self._message(each) for each in self.ledger.get_messages(session_id, last=n)]

    def _message(self, recorded: Recorded) -> Message:
        # Other programs may record any JSON in both.
        metadata = dict(_object_in(recorded.metadata, "metadata"))
        sent_at = recorded.occurred_at  # of a message that the SDK added, or that was erased
        with suppress(InvalidInput, KeyError):
            sent_at = from_text(metadata["timestamp"])
            del metadata["timestamp"]
        payload = _object_in(recorded.payload, "payload")
        parts = {name: self._typed(name, payload.get(name), recorded) for name in self._types}
        # Not validated: an erased message has no role and no content.
        return Message.model_construct(
            role=recorded.role,
            content=recorded.content or "",
            timestamp=sent_at,
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
                f"The {name} of message {recorded.message_id} is not a valid {model.__name__} (validation "
                f"errors: {error.error_count()}). Read it without {name}_type."
            ) from error


def _object_in(value: Any, name: str) -> Mapping[str, Any]:
    """Return a mapping unchanged. None becomes an empty dict, and any other value becomes ``{name: value}``."""
    return value if isinstance(value, Mapping) else {} if value is None else {name: value}


def _url(path: str | Path | None) -> str:
    text = str(path)
    if isinstance(path, str) and "://" in text:
        return text
    if "?" in text:
        raise ConfigurationError(
            f"The path {text!r} contains a question mark, which a ledger URL cannot express; rename the file."
        )
    file_path(text, "ledger").parent.mkdir(parents=True, exist_ok=True)  # as the earlier store did
    return f"sqlite:///{text}"

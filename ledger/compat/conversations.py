"""ConversationService: chats that outlive the browser's refresh and the server's restart, kept in a ledger.

It has the methods, arguments and fields of the conversation service over ``conversation_sessions`` and
``conversation_messages``, which it replaces; ``import_conversations`` brings in what those tables hold. A chat is a
session of the ledger, so all else that a ledger does with sessions is there as well: history, SQL, export.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self, Unpack

from ledger.clock import Clock, utc_now
from ledger.compat.arguments import days_before, ledger_of, object_of, user_id_of
from ledger.errors import SessionNotFound, WrongExpectedVersion
from ledger.model.events import Envelope
from ledger.model.page import EVENTS_PAGE, SESSIONS_PAGE, Page
from ledger.model.session import Message, Session
from ledger.sdk.aio import AsyncSessionLedger
from ledger.sdk.ledger import SessionLedger

#: What kind of session a chat is.
CONVERSATION = "conversation"
#: Days without a word after which a chat is cleaned up.
OLD_AFTER_DAYS = 30
#: Chats of a user that are listed at once.
LISTED = 50


@dataclass(slots=True)
class ConversationMessage:
    """One message of a chat.

    Attributes:
        tools_used: Of an assistant's message, any JSON.
        has_error: Whether it tells of a failure; ``error_message`` says of which.
        created_at: When it was said, in UTC.
        message_id: Its id in the ledger.
    """

    session_id: str
    role: str
    content: Any
    tools_used: Any = None
    processing_time_ms: Any = None
    token_count: Any = None
    has_error: bool = False
    error_message: str | None = None
    message_metadata: Any = None
    created_at: datetime | None = None
    message_id: str = ""

    @classmethod
    def of(cls, session_id: str, message: Message, created_at: datetime | None) -> Self:
        """A message of the ledger's."""
        error = message.error
        told = error.get("message") if isinstance(error, Mapping) else error
        return cls(
            session_id,
            message.role,
            message.content,
            message.tools_used,
            message.processing_time_ms,
            message.token_count,
            error is not None,
            None if told in (None, "", True) else str(told),
            message.metadata,
            created_at,
            message.message_id,
        )


@dataclass(slots=True)
class ConversationSession:
    """One chat.

    Attributes:
        user_id: Its owner, as text.
        is_active: Whether it goes on: not expired, archived, completed or failed.
        messages: In order; None where they were not asked for.
    """

    session_id: str
    user_id: str
    title: str | None
    description: str | None
    context_data: dict[str, Any]
    session_metadata: dict[str, Any]
    is_active: bool
    created_at: datetime
    last_activity_at: datetime
    messages: list[ConversationMessage] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, session: Session, messages: list[ConversationMessage] | None = None) -> Self:
        """A session of the ledger's."""
        attributes = session.attributes
        return cls(
            session.session_id,
            session.user_id,
            session.title,
            attributes.get("description"),
            session.context,
            attributes.get("session_metadata") or {},
            session.status == "active",
            session.created_at,
            session.updated_at,
            messages,
        )


class ConversationService:
    """Chats in a ledger; each user sees their own.

    Args:
        db: A ``SessionLedger``, an ``AsyncSessionLedger``, or the URL of one, which is opened at first use and closed
            with the service.
        ttl: How long a chat lives; None for as long as nobody cleans it up.
        clock: By which chats get old.
    """

    def __init__(
        self,
        db: SessionLedger | AsyncSessionLedger | str,
        *,
        ttl: timedelta | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.ledger, self._owned = ledger_of(db)
        self._ttl = ttl
        self._clock = clock

    async def create_session(
        self,
        user: Any,
        title: str | None = None,
        description: str | None = None,
        context_data: Mapping[str, Any] | None = None,
        session_metadata: Mapping[str, Any] | None = None,
        *,
        session_id: str | None = None,
        **envelope: Unpack[Envelope],
    ) -> ConversationSession:
        """Begin a chat.

        Args:
            user: An object with an ``id``, a number or text.
            title: The first message of the user gives one where it is None.
            context_data: Name to any JSON.
            session_metadata: Any object.
            session_id: Your own id; a UUID is made where it is None.

        Raises:
            InvalidInput: The user has no id, or a value cannot be recorded.
            WrongExpectedVersion: The user has a chat with this id.
            SessionNotFound: The id cannot be had.
        """
        metadata = None if session_metadata is None else object_of(session_metadata, "session_metadata")
        attributes = {"description": description, "session_metadata": metadata}
        fields: dict[str, Any] = {
            "session_type": CONVERSATION,
            "attribute": {name: value for name, value in attributes.items() if value is not None},
            "context": object_of(context_data, "context_data"),
        }
        if title is not None:
            fields["title"] = title
        mine = self.ledger.for_user(user_id_of(user))
        made = await mine.create_session(fields=fields, session_id=session_id, ttl=self._ttl, **envelope)
        return ConversationSession.of(await mine.get_session(made), [])

    async def get_session(
        self, session_id: str, user: Any, include_messages: bool = False
    ) -> ConversationSession | None:
        """A chat; None where the user has none of this id, or has deleted it.

        Args:
            include_messages: Whether to read the messages as well; without, ``messages`` is None.
        """
        mine = self.ledger.for_user(user_id_of(user))
        session = await mine.get_session(session_id, messages=include_messages)
        if session is None or session.status == "deleted":
            return None
        if not include_messages:
            return ConversationSession.of(session)
        times = await self._times(mine, session_id)
        said = [ConversationMessage.of(session_id, it, times.get(it.version)) for it in session.messages]
        return ConversationSession.of(session, said)

    async def get_or_create_session(self, session_id: str | None = None, user: Any = None) -> ConversationSession:
        """The chat of this id that the user can go on with, else a new one; also where the id is empty.

        It is begun under the id that is given, where nobody has that; where the chat is over, or the id is somebody
        else's, under an id of its own: go on with the answer's ``session_id``.
        """
        if not session_id:
            return await self.create_session(user)
        found = await self.get_session(session_id, user)
        if found is not None and found.is_active:
            return found
        if found is None:
            with suppress(WrongExpectedVersion, SessionNotFound):
                return await self.create_session(user, session_id=session_id)
            found = await self.get_session(session_id, user)  # begun by another call meanwhile?
            if found is not None and found.is_active:
                return found
        return await self.create_session(user)

    async def add_message(
        self,
        session_id: str,
        role: str,
        content: Any,
        tools_used: Sequence[Any] | None = None,
        processing_time_ms: float | None = None,
        token_count: int | None = None,
        has_error: bool = False,
        error_message: str | None = None,
        message_metadata: Mapping[str, Any] | None = None,
        *,
        user: Any = None,
        **envelope: Unpack[Envelope],
    ) -> ConversationMessage:
        """Add a message to a chat; when this returns it is kept.

        Args:
            role: ``user``, ``assistant``, or another that the ledger knows.
            user: Who adds it. Give it wherever the session's id comes from outside: a chat of somebody else is then
                not there. None adds to any chat.
            envelope: With an ``event_id`` it is kept once, however often it is sent.

        Raises:
            SessionNotFound: There is no such chat, or it is not the user's.
            SessionEnded: It is expired, archived or deleted.
            InvalidInput, ValueTooLarge: It cannot be kept.
        """
        error = {"type": "error", "message": error_message or ""} if has_error or error_message else None
        ledger = self.ledger if user is None else self.ledger.for_user(user_id_of(user))
        done = await ledger.add_message(
            session_id,
            role,
            content,
            tools_used=tools_used,
            processing_time_ms=processing_time_ms,
            token_count=token_count,
            error=error,
            metadata=message_metadata,
            **envelope,
        )
        (event,) = await ledger.history(session_id, after=done.version - 1, limit=1)
        parts = (role, content, tools_used, processing_time_ms, token_count, error, message_metadata)
        message = Message(done.event_id, done.version, *parts)
        return ConversationMessage.of(session_id, message, event.occurred_at)

    async def get_user_sessions(
        self, user: Any, limit: int = LISTED, active_only: bool = True, *, after: str | None = None
    ) -> Page[ConversationSession]:
        """A user's chats without their messages, newest first.

        Args:
            limit: At most this many.
            active_only: Whether to leave out those that are over.
            after: The ``next`` of an earlier page.
        """
        page = await self.ledger.for_user(user_id_of(user)).list_sessions(
            session_type=CONVERSATION, status="active" if active_only else None, after=after, limit=limit
        )
        return Page([ConversationSession.of(session) for session in page], page.next)

    async def delete_session(self, session_id: str, user: Any) -> bool:
        """Take a chat of the user's out of sight; the ledger keeps its history. False where there is none."""
        mine = self.ledger.for_user(user_id_of(user))
        with suppress(SessionNotFound):
            return await mine.delete_session(session_id) is not None
        return False

    async def cleanup_old_sessions(self, days: float = OLD_AFTER_DAYS, *, user: Any = None) -> int:
        """Delete chats in which nothing has happened for so many days; those that go on meanwhile are left.

        Args:
            user: Only of this user; of all where None.

        Returns:
            How many there were.

        Raises:
            InvalidInput: There are no such days.
        """
        before = days_before(self._clock(), days)
        ledger = self.ledger if user is None else self.ledger.for_user(user_id_of(user))
        removed, after = 0, None
        while True:
            page = await ledger.list_sessions(
                session_type=CONVERSATION, created_until=before, after=after, limit=SESSIONS_PAGE
            )
            for session in page:
                if session.updated_at < before:
                    with suppress(WrongExpectedVersion, SessionNotFound):
                        await ledger.delete_session(session.session_id, expected_version=session.version)
                        removed += 1
            after = page.next
            if after is None:
                return removed

    async def close(self) -> None:
        """Close the ledger, where it was opened for this service."""
        if self._owned:
            await self.ledger.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    @staticmethod
    async def _times(ledger: AsyncSessionLedger, session_id: str) -> dict[int, datetime]:
        """When what each version says happened."""
        times: dict[int, datetime] = {}
        after: str | None = "0"
        while after is not None:
            page = await ledger.history(session_id, after=int(after), limit=EVENTS_PAGE)
            times |= {event.version: event.occurred_at for event in page}
            after = page.next
        return times

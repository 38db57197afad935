"""ConversationService: chats that survive page reloads and server restarts, stored in a ledger.

A drop-in for a conversation service on the tables ``conversation_sessions`` and ``conversation_messages``. It has the
same methods, arguments and fields, and ``import_conversations`` imports the data of those tables. Each chat is a
session of the ledger, so it also has a history, can be queried in SQL, and can be exported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self, Unpack, cast

from ledger.clock import Clock, utc_now
from ledger.compat.arguments import days_before, ledger_of, object_of, user_id_of
from ledger.errors import SessionNotFound, WrongExpectedVersion
from ledger.model.events import Envelope
from ledger.model.fields import Role
from ledger.model.fold import Origin
from ledger.model.page import Page
from ledger.model.session import Message, Session
from ledger.sdk.aio import AsyncSessionLedger
from ledger.sdk.ledger import SessionLedger
from ledger.sdk.opening import UNSET

#: Session type of chats.
CONVERSATION = "conversation"
#: Default number of days without activity after which a chat is cleaned up.
OLD_AFTER_DAYS = 30
#: Default number of chats in a list.
LISTED = 50


@dataclass(slots=True)
class ConversationMessage:
    """One message of a chat.

    Attributes:
        tools_used: The tools that an assistant used for the message, as JSON values.
        has_error: True if the message reports a failure; ``error_message`` describes the failure.
        created_at: Time of the message, in UTC.
        message_id: Id of the message in the ledger.
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
    def of(cls, session_id: str, message: Message) -> Self:
        """Convert a message of the ledger to a message of the chat ``session_id``."""
        error = message.error
        text = error.get("message") if isinstance(error, Mapping) else error
        return cls(
            session_id,
            message.role,
            message.content,
            message.tools_used,
            message.processing_time_ms,
            message.token_count,
            error is not None,
            None if text in (None, "", True) else str(text),
            message.metadata,
            message.occurred_at,
            message.message_id,
        )


@dataclass(slots=True)
class ConversationSession:
    """One chat.

    Attributes:
        user_id: The owner, as text.
        is_active: True unless the chat is expired, archived, completed or failed.
        messages: Messages in order; None if they were not read.
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
        """Convert a session of the ledger to a chat with the given messages."""
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
    """Chats in a ledger; each user sees only their own.

    Args:
        db: A ``SessionLedger``, an ``AsyncSessionLedger``, or a ledger URL. The ledger at a URL is opened at first use
            and closed with the service.
        ttl: Lifetime of a chat; None for no expiry. If not given, the ledger's ``default_ttl_hours``.
        clock: Source of the current time for ``cleanup_old_sessions``.
    """

    def __init__(
        self,
        db: SessionLedger | AsyncSessionLedger | str,
        *,
        ttl: timedelta | None = UNSET,
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
        """Create a chat.

        Args:
            user: The owner: an object with an ``id``, or the id itself as a number or text.
            title: If None, derived from the user's first message.
            context_data: JSON values by name.
            session_metadata: A JSON object.
            session_id: The caller's own id; a UUID is generated if None.

        Raises:
            InvalidInput: The user has no id, or a value cannot be recorded.
            WrongExpectedVersion: The user has a chat with this id.
            SessionNotFound: The id is in use by a session that the user may not see.
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
        view = self.ledger.for_user(user_id_of(user))
        made = await view.create_session(fields=fields, session_id=session_id, ttl=self._ttl, **envelope)
        created = await view.get_session(made)
        if created is None:
            raise SessionNotFound(f"The chat {made} was deleted as soon as it was created.", session_id=made)
        return ConversationSession.of(created, [])

    async def get_session(
        self, session_id: str, user: Any, include_messages: bool = False
    ) -> ConversationSession | None:
        """Return a chat; None if the user has no chat with this id, or if the chat was deleted.

        Args:
            include_messages: Read the messages too. If False, ``messages`` is None.
        """
        view = self.ledger.for_user(user_id_of(user))
        session = await view.get_session(session_id, messages=include_messages)
        if session is None or session.status == "deleted":
            return None
        if not include_messages:
            return ConversationSession.of(session)
        messages = [ConversationMessage.of(session_id, it) for it in session.messages]
        return ConversationSession.of(session, messages)

    async def get_or_create_session(self, session_id: str | None = None, user: Any = None) -> ConversationSession:
        """Return the user's active chat with this id, or create a chat.

        If no session has the given id, a new chat gets this id. If the user's chat with this id has ended, or the
        id belongs to another user, a new chat gets a generated id. So always use the ``session_id`` of the result.
        """
        if not session_id:
            return await self.create_session(user)
        found = await self.get_session(session_id, user)
        if found is not None and found.is_active:
            return found
        if found is None:
            with suppress(WrongExpectedVersion, SessionNotFound):
                return await self.create_session(user, session_id=session_id)
            found = await self.get_session(session_id, user)  # created by a concurrent call?
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
        """Append a message to a chat. When this method returns, the message is durable.

        Args:
            role: ``user``, ``assistant``, or another role of the ledger.
            user: The user who adds the message. If this user may not see the chat, SessionNotFound is raised. If None,
                the owner is not checked, so pass a user whenever the session id comes from outside.
            envelope: See ``Envelope``. If a call is repeated with its ``event_id``, the message is recorded once.

        Raises:
            SessionNotFound: The chat does not exist, or is not the user's.
            SessionEnded: The chat is expired or deleted; or archived, in a ledger in BigQuery.
            InvalidInput, ValueTooLarge: The message cannot be recorded.
        """
        error = {"type": "error", "message": error_message or ""} if has_error or error_message else None
        ledger = self.ledger if user is None else self.ledger.for_user(user_id_of(user))
        spoken = cast("Role", role)  # the ledger checks it
        done = await ledger.add_message(
            session_id,
            spoken,
            content,
            tools_used=tools_used,
            processing_time_ms=processing_time_ms,
            token_count=token_count,
            error=error,
            metadata=message_metadata,
            **envelope,
        )
        found = await ledger.history(session_id, after=done.version - 1, limit=1)
        event = next(it for it in found if it.event_id == done.event_id)  # in BigQuery two may have the same version
        written = next(it for it in event.changes if it.field == "message")
        message = Message.from_value(written.key, event.version, written.value, Origin.of(event))
        return ConversationMessage.of(session_id, message)

    async def get_user_sessions(
        self, user: Any, limit: int = LISTED, active_only: bool = True, *, after: str | None = None
    ) -> Page[ConversationSession]:
        """Return a user's chats without their messages, the latest activity first.

        Args:
            limit: Maximum number of chats.
            active_only: Leave out ended chats.
            after: The ``next`` of an earlier page.
        """
        page = await self.ledger.for_user(user_id_of(user)).list_sessions(
            session_type=CONVERSATION,
            status="active" if active_only else None,
            order_by="updated",
            after=after,
            limit=limit,
        )
        return Page([ConversationSession.of(session) for session in page], page.next)

    async def delete_session(self, session_id: str, user: Any) -> bool:
        """Delete a chat of the user. The ledger keeps its history. Return False if the user has no such chat."""
        view = self.ledger.for_user(user_id_of(user))
        with suppress(SessionNotFound):
            return await view.delete_session(session_id) is not None
        return False

    async def cleanup_old_sessions(self, days: float = OLD_AFTER_DAYS, *, user: Any = None) -> int:
        """Delete every chat that had no event for ``days`` days, and gets none while this method runs.

        Args:
            user: Only chats of this user; if None, the chats of all users.

        Returns:
            Number of chats deleted.

        Raises:
            InvalidInput: ``days`` is out of range.
        """
        before = days_before(self._clock(), days)
        ledger = self.ledger if user is None else self.ledger.for_user(user_id_of(user))
        removed = 0
        async for session in ledger.iter_sessions(session_type=CONVERSATION, created_until=before):
            if session.updated_at < before:
                with suppress(WrongExpectedVersion, SessionNotFound):
                    await ledger.delete_session(session.session_id, expected_version=session.version)
                    removed += 1
        return removed

    async def close(self) -> None:
        """Close the ledger if this service opened it."""
        if self._owned:
            await self.ledger.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

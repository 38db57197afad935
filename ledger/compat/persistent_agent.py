"""PersistentAgent: an agent whose chats are stored, and which keeps answering while the store is unavailable.

Messages that could not be stored are kept in memory and saved later, in order and before any newer message of their
chat. The event_id and the time of a message are generated when it is created. So each message is recorded once, and
with its own time, however late it is saved.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ledger.clock import Clock, NewId, new_id, utc_now
from ledger.compat.arguments import user_id_of
from ledger.compat.conversations import ConversationMessage, ConversationService
from ledger.errors import LedgerError, SessionEnded, SessionNotFound, StoreError
from ledger.model.events import Change, NewEvent, prepare

#: Maximum number of chats kept in memory, so that the agent has their history while the store is unavailable. Chats
#: with unsaved messages are kept beyond this number.
REMEMBERED = 256


@dataclass(slots=True)
class Reply:
    """An agent's answer with metadata. An agent without metadata to add may return just the content."""

    content: Any
    tools_used: Sequence[Any] | None = None
    token_count: int | None = None
    message_metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ChatResponse:
    """The outcome of one chat turn.

    Attributes:
        session_id: The chat's id; pass it to the next call.
        content: The answer; None if the agent failed.
        has_error: True if the agent failed; ``error_message`` is its error.
        unsaved: The chat's messages that are not stored yet, in order. An answer that cannot be recorded is last.
        store_error: Why messages are unsaved; None if all messages are saved.
    """

    session_id: str
    content: Any
    tools_used: Any = None
    processing_time_ms: int = 0
    token_count: int | None = None
    has_error: bool = False
    error_message: str | None = None
    unsaved: tuple[ConversationMessage, ...] = ()
    store_error: str | None = None


Answer = Callable[[Any, Sequence[ConversationMessage]], Awaitable[Reply | Any] | Reply | Any]


@dataclass(slots=True)
class _Chat:
    """A chat in memory, with all its messages. ``unsaved`` holds the messages that are not stored yet."""

    session_id: str
    user_id: str
    messages: list[ConversationMessage] = field(default_factory=list)
    unsaved: deque[ConversationMessage] = field(default_factory=deque)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class PersistentAgent:
    """An agent whose chats are stored.

    Args:
        service: The service that stores the chats.
        answer: Function called with the user's message and the chat's earlier messages, oldest first. It returns the
            answer or a ``Reply``, or an awaitable of either. If it raises, a message with ``has_error`` is recorded.
        clock, ids: Sources of the times and ids of messages.
    """

    def __init__(
        self, service: ConversationService, answer: Answer, *, clock: Clock = utc_now, ids: NewId = new_id
    ) -> None:
        self.service = service
        self._answer = answer
        self._clock = clock
        self._ids = ids
        self._chats: OrderedDict[tuple[str, str], _Chat] = OrderedDict()

    @property
    def unsaved(self) -> tuple[ConversationMessage, ...]:
        """The unsaved messages of all chats. They are lost if the process ends now."""
        return tuple(message for chat in self._chats.values() for message in chat.unsaved)

    async def chat(self, message: Any, session_id: str | None = None, user: Any = None) -> ChatResponse:
        """Answer a user's message, and store the message and the answer.

        If the store is unavailable, the agent answers all the same, and the response lists the unsaved messages.

        Args:
            session_id: The chat to continue. If it is None or an empty string, or if that chat has ended, a new chat is
                created.
            user: Owner of the chat: an object with an ``id``, or the id itself.

        Raises:
            InvalidInput, ValueTooLarge: The message cannot be recorded; the agent was not called.
        """
        user_id = user_id_of(user)
        chat = self._chats.get((user_id, session_id)) if session_id else None
        if chat is None:
            chat = _Chat(session_id or self._ids(self._clock()), user_id)
            chat = self._chats.setdefault((user_id, chat.session_id), chat)
        async with chat.turn:
            await self._load(chat)
            before = tuple(chat.messages)
            refused = await self._append(chat, self._message(chat, "user", message))
            if refused is not None:
                raise refused
            response = await self._respond(chat, message, before)
        self._evict()
        return response

    async def save_unsaved(self) -> int:
        """Save the unsaved messages, chat by chat. Return the number of messages that are still unsaved."""
        for chat in list(self._chats.values()):
            async with chat.turn:
                await self._save(chat)
        return len(self.unsaved)

    async def _respond(self, chat: _Chat, message: Any, before: Sequence[ConversationMessage]) -> ChatResponse:
        started = time.perf_counter()
        reply, failure = Reply(None), None
        try:
            result = self._answer(message, before)
            result = await result if inspect.isawaitable(result) else result
            reply = result if isinstance(result, Reply) else Reply(result)
        except Exception as error:  # noqa: BLE001 - any failure of the agent is reported and recorded
            failure = _description_of(error)
        answer = self._message(chat, "assistant", "" if failure else reply.content)
        answer.processing_time_ms = round((time.perf_counter() - started) * 1000)
        answer.has_error, answer.error_message = failure is not None, failure
        answer.tools_used, answer.token_count = reply.tools_used, reply.token_count
        answer.message_metadata = reply.message_metadata
        refused = await self._append(chat, answer)
        return ChatResponse(
            chat.session_id,
            None if failure else reply.content,
            reply.tools_used,
            answer.processing_time_ms,
            reply.token_count,
            failure is not None,
            failure,
            (*chat.unsaved, answer) if refused is not None else tuple(chat.unsaved),
            str(refused) if refused is not None else self._store_error if chat.unsaved else None,
        )

    async def _load(self, chat: _Chat) -> None:
        """Save unsaved messages, then load the chat from the store. If the store fails, keep the chat as it is."""
        await self._save(chat)
        if chat.unsaved:
            return
        try:
            found = await self.service.get_or_create_session(chat.session_id, chat.user_id)
            if found.session_id == chat.session_id:
                found = await self.service.get_session(chat.session_id, chat.user_id, include_messages=True) or found
            self._move(chat, found.session_id)
            chat.messages = list(found.messages or [])
        except StoreError as error:
            self._store_error = str(error)

    async def _append(self, chat: _Chat, message: ConversationMessage) -> LedgerError | None:
        """Add a message to the chat and save it if possible. If it can never be recorded, return the error."""
        refused = _error_of(message)
        if refused is not None:  # the store may be unavailable, so check here
            return refused
        chat.messages.append(message)
        chat.unsaved.append(message)
        refused = await self._save(chat)
        if refused is not None and message in chat.messages:
            chat.messages.remove(message)
        return refused

    async def _save(self, chat: _Chat) -> LedgerError | None:
        """Save unsaved messages in order, until all are saved or the store is unavailable.

        A message that can never be recorded is dropped, so that it does not block later messages. The error of the
        last dropped message is returned; None if no message was dropped.
        """
        refused: LedgerError | None = None
        while chat.unsaved:
            message = chat.unsaved[0]
            try:
                await self._add(chat, message)
            except StoreError as error:
                self._store_error = str(error)
                break
            except LedgerError as error:
                refused = error
            chat.unsaved.popleft()
        return refused

    async def _add(self, chat: _Chat, message: ConversationMessage) -> None:
        try:
            await self._add_to(chat, message)
        except (SessionNotFound, SessionEnded):  # not created while the store was unavailable, or ended since
            found = await self.service.get_or_create_session(chat.session_id, chat.user_id)
            self._move(chat, found.session_id)
            await self._add_to(chat, message)

    async def _add_to(self, chat: _Chat, message: ConversationMessage) -> None:
        await self.service.add_message(
            chat.session_id,
            message.role,
            message.content,
            tools_used=message.tools_used,
            processing_time_ms=message.processing_time_ms,
            token_count=message.token_count,
            has_error=message.has_error,
            error_message=message.error_message,
            message_metadata=message.message_metadata,
            user=chat.user_id,
            event_id=message.message_id,
            occurred_at=message.created_at or self._clock(),
        )

    def _move(self, chat: _Chat, session_id: str) -> None:
        """Give the chat the id that the store chose. The old id belongs to an ended chat or to another user."""
        if session_id == chat.session_id:
            return
        self._chats.pop((chat.user_id, chat.session_id), None)
        chat.session_id = session_id
        for message in chat.unsaved:
            message.session_id = session_id
        self._chats[chat.user_id, session_id] = chat

    def _message(self, chat: _Chat, role: str, content: Any) -> ConversationMessage:
        now: datetime = self._clock()
        return ConversationMessage(chat.session_id, role, content, created_at=now, message_id=self._ids(now))

    def _evict(self) -> None:
        """Drop the oldest chats from memory while there are more than ``REMEMBERED``.

        A chat with unsaved messages or a turn in progress is never dropped.
        """
        spare = [key for key, chat in self._chats.items() if not chat.unsaved and not chat.turn.locked()]
        for key in spare[: max(0, len(self._chats) - REMEMBERED)]:
            del self._chats[key]

    _store_error: str | None = None


def _error_of(message: ConversationMessage) -> LedgerError | None:
    """Return the error of a message that can never be recorded; None for any other message."""
    parts = {
        "tools_used": message.tools_used,
        "processing_time_ms": message.processing_time_ms,
        "token_count": message.token_count,
        "error": message.error_message,
        "metadata": message.message_metadata,
    }
    value = {"role": message.role, "content": message.content, **parts}
    try:
        prepare(NewEvent("message.added", [Change("message", message.message_id, value)], message.message_id))
    except LedgerError as error:
        return error
    return None


def _description_of(error: Exception) -> str:
    """Return an error's type and message as text. Characters that cannot be recorded are escaped."""
    try:
        words = str(error)
    except Exception:  # noqa: BLE001 - a failing __str__ must not hide the error
        words = "(its message cannot be read)"
    return f"{type(error).__name__}: {words}".encode(errors="backslashreplace").decode()

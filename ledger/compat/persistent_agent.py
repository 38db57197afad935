"""PersistentAgent: both sides of a chat are kept as it goes on, and it goes on where they cannot be.

Storage is dual. The ledger holds what was said; memory holds what the ledger could not take yet. A chat's unsaved
messages are saved in order as soon as the store is back, before anything newer, each once: their event_ids and times
were made when they were said.
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

#: Chats that are remembered, beside those with unsaved messages: what a reply sees while the store is away.
REMEMBERED = 256


@dataclass(slots=True)
class Reply:
    """What an agent answers, where that is more than text."""

    content: Any
    tools_used: Sequence[Any] | None = None
    token_count: int | None = None
    message_metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ChatResponse:
    """What came of a message.

    Attributes:
        session_id: The chat; go on with it.
        content: The answer; None where the agent failed.
        has_error, error_message: Whether it failed, and of what.
        unsaved: The chat's messages that the store has not taken yet, in order; empty where all are kept.
        store_error: Why it has not.
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
    """A chat as memory holds it: what was said, and of that what is not saved."""

    session_id: str
    user_id: str
    said: list[ConversationMessage] = field(default_factory=list)
    unsaved: deque[ConversationMessage] = field(default_factory=deque)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class PersistentAgent:
    """An agent whose chats are kept.

    Args:
        service: Where.
        answer: Called with the user's message and what was said before it, oldest first; gives text or a ``Reply``,
            awaited where need be. What it raises becomes a message with ``has_error``, and is kept as one.
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
        """The messages of all chats that the store has not taken yet; they are gone if the program ends now."""
        return tuple(message for chat in self._chats.values() for message in chat.unsaved)

    async def chat(self, message: Any, session_id: str | None = None, user: Any = None) -> ChatResponse:
        """Answer a user's message, and keep both.

        Where the store cannot be reached the answer comes all the same, and says what is not saved.

        Args:
            session_id: The chat to go on with; a new one where None or empty, and where it is over.
            user: Whose chat it is.

        Raises:
            InvalidInput, ValueTooLarge: The message cannot be kept; the agent was not asked.
        """
        user_id = user_id_of(user)
        chat = self._chats.get((user_id, session_id)) if session_id else None
        if chat is None:
            chat = _Chat(session_id or self._ids(self._clock()), user_id)
            chat = self._chats.setdefault((user_id, chat.session_id), chat)
        async with chat.turn:
            await self._remember(chat)
            before = tuple(chat.said)
            refused = await self._say(chat, self._message(chat, "user", message))
            if refused is not None:
                raise refused
            response = await self._respond(chat, message, before)
        self._forget()
        return response

    async def save_unsaved(self) -> int:
        """Save what is not saved yet, chat by chat; returns how many messages still are not."""
        for chat in list(self._chats.values()):
            async with chat.turn:
                await self._save(chat)
        return len(self.unsaved)

    async def _respond(self, chat: _Chat, message: Any, before: Sequence[ConversationMessage]) -> ChatResponse:
        begun = time.perf_counter()
        reply, failure = Reply(None), None
        try:
            given = self._answer(message, before)
            given = await given if inspect.isawaitable(given) else given
            reply = given if isinstance(given, Reply) else Reply(given)
        except Exception as error:  # noqa: BLE001 - whatever it is, the user is told and it is kept
            failure = _told(error)
        answer = self._message(chat, "assistant", "" if failure else reply.content)
        answer.processing_time_ms = round((time.perf_counter() - begun) * 1000)
        answer.has_error, answer.error_message = failure is not None, failure
        answer.tools_used, answer.token_count = reply.tools_used, reply.token_count
        answer.message_metadata = reply.message_metadata
        refused = await self._say(chat, answer)
        return ChatResponse(
            chat.session_id,
            None if failure else reply.content,
            reply.tools_used,
            answer.processing_time_ms,
            reply.token_count,
            failure is not None,
            failure,
            (*chat.unsaved, answer) if refused is not None else tuple(chat.unsaved),
            str(refused) if refused is not None else self._why if chat.unsaved else None,
        )

    async def _remember(self, chat: _Chat) -> None:
        """Take over what the store holds; while it is away, what memory does."""
        await self._save(chat)
        if chat.unsaved:
            return
        try:
            found = await self.service.get_or_create_session(chat.session_id, chat.user_id)
            if found.session_id == chat.session_id:
                found = await self.service.get_session(chat.session_id, chat.user_id, include_messages=True) or found
            self._move(chat, found.session_id)
            chat.said = list(found.messages or [])
        except StoreError as error:
            self._why = str(error)

    async def _say(self, chat: _Chat, message: ConversationMessage) -> LedgerError | None:
        """Add a message to the chat and save it if that can be; returns why it never can."""
        refused = _refusal(message)
        if refused is not None:  # not left to the store, which may be away
            return refused
        chat.said.append(message)
        chat.unsaved.append(message)
        refused = await self._save(chat)
        if refused is not None and message in chat.said:
            chat.said.remove(message)
        return refused

    async def _save(self, chat: _Chat) -> LedgerError | None:
        """Save the chat's unsaved messages in order, until the store is away; returns what one of them was refused for.

        A message that can never be kept is dropped from those that wait: the others must not wait for it for good.
        """
        refused: LedgerError | None = None
        while chat.unsaved:
            message = chat.unsaved[0]
            try:
                await self._add(chat, message)
            except StoreError as error:
                self._why = str(error)
                break
            except LedgerError as error:
                refused = error
            chat.unsaved.popleft()
        return refused

    async def _add(self, chat: _Chat, message: ConversationMessage) -> None:
        try:
            await self._add_to(chat, message)
        except (SessionNotFound, SessionEnded):  # never begun while the store was away, or over by now
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
        """Go on under another id, where the chat's own is over or somebody else's."""
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

    def _forget(self) -> None:
        """Let the oldest chats go, but for those with something unsaved or under way."""
        spare = [key for key, chat in self._chats.items() if not chat.unsaved and not chat.turn.locked()]
        for key in spare[: max(0, len(self._chats) - REMEMBERED)]:
            del self._chats[key]

    _why: str | None = None


def _refusal(message: ConversationMessage) -> LedgerError | None:
    """Why a message can never be kept; None where it can."""
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


def _told(error: Exception) -> str:
    """What an error says, in characters that can be kept."""
    try:
        words = str(error)
    except Exception:  # noqa: BLE001 - the error of an error must not take its place
        words = "(its message cannot be read)"
    return f"{type(error).__name__}: {words}".encode(errors="backslashreplace").decode()

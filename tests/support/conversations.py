"""A conversation service whose store may be away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ledger import OutcomeUnknown, StoreUnavailable
from ledger.compat.conversations import ConversationService, ConversationSession
from ledger.compat.persistent_agent import PersistentAgent
from ledger.testing import CountedIds, SetClock


class Lossy:
    """A store that can be away, and that can lose the answer to an append."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.away = False
        self.answers_lost = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found) or name == "close":
            return found

        def call(*args: Any, **named: Any) -> Any:
            if self.away:
                raise StoreUnavailable("The disk is away; nothing was written.")
            result = found(*args, **named)
            if name == "append" and self.answers_lost:
                self.answers_lost -= 1
                raise OutcomeUnknown("The answer was lost.", session_id=args[0], event_id=args[1].event_id)
            return result

        return call


def run(scenario: Callable[[], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        return await scenario()

    return asyncio.run(whole())


def agent_over(service: ConversationService, answer: Any = None, clock: SetClock | None = None) -> PersistentAgent:
    return PersistentAgent(
        service,
        answer or (lambda message, before: f"You said: {message}"),
        ids=CountedIds(9000),
        clock=clock or SetClock(),
    )


def said(session: ConversationSession | None) -> list[tuple[str, Any]]:
    assert session is not None
    assert session.messages is not None
    return [(message.role, message.content) for message in session.messages]

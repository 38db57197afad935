"""A personal assistant whose chats survive page reloads and server restarts.

Before: ``ConversationService(db)`` on two tables of the application's database. After: the same on a ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ledger import AsyncSessionLedger
from ledger.compat.conversations import ConversationMessage, ConversationService
from ledger.compat.persistent_agent import PersistentAgent, Reply


@dataclass
class User:
    """A stand-in for the application's user."""

    id: int
    name: str


async def answer(message: Any, before: Sequence[ConversationMessage]) -> Reply:
    """Stand in for the model; a real one also receives the earlier messages."""
    if message == "Fail!":
        raise RuntimeError("the model is overloaded")
    return Reply(f"You said {message!r}, after {len(before)} messages.", tools_used=["echo"], token_count=7)


async def main() -> None:
    """Run the documented calls on the ledger at LEDGER_URL, else ./ledger.db."""
    current_user = User(7, "Ada")
    async with AsyncSessionLedger() as db:
        conversation_service = ConversationService(db)
        session = await conversation_service.create_session(user=current_user, context_data={"page": "/home"})

        # Messages are stored automatically
        agent = PersistentAgent(conversation_service, answer)
        await agent.chat(message="Hello!", session_id=session.session_id, user=current_user)
        failed = await agent.chat(message="Fail!", session_id=session.session_id, user=current_user)
        print(f"A failure is recorded too: {failed.error_message}")

        # Get session with all messages
        found = await conversation_service.get_session(
            session_id=session.session_id, user=current_user, include_messages=True
        )
        assert found is not None
        for message in found.messages or ():
            print(f"{message.role}: {message.content or message.error_message}")

        assert await conversation_service.get_session(session.session_id, User(8, "Bob")) is None
        chats = await conversation_service.get_user_sessions(current_user)
        print(f"{len(chats)} chat(s) of {current_user.name}, the newest: {chats[0].title}")
        print(f"{await conversation_service.cleanup_old_sessions(days=30)} old ones removed")


if __name__ == "__main__":
    asyncio.run(main())

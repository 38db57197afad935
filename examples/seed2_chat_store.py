"""Multi-turn chats: messages, context and expiry.

Before: ``from scripts.chat.session_store import SessionStore`` and ``from scripts.chat.models import Message``. After:
only the import below changes.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from ledger.compat.chat_store import Message, SessionStore


def main() -> None:
    """Run the documented calls on data/chat/sessions.db."""
    with SessionStore(Path("data/chat/sessions.db")) as store:
        session = store.create_session(user_id="user123")
        print(f"Session ID: {session.session_id}")

        store.add_message(session.session_id, Message(role="user", content="Find books by Oxford"))
        candidate_set = {"candidates": [{"title": "An Atlas", "year": 1999}]}
        store.add_message(
            session.session_id,
            Message(role="assistant", content="Found 15 books by Oxford University Press", candidate_set=candidate_set),
        )
        store.update_context(session.session_id, {"last_publisher": "Oxford", "last_result_count": 15})

        found = store.get_session(session.session_id)
        assert found is not None
        print(f"Messages: {len(found.messages)}")
        for message in found.get_recent_messages(n=10):
            print(f"[{message.role}] {message.content}")

        print(f"{len(store.list_user_sessions('user123'))} sessions of user123")
        with closing(store.get_db_connection()) as connection:
            (active,) = connection.execute("SELECT COUNT(*) FROM chat_sessions WHERE expired_at IS NULL;").fetchone()
            print(f"{active} active sessions")
        store.expire_session(session.session_id)
        print(f"{store.expire_old_sessions(max_age_hours=24)} old sessions expired")


if __name__ == "__main__":
    main()

"""Messages of a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from ledger.errors import InvalidInput
from ledger.model.events import Appended, Change, Envelope
from ledger.model.page import Page
from ledger.model.session import Message
from ledger.sdk.recorder import Recorder


class Messages(Recorder):
    """The conversation of a session."""

    def add_message(
        self,
        session_id: str,
        role: str,
        content: Any,
        *,
        message_id: str | None = None,
        tools_used: Sequence[Any] | None = None,
        processing_time_ms: float | None = None,
        token_count: int | None = None,
        error: Any = None,
        metadata: Mapping[str, Any] | None = None,
        payload: Any = None,
        **envelope: Unpack[Envelope],
    ) -> Appended:
        """Add a message at the end of the conversation.

        Args:
            role: system, developer, user, assistant, tool or function.
            content: Text, or any JSON.
            message_id: Your own id; the event's where None. A message with this id is replaced.
            processing_time_ms: Milliseconds.
            payload: Any JSON that belongs to the message, for example a result set.
        """
        optional = {
            "tools_used": tools_used,
            "processing_time_ms": processing_time_ms,
            "token_count": token_count,
            "error": error,
            "metadata": metadata,
            "payload": payload,
        }
        value = {"role": role, "content": content, **{part: it for part, it in optional.items() if it is not None}}
        event_id = self._event_id(session_id, envelope)
        change = Change("message", event_id if message_id is None else message_id, value)
        return self._append(session_id, "message.added", [change], envelope, event_id=event_id)

    def get_messages(
        self, session_id: str, *, last: int | None = None, after: str | None = None, limit: int = 100
    ) -> Page[Message]:
        """Messages of a session, in order.

        Args:
            last: Only the newest this many.
            after: The ``next`` of an earlier page.
            limit: At most this many.

        Raises:
            SessionNotFound: There is no such session.
        """
        if last is not None and after is not None:
            raise InvalidInput("Give last or after, not both: the newest messages have no page before them.")
        page = self.store.messages(
            session_id, after=after, limit=limit if last is None else last, newest=last is not None
        )
        if not page:
            self._require(session_id)
        return page

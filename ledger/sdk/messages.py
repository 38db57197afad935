"""Messages of a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from ledger.errors import InvalidInput
from ledger.model.events import AppendResult, Change, Envelope
from ledger.model.fold import State
from ledger.model.ids import check_session_id
from ledger.model.page import Page
from ledger.model.session import Message
from ledger.model.values import check_text
from ledger.sdk.command_base import CommandBase, make_room

#: Characters of a title that is taken from a message.
TITLE_CHARACTERS = 80


class Messages(CommandBase):
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
    ) -> AppendResult:
        """Add a message at the end of the conversation. A session without title or question gets a title from
        a user's message.

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
        check_session_id(session_id)
        value = {"role": role, "content": content, **{part: it for part, it in optional.items() if it is not None}}
        event_id = self._event_id(session_id, envelope)
        change = Change("message", event_id if message_id is None else message_id, value)
        named = [Change("title", "", title)] if role == "user" and (title := _title_of(content)) is not None else []
        if named and (recorded := self._recorded(session_id, event_id, envelope)) is not None:
            # Whether it brought the title was decided then.
            named = named if any(part.field == "title" for part in recorded.changes) else []
            return self._append(session_id, "message.added", [change, *named], envelope, event_id=event_id)
        if not named or session_id in self._titled:
            return self._append(session_id, "message.added", [change], envelope, event_id=event_id)

        def with_title(state: State) -> list[Change]:
            has_one = ("title", "") in state or ("question", "") in state  # what was asked says what it is about
            return [change] if has_one else [change, *named]

        appended = self._derive(session_id, "message.added", with_title, envelope, event_id=event_id, is_new=True)
        make_room(self._titled)
        self._titled.add(session_id)
        return appended

    def remove_message(self, session_id: str, message_id: str, **envelope: Unpack[Envelope]) -> AppendResult:
        """Take a message out of the conversation; the history keeps it.

        Raises:
            SessionNotFound: There is no such session.
            InvalidInput: It has no such message.
        """
        check_text(message_id, "message_id")
        event_id = self._event_id(session_id, envelope)
        is_new = self._recorded(session_id, event_id, envelope) is None
        if is_new and ("message", message_id) not in self._state_at(session_id, None):
            raise InvalidInput(f"Session {session_id} has no message {message_id}; nothing was written.")
        change = Change("message", message_id, removed=True)
        return self._append(session_id, "message.removed", [change], envelope, event_id=event_id)

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


def _title_of(content: Any) -> str | None:
    """The first line of a message's text, shortened; None where it has none."""
    if isinstance(content, list | tuple):  # parts, as the chat APIs have them
        content = next(
            (part["text"] for part in content if isinstance(part, Mapping) and isinstance(part.get("text"), str)), None
        )
    if not isinstance(content, str):
        return None
    line = next((line for line in content.splitlines() if line.strip()), "")
    words = " ".join(line.split())
    return (words if len(words) <= TITLE_CHARACTERS else words[: TITLE_CHARACTERS - 1].rstrip() + "…") or None

"""Adding, removing and reading messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Unpack

from ledger.errors import InvalidInput
from ledger.model.events import AppendResult, Change, Envelope
from ledger.model.fields import Role
from ledger.model.fold import RegisterValue, State
from ledger.model.ids import event_id_for
from ledger.model.page import EVENTS_PAGE, Page, check_limit, every_item
from ledger.model.session import Message
from ledger.model.values import check_session_id, check_text
from ledger.sdk.command_base import CommandBase, make_room
from ledger.sdk.frames import MessagePage

#: Maximum length of a title taken from a message, in characters.
TITLE_CHARACTERS = 80


class Messages(CommandBase):
    """Mixin class: messages of a session."""

    def add_message(
        self,
        session_id: str,
        role: Role,
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
        """Append a message.

        If the role is ``user`` and the session has neither title nor question, the first non-blank line of the message
        becomes the title.

        Args:
            session_id: The session.
            role: ``system``, ``developer``, ``user``, ``assistant``, ``tool`` or ``function``.
            content: Text, or any other JSON value. Searches find the text or, in a list of parts as in chat APIs, the
                ``text`` of each part.
            message_id: Your own id, 1 to 255 characters. An existing message with this id is replaced; the new one is
                the last in the order, because messages are ordered by version. If None, the id is the event_id; in a
                fork, for a call with an ``event_id``, it is another one, since a message of the source may have that
                id.
            tools_used: A JSON array of the names or descriptions of tools.
            processing_time_ms: Processing time in milliseconds.
            token_count: Number of tokens.
            error: Any JSON value.
            metadata: A JSON object.
            payload: Any JSON value that belongs to the message, for example a result set.
            envelope: See ``Envelope``.

        Returns:
            The result of the append; its ``event_id`` is the message's id, except as said for ``message_id``.

        Raises:
            SessionNotFound: The session does not exist.
            SessionEnded: The session is expired or deleted; or archived, in a ledger in BigQuery.
            InvalidInput: The role is none of the six, a value is not JSON, or a part has another type than above.
            ValueTooLarge: The event exceeds the maximum size.
        """
        if not (tools_used is None and processing_time_ms is None and token_count is None and metadata is None):
            _check_parts(tools_used, processing_time_ms, token_count, metadata)
        optional = {
            "tools_used": tools_used,
            "processing_time_ms": processing_time_ms,
            "token_count": token_count,
            "error": error,
            "metadata": metadata,
            "payload": payload,
        }
        value = {"role": role, "content": content}
        value |= {part: item for part, item in optional.items() if item is not None}
        event_id = self._event_id(session_id, envelope)
        change = Change("message", self._message_id(session_id, event_id, envelope, message_id), value)
        titles = [Change("title", "", title)] if role == "user" and (title := _title(content)) is not None else []
        if titles and (recorded := self._recorded(session_id, event_id, envelope)) is not None:
            # A retry must repeat what the first delivery decided about the title.
            titles = titles if any(part.field == "title" for part in recorded.changes) else []
            return self._append(session_id, "message.added", [change, *titles], envelope, event_id=event_id)
        if titles:
            check_session_id(session_id)  # before the set lookup, which would raise TypeError for an unhashable one
        if not titles or session_id in self._titled:
            return self._append(session_id, "message.added", [change], envelope, event_id=event_id)

        def with_title(state: State) -> list[Change]:
            has_title = ("title", "") in state or ("question", "") in state
            return [change] if has_title else [change, *titles]

        appended = self._derive(session_id, "message.added", with_title, envelope, event_id=event_id, is_new=True)
        make_room(self._titled)
        self._titled.add(session_id)
        return appended

    def _message_id(self, session_id: str, event_id: str, envelope: Envelope, given: str | None) -> str:
        if given is not None or envelope.get("event_id") is None:
            return event_id if given is None else given
        check_session_id(session_id)  # before the look-up, which would raise TypeError for an unhashable one
        is_fork = self._forks.get(session_id)
        if is_fork is None:
            session = self._require(session_id)
            is_fork = (session.lineage or {}).get("kind") == "fork"
            make_room(self._forks)
            self._forks[session_id] = is_fork
        return event_id_for(f"{event_id}:{session_id}", "") if is_fork else event_id

    def remove_message(self, session_id: str, message_id: str, **envelope: Unpack[Envelope]) -> AppendResult:
        """Remove a message from the state, and a title that was taken from it; the history keeps both.

        In place of such a title, the session gets that of the first other message of a user, if there is one.

        Args:
            session_id: The session.
            message_id: The message.
            envelope: See ``Envelope``.

        Returns:
            The result of the append.

        Raises:
            SessionNotFound: The session does not exist.
            SessionEnded: The session is expired or deleted; or archived, in a ledger in BigQuery.
            InvalidInput: The session has no such message.
        """
        check_text(message_id, "message_id")
        event_id = self._event_id(session_id, envelope)
        change = Change("message", message_id, removed=True)
        recorded = self._recorded(session_id, event_id, envelope)
        if recorded is not None:  # a retry must repeat what the first delivery decided about the title
            titles = [Change("title", "", it.value, it.removed) for it in recorded.changes if it.field == "title"]
            return self._append(session_id, "message.removed", [change, *titles], envelope, event_id=event_id)
        state = self._state_at(session_id, None)
        if ("message", message_id) not in state:
            raise InvalidInput(f"Session {session_id} has no message {message_id}; nothing was written.")
        if not self._title_without(session_id, message_id, state):
            return self._append(session_id, "message.removed", [change], envelope, event_id=event_id)

        def without_title(_: State) -> list[Change]:
            # That state has no messages. A later one than it is refused by the version that the append expects.
            return [change, *self._title_without(session_id, message_id, self._state_at(session_id, None))]

        return self._derive(session_id, "message.removed", without_title, envelope, event_id=event_id, is_new=True)

    def _title_without(self, session_id: str, message_id: str, state: State) -> list[Change]:
        """Return the change of the title if a message is removed; none if the title was not taken from this message.

        Args:
            session_id, message_id: The session and the message.
            state: The session's state, messages included.
        """
        title, message = state.get(("title", "")), state.get(("message", message_id))
        if title is None or title.value is None or message is None:
            return []
        texts = [_title_of(message)]
        if title.version < message.version:  # the message may have been replaced since it gave the title
            texts.append(_title_of(self._state_at(session_id, title.version).get(("message", message_id))))
        if title.value not in texts:
            return []
        others = [(held.version, key, held) for (field, key), held in state.items() if field == "message"]
        in_order = (_title_of(held) for _, key, held in sorted(others) if key != message_id)
        found = None if ("question", "") in state else next(filter(None, in_order), None)
        return [] if found == title.value else [Change("title", "", found, removed=found is None)]

    def get_messages(
        self, session_id: str, *, last: int | None = None, after: str | None = None, limit: int | None = None
    ) -> MessagePage:
        """Return a session's messages, in order: all of them, or a part.

        Args:
            session_id: The session.
            last: Return only this many messages, the newest, 1 to 10,000. Without ``after`` and ``limit``.
            after: Return only the messages after this place: the ``next`` of an earlier page.
            limit: Maximum number of messages, 1 to 10,000; all if None.

        Returns:
            The messages, oldest first; ``next`` is None if there are no more. ``to_frame`` gives a DataFrame.

        Raises:
            SessionNotFound: The session does not exist.
            InvalidInput: ``last`` or ``limit`` is less than 1 or more than 10,000, or ``last`` is given together with
                ``after`` or ``limit``.
        """
        if last is not None and (after is not None or limit is not None):
            raise InvalidInput("Give last, or after and limit: last always returns the newest messages.")

        def page_after(place: str | None) -> Page[Message]:
            return self.store.messages(session_id, after=place or after, limit=EVENTS_PAGE if limit is None else limit)

        if last is not None:
            check_limit(last, "last")
            page = self.store.messages(session_id, after=None, limit=last, newest=True)
        else:
            page = Page(every_item(page_after)) if limit is None else page_after(None)
        if not page:
            self._require(session_id)
        return MessagePage(page, page.next)


def _title_of(message: RegisterValue | None) -> str | None:
    """Return the title that a recorded message gives; None if it is no message of a user, or was erased."""
    value = None if message is None else message.value
    return _title(value.get("content")) if isinstance(value, Mapping) and value.get("role") == "user" else None


def _title(content: Any) -> str | None:
    """Return the first non-blank line of a message, cut to ``TITLE_CHARACTERS``; None if there is no such line."""
    if isinstance(content, list | tuple):  # parts, as chat APIs have them
        content = next(
            (part["text"] for part in content if isinstance(part, Mapping) and isinstance(part.get("text"), str)), None
        )
    if not isinstance(content, str):
        return None
    line = next((line for line in content.splitlines() if line.strip()), "")
    words = " ".join(line.split())
    return (words if len(words) <= TITLE_CHARACTERS else words[: TITLE_CHARACTERS - 1].rstrip() + "…") or None


def _check_parts(tools_used: Any, processing_time_ms: Any, token_count: Any, metadata: Any) -> None:
    """Raise InvalidInput for parts of a message that SQL and sums over messages would read as nothing or wrongly."""
    wrong = {
        "tools_used must be a list of tools": isinstance(tools_used, str | bytes),
        "processing_time_ms must be a number from 0 up": _is_no_amount(processing_time_ms, Real),
        "token_count must be a whole number from 0 up": _is_no_amount(token_count, Integral),
        "metadata must be an object": isinstance(metadata, str | bytes | list | tuple | Real),
    }
    for said, is_wrong in wrong.items():
        if is_wrong:
            raise InvalidInput(f"{said}; nothing was written.")


def _is_no_amount(value: Any, kind: type) -> bool:
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    return value is not None and not (is_number and value >= 0)

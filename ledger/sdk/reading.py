"""Reading one session: its state, its history and the difference between two versions."""

from __future__ import annotations

from datetime import datetime

from ledger.errors import SessionNotFound
from ledger.model.events import RecordedEvent
from ledger.model.fold import Difference, State, diff
from ledger.model.instants import to_text
from ledger.model.page import EVENTS_PAGE, Page, every_item, version_after
from ledger.model.session import Head, Session
from ledger.sdk.command_base import CommandBase, not_found
from ledger.sdk.frames import EventPage


class Reading(CommandBase):
    """Mixin class: the state of a session, at its latest version or an earlier one, and its events."""

    def get_session(
        self, session_id: str, *, version: int | None = None, at: datetime | None = None, messages: bool = False
    ) -> Session | None:
        """Return the state of a session, or None if the session does not exist; see also ``require_session``.

        Args:
            session_id: The session.
            version: Return the state at this version, from 1; the latest if None.
            at: Return the state at this time by the store's clock. The time is timezone-aware. From ``created_at`` on
                it is at least the first version; if the session did not exist yet, the result is None.
            messages: Read the messages as well.

        Returns:
            The session, which is also a mapping, or None. Its ``messages`` are None unless ``messages`` is true.

        Raises:
            InvalidInput: The session has no such version, or both ``version`` and ``at`` are given.
            CorruptEvent, UpcastMissing: A row cannot be read.
        """
        head_and_state = self.store.state(session_id, version=version, at=at, with_messages=messages)
        if head_and_state is None and at is not None:
            head_and_state = self._first_state(session_id, at, messages)
        if head_and_state is None:
            return None
        now = at or (self._clock() if version is None else None)
        return Session(*head_and_state, with_messages=messages, now=now)

    def require_session(
        self, session_id: str, *, version: int | None = None, at: datetime | None = None, messages: bool = False
    ) -> Session:
        """Return the state of a session that must exist.

        Args:
            session_id, version, at, messages: As for ``get_session``.

        Returns:
            The session, never None.

        Raises:
            SessionNotFound: The session does not exist, or did not exist yet at the time ``at``.
            InvalidInput, CorruptEvent, UpcastMissing: As for ``get_session``.
        """
        session = self.get_session(session_id, version=version, at=at, messages=messages)
        if session is not None:
            return session
        created = None if at is None else self._get(session_id)
        if at is None or created is None:
            raise not_found(session_id)
        raise SessionNotFound(
            f"Session {session_id} did not exist at {to_text(at)}: it was created at {to_text(created.created_at)}.",
            session_id=session_id,
        )

    def history(self, session_id: str, *, after: int | str | None = 0, limit: int | None = None) -> EventPage:
        """Return a session's events, oldest first: all of them, or a part.

        Args:
            session_id: The session.
            after: Return only events after this version; for the next page, the ``next`` of the page before.
            limit: Maximum number of versions, 1 to 10,000; all if None.

        Returns:
            The events; ``next`` is None if there are no more. ``to_frame`` gives a DataFrame with a row per change.

        Raises:
            SessionNotFound: The session does not exist.
            InvalidInput: ``after`` is neither a version nor the ``next`` of a page.
            CorruptEvent, UpcastMissing: A row cannot be read.
        """

        def page_after(version: str | None) -> Page[RecordedEvent]:
            place = version_after(after if version is None else version)
            return self.store.events(session_id, after=place, limit=EVENTS_PAGE if limit is None else limit)

        page = Page(every_item(page_after)) if limit is None else page_after(None)
        if not page:
            self._require(session_id)
        return EventPage(page, page.next)

    def diff(self, session_id: str, before: int, after: int | None = None) -> list[Difference]:
        """Return the registers that differ between two versions of a session, messages included.

        Args:
            session_id: The session.
            before: A version; 0 for the empty state before the first event.
            after: A version; the latest if None.

        Returns:
            One item per register, sorted by (field, key).

        Raises:
            SessionNotFound: The session does not exist.
            InvalidInput: The session has no such version.
        """
        return diff(self._state_at(session_id, before), self._state_at(session_id, after))

    def _first_state(self, session_id: str, at: datetime, messages: bool) -> tuple[Head, State] | None:
        """Return the state of the first version of a session that was created by ``at``, although recorded later.

        The time in a generated id, which is the creation time, is some moments before that of the first event.
        """
        first = self.store.events(session_id, limit=1)
        if not first or first[0].created_at > at:
            return None
        return self.store.state(session_id, version=first[0].version, with_messages=messages)

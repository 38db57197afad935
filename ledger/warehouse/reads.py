"""The methods of ``EventStore`` that read one session, answered from a warehouse."""

from __future__ import annotations

from datetime import datetime

from ledger.errors import InvalidInput
from ledger.model.events import RecordedEvent
from ledger.model.fold import State
from ledger.model.page import Page, check_limit, position_of
from ledger.model.session import Head, Message
from ledger.model.values import check_session_id, check_text, check_whole
from ledger.warehouse.projection import Projection, SessionHead


class WarehouseReads:
    """The methods ``state``, ``messages``, ``events`` and ``version_of`` of ``EventStore``, answered from a warehouse.

    Args:
        projection: Runs the warehouse's SQL.
    """

    def __init__(self, projection: Projection) -> None:
        self._projection = projection

    def state(
        self, session_id: str, *, version: int | None = None, at: datetime | None = None, with_messages: bool = False
    ) -> tuple[Head, State] | None:
        """Return a session's head and state: the latest, or those at a version or time; see ``EventStore.state``."""
        check_session_id(session_id)
        if version is not None and at is None:
            check_whole(version, "version", at_least=1)
        state = self._projection.state(session_id, version=version, at=at, with_messages=with_messages)
        if version is not None and (state is None or state[0].version != version):
            self._check_version(session_id, version)
        return state

    def messages(self, session_id: str, *, after: str | None, limit: int, newest: bool = False) -> Page[Message]:
        """Return a page of a session's messages in order of version; see ``EventStore.messages``."""
        check_session_id(session_id)
        check_limit(limit)
        if newest:
            return Page(self._projection.messages(session_id, at_most=limit, newest=True))
        position = (0, "") if after is None else position_of(after)
        messages = self._projection.messages(session_id, after=position, at_most=limit + 1)
        page = messages[:limit]
        return Page(page, f"{page[-1].version}:{page[-1].message_id}" if len(messages) > limit else None)

    def events(self, session_id: str, *, after: int = 0, limit: int = 1000, upcast: bool = True) -> Page[RecordedEvent]:
        """Return a page of a session's events in order of version; see ``EventStore.events``."""
        check_session_id(session_id)
        check_limit(limit)
        check_whole(after, "after")
        return self._projection.page_of_events(session_id, after=after, versions=limit, upcast=upcast)

    def version_of(self, session_id: str, event_id: str) -> int | None:
        """Return the version of a recorded event, or None if it is not found; see ``EventStore.version_of``."""
        check_session_id(session_id)
        check_text(event_id, "event_id")
        stored = self._head(session_id, event_id)
        return None if stored is None else stored.event_version

    def _head(self, session_id: str, event_id: str = "") -> SessionHead | None:
        created_at = self._projection.creation_of(session_id)
        return None if created_at is None else self._projection.standing(session_id, created_at, event_id)

    def _check_version(self, session_id: str, version: int) -> None:
        """Raise InvalidInput if the session exists and its last version is below ``version``."""
        stored = self._head(session_id)
        if stored is not None and stored.head.version < version:
            last = stored.head.version
            raise InvalidInput(f"Session {session_id} has versions 1 to {last}; there is no version {version}.")

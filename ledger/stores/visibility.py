"""The sessions of a store that one user may see."""

from __future__ import annotations

from dataclasses import replace

from ledger.errors import PermissionDenied, SessionArchived
from ledger.model.fold import State
from ledger.model.queries import SessionQuery
from ledger.model.session import Head
from ledger.stores.base import EventStore
from ledger.stores.rights import right_of, unused_id


class Visibility:
    """Lookup of a store's sessions and of one user's rights on them.

    Args:
        store: The store of all sessions.
        user_id: The user.
    """

    def __init__(self, store: EventStore, user_id: str) -> None:
        self._store = store
        self._user_id = user_id

    def latest(self, session_id: str, *, with_messages: bool = False) -> tuple[Head, State] | None:
        """Return a session's latest head and state, even if the user may not see it; None if it does not exist.

        If the session's rows are only in a warehouse and the user may not see the session, the state has only the
        fields that the store keeps.

        Raises:
            SessionArchived: The session's rows are only in a warehouse, and the user may see the session.
        """
        try:
            return self._store.state(session_id, with_messages=with_messages)
        except SessionArchived as archived:
            if right_of(self._user_id, archived.head, archived.state) is not None:
                raise
            return archived.head, archived.state

    def visible(self, session_id: str) -> tuple[Head, State] | None:
        """Return a session's latest head and state; None if it does not exist or the user may not see it.

        Raises:
            SessionArchived: The session's rows are only in a warehouse, and the user may see the session.
        """
        latest = self.latest(session_id)
        if latest is None or right_of(self._user_id, *latest) is not None:
            return latest
        # A tiered store looks up a missing id in its warehouse too, which may take long or fail. Look up an unused id,
        # so that a session which the user may not see takes as long and fails in the same way.
        self._store.state(unused_id(session_id))
        return None

    def head_and_state(self, session_id: str) -> tuple[Head, State] | None:
        """Return a session's head and state, even if the user may not see it; None if the session does not exist.

        If the session's rows are only in a warehouse, the state has only the fields that the store keeps, which
        include the grants.
        """
        try:
            return self._store.state(session_id)
        except SessionArchived as archived:
            return archived.head, archived.state

    def may_see(self, session_id: str, owner: str) -> bool:
        """Return True if the user may see a session; ``owner`` is the owner that the session's rows name."""
        if owner == self._user_id:
            return True
        session = self.head_and_state(session_id)
        return session is not None and right_of(self._user_id, *session) is not None

    def id_or_unused(self, session_id: str) -> str:
        """Return ``session_id`` if the user may see the session; otherwise return an id that no session has."""
        return session_id if self.visible(session_id) is not None else unused_id(session_id)

    def restrict(self, query: SessionQuery) -> SessionQuery:
        """Return the query restricted to sessions that the user may see; see ``UserView.sessions``.

        Raises:
            PermissionDenied: The query is about sessions shared between two other users.
        """
        if query.granted_to == self._user_id:
            return query
        if query.user_id in (None, self._user_id):
            return replace(query, user_id=self._user_id)
        if query.granted_to is None:
            return replace(query, granted_to=self._user_id)
        raise PermissionDenied(f"User {self._user_id} may not list sessions shared between two other users.")

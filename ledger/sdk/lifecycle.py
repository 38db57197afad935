"""The lifecycle of sessions: completing, failing, expiring, deleting and restoring them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Unpack

from ledger.errors import InvalidInput, SessionEnded, SessionNotFound, WrongExpectedVersion
from ledger.model.events import AppendResult, Change, Envelope
from ledger.model.fields import SESSION_KEY
from ledger.model.fold import State
from ledger.model.ids import session_id_of_key
from ledger.model.instants import from_text, to_text
from ledger.model.json_form import error_value
from ledger.model.lifetime import CLOSED, DONE, REOPENING, status_at
from ledger.model.page import every_item
from ledger.model.queries import SessionQuery
from ledger.model.session import Head, Session
from ledger.model.updates import without_error
from ledger.model.values import check_text
from ledger.sdk.command_base import CommandBase, make_room
from ledger.sdk.opening import UNSET

#: Number of sessions per page when all sessions of a query are read.
_PAGE = 200


class Lifecycle(CommandBase):
    """Mixin class: changes of a session's status.

    A session has the status ``expired`` from its ``expires_at`` on. ``expire_old_sessions`` records that in an event.
    """

    def complete_session(self, session_id: str, **envelope: Unpack[Envelope]) -> AppendResult:
        """Set the status to ``completed``; the session stays open. If it had failed, its error is removed.

        Raises:
            SessionNotFound: The session does not exist.
            SessionEnded: The session is expired or deleted; or archived, in a ledger in BigQuery.
        """
        return self._earlier_result(session_id, "session.completed", envelope) or self._derive(
            session_id,
            "session.completed",
            lambda state: [Change("status", "", "completed"), *without_error("completed", state)],
            envelope,
        )

    def fail_session(
        self, session_id: str, error: BaseException | Mapping[str, Any] | str, **envelope: Unpack[Envelope]
    ) -> AppendResult:
        """Set the status to ``failed`` and record the error; the session stays open.

        Args:
            session_id: The session.
            error: An exception, ``{"type": ..., "message": ...}``, or the message.
            envelope: See ``Envelope``.

        Returns:
            The result of the append.

        Raises:
            SessionNotFound: The session does not exist.
            SessionEnded: The session is expired or deleted; or archived, in a ledger in BigQuery.
            InvalidInput: ``error`` has another type or shape.
        """
        changes = [Change("status", "", "failed"), Change("error", "", error_value(error))]
        return self._append(session_id, "session.failed", changes, envelope)

    def extend_session(
        self, session_id: str, ttl: timedelta | None = UNSET, **envelope: Unpack[Envelope]
    ) -> AppendResult:
        """Set a later ``expires_at``.

        Args:
            session_id: The session.
            ttl: Time from now until the session expires, at most ``max_ttl_hours``; None for no expiry. If not given,
                ``default_ttl_hours``.
            envelope: See ``Envelope``.

        Returns:
            The result of the append.

        Raises:
            SessionNotFound: The session does not exist.
            InvalidInput: The TTL exceeds the maximum, or the new ``expires_at`` would be before the present one.
            SessionEnded: The session is expired or deleted; or archived, in a ledger in BigQuery. See
                ``restore_session``.
        """
        self._expiry(ttl)  # refuse an invalid TTL before reading the session

        def changes(state: State) -> list[Change]:
            # The TTL counts from this attempt: the session may have been extended since the one before.
            expires_at, current = self._expiry(ttl), _expires_at(state)
            if expires_at is not None and (current is None or from_text(expires_at) < current):
                expires = "never expires" if current is None else f"expires at {current.isoformat()}"
                raise InvalidInput(
                    f"Session {session_id} {expires}, so a TTL that ends at {expires_at} would shorten it; nothing was "
                    "written. Set an earlier expires_at with update_session(), or expire it at once with "
                    "expire_session()."
                )
            return [Change("expires_at", "", expires_at)]

        return self._earlier_result(session_id, "session.extended", envelope) or self._derive(
            session_id, "session.extended", changes, envelope
        )

    def expire_session(self, session_id: str, **envelope: Unpack[Envelope]) -> AppendResult | None:
        """Expire a session now.

        Returns:
            The result of the append; None if the session is recorded as expired already. In that case nothing is
            written, and the ``event_id`` is not recorded.

        Raises:
            SessionNotFound: The session does not exist.
            SessionEnded: The session is archived or deleted.
        """
        earlier = self._earlier_result(session_id, "session.expired", envelope)
        if earlier is not None:
            return earlier
        if self._require(session_id).recorded_status == "expired":
            return None

        def changes(state: State) -> list[Change]:
            status = _status(state)
            if status in CLOSED:  # also if another writer has closed it since the check above
                raise SessionEnded(
                    f"Session {session_id} is {status} and cannot expire; nothing was written. Reopen it with "
                    f"{REOPENING[status]} first.",
                    session_id=session_id,
                    status=status,
                )
            return self._expiration(state)

        return self._derive(session_id, "session.expired", changes, envelope, require_open=False)

    def expire_old_sessions(self, max_age: timedelta | None = None) -> int:
        """Record the status ``expired`` for every session whose ``expires_at`` has passed.

        The call is safe while sessions are in use. A session to which another writer appends meanwhile is left for the
        next call.

        Args:
            max_age: Also expire sessions whose last event is older than this, except completed, failed and closed ones.

        Returns:
            The number of sessions expired.

        Raises:
            InvalidInput: ``max_age`` is not a timedelta of 0 or more.
        """
        return sum(1 for _ in self._expire_old(max_age))

    def _expire_old(self, max_age: timedelta | None) -> Iterator[str]:
        """Do what ``expire_old_sessions`` does, and yield the id of each session once its expiration is recorded."""
        if max_age is not None and (not isinstance(max_age, timedelta) or max_age < timedelta(0)):
            raise InvalidInput(f"max_age must be a timedelta of 0 or more, not {max_age!r}.")
        now = self._clock()
        queries = [SessionQuery(at=now, unswept=True)]
        if max_age is not None:
            with suppress(OverflowError):  # before the year 1: no session is that old
                queries.append(SessionQuery(at=now, without=(*CLOSED, *DONE), updated_before=now - max_age))
        for query in queries:
            for head, state in self._all(query):
                changes, envelope = self._expiration(state), Envelope(expected_version=head.version)
                try:
                    self._append(head.session_id, "session.expired", changes, envelope, require_open=False)
                except (WrongExpectedVersion, SessionNotFound):
                    continue  # another writer has appended to it or purged it
                yield head.session_id

    def delete_session(self, session_id: str, **envelope: Unpack[Envelope]) -> AppendResult | None:
        """Set a session's status to ``deleted``. Searches and lists leave it out, except lists of that status.

        Its history stays readable, and ``restore_session`` undoes the deletion. To delete the data itself, purge the
        session with ``delete_old_sessions``.

        Returns:
            The result of the append; None if the session is deleted already and no ``event_id`` is given.

        Raises:
            SessionNotFound: The session does not exist.
            PermissionDenied: This is the view of a user who does not own the session.
        """
        if self._require(session_id).recorded_status == "deleted" and envelope.get("event_id") is None:
            return None
        changes = [Change("status", "", "deleted")]
        return self._append(session_id, "session.deleted", changes, envelope, require_open=False)

    def restore_session(
        self, session_id: str, ttl: timedelta | None = UNSET, **envelope: Unpack[Envelope]
    ) -> AppendResult:
        """Reopen an expired or deleted session with the status it had before, and a new ``expires_at``.

        Args:
            session_id: The session.
            ttl: Time from now until the session expires, at most ``max_ttl_hours``; None for no expiry. If not given,
                ``default_ttl_hours``.
            envelope: See ``Envelope``.

        Returns:
            The result of the append.

        Raises:
            SessionNotFound: The session does not exist.
            InvalidInput: The session is neither expired nor deleted, or the TTL exceeds the maximum.
            PermissionDenied: This is a view, and its user does not own the deleted session.
        """
        expires_at, now = self._expiry(ttl), self._clock()

        def changes(state: State) -> list[Change]:
            status = status_at(_status(state), _expires_at(state), now)
            if status not in ("expired", "deleted"):
                how = f" Open it with {REOPENING[status]}." if status == "archived" else ""
                raise InvalidInput(
                    f"Session {session_id} is {status}, neither expired nor deleted; nothing was written.{how}"
                )
            return [
                Change("status", "", self._last_open_status(session_id, state)),
                Change("expires_at", "", expires_at),
            ]

        return self._earlier_result(session_id, "session.restored", envelope) or self._derive(
            session_id, "session.restored", changes, envelope, require_open=False
        )

    def get_or_create_session(
        self,
        user_id: str | None = None,
        key: str = "default",
        *,
        question: str | None = None,
        fields: Mapping[str, Any] | None = None,
        ttl: timedelta | None = UNSET,
    ) -> Session:
        """Return a user's open session for a key; create it if there is none. Concurrent callers get the same session.

        Args:
            user_id: The owner. Required except on a view (``for_user``).
            key: A name that identifies the session among the user's sessions, 1 to 255 characters, for example the
                name of a chat, a channel or a document. Once the session is expired, archived or deleted, the next
                call creates another one. The session holds the key in the field ``x_session_key``.
            question, fields, ttl: As for ``create_session``; ignored if the session exists.

        Returns:
            The session, without its messages.

        Raises:
            InvalidInput: An id, the key or a value cannot be recorded.
        """
        owner, key = self._owner(user_id), check_text(key, "key")
        session_id = self._by_key.get((owner, key))
        session = None if session_id is None else self._get(session_id)
        if session is None or session.status in CLOSED:
            session = self._find_by_key(owner, key) or self._create_by_key(owner, key, question, fields, ttl)
            make_room(self._by_key)
            self._by_key[owner, key] = session.session_id
        return session

    def _find_by_key(self, owner: str, key: str) -> Session | None:
        """Return a user's open session for a key, or None if the store has none."""
        now = self._clock()
        for head, state in self._all(SessionQuery(user_id=owner, without=CLOSED, at=now)):
            register = state.get((SESSION_KEY, ""))
            if register is not None and register.value == key:
                return Session(head, state, now=now)
        return None

    def _create_by_key(
        self, owner: str, key: str, question: str | None, fields: Mapping[str, Any] | None, ttl: timedelta | None
    ) -> Session:
        """Create a user's session for a key, and return it.

        The ids of ``session_id_of_key`` are tried in order. If another caller has just created an open session of the
        user with one of these ids, return that session.
        """
        updates = {**(fields or {}), SESSION_KEY: key} if fields is None or isinstance(fields, Mapping) else fields
        for number in count():
            session_id = session_id_of_key(key, owner, number)
            # Created first and read afterwards: a read of a session that is not in the store asks the warehouse.
            try:
                self._create(owner, question, updates, session_id, ttl, Envelope())
                return self._require(session_id)
            except WrongExpectedVersion:  # it exists
                session = self._get(session_id)
            except SessionNotFound:  # it exists, and belongs to another user who has guessed the id
                continue
            if session is not None and session.user_id == owner and session.status not in CLOSED:
                return session
        raise AssertionError("unreachable")

    def _expiration(self, state: State) -> list[Change]:
        """Return the changes that expire a session now. ``expires_at`` is set to now unless it has passed already."""
        now, end = self._clock(), _expires_at(state)
        changes = [Change("status", "", "expired")]
        return changes if end is not None and end <= now else [*changes, Change("expires_at", "", to_text(now))]

    def _last_open_status(self, session_id: str, state: State) -> str:
        """Return the last status of a session before it was closed; ``active`` if there was none."""
        status = state.get(("status", ""))
        while status is not None and status.value in CLOSED:
            earlier = self.store.state(session_id, version=status.version - 1) if status.version > 1 else None
            status = None if earlier is None else earlier[1].get(("status", ""))
        return "active" if status is None else status.value or "active"

    def _all(self, query: SessionQuery) -> Iterator[tuple[Head, State]]:
        """Yield all sessions that match a query. They are read page by page."""
        return every_item(lambda after: self.store.sessions(query, after=after, limit=_PAGE))


def _status(state: State) -> str | None:
    register = state.get(("status", ""))
    return None if register is None else register.value


def _expires_at(state: State) -> datetime | None:
    register = state.get(("expires_at", ""))
    text = None if register is None else register.value
    return None if text is None else from_text(text)

"""A session's life: how long it is open, how it ends, and how it comes back."""

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
from ledger.model.lifetime import CLOSED, DONE, status_at
from ledger.model.queries import SessionQuery
from ledger.model.session import Head, Session
from ledger.model.values import check_text
from ledger.sdk.command_base import CommandBase, make_room
from ledger.sdk.opening import UNSET

#: Sessions that the sweep looks at together.
_SWEPT = 200


class Lifecycle(CommandBase):
    """Ends of sessions. Whoever reads a session after its ``expires_at`` sees it expired; the sweep records it."""

    def complete_session(self, session_id: str, **envelope: Unpack[Envelope]) -> AppendResult:
        """Record that a session came to its end as it should."""
        return self._append(session_id, "session.completed", [Change("status", "", "completed")], envelope)

    def fail_session(
        self, session_id: str, error: BaseException | Mapping[str, Any] | str, **envelope: Unpack[Envelope]
    ) -> AppendResult:
        """Record that a session broke off, and why; one that was merely left alone expires instead.

        Args:
            error: An exception, ``{"type": ..., "message": ...}``, or the message.
        """
        changes = [Change("status", "", "failed"), Change("error", "", _described(error))]
        return self._append(session_id, "session.failed", changes, envelope)

    def extend_session(
        self, session_id: str, ttl: timedelta | None = UNSET, **envelope: Unpack[Envelope]
    ) -> AppendResult:
        """Have a session end later: so long from now; for good where ``ttl`` is None and the ledger allows it.

        Raises:
            InvalidInput: It would live for longer than the ledger allows, or end before it does now.
            SessionEnded: It has ended; see ``restore_session``.
        """
        self._end_after(ttl)  # refused before anything is read

        def changes(state: State) -> list[Change]:
            # From the time of this very try on: another may have extended it a moment ago.
            ends, before = self._end_after(ttl), _end_of(state)
            if ends is not None and (before is None or from_text(ends) < before):
                until = "for good" if before is None else f"until {before.isoformat()}"
                raise InvalidInput(
                    f"Session {session_id} lives {until} already, longer than {ends}; nothing was written. "
                    "expire_session() ends it at once."
                )
            return [Change("expires_at", "", ends)]

        return self._resent(session_id, "session.extended", envelope) or self._derive(
            session_id, "session.extended", changes, envelope
        )

    def expire_session(self, session_id: str, **envelope: Unpack[Envelope]) -> AppendResult | None:
        """End a session now.

        Returns:
            None where that is recorded already; of the ``event_id`` nothing is known then.

        Raises:
            SessionEnded: It is archived or deleted.
        """
        resent = self._resent(session_id, "session.expired", envelope)
        if resent is not None:
            return resent
        if self._require(session_id).recorded_status == "expired":
            return None

        def changes(state: State) -> list[Change]:
            word = _status_of(state)
            if word in CLOSED:  # also where somebody else has closed it a moment ago
                raise SessionEnded(
                    f"Session {session_id} is {word} and cannot expire; nothing was written.",
                    session_id=session_id,
                    status=word,
                )
            return self._expired(state)

        return self._derive(session_id, "session.expired", changes, envelope, require_open=False)

    def expire_old_sessions(self, max_age: timedelta | None = None) -> int:
        """Record the end of every session that has expired by now, one after the other.

        Sessions go on being used meanwhile: one that does is left for the next time.

        Args:
            max_age: End also those to which nothing has happened for longer than this.

        Returns:
            How many sessions it ended.
        """
        if max_age is not None and (not isinstance(max_age, timedelta) or max_age < timedelta(0)):
            raise InvalidInput(f"max_age must be a timedelta of no time or more, not {max_age!r}.")
        now = self._clock()
        queries = [SessionQuery(at=now, unswept=True)]
        if max_age is not None:
            with suppress(OverflowError):  # longer ago than all times: nothing is that old
                queries.append(SessionQuery(at=now, without=(*CLOSED, *DONE), updated_before=now - max_age))
        ended = 0
        for query in queries:
            for head, state in self._all(query):
                try:
                    on_this = Envelope(expected_version=head.version)
                    self._append(head.session_id, "session.expired", self._expired(state), on_this, require_open=False)
                    ended += 1
                except (WrongExpectedVersion, SessionNotFound):
                    continue  # somebody goes on with it, or has deleted it for good
        return ended

    def delete_session(self, session_id: str, **envelope: Unpack[Envelope]) -> AppendResult | None:
        """Take a session out of every list; its history stays, and ``restore_session`` brings it back.

        Returns:
            None where it is deleted already.
        """
        if self._require(session_id).recorded_status == "deleted" and "event_id" not in envelope:
            return None
        changes = [Change("status", "", "deleted")]
        return self._append(session_id, "session.deleted", changes, envelope, require_open=False)

    def restore_session(
        self, session_id: str, ttl: timedelta | None = UNSET, **envelope: Unpack[Envelope]
    ) -> AppendResult:
        """Open an expired or deleted session again, with the status it had before and a lifetime from now on.

        Args:
            ttl: How long it lives; the ledger's default where not given, None for no end.

        Raises:
            InvalidInput: It is neither expired nor deleted.
        """
        ends, now = self._end_after(ttl), self._clock()

        def changes(state: State) -> list[Change]:
            word = status_at(_status_of(state), _end_of(state), now)
            if word not in ("expired", "deleted"):
                raise InvalidInput(f"Session {session_id} is {word}, neither expired nor deleted; nothing was written.")
            return [Change("status", "", self._status_before(session_id, state)), Change("expires_at", "", ends)]

        return self._resent(session_id, "session.restored", envelope) or self._derive(
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
        """The open session that a user has under a key, begun by this call where there is none; for any number of
        callers at once.

        Args:
            user_id: Its owner.
            key: Whatever tells the user's sessions apart: a chat, a channel, a document. Once a session has expired or
                was deleted, the key stands for a new one. The session holds it in the field ``x_session_key``.
            question, fields, ttl: As for ``create_session``; where the session is there they are not looked at.
        """
        owner, key = self._owner(user_id), check_text(key, "key")
        begun = self._begun.get((owner, key))
        session = None if begun is None else self._get(begun)
        if session is None or session.status in CLOSED:
            session = self._under_key(owner, key) or self._begin_under_key(owner, key, question, fields, ttl)
            make_room(self._begun)
            self._begun[owner, key] = session.session_id
        return session

    def _under_key(self, owner: str, key: str) -> Session | None:
        """The open session that a user has under a key, of those that are in this store."""
        now = self._clock()
        for head, state in self._all(SessionQuery(user_id=owner, without=CLOSED, at=now)):
            written = state.get((SESSION_KEY, ""))
            if written is not None and written.value == key:
                return Session(head, state, now=now)
        return None

    def _begin_under_key(
        self, owner: str, key: str, question: str | None, fields: Mapping[str, Any] | None, ttl: timedelta | None
    ) -> Session:
        """Begin the first session of a key whose id is free; of several callers one does, and the others find it."""
        updates = {**(fields or {}), SESSION_KEY: key} if fields is None or isinstance(fields, Mapping) else fields
        for number in count():
            session_id = session_id_of_key(key, owner, number)
            # Begun first and looked at then: about a session that is not here the warehouse would be asked.
            try:
                self._begin(owner, question, updates, session_id, ttl, Envelope())
                return self._require(session_id)
            except WrongExpectedVersion:  # it is there
                session = self._get(session_id)
            except SessionNotFound:  # so it is, and another user's, who has guessed the id
                continue
            if session is not None and session.user_id == owner and session.status not in CLOSED:
                return session
        raise AssertionError("unreachable")

    def _end_after(self, ttl: timedelta | None) -> str | None:
        """When a session ends that lives for so long from now; the ledger's default where it is not given."""
        return self._expiry(self._default_ttl) if ttl is UNSET else self._expiry(ttl, self._max_ttl)

    def _expired(self, state: State) -> list[Change]:
        """What the end of a session changes; where it comes early, ``expires_at`` says when it came."""
        now, end = self._clock(), _end_of(state)
        changes = [Change("status", "", "expired")]
        return changes if end is not None and end <= now else [*changes, Change("expires_at", "", to_text(now))]

    def _status_before(self, session_id: str, state: State) -> str:
        """The last status in which the session was open."""
        written = state.get(("status", ""))
        while written is not None and written.value in CLOSED:
            earlier = self.store.state(session_id, version=written.version - 1) if written.version > 1 else None
            written = None if earlier is None else earlier[1].get(("status", ""))
        return "active" if written is None else written.value or "active"

    def _all(self, query: SessionQuery) -> Iterator[tuple[Head, State]]:
        after: str | None = None
        while True:
            page = self.store.sessions(query, after=after, limit=_SWEPT)
            yield from page
            after = page.next
            if after is None:
                return


def _status_of(state: State) -> str | None:
    written = state.get(("status", ""))
    return None if written is None else written.value


def _end_of(state: State) -> datetime | None:
    written = state.get(("expires_at", ""))
    text = None if written is None else written.value
    return None if text is None else from_text(text)


def _described(error: BaseException | Mapping[str, Any] | str) -> dict[str, Any]:
    if isinstance(error, BaseException):
        try:
            message = str(error)
        except Exception as unsaid:  # noqa: BLE001 - what failed must be recorded all the same
            message = f"It cannot say what it is: {type(unsaid).__name__}."
        return {"type": type(error).__name__, "message": message}
    if isinstance(error, str):
        return {"type": "error", "message": error}
    if isinstance(error, Mapping):
        return dict(error)
    raise InvalidInput(f"error must be an exception, an object or text, not {type(error).__name__}.")

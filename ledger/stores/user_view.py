"""One user's view of an event store: their own sessions, and those that others share with them. No others are there.

A session is the user's who began it. Its owner shares it by a ``grant``: ``read``, or ``write`` to append as well. What
counts is the grant that stands there now, whichever state is asked for. A session that is neither owned nor shared is
to a user what one is that nobody has begun: the same answers, the same errors, and as much asked of the store behind.

What a view cannot hide: an id of a caller's own that is taken cannot be begun, so whoever guesses such an id learns
that somebody has it, not who, nor what is in it. A made id (a UUIDv7) cannot be guessed.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn

from ledger.errors import (
    LedgerError,
    PermissionDenied,
    SessionArchived,
    SessionNotFound,
    StoreError,
    StoreRejected,
    StoreUnavailable,
    WrongExpectedVersion,
)
from ledger.model.events import ANY_VERSION, AppendResult, NewEvent, PreparedEvent, RecordedEvent, prepare
from ledger.model.fold import State
from ledger.model.ids import created_at_of
from ledger.model.page import Page
from ledger.model.queries import SearchQuery, SessionQuery
from ledger.model.search import Match
from ledger.model.session import Head, Message
from ledger.model.values import check_text, check_whole
from ledger.outbox.contract import SEQ, index_of
from ledger.stores.base import MAX_BYTES, Capabilities, EventStore
from ledger.stores.checks import check_expected

READ, WRITE = "read", "write"
#: How often an append to a shared session is made anew because somebody else appended between check and append.
ATTEMPTS = 1000
_DELETED = '"deleted"'
#: Statuses that only a session's owner gives it.
_OWNERS = ('"archived"', _DELETED)
_SESSION = index_of("session_id")
_OWNED = itemgetter(_SESSION, index_of("user_id"))


class UserStore:
    """An event store as one user sees it, over any other.

    Every call reads the session's latest state first, to know whether the user may see it: from memory in the embedded
    store, one more query in BigQuery. In a session of somebody else only its owner changes grants and deletes, and what
    is appended has the user as its actor, whoever is named. A right that is taken away between check and append is
    missed by no store that compares and appends in one; a lenient session in BigQuery may take one more event.

    Args:
        store: All sessions; it stays open when the view is closed.
        user_id: Whose view it is.

    Raises:
        InvalidInput: No user can have this id.
    """

    def __init__(self, store: EventStore, user_id: str) -> None:
        self._store = store
        self.user_id = check_text(user_id, "user_id")
        self._closed = False

    def __getattr__(self, name: str) -> Any:
        """What a store has beside the protocol (its file, its outbox, its warehouse) is everybody's."""
        if name.startswith("_") or not hasattr(self._store, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise self.everybodys(name)

    @property
    def capabilities(self) -> Capabilities:
        """What the store can do, but for copying out everybody's sessions."""
        return replace(self._store.capabilities, backup=False)

    @property
    def store_id(self) -> str:
        """The identity of the store."""
        return self._store.store_id

    def append(self, session_id: str, event: NewEvent, *, expected_version: int = ANY_VERSION) -> AppendResult:
        """Record one event; see ``EventStore.append``.

        Raises:
            SessionNotFound: The user sees no such session; or, where the event begins one, the id cannot be had.
            PermissionDenied: The user may read the session only; the event is its owner's to append; or it begins a
                session of somebody else.
        """
        self._check_open()
        if event.user_id is not None:
            return self._begin(session_id, event, expected_version)
        found = self._look(session_id)
        if found is None:
            self._refuse(session_id, event, expected_version)
        if found[0].user_id == self.user_id:  # for good, so nothing can come in between
            return self._store.append(session_id, event, expected_version=expected_version)
        return self._append_shared(session_id, event, expected_version, found)

    def state(
        self, session_id: str, *, version: int | None = None, at: datetime | None = None, with_messages: bool = False
    ) -> tuple[Head, State] | None:
        """Head and state of a session, now or then; see ``EventStore.state``."""
        self._check_open()
        if version is None and at is None:
            found = self._latest(session_id, with_messages=with_messages)
            if found is None or self._right(*found) is not None:
                return found
            asked = _nowhere(session_id)
        else:
            asked = self._asked(session_id)
        return self._store.state(asked, version=version, at=at, with_messages=with_messages)

    def messages(self, session_id: str, *, after: str | None, limit: int, newest: bool = False) -> Page[Message]:
        """Messages in order; see ``EventStore.messages``."""
        self._check_open()
        return self._store.messages(self._asked(session_id), after=after, limit=limit, newest=newest)

    def events(self, session_id: str, *, after: int = 0, limit: int = 1000, upcast: bool = True) -> Page[RecordedEvent]:
        """Events in order; see ``EventStore.events``."""
        self._check_open()
        return self._store.events(self._asked(session_id), after=after, limit=limit, upcast=upcast)

    def version_of(self, session_id: str, event_id: str) -> int | None:
        """The version of a recorded event; see ``EventStore.version_of``."""
        self._check_open()
        return self._store.version_of(self._asked(session_id), event_id)

    def sessions(self, query: SessionQuery, *, after: str | None = None, limit: int = 50) -> Page[tuple[Head, State]]:
        """The user's own sessions, newest first; see ``EventStore.sessions``.

        Args:
            query: With the user as ``granted_to``: the sessions that others share with them. With another user as
                ``user_id``: those that this one shares with them. With another as ``granted_to``: their own that they
                share with this one.
            after, limit: A page.

        Raises:
            PermissionDenied: It asks what two other users share.
        """
        self._check_open()
        return self._store.sessions(self._visible(query), after=after, limit=limit)

    def search(self, query: SearchQuery, *, after: str | None = None, limit: int = 50) -> Page[Match]:
        """Texts of the user's own sessions and of those shared with them, and of no others; see ``EventStore.search``.

        Args:
            query: Whoever it says that it is visible to, it is this user.
            after, limit: A page.
        """
        self._check_open()
        return self._store.search(replace(query, visible_to=self.user_id), after=after, limit=limit)

    def ingest(self, events: Iterable[RecordedEvent]) -> int:
        """Take over whole events of the user's own sessions; see ``EventStore.ingest``.

        Raises:
            PermissionDenied: An event is of a session of somebody else; nothing of the call was written.
            SessionNotFound: A session's id cannot be had; nothing of the call was written.
        """
        self._check_open()
        batch = list(events)
        if any(isinstance(event, RecordedEvent) and event.user_id != self.user_id for event in batch):
            raise PermissionDenied(f"User {self.user_id} brings in sessions of their own only; nothing was written.")
        error, new = None, 0
        try:
            new = self._store.ingest(batch)
        except StoreError:
            raise
        except LedgerError as raised:
            error = raised
        distinct = {(event.session_id, event.event_id): event for event in batch if isinstance(event, RecordedEvent)}
        if new < len(distinct):  # refused, or recorded before: in whose session?
            for session_id in dict.fromkeys(session_id for session_id, _ in distinct):
                found = self._known(session_id)
                if found is not None and found[0].user_id != self.user_id:
                    raise _taken(session_id)
        if error is not None:
            raise error
        return new

    def rows_after(self, seq: int, limit: int, *, max_bytes: int = MAX_BYTES) -> Sequence[tuple[Any, ...]]:
        """Raw rows of the sessions that the user sees now; see ``EventStore.rows_after``.

        ``seq`` counts everybody's rows: its gaps tell how much others write, and nothing else.
        """
        self._check_open()
        while rows := self._store.rows_after(seq, limit, max_bytes=max_bytes):
            sees = {session_id: self._sees(session_id, owner) for session_id, owner in set(map(_OWNED, rows))}
            if visible := [row for row in rows if sees[row[_SESSION]]]:
                return visible
            seq = rows[-1][SEQ]
        return []

    def last_seq(self) -> int:
        """The ``seq`` of the store's last row, whosever that is; see ``EventStore.last_seq``."""
        self._check_open()
        return self._store.last_seq()

    def backup(self, path: Path) -> None:
        """Not offered: a copy of a store holds everybody's sessions.

        Raises:
            PermissionDenied: Always.
        """
        raise self.everybodys("backup")

    def check_shippable(self, session_id: str) -> None:
        """Raise StoreRejected where a warehouse refused rows of a session that the user may see."""
        self._check_open()
        check = getattr(self._store, "check_shippable", None)
        if check is not None:
            check(self._asked(session_id))

    def drop_archived(self, session_ids: Collection[str] | None = None) -> int:
        """Drop the rows of archived sessions of the user's own that have arrived in the warehouse.

        Raises:
            PermissionDenied: It does not say of which.
        """
        self._check_open()
        if session_ids is None:
            raise self.everybodys("drop_archived")
        drop = getattr(self._store, "drop_archived", None)
        looked = {session_id: self._look(session_id) for session_id in session_ids}
        own = [key for key, found in looked.items() if found is not None and found[0].user_id == self.user_id]
        return 0 if drop is None or not own else int(drop(own))

    def rehydrate(self, session_id: str) -> int:
        """Have a session that the user may write to brought back from the warehouse; see ``TwoTierStore.rehydrate``.

        Raises:
            PermissionDenied: The user may only read it.
        """
        self._check_open()
        found = self._look(session_id)
        if found is None:
            return 0
        if self._right(*found) != WRITE:
            raise _read_only(self.user_id, session_id)
        rehydrate = getattr(self._store, "rehydrate", None)
        return 0 if rehydrate is None else int(rehydrate(session_id))

    def close(self) -> None:
        """End the view; the store stays open. Calling it again does nothing."""
        self._closed = True

    def _begin(self, session_id: str, event: NewEvent, expected_version: int) -> AppendResult:
        """Append an event that names the owner, as the one does that begins a session.

        The store lets nobody begin, or append as owner, what somebody else owns; it only says too much about it.
        """
        if event.user_id != self.user_id:
            raise PermissionDenied(f"User {self.user_id} begins sessions of their own only; nothing was written.")
        error = appended = None
        try:
            appended = self._store.append(session_id, event, expected_version=expected_version)
            if not appended.replayed:
                return appended
        except StoreError:
            raise
        except LedgerError as raised:
            error = raised
        if not (isinstance(error, WrongExpectedVersion) and error.actual == 0):  # where it is 0, it is nobody's
            found = self._known(session_id)
            if found is not None and self._right(*found) is None:
                raise _taken(session_id)
        if appended is None:
            assert error is not None  # noqa: S101 - one of the two came
            raise error
        return appended

    def _append_shared(
        self, session_id: str, event: NewEvent, expected_version: int, found: tuple[Head, State]
    ) -> AppendResult:
        """Append to a session of somebody else exactly on the state in which the right to do so was seen."""
        if isinstance(event.changes, Iterable):  # looked at here and in the store
            event = replace(event, changes=tuple(event.changes))
        event = replace(event, actor=self.user_id)
        prepared = self._prepared(event)
        check_whole(expected_version, "expected_version", at_least=ANY_VERSION)
        for _ in range(ATTEMPTS):
            head, state = found
            try:
                self._check_write(head, state, prepared)
            except PermissionDenied:
                if not event.check_duplicate or self._store.version_of(session_id, event.event_id) is None:
                    raise
                # Recorded when the right was there; the store writes nothing, and says whether it is the same.
                return self._store.append(session_id, event, expected_version=expected_version)
            # 0 is never the version of a session: the store then replays the event, or says where the session stands.
            at = head.version if expected_version in (ANY_VERSION, head.version) else 0
            try:
                return self._store.append(session_id, event, expected_version=at)
            except WrongExpectedVersion as error:
                actual = error.actual
            if expected_version not in (ANY_VERSION, actual):
                check_expected(session_id, actual, head.user_id, prepared, expected_version)
            again = self._look(session_id)
            if again is None:  # revoked meanwhile
                self._refuse(session_id, event, expected_version)
            found = again
        raise StoreUnavailable(f"Session {session_id} is appended to by too many writers at once; nothing was written.")

    def _check_write(self, head: Head, state: State, event: PreparedEvent) -> None:
        """Raise PermissionDenied unless the user may append this to a session of somebody else."""
        if self._right(head, state) != WRITE:
            raise _read_only(self.user_id, head.session_id)
        status = state.get(("status", ""))
        deleted = status is not None and status.text == _DELETED
        for change in event.changes:
            if change.field == "grant" or (change.field == "status" and (deleted or change.text in _OWNERS)):
                raise PermissionDenied(
                    f"Only the owner of session {head.session_id} changes who may see it, archives it, deletes it and "
                    "restores it; nothing was written."
                )

    def _right(self, head: Head, state: State) -> str | None:
        """What the user may do with a session; None where it is not to be seen."""
        if head.user_id == self.user_id:
            return WRITE
        granted = state.get(("grant", self.user_id))
        value = None if granted is None else granted.value
        return value if value in (READ, WRITE) else None

    def _sees(self, session_id: str, owner: str) -> bool:
        """Whether the user may see a session whose rows name this owner."""
        if owner == self.user_id:
            return True
        found = self._known(session_id)
        return found is not None and self._right(*found) is not None

    def _look(self, session_id: str) -> tuple[Head, State] | None:
        """The latest state of a session that the user may see."""
        found = self._latest(session_id)
        if found is None or self._right(*found) is not None:
            return found
        # With a warehouse behind, an id that is nowhere is looked for there too, which may take long, or fail.
        self._store.state(_nowhere(session_id))
        return None

    def _latest(self, session_id: str, *, with_messages: bool = False) -> tuple[Head, State] | None:
        """The latest state of any session; where it cannot be read, that is said to those who may see it."""
        try:
            return self._store.state(session_id, with_messages=with_messages)
        except SessionArchived as archived:
            if self._right(archived.head, archived.state) is not None:
                raise
            return archived.head, archived.state

    def _known(self, session_id: str) -> tuple[Head, State] | None:
        """Whose any session is, and with whom it is shared, also where its state cannot be read."""
        try:
            return self._store.state(session_id)
        except SessionArchived as archived:
            return archived.head, archived.state

    def _asked(self, session_id: str) -> str:
        """The id that the store is asked about: one that nobody has, for a session that the user may not see."""
        return session_id if self._look(session_id) is not None else _nowhere(session_id)

    def _visible(self, query: SessionQuery) -> SessionQuery:
        """A query for what the user may see."""
        if query.granted_to == self.user_id:
            return query
        if query.user_id in (None, self.user_id):
            return replace(query, user_id=self.user_id)
        if query.granted_to is None:
            return replace(query, granted_to=self.user_id)
        raise PermissionDenied(f"User {self.user_id} does not see what another user shares with a third one.")

    def _refuse(self, session_id: str, event: NewEvent, expected_version: int) -> NoReturn:
        """Raise what a store raises for an append to a session that nobody has begun."""
        check_expected(session_id, 0, None, self._prepared(event), expected_version)
        raise AssertionError("unreachable")

    def _prepared(self, event: NewEvent) -> PreparedEvent:
        return prepare(event, max_bytes=self._store.capabilities.max_event_bytes)

    def everybodys(self, name: str) -> PermissionDenied:
        """The refusal of what is about everybody's sessions."""
        return PermissionDenied(
            f"{name} is about everybody's sessions, and this is the view of user {self.user_id} alone; use the ledger "
            "that for_user() was called on."
        )

    def _check_open(self) -> None:
        if self._closed:
            raise StoreRejected(f"This view of user {self.user_id} is closed; make another with for_user().")


def _nowhere(session_id: str) -> str:
    """An id that nobody has, of the same kind and day: a store takes as long to find nothing under it."""
    fresh = str(uuid.uuid4())
    return fresh if created_at_of(session_id) is None else session_id[:15] + fresh[15:]


def _read_only(user_id: str, session_id: str) -> PermissionDenied:
    return PermissionDenied(
        f"User {user_id} may read session {session_id}, not change it; nothing was written. Its owner can grant write."
    )


def _taken(session_id: str) -> SessionNotFound:
    return SessionNotFound(
        f"No session {session_id} can begin here; nothing was written. Choose another id, or leave it out and one is "
        "made.",
        session_id=session_id,
    )

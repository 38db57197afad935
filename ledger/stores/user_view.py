"""One user's view of an event store: their own sessions, and those that others share with them. No others are there.

A session is the user's who began it. Its owner shares it by a ``grant``: ``read``, or ``write`` to append as well. What
counts is the grant that stands there now, whichever state is asked for. A session that is neither owned nor shared is
to a user what one is that nobody has begun: the same answers, the same errors, and as much asked of the store behind.

What a view cannot hide: an id of a caller's own that is taken cannot be begun, so whoever guesses such an id learns
that somebody has it, not who, nor what is in it. A made id (a UUIDv7) cannot be guessed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn

from ledger.errors import (
    CapabilityMissing,
    LedgerError,
    PermissionDenied,
    SessionArchived,
    StoreError,
    StoreRejected,
    StoreUnavailable,
    WrongExpectedVersion,
)
from ledger.model.events import ANY_VERSION, AppendResult, NewEvent, PreparedEvent, RecordedEvent, prepare
from ledger.model.fold import State
from ledger.model.page import Page
from ledger.model.queries import SearchQuery, SessionQuery
from ledger.model.search import Match
from ledger.model.session import Head, Message
from ledger.model.values import check_text, check_whole
from ledger.outbox.contract import SEQ, index_of
from ledger.stores.base import MAX_BYTES, Capabilities, EventStore, archiving_store, tiered_store
from ledger.stores.checks import check_expected
from ledger.stores.rights import WRITE, check_write, id_taken, read_only, right_of, unused_id

#: How often an append to a shared session is made anew because somebody else appended between check and append.
APPEND_ATTEMPTS = 1000
_SESSION = index_of("session_id")
_OWNED = itemgetter(_SESSION, index_of("user_id"))


class UserView:
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
        """Refuse what the store behind has besides ``EventStore``: its file, its outbox, its warehouse are everybody's.

        No method of a store is offered in a view before it is written here.
        """
        if name.startswith("_") or not hasattr(self._store, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise self.everybodys(name)

    @property
    def capabilities(self) -> Capabilities:
        """What the store can do, but for what is about everybody's sessions: copying, shipping and deleting them."""
        return replace(self._store.capabilities, backup=False, outbox=False, purge=False, warehouse=False)

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
            if found is None or right_of(self.user_id, *found) is not None:
                return found
            asked = unused_id(session_id)
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
                    raise id_taken(session_id)
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
        """Raise StoreRejected if a warehouse refused rows of a session that the user may see.

        Raises:
            CapabilityMissing: The store has no ``archive``.
        """
        self._check_open()
        archiving = archiving_store(self._store)
        if archiving is None:
            raise _missing("archive")
        archiving.check_shippable(self._asked(session_id))

    def drop_archived(self, session_ids: Collection[str] | None = None) -> int:
        """Drop the rows of archived sessions of the user's own that have arrived in the warehouse.

        Raises:
            PermissionDenied: It does not say of which.
            CapabilityMissing: The store is not ``tiered``.
        """
        self._check_open()
        if session_ids is None:
            raise self.everybodys("drop_archived")
        tiered = tiered_store(self._store)
        if tiered is None:
            raise _missing("tiered")
        looked = {session_id: self._look(session_id) for session_id in session_ids}
        own = [key for key, found in looked.items() if found is not None and found[0].user_id == self.user_id]
        return tiered.drop_archived(own) if own else 0

    def rehydrate(self, session_id: str) -> int:
        """Have a session that the user may write to brought back from the warehouse; see ``TieredStore.rehydrate``.

        Raises:
            PermissionDenied: The user may only read it.
            CapabilityMissing: The store is not ``tiered``.
        """
        tiered = tiered_store(self._store)
        if tiered is None:
            raise _missing("tiered")
        return tiered.rehydrate(session_id) if self.check_writable(session_id) else 0

    def check_writable(self, session_id: str) -> bool:
        """Return whether the user may write to a session; False if there is none that the user sees.

        Raises:
            PermissionDenied: The user may only read it.
        """
        self._check_open()
        found = self._look(session_id)
        if found is None:
            return False
        if right_of(self.user_id, *found) != WRITE:
            raise read_only(self.user_id, session_id)
        return True

    def purge_warehouse(self) -> int:
        """Not offered: it is about everybody's sessions.

        Raises:
            PermissionDenied: Always.
            CapabilityMissing: The store is not ``tiered``.
        """
        if tiered_store(self._store) is None:
            raise _missing("tiered")
        raise self.everybodys("purge_warehouse")

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
            if found is not None and right_of(self.user_id, *found) is None:
                raise id_taken(session_id)
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
        for _ in range(APPEND_ATTEMPTS):
            head, state = found
            try:
                check_write(self.user_id, head, state, prepared)
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

    def _sees(self, session_id: str, owner: str) -> bool:
        """Whether the user may see a session whose rows name this owner."""
        if owner == self.user_id:
            return True
        found = self._known(session_id)
        return found is not None and right_of(self.user_id, *found) is not None

    def _look(self, session_id: str) -> tuple[Head, State] | None:
        """The latest state of a session that the user may see."""
        found = self._latest(session_id)
        if found is None or right_of(self.user_id, *found) is not None:
            return found
        # With a warehouse behind, an id that is nowhere is looked for there too, which may take long, or fail.
        self._store.state(unused_id(session_id))
        return None

    def _latest(self, session_id: str, *, with_messages: bool = False) -> tuple[Head, State] | None:
        """The latest state of any session; where it cannot be read, that is said to those who may see it."""
        try:
            return self._store.state(session_id, with_messages=with_messages)
        except SessionArchived as archived:
            if right_of(self.user_id, archived.head, archived.state) is not None:
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
        return session_id if self._look(session_id) is not None else unused_id(session_id)

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


def _missing(capability: str) -> CapabilityMissing:
    return CapabilityMissing(f"The store behind this view has no {capability}.")

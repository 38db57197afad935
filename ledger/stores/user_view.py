"""One user's view of an event store: the user's own sessions, and those that others share with the user.

A session belongs to the user who created it. Its owner shares it by a ``grant``: ``read``, or ``write`` to append as
well. A user's latest grant decides, even if an earlier state of the session is read.

For a session that the user may not see, a view gives the same answers, raises the same errors and sends the store the
same queries as for one that does not exist.

A view cannot hide that a chosen id is in use, since creating a session under that id fails. The error reveals neither
the session's owner nor its content. A generated id (a UUIDv7) cannot be guessed.
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
from ledger.outbox.rows import SEQ, index_of
from ledger.stores.base import MAX_BYTES, Capabilities, EventStore, archiving_store, tiered_store
from ledger.stores.checks import check_expected
from ledger.stores.rights import WRITE, check_write, id_taken, read_only, right_of, unused_id
from ledger.stores.visibility import Visibility

#: Maximum number of attempts of one append to a shared session. An attempt fails if another writer appends between the
#: check of the user's right and the append.
APPEND_ATTEMPTS = 1000
_SESSION = index_of("session_id")
_OWNED = itemgetter(_SESSION, index_of("user_id"))


class UserView:
    """A view of any event store for one user.

    A call about an existing session first reads the session's latest state, to check the user's right. The embedded
    store usually has that state in memory; BigQuery needs one more query. Only the owner of a session may change its
    grants, archive it, delete it, or change its status once it is deleted. An event that the user appends to another
    user's session has the user as its actor. If a grant is revoked between the check and the append, the append is
    refused; only a lenient session in BigQuery may still take one event.

    Args:
        store: The store of all sessions; closing the view leaves it open.
        user_id: The user.

    Raises:
        InvalidInput: ``user_id`` is not a valid id.
    """

    def __init__(self, store: EventStore, user_id: str) -> None:
        self._store = store
        self.user_id = check_text(user_id, "user_id")
        self._visibility = Visibility(store, user_id)
        self._closed = False

    def __getattr__(self, name: str) -> Any:
        """Refuse every attribute of the store that this class does not define, such as ``outbox`` or ``warehouse``.

        Such attributes give access to all users' sessions.

        Raises:
            PermissionDenied: The store has the attribute.
            AttributeError: The store does not have it, or its name begins with an underscore.
        """
        if name.startswith("_") or not hasattr(self._store, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise self.everybodys(name)

    @property
    def capabilities(self) -> Capabilities:
        """The store's capabilities, without those that concern all users' sessions."""
        return replace(
            self._store.capabilities,
            backup=False,
            outbox=False,
            purge=False,
            verify=False,
            warehouse=False,
            seals=False,
        )

    @property
    def store_id(self) -> str:
        """The store's id."""
        return self._store.store_id

    def append(self, session_id: str, event: NewEvent, *, expected_version: int = ANY_VERSION) -> AppendResult:
        """Record one event; see ``EventStore.append``.

        Raises:
            SessionNotFound: The event names no owner, and the user sees no session with this id. It is also raised if
                the event names the owner, and a session that the user may not see has this id.
            PermissionDenied: The user may only read the session, or only its owner may append this event, or the event
                names another user as the owner.
        """
        self._check_open()
        if event.user_id is not None:
            return self._create(session_id, event, expected_version)
        visible = self._visibility.visible(session_id)
        if visible is None:
            self._raise_missing(session_id, event, expected_version)
        if visible[0].user_id == self.user_id:  # an owner never changes, so no check can be outdated
            return self._store.append(session_id, event, expected_version=expected_version)
        return self._append_shared(session_id, event, expected_version, visible)

    def state(
        self, session_id: str, *, version: int | None = None, at: datetime | None = None, with_messages: bool = False
    ) -> tuple[Head, State] | None:
        """Return the head and state of a session; see ``EventStore.state``."""
        self._check_open()
        if version is None and at is None:
            latest = self._visibility.latest(session_id, with_messages=with_messages)
            if latest is None or right_of(self.user_id, *latest) is not None:
                return latest
            query_id = unused_id(session_id)
        else:
            query_id = self._visibility.id_or_unused(session_id)
        return self._store.state(query_id, version=version, at=at, with_messages=with_messages)

    def messages(self, session_id: str, *, after: str | None, limit: int, newest: bool = False) -> Page[Message]:
        """Return a page of messages; see ``EventStore.messages``."""
        self._check_open()
        return self._store.messages(self._visibility.id_or_unused(session_id), after=after, limit=limit, newest=newest)

    def events(self, session_id: str, *, after: int = 0, limit: int = 1000, upcast: bool = True) -> Page[RecordedEvent]:
        """Return a page of events; see ``EventStore.events``."""
        self._check_open()
        return self._store.events(self._visibility.id_or_unused(session_id), after=after, limit=limit, upcast=upcast)

    def version_of(self, session_id: str, event_id: str) -> int | None:
        """Return the version of a recorded event; see ``EventStore.version_of``."""
        self._check_open()
        return self._store.version_of(self._visibility.id_or_unused(session_id), event_id)

    def sessions(self, query: SessionQuery, *, after: str | None = None, limit: int = 50) -> Page[tuple[Head, State]]:
        """Return a page of the user's own or shared sessions, newest first; see ``EventStore.sessions``.

        Args:
            query: By default it selects this user's own sessions. If its ``granted_to`` is this user, it selects the
                sessions that others share with this user. If its ``user_id`` is another user, it selects the sessions
                that the other user owns and shares with this user. If its ``granted_to`` is another user, it selects
                the sessions that this user owns and shares with the other user.
            after, limit: The arguments of ``EventStore.sessions`` with these names.

        Raises:
            PermissionDenied: The query is about sessions shared between two other users.
        """
        self._check_open()
        return self._store.sessions(self._visibility.restrict(query), after=after, limit=limit)

    def search(self, query: SearchQuery, *, after: str | None = None, limit: int = 50) -> Page[Match]:
        """Search the sessions that the user may see; see ``EventStore.search``.

        Args:
            query: Its ``visible_to`` is replaced by this user.
            after, limit: The arguments of ``EventStore.search`` with these names.
        """
        self._check_open()
        return self._store.search(replace(query, visible_to=self.user_id), after=after, limit=limit)

    def ingest(self, events: Iterable[RecordedEvent]) -> int:
        """Record whole events of the user's own sessions; see ``EventStore.ingest``.

        Raises:
            PermissionDenied: An event belongs to another user's session; nothing of the call was written.
            SessionNotFound: Another user's session has one of the ids; nothing of the call was written.
        """
        self._check_open()
        batch = list(events)
        if any(isinstance(event, RecordedEvent) and event.user_id != self.user_id for event in batch):
            raise PermissionDenied(f"User {self.user_id} may only ingest their own sessions; nothing was written.")
        error, new = None, 0
        try:
            new = self._store.ingest(batch)
        except StoreError:
            raise
        except LedgerError as raised:
            error = raised
        distinct = {(event.session_id, event.event_id): event for event in batch if isinstance(event, RecordedEvent)}
        if new < len(distinct):  # refused or recorded before, maybe in another user's session
            for session_id in dict.fromkeys(session_id for session_id, _ in distinct):
                session = self._visibility.head_and_state(session_id)
                if session is not None and session[0].user_id != self.user_id:
                    raise id_taken(session_id)
        if error is not None:
            raise error
        return new

    def rows_after(self, seq: int, limit: int, *, max_bytes: int = MAX_BYTES) -> Sequence[tuple[Any, ...]]:
        """Return raw rows of the sessions that the user may see now; see ``EventStore.rows_after``.

        ``seq`` counts the rows of all users. So the gaps between the returned ``seq`` reveal how many rows other users
        write, and nothing else.
        """
        self._check_open()
        while rows := self._store.rows_after(seq, limit, max_bytes=max_bytes):
            may_see = {
                session_id: self._visibility.may_see(session_id, owner) for session_id, owner in set(map(_OWNED, rows))
            }
            if visible := [row for row in rows if may_see[row[_SESSION]]]:
                return visible
            seq = rows[-1][SEQ]
        return []

    def last_seq(self) -> int:
        """Return the ``seq`` of the store's last row, whichever user owns it; see ``EventStore.last_seq``."""
        self._check_open()
        return self._store.last_seq()

    def backup(self, path: Path) -> None:
        """Refuse: a copy of the store holds all users' sessions.

        Raises:
            PermissionDenied: Always.
        """
        raise self.everybodys("backup")

    def check_shippable(self, session_id: str) -> None:
        """Raise StoreRejected if a warehouse refused rows of a session.

        A session that the user may not see counts as one that does not exist.

        Raises:
            CapabilityMissing: The store has no ``archive``.
        """
        self._check_open()
        archiving = archiving_store(self._store)
        if archiving is None:
            raise _missing("archive")
        archiving.check_shippable(self._visibility.id_or_unused(session_id))

    def drop_archived(self, session_ids: Collection[str] | None = None) -> int:
        """Drop the rows of archived sessions; see ``TieredStore.drop_archived``.

        Of the given sessions, those that the user does not own are skipped.

        Raises:
            PermissionDenied: ``session_ids`` is None, which means all users' sessions.
            CapabilityMissing: The store is not ``tiered``.
        """
        self._check_open()
        if session_ids is None:
            raise self.everybodys("drop_archived")
        tiered = tiered_store(self._store)
        if tiered is None:
            raise _missing("tiered")
        visible = {session_id: self._visibility.visible(session_id) for session_id in session_ids}
        own = [key for key, session in visible.items() if session is not None and session[0].user_id == self.user_id]
        return tiered.drop_archived(own) if own else 0

    def rehydrate(self, session_id: str) -> int:
        """Restore the rows of a session that the user may write to; see ``TieredStore.rehydrate``.

        Raises:
            PermissionDenied: The user may only read the session.
            CapabilityMissing: The store is not ``tiered``.
        """
        tiered = tiered_store(self._store)
        if tiered is None:
            raise _missing("tiered")
        return tiered.rehydrate(session_id) if self.check_writable(session_id) else 0

    def check_writable(self, session_id: str) -> bool:
        """Return True if the user may write to a session; False if the user sees no such session.

        Raises:
            PermissionDenied: The user may only read the session.
        """
        self._check_open()
        visible = self._visibility.visible(session_id)
        if visible is None:
            return False
        if right_of(self.user_id, *visible) != WRITE:
            raise read_only(self.user_id, session_id)
        return True

    def purge_warehouse(self) -> int:
        """Refuse: the call concerns all users' sessions.

        Raises:
            PermissionDenied: The store is ``tiered``.
            CapabilityMissing: The store is not ``tiered``.
        """
        if tiered_store(self._store) is None:
            raise _missing("tiered")
        raise self.everybodys("purge_warehouse")

    def close(self) -> None:
        """Close the view; the store stays open. A second call does nothing."""
        self._closed = True

    def _create(self, session_id: str, event: NewEvent, expected_version: int) -> AppendResult:
        """Append an event that names the owner, as the first event of a session does.

        If another user's session has the id, the store refuses the event with an error that reveals too much about
        that session. If the user may not see that session, the error of ``id_taken`` is raised instead.
        """
        if event.user_id != self.user_id:
            raise PermissionDenied(f"User {self.user_id} may only create their own sessions; nothing was written.")
        error = appended = None
        try:
            appended = self._store.append(session_id, event, expected_version=expected_version)
            if not appended.replayed:
                return appended
        except StoreError:
            raise
        except LedgerError as raised:
            error = raised
        if not (isinstance(error, WrongExpectedVersion) and error.actual == 0):  # version 0: no session has the id
            session = self._visibility.head_and_state(session_id)
            if session is not None and right_of(self.user_id, *session) is None:
                raise id_taken(session_id)
        if appended is None:
            assert error is not None  # noqa: S101 - append returned or raised
            raise error
        return appended

    def _append_shared(
        self, session_id: str, event: NewEvent, expected_version: int, visible: tuple[Head, State]
    ) -> AppendResult:
        """Append to another user's session, at exactly the version at which the user's right was checked."""
        if isinstance(event.changes, Iterable):  # they are iterated twice: here and in the store
            event = replace(event, changes=tuple(event.changes))
        event = replace(event, actor=self.user_id)
        prepared = self._prepared(event)
        check_whole(expected_version, "expected_version", at_least=ANY_VERSION)
        for _ in range(APPEND_ATTEMPTS):
            head, state = visible
            try:
                check_write(self.user_id, head, state, prepared)
            except PermissionDenied:
                if not event.check_duplicate or self._store.version_of(session_id, event.event_id) is None:
                    raise
                # Recorded while the right was granted; the store writes nothing and compares the content.
                return self._store.append(session_id, event, expected_version=expected_version)
            # No session is at version 0: the store replays a recorded event, or raises with the actual version.
            at = head.version if expected_version in (ANY_VERSION, head.version) else 0
            try:
                return self._store.append(session_id, event, expected_version=at)
            except WrongExpectedVersion as error:
                actual = error.actual
            if expected_version not in (ANY_VERSION, actual):
                check_expected(session_id, actual, head.user_id, prepared, expected_version)
            latest = self._visibility.visible(session_id)
            if latest is None:  # revoked meanwhile
                self._raise_missing(session_id, event, expected_version)
            visible = latest
        raise StoreUnavailable(
            f"Session {session_id} has too many concurrent writers; nothing was written. Append again later."
        )

    def _raise_missing(self, session_id: str, event: NewEvent, expected_version: int) -> NoReturn:
        """Raise the error that a store raises for an append to a session that does not exist."""
        check_expected(session_id, 0, None, self._prepared(event), expected_version)
        raise AssertionError("unreachable")

    def _prepared(self, event: NewEvent) -> PreparedEvent:
        return prepare(event, max_bytes=self._store.capabilities.max_event_bytes)

    def everybodys(self, name: str) -> PermissionDenied:
        """Return the error for a call that concerns all users' sessions."""
        return PermissionDenied(
            f"{name} concerns the sessions of all users, and this is the view of user {self.user_id}; use the ledger "
            "that for_user() was called on."
        )

    def _check_open(self) -> None:
        if self._closed:
            raise StoreRejected(f"This view of user {self.user_id} is closed; create another with for_user().")


def _missing(capability: str) -> CapabilityMissing:
    return CapabilityMissing(f"The store of this view does not have the capability {capability!r}.")

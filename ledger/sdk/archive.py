"""Archiving, hydrating and purging sessions, and the periodic maintenance of a ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Unpack

from ledger.errors import InvalidInput, SessionEnded, SessionNotFound, StoreUnavailable
from ledger.model.events import AppendResult, Change, Envelope
from ledger.model.fold import State
from ledger.model.queries import SessionQuery
from ledger.model.values import check_session_id, check_text, full_name
from ledger.sdk.lifecycle import Lifecycle
from ledger.stores.archived import status_change
from ledger.stores.base import PurgingStore, Waiting, archiving_store, purging_store, tiered_store
from ledger.stores.user_view import UserView

#: Default statuses of the sessions that ``delete_old_sessions`` purges.
ENDED = ("expired", "archived", "deleted")


@dataclass(frozen=True, slots=True)
class Maintained:
    """The result of ``maintain``. Each attribute but ``sessions`` is a number of sessions.

    Attributes:
        expired: Sessions recorded as expired.
        dropped: Archived sessions whose rows were dropped from the store.
        deleted: Sessions purged.
        waiting: Purged sessions whose data is still in a warehouse, because that warehouse was not attached.
        held_up: Sessions that ``retention`` should have purged, and that have rows which wait for a warehouse or which
            a warehouse refused.
        sessions: The sessions that wait for a warehouse: those above, and archived ones whose rows were not dropped.
        deleted_there: Sessions deleted in the attached warehouse. They were purged now or by an earlier call.
    """

    expired: int
    dropped: int
    deleted: int
    waiting: int
    held_up: int = 0
    sessions: tuple[Waiting, ...] = ()
    deleted_there: int = 0


@dataclass(frozen=True, slots=True)
class Purged:
    """The result of ``purge_sessions``.

    Attributes:
        purged: Ids of the sessions that were purged in the store.
        held_up: Ids of the sessions that were not purged: rows of them wait for a warehouse, or another program
            appended to them meanwhile.
        sessions: Those of both that wait for a warehouse: to ship their rows to it, or to be deleted there.
    """

    purged: tuple[str, ...]
    held_up: tuple[str, ...]
    sessions: tuple[Waiting, ...]


class Archive(Lifecycle):
    """Mixin class: archiving, hydrating and purging. Archived sessions are read from the warehouse."""

    def archive_session(self, session_id: str, **envelope: Unpack[Envelope]) -> AppendResult | None:
        """Archive a session: close it, and drop its rows from the store once all of them are in the warehouse.

        If the warehouse has all rows already, the store drops them in this call. Otherwise ``drop_archived``,
        ``maintain`` or a later call of this method drops them. Lists still show the session with its status, title,
        question, session_type, tags, attributes and grants. An append to the session hydrates it first.

        The warehouse is the one that the ledger was opened with. A ledger in a file that was opened without one uses
        the DuckDB file beside it, if it ships to that file; otherwise only the status changes.

        Returns:
            The result of the append; None if the session is archived already.

        Raises:
            SessionNotFound: The session does not exist.
            SessionEnded: The session is deleted; restore it first.
            StoreRejected: Some of the session's events are dead-lettered; redrive them first.
            PermissionDenied: This is the view of a user who does not own the session.
        """
        result = self._earlier_result(session_id, "session.archived", envelope)
        if result is None and self._require(session_id).recorded_status != "archived":
            archiving = archiving_store(self.store)
            if archiving is not None:
                archiving.check_shippable(session_id)
            changes = _archiving_changes(session_id)
            result = self._derive(session_id, "session.archived", changes, envelope, require_open=False)
        with suppress(StoreUnavailable):  # the status is recorded; a later call drops the rows
            self._drop([session_id])
        return result

    def hydrate_session(self, session_id: str, **envelope: Unpack[Envelope]) -> AppendResult | None:
        """Bring an archived session back from the warehouse and reopen it with the status it had before.

        The events are verified against the hash chain and the tombstone, and are not shipped again. ``expires_at``
        does not change: if it has passed, call ``restore_session`` next.

        A session of another ledger that ships to the same warehouse can be hydrated too, and belongs to this ledger
        from then on. First archive the session in the other ledger, and do not append to it there any more.

        Returns:
            The result of the append; None if the session is in the store and not archived.

        Raises:
            SessionNotFound: The session is neither in the store nor in the warehouse.
            StoreUnavailable: The warehouse cannot be reached; nothing was written.
            StoreRejected, CorruptEvent: The warehouse does not hold the events that were archived; nothing was written.
            PermissionDenied: This is the view of a user who may not write to the session.
        """
        earlier = self._earlier_result(session_id, "session.hydrated", envelope)
        if earlier is not None:
            return earlier
        tiered, hydrated_events = tiered_store(self.store), 0
        if tiered is not None:
            hydrated_events = tiered.rehydrate(session_id)
        elif isinstance(self.store, UserView):
            self.store.check_writable(session_id)
        if not hydrated_events and self._require(session_id).recorded_status != "archived":
            return None
        return self._derive(
            session_id,
            "session.hydrated",
            lambda state: status_change(self.store, session_id, state),
            envelope,
            require_open=False,
        )

    def drop_archived(self) -> int:
        """Drop the rows of archived sessions from the store after checking that the warehouse has them.

        Returns:
            The number of sessions whose rows were dropped; 0 if the ledger ships to no warehouse.

        Raises:
            StoreUnavailable: The warehouse cannot be reached; the rows of some sessions may have been dropped.
            PermissionDenied: The ledger was returned by ``for_user``.
        """
        if isinstance(self.store, UserView):
            raise self.store.everybodys("drop_archived")
        return self._drop(None)

    def delete_old_sessions(self, older_than: timedelta, statuses: Sequence[str] = ENDED) -> int:
        """Purge sessions by status and age: delete their data in the file and in the warehouse.

        A session is left for a later call if some of its rows are not shipped yet, or dead-lettered, unless the
        warehouse has dropped the session's day or the dead letters were dismissed. The call may be interrupted at any
        point and repeated. The id of a purged session cannot be reused until the session is deleted in the warehouse
        too.

        Args:
            older_than: Minimum age of a session's last event.
            statuses: Recorded statuses of the sessions to purge: any of ``expired``, ``archived``, ``deleted``,
                ``completed`` and ``failed``.

        Returns:
            The number of sessions purged.

        Raises:
            InvalidInput: ``older_than`` is not a timedelta of 0 or more, or ``statuses`` contains another status.
            StoreUnavailable: The warehouse cannot be reached. The purged sessions are deleted in the file; a later
                call deletes them in the warehouse.
            CapabilityMissing: The ledger is in BigQuery; set a partition expiration instead.
            PermissionDenied: The ledger was returned by ``for_user``.
        """
        return self._delete_old(older_than, statuses)[0]

    def _delete_old(self, older_than: timedelta, statuses: Sequence[str] = ENDED) -> tuple[int, int]:
        """Purge sessions as ``delete_old_sessions``. Return their number and the number deleted in the warehouse."""
        _check_age(older_than, "older_than")
        chosen = () if isinstance(statuses, str) or not isinstance(statuses, Iterable) else tuple(statuses)
        if not chosen:
            raise InvalidInput("statuses must be a list of statuses, such as expired, archived, deleted.")
        for status in chosen:
            if check_text(status, "status") not in (*ENDED, "completed", "failed"):
                raise InvalidInput(f"Sessions that are {status} have not ended; nothing was deleted.")
        purging = self._purging("delete_old_sessions")
        try:
            before = self._clock() - older_than
        except OverflowError:  # no session is that old, but earlier deletions may be pending in the warehouse
            before = datetime.min.replace(tzinfo=UTC)
        deleted = 0
        for status in dict.fromkeys(chosen):
            for head, _ in list(self._all(SessionQuery(status=status, updated_before=before))):
                deleted += purging.purge(head.session_id, head.version)
        purging.forget_purged()  # even if nothing was purged now: an earlier call may have been interrupted
        return deleted, self._purge_warehouse()

    def purge_sessions(self, session_ids: Iterable[str]) -> Purged:
        """Purge single sessions, whatever their age: delete their data in the file and in the warehouse, for good.

        A session must be recorded as deleted, expired or archived. It is held up if some of its rows are not shipped
        yet, as for ``delete_old_sessions``: ship them (``ledger.warehouse.sync()``), and call again. The call may be
        interrupted at any point and repeated. Sessions that an earlier call purged are still deleted in the warehouse.

        Args:
            session_ids: The sessions.

        Returns:
            The sessions that were purged, those that were held up, and what waits for a warehouse.

        Raises:
            SessionNotFound: The store does not have one of the sessions, and no warehouse must still delete it; nothing
                was purged.
            InvalidInput: One of the sessions has not ended, or ``session_ids`` is not a list of ids; nothing was
                purged.
            StoreUnavailable: The warehouse cannot be reached. The purged sessions are deleted in the file; the next
                call, or ``maintain``, deletes them in the warehouse.
            CapabilityMissing: The ledger is in BigQuery; set a partition expiration instead.
            PermissionDenied: The ledger was returned by ``for_user``.
        """
        if isinstance(session_ids, str) or not isinstance(session_ids, Iterable):
            raise InvalidInput(f"session_ids must be a list of ids, not {full_name(session_ids)}.")
        purging = self._purging("purge_sessions")
        being_deleted = {each.key.session_id for each in purging.pending_deletions()}  # by a call that was interrupted
        ids = dict.fromkeys(map(check_session_id, session_ids))
        versions = {each: _ended_version(purging, each) for each in ids if each not in being_deleted}
        purged = {each: None for each, version in versions.items() if purging.purge(each, version)}
        purging.forget_purged()
        self._purge_warehouse()
        return Purged(
            tuple(purged),
            held_up=tuple(each for each in versions if each not in purged),
            sessions=tuple(each for each in purging.waiting() if each.session_id in ids),
        )

    def maintain(self, *, max_age: timedelta | None = None, retention: timedelta | None = None) -> Maintained:
        """Run the periodic maintenance: record expired sessions, drop archived rows, purge old sessions.

        Sessions that were purged while the warehouse was not attached are now deleted in the warehouse too. If no
        expiration can be recorded, because the file is at its ``max_bytes`` or the disk is full, the other steps come
        first, and make room.

        Args:
            max_age: As for ``expire_old_sessions``.
            retention: Purge expired, archived and deleted sessions whose last event is older than this; None purges
                none.

        Returns:
            The number of sessions affected by each step.

        Raises:
            StoreUnavailable, StoreRejected: A step failed; the next call completes the rest.
            CapabilityMissing: ``retention`` is given, and the ledger is in BigQuery; nothing was written.
            PermissionDenied: This is the view of one user; nothing was written.
        """
        if isinstance(self.store, UserView):
            raise self.store.everybodys("maintain")
        if retention is not None:
            _check_age(retention, "retention")
            self._purging("maintain")
        expired, is_refused = 0, False
        try:
            for _ in self._expire_old(max_age):
                expired += 1
        except StoreUnavailable:  # there is no room for another event, before the steps below have made some
            is_refused = True
        dropped = self.drop_archived()
        deleted, there = (0, self._purge_warehouse()) if retention is None else self._delete_old(retention)
        if is_refused:
            expired += self.expire_old_sessions(max_age)
        purging = purging_store(self.store)
        waiting = [] if purging is None else purging.waiting()
        due = {each.session_id for each in waiting if _is_due(each, self._clock(), retention)}
        return Maintained(
            expired,
            dropped,
            deleted,
            waiting=sum(each.status == "purged" for each in waiting),
            held_up=len(due),
            sessions=tuple(each for each in waiting if each.status in ("purged", "archived") or each.session_id in due),
            deleted_there=there,
        )

    def _drop(self, session_ids: Sequence[str] | None) -> int:
        """Drop the rows of archived sessions from the store, and return the number of sessions.

        ``session_ids`` is as for ``TieredStore.drop_archived``. Without a warehouse, no rows are dropped.
        """
        tiered = tiered_store(self.store)
        return 0 if tiered is None else tiered.drop_archived(session_ids)

    def _purge_warehouse(self) -> int:
        """Delete the data of purged sessions in the warehouse, if one is attached. Return the number of sessions."""
        tiered = tiered_store(self.store)
        return 0 if tiered is None else tiered.purge_warehouse()

    def _purging(self, call: str) -> PurgingStore:
        """Return the store as a ``PurgingStore``; see ``_for_all_users``."""
        return self._for_all_users(
            call,
            purging_store,
            "A ledger in BigQuery cannot purge sessions; set a partition expiration on its tables: "
            "create_sessions_table.py --help.",
        )


def _archiving_changes(session_id: str) -> Callable[[State], list[Change]]:
    """Return a function that takes the state of a session and returns the changes that archive the session.

    The returned function raises SessionEnded if the session is deleted.
    """

    def changes(state: State) -> list[Change]:
        status = state.get(("status", ""))
        if status is not None and status.value == "deleted":
            raise SessionEnded(
                f"Session {session_id} is deleted and cannot be archived; nothing was written. Reopen it with "
                "restore_session() first.",
                session_id=session_id,
                status="deleted",
            )
        return [Change("status", "", "archived")]

    return changes


def _ended_version(store: PurgingStore, session_id: str) -> int:
    """Return the version of a session that may be purged.

    Raises:
        SessionNotFound: The store does not have the session.
        InvalidInput: The session has not ended, or the id is no id.
    """
    found = store.recorded(session_id)
    if found is None:
        raise SessionNotFound(f"There is no session {session_id} to purge; nothing was purged.", session_id=session_id)
    version, status = found
    if status not in ENDED:
        raise InvalidInput(
            f"Session {session_id} is recorded as {status or 'active'}, and only deleted, expired and archived "
            "sessions are purged; nothing was purged. Delete it first with delete_session()."
        )
    return version


def _is_due(session: Waiting, now: datetime, retention: timedelta | None) -> bool:
    """Return True if a session that waits for a warehouse is older than ``retention``, and should have been purged."""
    return retention is not None and session.updated_at is not None and now - session.updated_at > retention


def _check_age(age: object, name: str) -> None:
    if not isinstance(age, timedelta) or age < timedelta(0):
        raise InvalidInput(f"{name} must be a timedelta of 0 or more, not {age!r}.")

"""Sessions that are kept in the warehouse alone, come back from there, or are deleted for good."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Unpack

from ledger.errors import CapabilityMissing, InvalidInput, SessionEnded, StoreUnavailable
from ledger.model.events import AppendResult, Change, Envelope
from ledger.model.queries import SessionQuery
from ledger.model.values import check_text
from ledger.sdk.lifecycle import Lifecycle
from ledger.stores.archived import status_change
from ledger.stores.base import PurgingStore, archiving_store, purging_store, tiered_store
from ledger.stores.user_view import UserView

#: The statuses in which a session may be deleted for good.
ENDED = ("expired", "archived", "deleted")


@dataclass(frozen=True, slots=True)
class Maintained:
    """What ``maintain`` did.

    Attributes:
        expired: Sessions whose end was recorded.
        dropped: SessionArchived sessions whose rows were dropped, being in the warehouse.
        deleted: Sessions that were deleted for good.
        waiting: Sessions that are still to be deleted in a warehouse: one that is not attached.
    """

    expired: int
    dropped: int
    deleted: int
    waiting: int


class Archive(Lifecycle):
    """Archiving, hydrating and deleting for good. What is archived is still read, by way of the warehouse."""

    def archive_session(self, session_id: str, **envelope: Unpack[Envelope]) -> AppendResult | None:
        """Close a session, and keep its rows in the warehouse alone as soon as they have all arrived there.

        Rows are dropped here at once where nothing is left to ship, as when it is called again; else by
        ``drop_archived`` or ``maintain``. Lists go on showing the session, with its status, title, question,
        session_type, tags, attributes and grants. Whoever appends to it opens it again, as ``hydrate_session`` does.
        Without a warehouse only the status changes.

        Returns:
            None where it is archived already.

        Raises:
            SessionNotFound: There is no such session.
            SessionEnded: It is deleted; restore it first.
            StoreRejected: The warehouse refused some of its events; mend that and send them again.
            PermissionDenied: This is the view of a user who does not own it.
        """
        appended = self._resent(session_id, "session.archived", envelope)
        if appended is None and self._require(session_id).recorded_status != "archived":
            archiving = archiving_store(self.store)
            if archiving is not None:
                archiving.check_shippable(session_id)
            appended = self._derive(session_id, "session.archived", _archived(session_id), envelope, require_open=False)
        with suppress(StoreUnavailable):  # it is recorded; its rows are dropped another time
            self._drop([session_id])
        return appended

    def hydrate_session(self, session_id: str, **envelope: Unpack[Envelope]) -> AppendResult | None:
        """Open an archived session again, with the status it had before; its events come back from the warehouse.

        They are checked against the hash chain and what this ledger kept, and none is shipped twice. The session is
        this ledger's from then on. So is one that only another ledger had, which then must not go on with it: archive
        it there first. Its ``expires_at`` is what it was: where that is over, ``restore_session`` comes next.

        Returns:
            None where it is here, and not archived.

        Raises:
            SessionNotFound: It is neither here nor in the warehouse.
            StoreUnavailable: The warehouse cannot be reached; nothing was written.
            StoreRejected, CorruptEvent: The warehouse has not what was archived; nothing was written.
            PermissionDenied: This is the view of a user who may not write to it.
        """
        resent = self._resent(session_id, "session.hydrated", envelope)
        if resent is not None:
            return resent
        tiered, brought = tiered_store(self.store), 0
        if tiered is not None:
            brought = tiered.rehydrate(session_id)
        elif isinstance(self.store, UserView):
            self.store.check_writable(session_id)
        if not brought and self._require(session_id).recorded_status != "archived":
            return None
        return self._derive(
            session_id,
            "session.hydrated",
            lambda state: status_change(self.store, session_id, state),
            envelope,
            require_open=False,
        )

    def drop_archived(self) -> int:
        """Drop the rows of archived sessions that have arrived in the warehouse, which is asked for each of them.

        Returns:
            How many sessions were dropped; 0 without a warehouse.

        Raises:
            StoreUnavailable: The warehouse cannot be asked; some may be dropped.
            PermissionDenied: This is the view of one user.
        """
        if isinstance(self.store, UserView):
            raise self.store.everybodys("drop_archived")
        return self._drop(None)

    def delete_old_sessions(self, older_than: timedelta, statuses: Sequence[str] = ENDED) -> int:
        """Delete for good, from the file and from the warehouse, every session that ended longer ago than this.

        A session ended with its last event. One with rows that are still to be shipped, or were refused, stays for
        another time. It may be interrupted anywhere and called again; until the warehouse is done with it, a session's
        id cannot be used again.

        Args:
            older_than: Age of the last event; nothing is so old that it ended before the year 1.
            statuses: Those that count as ended, as recorded: any of expired, archived, deleted, completed, failed.

        Returns:
            How many sessions were deleted.

        Raises:
            StoreUnavailable: The warehouse cannot be reached: what is deleted here is deleted there the next time.
            CapabilityMissing: The ledger is in BigQuery, where partitions expire instead.
            PermissionDenied: This is the view of one user.
        """
        _check_age(older_than, "older_than")
        words = () if isinstance(statuses, str) or not isinstance(statuses, Iterable) else tuple(statuses)
        if not words:
            raise InvalidInput("statuses must be a list of statuses, such as expired, archived, deleted.")
        for word in words:
            if check_text(word, "status") not in (*ENDED, "completed", "failed"):
                raise InvalidInput(f"Sessions that are {word} have not ended; nothing was deleted.")
        purging = self._purging("delete_old_sessions")
        try:
            before = self._clock() - older_than
        except OverflowError:  # nothing is that old; what a warehouse has still to delete is deleted all the same
            before = datetime.min.replace(tzinfo=UTC)
        deleted = 0
        for word in dict.fromkeys(words):
            for head, _ in list(self._all(SessionQuery(status=word, updated_before=before))):
                deleted += purging.purge(head.session_id, head.version)
        self._purge_warehouse()
        return deleted

    def maintain(self, *, max_age: timedelta | None = None, retention: timedelta | None = None) -> Maintained:
        """What is to be done from time to time: record what has expired, drop what is archived, delete what is old.

        What was deleted for good while this warehouse was not attached is deleted there.

        Args:
            max_age: Also ends sessions to which nothing has happened for longer than this.
            retention: Deletes sessions for good that ended longer ago than this; None deletes nothing more.

        Raises:
            StoreUnavailable, StoreRejected: The rest is done the next time.
            CapabilityMissing: There is a ``retention``, and the ledger is in BigQuery; nothing was done.
            PermissionDenied: This is the view of one user; nothing was done.
        """
        if isinstance(self.store, UserView):
            raise self.store.everybodys("maintain")
        if retention is not None:
            _check_age(retention, "retention")
            self._purging("maintain")
        expired = self.expire_old_sessions(max_age)
        dropped = self.drop_archived()
        deleted = 0 if retention is None else self.delete_old_sessions(retention)
        if retention is None:  # what was deleted where the warehouse was not attached
            self._purge_warehouse()
        purging = purging_store(self.store)
        return Maintained(expired, dropped, deleted, 0 if purging is None else len(purging.pending_deletions()))

    def _drop(self, session_ids: Sequence[str] | None) -> int:
        """Drop the rows of archived sessions, if a warehouse is attached; see ``TieredStore.drop_archived``."""
        tiered = tiered_store(self.store)
        return 0 if tiered is None else tiered.drop_archived(session_ids)

    def _purge_warehouse(self) -> None:
        """Delete in the warehouse, if one is attached, what was deleted for good here."""
        tiered = tiered_store(self.store)
        if tiered is not None:
            tiered.purge_warehouse()

    def _purging(self, call: str) -> PurgingStore:
        """The store, to delete sessions for good.

        Raises:
            PermissionDenied: This is the view of one user.
            CapabilityMissing: The ledger is in BigQuery.
        """
        if isinstance(self.store, UserView):
            raise self.store.everybodys(call)
        purging = purging_store(self.store)
        if purging is None:
            raise CapabilityMissing(
                "A ledger in BigQuery deletes nothing by itself; give its tables a partition expiration: "
                "create_sessions_table.py --help."
            )
        return purging


def _archived(session_id: str) -> Callable[[Any], list[Change]]:
    def changes(state: Any) -> list[Change]:
        status = state.get(("status", ""))
        if status is not None and status.value == "deleted":
            raise SessionEnded(
                f"Session {session_id} is deleted and cannot be archived; nothing was written. restore_session() opens "
                "it again.",
                session_id=session_id,
                status="deleted",
            )
        return [Change("status", "", "archived")]

    return changes


def _check_age(age: object, name: str) -> None:
    if not isinstance(age, timedelta) or age < timedelta(0):
        raise InvalidInput(f"{name} must be a timedelta of no time or more, not {age!r}.")

"""Compare a store with its warehouse, session by session and without reading a value, and repair differences.

Both sides compute a digest per session, and rows are compared only for sessions whose digests differ. During the
comparison, relays may ship and sessions may be appended to. Rows in flight do not count as differences.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from ledger.errors import (
    CorruptEvent,
    IdempotencyConflict,
    InvalidInput,
    LeaseHeld,
    LedgerError,
    SessionEnded,
    UpcastMissing,
    WrongExpectedVersion,
)
from ledger.holding import ending
from ledger.outbox.comparison import ComparableOutbox, ComparableWarehouse, WarehouseRow, parts
from ledger.outbox.contract import LEASE_SECONDS, Outbox, RelayCheckpoint
from ledger.outbox.row_digests import NOTHING, RowDigest, SessionKey, Tombstone, session_digest

#: A time after all sessions.
LATEST = datetime(9999, 12, 31, tzinfo=UTC)
#: Recorded as the reason of requeued rows.
REASON = "reconcile: the warehouse lacks it"
#: If restoring a session raises one of these errors, ``repair`` goes on with the other sessions. SessionEnded means
#: that the session is archived. Its events come back when it is hydrated.
_NOT_RESTORED = (*(CorruptEvent, IdempotencyConflict, InvalidInput, SessionEnded, UpcastMissing, WrongExpectedVersion),)


@dataclass(frozen=True, slots=True)
class SessionDifference:
    """The differences between a session in the store and in the warehouse.

    Attributes:
        session_id, created_at: The session.
        version_here, version_there: Highest version in the store and in the warehouse; 0 where the session has no rows.
        missing: ``seq`` of rows that the warehouse lacks. ``repair`` requeues them.
        unknown: Number of rows in the warehouse that the store lacks, because it lost them or was restored from a
            backup. If ``lost`` is True, ``repair`` restores them.
        diverged: True if some unknown rows are at versions that the store has too, because the session was appended to
            on both sides; or if unknown rows of this store are of two events at one version, because it has lost both
            histories.
        changed: Number of rows whose version or hashes differ. If the store has dropped the rows, the number is not
            known, and 1 means at least one. Such rows cannot be repaired.
        doubled: Number of rows that the raw table has more than once. Every view shows each of them once. They cannot
            be repaired.
        gone: Number of rows of an archived session that the store has dropped and the warehouse lacks. Only a backup
            can have them.
    """

    session_id: str
    created_at: datetime
    version_here: int
    version_there: int
    missing: tuple[int, ...] = ()
    unknown: int = 0
    diverged: bool = False
    changed: int = 0
    doubled: int = 0
    gone: int = 0

    @property
    def lost(self) -> bool:
        """True if there are unknown rows and ``repair`` can restore them.

        The rows can be restored if the session has not diverged and no row is changed or gone.
        """
        return self.unknown > 0 and not self.diverged and not self.changed and not self.gone


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The result of a comparison.

    Attributes:
        created_from, created_until: Range of creation times of the compared sessions. ``created_from`` is inclusive
            and ``created_until`` exclusive.
        sessions: Number of sessions compared. These are the sessions in the store, and those in the warehouse that
            have a row written by the store.
        rows: Number of rows of the store that the warehouse must have.
        differences: One per session that differs, oldest session first.
        elsewhere: Sessions that another store appended to and owns now. That store's rows do not count as differences.
        waiting_rows: Number of rows, of all sessions, that are still to be shipped. They do not count as differences.
        refused_events: Number of dead letters of all sessions, without dismissed ones. They do not count as
            differences.
        dismissed_events: Number of dismissed dead letters of all sessions. They do not count as differences.
        expired: Number of sessions of the range that were not compared, because the warehouse has dropped their day.
    """

    created_from: datetime
    created_until: datetime
    sessions: int
    rows: int
    differences: tuple[SessionDifference, ...]
    elsewhere: tuple[SessionKey, ...]
    waiting_rows: int
    refused_events: int
    dismissed_events: int = 0
    expired: int = 0


@dataclass(frozen=True, slots=True)
class Repaired:
    """The result of a repair.

    Attributes:
        asked_rows: Number of rows that were requeued, so that the next ``Relay.sync`` sends them again.
        events: Number of events restored from the warehouse.
        left: For each session that could not be restored, by session id, the reason.
    """

    asked_rows: int
    events: int
    left: Mapping[str, str]


def reconcile(
    outbox: ComparableOutbox,
    warehouse: ComparableWarehouse,
    created_from: datetime,
    created_until: datetime,
    *,
    and_later: bool = False,
) -> Reconciliation:
    """Compare a store with the warehouse that it ships to; nothing is changed.

    A session whose rows were dropped is compared by its tombstone. A session that is being purged is left out. So
    is a session that the warehouse has dropped, because the day of its creation has expired.

    Args:
        outbox: The store, as the outbox of its relay to this warehouse.
        warehouse: The warehouse, with the ledger's tables.
        created_from, created_until: Range of the sessions' creation times, as timezone-aware datetimes.
            ``created_from`` is inclusive and ``created_until`` exclusive. The warehouse reads the partitions of these
            days.
        and_later: True to compare the sessions created later too, as while a clock was ahead. ``created_until`` of the
            result is then after the last of them.

    Raises:
        InvalidInput: A time is naive.
        StoreUnavailable: The store or the warehouse cannot be read.

    Source: sql/statements/reconcile_sessions.sql, sql/statements/reconcile_rows.sql
    """
    # The store is read first: the warehouse must have every row that was acknowledged by then.
    shipped = _Shipped(outbox)
    deleting = set(outbox.deleting())
    end = LATEST if and_later else created_until
    here = dict(outbox.session_digests(created_from, end, upto=shipped.upto))
    answer = warehouse.session_digests(created_from, end, store_id=outbox.store_id)
    deleting.update(outbox.deleting())
    there = {session: amount for session, amount, own in answer if (own or session in here) and session not in deleting}
    expired = {session for session in here.keys() | there.keys() if warehouse.has_dropped(session)}
    sessions = (here.keys() | there.keys()) - expired
    sizes = {
        session: max(here.get(session, NOTHING).rows, there.get(session, NOTHING).rows)
        for session in sorted(sessions, key=lambda session: (session.created_at, session.session_id))
        if here.get(session, NOTHING) != there.get(session, NOTHING)
    }
    differences: list[SessionDifference] = []
    elsewhere: list[SessionKey] = []
    for part in parts(sizes):
        found = warehouse.rows_of(part)
        archived = dict(outbox.tombstones(part))  # before and after the rows: they may be dropped or restored meanwhile
        kept = outbox.row_digests(part)  # after the warehouse: a row that is only there was never here
        archived.update(outbox.tombstones(part))
        shipped.refresh()
        for session in part:
            there_now = found.get(session, ())
            if session in archived:
                events = archived[session].events
                own = {each.digest.row_id for each in there_now if each.digest.event_id in events}
                difference = _compare_archived(session, archived[session], there_now, outbox.store_id)
            else:
                own = {digest.row_id for _, digest in kept[session]}
                difference = _compare(session, kept[session], there_now, shipped, outbox.store_id)
            if difference.unknown and _is_elsewhere(difference, own, there_now, outbox.store_id):
                elsewhere.append(session)
                difference = replace(difference, unknown=0)
            found_any = difference.missing or difference.unknown or difference.changed or difference.doubled
            if found_any or difference.gone:
                differences.append(difference)
    status = outbox.status()
    return Reconciliation(
        created_from=created_from,
        created_until=max((created_until, *(_day_after(each.created_at) for each in sessions if and_later))),
        sessions=len(sessions),
        rows=sum(each.rows for session, each in here.items() if session not in expired),
        differences=tuple(differences),
        elsewhere=tuple(elsewhere),
        waiting_rows=status.waiting_rows,
        refused_events=status.refused_events,
        dismissed_events=status.dismissed_events,
        expired=len(expired),
    )


def _day_after(at: datetime) -> datetime:
    """Return midnight after a time in UTC."""
    return at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def repair(
    found: Reconciliation,
    outbox: ComparableOutbox,
    warehouse: ComparableWarehouse,
    *,
    holder: str,
    lease_seconds: float = LEASE_SECONDS,
) -> Repaired:
    """Repair differences: requeue missing rows for the next ``Relay.sync`` and restore lost events.

    An interrupted repair can be repeated.

    Args:
        found: A recent result of ``reconcile``.
        outbox, warehouse: The arguments that ``reconcile`` was called with.
        holder, lease_seconds: The arguments of ``Relay`` with these names.

    Raises:
        LeaseHeld: A relay is shipping, so no events were restored; missing rows were requeued.
        LeaseLost: A relay took the lease during the repair, which may be partly done.
        StoreUnavailable, StoreRejected: The store or the warehouse failed; the repair may be partly done.
    """
    asked = {seq: REASON for each in found.differences for seq in each.missing}
    if asked:
        outbox.redrive(asked)
    lost = [each for each in found.differences if each.lost]
    if not lost:
        return Repaired(len(asked), 0, {})
    with leased(outbox, holder, lease_seconds) as taken:
        checkpoint = taken
        events, left = 0, {}
        for each in lost:
            try:
                brought, checkpoint = outbox.restore(
                    checkpoint, warehouse.events(SessionKey(each.session_id, each.created_at), after=each.version_here)
                )
            except _NOT_RESTORED as error:
                left[each.session_id] = str(error)
                outbox.save(checkpoint)  # renews the lease
            else:
                events += brought
    return Repaired(len(asked), events, left)


@contextmanager
def leased(outbox: Outbox, holder: str, seconds: float) -> Iterator[RelayCheckpoint]:
    """Context manager that holds the lease for its block.

    Raises:
        LeaseHeld: A relay is shipping.
    """
    taken: list[RelayCheckpoint] = []
    refused: list[LedgerError] = []

    def release() -> None:
        if not refused:  # without a checkpoint, an exception struck when the store had perhaps recorded the lease
            outbox.release(taken[0] if taken else outbox.acquire(holder, seconds))

    with ending(release):
        try:
            taken.append(outbox.acquire(holder, seconds))
        except LedgerError as error:
            refused.append(error)
            if not isinstance(error, LeaseHeld):
                raise
            raise LeaseHeld(f"{error} Lost events can be restored when it has stopped; then repair again.") from error
        yield taken[0]


class _Shipped:
    """The rows that the warehouse must have. ``seq in shipped`` tells whether a row is one of them.

    These are all rows up to the checkpoint, except dead-lettered and requeued rows.

    Attributes:
        upto: The checkpoint's ``seq`` at the start; the warehouse may or may not have rows above it.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.upto = outbox.checkpoint().seq
        self._dead_letters = set(outbox.dead_letters_between(1, self.upto))

    def refresh(self) -> None:
        """Exclude the rows that were dead-lettered or requeued since the last call.

        Rows excluded before stay excluded even if they were redriven, because it is not known whether they arrived.
        """
        self._dead_letters.update(self._outbox.dead_letters_between(1, self.upto))

    def __contains__(self, seq: int) -> bool:
        return seq <= self.upto and seq not in self._dead_letters


def _compare(
    session: SessionKey,
    kept: Sequence[tuple[int, RowDigest]],
    found: Sequence[WarehouseRow],
    shipped: _Shipped,
    store_id: str,
) -> SessionDifference:
    """Compare a session's rows in the store (``kept``) with those in the warehouse (``found``).

    A row that the warehouse lacks counts as missing only if it is in ``shipped``.
    """
    here = {digest.row_id: digest for _, digest in kept}
    there: dict[tuple[str, str, str], list[WarehouseRow]] = {}
    for each in found:
        there.setdefault(each.digest.row_id, []).append(each)
    version_here = max((digest.version for digest in here.values()), default=0)
    unknown_rows = [each for row_id, same in there.items() if row_id not in here for each in same]
    unknown = [each.digest for each in unknown_rows]
    return SessionDifference(
        *session,
        version_here=version_here,
        version_there=max((each.digest.version for each in found), default=0),
        missing=tuple(seq for seq, digest in kept if seq in shipped and digest.row_id not in there),
        unknown=len({digest.row_id for digest in unknown}),
        diverged=_are_two(unknown_rows, version_here, store_id),
        changed=sum(any(each.digest != here[it] for each in there[it]) for it in here.keys() & there.keys()),
        doubled=sum(sum(each.copies for each in same) > 1 for same in there.values()),
    )


def _are_two(unknown: Sequence[WarehouseRow], version_here: int, store_id: str) -> bool:
    """Return True if a session has two histories; see ``SessionDifference.diverged``."""
    events: dict[int, str] = {}
    for each in unknown:
        digest = each.digest
        if digest.version <= version_here:
            return True
        if each.store_id == store_id and events.setdefault(digest.version, digest.event_id) != digest.event_id:
            return True
    return False


def _compare_archived(
    session: SessionKey, tombstone: Tombstone, found: Sequence[WarehouseRow], store_id: str
) -> SessionDifference:
    """Compare the warehouse's rows of an archived session with its tombstone."""
    own = {each.digest for each in found if each.digest.event_id in tombstone.events}
    own_rows = {digest.row_id for digest in own}
    unknown_rows = [each for each in found if each.digest.event_id not in tombstone.events]
    unknown = [each.digest for each in unknown_rows]
    copies: dict[tuple[str, str, str], int] = {}
    for each in found:
        copies[each.digest.row_id] = copies.get(each.digest.row_id, 0) + each.copies
    version_here = tombstone.digest.version
    gone = max(0, tombstone.digest.distinct_rows - len(own_rows))
    return SessionDifference(
        *session,
        version_here=version_here,
        version_there=max((each.digest.version for each in found), default=0),
        unknown=len({digest.row_id for digest in unknown}),
        diverged=_are_two(unknown_rows, version_here, store_id),
        # At least one; a tombstone does not say which.
        changed=int(not gone and session_digest(own) != tombstone.digest),
        doubled=sum(count > 1 for count in copies.values()),
        gone=gone,
    )


def _is_elsewhere(
    difference: SessionDifference, own: Collection[tuple[str, str, str]], found: Sequence[WarehouseRow], store_id: str
) -> bool:
    """Return True if another store owns the session now.

    Another store owns it if that store wrote the last of the unknown rows. If the session has diverged, because both
    stores appended to it, the result is False.

    Args:
        difference: The session's difference, with unknown rows.
        own: The ``row_id`` of each row of the session that this store has, or had before it dropped the rows.
        found: The session's rows in the warehouse.
        store_id: The id of this store.
    """
    unknown = (each for each in found if each.digest.row_id not in own)
    last = max(unknown, key=lambda each: (each.digest.version, each.digest.event_id))
    return not difference.diverged and last.store_id != store_id

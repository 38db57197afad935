"""A store and its warehouse compared, session by session and without a value; and what differs, mended.

First both sides tell what the rows of each session amount to; then the rows of those sessions are compared in which
they differ. Relays may ship and sessions go on meanwhile: what is on its way is no difference.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ledger.errors import (
    CorruptEvent,
    IdempotencyConflict,
    InvalidInput,
    LeaseHeld,
    SessionEnded,
    UpcastMissing,
    WrongExpectedVersion,
)
from ledger.outbox.comparison import ComparableOutbox, ComparableWarehouse, WarehouseRow, parts
from ledger.outbox.contract import LEASE_SECONDS, Outbox
from ledger.outbox.row_digests import NOTHING, RowDigest, SessionKey, Tombstone, session_digest

#: Why rows are sent again, for people who look at what is put aside.
REASON = "reconcile: the warehouse lacks it"
#: What keeps a session from being brought back, and no other. An archived one is hydrated instead.
_NOT_BROUGHT_BACK = (
    *(CorruptEvent, IdempotencyConflict, InvalidInput, SessionEnded, UpcastMissing, WrongExpectedVersion),
)


@dataclass(frozen=True, slots=True)
class SessionDifference:
    """How a session in the warehouse differs from the store's.

    Attributes:
        session_id, created_at: The session.
        version_here, version_there: The highest version in the store and in the warehouse; 0 where it has no row.
        missing: ``seq`` of the rows that the warehouse lacks. ``repair`` has them sent again.
        unknown: Rows in the warehouse that the store lacks: it was restored from a backup, or lost them. Where the
            session is ``lost``, ``repair`` brings them back.
        diverged: Whether some of them are at versions that the store has as well: the session went on here and there.
        changed: Rows whose version or hashes are not the store's; nothing mends that.
        doubled: Rows that the raw table has more than once; every view shows them once, and nothing mends it.
        gone: Rows of an archived session that the warehouse lacks, and that the store has dropped; only a backup of one
            of the two has them.
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
        """Whether the unknown rows simply follow the store's, so that it can take them back."""
        return self.unknown > 0 and not self.diverged and not self.changed and not self.gone


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What a comparison found.

    Attributes:
        created_from, created_until: Half-open span of creation of the sessions that were compared.
        sessions: How many they are: those of the store, and those in the warehouse with rows that it wrote.
        rows: Rows of the store that the warehouse must have.
        differences: Of sessions that differ, oldest session first.
        elsewhere: Sessions that another store has taken over and gone on with; that is no difference.
        waiting_rows: Rows of the store, of whatever session, that are still to be shipped; they are no difference.
        refused_events: Events, of whatever session, that the warehouse refused; they are no difference either.
    """

    created_from: datetime
    created_until: datetime
    sessions: int
    rows: int
    differences: tuple[SessionDifference, ...]
    elsewhere: tuple[SessionKey, ...]
    waiting_rows: int
    refused_events: int


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did.

    Attributes:
        asked_rows: Rows that the next ``Relay.sync`` sends again.
        events: Events that were brought back from the warehouse.
        left: Id of each session that could not be brought back, and why.
    """

    asked_rows: int
    events: int
    left: Mapping[str, str]


def reconcile(
    outbox: ComparableOutbox, warehouse: ComparableWarehouse, created_from: datetime, created_until: datetime
) -> Reconciliation:
    """Compare a store with the warehouse that it is shipped to; nothing is changed.

    Args:
        outbox: The store, as the outbox of its relay to this warehouse.
        warehouse: With the ledger's tables.
        created_from, created_until: Half-open span of the sessions' creation, aware; what it costs.

    An archived session is compared by what is left of it here: a digest of the rows that it had, then its events. One
    that is being deleted for good is left out.

    Raises:
        InvalidInput: A time is naive.
        StoreUnavailable: The store or the warehouse cannot be read now.

    Source: sql/statements/reconcile_sessions.sql, sql/statements/reconcile_rows.sql
    """
    # The store is asked first: whatever was there by then, and settled, the warehouse must have when it is asked.
    settled = _Settled(outbox)
    deleting = set(outbox.deleting())
    here = dict(outbox.session_digests(created_from, created_until, upto=settled.upto))
    answer = warehouse.session_digests(created_from, created_until, store_id=outbox.store_id)
    deleting.update(outbox.deleting())
    there = {session: amount for session, amount, own in answer if (own or session in here) and session not in deleting}
    sessions = here.keys() | there.keys()
    sizes = {
        session: max(here.get(session, NOTHING).rows, there.get(session, NOTHING).rows)
        for session in sorted(sessions, key=lambda session: (session.created_at, session.session_id))
        if here.get(session, NOTHING) != there.get(session, NOTHING)
    }
    differences: list[SessionDifference] = []
    elsewhere: list[SessionKey] = []
    for part in parts(sizes):
        found = warehouse.rows_of(part)
        archived = dict(outbox.archived(part))  # before its rows and after: it may be dropped or come back meanwhile
        kept = outbox.row_digests(part)  # after the warehouse: what is there by now and not here was never here
        archived.update(outbox.archived(part))
        settled.look_again()
        for session in part:
            there_now = found.get(session, ())
            if session in archived:
                events = archived[session].events
                own = {each.trace.slot for each in there_now if each.trace.event_id in events}
                difference = _compare_archived(session, archived[session], there_now)
            else:
                own = {trace.slot for _, trace in kept[session]}
                difference = _compare(session, kept[session], there_now, settled)
            if difference.unknown and _is_elsewhere(difference, own, there_now, outbox.store_id):
                elsewhere.append(session)
                difference = replace(difference, unknown=0)
            found_any = difference.missing or difference.unknown or difference.changed or difference.doubled
            if found_any or difference.gone:
                differences.append(difference)
    status = outbox.status()
    return Reconciliation(
        created_from=created_from,
        created_until=created_until,
        sessions=len(sessions),
        rows=sum(each.rows for each in here.values()),
        differences=tuple(differences),
        elsewhere=tuple(elsewhere),
        waiting_rows=status.waiting_rows,
        refused_events=status.refused_events,
    )


def repair(
    found: Reconciliation,
    outbox: ComparableOutbox,
    warehouse: ComparableWarehouse,
    *,
    holder: str,
    lease_seconds: float = LEASE_SECONDS,
) -> Repaired:
    """Mend what a comparison found; afterwards ``Relay.sync`` sends what the warehouse lacks.

    What is mended already stays as it is, so a repair that was cut short can be made again.

    Args:
        found: By ``reconcile``, of late.
        outbox, warehouse: As for ``reconcile``.
        holder: As for ``Relay``.
        lease_seconds: For how long relays keep off after the last sign of life.

    Raises:
        LeaseHeld: A relay ships now, so nothing was brought back from the warehouse. What that lacks was asked for.
        LeaseLost: One began to ship meanwhile; some may be mended.
        StoreUnavailable, StoreRejected: The store or the warehouse cannot be used now; some may be mended.
    """
    asked = {seq: REASON for each in found.differences for seq in each.missing}
    if asked:
        outbox.redrive(asked)
    lost = [each for each in found.differences if each.lost]
    if not lost:
        return Repaired(len(asked), 0, {})
    try:
        checkpoint = outbox.acquire(holder, lease_seconds)
    except LeaseHeld as held:
        raise LeaseHeld(f"{held} Events can be brought back when it has stopped; then repair again.") from held
    events, left = 0, {}
    try:
        for each in lost:
            try:
                brought, checkpoint = outbox.restore(
                    checkpoint, warehouse.events(SessionKey(each.session_id, each.created_at), after=each.version_here)
                )
            except _NOT_BROUGHT_BACK as error:
                left[each.session_id] = str(error)
                outbox.save(checkpoint)  # the lease is good for as long again
            else:
                events += brought
    finally:
        outbox.release(checkpoint)
    return Repaired(len(asked), events, left)


class _Settled:
    """Which rows of a store the warehouse must have: those before the checkpoint that are not put aside.

    Attributes:
        upto: The checkpoint at the beginning; rows beyond it may be there or not.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.upto = outbox.checkpoint().seq
        self._aside = set(outbox.dead_letters_between(1, self.upto))

    def look_again(self) -> None:
        """Take note of what was put aside, or asked for, meanwhile; what was so before may be there by now or not."""
        self._aside.update(self._outbox.dead_letters_between(1, self.upto))

    def __contains__(self, seq: int) -> bool:
        return seq <= self.upto and seq not in self._aside


def _compare(
    session: SessionKey, kept: Sequence[tuple[int, RowDigest]], found: Sequence[WarehouseRow], settled: _Settled
) -> SessionDifference:
    """How the rows of a session differ; what is not settled yet may be there, and need not."""
    here = {trace.slot: trace for _, trace in kept}
    there: dict[tuple[str, str, str], list[WarehouseRow]] = {}
    for each in found:
        there.setdefault(each.trace.slot, []).append(each)
    version_here = max((trace.version for trace in here.values()), default=0)
    unknown = [each.trace for slot, same in there.items() if slot not in here for each in same]
    return SessionDifference(
        *session,
        version_here=version_here,
        version_there=max((each.trace.version for each in found), default=0),
        missing=tuple(seq for seq, trace in kept if seq in settled and trace.slot not in there),
        unknown=len({trace.slot for trace in unknown}),
        diverged=any(trace.version <= version_here for trace in unknown),
        changed=sum(any(each.trace != here[slot] for each in there[slot]) for slot in here.keys() & there.keys()),
        doubled=sum(sum(each.copies for each in same) > 1 for same in there.values()),
    )


def _compare_archived(session: SessionKey, remains: Tombstone, found: Sequence[WarehouseRow]) -> SessionDifference:
    """How what the warehouse has of an archived session differs from what it had here."""
    own = {each.trace for each in found if each.trace.event_id in remains.events}
    own_slots = {trace.slot for trace in own}
    unknown = [each.trace for each in found if each.trace.event_id not in remains.events]
    copies: dict[tuple[str, str, str], int] = {}
    for each in found:
        copies[each.trace.slot] = copies.get(each.trace.slot, 0) + each.copies
    version_here = remains.amount.version
    gone = max(0, remains.amount.slots - len(own_slots))
    return SessionDifference(
        *session,
        version_here=version_here,
        version_there=max((each.trace.version for each in found), default=0),
        unknown=len({trace.slot for trace in unknown}),
        diverged=any(trace.version <= version_here for trace in unknown),
        # One at least: which of them is not known here.
        changed=int(not gone and session_digest(own) != remains.amount),
        doubled=sum(count > 1 for count in copies.values()),
        gone=gone,
    )


def _is_elsewhere(
    difference: SessionDifference, own: Collection[tuple[str, str, str]], found: Sequence[WarehouseRow], store_id: str
) -> bool:
    """Whether what is unknown here was written by the store that owns the session now: the one that wrote last.

    The slots in ``own`` are the store's.
    Where the session went on here as well, it has diverged.
    """
    last = max((each for each in found if each.trace.slot not in own), key=lambda each: each.trace[:2])
    return not difference.diverged and last.store_id != store_id

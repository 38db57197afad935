"""Appends to sessions in BigQuery. Lenient sessions use a stream, and strict sessions use a transaction."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakValueDictionary

from ledger.errors import ConfigurationError, CorruptEvent, LedgerError, StoreError, StoreUnavailable
from ledger.holding import TimedLock
from ledger.model.events import ANY_VERSION, AppendResult, PreparedEvent
from ledger.model.ids import created_at_for, created_at_of
from ledger.model.instants import from_micros, to_micros
from ledger.model.integrity import Sealed, seal
from ledger.model.lifetime import LIFETIME_FIELDS, check_open
from ledger.model.session import Head
from ledger.outbox import columns
from ledger.stores.checks import EventInRows, check_expected, check_owner, check_same
from ledger.warehouse import catalog
from ledger.warehouse.arrow_rows import record_batch
from ledger.warehouse.bigquery.errors import OutcomeLost
from ledger.warehouse.bigquery.locks import require_lock
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from ledger.warehouse.projection import Projection, span_of
from ledger.warehouse.rows import HeadRow

#: Maximum number of attempts of one append or ingestion. An attempt fails if another writer updates a head meanwhile.
MAX_ATTEMPTS = 50
#: Seconds that an append waits for other threads of this process: for those that append to the same session, and for
#: transactions on the dataset.
LOCK_TIMEOUT = 300.0
#: Maximum number of sessions whose heads a process caches.
MAX_CACHED_HEADS = 4096
#: Maximum number of events in doubt that are kept for each session, so that a retry can send the same rows. In an
#: outage each append adds one.
MAX_IN_DOUBT = 16
#: Maximum time between the claim of a session's id and the session's first event. The claim fixes the session's
#: creation time. An older claim without an event can be replaced.
CLAIM_LIFETIME = timedelta(days=1)


@dataclass(slots=True, weakref_slot=True, eq=False)
class CachedHead:
    """The head of a session as this process last knew it. Appends hold ``lock``, so they run one at a time.

    Attributes:
        session_id: The session.
        lock: Held during an append.
        head: The head as last read or written; None if it must be read.
        created_at: The creation time as last read; None if none was found.
        strict: True if the session is strict; meaningless if ``head`` is None.
        lifetime: ``status`` and ``expires_at`` at the version of ``head``, as JSON texts; None if they must be read.
        in_doubt: Events of a lenient session that may or may not be recorded, by event_id. A retry sends the same rows
            again, because the rows of the first attempt may still arrive.
    """

    session_id: str
    lock: TimedLock = field(default_factory=lambda: TimedLock("this session"))
    head: Head | None = None
    created_at: datetime | None = None
    strict: bool = False
    lifetime: dict[str, str | None] | None = None
    in_doubt: dict[str, _PendingEvent] = field(default_factory=dict)

    def forget(self) -> None:
        """Have the head read again."""
        self.head = None


class CachedHeads:
    """Cache of the heads of the sessions that this process used last; a head in use is never evicted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_use: WeakValueDictionary[str, CachedHead] = WeakValueDictionary()
        self._recent: OrderedDict[str, CachedHead] = OrderedDict()

    def __getitem__(self, session_id: str) -> CachedHead:
        with self._lock:
            cached = self._in_use.get(session_id)
            if cached is None:
                cached = self._in_use[session_id] = CachedHead(session_id)
            self._recent[session_id] = cached
            self._recent.move_to_end(session_id)
            if len(self._recent) > MAX_CACHED_HEADS:
                self._recent.popitem(last=False)
            return cached

    def evict(self, session_ids: Iterable[str]) -> None:
        """Evict the heads of these sessions, so that they are read again."""
        for session_id in session_ids:
            with self._lock:
                cached = self._in_use.get(session_id)
            if cached is not None:
                cached.lock.call(LOCK_TIMEOUT, cached.forget)


def delete_claims(warehouse: BigQueryWarehouse, claims: Mapping[str, datetime]) -> None:
    """Delete creation times that were claimed for sessions, by id, unless the session has events."""
    if claims:
        warehouse.ask("delete_claims", catalog.query("delete_claims"), span_of(claims.items()))


class Appender:
    """Writer of events; each call of ``append`` writes one.

    Args:
        warehouse, projection: Access to the dataset.
        store_id: Function that returns the ``store_id`` of rows. It may need credentials, so it is not called before
            the first append.
        salt: Function that returns a new salt for the hash of a value.
        strict: True to create strict sessions, False to create lenient ones.
        schema_version: The schema version of the rows written.
    """

    def __init__(
        self,
        warehouse: BigQueryWarehouse,
        projection: Projection,
        *,
        store_id: Callable[[], str],
        salt: Callable[[], str],
        strict: bool,
        schema_version: int,
    ) -> None:
        self._warehouse = warehouse
        self._projection = projection
        self._store_id = store_id
        self._salt = salt
        self._strict = strict
        self._schema_version = schema_version
        # BigQuery aborts one of two concurrent transactions on a table: those of this process run one at a time.
        self._transaction_lock = TimedLock("this dataset's transactions")

    def append(self, cached: CachedHead, event: PreparedEvent, expected: int, now: datetime) -> AppendResult:
        """Record an event; see ``EventStore.append``. The caller holds the lock of ``cached``.

        Raises:
            OutcomeLost: The event may be recorded; the caller must evict the cached head.
            InvalidInput: The session's day has expired, or the session would outlive it.
        """
        session_id = cached.session_id
        expiration = self._warehouse.expiration()
        for _ in range(MAX_ATTEMPTS):
            recorded_version = self._recorded_version(cached, event, expected)
            if recorded_version is not None:
                self._check_same(session_id, event, recorded_version)
                if cached.head is not None:
                    check_owner(session_id, cached.head.user_id, event)
                return AppendResult(session_id, recorded_version, event.event_id, replayed=True)
            head = cached.head
            if head is None and event.user_id is None:  # else only "no session" would be said
                claimed = created_at_of(session_id) or cached.created_at
                if claimed is not None:
                    expiration.check_day(session_id, claimed, now)
            version, owner = (0, None) if head is None else (head.version, head.user_id)
            user_id = check_expected(session_id, version, owner, event, expected)
            if event.require_open and head is not None:
                self._check_open(cached, head, now)
            strict = self._strict if head is None else cached.strict
            if head is None:
                head = self._new_head(cached, user_id, strict, now)
            expiration.check_day(session_id, head.created_at, now)
            expiration.check_end(session_id, head.created_at, event.changes, is_new=head.version == 0)
            pending = _PendingEvent(event, head, max(to_micros(now), to_micros(head.updated_at)))
            if strict:
                outcome, answer_lost = self._append_checked(pending)
                if outcome == "recorded":
                    return self._result_of_recorded(cached, event, answer_lost)
                if outcome == "moved":  # another writer appended first: read the head again
                    cached.head = None
                    continue
            else:
                pending = self._append_lenient(cached, pending)
            if pending.version > head.version:
                cached.head = pending.head_after(self._store_id())
                cached.lifetime = _lifetime_after(cached.lifetime if head.version else {}, event)
            cached.strict = strict
            return AppendResult(session_id, pending.version, event.event_id)
        raise StoreUnavailable(
            f"Session {session_id} has too many concurrent writers; nothing was written. Append again later."
        )

    def read_head(self, cached: CachedHead, event_id: str) -> int | None:
        """Read a session's head into the cache; return the version of an event, or None if it is not recorded."""
        cached.head = cached.lifetime = None
        created_at = cached.created_at = self._projection.creation_of(cached.session_id)
        if created_at is None:
            return None
        stored = self._projection.standing(cached.session_id, created_at, event_id)
        if stored is None:
            return None
        cached.head, cached.strict = stored.head, stored.strict
        return stored.event_version

    def _recorded_version(self, cached: CachedHead, event: PreparedEvent, expected: int) -> int | None:
        """Return the version at which the event is already recorded; None if it is not, or if no check is needed.

        If the check or the append needs the head, the head is read into the cache.
        """
        head = cached.head
        if head is None and event.creates_stream:
            return None
        if head is not None and not event.check_duplicate and expected in (ANY_VERSION, head.version):
            return None
        return self.read_head(cached, event.event_id)

    def _check_open(self, cached: CachedHead, head: Head, now: datetime) -> None:
        """Raise SessionEnded if, as far as this process knows, the session is expired, archived or deleted."""
        if cached.lifetime is None:
            state = self._projection.states({head.session_id: head.created_at})[head.session_id][1]
            cached.lifetime = {name: state[name, ""].text for name in LIFETIME_FIELDS if (name, "") in state}
        check_open(head.session_id, cached.lifetime.get("status"), cached.lifetime.get("expires_at"), now)

    def _new_head(self, cached: CachedHead, user_id: str, strict: bool, now: datetime) -> Head:
        """Return a head, at version 0, for a session that does not exist yet."""
        session_id = cached.session_id
        created_at = created_at_for(session_id, now)
        if created_at_of(session_id) is None:
            if strict:
                # An earlier attempt may have written the index entry: its creation time counts, unless its day has
                # expired, with the events of the session that had this id.
                claimed = cached.created_at
                if claimed is not None and self._warehouse.expiration().has_dropped(claimed, now):
                    delete_claims(self._warehouse, {session_id: claimed})
                    claimed = None
                created_at = claimed or created_at
            else:
                created_at = self._claim_creation(session_id, user_id, created_at, now)
        return Head(session_id, user_id, created_at, 0, from_micros(0), None, self._store_id())

    def _claim_creation(self, session_id: str, user_id: str, created_at: datetime, now: datetime) -> datetime:
        """Agree with all other writers on the creation time of a new session, and return it."""
        claimed = self._claim(session_id, user_id, created_at)
        if claimed < now - CLAIM_LIFETIME:
            delete_claims(self._warehouse, {session_id: claimed})
            claimed = self._claim(session_id, user_id, created_at)
        return claimed

    def _claim(self, session_id: str, user_id: str, created_at: datetime) -> datetime:
        parameters = {"session_id": session_id, "user_id": user_id, "created_at": created_at}
        sql = catalog.query("claim_creation")
        answer = self._transaction_lock.call(
            LOCK_TIMEOUT, lambda: self._warehouse.ask("claim_creation", sql, parameters)
        )
        return from_micros(int(require_lock(answer.rows[0][0])))

    def _append_lenient(self, cached: CachedHead, pending: _PendingEvent) -> _PendingEvent:
        """Append rows without comparing versions; if an earlier attempt is in doubt, send its rows again unchanged.

        Returns:
            The event that was appended.
        """
        event_id = pending.event.event_id
        earlier = cached.in_doubt.get(event_id)
        if earlier is not None and earlier.event[:3] == pending.event[:3]:
            pending = earlier
        unsealed = [(*change, None, None) for change in pending.event.changes]
        rows = pending.rows(unsealed, self._schema_version, self._store_id())
        session = (cached.session_id, pending.head.created_at)

        def is_committed() -> bool:
            parameters = {**span_of([session]), "event_id": event_id}
            answer = self._warehouse.run("find_lost_event", catalog.query("read_heads"), parameters)
            return any(HeadRow(*row).event_version is not None for row in answer.rows)

        # In doubt from now on: an exception out of a signal handler may leave rows under way, too.
        cached.in_doubt[event_id] = pending
        if len(cached.in_doubt) > MAX_IN_DOUBT:
            del cached.in_doubt[next(iter(cached.in_doubt))]
        try:
            self._warehouse.append("session_events", record_batch(rows), is_committed=is_committed)
        except OutcomeLost:
            raise
        except LedgerError:
            if earlier is None:
                cached.in_doubt.pop(event_id, None)
            else:  # the rows of that attempt may still arrive
                cached.in_doubt[event_id] = earlier
            raise
        cached.in_doubt.pop(event_id, None)
        return pending

    def _append_checked(self, pending: _PendingEvent) -> tuple[str, bool]:
        """Append rows in a transaction that compares versions; return its outcome and whether an answer was lost.

        The transaction can be repeated after a lost answer. If the event was recorded, the repeated transaction finds
        it, so nothing is written twice. A request that arrives late has no effect once another writer has updated the
        head.
        """
        changes = pending.event.changes
        salts = [None if change.removed else self._salt() for change in changes]
        sealed, pending.event_hash = seal(
            *(pending.head.event_hash, pending.envelope(self._schema_version), changes, salts),
            pending.event.idempotency_key,
        )
        parameters = pending.parameters(sealed, self._schema_version, self._store_id())
        sql = catalog.query("append_checked")

        def call(answer_lost: bool) -> str:
            answer = self._transaction_lock.call(
                LOCK_TIMEOUT, lambda: self._warehouse.run("append_checked", sql, parameters)
            )
            return require_lock(answer.rows[0][0])

        return self._warehouse.retry_non_idempotent("The checked append", call)

    def _result_of_recorded(self, cached: CachedHead, event: PreparedEvent, answer_lost: bool) -> AppendResult:
        """Return the result of an append whose transaction found the event recorded already.

        If an answer was lost, an earlier attempt of this append recorded the event, so the result is not ``replayed``.
        """
        try:
            version = self.read_head(cached, event.event_id)
        except (StoreError, ConfigurationError) as error:
            raise OutcomeLost(f"The event is recorded, but its version cannot be read: {error}") from error
        if version is None:
            raise OutcomeLost(f"Event {event.event_id} was recorded, and cannot be found now.")
        self._check_same(cached.session_id, event, version)
        return AppendResult(cached.session_id, version, event.event_id, replayed=not answer_lost)

    def _check_same(self, session_id: str, event: PreparedEvent, version: int) -> None:
        """Raise IdempotencyConflict unless an event equals the one recorded at ``version`` under its event_id."""
        recorded = [
            each
            for each in self._projection.events(session_id, after=version - 1, until=version, upcast=False)
            if each.event_id == event.event_id
        ]
        if not recorded:
            raise CorruptEvent(
                f"Session {session_id}, version {version}: the event cannot be read.", session_id=session_id
            )
        check_same(session_id, event, EventInRows.of(recorded[0]))


def _lifetime_after(before: dict[str, str | None] | None, event: PreparedEvent) -> dict[str, str | None] | None:
    """Return ``status`` and ``expires_at`` after an event, given those before it; None if ``before`` is None."""
    if before is None:
        return None
    return before | {change.field: change.text for change in event.changes if change.field in LIFETIME_FIELDS}


@dataclass(slots=True)
class _PendingEvent:
    """An event to append, and the head of its session before the event. Times are microseconds since 1970."""

    event: PreparedEvent
    head: Head
    recorded_at: int
    event_hash: str | None = None

    @property
    def version(self) -> int:
        return self.head.version + 1

    @property
    def occurred_at(self) -> int:
        return self.recorded_at if self.event.occurred_at is None else self.event.occurred_at

    def envelope(self, schema_version: int) -> tuple[str, int, str, str, str, str | None, int, int, int, int]:
        """Return the values of the event's envelope. ``event_hash`` covers these values and the changes."""
        event, head = self.event, self.head
        return (
            *(head.session_id, self.version, event.event_id, event.event_type, head.user_id, event.actor),
            *(self.occurred_at, self.recorded_at, to_micros(head.created_at), schema_version),
        )

    def rows(self, changes: Sequence[Sealed], schema_version: int, store_id: str) -> list[tuple[Any, ...]]:
        """Return the event's rows, each with the columns of ``session_events``."""
        event = columns.EventValues(
            *self.envelope(schema_version),
            store_id,
            self.head.event_hash,
            self.event_hash,
            self.event.idempotency_key,
        )
        return [columns.row_of(event, change) for change in changes]

    def parameters(self, changes: Sequence[Sealed], schema_version: int, store_id: str) -> dict[str, Any]:
        """Return the parameters of the statement ``append_checked``."""
        event, head = self.event, self.head
        return {
            "session_id": head.session_id,
            "created_at": head.created_at,
            "user_id": head.user_id,
            "version_before": head.version,
            "hash_before": head.event_hash or "",
            "event_id": event.event_id,
            "event_type": event.event_type,
            "actor": event.actor or "",
            "occurred_at": from_micros(self.occurred_at),
            "recorded_at": from_micros(self.recorded_at),
            "schema_version": schema_version,
            "store_id": store_id,
            "event_hash": self.event_hash or "",
            "idempotency_key": event.idempotency_key or "",
            "indexed": created_at_of(head.session_id) is None,
            "changes": [dict(zip(columns.CHANGE, change, strict=True)) for change in changes],
        }

    def head_after(self, store_id: str) -> Head:
        """Return the session's head after the event."""
        head = self.head
        recorded_at = from_micros(self.recorded_at)
        return Head(
            head.session_id, head.user_id, head.created_at, self.version, recorded_at, self.event_hash, store_id
        )

"""Appends straight to BigQuery: lenient ones over a stream, checked ones in a transaction."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakValueDictionary

from ledger.errors import ConfigurationError, CorruptEvent, StoreError, StoreUnavailable
from ledger.model.events import ANY_VERSION, AppendResult, PreparedEvent, RecordedEvent
from ledger.model.ids import created_at_for, created_at_of
from ledger.model.instants import from_micros, to_micros
from ledger.model.integrity import Sealed, seal
from ledger.model.lifetime import FIELDS, check_open
from ledger.model.session import Head
from ledger.outbox import columns
from ledger.stores.checks import check_expected, check_owner, conflict
from ledger.warehouse import catalog
from ledger.warehouse.arrow_rows import record_batch
from ledger.warehouse.bigquery.errors import OutcomeLost
from ledger.warehouse.bigquery.locks import require_lock
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from ledger.warehouse.projection import Projection, span_of
from ledger.warehouse.rows import HeadRow

#: How often an append is made anew because another writer moved the session's head meanwhile.
RACES = 50
#: Sessions that a process remembers.
KNOWN_SESSIONS = 4096
#: Events of one session that are kept to be sent again as they were; during an outage every append leaves one.
UNSETTLED = 16
#: How long after an id was claimed its first event may still be on its way.
STALE = timedelta(days=1)


@dataclass(slots=True, weakref_slot=True, eq=False)
class CachedHead:
    """What this process knows of one session; its appends to it come one after the other, under ``lock``.

    Attributes:
        head: Where it stood when it was last looked at; None where that is not known.
        created_at: When it was created, by the last look; None where nobody has begun it.
        strict: Whether appends to it are checked; of no meaning without a head.
        lifetime: What stood in ``status`` and ``expires_at`` at ``head``, as JSON; None where that is not known.
        unsettled: Lenient events whose outcome is unknown, by event_id: sent again they must be the same rows, since
            the first ones may still arrive.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    head: Head | None = None
    created_at: datetime | None = None
    strict: bool = False
    lifetime: dict[str, str | None] | None = None
    unsettled: dict[str, _Made] = field(default_factory=dict)


class CachedHeads:
    """The sessions that this process appended to last; those in use are never forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_use: WeakValueDictionary[str, CachedHead] = WeakValueDictionary()
        self._recent: OrderedDict[str, CachedHead] = OrderedDict()

    def __getitem__(self, session_id: str) -> CachedHead:
        with self._lock:
            known = self._in_use.get(session_id)
            if known is None:
                known = self._in_use[session_id] = CachedHead()
            self._recent[session_id] = known
            self._recent.move_to_end(session_id)
            if len(self._recent) > KNOWN_SESSIONS:
                self._recent.popitem(last=False)
            return known

    def evict(self, session_ids: Iterable[str]) -> None:
        """Where these sessions stand has to be looked up again."""
        for session_id in session_ids:
            with self._lock:
                known = self._in_use.get(session_id)
            if known is not None:
                with known.lock:
                    known.head = None


class Appender:
    """Records one event at a time.

    Args:
        warehouse, projection: Of the dataset.
        store_id: Gives what is written into rows; not asked before the first append, as it may need credentials.
        strict: Whether sessions that begin here are to be strict.
        schema_version: Of the rows written.
    """

    def __init__(
        self,
        warehouse: BigQueryWarehouse,
        projection: Projection,
        store_id: Callable[[], str],
        *,
        strict: bool,
        schema_version: int,
    ) -> None:
        self._warehouse = warehouse
        self._projection = projection
        self._store_id = store_id
        self._strict = strict
        self._schema_version = schema_version
        # Transactions that update one table abort each other: those of one process need not even try.
        self._one_transaction = threading.Lock()

    def append(
        self,
        session_id: str,
        known: CachedHead,
        event: PreparedEvent,
        salt: Callable[[], str],
        expected: int,
        now: datetime,
    ) -> AppendResult:
        """Record an event; see ``EventStore.append``. To be called with the lock of ``known`` held.

        Raises:
            OutcomeLost: It may be recorded; ``known`` is to be forgotten.
        """
        for _ in range(RACES):
            version = self._look(session_id, known, event, expected)
            if version is not None:
                self._check_same(session_id, event, version)
                if known.head is not None:
                    check_owner(session_id, known.head.user_id, event)
                return AppendResult(session_id, version, event.event_id, replayed=True)
            head = known.head
            at, owner = (0, None) if head is None else (head.version, head.user_id)
            user_id = check_expected(session_id, at, owner, event, expected)
            if event.require_open and head is not None:
                self._check_open(known, head, now)
            strict = self._strict if head is None else known.strict
            if head is None:
                head = self._begin(session_id, user_id, strict, now, known.created_at)
            made = _Made(session_id, event, head, max(to_micros(now), to_micros(head.updated_at)))
            if strict:
                outcome, lost = self._append_checked(made, salt)
                if outcome == "recorded":
                    return self._found(session_id, known, event, lost)
                if outcome == "moved":  # somebody else was first: look again
                    known.head = None
                    continue
            else:
                made = self._append_lenient(made, known)
            if made.version > head.version:
                known.head = made.head_after(self._store_id())
                known.lifetime = _lifetime_after(known.lifetime if head.version else {}, event)
            known.strict = strict
            return AppendResult(session_id, made.version, event.event_id)
        raise StoreUnavailable(f"Session {session_id} is appended to by too many writers at once; nothing was written.")

    def look_up(self, session_id: str, known: CachedHead, event_id: str) -> int | None:
        """Find out where a session stands, and the version of one of its events; None where that is not there."""
        known.head = known.lifetime = None
        created_at = known.created_at = self._projection.creation_of(session_id)
        if created_at is None:
            return None
        standing = self._projection.standing(session_id, created_at, event_id)
        if standing is None:
            return None
        known.head, known.strict = standing.head, standing.strict
        return standing.event_version

    def _look(self, session_id: str, known: CachedHead, event: PreparedEvent, expected: int) -> int | None:
        """The version of the event where it is recorded; what is known well enough is not asked for."""
        head = known.head
        if head is None and event.creates_stream:
            return None
        if head is not None and not event.check_duplicate and expected in (ANY_VERSION, head.version):
            return None
        return self.look_up(session_id, known, event.event_id)

    def _check_open(self, known: CachedHead, head: Head, now: datetime) -> None:
        """Raise SessionEnded where the session takes no more events, as far as this process knows."""
        if known.lifetime is None:
            slots = self._projection.states({head.session_id: head.created_at})[head.session_id][1]
            known.lifetime = {field: slots[field, ""].text for field in FIELDS if (field, "") in slots}
        check_open(head.session_id, known.lifetime.get("status"), known.lifetime.get("expires_at"), now)

    def _begin(self, session_id: str, user_id: str, strict: bool, now: datetime, indexed: datetime | None) -> Head:
        """The head, at version 0, of a session that is about to begin.

        Args:
            indexed: When it was created, by the index: an earlier attempt may have come as far as that, and counts.
        """
        created_at = created_at_for(session_id, now)
        if created_at_of(session_id) is None:
            if strict:
                created_at = indexed or created_at
            else:
                created_at = self._claim(session_id, user_id, created_at, now)
        return Head(session_id, user_id, created_at, 0, from_micros(0), None, self._store_id())

    def _claim(self, session_id: str, user_id: str, created_at: datetime, now: datetime) -> datetime:
        """The creation time of a session that begins, the same for everybody who begins it."""
        parameters = {"session_id": session_id, "user_id": user_id, "created_at": created_at, "stale": now - STALE}
        with self._one_transaction:
            answer = self._warehouse.ask("claim_creation", catalog.query("claim_creation"), parameters)
        return from_micros(int(require_lock(answer.rows[0][0])))

    def _append_lenient(self, made: _Made, known: CachedHead) -> _Made:
        """Append rows; those of an earlier attempt whose outcome is not known, where there was one."""
        event_id = made.event.event_id
        before = known.unsettled.get(event_id)
        if before is not None and before.event[:3] == made.event[:3]:
            made = before
        rows = made.rows(
            [(*change, None, None) for change in made.event.changes], self._schema_version, self._store_id()
        )
        created = {made.session_id: made.head.created_at}

        def is_committed() -> bool:
            parameters = {**span_of(created), "event_id": made.event.event_id}
            answer = self._warehouse.run("find_lost_event", catalog.query("read_heads"), parameters)
            return any(HeadRow(*row).event_version is not None for row in answer.rows)

        try:
            self._warehouse.append("session_events", record_batch(rows), is_committed=is_committed)
        except OutcomeLost:
            known.unsettled[event_id] = made
            if len(known.unsettled) > UNSETTLED:
                del known.unsettled[next(iter(known.unsettled))]
            raise
        known.unsettled.pop(event_id, None)
        return made

    def _append_checked(self, made: _Made, salt: Callable[[], str]) -> tuple[str, bool]:
        """How the transaction went, and whether an answer was lost before this one.

        Asked again after a lost answer it finds the event, if that was recorded: nothing is written twice. And what was
        lost can do nothing any more once another has moved the head.
        """
        salts = [None if change.removed else salt() for change in made.event.changes]
        changes, made.event_hash = seal(
            made.head.event_hash, made.envelope(self._schema_version), made.event.changes, salts
        )
        parameters = made.parameters(changes, self._schema_version, self._store_id())

        def once(lost: bool) -> str:
            with self._one_transaction:
                answer = self._warehouse.run("append_checked", catalog.query("append_checked"), parameters)
            return require_lock(answer.rows[0][0])

        return self._warehouse.retry_non_idempotent("The checked append", once)

    def _found(self, session_id: str, known: CachedHead, event: PreparedEvent, lost: bool) -> AppendResult:
        """An event that is recorded: by this append, where its answer was lost, or by another of the same id."""
        try:
            version = self.look_up(session_id, known, event.event_id)
        except (StoreError, ConfigurationError) as error:
            raise OutcomeLost(f"The event is recorded, and its version cannot be read: {error}") from error
        if version is None:
            raise OutcomeLost(f"Event {event.event_id} was recorded a moment ago, and is not there now.")
        self._check_same(session_id, event, version)
        return AppendResult(session_id, version, event.event_id, replayed=not lost)

    def _check_same(self, session_id: str, event: PreparedEvent, version: int) -> None:
        """Raise IdempotencyConflict unless a recorded event is the one that is sent again."""
        recorded = [
            found
            for found in self._projection.events(session_id, after=version - 1, until=version, upcast=False)
            if found.event_id == event.event_id
        ]
        if not recorded:
            raise CorruptEvent(
                f"Session {session_id}, version {version}: the event cannot be read.", session_id=session_id
            )
        if recorded[0].event_type != event.event_type or slots_of(recorded[0]) != {tuple(it) for it in event.changes}:
            raise conflict(session_id, event.event_id)


def _lifetime_after(before: dict[str, str | None] | None, event: PreparedEvent) -> dict[str, str | None] | None:
    """What stands in a session's ``status`` and ``expires_at`` once an event follows; None where that is not known."""
    if before is None:
        return None
    return before | {change.field: change.text for change in event.changes if change.field in FIELDS}


def slots_of(event: RecordedEvent) -> set[tuple[str, str, str | None, bool]]:
    """What an event wrote: field, key, text and removed of each change."""
    return {(change.field, change.key, change.text, change.removed) for change in event.changes}


@dataclass(slots=True)
class _Made:
    """An event with its place behind a head; times are microseconds since 1970."""

    session_id: str
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
        """What ``event_hash`` covers of it."""
        event, head = self.event, self.head
        return (
            *(self.session_id, self.version, event.event_id, event.event_type, head.user_id, event.actor),
            *(self.occurred_at, self.recorded_at, to_micros(head.created_at), schema_version),
        )

    def rows(self, changes: Sequence[Sealed], schema_version: int, store_id: str) -> list[tuple[Any, ...]]:
        """Its rows, in the order of the table."""
        event = columns.EventValues(*self.envelope(schema_version), store_id, self.head.event_hash, self.event_hash)
        return [columns.row_of(event, change) for change in changes]

    def parameters(self, changes: Sequence[Sealed], schema_version: int, store_id: str) -> dict[str, Any]:
        """What ``append_checked`` takes."""
        event, head = self.event, self.head
        return {
            "session_id": self.session_id,
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
            "indexed": created_at_of(self.session_id) is None,
            "changes": [dict(zip(columns.CHANGE, change, strict=True)) for change in changes],
        }

    def head_after(self, store_id: str) -> Head:
        """Where the session stands with it."""
        head = self.head
        recorded_at = from_micros(self.recorded_at)
        return Head(
            self.session_id, head.user_id, head.created_at, self.version, recorded_at, self.event_hash, store_id
        )

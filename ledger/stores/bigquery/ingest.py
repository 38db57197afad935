"""Ingestion of events that another store recorded. A transaction writes them from a staging table."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ledger.errors import ConfigurationError, InvalidInput, StoreError, StoreUnavailable
from ledger.model.events import RecordedEvent
from ledger.model.ids import created_at_of
from ledger.model.values import check_session_id
from ledger.outbox import columns
from ledger.stores.bigquery.append import CLAIM_LIFETIME, MAX_ATTEMPTS, delete_claims
from ledger.stores.checks import EventInRows, IngestPlan, StreamHead, check_same, plan_ingest
from ledger.warehouse import catalog
from ledger.warehouse.arrow_rows import record_batch
from ledger.warehouse.bigquery.errors import OutcomeLost
from ledger.warehouse.bigquery.locks import require_lock
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from ledger.warehouse.projection import Projection, span_of
from ledger.warehouse.rows import HeadRow

_STAGING = "`${project}.${dataset}.session_staging`"
#: Statement that creates an empty table. The table expires after a day, in case its process does not drop it.
#: LIKE reads nothing; AS SELECT would read the streaming buffer.
_CREATE_STAGING = """
CREATE TABLE IF NOT EXISTS `${project}.${dataset}.session_staging`
LIKE `${project}.${dataset}.session_events`
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 DAY))
"""
_DROP_STAGING = "DROP TABLE IF EXISTS `${project}.${dataset}.session_staging`"


class _Stored(NamedTuple):
    """Heads and creation times, by session_id, of the sessions to ingest. Sessions that the dataset lacks are left out.

    Attributes:
        heads: The heads of the sessions that have events in the dataset.
        creations: The creation times of the sessions in ``heads``, of sessions whose id contains a creation time, and
            of sessions whose id was claimed less than ``CLAIM_LIFETIME`` ago.
        expired: Creation times that were claimed earlier, for sessions without an event. They are left from a crash or
            from retention.
    """

    heads: dict[str, StreamHead]
    creations: dict[str, datetime]
    expired: dict[str, datetime]


class Ingestion:
    """Ingestion of whole events into a dataset.

    Args:
        warehouse, projection: Access to the dataset.
        store_id: The id of the store that owns the sessions which the ingestion creates.
        strict: True to create strict sessions, False to create lenient ones.
    """

    def __init__(self, warehouse: BigQueryWarehouse, projection: Projection, store_id: str, *, strict: bool) -> None:
        self._warehouse = warehouse
        self._projection = projection
        self._store_id = store_id
        self._strict = strict

    def ingest(self, sessions: Mapping[str, list[RecordedEvent]], now: Callable[[], datetime]) -> int:
        """Record events, all or none; see ``EventStore.ingest``.

        Args:
            sessions: The events of each session, as ``by_session`` returns them.
            now: Function that returns the present time.

        Raises:
            OutcomeLost: The events may be recorded; ingest them again.
        """
        written = 0  # by a transaction whose answer was lost
        for _ in range(MAX_ATTEMPTS):
            claims_since = now() - CLAIM_LIFETIME
            try:
                stored = self._stored(sessions, claims_since)
                plans = {
                    session_id: plan
                    for session_id, events in sessions.items()
                    if (plan := self._plan(events, stored.heads.get(session_id), now()))
                }
            except (StoreError, ConfigurationError) as error:
                if written:
                    raise OutcomeLost(f"An answer was lost. Afterwards: {error}") from error
                raise
            if not plans:
                return written
            self._check_expiration(plans, stored, now())
            delete_claims(self._warehouse, {name: at for name, at in stored.expired.items() if name in plans})
            count = sum(len(plan.events) for plan in plans.values())
            outcome, answer_lost = self._write(plans, stored, claims_since)
            if outcome == "ingested":
                return count
            written = count if answer_lost else written
        raise StoreUnavailable(
            "The sessions have too many concurrent writers; nothing was written. Ingest the events again later."
        )

    def _stored(self, sessions: Mapping[str, list[RecordedEvent]], claims_since: datetime) -> _Stored:
        """Return the dataset's heads and creation times of these sessions.

        Raises:
            InvalidInput: Another writer is creating one of the sessions in this dataset with another creation time.
        """
        for session_id in sessions:
            check_session_id(session_id)
        creations = self._projection.creations_of(sessions)
        if not creations:
            return _Stored({}, creations, {})
        parameters = {**span_of(creations.items()), "event_id": ""}
        rows = self._warehouse.query(catalog.query("read_heads"), parameters, operation="read_heads").rows
        heads = {
            head.session_id: StreamHead(head.user_id, head.created_at, head.version, head.event_hash)
            for head in map(HeadRow._make, rows)
            if head.created_at == creations[head.session_id]
        }
        for session_id, created_at in creations.items():
            claimed = created_at_of(session_id) is None and session_id not in heads
            if claimed and sessions[session_id][0].created_at != created_at > claims_since:
                raise InvalidInput(
                    f"Session {session_id} is being created here by another writer, at {created_at.isoformat()}, and "
                    f"has created_at {sessions[session_id][0].created_at.isoformat()} in the events to ingest; "
                    "created_at never changes. Nothing was written; ingest the events under another id."
                )
        valid = {
            session_id: created_at
            for session_id, created_at in creations.items()
            if session_id in heads or created_at_of(session_id) is not None or created_at > claims_since
        }
        return _Stored(heads, valid, {name: at for name, at in creations.items() if name not in valid})

    def _plan(self, events: Sequence[RecordedEvent], head: StreamHead | None, now: datetime) -> IngestPlan | None:
        """Check that events can be added to a session; return those that are new, or None if there are none."""
        if head is None:
            return plan_ingest(events, None, lambda event: False, now)
        recorded = {event.event_id: event for event in self._projection.events(events[0].session_id, upcast=False)}

        def is_recorded(event: RecordedEvent) -> bool:
            twin = recorded.get(event.event_id)
            if twin is not None:
                check_same(event.session_id, event, EventInRows.of(twin))
            return twin is not None

        hashes = [event.event_hash for event in recorded.values() if event.event_hash is not None]
        return plan_ingest(events, head._replace(event_hash=hashes[-1] if hashes else None), is_recorded, now)

    def _check_expiration(self, plans: Mapping[str, IngestPlan], stored: _Stored, now: datetime) -> None:
        """Raise InvalidInput if the day of a session has expired, or the session would outlive it."""
        expiration = self._warehouse.expiration()
        for session_id, plan in plans.items():
            created_at = plan.events[0].created_at
            expiration.check_day(session_id, created_at, now)
            changes = (change for event in plan.events for change in event.changes)
            expiration.check_end(session_id, created_at, changes, is_new=session_id not in stored.heads)

    def _write(self, plans: Mapping[str, IngestPlan], stored: _Stored, claims_since: datetime) -> tuple[str, bool]:
        """Write events in one transaction; return its outcome and whether an answer was lost."""
        name = f"session_staging_{uuid.uuid4().hex}"
        span = span_of((session_id, plan.events[0].created_at) for session_id, plan in plans.items())
        parameters = {
            "heads": [
                _head_after(session_id, plan, stored.heads.get(session_id)) for session_id, plan in plans.items()
            ],
            "created_from": span["created_from"],
            "created_until": span["created_until"],
            "checked": self._strict,
            "indexed": sorted(session_id for session_id in plans if session_id not in stored.creations),
            "stale": claims_since,
            "store_id": self._store_id,
        }
        script = _with_staging(catalog.query("ingest_staged"), name)

        def call(answer_lost: bool) -> str:
            return require_lock(self._warehouse.run("ingest_staged", script, parameters).rows[0][0])

        self._warehouse.ask("create_staging", _with_staging(_CREATE_STAGING, name))
        try:
            rows = [row for plan in plans.values() for event in plan.events for row in _rows(event)]
            self._warehouse.append(name, record_batch(rows))
            return self._warehouse.retry_non_idempotent("The ingestion", call)
        finally:
            self._warehouse.drop_quietly(name, _with_staging(_DROP_STAGING, name))


def _with_staging(sql: str, name: str) -> str:
    """Return a statement that uses the staging table ``name`` in place of ``session_staging``."""
    return sql.replace(_STAGING, _STAGING.replace("session_staging", name))


def _head_after(session_id: str, plan: IngestPlan, before: StreamHead | None) -> dict[str, Any]:
    """Return a session's head after the new events, as a parameter of the statement ``ingest_staged``."""
    last = plan.events[-1]
    return {
        "session_id": session_id,
        "user_id": last.user_id,
        "created_at": last.created_at,
        "version": last.version,
        "updated_at": plan.updated_at,
        "event_hash": plan.event_hash or "",
        "version_before": 0 if before is None else before.version,
    }


def _rows(event: RecordedEvent) -> list[tuple[Any, ...]]:
    """Return an event's rows, each with the columns of ``session_events``."""
    values = columns.event_values(event)
    return [columns.row_of(values, change) for change in columns.change_values(event)]

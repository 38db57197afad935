"""Whole events, recorded elsewhere, into BigQuery: through a staging table, in one transaction."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ledger.errors import ConfigurationError, InvalidInput, StoreError, StoreUnavailable
from ledger.model.events import RecordedEvent
from ledger.model.ids import check_session_id, created_at_of
from ledger.outbox import columns
from ledger.stores.bigquery.append import RACES, STALE, slots_of
from ledger.stores.checks import IngestPlan, StreamHead, conflict, plan_ingest
from ledger.warehouse import catalog
from ledger.warehouse.arrow_rows import record_batch
from ledger.warehouse.bigquery.errors import OutcomeLost
from ledger.warehouse.bigquery.locks import require_lock
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from ledger.warehouse.projection import Projection, span_of
from ledger.warehouse.rows import HeadRow

_STAGING = "`${project}.${dataset}.session_staging`"
#: Without rows, and gone after a day, should whoever made it be gone before.
_CREATE_STAGING = """
CREATE TABLE IF NOT EXISTS `${project}.${dataset}.session_staging`
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 DAY))
AS SELECT * FROM `${project}.${dataset}.session_events` WHERE created_at < TIMESTAMP '1970-01-02 00:00:00+00'
"""
_DROP_STAGING = "DROP TABLE IF EXISTS `${project}.${dataset}.session_staging`"


class Ingestion:
    """Takes over whole events.

    Args:
        warehouse, projection: Of the dataset.
        store_id: The store that owns sessions which begin here by it.
        strict: Whether such sessions are strict.
    """

    def __init__(self, warehouse: BigQueryWarehouse, projection: Projection, store_id: str, *, strict: bool) -> None:
        self._warehouse = warehouse
        self._projection = projection
        self._store_id = store_id
        self._strict = strict

    def ingest(self, sessions: Mapping[str, list[RecordedEvent]], now: Callable[[], datetime]) -> int:
        """Take over the events of sessions, as ``by_session`` gives them, all or none; see ``EventStore.ingest``.

        Raises:
            OutcomeLost: They may be there; handing them in again finds out.
        """
        written = 0  # by a transaction whose answer was lost
        for _ in range(RACES):
            stale = now() - STALE
            try:
                standings, known = self._standings(sessions, stale)
                taken = {
                    session_id: found
                    for session_id, of_session in sessions.items()
                    if (found := self._taken(of_session, standings.get(session_id), now()))
                }
            except (StoreError, ConfigurationError) as error:
                if written:
                    raise OutcomeLost(f"An answer was lost. Afterwards: {error}") from error
                raise
            if not taken:
                return written
            count = sum(len(each.events) for each in taken.values())
            outcome, lost = self._write(taken, standings, known, stale)
            if outcome == "ingested":
                return count
            written = count if lost else written
        raise StoreUnavailable("Other writers went on with these sessions all the time; nothing was written.")

    def _standings(
        self, sessions: Mapping[str, list[RecordedEvent]], stale: datetime
    ) -> tuple[dict[str, StreamHead], dict[str, datetime]]:
        """Where sessions stand that are here, by id; and the creation times that are known here."""
        for session_id in sessions:
            check_session_id(session_id)
        known = self._projection.creations_of(sessions)
        if not known:
            return {}, known
        parameters = {**span_of(known), "event_id": ""}
        rows = self._warehouse.query(catalog.query("read_heads"), parameters, operation="read_heads").rows
        heads = [HeadRow(*row) for row in rows]
        standings = {
            head.session_id: StreamHead(head.user_id, head.created_at, head.version, head.event_hash)
            for head in heads
            if head.created_at == known[head.session_id]
        }
        for session_id, created_at in known.items():
            own = created_at_of(session_id) is None
            if own and session_id not in standings and sessions[session_id][0].created_at != created_at > stale:
                raise InvalidInput(
                    f"Session {session_id} is being begun here by somebody else, at {created_at.isoformat()}, and was "
                    f"created at {sessions[session_id][0].created_at.isoformat()} in what is brought in; created_at "
                    "never changes."
                )
        # An old entry of the index without events is what was left behind; it is put right along the way.
        return standings, {
            session_id: created_at
            for session_id, created_at in known.items()
            if session_id in standings or created_at_of(session_id) is not None or created_at > stale
        }

    def _taken(self, events: Sequence[RecordedEvent], standing: StreamHead | None, now: datetime) -> IngestPlan | None:
        if standing is None:
            return plan_ingest(events, None, lambda event: False, now)
        recorded = {event.event_id: event for event in self._projection.events(events[0].session_id, upcast=False)}

        def is_recorded(event: RecordedEvent) -> bool:
            found = recorded.get(event.event_id)
            if found is None:
                return False
            same = (found.version, found.event_type) == (event.version, event.event_type)
            if not same or slots_of(found) != slots_of(event) or _hashes_of(found) != _hashes_of(event):
                raise conflict(event.session_id, event.event_id)
            return True

        hashes = [event.event_hash for event in recorded.values() if event.event_hash is not None]
        return plan_ingest(events, standing._replace(event_hash=hashes[-1] if hashes else None), is_recorded, now)

    def _write(
        self,
        taken: Mapping[str, IngestPlan],
        standings: Mapping[str, StreamHead],
        known: Mapping[str, datetime],
        stale: datetime,
    ) -> tuple[str, bool]:
        """What became of the transaction, and whether an answer was lost before this one."""
        name = f"session_staging_{uuid.uuid4().hex}"
        created = {session_id: each.events[0].created_at for session_id, each in taken.items()}
        span = span_of(created)
        parameters = {
            "heads": [_head(session_id, each, standings.get(session_id)) for session_id, each in taken.items()],
            "created_from": span["created_from"],
            "created_until": span["created_until"],
            "checked": self._strict,
            "indexed": sorted(session_id for session_id in taken if session_id not in known),
            "stale": stale,
            "store_id": self._store_id,
        }
        script = _staged(catalog.query("ingest_staged"), name)

        def once(lost: bool) -> str:
            return require_lock(self._warehouse.run("ingest_staged", script, parameters).rows[0][0])

        self._warehouse.ask("create_staging", _staged(_CREATE_STAGING, name))
        try:
            rows = [row for each in taken.values() for event in each.events for row in _rows(event)]
            self._warehouse.append(name, record_batch(rows))
            return self._warehouse.retry_non_idempotent("The ingestion", once)
        finally:
            self._warehouse.drop_quietly(name, _staged(_DROP_STAGING, name))


def _staged(sql: str, name: str) -> str:
    return sql.replace(_STAGING, _STAGING.replace("session_staging", name))


def _head(session_id: str, taken: IngestPlan, standing: StreamHead | None) -> dict[str, Any]:
    last = taken.events[-1]
    return {
        "session_id": session_id,
        "user_id": last.user_id,
        "created_at": last.created_at,
        "version": last.version,
        "updated_at": taken.updated_at,
        "event_hash": taken.event_hash or "",
        "version_before": 0 if standing is None else standing.version,
    }


def _hashes_of(event: RecordedEvent) -> set[tuple[str, str, str | None]]:
    return {(change.field, change.key, change.value_hash) for change in event.changes}


def _rows(event: RecordedEvent) -> list[tuple[Any, ...]]:
    """An event's rows, in the order of the table."""
    values = columns.event_values(event)
    return [columns.row_of(values, change) for change in columns.change_values(event)]

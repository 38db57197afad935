"""The warehouse's side of ``reconcile``. Sessions and rows are compared by their digests, without reading values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ledger.clock import Clock, utc_now
from ledger.errors import InvalidInput
from ledger.model.events import RecordedEvent
from ledger.outbox.comparison import WarehouseRow
from ledger.outbox.row_digests import RowDigest, SessionDigest, SessionKey
from ledger.warehouse import catalog
from ledger.warehouse.base import Warehouse
from ledger.warehouse.projection import Projection, span_of


class ComparedRows:
    """Implementation of ``ComparableWarehouse`` over any warehouse that has the ledger's tables.

    Args:
        warehouse: The warehouse.
        clock: Source of the time at which days expire in the warehouse.
    """

    def __init__(self, warehouse: Warehouse, *, clock: Clock = utc_now) -> None:
        self._warehouse = warehouse
        self._clock = clock

    def has_dropped(self, session: SessionKey) -> bool:
        """Return True if the day on which a session was created has expired; see ``Warehouse.has_dropped``."""
        return self._warehouse.has_dropped(session.created_at, self._clock())

    def session_digests(
        self, created_from: datetime, created_until: datetime, *, store_id: str
    ) -> list[tuple[SessionKey, SessionDigest, bool]]:
        """Return the digest of each session created in a time span; see ``ComparableWarehouse.session_digests``.

        Returns:
            ``(key, digest, own)`` for each session. ``own`` is True if the store ``store_id`` wrote at least one
            row of the session.

        Source: sql/statements/reconcile_sessions.sql
        """
        parameters = {"created_from": created_from, "created_until": created_until, "store_id": store_id}
        answer = self._warehouse.query(catalog.query("reconcile_sessions"), parameters, operation="reconcile_sessions")
        return [
            (SessionKey(session_id, created_at), SessionDigest(rows, registers, version, digest), own)
            for session_id, created_at, rows, registers, version, digest, own in answer.rows
        ]

    def rows_of(self, sessions: Sequence[SessionKey]) -> dict[SessionKey, list[WarehouseRow]]:
        """Return the digests of all rows of some sessions; see ``ComparableWarehouse.rows_of``.

        Args:
            sessions: The sessions, at least one, in the order of their creation times.

        Source: sql/statements/reconcile_rows.sql
        """
        rows: dict[SessionKey, list[WarehouseRow]] = {}
        answer = self._warehouse.query(catalog.query("reconcile_rows"), span_of(sessions), operation="reconcile_rows")
        for session_id, created_at, *digest, store_id, copies in answer.rows:
            rows.setdefault(SessionKey(session_id, created_at), []).append(
                WarehouseRow(RowDigest(*digest), store_id, copies)
            )
        return rows

    def events(self, session: SessionKey, *, after: int) -> list[RecordedEvent]:
        """Return a session's events whose versions are above ``after``; see ``ComparableWarehouse.events``."""
        same_id = Projection(self._warehouse).events(session.session_id, after=after, upcast=False)
        events = [event for event in same_id if event.created_at == session.created_at]
        if not events:  # two stores created a session with the same caller-chosen id on different days
            raise InvalidInput(
                f"The warehouse finds another session with the id {session.session_id} than the one created at "
                f"{session.created_at.isoformat()}."
            )
        return events

"""The reference model: the answers that stores and warehouses must give, computed from all events of a session.

``ledger.model.fold`` computes states. This module computes heads, histories, and the events recorded by a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from ledger.model.events import LAST_VERSION, RecordedChange, RecordedEvent
from ledger.model.fold import Interval
from ledger.model.ids import creation_day
from ledger.model.session import Head
from ledger.model.values import canonical, decode
from ledger.warehouse import catalog
from ledger.warehouse.base import Warehouse
from ledger.warehouse.projection import Projection


def recorded_by(events: Iterable[RecordedEvent], at: datetime) -> list[RecordedEvent]:
    """Return the events recorded at or before ``at``. The state at that time is their fold."""
    return [event for event in events if event.recorded_at <= at]


def head_after(events: Sequence[RecordedEvent]) -> Head:
    """Return the head of a session after these events, of which there must be at least one."""
    last = max(events, key=lambda event: event.position)
    updated_at = max(event.recorded_at for event in events)
    return Head(
        last.session_id, last.user_id, last.created_at, last.version, updated_at, last.event_hash, last.store_id
    )


def history(events: Iterable[RecordedEvent]) -> list[Interval]:
    """Return each write to a register with the versions in which it holds, ordered by (version, event_id, field, key).

    A write is in the state at version v if its ``version`` is at most v, its ``superseded_by`` is None or above v, and
    it sets a value instead of removing it. Several events of one version may write the same register. Then only the
    write with the greatest event_id is ever in a state.
    """
    writes: dict[tuple[str, str], dict[tuple[int, str], RecordedChange]] = {}
    for event in events:
        for change in event.changes:
            writes.setdefault((change.field, change.key), {})[event.position] = change
    intervals = []
    for (field, key), by_position in writes.items():
        ordered = sorted(by_position)
        for index, (version, event_id) in enumerate(ordered):
            change = by_position[version, event_id]
            superseded_by = ordered[index + 1][0] if index + 1 < len(ordered) else None
            intervals.append(Interval(field, key, change.text, change.removed, version, event_id, superseded_by))
    return sorted(intervals, key=lambda write: (write.version, write.event_id, write.field, write.key))


def history_in(warehouse: Warehouse, session_id: str) -> list[Interval]:
    """Return the history of a session as a warehouse computes it; empty if the session does not exist.

    Source: sql/statements/read_events.sql
    """
    created_at = Projection(warehouse).creation_of(session_id)
    if created_at is None:
        return []
    first_day, next_day = creation_day(created_at)
    parameters = {
        "session_id": session_id,
        "first_day": first_day,
        "next_day": next_day,
        "after_version": 0,
        "until_version": LAST_VERSION,
        "versions": LAST_VERSION,
    }
    rows = warehouse.query(catalog.query("read_events"), parameters, operation="read_events").rows
    return [
        Interval(field, key, text and canonical(decode(text)), removed, version, event_id, superseded_by)
        for _, version, event_id, *_, field, key, text, removed, _, _, superseded_by in rows
    ]

"""The reference model of the scheduled statements: what each run makes of the tables, from the events that are there.

Source: sql/scheduled/
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from ledger.model.events import SCHEMA_VERSION, RecordedChange, RecordedEvent
from ledger.model.fold import fold
from ledger.model.instants import from_text
from ledger.model.lifetime import status_at
from ledger.model.session import Session
from ledger.testing.activity import items
from ledger.testing.activity_counts import Span, by_day
from ledger.testing.reference import head_after

#: A session: its id and its creation time.
Key = tuple[str, datetime]
_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def latest_row(events: Sequence[RecordedEvent]) -> dict[str, Any]:
    """Return the row of a session in ``sessions_latest``."""
    session = Session(head_after(events), fold(events))
    return {
        "session_id": session.session_id,
        "user_id": session.user_id,
        "day": session.created_at.date(),
        "status": session.recorded_status,
        "title": session.title,
        "question": session.question,
        "session_type": session.session_type,
        "summary": session.summary,
        "constraints": session.constraints,
        "response_plan": session.response_plan,
        "strategy": session.strategy,
        "tool_call_count": len(session.calls),
        "event_count": len({event.event_id for event in events}),
        "version": session.version,
        "expires_at": session.expires_at,
        "updated_at": session.updated_at,
        "created_at": session.created_at,
    }


def latest_after(
    table: Mapping[Key, Mapping[str, Any]],
    histories: Iterable[Sequence[RecordedEvent]],
    run_time: datetime,
    lookback_days: int,
) -> dict[Key, Mapping[str, Any]]:
    """Return ``sessions_latest`` after a run of ``sessions_latest``.

    Args:
        table: The table before the run.
        histories: The events of each session that is there.
        run_time, lookback_days: The parameters of the statement.
    """
    first_day = datetime.min.replace(tzinfo=UTC)
    if table:
        known_until = max(row["updated_at"] for row in table.values())
        first_day = _midnight(min(run_time, known_until) - lookback_days * _DAY)
    found = {(row["session_id"], row["created_at"]): row for row in map(latest_row, histories)}
    after = {key: row for key, row in table.items() if key[1] < first_day or key in found}
    for key, row in found.items():
        old = after.get(key)
        is_newer = old is None or row["version"] > old["version"] or row["event_count"] != old["event_count"]
        if key[1] >= first_day and is_newer:
            after[key] = row
    return after


def rollup_after(
    table: Mapping[date, Mapping[str, Any]],
    histories: Iterable[Sequence[RecordedEvent]],
    run_time: datetime,
    days: int,
    lookback_days: int,
) -> dict[date, Mapping[str, Any]]:
    """Return ``daily_rollup`` after a run of ``daily_rollup``.

    Args:
        table: The table before the run.
        histories: The events of each session that is there.
        run_time, days, lookback_days: The parameters of the statement.
    """
    next_day = _midnight(run_time)
    first_day = _EPOCH
    if table:
        first_day = min(next_day - days * _DAY, datetime.combine(max(table) + _DAY, datetime.min.time(), UTC))
    after = {day: row for day, row in table.items() if not first_day.date() <= day < next_day.date()}
    rows = [row for events in histories for row in items(events)]
    for begin in {_midnight(row["recorded_at"]) for row in rows}:
        if first_day <= begin < next_day:
            after |= {row["day"]: row for row in by_day(rows, Span(begin, begin + _DAY, lookback_days))}
    return after


def expirations(
    histories: Iterable[Sequence[RecordedEvent]],
    run_time: datetime,
    lookback_days: int,
    *,
    strict: Collection[Key] = (),
    relays: Collection[str] = (),
) -> list[RecordedEvent]:
    """Return the events that a run of ``expire_sessions`` records.

    Args:
        histories: The events of each session that is there.
        run_time, lookback_days: The parameters of the statement.
        strict: The strict sessions.
        relays: The stores that ship by a relay.
    """
    made = []
    for events in histories:
        head, state = head_after(events), fold(events)
        last = max(events, key=lambda event: event.position)
        status, end = state.get(("status", "")), state.get(("expires_at", ""))
        expires_at = None if end is None or end.value is None else from_text(end.value)
        recorded = None if status is None else status.value
        is_due = recorded != "expired" and status_at(recorded, expires_at, run_time) == "expired"
        is_ours = (head.session_id, head.created_at) not in strict and last.store_id not in relays
        if is_due and is_ours and head.created_at >= _midnight(run_time - lookback_days * _DAY):
            made.append(
                RecordedEvent(
                    session_id=head.session_id,
                    version=head.version + 1,
                    event_id=expiration_id(head.session_id, last.event_id),
                    event_type="session.expired",
                    changes=(RecordedChange("status", "", '"expired"', False),),
                    user_id=head.user_id,
                    actor=None,
                    occurred_at=run_time,
                    recorded_at=max(run_time, head.updated_at),
                    created_at=head.created_at,
                    schema_version=SCHEMA_VERSION,
                    store_id=last.store_id,
                )
            )
    return made


def expiration_id(session_id: str, last_event_id: str) -> str:
    """Return the id of the event by which ``expire_sessions`` expires a session after its last event."""
    text = hashlib.md5(f"{session_id}/{last_event_id}/session.expired".encode(), usedforsecurity=False).hexdigest()
    return f"{text[:8]}-{text[8:12]}-8{text[13:16]}-a{text[17:20]}-{text[20:]}"


def kept_sessions(
    histories: Iterable[Sequence[RecordedEvent]], run_time: datetime, retention_days: int, relays: Collection[str] = ()
) -> set[Key]:
    """Return the sessions that are there after a run of ``delete_old_sessions``.

    Args:
        histories: The events of each session that is there.
        run_time, retention_days: The parameters of the statement.
        relays: The stores that ship by a relay.
    """
    kept_from = _midnight(run_time) - retention_days * _DAY
    return {
        (head.session_id, head.created_at)
        for head in map(head_after, histories)
        if head.created_at >= kept_from or head.updated_at >= kept_from or head.store_id in relays
    }


def _midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)

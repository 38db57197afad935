"""Writing back the rows of an archived session, at the positions that they had before they were dropped."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from ledger.errors import CorruptEvent, StoreRejected
from ledger.model.events import RecordedEvent
from ledger.model.instants import to_micros
from ledger.stores.sqlite import tombstones as kept
from ledger.stores.sqlite import write
from ledger.stores.sqlite.rows import HeadRow

#: The reason recorded with restored rows that a relay must look up in its warehouse before it sends them.
REASON = "hydrated: it may be there"
_REQUEUE = (
    "INSERT INTO relay_aside (warehouse, seq, reason, put_at, state) VALUES (?, ?, ?, ?, 'asked') "
    "ON CONFLICT DO UPDATE SET state = 'asked'"
)


class Position(NamedTuple):
    """The position that an event had before the rows of its session were dropped.

    Attributes:
        version: The event's version.
        seq: The ``seq`` of its first row.
        rows: The number of its rows.
    """

    version: int
    seq: int
    rows: int


def positions_of(connection: sqlite3.Connection, session_id: str) -> dict[str, Position]:
    """Return the positions that a session's events had before its rows were dropped, by event_id."""
    sql = f"SELECT event_id, {', '.join(Position._fields)} FROM archived_events WHERE session_id = ?"  # noqa: S608
    return {event_id: Position(*position) for event_id, *position in connection.execute(sql, (session_id,)).fetchall()}


def check_same(
    session_id: str,
    head: HeadRow,
    events: Sequence[RecordedEvent],
    positions: Mapping[str, Position],
    warehouse: str,
) -> None:
    """Raise StoreRejected if archived events are missing, or CorruptEvent if the history differs in another way."""
    version = head.version
    by_id = {event.event_id: event for event in events}
    if missing := sorted(positions.keys() - by_id.keys()):
        raise StoreRejected(
            f"{warehouse} lacks {len(missing)} of the {len(positions)} events of session {session_id} that were "
            f"archived here, the first of them {missing[0]}; nothing was written. Open the ledger with the warehouse "
            "that it was shipped to, or restore that warehouse."
        )
    last = [event for event in events if event.version <= version]
    same = all(by_id[event_id].version == position.version for event_id, position in positions.items())
    hashed = next((event.event_hash for event in reversed(last) if event.event_hash is not None), None)
    fixed = {(event.user_id, to_micros(event.created_at)) for event in events} == {(head.user_id, head.created_at)}
    if not (same and fixed and len(last) == len(positions) and hashed == head.event_hash):
        raise CorruptEvent(
            f"Session {session_id}, version {version}: {warehouse} has another history than was archived here; nothing "
            "was written. See the differences with `ledger reconcile`, and restore the warehouse.",
            session_id=session_id,
            version=version,
        )


def write_events(
    connection: sqlite3.Connection, events: Sequence[RecordedEvent], positions: Mapping[str, Position]
) -> tuple[list[int], list[int]]:
    """Write events in order. Return the ``seq`` of the rows that the store had before, and those of the new rows."""
    before: list[int] = []
    new: list[int] = []
    for event in events:
        position = positions.get(event.event_id)
        if position is not None and position.rows != len(event.changes):
            raise CorruptEvent(
                f"Session {event.session_id}, version {event.version}: of the event's changes, {position.rows} were "
                f"archived here, and the warehouse has {len(event.changes)}; nothing was written. Restore it.",
                session_id=event.session_id,
                version=event.version,
            )
        written = write.write_recorded(connection, event, None if position is None else position.seq)
        (new if position is None else before).extend(written)
    return before, new


def mark_in_doubt(
    connection: sqlite3.Connection, before: Sequence[int], new: Sequence[int], warehouse: str, now: datetime
) -> None:
    """Mark restored rows in doubt, so that each relay looks them up in its warehouse before it sends them.

    For the relay to ``warehouse``, only the rows above that relay's checkpoint are marked. The warehouse has all of the
    rows, but without the mark the relay would ship the rows above its checkpoint as new ones. For all other relays,
    every row is marked.
    """
    for name in {*kept.warehouses(connection), warehouse}:
        connection.execute("INSERT INTO relays (warehouse) VALUES (?) ON CONFLICT DO NOTHING", (name,))
        (checkpoint,) = connection.execute("SELECT checkpoint FROM relays WHERE warehouse = ?", (name,)).fetchone()
        rows = [seq for seq in (*before, *new) if name != warehouse or seq > checkpoint]
        connection.executemany(_REQUEUE, [(name, seq, REASON, to_micros(now)) for seq in rows])

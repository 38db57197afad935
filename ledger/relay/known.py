"""Which of a store's rows a warehouse has: asked where a relay cannot know."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta

from ledger.model.instants import from_micros
from ledger.relay.base import Row, Slot, slot_of
from ledger.warehouse import catalog
from ledger.warehouse.base import Warehouse

#: Events in one question: their ids are parameters, and a statement with its parameters takes at most 10 MB.
_AT_ONCE = 2_000
_CREATED = 13


def known_rows(warehouse: Warehouse, rows: Sequence[Row]) -> Collection[Slot]:
    """The slots among these rows' that a warehouse holds.

    Source: sql/statements/known_rows.sql
    """
    wanted = {slot_of(row) for row in rows}
    found: set[Slot] = set()
    created = sorted({row[_CREATED] for row in rows})
    events = sorted({slot.event_id for slot in wanted})
    for start in range(0, len(events), _AT_ONCE):
        some = events[start : start + _AT_ONCE]
        parameters = {
            "session_ids": sorted({slot.session_id for slot in wanted}),
            "event_ids": some,
            "created_from": from_micros(created[0]),
            "created_until": from_micros(created[-1]) + timedelta(microseconds=1),
        }
        answer = warehouse.query(catalog.query("known_rows"), parameters, operation="known_rows")
        found.update(Slot(*row) for row in answer.rows)
    return found & wanted

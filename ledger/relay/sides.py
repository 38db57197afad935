"""A warehouse's side of a comparison with a store: its rows without their values, so many sessions at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from ledger.relay.traces import SessionKey, Trace
from ledger.warehouse import catalog
from ledger.warehouse.base import Warehouse

#: Sessions in one question about rows, and about how many rows they have: their ids are parameters, and the rows of
#: both sides are in memory together.
SESSIONS_AT_ONCE, ROWS_AT_ONCE = 500, 200_000


class Found(NamedTuple):
    """Rows of the warehouse that are the same in every word that is compared."""

    trace: Trace
    store_id: str
    copies: int


def parts(sizes: Mapping[SessionKey, int]) -> Iterator[list[SessionKey]]:
    """Sessions in parts of so few rows that both sides' can be compared in memory; at least one in each."""
    part: list[SessionKey] = []
    rows = 0
    for session, size in sizes.items():
        if part and (len(part) == SESSIONS_AT_ONCE or rows + size > ROWS_AT_ONCE):
            yield part
            part, rows = [], 0
        part.append(session)
        rows += size
    if part:
        yield part


def rows_of(warehouse: Warehouse, sessions: Sequence[SessionKey]) -> dict[SessionKey, list[Found]]:
    """What the warehouse has of some sessions, which are in the order of their creation."""
    parameters = {
        "session_ids": sorted({session.session_id for session in sessions}),
        "created_from": sessions[0].created_at,
        "created_until": sessions[-1].created_at + timedelta(microseconds=1),
    }
    found: dict[SessionKey, list[Found]] = {}
    answer = warehouse.query(catalog.query("reconcile_rows"), parameters, operation="reconcile_rows")
    for session_id, created_at, *trace, store_id, copies in answer.rows:
        found.setdefault(SessionKey(session_id, created_at), []).append(Found(Trace(*trace), store_id, copies))
    return found

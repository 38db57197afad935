"""A store's rows with their sequence numbers, and functions that identify a row and its event."""

from __future__ import annotations

from operator import itemgetter
from typing import Any, NamedTuple

from ledger.outbox import columns

#: A row of a store with its sequence number: ``(seq, *row)``, where ``row`` has the columns of
#: ``ledger.outbox.columns``. It is a plain tuple, because a named tuple would add 4 % to a relay's work.
Row = tuple[Any, ...]
#: Position of the sequence number in a ``Row``.
SEQ = 0


def index_of(name: str) -> int:
    """Return the position of a column in a ``Row``. Callers look it up once, when their module is loaded."""
    return 1 + columns.position(name)


_SESSION, _EVENT, _FIELD, _KEY = map(index_of, ("session_id", "event_id", "field", "key"))
#: Function that returns the parts of a row by which a batch is identified. The event hash stands for the values.
batch_identity = itemgetter(SEQ, _EVENT, _FIELD, _KEY, index_of("event_hash"))


class RowKey(NamedTuple):
    """Primary key of a row."""

    session_id: str
    event_id: str
    field: str
    key: str


def row_key(row: Row) -> RowKey:
    """Return the primary key of a row."""
    return RowKey(row[_SESSION], row[_EVENT], row[_FIELD], row[_KEY])


def event_key(row: Row) -> tuple[str, str]:
    """Return the event that a row belongs to: ``(session_id, event_id)``."""
    return row[_SESSION], row[_EVENT]

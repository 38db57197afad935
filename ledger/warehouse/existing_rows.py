"""Find out which of a relay's rows in doubt are already in the warehouse."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from ledger.model.instants import from_micros
from ledger.outbox.rows import Row, RowKey, event_key, index_of, row_key
from ledger.warehouse import catalog
from ledger.warehouse.base import Warehouse
from ledger.warehouse.projection import span_of

#: Maximum total size of the ids in one query, in bytes. It is far below the 10 MB that BigQuery accepts per request,
#: because wrapping and escaping make each id longer.
_MAX_ID_BYTES = 1_000_000
_CREATED_AT = index_of("created_at")


def existing_rows(warehouse: Warehouse, rows: Sequence[Row]) -> set[RowKey]:
    """Return the keys of the given rows that a warehouse already has, no matter which relay sent them.

    Raises:
        StoreUnavailable: The warehouse cannot be reached.

    Source: sql/statements/existing_rows.sql
    """
    keys: set[RowKey] = set()
    for part in _parts(rows):
        sessions = {(row_key(row).session_id, from_micros(row[_CREATED_AT])) for row in part}
        parameters = {**span_of(sorted(sessions)), "event_ids": sorted({row_key(row).event_id for row in part})}
        answer = warehouse.query(catalog.query("existing_rows"), parameters, operation="existing_rows")
        keys.update(RowKey(*row) for row in answer.rows)
    return keys.intersection(map(row_key, rows))


def _parts(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Split rows into parts. The ids of each part are few enough for one query."""
    part: list[Row] = []
    part_ids: set[str] = set()
    size = 0
    for row in rows:
        ids = set(event_key(row))
        more = sum(len(json.dumps(each)) for each in ids - part_ids)
        if part and size + more > _MAX_ID_BYTES:
            yield part
            part, part_ids, size = [], set(), 0
            more = sum(len(json.dumps(each)) for each in ids)
        part.append(row)
        part_ids |= ids
        size += more
    if part:
        yield part

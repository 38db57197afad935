"""Which of a store's rows a warehouse has: asked where a relay cannot know."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from ledger.model.instants import from_micros
from ledger.outbox.contract import Row, RowKey, event_key, index_of, row_key
from ledger.warehouse import catalog
from ledger.warehouse.base import Warehouse
from ledger.warehouse.projection import span_of

#: Bytes of ids in one question: BigQuery takes a request of 10 MB, in which each id is wrapped and escaped.
_ASKED_BYTES = 1_000_000
_CREATED_AT = index_of("created_at")


def existing_rows(warehouse: Warehouse, rows: Sequence[Row]) -> set[RowKey]:
    """The slots among these rows' that a warehouse holds, whoever brought them.

    Raises:
        StoreUnavailable: It cannot answer now.

    Source: sql/statements/existing_rows.sql
    """
    found: set[RowKey] = set()
    for part in _asked_together(rows):
        created = {row_key(row).session_id: from_micros(row[_CREATED_AT]) for row in part}
        parameters = {**span_of(created), "event_ids": sorted({row_key(row).event_id for row in part})}
        answer = warehouse.query(catalog.query("existing_rows"), parameters, operation="existing_rows")
        found.update(RowKey(*row) for row in answer.rows)
    return found.intersection(map(row_key, rows))


def _asked_together(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows in parts whose ids fit a question."""
    part: list[Row] = []
    asked: set[str] = set()
    size = 0
    for row in rows:
        ids = set(event_key(row))
        more = sum(len(json.dumps(each)) for each in ids - asked)
        if part and size + more > _ASKED_BYTES:
            yield part
            part, asked, size = [], set(), 0
            more = sum(len(json.dumps(each)) for each in ids)
        part.append(row)
        asked |= ids
        size += more
    if part:
        yield part

"""A store's rows as Arrow: the columns of ``sql/tables/session_events.sql`` and their types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ledger.errors import CorruptEvent

_INSTANT = pa.timestamp("us")
#: Column to Arrow type, in the order of the table; JSON travels as text.
COLUMNS: dict[str, pa.DataType] = {
    "session_id": pa.string(),
    "version": pa.int64(),
    "event_id": pa.string(),
    "event_type": pa.string(),
    "field": pa.string(),
    "key": pa.string(),
    "value": pa.string(),
    "removed": pa.bool_(),
    "user_id": pa.string(),
    "actor": pa.string(),
    "occurred_at": _INSTANT,
    "recorded_at": _INSTANT,
    "created_at": _INSTANT,
    "schema_version": pa.int64(),
    "store_id": pa.string(),
    "value_hash": pa.string(),
    "value_salt": pa.string(),
    "prev_hash": pa.string(),
    "event_hash": pa.string(),
}


def arrow_table(rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """A store's rows as Arrow.

    Args:
        rows: ``(seq, *row)``; times in microseconds since 1970, ``removed`` as 0 or 1, values as JSON text.

    Raises:
        CorruptEvent: A row does not have the columns and types it must.
    """
    try:
        seqs, *columns = zip(*rows, strict=True)
        arrays = [_array(values, kind) for values, kind in zip(columns, COLUMNS.values(), strict=True)]
        return pa.table([pa.array(seqs, pa.int64()), *arrays], names=["seq", *COLUMNS])
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise CorruptEvent(f"Rows {rows[0][0]} to {rows[-1][0]} of the store are not as recorded: {error}") from error


def record_batch(rows: Sequence[tuple[Any, ...]]) -> pa.RecordBatch:
    """Rows of the table as BigQuery's Storage Write API takes them: instants carry their zone.

    Args:
        rows: Rows without ``seq``; times in microseconds since 1970, values as JSON text.
    """
    arrays = [_array(values, kind) for values, kind in zip(zip(*rows, strict=True), COLUMNS.values(), strict=True)]
    zoned = [array.cast(pa.timestamp("us", tz="UTC")) if array.type == _INSTANT else array for array in arrays]
    return pa.RecordBatch.from_arrays(zoned, names=list(COLUMNS))


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if kind == pa.bool_():  # Arrow takes no 0 and 1 for booleans
        return pa.array([bool(value) for value in values], kind)
    return pa.array(values, kind)

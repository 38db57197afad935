"""Convert a store's rows to Arrow. The columns are those of ``ledger.outbox.columns``; JSON values become strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ledger.errors import CorruptEvent
from ledger.outbox import columns
from ledger.outbox.columns import Kind
from ledger.outbox.rows import SEQ, Row
from ledger.warehouse.json_numbers import exactly_parsable

_INSTANT = pa.timestamp("us")
_TYPES = {
    Kind.TEXT: pa.string(),
    Kind.INTEGER: pa.int64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.INSTANT: _INSTANT,
    Kind.JSON: pa.string(),
}
#: Maps the name of each column to its Arrow type, in the column order of ``session_events``.
COLUMNS: dict[str, pa.DataType] = {column.name: _TYPES[column.kind] for column in columns.COLUMNS}
_VALUE = columns.position("value")
_UTC = pa.timestamp("us", tz="UTC")
#: The columns as they are outside of this process: times have the time zone UTC, and most columns are never NULL.
SCHEMA = pa.schema(
    [
        pa.field(it.name, _UTC if COLUMNS[it.name] == _INSTANT else COLUMNS[it.name], it.nullable)
        for it in columns.COLUMNS
    ]
)


def arrow_table(rows: Sequence[Row]) -> pa.Table:
    """Return a store's rows as an Arrow table, whose first column is ``seq``.

    Args:
        rows: Each row is ``(seq, *row)``. Times are integers (microseconds since 1970), ``removed`` is 0 or 1, and
            values are JSON text.

    Raises:
        CorruptEvent: A row has a wrong number of columns, or a value has a wrong type.
    """
    try:
        seqs, *by_column = zip(*rows, strict=True)
        arrays = [_array(values, kind) for values, kind in zip(by_column, COLUMNS.values(), strict=True)]
        return pa.table([pa.array(seqs, pa.int64()), *arrays], names=["seq", *COLUMNS])
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise CorruptEvent(
            f"Rows {rows[0][SEQ]} to {rows[-1][SEQ]} of the store have wrong columns or types: {error}"
        ) from error


def exact_batch(rows: Sequence[tuple[Any, ...]]) -> pa.RecordBatch:
    """Return rows as a record batch with the schema ``SCHEMA``. Values keep their text.

    Args:
        rows: Rows without ``seq``. Times are integers (microseconds since 1970), and values are JSON text.
    """
    by_column = zip(*rows, strict=True)
    arrays = [_array(values, kind) for values, kind in zip(by_column, COLUMNS.values(), strict=True)]
    zoned = [array.cast(_UTC) if array.type == _INSTANT else array for array in arrays]
    return pa.RecordBatch.from_arrays(zoned, schema=SCHEMA)


def record_batch(rows: Sequence[tuple[Any, ...]]) -> pa.RecordBatch:
    """Return rows as a record batch for BigQuery's Storage Write API. Its values are spelled so that it accepts them.

    Args:
        rows: As for ``exact_batch``.
    """
    return exact_batch(
        [(*row[:_VALUE], row[_VALUE] and exactly_parsable(row[_VALUE]), *row[_VALUE + 1 :]) for row in rows]
    )


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if kind == pa.bool_():  # Arrow does not convert 0 and 1 to booleans
        return pa.array([bool(value) for value in values], kind)
    return pa.array(values, kind)

"""Convert the values of a DuckDB result to Python: JSON is decoded, and times become timezone-aware datetimes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

Decoder = Callable[[Any], Any]


def column_decoders(description: Sequence[Any]) -> list[tuple[int, Decoder]]:
    """Return ``(column index, decoder)`` for each column whose values need decoding.

    Args:
        description: The columns of the result, as in DB-API's ``Cursor.description``.
    """
    types = [(index, str(column[1])) for index, column in enumerate(description)]
    return [(index, _BY_TYPE[name]) for index, name in types if name in _BY_TYPE]


def decode_rows(rows: list[tuple[Any, ...]], decoders: Sequence[tuple[int, Decoder]]) -> list[tuple[Any, ...]]:
    """Decode the columns that ``decoders`` lists, and return the changed rows. NULL stays None."""
    if not decoders:
        return rows
    result = []
    for row in rows:
        values = list(row)
        for index, decode in decoders:
            if values[index] is not None:
                values[index] = decode(values[index])
        result.append(tuple(values))
    return result


def _as_utc(instant: datetime) -> datetime:
    return instant.replace(tzinfo=UTC)


def _decode_json_list(texts: Sequence[str | None]) -> list[Any]:
    return [None if text is None else orjson.loads(text) for text in texts]


_BY_TYPE: Mapping[str, Decoder] = {"JSON": orjson.loads, "TIMESTAMP": _as_utc, "JSON[]": _decode_json_list}

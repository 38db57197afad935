"""Values of a DuckDB result as Python's: JSON decoded, instants aware."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

Decoder = Callable[[Any], Any]


def decoders(description: Sequence[Any]) -> list[tuple[int, Decoder]]:
    """What to do to which column of a DuckDB result, from its DB-API description."""
    kinds = [(index, str(column[1])) for index, column in enumerate(description)]
    return [(index, _BY_TYPE[kind]) for index, kind in kinds if kind in _BY_TYPE]


def decoded(rows: list[tuple[Any, ...]], columns: Sequence[tuple[int, Decoder]]) -> list[tuple[Any, ...]]:
    """The rows with the given columns decoded; NULL stays None."""
    if not columns:
        return rows
    result = []
    for row in rows:
        values = list(row)
        for index, decode in columns:
            if values[index] is not None:
                values[index] = decode(values[index])
        result.append(tuple(values))
    return result


def _aware(instant: datetime) -> datetime:
    return instant.replace(tzinfo=UTC)


def _each_json(texts: Sequence[str | None]) -> list[Any]:
    return [None if text is None else orjson.loads(text) for text in texts]


_BY_TYPE: Mapping[str, Decoder] = {"JSON": orjson.loads, "TIMESTAMP": _aware, "JSON[]": _each_json}

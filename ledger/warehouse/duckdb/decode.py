"""Convert the values of a DuckDB result to Python, and name its types as GoogleSQL does."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, cast

import orjson

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

Decoder = Callable[[Any], Any]

#: GoogleSQL's names of DuckDB's types. A column of NULLs is an INT64 in BigQuery too.
_NAMES = {
    **dict.fromkeys(("tinyint", "smallint", "integer", "bigint", "hugeint", "utinyint", "usmallint"), "INT64"),
    **dict.fromkeys(("uinteger", "ubigint", "uhugeint", "sqlnull", "null"), "INT64"),
    **dict.fromkeys(("double", "float"), "FLOAT64"),
    **dict.fromkeys(("timestamp", "timestamp with time zone"), "TIMESTAMP"),
    "boolean": "BOOL",
    "varchar": "STRING",
    "blob": "BYTES",
    "date": "DATE",
    "time": "TIME",
    "interval": "INTERVAL",
}


def googlesql_type(kind: DuckDBPyType) -> str:
    """Return GoogleSQL's name of a DuckDB type."""
    if str(kind) == "JSON":
        return "JSON"
    if kind.id in ("list", "array"):
        return f"ARRAY<{googlesql_type(_element(kind))}>"
    if kind.id in ("struct", "tuple"):
        return f"STRUCT<{', '.join(f'{name} {googlesql_type(inner)}' for name, inner in _fields(kind))}>"
    if kind.id == "decimal":
        return "NUMERIC" if cast("int", dict(kind.children)["scale"]) <= 9 else "BIGNUMERIC"
    return _NAMES.get(kind.id, str(kind))


def _element(kind: DuckDBPyType) -> DuckDBPyType:
    return cast("DuckDBPyType", kind.children[0][1])


def _fields(kind: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    """Return the names and types of a STRUCT's fields; one without a name is named as by BigQuery."""
    fields = cast("list[tuple[str, DuckDBPyType]]", kind.children)
    return [
        (f"_field_{place + 1}" if name in ("", f"_{place}") else name, inner)
        for place, (name, inner) in enumerate(fields)
    ]


def decode_rows(
    rows: list[tuple[Any, ...]], description: Sequence[Any], civil: Set[int] = frozenset()
) -> list[tuple[Any, ...]]:
    """Return the rows with JSON decoded and with timezone-aware times. NULL stays None.

    Args:
        rows: The rows of a result.
        description: The columns of the result, as in DB-API's ``Cursor.description``.
        civil: Positions of columns whose times have no time zone.
    """
    decoders = [
        (index, decode)
        for index, column in enumerate(description)
        if index not in civil and (decode := _decoder(column[1])) is not None
    ]
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


def _decoder(kind: DuckDBPyType) -> Decoder | None:
    """Return the function that decodes values of a type other than NULL; None if they need no decoding."""
    if str(kind) == "JSON":
        return orjson.loads
    if kind.id == "timestamp":
        return _as_utc
    if kind.id == "decimal":
        return _as_short
    if kind.id in ("list", "array"):
        item = _decoder(_element(kind))
        return None if item is None else lambda values: [None if it is None else item(it) for it in values]
    if kind.id in ("struct", "tuple"):
        names = [name for name, _ in _fields(kind)]
        parts = {name: decode for name, inner in _fields(kind) if (decode := _decoder(inner)) is not None}
        if names == [name for name, _ in kind.children]:
            return (lambda value: _decode_struct(value, parts)) if parts else None
        return lambda value: _decode_struct(_named(value, names), parts)
    return None


def _named(value: dict[str, Any] | tuple[Any, ...], names: list[str]) -> dict[str, Any]:
    """Return a STRUCT's value with other names; DuckDB gives a tuple if no field has a name."""
    values = value.values() if isinstance(value, dict) else value
    return dict(zip(names, values, strict=True))


def _decode_struct(value: dict[str, Any], parts: dict[str, Decoder]) -> dict[str, Any]:
    return {name: parts[name](it) if name in parts and it is not None else it for name, it in value.items()}


def _as_utc(instant: datetime) -> datetime:
    return instant.replace(tzinfo=UTC)


#: NUMERIC has 38 digits; the default context would round to 28.
_EXACT = Context(prec=38)


def _as_short(number: Decimal) -> Decimal:
    """Return the number without trailing zeros, as BigQuery does."""
    return Decimal(int(number)) if number == int(number) else number.normalize(_EXACT)

"""The answer to a SELECT: rows, and the same rows as dictionaries, as an Arrow table and as a pandas DataFrame."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ledger.errors import InvalidInput
from ledger.extras import require_extra
from ledger.model.display import html_of_rows

if TYPE_CHECKING:
    import pandas
    import pyarrow as pa

_ARRAY = re.compile(r"ARRAY<(.+)>", re.DOTALL)
_STRUCT = re.compile(r"STRUCT<(.*)>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a query. Iterating over an answer yields its rows as dictionaries, ``answer[0]`` is the first.

    Attributes:
        columns: Column names, in order.
        rows: One tuple per row. JSON values are decoded (JSON null and SQL NULL are both None). Timestamps are
            timezone-aware datetimes in UTC.
        types: GoogleSQL type of each column, such as ``STRING`` or ``ARRAY<INT64>``.
        bytes_processed: Bytes that BigQuery read for the query, on which its price depends. 0 if BigQuery had the
            result in its cache; None if no bytes are billed, as on a DuckDB file, or if BigQuery did not say.
        bytes_billed: Bytes that BigQuery billed for the query: rounded up, at least 10 MB for each table that it names;
            None as for ``bytes_processed``. ``cost_usd`` is their price.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    types: tuple[str, ...] = ()
    bytes_processed: int | None = field(default=None, compare=False)
    bytes_billed: int | None = field(default=None, compare=False)

    @property
    def cost_usd(self) -> float | None:
        """The list price of ``bytes_billed`` on demand, in US dollars; None if they are not known.

        The TiB that is free each month is not subtracted, and a project that pays for slots is not billed by bytes.
        """
        from ledger.warehouse.bigquery.list_prices import query_usd

        return None if self.bytes_billed is None else query_usd(self.bytes_billed)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(zip(self.columns, self.rows[operator.index(index)], strict=True))

    def __len__(self) -> int:
        return len(self.rows)

    def _repr_html_(self) -> str:
        return html_of_rows(f"{len(self)} row{'' if len(self) == 1 else 's'}.", self.columns, self.rows)

    def to_arrow(self) -> pa.Table:
        """Return the rows as an Arrow table. Its types follow from ``types``; a JSON value is its JSON text.

        An INTERVAL is a duration, in which a day has 24 hours.

        Raises:
            InvalidInput: A column has a type that has no Arrow form here, such as GEOGRAPHY, an INTERVAL with months,
                or an integer beyond 64 bits, which a sum over a DuckDB file can be.
            MissingExtra: pyarrow is not installed.
        """
        require_extra("analytics", "pyarrow")
        import pyarrow as pa

        values = list(zip(*self.rows, strict=True)) or [()] * len(self.columns)
        columns = []
        for name, kind, column in zip(self.columns, self.types, values, strict=True):
            try:
                differs = "JSON" in kind or "INTERVAL" in kind
                plain = [_arrow_value(value, kind) for value in column] if differs else list(column)
                columns.append(pa.array(plain, _arrow_type(kind)))
            except (pa.ArrowException, TypeError) as error:
                raise InvalidInput(f"The column {name} ({kind}) has no Arrow form: {error}") from error
            except OverflowError as error:  # DuckDB sums INT64s to larger integers
                raise InvalidInput(
                    f"The column {name} ({kind}) has a value beyond 64 bits, which no INT64 has."
                ) from error
        return pa.table(dict(zip(self.columns, columns, strict=True)))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return ``to_arrow`` as an Arrow stream, which polars and others read: ``polars.DataFrame(answer)``."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def to_frame(self) -> pandas.DataFrame:
        """Return the rows as a pandas DataFrame.

        The dtypes follow from ``types``, never from the values. As in ``to_dataframe`` of BigQuery's client, INT64 is
        always pandas' ``Int64`` and BOOL always ``boolean``, in which NULL is ``pandas.NA``: as float64, a column with
        NULLs would lose digits. TIMESTAMP is ``datetime64[us, UTC]`` and DATETIME ``datetime64[us]``, with NaT for
        NULL, and INTERVAL ``timedelta64[us]``. A JSON column has the dtype object and holds decoded values. The other
        types are those of ``pyarrow.Table.to_pandas``. An answer gives the same DataFrame on BigQuery and on DuckDB.

        Raises:
            InvalidInput: A column has a type that has no Arrow form here, such as GEOGRAPHY, an INTERVAL with months,
                or an integer beyond 64 bits, which a sum over a DuckDB file can be.
            MissingExtra: pandas or pyarrow is not installed.
        """
        require_extra("analytics", "pandas", "pyarrow")
        import pandas
        import pyarrow as pa

        nullable = {pa.int64(): pandas.Int64Dtype(), pa.bool_(): pandas.BooleanDtype()}
        frame: pandas.DataFrame = self.to_arrow().to_pandas(types_mapper=nullable.get)
        for index, kind in enumerate(self.types):
            if "JSON" in kind:  # dtype object: pandas would turn integers into floats if another row is None
                decoded = pandas.Series([row[index] for row in self.rows], frame.index, object)
                frame[self.columns[index]] = decoded
        return frame


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a statement would read.

    Attributes:
        bytes_processed: Bytes that BigQuery would read; None if no bytes are billed, as on a DuckDB file.
    """

    bytes_processed: int | None

    @property
    def cost_usd(self) -> float | None:
        """The list price of these bytes on demand, in US dollars, without the minimum of 10 MB for each table."""
        from ledger.warehouse.bigquery.list_prices import query_usd

        return None if self.bytes_processed is None else query_usd(self.bytes_processed)


def array_of(kind: str) -> str | None:
    """Return the element type of a GoogleSQL ARRAY type; None for any other type."""
    match = _ARRAY.fullmatch(kind)
    return match[1] if match else None


def fields_of(kind: str) -> list[tuple[str, str]] | None:
    """Return the fields of a GoogleSQL STRUCT type as ``(name, type)``; None for any other type."""
    match = _STRUCT.fullmatch(kind)
    if match is None:
        return None
    fields, depth, start = [], 0, 0
    for position, character in enumerate(match[1] + ","):
        depth += (character in "<(") - (character in ">)")
        if character == "," and depth == 0:
            name, _, inner = match[1][start:position].strip().partition(" ")
            fields.append((name, inner))
            start = position + 1
    return fields


def _arrow_type(kind: str) -> pa.DataType:
    import pyarrow as pa

    if (element := array_of(kind)) is not None:
        return pa.list_(_arrow_type(element))
    if (fields := fields_of(kind)) is not None:
        return pa.struct([(name, _arrow_type(inner)) for name, inner in fields])
    plain = {
        "STRING": pa.string(),
        "JSON": pa.string(),
        "INT64": pa.int64(),
        "FLOAT64": pa.float64(),
        "BOOL": pa.bool_(),
        "BYTES": pa.binary(),
        "DATE": pa.date32(),
        "TIME": pa.time64("us"),
        "DATETIME": pa.timestamp("us"),
        "TIMESTAMP": pa.timestamp("us", "UTC"),
        "INTERVAL": pa.duration("us"),
        "NUMERIC": pa.decimal128(38, 9),
        "BIGNUMERIC": pa.decimal256(76, 38),
    }
    if kind not in plain:
        raise TypeError(f"{kind} values must be converted in the statement, for example by CAST(... AS STRING)")
    return plain[kind]


def _arrow_value(value: Any, kind: str) -> Any:
    """Return a value with each JSON value as its JSON text and each INTERVAL as a timedelta. None stays None."""
    if value is None:
        return None
    if kind == "JSON":
        from ledger.model.values import canonical

        return canonical(value)
    if kind == "INTERVAL":
        return value if isinstance(value, timedelta) else _span(value)
    if (element := array_of(kind)) is not None:
        return [_arrow_value(item, element) for item in value]
    if (fields := fields_of(kind)) is not None:
        return {name: _arrow_value(value[name], inner) for name, inner in fields}
    return value


def _span(interval: Any) -> timedelta:
    """Return an INTERVAL of BigQuery's client, a ``relativedelta``, as a timedelta."""
    if interval.years or interval.months:
        raise TypeError("months have no fixed length; write CAST(x AS STRING), or EXTRACT(MONTH FROM x)")
    return timedelta(interval.days, interval.seconds, interval.microseconds, 0, interval.minutes, interval.hours)

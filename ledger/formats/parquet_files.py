"""Reading of Parquet files with the columns of ``session_events``, and of folders of them, as events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from ledger.errors import InvalidInput
from ledger.files import is_from_system
from ledger.formats.events import CHANGE, ENVELOPE, TIMES, event_of
from ledger.formats.recognition import binary_kind, text_hint
from ledger.formats.refusals import Refuse
from ledger.model.events import ROW_BYTES, RecordedEvent
from ledger.model.instants import from_micros
from ledger.outbox import columns
from ledger.outbox.columns import Column, Kind

if TYPE_CHECKING:
    import pyarrow as pa

#: Number of rows that are decoded at a time.
_READ_ROWS = 4_096
#: Beginnings of names that readers of such folders pass over, as of Spark's ``_SUCCESS``.
_PASSED_OVER = (".", "_")
_MAGIC = b"PAR1"
#: Maximum length of the start of a file from which its format is recognised, and of a list in a message.
_LONGEST_START, _SHOWN = 1_000_000, 300
_OF_EVENT = tuple(columns.position(name) for name in ("session_id", "version", "event_id"))
_SESSION, _VALUE = columns.position("session_id"), columns.position("value")
#: Positions in a row of the keys of a line, and of those of a change.
_ENVELOPE = {name: columns.position(name) for name in ENVELOPE}
_CHANGE = {name: columns.position(name) for name in CHANGE}
_EXPECTED = {
    Kind.TEXT: "text",
    Kind.JSON: "JSON text",
    Kind.INTEGER: "a 64-bit integer",
    Kind.BOOLEAN: "a boolean",
    Kind.INSTANT: "a timestamp",
}
#: A row of ``session_events``, with its values in the order of the table's columns.
Row = tuple[Any, ...]


def parquet_files(source: Path, refuse: Refuse) -> Iterator[tuple[Path, str]]:
    """Yield the Parquet files of a folder, in the order of their names, each with its name for messages."""
    if not source.is_dir():
        yield source, source.name
        return
    found = 0
    for path in _files_in(source):
        name = path.relative_to(source).as_posix()
        if path.is_dir():
            reason = "is a symbolic link to a folder, which is not followed: import that folder by its own name"
        elif not path.is_file():
            reason = "is no file"
        elif (kind := _other_kind(path)) is not None:
            reason = kind
        else:
            found += 1
            yield path, name
            continue
        refuse(InvalidInput(f"{name} {reason}. Move it out of the folder {source}."))
    if not found:
        raise InvalidInput(
            f"{source} has no Parquet files: nothing was imported. Name a folder that `ledger export --format parquet` "
            "wrote."
        )


def _files_in(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, and links to folders, in the order of their names."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(_PASSED_OVER):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _files_in(path)
        else:
            yield path


def _other_kind(path: Path) -> str | None:
    """Return what a file is that is not a Parquet file, for messages; None if it may be one."""
    with open(path, "rb") as file:
        start = file.readline(_LONGEST_START)
    if start.startswith(_MAGIC):
        return None
    kind = binary_kind(start) or text_hint(start, "parquet").strip()
    shown = kind[:1].lower() + kind[1:].removesuffix(".")
    return "is not a Parquet file" + (f": {shown}" if shown else "")


def rows_of_events(path: Path, seen: Callable[[int], object]) -> Iterator[tuple[int, list[Row] | InvalidInput]]:
    """Yield the rows of each event of a file, with the number of the first, or an error after which nothing follows."""
    number, rows = 1, list[Row]()
    try:
        for row in _rows(path, seen):
            if rows and any(row[index] != rows[0][index] for index in _OF_EVENT):
                yield number, rows
                number, rows = number + len(rows), []
            rows.append(row)
    except InvalidInput as error:
        yield (number if rows else number - 1), error
        return
    if rows:
        yield number, rows


def _rows(path: Path, seen: Callable[[int], object]) -> Iterator[Row]:
    """Yield the rows of a file, with their values in the order of the table's columns.

    Raises:
        InvalidInput: The file is damaged, or has other columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if (kind := _other_kind(path)) is not None:
        raise InvalidInput(f"{kind}.")
    try:
        with pa.OSFile(str(path)) as file, pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            _check_columns(parquet.schema_arrow)
            for group in range(parquet.num_row_groups):
                for batch in parquet.iter_batches(_READ_ROWS, row_groups=[group], columns=list(columns.NAMES)):
                    yield from zip(*(_values(batch, column) for column in columns.COLUMNS), strict=True)
                seen(
                    sum(
                        parquet.metadata.row_group(group).column(it).total_compressed_size
                        for it in range(len(columns.COLUMNS))
                    )
                )
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and is_from_system(error):
            raise
        raise InvalidInput(
            f"the Parquet file is damaged, or not complete: {error}. Copy it again, or export it again."
        ) from error


def _check_columns(schema: pa.Schema) -> None:
    """Raise InvalidInput unless a file has the columns of ``session_events``, each of a type that its values fit."""
    if missing := [name for name in columns.NAMES if name not in schema.names]:
        raise InvalidInput(
            f"the file lacks {', '.join(missing)}. Was it written by `ledger export --format parquet`? It has the "
            f"columns {', '.join(schema.names)[:_SHOWN]}."
        )
    if unknown := [name for name in schema.names if name not in columns.NAMES]:
        raise InvalidInput(f"the file has unknown columns: {', '.join(unknown)[:_SHOWN]}.")
    for column in columns.COLUMNS:
        found = _stored(schema.field(column.name).type)
        if not _fits(found, column.kind):
            raise InvalidInput(f"the column {column.name} must be {_EXPECTED[column.kind]}, not {found}.")


def _stored(kind: pa.DataType) -> pa.DataType:
    """Return the type in which values are stored: text for JSON."""
    import pyarrow as pa

    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _fits(found: pa.DataType, kind: Kind) -> bool:
    from pyarrow import types

    fits: Mapping[Kind, tuple[Callable[[pa.DataType], bool], ...]] = {
        Kind.INTEGER: (types.is_int64,),
        Kind.BOOLEAN: (types.is_boolean,),
        Kind.INSTANT: (types.is_timestamp,),
    }
    return any(is_kind(found) for is_kind in fits.get(kind, (types.is_string, types.is_large_string)))


def _values(batch: pa.RecordBatch, column: Column) -> list[Any]:
    """Return the values of a column; times are microseconds since 1970."""
    import pyarrow as pa

    array = batch.column(column.name)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if column.kind is Kind.INSTANT:
        array = array.cast(pa.timestamp("us", array.type.tz)).cast(pa.int64())
    values: list[Any] = array.to_pylist()
    return values


def session_of(rows: Sequence[Row]) -> str | None:
    """Return the session that the rows of an event name; None if they name none."""
    named = rows[0][_SESSION]
    return named if isinstance(named, str) else None


def size_of(rows: Sequence[Row]) -> int:
    """Return the size of the rows of an event, in bytes."""
    return sum(ROW_BYTES + len(row[_VALUE] or "") for row in rows)


def event_of_rows(rows: Sequence[Row]) -> RecordedEvent:
    """Return the event of its rows.

    Raises:
        InvalidInput, ValueTooLarge, CorruptEvent: No store would record such an event; the message gives the reason.
    """
    first = rows[0]
    if any(row[index] != first[index] for row in rows for index in _ENVELOPE.values()):
        raise InvalidInput("the rows of the event differ in columns that belong to the event, such as its times.")
    found: dict[str, Any] = {name: first[index] for name, index in _ENVELOPE.items()}
    for name in TIMES:
        if found[name] is None:
            raise InvalidInput(f"{name} is NULL.")
        found[name] = from_micros(found[name])
    return event_of({**found, "changes": [_change(row) for row in rows]})


def _change(row: Row) -> dict[str, Any]:
    """Return the object of a change, as a line of JSON has it."""
    change = {name: row[index] for name, index in _CHANGE.items()}
    text = change.pop("value")
    if text is not None:
        try:
            change["value"] = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise InvalidInput(f"the value of {change['field']} is not JSON: {error}.") from error
    return change

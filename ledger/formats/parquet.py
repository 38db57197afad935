"""Export and import of a ledger's events as Parquet files, in one folder a day: ``created_date=2026-11-30/...parquet``.

The files have the columns of the table ``session_events``, one row for each change. The folder's name holds the day on
which the sessions were created (UTC), in the form in which Hive, Spark, BigQuery, DuckDB and pyarrow read it as a
column of type DATE. A session is in one file: its events are consecutive and in order, and so are the rows of an event.
Values are canonical JSON text, so that a value has the digits that its hash covers.

The events are those of ``ledger.formats.events``, with the same checks, and the same hash chain.

Source: https://cloud.google.com/bigquery/docs/hive-partitioned-queries (names of folders; no column of the files may
have the name of the folder's key) and pyarrow's ``dataset.HivePartitioning``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ledger.errors import InvalidInput, LedgerError
from ledger.extras import require_extra
from ledger.files import is_from_system, whole_file, whole_folder
from ledger.formats.batches import Batch, Place
from ledger.formats.events import Imported, check_chained, exported_events
from ledger.formats.parquet_files import event_of_rows, parquet_files, rows_of_events, session_of, size_of
from ledger.formats.refusals import Refuse, end_import
from ledger.model.events import ROW_BYTES, RecordedEvent
from ledger.model.queries import SessionQuery
from ledger.outbox import columns
from ledger.stores.base import EventStore

if TYPE_CHECKING:
    import pyarrow.parquet as pq

#: Key of the folders' names: a column that readers add to those of the files.
PARTITION = "created_date"
#: A row group is written once it has this many rows or bytes; it is what is in memory at a time.
GROUP_ROWS, GROUP_BYTES = 65_536, 32_000_000
#: A file gets no further session once it has this many rows.
FILE_ROWS = 2_000_000
#: Position of the value's text among a change's values.
_TEXT: Literal[2] = 2


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export.

    Attributes:
        sessions, events: How many were written.
        files: How many files were written.
    """

    sessions: int
    events: int
    files: int


def export_parquet(
    store: EventStore,
    folder: Path,
    session_ids: Iterable[str] | None = None,
    *,
    query: SessionQuery | None = None,
    seen: Callable[[], object] = lambda: None,
) -> Exported:
    """Write the events of the given sessions, or of all sessions, to a new folder of Parquet files.

    The folder appears once all files in it are complete and synced. One row group is in memory at a time.

    Args:
        store: The store.
        folder: The folder. It must not exist, or be empty.
        session_ids: The sessions.
        query: Criteria of the sessions, if they are not given.
        seen: Called for each event, to display progress.

    Raises:
        SessionNotFound: A given session does not exist.
        InvalidInput: There is a file, or a folder that is not empty.
        MissingExtra: pyarrow is not installed.
        OSError: The folder cannot be written.
    """
    require_extra("analytics", "pyarrow")
    ids = None if session_ids is None else _by_day(store, session_ids)
    try:
        with whole_folder(folder) as part, _Files(part) as files:
            for event in exported_events(store, ids, query=query):
                files.add(event)
                seen()
    except FileExistsError as error:
        if not is_from_system(error):
            raise
        raise InvalidInput(
            f"{folder} exists and is not an empty folder; nothing was written. Name a new folder, or remove this one: "
            "files of two exports in one folder would have events twice."
        ) from error
    return Exported(files.sessions, files.events, files.count)


def import_parquet(
    store: EventStore,
    source: Path,
    *,
    unchained: bool = False,
    seen: Callable[[int], object] = lambda read: None,
    refuse: Refuse = end_import,
) -> Imported:
    """Import the events of exported Parquet files. Events that are recorded already are skipped.

    The events of a session are imported together or not at all. If a row is refused, events before it may be imported;
    importing the corrected files again completes the import.

    Args:
        store: The store.
        source: A folder that ``export_parquet`` wrote, one of the folders in it, or a file.
        unchained: As for ``import_lines``.
        seen: Called with the number of bytes that were read, to display progress.
        refuse: Called with the error of a file or a row that cannot be imported. By default, it raises the error. If it
            returns, the session of the row, or the rest of the file, is left out, and the import goes on.

    Raises:
        InvalidInput, ValueTooLarge, CorruptEvent, UpcastMissing, IdempotencyConflict, WrongExpectedVersion: A file or a
            row cannot be imported. The message begins with the file's name and the row's number.
        MissingExtra: pyarrow is not installed.
        OSError: A file cannot be read.
    """
    require_extra("analytics", "pyarrow")
    batch = Batch(store, refuse)
    for path, name in parquet_files(source, refuse):
        for number, found in rows_of_events(path, seen):
            place = Place(number, file=name)
            if isinstance(found, LedgerError):
                batch.leave_out(found, place, None)
                continue
            try:
                event = event_of_rows(found)
                check_chained(event, store, unchained)
            except LedgerError as error:
                batch.leave_out(error, place, session_of(found))
            else:
                batch.add(event, place, size_of(found))
        batch.write()  # what is wrong with the next file does not concern the sessions of this one
    return Imported(len(batch.sessions), batch.events, batch.new)


class _Files:
    """The files of an export, of which one is open at a time. Sessions arrive by day."""

    def __init__(self, folder: Path) -> None:
        self.sessions = self.events = self.count = 0
        self._folder = folder
        self._day: date | None = None
        self._session_id = ""
        self._rows_in_file = 0
        self._parts = Counter[date]()
        self._writer: pq.ParquetWriter | None = None
        self._file = ExitStack()
        self._clear()

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if kind is None:
            self._finish()
            return
        if self._writer is not None:
            # It writes an end when it is deleted, if not now. The folder is removed anyway.
            with suppress(Exception):
                self._writer.close()
        self._file.__exit__(kind, error, trace)

    def add(self, event: RecordedEvent) -> None:
        """Add an event to the file of its day."""
        if event.session_id != self._session_id:
            self._begin_session(event)
        own = columns.event_values(event)
        for change in columns.change_values(event):
            self._rows.append(columns.row_of(own, change))
            self._bytes += ROW_BYTES + len(change[_TEXT] or "")
        self.events += 1
        if len(self._rows) >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._write_group()

    def _begin_session(self, event: RecordedEvent) -> None:
        day = event.created_at.date()
        if day != self._day or self._rows_in_file + len(self._rows) >= FILE_ROWS:
            self._finish()
            self._day = day
            self._begin_file(day)
        self._session_id = event.session_id
        self.sessions += 1

    def _begin_file(self, day: date) -> None:
        import pyarrow.parquet as pq

        from ledger.warehouse.arrow_rows import SCHEMA

        folder = self._folder / f"{PARTITION}={day}"
        folder.mkdir(mode=0o700, exist_ok=True)
        file = self._file.enter_context(whole_file(folder / f"part-{self._parts[day]:05}.parquet", private=True))
        self._writer = pq.ParquetWriter(file, SCHEMA, compression="zstd", write_page_checksum=True)
        self._rows_in_file = 0
        self._parts[day] += 1
        self.count += 1

    def _write_group(self) -> None:
        from ledger.warehouse.arrow_rows import exact_batch

        if self._rows and self._writer is not None:
            self._writer.write_batch(exact_batch(self._rows), row_group_size=len(self._rows))
        self._rows_in_file += len(self._rows)
        self._clear()

    def _clear(self) -> None:
        self._rows: list[tuple[Any, ...]] = []
        self._bytes = 0

    def _finish(self) -> None:
        """Complete the open file, if there is one."""
        self._write_group()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._file.close()


def _by_day(store: EventStore, session_ids: Iterable[str]) -> list[str]:
    """Return the ids of sessions once each, those of the latest day first."""
    days: dict[str, date] = {}
    for session_id in session_ids:
        first = next(exported_events(store, [session_id]))
        days[session_id] = first.created_at.date()
    return sorted(days, key=lambda session_id: days[session_id], reverse=True)

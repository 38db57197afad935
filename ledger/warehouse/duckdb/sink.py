"""The sink for a DuckDB file. It writes the rows of a batch and the batch's identity in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib import import_module
from types import TracebackType
from typing import Any

from ledger.errors import RowsRefused, StoreRejected, StreamEnded
from ledger.outbox.contract import Batch, Recovery, RelayCheckpoint
from ledger.outbox.rows import Row, RowKey
from ledger.warehouse.duckdb.file import Cancellation
from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse
from ledger.warehouse.existing_rows import existing_rows

#: Statements that add the rows of a batch and index its new sessions. ``batch`` is the Arrow table with the rows. Its
#: columns are matched by name, since a column that an upgrade added may come after columns of the user's own.
_INGEST = (
    "INSERT INTO session_events BY NAME SELECT * EXCLUDE (seq) FROM batch",
    """
    INSERT INTO session_index
    SELECT session_id, created_at, ANY_VALUE(user_id) FROM batch
    WHERE (session_id, created_at) NOT IN (SELECT (session_id, created_at) FROM session_index)
    GROUP BY session_id, created_at
    """,
)
#: Modules that DuckDB and Arrow import while they run a call, if these are installed.
_IMPORTED_IN_CALLS = ("numpy", "pandas", "pyarrow", "pyarrow.dataset")
_LAST_BATCH = "SELECT seq, digest FROM relay_batches WHERE store_id = ?"


class DuckDBSink:
    """A ``Sink`` that fills a DuckDB file.

    The sink state is the last batch as ``seq:digest``, or an empty string if there was no batch.

    Args:
        warehouse: The warehouse to fill.
        url: The URL by which the store knows the warehouse.
    """

    batch_rows = 20_000
    batch_bytes = 32_000_000

    def __init__(self, warehouse: DuckDBWarehouse, url: str) -> None:
        self.url = url
        self._warehouse = warehouse
        self._store_id = ""
        self._block: AbstractContextManager[None] | None = None  # keeps the file open
        self._cancellation: Cancellation | None = None  # set while a thread uses the file
        self._closed = False
        self._thread = 0  # the one that entered the block

    def __enter__(self) -> DuckDBSink:
        """Keep the file open for writing until the block ends."""
        self._end_block()  # an exception may have interrupted the end of the last block
        self._thread = threading.get_ident()
        self._block = self._kept_open()
        self._block.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_block()

    @contextmanager
    def _kept_open(self) -> Iterator[None]:
        with self._cancellable():
            self._warehouse.ensure_created()
            with self._warehouse.kept_open():
                yield

    @contextmanager
    def _cancellable(self) -> Iterator[None]:
        """Context manager in whose block ``close`` of another thread cancels the calls of this one."""
        _import_modules()
        with self._warehouse.cancellable() as cancellation:
            self._cancellation = cancellation
            try:
                if self._closed:  # looked at after the assignment: ``close`` does both in the other order
                    cancellation.cancel()
                yield
            finally:
                self._cancellation = None

    def is_consistent(self, store_id: str, checkpoint: RelayCheckpoint) -> bool:
        """Return True if the store's last batch in the file is the one that the checkpoint's sink state names."""
        with self._cancellable():
            return self._read_state(store_id) == checkpoint.sink_state

    def recover(self, store_id: str, checkpoint: RelayCheckpoint) -> Recovery:
        """Compare the file's last batch with the checkpoint; see ``Sink.recover``."""
        self._store_id = store_id
        self._warehouse.create()  # again: the file may have been replaced since __enter__
        sink_state = self._read_state(store_id)
        batch = checkpoint.batch
        if not sink_state and checkpoint.seq > 0:
            self._warehouse.check_lost("has no rows of this ledger")
        if sink_state == checkpoint.sink_state:
            emptied = not sink_state and checkpoint.seq > 0
            return Recovery(sink_state, in_doubt_after=0 if emptied else None)
        seq, _, digest = sink_state.partition(":")
        if batch is not None and digest == batch.digest:
            return Recovery(sink_state, arrived=True)
        return Recovery(sink_state, in_doubt_after=min(checkpoint.seq, int(seq or 0)))

    def pack(self, rows: Sequence[Row]) -> tuple[int, Any]:
        """Encode all rows as one Arrow table."""
        from ledger.warehouse.arrow_rows import arrow_table

        return len(rows), arrow_table(rows)

    def send(self, sink_state: str, batch: Batch, content: Any) -> str:
        """Add a batch; see ``Sink.send``.

        Raises:
            StreamEnded: The file's last batch is not the one in ``sink_state``, because another relay has sent rows.
        """
        import duckdb

        before = int(sink_state.partition(":")[0] or 0)
        after = max(before, batch.last), batch.digest
        try:
            with self._warehouse.writing(content) as connection:
                found = connection.execute(_LAST_BATCH, [self._store_id]).rows
                if _format_state(found) != sink_state:
                    raise StreamEnded(
                        f"{self._warehouse.path} has rows of this store from another relay; this relay recovers."
                    )
                for statement in _INGEST:
                    connection.execute(statement)
                connection.execute("INSERT OR REPLACE INTO relay_batches VALUES (?, ?, ?)", [self._store_id, *after])
        except StoreRejected as error:
            if isinstance(error.__cause__, (duckdb.DataError, duckdb.IntegrityError)):
                raise RowsRefused(str(error)) from error
            raise
        return _format_state([after])

    def existing(self, rows: Sequence[Row]) -> Collection[RowKey]:
        """Return the keys of the given rows that the file already has."""
        return existing_rows(self._warehouse, rows)

    def close(self) -> None:
        """Close the file that ``__enter__`` opened. If another thread uses it, that thread's call is cancelled."""
        self._closed = True
        self._end_block()
        cancellation = self._cancellation
        if cancellation is not None:
            cancellation.cancel()

    def _end_block(self) -> None:
        if self._block is not None and self._thread == threading.get_ident():
            self._block.__exit__(None, None, None)  # on a block that has ended it does nothing
            self._block = None

    def _read_state(self, store_id: str) -> str:
        with self._warehouse.reading() as connection:
            return _format_state(connection.execute(_LAST_BATCH, [store_id]).rows)


def _import_modules() -> None:
    """Import what DuckDB and Arrow would otherwise import inside a call.

    There an exception of a signal handler, as for Ctrl-C, would be discarded, and leave a module imported only in part
    to the thread that packs the next batch.
    """
    for name in _IMPORTED_IN_CALLS:
        with suppress(ImportError):  # DuckDB and Arrow do without it
            import_module(name)


def _format_state(rows: Sequence[tuple[Any, ...]]) -> str:
    return f"{rows[0][0]}:{rows[0][1]}" if rows else ""

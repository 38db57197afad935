"""Where the ledger's SQL runs in tests: on DuckDB by way of SQLGlot, and in the BigQuery emulator as it stands."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ledger.model.values import canonical
from ledger.outbox.contract import Batch, RelayCheckpoint
from ledger.warehouse.answer import Answer
from ledger.warehouse.base import Parameters
from ledger.warehouse.duckdb.sink import DuckDBSink
from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse

if TYPE_CHECKING:
    from support.emulator import Emulator


class Target(Protocol):
    """A warehouse whose rows a test can set."""

    def load(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Replace all rows by these: ``(seq, *row)``."""
        ...

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows to those that are there: ``(seq, *row)``, with numbers above those of the rows before."""
        ...

    def change_rows(self, sql: str) -> None:
        """Run a statement in GoogleSQL that changes rows."""
        ...

    def run_scheduled(self, name: str, parameters: Parameters) -> None: ...

    def query(self, sql: str, parameters: Parameters | None = None, *, operation: str = "query") -> Answer: ...


#: The tables that ``load`` empties.
EMPTIED = ("session_events", "session_index", "session_heads", "relay_leases", "sessions_latest", "daily_rollup")


def fill(warehouse: DuckDBWarehouse, rows: Sequence[tuple[Any, ...]], store_id: str = "store") -> None:
    """Add rows, ``(seq, *row)``, to a DuckDB file as one batch of a store."""
    sink = DuckDBSink(warehouse, "duckdb:///test")
    place = sink.recover(store_id, RelayCheckpoint(1)).sink_state
    with sink:
        sink.send(place, Batch.of(rows), sink.pack(rows)[1])


class OnDuckDB(DuckDBWarehouse):
    """A DuckDB file that is emptied before each load."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "warehouse.duckdb")
        self.create()

    def load(self, rows: Sequence[tuple[Any, ...]]) -> None:
        with self.writing() as connection:
            for table in (*EMPTIED, "relay_batches"):
                connection.execute(f"DELETE FROM {table}")
        self.add(rows)

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        fill(self, rows)

    def change_rows(self, sql: str) -> None:
        from ledger.warehouse.duckdb.dialect import changes_to_duckdb

        with self.writing() as connection:
            for statement in changes_to_duckdb(sql):
                connection.execute(statement)


class OnEmulator:
    """A dataset of the emulator, created, written and queried by the ledger's own warehouse."""

    def __init__(self, emulator: Emulator, dataset: str) -> None:
        from ledger.warehouse.bigquery.settings import Dataset
        from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
        from support.bigquery_stores import environment

        self.warehouse = BigQueryWarehouse(Dataset(emulator.project, dataset), environment=environment(emulator))
        self.warehouse.create()
        self.query = self.warehouse.query
        self.run_scheduled = self.warehouse.run_scheduled

    def load(self, rows: Sequence[tuple[Any, ...]]) -> None:
        for table in EMPTIED:
            self.change_rows(f"DELETE FROM `${{project}}.${{dataset}}.{table}` WHERE TRUE")
        self.add(rows)

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        import pyarrow as pa

        from ledger.warehouse.arrow_rows import record_batch

        batch = record_batch([row[1:] for row in rows])
        self.warehouse.append("session_events", batch)
        created = {row["session_id"]: row for row in batch.select(["session_id", "created_at", "user_id"]).to_pylist()}
        self.warehouse.append("session_index", pa.RecordBatch.from_pylist(list(created.values())))

    def change_rows(self, sql: str) -> None:
        self.warehouse.run("change_rows", sql)

    def close(self) -> None:
        self.warehouse.close()


def comparable(rows: Sequence[tuple[Any, ...]]) -> list[tuple[str, ...]]:
    """Rows as a sorted list of texts that are equal only where type and value are."""
    return sorted(
        tuple(value.isoformat() if isinstance(value, date) else canonical(value) for value in row) for row in rows
    )

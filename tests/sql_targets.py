"""Where the ledger's SQL runs in tests: on DuckDB by way of SQLGlot, and in the BigQuery emulator as it stands."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ledger.model.values import canonical
from ledger.warehouse import catalog
from ledger.warehouse.base import Answer, Parameters
from ledger.warehouse.duckdb import DuckDBWarehouse

if TYPE_CHECKING:
    from emulator import Emulator

ROW = (
    *("session_id", "version", "event_id", "event_type", "field", "key", "value", "removed", "user_id", "actor"),
    *("occurred_at", "recorded_at", "created_at", "schema_version", "store_id"),
    *("value_hash", "value_salt", "prev_hash", "event_hash"),
)


class Target(Protocol):
    """A warehouse whose rows a test can set."""

    def load(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Replace all rows by these: ``(seq, *row)``."""
        ...

    def query(self, sql: str, parameters: Parameters | None = None) -> Answer: ...


class OnDuckDB(DuckDBWarehouse):
    """A DuckDB file that is emptied before each load."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "warehouse.duckdb")
        self.create()

    def load(self, rows: Sequence[tuple[Any, ...]]) -> None:
        import duckdb

        with duckdb.connect(str(self.path)) as connection:
            for table in ("session_events", "session_index", "relay_checkpoints"):
                connection.execute(f"DELETE FROM {table}")
        self.ingest("store", rows, after=0)


class OnEmulator:
    """A dataset of the emulator, filled by the plain client."""

    def __init__(self, emulator: Emulator, dataset: str) -> None:
        self._client = emulator.client
        self._names = (emulator.project, dataset)
        for item in catalog.objects():
            self._run(catalog.statement(item))

    def load(self, rows: Sequence[tuple[Any, ...]]) -> None:
        for table in ("session_events", "session_index"):
            self._run(f"DELETE FROM `${{project}}.${{dataset}}.{table}` WHERE TRUE")
        events = [_as_json(dict(zip(ROW, row[1:], strict=True))) for row in rows]
        created = {row["session_id"]: row for row in events}
        index = [{name: row[name] for name in ("session_id", "created_at", "user_id")} for row in created.values()]
        for table, content in (("session_events", events), ("session_index", index)):
            assert self._client.insert_rows_json(".".join((*self._names, table)), content) == []

    def query(self, sql: str, parameters: Parameters | None = None) -> Answer:
        result = self._run(sql, parameters)
        columns = tuple(field.name for field in result.schema)
        return Answer(columns, [tuple(row.values()) for row in result])

    def _run(self, sql: str, parameters: Parameters | None = None) -> Any:
        from google.cloud import bigquery

        kinds = {str: "STRING", int: "INT64", datetime: "TIMESTAMP"}
        config = bigquery.QueryJobConfig(
            query_parameters=[
                bigquery.ScalarQueryParameter(name, kinds[type(value)], value)
                for name, value in (parameters or {}).items()
            ]
        )
        return self._client.query(catalog.bind(sql, *self._names), job_config=config).result()


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    for name in ("occurred_at", "recorded_at", "created_at"):
        row[name] = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=row[name])).isoformat()
    return {**row, "removed": bool(row["removed"])}


def comparable(rows: Sequence[tuple[Any, ...]]) -> list[tuple[str, ...]]:
    """Rows as a sorted list of texts that are equal only where type and value are."""
    return sorted(
        tuple(value.isoformat() if isinstance(value, datetime) else canonical(value) for value in row) for row in rows
    )

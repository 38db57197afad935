"""A BigQuery warehouse behind the proxy, and rows for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pyarrow as pa

from faults.proxy import Faults, Proxy, Script, proxy
from ledger.model.events import RecordedEvent
from ledger.warehouse.arrow_rows import record_batch
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from support.emulator import Emulator
from support.histories import DAY, rows_of


@contextlib.contextmanager
def through(
    emulator: Emulator, place: Dataset, faults: dict[str, dict[int, str]] | None = None
) -> Iterator[tuple[Proxy, BigQueryWarehouse]]:
    """A proxy with faults, and a warehouse behind it that does not really wait between its tries."""
    plan = Script(faults) if faults else Faults()
    with proxy(emulator.rest, emulator.grpc, plan) as running:
        settings = {"BIGQUERY_EMULATOR_HOST": running.rest, "BIGQUERY_EMULATOR_GRPC_HOST": running.grpc}
        with contextlib.closing(BigQueryWarehouse(place, environment=settings, sleep=lambda _: None)) as opened:
            yield running, opened


def batch(*events: RecordedEvent) -> pa.RecordBatch:
    return record_batch(rows_of(events))


def count(it: BigQueryWarehouse, session: str, table: str = "session_events") -> int:
    sql = f"SELECT COUNT(*) AS n FROM {table} WHERE session_id = @id AND created_at >= @day"
    return int(it.query(sql, {"id": session, "day": DAY}).rows[0][0])

"""Rows per second through BigQuery's Storage Write API, relative to a bare loop over Google's client.

The bare loop builds the same Arrow batch from the same rows, sends it on one long-lived AppendRows call and waits for
each acknowledgement, without retries or checks. The ledger's warehouse appends the same rows. The workload ``one
event`` is an append by the event store instead, which also validates the event, assigns a version and builds its rows.
Bare loop and ledger alternate, round by round, on separate tables; each figure is the median over rounds.

The emulator (local-bigquery) runs in a separate process. Run it with ``python benchmarks/bigquery_append.py``; it exits
with 1 if the ledger's rows per second are below 0.8 of the bare loop's.
"""

from __future__ import annotations

import queue
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from ledger import Change, NewEvent
from ledger.clock import new_id, utc_now
from ledger.stores.bigquery.store import BigQueryStore
from ledger.warehouse.arrow_rows import record_batch
from ledger.warehouse.bigquery.settings import Dataset

SERVE = """
import sys, tempfile
from pathlib import Path
from ledger.cli.demo import emulator
with tempfile.TemporaryDirectory() as folder, emulator.serve(Path(folder)) as addresses:
    print(*addresses, flush=True)
    sys.stdin.read()
"""
#: Number of rows in a batch to the number of batches in a round.
BATCHES = {1: 20, 100: 10, 1_000: 4, 10_000: 1}
ROUNDS = 7
TARGET = 0.8
Send = Callable[[list[tuple[Any, ...]]], object]
VALUE = '{"content":"What were the total orders for CFC1 in the last week? What were they before?","role":"user"}'


class Bare:
    """The bare loop over Google's client."""

    def __init__(self, store: BigQueryStore) -> None:
        from google.cloud.bigquery_storage_v1 import types

        self._types = types
        dataset = store.dataset
        self._path = f"projects/{dataset.project}/datasets/{dataset.name}/tables/session_events/streams/_default"
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._append_rows: Any = store.warehouse.clients.write.transport.append_rows
        self._call: Any = None

    def send(self, rows: list[tuple[Any, ...]]) -> None:
        batch = record_batch(rows)
        arrow = self._types.AppendRowsRequest.ArrowData()
        arrow.rows.serialized_record_batch = batch.serialize().to_pybytes()
        if self._call is None:
            arrow.writer_schema.serialized_schema = batch.schema.serialize().to_pybytes()
        self._requests.put(self._types.AppendRowsRequest(write_stream=self._path, arrow_rows=arrow))
        if self._call is None:
            routing = [("x-goog-request-params", f"write_stream={self._path}")]
            self._call = self._append_rows(iter(self._requests.get, None), metadata=routing)
        assert not next(self._call).error.code

    def close(self) -> None:
        self._requests.put(None)
        self._call.cancel()


def rows_of(count: int) -> list[tuple[Any, ...]]:
    """Return ``count`` rows of one session, ten rows per event."""
    now = time.time_ns() // 1000
    session_id, made = new_id(utc_now()), []
    for number in range(count):
        if number % 10 == 0:
            event_id = new_id(utc_now())
        before = (
            session_id,
            number // 10 + 1,
            event_id,
            "message.added",
            "message",
            f"m{number}",
            VALUE,
            0,
            "ada",
            None,
        )
        made.append((*before, now, now, now, 1, "benchmark", None, None, None, None))
    return made


def per_second(send: Send, size: int, batches: int) -> float:
    """Return the rows sent per second. The batches are built before the timer starts."""
    ready = [rows_of(size) for _ in range(batches)]
    began = time.perf_counter()
    for rows in ready:
        send(rows)
    return size * batches / (time.perf_counter() - began)


def measure(environment: dict[str, str]) -> dict[str, tuple[float, float]]:
    """Return for each workload the rows per second of the bare loop and of the ledger."""
    stores = [BigQueryStore(Dataset("ledger", name), environment=environment) for name in ("bare", "ours", "events")]
    for store in stores:
        store.warehouse.create()
    bare, ours = Bare(stores[0]), stores[1].warehouse
    session_id = new_id(utc_now())

    def one_event(rows: list[tuple[Any, ...]]) -> None:
        change = Change("message", rows[0][5], {"role": "user", "content": VALUE})
        stores[2].append(
            session_id, NewEvent("message.added", [change], new_id(utc_now()), user_id="ada", check_duplicate=False)
        )

    def append(rows: list[tuple[Any, ...]]) -> None:
        ours.append("session_events", record_batch(rows))

    tasks: list[tuple[str, int, int, Callable[[list[tuple[Any, ...]]], object]]] = [
        ("one event", 1, BATCHES[1], one_event)
    ]
    tasks += [(f"{size:,} rows", size, batches, append) for size, batches in BATCHES.items()]
    figures = {}
    for name, size, batches, send in tasks:
        per_second(bare.send, size, 1)
        per_second(send, size, 1)
        rounds = [(per_second(bare.send, size, batches), per_second(send, size, batches)) for _ in range(ROUNDS)]
        figures[name] = statistics.median(pair[0] for pair in rounds), statistics.median(pair[1] for pair in rounds)
    bare.close()
    for store in stores:
        store.close()
    return figures


def main() -> None:
    """Print every figure; exit with 1 if a target is missed."""
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, "-c", SERVE], cwd=folder, env={}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as serving,
    ):  # fmt: skip
        assert serving.stdin
        assert serving.stdout
        rest, grpc = serving.stdout.readline().split()
        try:
            figures = measure({"BIGQUERY_EMULATOR_HOST": rest, "BIGQUERY_EMULATOR_GRPC_HOST": grpc})
        finally:
            serving.stdin.close()
    for name, (bare, ours) in figures.items():
        print(f"{name:>12}: {ours:9,.0f} rows/s, bare {bare:9,.0f}: {ours / bare:.2f}x")
    sys.exit(any(ours < TARGET * bare for bare, ours in figures.values()))


if __name__ == "__main__":
    main()

"""Throughput of the relay to BigQuery, its effect on concurrent appends, and its memory.

- ``bigquery``: rows per second from a store to the emulator, relative to a bare loop over Google's client. The bare
  loop sends the same Arrow batches, packed in advance, at their offsets in its own stream. Both alternate, on new
  datasets that have the tables. The relay's time includes its recovery (lease, fence, stream) and both commits of each
  batch.
- ``appends``: appends per second of one thread with a background relay in the same process, relative to the same
  without a relay. The relay ships to a process that acknowledges a limited number of rows per second. Both alternate.
- ``memory``: peak memory of a process that relays a million rows to the emulator, minus its peak after 10,000 rows.

``views.py`` measures the relay to DuckDB. The emulator runs in a separate process. Run it with ``python
benchmarks/relay.py [bigquery|appends|memory ...]``; it exits with 1 if a figure misses its target.
"""

from __future__ import annotations

import contextlib
import json
import queue
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import views

from ledger import SessionLedger
from ledger.cli.demo import emulator
from ledger.outbox.contract import Batch, Recovery, RelayCheckpoint
from ledger.outbox.rows import Row, RowKey
from ledger.relay.background import BackgroundRelay
from ledger.relay.loop import Relay
from ledger.stores.sqlite.store import SqliteStore
from ledger.tiers.opening import relay_between
from ledger.warehouse.arrow_rows import record_batch
from ledger.warehouse.bigquery import streams
from ledger.warehouse.bigquery.appends import requests_of
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.sink import BigQuerySink
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

ROUNDS = 5
SESSIONS = 1_000  # of 100 events
LEAST_OF_BARE, LEAST_OF_APPENDS, MOST_MEGABYTES = 0.8, 0.8, 64
FIRST_ROWS, MANY_SESSIONS = 10_000, 10_000
APPEND_SECONDS, APPEND_ROUNDS = 4.0, 7
#: Rows per second that the acknowledging process accepts. One thread appends fewer.
ROWS_A_SECOND = 10_000


def warehouse(name: str, running: Any) -> BigQueryWarehouse:
    """Return a dataset in a running emulator, with the ledger's tables."""
    addresses = {"BIGQUERY_EMULATOR_HOST": running.rest, "BIGQUERY_EMULATOR_GRPC_HOST": running.grpc}
    made = BigQueryWarehouse(Dataset(emulator.PROJECT, name), environment=addresses)
    made.create()
    return made


def packed(store: SqliteStore, sink: BigQuerySink) -> list[Any]:
    """Return the store's rows in Arrow batches, as the relay packs them."""
    batches, after = [], 0
    while rows := store.rows_after(after, sink.batch_rows, max_bytes=sink.batch_bytes):
        count, content = sink.pack(rows)
        batches.append(content.events)
        after = rows[count - 1][0]
    return batches


def bare(target: BigQueryWarehouse, batches: Sequence[Any]) -> float:
    """Send all batches with Google's client alone; return the seconds until the last acknowledgement."""
    from google.cloud.bigquery_storage_v1 import types

    begun = time.perf_counter()
    stream = streams.create(target, "session_events")
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    answers, offset = None, 0
    for batch in batches:
        arrow = types.AppendRowsRequest.ArrowData()
        arrow.rows.serialized_record_batch = batch.serialize().to_pybytes()
        request = types.AppendRowsRequest(arrow_rows=arrow, offset=offset)
        if answers is None:
            request.arrow_rows.writer_schema.serialized_schema = batch.schema.serialize().to_pybytes()
            request.write_stream = stream
        requests.put(request)
        if answers is None:
            routing = [("x-goog-request-params", f"write_stream={stream}")]
            answers = target.clients.write.transport.append_rows(iter(requests.get, None), metadata=routing)
        assert not next(answers).error.code
        offset += batch.num_rows
    taken = time.perf_counter() - begun
    requests.put(None)
    answers.cancel()
    return taken


def to_bigquery() -> bool:
    """Print rows per second of the relay and of the bare loop; return True if the target is met."""
    with tempfile.TemporaryDirectory() as folder, emulator.running() as running:
        path = Path(folder) / "ledger.db"
        count = views.fill(path, SESSIONS)
        with contextlib.closing(SqliteStore(path)) as store:
            first = warehouse("first", running)
            batches = packed(store, BigQuerySink(first))
            bare(first, batches[:1])
            times = []
            for number in range(ROUNDS):
                by_hand, ours = warehouse(f"bare_{number}", running), warehouse(f"ours_{number}", running)
                floor = bare(by_hand, batches)
                by_hand.close()
                begun = time.perf_counter()
                with contextlib.closing(relay_between(store, ours)) as relay:
                    assert relay.sync() == count
                    times.append((floor, time.perf_counter() - begun))
        first.close()
    floor, taken = (statistics.median(column) for column in zip(*times, strict=True))
    print(
        f"bigquery: {count / taken:,.0f} rows/s in {len(batches)} batches, bare {count / floor:,.0f}: "
        f"{floor / taken:.2f}x (at least {LEAST_OF_BARE})"
    )
    return floor / taken >= LEAST_OF_BARE


class Acknowledging:
    """A sink that packs rows as for BigQuery and sends them over a socket to a process that acknowledges them.

    Args:
        address: Address of the process started by ``acknowledging``.
    """

    url = "benchmark://acknowledging"
    batch_rows, batch_bytes = BigQuerySink.batch_rows, BigQuerySink.batch_bytes

    def __init__(self, address: tuple[str, int]) -> None:
        self._connection = socket.create_connection(address)

    def __enter__(self) -> Acknowledging:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def is_consistent(self, store_id: str, checkpoint: RelayCheckpoint) -> bool:
        return True

    def recover(self, store_id: str, checkpoint: RelayCheckpoint) -> Recovery:
        return Recovery("begun")

    def pack(self, rows: Sequence[Row]) -> tuple[int, Any]:
        batch = next(requests_of(record_batch([row[1:] for row in rows])))
        return batch.num_rows, batch

    def send(self, sink_state: str, batch: Batch, content: Any) -> str:
        body = content.serialize().to_pybytes()
        self._connection.sendall(json.dumps([batch.rows, len(body)]).encode().ljust(64) + body)
        assert self._connection.recv(1) == b"+"
        return sink_state

    def existing(self, rows: Sequence[Row]) -> set[RowKey]:
        return set()

    def close(self) -> None:
        self._connection.close()


ACKNOWLEDGE = """
import json, socket, sys, time
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
while True:
    connection, _ = listening.accept()
    source = connection.makefile("rb")
    free_at = time.monotonic()
    while head := source.read(64):
        rows, size = json.loads(head)
        source.read(size)
        free_at = max(free_at, time.monotonic()) + rows / float(sys.argv[1])
        time.sleep(max(0.0, free_at - time.monotonic()))
        connection.sendall(b"+")
"""


@contextlib.contextmanager
def acknowledging() -> Iterator[tuple[str, int]]:
    """Run a process that acknowledges at most ``ROWS_A_SECOND`` rows per second; yield its address."""
    command = [sys.executable, "-c", ACKNOWLEDGE, str(ROWS_A_SECOND)]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            yield "127.0.0.1", int(process.stdout.readline())
        finally:
            process.kill()


def appended_in(seconds: float, ledger: SessionLedger) -> float:
    """Append for some seconds in one thread, to sessions of 50 events; return the appends per second."""
    count, end = 0, time.perf_counter() + seconds
    begun = time.perf_counter()
    while time.perf_counter() < end:
        if count % 50 == 0:
            session_id = ledger.create_session("ada", "What were the total orders for CFC1 in the last week?")
        else:
            ledger.add_message(session_id, "user", views.WORDS[count % 12] * 20)
        count += 1
    return count / (time.perf_counter() - begun)


def beside_appends() -> bool:
    """Print appends per second with and without a relay; return True if the target is met."""
    pairs, shipped = [], []
    with tempfile.TemporaryDirectory() as folder, acknowledging() as address:
        for number in range(APPEND_ROUNDS + 1):
            rates = []
            for kind in ("without", "with"):
                with SessionLedger(f"sqlite:///{folder}/{kind}_{number}.db") as ledger:
                    background, outbox = None, ledger.store.outbox(Acknowledging.url)
                    if kind == "with":
                        sink = Acknowledging(address)
                        background = BackgroundRelay(partial(Relay, outbox, sink, holder="here/1/benchmark"))
                    rates.append(appended_in(APPEND_SECONDS, ledger))
                    if background is not None:
                        shipped.append(outbox.status().shipped_rows / outbox.last_seq())
                        assert background.close(30)
                        assert outbox.status().waiting_rows == 0
            pairs.append(rates)
    alone, with_relay = (statistics.median(column) for column in zip(*pairs[1:], strict=True))  # the first warms up
    share = statistics.median(ours / floor for floor, ours in pairs[1:])
    print(
        f"appends: {with_relay:,.0f}/s with a relay that keeps up with {min(shipped):.0%}, {alone:,.0f}/s without: "
        f"{share:.2f}x (at least {LEAST_OF_APPENDS})"
    )
    return share >= LEAST_OF_APPENDS


def peak_megabytes() -> float:
    """Return the peak memory of this process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def relay_and_report(path: str, rest: str, grpc: str) -> None:
    """Relay a store; print the rows shipped and the peak memory after ``FIRST_ROWS`` and at the end."""
    target = BigQueryWarehouse(
        Dataset(emulator.PROJECT, "memory"),
        environment={"BIGQUERY_EMULATOR_HOST": rest, "BIGQUERY_EMULATOR_GRPC_HOST": grpc},
    )
    target.create()
    shipped, peaks = 0, []

    def progress(rows: int) -> None:
        nonlocal shipped
        shipped += rows
        if shipped >= FIRST_ROWS and not peaks:
            peaks.append(peak_megabytes())

    with contextlib.closing(SqliteStore(path)) as store, contextlib.closing(relay_between(store, target)) as relay:
        relay.sync(progress=progress)
    print(shipped, *peaks, peak_megabytes())


def memory() -> bool:
    """Print the growth of memory; return True if the target is met."""
    with tempfile.TemporaryDirectory() as folder, emulator.running() as running:
        path = Path(folder) / "ledger.db"
        count = views.fill(path, MANY_SESSIONS)
        command = [sys.executable, __file__, "relay", str(path), running.rest, running.grpc]
        output = subprocess.run(command, text=True, stdout=subprocess.PIPE, check=True).stdout
    rows, first, last = map(float, output.split())
    assert rows == count
    print(
        f"memory: {first:.0f} MB after {FIRST_ROWS:,} rows, {last:.0f} MB after {count:,}: {last - first:+.0f} MB "
        f"(at most {MOST_MEGABYTES})"
    )
    return last - first <= MOST_MEGABYTES


FIGURES: dict[str, Callable[[], bool]] = {"bigquery": to_bigquery, "appends": beside_appends, "memory": memory}


def main(names: Sequence[str]) -> int:
    """Print every figure with its target; return 1 if one is missed."""
    results = [FIGURES[name]() for name in names or FIGURES]
    return int(not all(results))


if __name__ == "__main__":
    if sys.argv[1:2] == ["relay"]:
        relay_and_report(*sys.argv[2:])
    else:
        sys.exit(main(sys.argv[1:]))

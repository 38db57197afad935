"""The proxy passes everything on, and each kind of fault is what it says, as Google's own clients see it."""

from __future__ import annotations

import contextlib
import io
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pyarrow as pa
import pytest
import requests.exceptions
from google.api_core import exceptions
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import types

from faults.proxy import KINDS, Faults, Injected, Plan, Proxy, Script, proxy
from faults.proxy_rest import name
from support.emulator import Emulator, connect


@pytest.fixture
def table(emulator: Emulator, bigquery_dataset: str) -> str:
    name = f"{emulator.project}.{bigquery_dataset}.notes"
    emulator.client.create_table(bigquery.Table(name, [bigquery.SchemaField("id", "INTEGER", "REQUIRED")]))
    return name


@contextlib.contextmanager
def through(emulator: Emulator, plan: Faults | None = None) -> Iterator[tuple[Proxy, Emulator]]:
    """A proxy, and clients that go through it."""
    with proxy(*emulator.bare, plan) as p, connect(p.rest, p.grpc) as clients:
        yield p, clients


def insert(clients: Emulator, table: str, number: int) -> None:
    assert clients.client.insert_rows_json(table, [{"id": number}], retry=None) == []


def ids(clients: Emulator, table: str) -> list[int]:
    rows = clients.client.query_and_wait(f"SELECT id FROM `{table}` ORDER BY id", retry=None, job_retry=None)
    return [row.id for row in rows]


def path(table: str) -> str:
    project, dataset, name = table.split(".")
    return f"projects/{project}/datasets/{dataset}/tables/{name}"


def committed(clients: Emulator, table: str) -> str:
    stream = types.WriteStream(type_=types.WriteStream.Type.COMMITTED)
    return clients.write.create_write_stream(parent=path(table), write_stream=stream, retry=None).name


class Connection:
    """One AppendRows call that stays open; the schema goes with its first message only."""

    def __init__(self, clients: Emulator, table: str, stream: str = "") -> None:
        self.clients, self.stream = clients, stream or f"{path(table)}/streams/_default"
        self.requests: queue.SimpleQueue[types.AppendRowsRequest | None] = queue.SimpleQueue()
        self.answers: Any = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.requests.put(None)

    def append(self, number: int, offset: int | None = None) -> types.AppendRowsResponse:
        batch = pa.record_batch({"id": pa.array([number], pa.int64())})
        arrow = types.AppendRowsRequest.ArrowData()
        arrow.rows.serialized_record_batch = batch.serialize().to_pybytes()
        request = types.AppendRowsRequest(arrow_rows=arrow, offset=offset)
        if self.answers is None:
            request.write_stream = self.stream
            request.arrow_rows.writer_schema.serialized_schema = batch.schema.serialize().to_pybytes()
        self.requests.put(request)
        if self.answers is None:
            given = {"retry": None, "metadata": [("x-goog-request-params", f"write_stream={self.stream}")]}
            self.answers = self.clients.write.append_rows(iter(self.requests.get, None), **given)
        return next(self.answers)


# Without faults


def test_a_row_inserted_over_rest_is_queried_back_and_both_are_counted(emulator, table):
    with through(emulator) as (p, clients):
        insert(clients, table, 1)
        before = p.counts
        assert ids(clients, table) == [1]
        assert p.counts - before == {"POST query": 1}
        assert before == {"POST insertAll": 1}


def test_messages_on_the_default_stream_are_written(emulator, table):
    with through(emulator) as (p, clients):
        with Connection(clients, table) as connection:
            for number in range(3):
                assert not connection.append(number).error.code
        assert list(connection.answers) == []  # the client ended it, and it ended well
        assert p.counts == {"AppendRows connection": 1, "AppendRows": 3}
    assert ids(emulator, table) == [0, 1, 2]


def test_messages_on_a_committed_stream_are_written_at_their_offsets(emulator, table):
    with through(emulator) as (p, clients):
        stream = committed(clients, table)
        with Connection(clients, table, stream) as connection:
            assert [connection.append(number, number).append_result.offset for number in range(5)] == [0, 1, 2, 3, 4]
            already_exists = 6
            assert connection.append(4, 4).error.code == already_exists
        assert clients.write.finalize_write_stream(name=stream).row_count == 5
        written = {"AppendRows connection": 1, "AppendRows": 6}
        assert p.counts == {"CreateWriteStream": 1, "FinalizeWriteStream": 1} | written
    assert ids(emulator, table) == [0, 1, 2, 3, 4]


def read(clients: Emulator, table: str) -> pa.Table:
    wanted = types.ReadSession(table=path(table), data_format=types.DataFormat.ARROW)
    parent = f"projects/{clients.project}"
    session = clients.read.create_read_session(parent=parent, read_session=wanted, max_stream_count=1, retry=None)
    schema = pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))
    answers = clients.read.read_rows(session.streams[0].name, retry=None)
    batches = [pa.py_buffer(answer.arrow_record_batch.serialized_record_batch) for answer in answers]
    return pa.Table.from_batches([pa.ipc.read_record_batch(batch, schema) for batch in batches], schema)


def test_rows_are_read_as_arrow(emulator, table):
    insert(emulator, table, 1)
    with through(emulator) as (p, clients):
        assert read(clients, table).to_pylist() == [{"id": 1}]
        assert p.counts == {"CreateReadSession": 1, "ReadRows": 1}


def test_the_emulators_own_errors_reach_the_client(emulator, table):
    with through(emulator) as (_, clients):
        with pytest.raises(exceptions.NotFound, match="nowhere"):
            insert(clients, f"{table}_nowhere", 1)
        with pytest.raises(exceptions.NotFound, match="nowhere"):
            committed(clients, f"{table}_nowhere")
        with pytest.raises(exceptions.InvalidArgument, match="Invalid stream name"):
            Connection(clients, table, f"{path(table)}/streams/unknown").append(1)


def test_a_file_is_uploaded_through_the_proxy(emulator, table):
    with through(emulator) as (p, clients):
        lines = bigquery.LoadJobConfig(source_format="NEWLINE_DELIMITED_JSON")
        clients.client.load_table_from_file(io.BytesIO(b'{"id": 7}'), table, job_config=lines).result()
        assert p.counts["POST upload"] == 1
        assert p.counts["PUT upload"] == 1  # at the address that the emulator gave to the client
    assert ids(emulator, table) == [7]


def test_many_clients_at_once_are_all_served(emulator, table):
    with through(emulator) as (p, clients):

        def work(number: int) -> None:
            with Connection(clients, table) as connection:
                connection.append(number)
            insert(clients, table, number + 8)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert p.counts == {"AppendRows connection": 8, "AppendRows": 8, "POST insertAll": 8}
    assert ids(emulator, table) == list(range(16))


@pytest.mark.parametrize(
    ("method", "tail", "expected"),
    [
        ("POST", "queries", "POST query"),
        ("POST", "jobs?x=y", "POST query"),
        ("GET", "queries/j1?maxResults=0", "GET getQueryResults"),
        ("POST", "jobs/j1/cancel", "POST cancel"),
        ("GET", "datasets/jobs", "GET dataset"),
        ("PATCH", "datasets/d/tables/queries", "PATCH table"),
        ("POST", "datasets/d/tables/t/insertAll", "POST insertAll"),
    ],
)
def test_a_request_is_named_for_what_it_asks(method, tail, expected):
    assert name(method, f"/bigquery/v2/projects/p/{tail}") == expected


# Faults over REST


@pytest.mark.parametrize(
    ("kind", "error", "reason", "written"),
    [
        ("unavailable", exceptions.ServiceUnavailable, "backendError", False),
        ("quota", exceptions.TooManyRequests, "rateLimitExceeded", False),
        ("rate_403", exceptions.Forbidden, "rateLimitExceeded", False),
        ("quota_403", exceptions.Forbidden, "quotaExceeded", False),
        ("reset_before", requests.exceptions.ConnectionError, "reset by peer", False),
        ("lost_answer", requests.exceptions.ConnectionError, "reset by peer", True),
        ("cut_answer", requests.exceptions.ChunkedEncodingError, "IncompleteRead", True),
    ],
)
def test_a_fault_over_rest_is_seen_by_the_client(emulator, table, kind, error, reason, written):
    with through(emulator, Script({"POST insertAll": {2: kind}})) as (p, clients):
        insert(clients, table, 1)
        with pytest.raises(error) as caught:
            insert(clients, table, 2)
        seen = caught.value.errors[0]["reason"] if isinstance(caught.value, exceptions.GoogleAPICallError) else None
        assert reason in (seen or str(caught.value))
        insert(clients, table, 3)
        assert p.plan.log == [Injected(2, "REST", "POST insertAll", kind)]
        assert p.counts == {"POST insertAll": 3}
    assert ids(emulator, table) == ([1, 2, 3] if written else [1, 3])


# Faults over gRPC

GRPC = {
    "unavailable": exceptions.ServiceUnavailable,
    "quota": exceptions.ResourceExhausted,
    "internal": exceptions.InternalServerError,
    "reset_before": exceptions.Aborted,
    "lost_answer": exceptions.ServiceUnavailable,
}


@pytest.mark.parametrize(("kind", "error"), GRPC.items())
def test_a_fault_of_a_single_call_is_seen_by_the_client(emulator, table, kind, error):
    stream = committed(emulator, table)
    with through(emulator, Script({"FinalizeWriteStream": {1: kind}})) as (p, clients):
        with pytest.raises(error):
            clients.write.finalize_write_stream(name=stream, retry=None)
        assert p.plan.log == [Injected(1, "gRPC", "FinalizeWriteStream", kind)]
    with Connection(emulator, table, stream) as connection:
        finalized = "finalized" in connection.append(1, 0).error.message
    assert finalized is (kind == "lost_answer")


@pytest.mark.parametrize(("kind", "error"), GRPC.items())
def test_a_fault_of_a_read_is_seen_by_the_client(emulator, table, kind, error):
    insert(emulator, table, 1)
    with through(emulator, Script({"ReadRows": {1: kind}})) as (_, clients):
        with pytest.raises(error):
            read(clients, table)
        assert read(clients, table).num_rows == 1


@pytest.mark.parametrize(("kind", "error"), [*GRPC.items(), ("close", StopIteration)])
@pytest.mark.parametrize("nth", [1, 3])
def test_a_fault_of_an_append_ends_its_connection(emulator, table, kind, error, nth):
    with through(emulator, Script({"AppendRows": {nth: kind}})) as (p, clients):
        stream = committed(clients, table)
        with Connection(clients, table, stream) as connection:
            for offset in range(nth - 1):
                assert connection.append(offset, offset).append_result.offset == offset
            with pytest.raises(error):
                connection.append(nth - 1, nth - 1)
        written = nth if kind == "lost_answer" else nth - 1
        assert ids(emulator, table) == list(range(written))
        with Connection(clients, table, stream) as connection:  # another one goes on where the stream is
            assert connection.append(written, written).append_result.offset == written
        assert p.counts["AppendRows connection"] == 2
        assert p.counts["AppendRows"] == nth + 1


@pytest.mark.parametrize(("kind", "code"), [("error_in_response", 14), ("quota_in_response", 8)])
@pytest.mark.parametrize("nth", [1, 3])
def test_an_error_in_a_response_leaves_the_connection_open(emulator, table, kind, code, nth):
    with through(emulator, Script({"AppendRows": {nth: kind, nth + 1: kind}})) as (p, clients):
        with Connection(clients, table, committed(clients, table)) as connection:
            for offset in range(nth - 1):
                connection.append(offset, offset)
            assert connection.append(nth - 1, nth - 1).error.code == code
            assert connection.append(nth - 1, nth - 1).error.code == code
            assert connection.append(nth - 1, nth - 1).append_result.offset == nth - 1
            assert connection.append(nth, nth).append_result.offset == nth
        assert p.counts["AppendRows connection"] == 1
    assert ids(emulator, table) == list(range(nth + 1))


# Plans


def test_a_delay_lasts_as_long_as_it_was_given_and_then_all_goes_on(emulator, table):
    script = Script({"POST insertAll": {1: "delay"}, "AppendRows": {1: "delay"}}, delay=0.2)
    with (
        through(emulator, script) as (p, clients),
        Connection(clients, table) as connection,
    ):
        began = time.monotonic()
        insert(clients, table, 1)
        connection.append(2)
        assert time.monotonic() - began >= 0.4
        assert [fault.kind for fault in p.plan.log] == ["delay", "delay"]
    assert ids(emulator, table) == [1, 2]


def test_a_plan_strikes_with_every_kind_and_what_was_acknowledged_is_there(emulator, table):
    plan = Plan(seed=1, rate=0.9, delay=0)
    acknowledged: set[int] = set()
    failures = StopIteration, requests.exceptions.RequestException, exceptions.GoogleAPICallError
    with through(emulator, plan) as (_, clients):
        for number in range(1, 60):
            with contextlib.suppress(*failures):
                insert(clients, table, number)
                acknowledged.add(number)
            with contextlib.suppress(*failures), Connection(clients, table) as connection:
                if not connection.append(-number).error.code:
                    acknowledged.add(-number)
        plan.off()
        struck = len(plan.log)
        assert acknowledged <= set(ids(clients, table))
        assert len(plan.log) == struck
    assert {fault.kind for fault in plan.log if fault.side == "REST"} == set(KINDS["REST"])
    assert {fault.kind for fault in plan.log if fault.side == "gRPC"} == set(KINDS["AppendRows"])


def drawn(plan: Faults, order: list[str]) -> dict[str, list[str | None]]:
    fates: dict[str, list[str | None]] = {request: [] for request in sorted(order)}
    for request in order:
        fates[request].append(plan.strike(request))
    return fates


def test_the_same_seed_strikes_the_same_requests_in_whatever_order_they_come():
    order = ["POST query", "AppendRows", "CreateWriteStream"] * 100
    fates = drawn(Plan(7, 0.3), order)
    assert drawn(Plan(7, 0.3), order) == fates
    assert drawn(Plan(7, 0.3), sorted(order)) == fates
    assert drawn(Plan(8, 0.3), order) != fates
    struck = sum(fate is not None for each in fates.values() for fate in each)
    assert 60 < struck < 120


def test_a_plan_logs_each_fault_with_its_number_and_uses_only_the_kinds_given():
    plan = Plan(1, 1, ["quota", "close"])
    assert [plan.strike("POST query"), plan.strike("GET table")] == ["quota", "quota"]
    assert {plan.strike("AppendRows") for _ in range(50)} == {"quota", "close"}
    assert plan.log[:2] == [Injected(1, "REST", "POST query", "quota"), Injected(2, "REST", "GET table", "quota")]


def test_a_plan_goes_on_where_it_was_switched_off():
    order = ["AppendRows"] * 40
    whole, halves = Plan(3, 0.5), Plan(3, 0.5)
    fates = drawn(whole, order)["AppendRows"]
    first = drawn(halves, order[:20])["AppendRows"]
    halves.off()
    assert drawn(halves, order)["AppendRows"] == [None] * 40
    halves.on()
    assert first + drawn(halves, order[20:])["AppendRows"] == fates
    assert halves.log == whole.log


def test_a_fault_that_cannot_strike_its_request_is_refused():
    with pytest.raises(ValueError, match="no such faults"):
        Plan(1, 1, ["lost_anwser"])
    for request, kind in [("POST query", "close"), ("ReadRows", "close"), ("AppendRows", "cut_answer")]:
        with pytest.raises(ValueError, match="cannot be struck"):
            Script({request: {1: kind}})


# The end


def test_the_proxy_stops_at_once_though_connections_are_open_and_requests_wait(emulator, table):
    script = Script({"POST insertAll": {2: "delay"}, "AppendRows": {2: "delay"}}, delay=60)
    before = set(threading.enumerate())
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(2))
        with proxy(*emulator.bare, script) as p:
            clients = stack.enter_context(connect(p.rest, p.grpc))
            idle = stack.enter_context(Connection(clients, table))
            insert(clients, table, 1)
            idle.append(2)
            waiting = [pool.submit(insert, clients, table, 3), pool.submit(idle.append, 4)]
            while len(script.log) < 2:
                assert not wait(waiting, 0.001).done
            began = time.monotonic()
        assert time.monotonic() - began < 2
        assert isinstance(waiting[0].exception(2), requests.exceptions.ConnectionError)
        assert isinstance(waiting[1].exception(2), exceptions.GoogleAPICallError)
    assert not [it for it in threading.enumerate() if it not in before and it.name.startswith(("proxy", "ThreadPool"))]
    assert ids(emulator, table) == [1, 2]


def test_the_proxy_stops_at_once_though_idle_connections_are_open(emulator, table):
    with contextlib.ExitStack() as stack:
        with proxy(*emulator.bare) as p:
            clients = stack.enter_context(connect(p.rest, p.grpc))
            idle = stack.enter_context(Connection(clients, table))
            insert(clients, table, 1)
            idle.append(2)
            began = time.monotonic()
        assert time.monotonic() - began < 2
        with pytest.raises(exceptions.GoogleAPICallError):
            idle.append(3)
        with pytest.raises(requests.exceptions.ConnectionError):
            insert(clients, table, 3)

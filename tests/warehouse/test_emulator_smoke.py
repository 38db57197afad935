"""The emulator answers: what all other tests against BigQuery rest on."""

from __future__ import annotations

import importlib.metadata
import threading
from typing import Any

import pyarrow as pa
import pytest
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import types

pytestmark = pytest.mark.emulator


@pytest.fixture
def table(emulator: Any, bigquery_dataset: str) -> str:
    name = f"{emulator.project}.{bigquery_dataset}.notes"
    fields = [bigquery.SchemaField("id", "INTEGER", "REQUIRED"), bigquery.SchemaField("note", "STRING")]
    emulator.client.create_table(bigquery.Table(name, fields))
    return name


def rows(emulator: Any, table: str) -> list[tuple[int, str]]:
    job = emulator.client.query(f"SELECT id, note FROM `{table}` ORDER BY id")
    return [tuple(row.values()) for row in job.result()]


def test_the_pinned_emulator_is_installed():
    assert importlib.metadata.version("local-bigquery") == "0.3.2"


def test_a_row_inserted_by_the_client_is_queried_back(emulator, table):
    assert emulator.client.insert_rows_json(table, [{"id": 1, "note": "héllo"}]) == []
    assert rows(emulator, table) == [(1, "héllo")]


def request(emulator: Any, table: str, stream: str, offset: int) -> types.AppendRowsRequest:
    batch = pa.record_batch({"id": pa.array([offset + 1], pa.int64()), "note": ["streamed"]})
    arrow = types.AppendRowsRequest.ArrowData()
    arrow.writer_schema.serialized_schema = batch.schema.serialize().to_pybytes()
    arrow.rows.serialized_record_batch = batch.serialize().to_pybytes()
    return types.AppendRowsRequest(write_stream=stream, offset=offset, arrow_rows=arrow)


def append(emulator: Any, table: str, stream: str, offset: int) -> types.AppendRowsResponse:
    sent = request(emulator, table, stream, offset)
    metadata = [("x-goog-request-params", f"write_stream={stream}")]
    (answer,) = emulator.write.append_rows(iter([sent]), metadata=metadata)
    return answer


@pytest.fixture
def stream(emulator: Any, table: str) -> str:
    project, dataset, name = table.split(".")
    return emulator.write.create_write_stream(
        parent=f"projects/{project}/datasets/{dataset}/tables/{name}",
        write_stream=types.WriteStream(type_=types.WriteStream.Type.COMMITTED),
    ).name


def test_an_arrow_row_on_a_committed_stream_is_queried_back(emulator, table, stream):
    assert append(emulator, table, stream, 0).append_result.offset == 0
    assert rows(emulator, table) == [(1, "streamed")]
    finalized = emulator.write.finalize_write_stream(name=stream)
    assert finalized.row_count == 1


def test_one_of_many_connections_wins_an_offset(emulator, table, stream):
    answers: list[types.AppendRowsResponse] = []
    gate = threading.Barrier(8)

    def send() -> None:
        gate.wait()
        answers.append(append(emulator, table, stream, 0))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    already_exists = 6
    assert sorted(answer.error.code for answer in answers) == [0] + [already_exists] * 7
    assert rows(emulator, table) == [(1, "streamed")]


def test_a_stream_is_finalized_before_an_append_or_after_it_and_never_meanwhile(emulator, table, stream):
    def send() -> None:
        for offset in range(50):
            if append(emulator, table, stream, offset).error.code:
                return

    thread = threading.Thread(target=send)
    thread.start()
    while not rows(emulator, table):
        pass
    finalized = emulator.write.finalize_write_stream(name=stream)
    counted = len(rows(emulator, table))
    thread.join()
    assert finalized.row_count == counted == len(rows(emulator, table))

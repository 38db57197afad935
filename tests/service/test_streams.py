"""Each behaviour of streams bites; what the ledger does about it is in `test_mended`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import pyarrow as pa
import pytest
from google.cloud.bigquery_storage_v1 import types

from faults.proxy_grpc import Refused
from service.layer import Layer
from service.statements import ExactNumbers
from service.streams import NewColumns, NewObjects, OneConnection

QUERIES = "/bigquery/v2/projects/p/queries"
TABLE = "projects/p/datasets/d/tables/t"
DEFAULT, OWN = f"{TABLE}/streams/_default", f"{TABLE}/streams/s1"


def message(stream: str, **columns: list[object]) -> bytes:
    batch = pa.record_batch(columns or {"a": [1]})
    request = types.AppendRowsRequest(write_stream=stream)
    request.arrow_rows.writer_schema.serialized_schema = batch.schema.serialize().to_pybytes()
    request.arrow_rows.rows.serialized_record_batch = batch.serialize().to_pybytes()
    return types.AppendRowsRequest.serialize(request)


def accept(request: bytes) -> bytes:
    return types.AppendRowsResponse.serialize(types.AppendRowsResponse())


def run(layer: Layer, sql: str) -> None:
    layer.rest("POST", QUERIES, json.dumps({"query": sql}).encode(), lambda _: (200, [], b"{}"))


def append(layer: Layer, *requests: bytes) -> Iterator[types.AppendRowsResponse]:
    with layer.connection() as connection:
        for request in requests:
            yield types.AppendRowsResponse.deserialize(connection(request, accept))


def created(request: bytes) -> bytes:
    return types.WriteStream.serialize(types.WriteStream(name=OWN))


def test_a_new_table_is_not_found_by_its_first_append_and_an_old_one_is():
    layer = Layer([NewObjects(times=2)])
    assert len(list(append(layer, message(DEFAULT)))) == 1
    for _ in range(2):  # the second statement makes nothing new
        run(layer, "CREATE TABLE IF NOT EXISTS `p.d.t` (a INT64)")
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            list(append(layer, message(DEFAULT)))
        assert refused.value.code is grpc.StatusCode.NOT_FOUND
    assert len(list(append(layer, message(DEFAULT)))) == 1


def test_a_table_that_was_dropped_and_made_again_is_new():
    layer = Layer([NewObjects()])
    for _ in range(2):
        run(layer, "CREATE TABLE `p.d.t` (a INT64)")
        with pytest.raises(Refused):
            list(append(layer, message(DEFAULT)))
        run(layer, "DROP TABLE IF EXISTS `p.d.t`")


def test_no_stream_is_made_for_a_new_table_and_a_new_stream_is_not_found():
    layer = Layer([NewObjects()])
    run(layer, "CREATE TABLE `p.d.t` (a INT64)")
    request = types.CreateWriteStreamRequest.serialize(types.CreateWriteStreamRequest(parent=TABLE))
    with pytest.raises(Refused):
        layer.call("CreateWriteStream", request, created)
    layer.call("CreateWriteStream", request, created)
    with pytest.raises(Refused):
        list(append(layer, message(OWN)))
    assert len(list(append(layer, message(OWN)))) == 1


def test_a_new_column_is_refused_at_first_and_rows_without_it_are_not():
    layer = Layer([NewColumns()])
    run(layer, "ALTER TABLE `p.d.t` ADD COLUMN IF NOT EXISTS b STRING")
    assert [answer.error.code for answer in append(layer, message(DEFAULT))] == [0]
    codes = [answer.error.code for answer in append(layer, *[message(DEFAULT, a=[1], b=["x"])] * 2)]
    assert codes == [grpc.StatusCode.INVALID_ARGUMENT.value[0], 0]


def test_rows_whose_numbers_are_not_written_as_bigquery_does_are_named():
    layer = Layer([ExactNumbers()])
    (answer,) = append(layer, message(DEFAULT, value=["1.5", "67.174118", None, '"67.174118"']))
    assert [error.index for error in answer.row_errors] == [1]


def test_a_second_connection_to_a_stream_of_an_application_is_refused_and_one_to_the_default_stream_is_not():
    layer = Layer([OneConnection()])
    with ExitStack() as stack:
        first, other = (stack.enter_context(layer.connection()) for _ in range(2))
        first(message(DEFAULT), accept)
        other(message(DEFAULT), accept)
    with layer.connection() as first:
        first(message(OWN), accept)
        with layer.connection() as other, pytest.raises(Refused, match="another connection"):
            other(message(OWN), accept)
        first(message(OWN), accept)


def test_after_a_refusal_the_emulator_is_still_told_the_schema():
    layer, received = Layer([NewColumns()]), []

    def keep(request: bytes) -> bytes:
        received.append(types.AppendRowsRequest.deserialize(request))
        return accept(request)

    run(layer, "ALTER TABLE `p.d.t` ADD COLUMN a INT64")
    later = types.AppendRowsRequest.pb(types.AppendRowsRequest.deserialize(message(DEFAULT)))
    later.ClearField("write_stream")
    later.arrow_rows.ClearField("writer_schema")
    with layer.connection() as connection:
        connection(message(DEFAULT), keep)
        connection(later.SerializeToString(), keep)
    assert [(it.write_stream, bool(it.arrow_rows.writer_schema.serialized_schema)) for it in received] == [
        (DEFAULT, True)
    ]

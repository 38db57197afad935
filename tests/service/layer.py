"""A layer between Google's clients and the emulator that is as strict as the service is documented to be.

    with service(emulator.rest, emulator.grpc) as stricter, connect(stricter.rest, stricter.grpc) as clients: ...

Each way in which the service is stricter is a `Behaviour`, which sees the requests of REST, the statements among them,
the calls of gRPC and the appended rows, and may change, refuse or forward each. `BEHAVIOURS` in `service.stand_in` has
those that the whole BigQuery suite runs over.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import grpc
import pyarrow as pa
from google.cloud.bigquery_storage_v1 import types
from google.rpc import status_pb2

from faults import proxy_grpc, proxy_rest
from faults.proxy_rest import Answer, name

_COMMENTS = re.compile(r"--[^\n]*")
_TABLE = r"`?([A-Za-z0-9_.-]+)`?"
_MUTATED = re.compile(rf"\b(?:UPDATE|DELETE\s+FROM|MERGE\s+INTO|MERGE)\s+{_TABLE}", re.IGNORECASE)
_INSERTED = re.compile(rf"\bINSERT\s+INTO\s+{_TABLE}", re.IGNORECASE)
_STREAM = re.compile(r"projects/([^/]+)/datasets/([^/]+)/tables/([^/]+)(?:/streams/(.+))?")


def refusal(status: int, reason: str, message: str) -> Answer:
    """An answer of the REST interface with an error."""
    errors = [{"message": message, "domain": "global", "reason": reason}]
    body = json.dumps({"error": {"code": status, "message": message, "errors": errors}}).encode()
    return status, [("Content-Type", "application/json; charset=UTF-8")], body


@dataclass
class Request:
    """A request to the REST interface; `body` may be changed before it is forwarded."""

    method: str
    path: str
    content: bytes

    @property
    def name(self) -> str:
        return name(self.method, self.path)

    @cached_property
    def body(self) -> dict[str, Any]:
        found = json.loads(self.content) if self.content else {}
        return found if isinstance(found, dict) else {}

    @cached_property
    def statement(self) -> Statement | None:
        """The query that is run, if one is."""
        config = self.body.get("configuration", {}).get("query", self.body) if self.name == "POST query" else {}
        return Statement(self, config) if "query" in config else None

    @property
    def table(self) -> str:
        """``project.dataset.table`` of a path below a table."""
        parts = self.path.partition("/projects/")[2].partition("?")[0].split("/")
        return ".".join(parts[0:6:2]) if len(parts) > 4 and parts[3] == "tables" else ""


class Statement:
    """A query job: its text and what goes with it, as the request's body has them."""

    def __init__(self, request: Request, config: dict[str, Any]) -> None:
        self.request, self.config = request, config
        self.sql = _COMMENTS.sub("", config["query"])
        self.parameters: list[dict[str, Any]] = config.get("queryParameters") or []

    @property
    def location(self) -> str:
        found = self.request.body.get("location") or self.request.body.get("jobReference", {}).get("location")
        return str(found or "")

    @property
    def in_transaction(self) -> bool:
        return "BEGIN TRANSACTION" in self.sql.upper()

    @property
    def mutated(self) -> set[str]:
        """Tables of which rows are updated or deleted."""
        return {self.full(found) for found in _MUTATED.findall(self.sql)}

    @property
    def inserted(self) -> set[str]:
        return {self.full(found) for found in _INSERTED.findall(self.sql)}

    def full(self, table: str) -> str:
        """``project.dataset.table`` of a name in the statement."""
        default = self.config.get("defaultDataset") or {}
        return table if table.count(".") == 2 else f"{default.get('projectId')}.{default.get('datasetId')}.{table}"


@dataclass
class Append:
    """One message of an AppendRows stream."""

    stream: str
    schema: pa.Schema | None
    message: Any
    request: bytes

    @property
    def table(self) -> str:
        found = _STREAM.match(self.stream)
        return ".".join(found.group(1, 2, 3)) if found else ""

    @property
    def is_default(self) -> bool:
        return self.stream.endswith("/_default")

    @cached_property
    def rows(self) -> pa.RecordBatch | None:
        if self.schema is None:
            return None
        return pa.ipc.read_record_batch(pa.py_buffer(self.message.arrow_rows.rows.serialized_record_batch), self.schema)


def refused_rows(code: grpc.StatusCode, message: str, rows: Sequence[tuple[int, str]] = ()) -> bytes:
    """A response that refuses a message of AppendRows."""
    kind = types.RowError.RowErrorCode.FIELDS_ERROR
    errors = [{"index": index, "message": text, "code": kind} for index, text in rows]
    status = status_pb2.Status(code=code.value[0], message=message)
    return bytes(types.AppendRowsResponse.serialize({"error": status, "row_errors": errors}))


class Behaviour:
    """One way in which the service is stricter than the emulator; this one is not."""

    def rest(self, request: Request, forward: Callable[[], Answer]) -> Answer:
        """Answer a request that is no statement."""
        return forward()

    def run(self, statement: Statement, forward: Callable[[], Answer]) -> Answer:
        """Answer a statement."""
        return forward()

    def call(self, method: str, request: bytes, forward: Callable[[], bytes]) -> bytes:
        """Answer a call of gRPC other than AppendRows."""
        return forward()

    def append(self, append: Append, forward: Callable[[], bytes]) -> bytes:
        """Answer a message of AppendRows."""
        return forward()

    def connected(self, stream: str) -> None:
        """A connection sends its first message to this stream."""

    def disconnected(self, stream: str) -> None:
        """A connection to this stream has ended."""


class Layer(proxy_grpc.Between):
    """What lies between: the behaviours, each within the one before it."""

    def __init__(self, behaviours: Sequence[Behaviour]) -> None:
        self.behaviours = behaviours

    def rest(self, method: str, path: str, content: bytes, forward: proxy_rest.Forward) -> Answer:
        request = Request(method, path, content)
        statement = request.statement

        def send() -> Answer:
            # Numbers of a body that was not read keep their spelling.
            return forward(json.dumps(request.body).encode() if statement is not None else request.content)

        for it in reversed(self.behaviours):
            answer = partial(it.rest, request) if statement is None else partial(it.run, statement)
            send = partial(answer, send)
        return send()

    def call(self, name: str, request: bytes, forward: proxy_grpc.Forward) -> bytes:
        send = partial(forward, request)
        for it in reversed(self.behaviours):
            send = partial(it.call, name, request, send)
        return send()

    @contextlib.contextmanager
    def connection(self) -> Iterator[Callable[[bytes, proxy_grpc.Forward], bytes]]:
        connection = _Connection(self.behaviours)
        try:
            yield connection.append
        finally:
            for it in self.behaviours if connection.stream else ():
                it.disconnected(connection.stream)


class _Connection:
    """An AppendRows stream: only its first message names the stream, and only that of a new schema the schema."""

    def __init__(self, behaviours: Sequence[Behaviour]) -> None:
        self._behaviours = behaviours
        self._schema: pa.Schema | None = None
        self._refused = b""
        self.stream = ""

    def append(self, request: bytes, forward: proxy_grpc.Forward) -> bytes:
        message = types.AppendRowsRequest.pb(types.AppendRowsRequest.deserialize(request))
        if message.write_stream and message.write_stream != self.stream:
            self.stream = message.write_stream
            for it in self._behaviours:
                it.connected(self.stream)
        if message.arrow_rows.HasField("writer_schema"):
            serialized = message.arrow_rows.writer_schema.serialized_schema
            self._schema = pa.ipc.read_schema(pa.py_buffer(serialized))
        forwarded = False

        def send() -> bytes:
            nonlocal forwarded
            forwarded = True
            body = proxy_grpc.remembering(self._refused, request) if self._refused else request
            self._refused = b""
            return forward(body)

        append = Append(self.stream, self._schema, message, request)
        answer = send
        for it in reversed(self._behaviours):
            answer = partial(it.append, append, answer)
        try:
            return answer()
        finally:
            if not forwarded:
                self._refused = proxy_grpc.without_rows(request)


@dataclass(frozen=True)
class Service:
    """A running layer."""

    rest: str  # http://host:port
    grpc: str  # host:port


@contextlib.contextmanager
def service(rest_url: str, grpc_address: str, behaviours: Sequence[Behaviour]) -> Iterator[Service]:
    """Run a layer over the emulator at these addresses."""
    layer = Layer(behaviours)

    def admit(request: str) -> None:
        return None

    with (
        proxy_rest.serve(rest_url, admit, between=layer.rest) as rest,
        proxy_grpc.serve(grpc_address, admit, admit, between=layer) as address,
    ):
        yield Service(rest, address)

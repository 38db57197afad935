"""How the service treats new tables, columns, streams and connections, where the emulator is kinder."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable

import grpc
from google.cloud.bigquery_storage_v1 import types

from faults.proxy_grpc import Refused
from faults.proxy_rest import Answer
from service.layer import Append, Behaviour, Request, Statement, refusal, refused_rows

_CREATED = re.compile(r"\bCREATE\s+(?:OR\s+REPLACE\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?`([\w.-]+)`", re.IGNORECASE)
_DROPPED = re.compile(r"\bDROP\s+TABLE\s+(?:IF\s+EXISTS\s+)?`([\w.-]+)`", re.IGNORECASE)
_ADDED = re.compile(r"\bALTER\s+TABLE\s+`([\w.-]+)`(.*)", re.IGNORECASE | re.DOTALL)
_COLUMN = re.compile(r"\bADD\s+COLUMN\s+(?:IF\s+NOT\s+EXISTS\s+)?`?(\w+)", re.IGNORECASE)


class NewObjects(Behaviour):
    """A table or a stream just created is not found by the first requests that append to it.

    Args:
        times: How many requests do not find a new table, and how many a new stream. The service takes seconds to
            minutes; here no time passes.

    Source: github.com/apache/beam, pull request 38132; github.com/googleapis/google-cloud-go, issue 12449;
    github.com/supabase/etl, pull request 862.
    """

    def __init__(self, times: int = 1) -> None:
        self._times = times
        self._left: Counter[str] = Counter()
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def run(self, statement: Statement, forward: Callable[[], Answer]) -> Answer:
        answer = forward()
        if answer[0] == 200 and "TABLE" in statement.sql.upper():
            with self._lock:
                self._known.difference_update(_DROPPED.findall(statement.sql))
            for table in _CREATED.findall(statement.sql):
                self._begin(table)
        return answer

    def rest(self, request: Request, forward: Callable[[], Answer]) -> Answer:
        if request.name == "POST insertAll" and self._is_unknown(request.table):
            return refusal(404, "notFound", f"Not found: Table {request.table.replace('.', ':', 1)}")
        if request.name == "DELETE dataset":
            dataset = request.path.partition("/projects/")[2].partition("?")[0].replace("/datasets/", ".")
            with self._lock:
                self._known = {table for table in self._known if not table.startswith(f"{dataset}.")}
        return forward()

    def call(self, method: str, request: bytes, forward: Callable[[], bytes]) -> bytes:
        if method != "CreateWriteStream":
            return forward()
        parent = types.CreateWriteStreamRequest.deserialize(request).parent
        if self._is_unknown(".".join(parent.split("/")[1::2])):
            raise Refused(grpc.StatusCode.NOT_FOUND, f"Requested entity was not found. Entity: {parent}")
        answer = forward()
        self._begin(types.WriteStream.deserialize(answer).name)
        return answer

    def append(self, append: Append, forward: Callable[[], bytes]) -> bytes:
        if self._is_unknown(append.table if append.is_default else append.stream):
            message = f"Requested entity was not found. Entity: {append.stream}"
            raise Refused(grpc.StatusCode.NOT_FOUND, message)
        return forward()

    def _begin(self, name: str) -> None:
        with self._lock:
            if name not in self._known:
                self._known.add(name)
                self._left[name] = self._times

    def _is_unknown(self, name: str) -> bool:
        with self._lock:
            if self._left[name] <= 0:
                return False
            self._left[name] -= 1
            return True


class NewColumns(Behaviour):
    """Streams do not know a column just added, and refuse rows that have it.

    Args:
        times: How many requests are refused; the service takes minutes.

    Source: github.com/snowplow-incubator/snowplow-bigquery-loader, issues 366 and 367; the documentation of the Storage
    Write API, "Handle table schema changes".
    """

    def __init__(self, times: int = 1) -> None:
        self._times = times
        self._left: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def run(self, statement: Statement, forward: Callable[[], Answer]) -> Answer:
        answer = forward()
        altered = _ADDED.search(statement.sql)
        if answer[0] == 200 and altered:
            with self._lock:
                for column in _COLUMN.findall(altered[2]):
                    self._left[altered[1], column] = self._times
        return answer

    def rest(self, request: Request, forward: Callable[[], Answer]) -> Answer:
        if request.name == "POST insertAll":
            unknown = self._unknown(request.table, set(request.body["rows"][0]["json"]))
            if unknown:
                errors = [{"reason": "invalid", "location": unknown, "message": f"no such field: {unknown}."}]
                body = {
                    "kind": "bigquery#tableDataInsertAllResponse",
                    "insertErrors": [{"index": i, "errors": errors} for i, _ in enumerate(request.body["rows"])],
                }
                return 200, [("Content-Type", "application/json")], json.dumps(body).encode()
        return forward()

    def append(self, append: Append, forward: Callable[[], bytes]) -> bytes:
        names = set(append.schema.names) if append.schema is not None else set()
        if self._unknown(append.table, names):
            return refused_rows(
                grpc.StatusCode.INVALID_ARGUMENT,
                "Input schema has more fields than BigQuery schema, extra fields: 'value'",
            )
        return forward()

    def _unknown(self, table: str, columns: set[str]) -> str:
        with self._lock:
            for (of, column), left in self._left.items():
                if of == table and column in columns and left > 0:
                    self._left[of, column] -= 1
                    return column
        return ""


class OneConnection(Behaviour):
    """A stream that an application has created takes one connection at a time; a second one is refused.

    Source: the documentation of the Storage Write API, "Limit the number of concurrent connections".
    """

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    def connected(self, stream: str) -> None:
        if not stream.endswith("/_default"):
            with self._lock:
                self._open[stream] += 1

    def append(self, append: Append, forward: Callable[[], bytes]) -> bytes:
        if self._open[append.stream] > 1:
            raise Refused(grpc.StatusCode.ABORTED, f"There is another connection to the stream {append.stream}")
        return forward()

    def disconnected(self, stream: str) -> None:
        with self._lock:
            self._open[stream] -= 1

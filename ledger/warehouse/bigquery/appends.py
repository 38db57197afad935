"""Append rows to BigQuery: over one long-lived Storage Write connection per table, or by insertAll."""

from __future__ import annotations

import base64
import hashlib
import queue
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any, Protocol

import grpc
import pyarrow as pa
from google.api_core import exceptions as api

from ledger.errors import ConfigurationError, LedgerError, StoreRejected, StoreUnavailable
from ledger.warehouse.bigquery import reasons
from ledger.warehouse.bigquery.clients import ONCE, Clients
from ledger.warehouse.bigquery.errors import OutcomeLost, never_sent, translate

#: Maximum bytes of rows in one request. The service accepts requests of up to 10 MB, including their other fields.
REQUEST_BYTES = 9_000_000
#: Timeout of one acknowledgement, in seconds.
ACK_SECONDS = 60.0
_UPDATE = "If the table's columns differ from this release's, run create_sessions_table.py (or `ledger init`)."


class RowTransport(Protocol):
    """A way to append rows to a table. ``send`` returns only after BigQuery has acknowledged the rows."""

    @property
    def request_bytes(self) -> int:
        """Maximum bytes of rows in one request, as Arrow counts them."""
        ...

    def send(self, table: str, rows: pa.RecordBatch) -> None:
        """Append rows, all or none.

        Raises:
            OutcomeLost: The rows may have been appended.
            StoreUnavailable: No row was appended; the same call may succeed later.
            StoreRejected, ConfigurationError, ValueTooLarge: No row was appended.
        """
        ...

    def disconnect(self, table: str) -> None:
        """Close the connection to a table, if there is one, because the table is going to be dropped."""
        ...

    def close(self) -> None:
        """Close all connections; pending calls fail."""
        ...


class StorageWrites:
    """The transport over the Storage Write API. It appends Arrow rows to the default stream of a table.

    All threads share one connection per table. BigQuery closes an idle connection after some minutes; the next append
    opens a new one. Acknowledged rows can be queried at once.
    """

    request_bytes = REQUEST_BYTES

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._connections: dict[str, Connection] = {}
        self._lock = threading.RLock()

    def send(self, table: str, rows: pa.RecordBatch) -> None:
        """Append rows, all or none; see ``RowTransport.send``."""
        dataset = self._clients.dataset
        path = f"projects/{self._clients.project}/datasets/{dataset.name}/tables/{table}/streams/_default"
        with self._lock:
            connection = self._connections.get(table)
            if connection is None or not connection.usable:
                connection = self._connections[table] = Connection(self._clients, path)
        response = connection.send(rows)
        if response.error.code:
            connection.resend_schema()
            raise self._refusal(table, response)

    def disconnect(self, table: str) -> None:
        """Close the connection to a table, if there is one."""
        with self._lock:
            connection = self._connections.pop(table, None)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close all connections; pending calls fail."""
        with self._lock:
            connections = list(self._connections.values())
            self._connections.clear()
        for connection in connections:
            connection.close()

    def _refusal(self, table: str, response: Any) -> LedgerError:
        code, message = reasons.code_of_number(response.error.code), response.error.message
        rows = "".join(f" Row {row.index}: {row.message}." for row in response.row_errors[:3])
        refused = self._translated(table, code, f"{message}.{rows}")
        refused.__cause__ = api.from_grpc_status(response.error.code, message)
        return refused

    def _translated(self, table: str, code: grpc.StatusCode | None, message: str) -> LedgerError:
        if code in reasons.PERMANENT_CODES:
            return StoreRejected(f"BigQuery refused rows for {table} ({code.name}): {message} {_UPDATE}")
        if code in reasons.MISSING:
            return ConfigurationError(
                f"BigQuery has no table for the rows: {message} Run create_sessions_table.py (or `ledger init`)."
            )
        return OutcomeLost(f"BigQuery failed to append rows to {table}; a retry may succeed: {message}")


class Connection:
    """One gRPC call of AppendRows to one stream. Requests are sent in order; responses arrive in the same order."""

    def __init__(self, clients: Clients, path: str) -> None:
        self._clients = clients
        self._forks = clients.forks
        self._path = path
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._unanswered: deque[Future[Any]] = deque()
        self._lock = threading.RLock()
        self._call: Any = None
        self._schema: pa.Schema | None = None
        self._is_open = True

    @property
    def usable(self) -> bool:
        """False if the call has ended, or belongs to the process that this one was forked from."""
        return self._is_open and self._forks == self._clients.forks

    def send(self, rows: pa.RecordBatch, offset: int | None = None) -> Any:
        """Send rows and return the response, which may contain an error.

        Args:
            offset: Number of rows that the stream must already have; None on a default stream, which has no offsets.

        Raises:
            OutcomeLost: No response arrived; the rows may have been appended.
            LedgerError: The call ended and no row was appended; the cause is Google's error.
        """
        try:
            with self._clients.writing() as write:
                return self._append(write, rows, offset).result(ACK_SECONDS)
        except TimeoutError as error:
            self.close()
            raise OutcomeLost(f"The append to {self._path} was not acknowledged in {ACK_SECONDS:.0f} s.") from error

    def resend_schema(self) -> None:
        """Put the path and schema into the next request again. After a refusal BigQuery may have forgotten them."""
        with self._lock:
            self._schema = None

    def close(self) -> None:
        """End the call; requests without a response fail."""
        if self._forks != self._clients.forks:  # it is the parent's, which uses it
            return
        with self._lock:
            self._is_open = False
            call = self._call
        self._requests.put(None)
        if call is not None:
            call.cancel()

    def _append(self, write: Any, rows: pa.RecordBatch, offset: int | None) -> Future[Any]:
        """Queue rows and return a future of the response.

        If the call ends before the response arrives, the future fails. The error is OutcomeLost if the rows may have
        been appended, and another LedgerError if they were not.
        """
        answer: Future[Any] = Future()
        with self._lock:
            if not self.usable:
                answer.set_exception(
                    StoreUnavailable("The connection to BigQuery was closed before the rows were sent.")
                )
                return answer
            try:
                self._unanswered.append(answer)
                self._requests.put(self._request(rows, offset))
            except BaseException:  # later responses would be taken for those of other requests
                self._is_open = False
                raise
            if self._call is None:
                try:
                    self._open(write)
                except Exception as error:  # noqa: BLE001 - the channel was closed concurrently: nothing was sent
                    self._is_open = False
                    self._unanswered.remove(answer)
                    answer.set_exception(StoreUnavailable(f"The connection to BigQuery cannot be opened: {error}"))
        return answer

    def _request(self, rows: pa.RecordBatch, offset: int | None) -> Any:
        from google.cloud.bigquery_storage_v1 import types

        arrow = types.AppendRowsRequest.ArrowData()
        arrow.rows.serialized_record_batch = rows.serialize().to_pybytes()
        request = types.AppendRowsRequest(arrow_rows=arrow)
        if offset is not None:
            request.offset = offset
        if self._schema != rows.schema:  # the service keeps the schema of the previous request
            request.arrow_rows.writer_schema.serialized_schema = rows.schema.serialize().to_pybytes()
            request.write_stream = self._path
            self._schema = rows.schema
        return request

    def _open(self, write: Any) -> None:
        """Start the call with Google's client.

        A request must already be queued, because the server does not respond before it gets one.
        """
        # Google's wrapper of this method blocks until the first response and adds no routing header.
        routing = [("x-goog-request-params", f"write_stream={self._path}")]
        self._call = write.transport.append_rows(iter(self._requests.get, None), metadata=routing)
        threading.Thread(target=self._receive, name="ledger-append-answers", daemon=True).start()

    def _receive(self) -> None:
        """Give each response to the oldest pending future. When the call ends, fail the futures that remain."""
        ended: Exception | None = None
        try:
            for response in self._call:
                self._next_unanswered().set_result(response)
        except Exception as error:  # noqa: BLE001 - every waiting caller receives it
            ended = error
        with self._lock:
            self._is_open = False
            unanswered = list(self._unanswered)
            self._unanswered.clear()
        self._requests.put(None)  # ends gRPC's thread that reads the requests
        for answer in unanswered:
            lost = OutcomeLost("BigQuery closed the connection before it acknowledged the rows.")
            answer.set_exception(lost if ended is None else _error_at_end(ended))

    def _next_unanswered(self) -> Future[Any]:
        with self._lock:
            return self._unanswered.popleft()


def _error_at_end(ended: Exception) -> LedgerError:
    """Return the error for requests that are still without a response when the call ends.

    A transient error or a network error becomes OutcomeLost. A failure to connect does not, because nothing was sent.

    Args:
        ended: The error with which the call ended.
    """
    translated = translate(ended, "The append", writes=True)
    if isinstance(translated, StoreUnavailable) and not never_sent(ended):
        translated = OutcomeLost(str(translated))
    translated.__cause__ = ended
    return translated


class InsertAll:
    """The transport over insertAll, BigQuery's legacy streaming API. It uses REST, for networks without gRPC.

    For some 30 minutes after an append, BigQuery refuses DML on the appended rows.
    """

    #: A third of ``REQUEST_BYTES``: the limit counts Arrow bytes, and rows may take three times as many in JSON.
    request_bytes = REQUEST_BYTES // 3

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def send(self, table: str, rows: pa.RecordBatch) -> None:
        """Append rows, all or none; see ``RowTransport.send``.

        If the same rows are sent twice within a minute, BigQuery drops most of the duplicates.
        """
        rest, name = self._clients.rest, f"{self._clients.project}.{self._clients.dataset.name}.{table}"
        content = [_as_json(row) for row in rows.to_pylist()]
        try:
            errors = rest.insert_rows_json(
                name, content, row_ids=[_insert_id(row) for row in content], retry=ONCE, timeout=ACK_SECONDS
            )
        except Exception as error:
            raise translate(error, f"The append to {table}", writes=True, place=self._clients.place) from error
        if errors:
            causes = [cause for row in errors for cause in row.get("errors", ()) if cause.get("reason") != "stopped"]
            message = causes[0].get("message", "") if causes else str(errors[0])
            raise StoreRejected(f"BigQuery refused rows for {table}: {message} {_UPDATE}")

    def disconnect(self, table: str) -> None:
        """Do nothing: there is no connection per table."""

    def close(self) -> None:
        """Do nothing: there is no connection."""


def requests_of(rows: pa.RecordBatch, limit: int = REQUEST_BYTES) -> Iterator[pa.RecordBatch]:
    """Yield the rows in batches that each fit into one request.

    The rows of an event must be adjacent; they all go into the same batch. A single event always fits into one
    request, because the size of an event is limited; see ``ledger.model.events.MAX_EVENT_BYTES``.
    """
    if rows.nbytes <= limit or rows.num_rows < 2:
        yield rows
        return
    middle = _boundary(rows, rows.num_rows // 2)
    if middle is None:
        yield rows
        return
    yield from requests_of(_copy_of(rows, 0, middle), limit)
    yield from requests_of(_copy_of(rows, middle, rows.num_rows), limit)


def _boundary(rows: pa.RecordBatch, near: int) -> int | None:
    """Return an index, close to ``near``, at which an event begins.

    It is the last such index up to ``near``. If there is none, it is the first such index after ``near``. Index 0
    does not count, so the result is None if all rows belong to one event.
    """
    sessions, events = rows.column("session_id"), rows.column("event_id")

    def begins_event(index: int) -> bool:
        return bool(events[index] != events[index - 1] or sessions[index] != sessions[index - 1])

    return next(
        (index for index in (*range(near, 0, -1), *range(near + 1, rows.num_rows)) if begins_event(index)), None
    )


def _copy_of(rows: pa.RecordBatch, start: int, end: int) -> pa.RecordBatch:
    """Return a copy of the rows from ``start`` up to, but excluding, ``end``.

    A slice would share the buffers of the whole batch, and Arrow would count and send all of them.
    """
    return pa.RecordBatch.from_arrays(
        [pa.concat_arrays([column.slice(start, end - start)]) for column in rows.columns], schema=rows.schema
    )


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value for name, value in row.items()
    }


def _insert_id(row: dict[str, Any]) -> str:
    """Return the deduplication id of a row.

    For a row of ``session_events`` it is a hash of the primary key. For any other row it is a hash of all columns.
    """
    names = ("session_id", "event_id", "field", "key") if "event_id" in row else tuple(row)
    text = "\0".join(str(row[name]) for name in names)
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")

"""Write streams of a relay's own: rows at offsets, so that a request that is sent twice is carried out once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import grpc
import pyarrow as pa
from google.api_core import exceptions as api

from ledger.errors import LedgerError, RowsRefused, StoreUnavailable, StreamEnded, ValueTooLarge
from ledger.warehouse.bigquery import reasons
from ledger.warehouse.bigquery.appends import ACK_SECONDS, Connection
from ledger.warehouse.bigquery.clients import ONCE
from ledger.warehouse.bigquery.errors import OutcomeLost, message_of, translate
from ledger.warehouse.bigquery.jobs import Jobs

T = TypeVar("T")


class RequestRefused(StreamEnded):
    """A request was refused, and it was not said for which row; that may be about the stream, or about the rows."""


def create(warehouse: Jobs, table: str, *, is_new: bool = False) -> str:
    """The name of a new stream, whose rows can be read as soon as they are acknowledged.

    Args:
        is_new: Whether the table was made a moment ago: then streams may not know of it yet.

    Raises:
        StoreUnavailable: There is none that anybody will use.
        StoreRejected, ConfigurationError: The table, or a permission, is not as it must be.
    """
    from google.cloud.bigquery_storage_v1 import types

    clients = warehouse.clients
    parent = f"projects/{clients.project}/datasets/{warehouse.dataset.name}/tables/{table}"

    def once() -> str:
        wanted = types.WriteStream(type_=types.WriteStream.Type.COMMITTED)
        try:
            made = clients.write.create_write_stream(
                parent=parent, write_stream=wanted, retry=ONCE, timeout=ACK_SECONDS
            )
        except Exception as error:
            if is_new and reasons.code_of(error) in reasons.NEW_TABLE_UNKNOWN:
                raise StoreUnavailable(
                    f"The new table {table} cannot be written to yet: {message_of(error)}"
                ) from error
            raise translate(error, f"Making a stream into {table}") from error
        return str(made.name)

    return asked(warehouse, "Making a stream", once)


def finalize(warehouse: Jobs, name: str) -> int | None:
    """How many rows a stream has taken in all, now that it takes no more; None where it is known no longer.

    Raises:
        StoreUnavailable: It may still take rows.
        StoreRejected, ConfigurationError: As for ``create``.
    """

    def once() -> int | None:
        try:
            done = warehouse.clients.write.finalize_write_stream(name=name, retry=ONCE, timeout=ACK_SECONDS)
        except Exception as error:
            if reasons.code_of(error) in reasons.STREAM_GONE:
                return None
            raise translate(error, "Ending a stream") from error
        return int(done.row_count)

    return asked(warehouse, "Ending a stream", once)


class WriteStream:
    """A stream that rows are appended to at offsets, over a connection that is made anew whenever that ended.

    Args:
        name: As ``create`` gave it.
    """

    def __init__(self, warehouse: Jobs, name: str) -> None:
        self.name = name
        self._warehouse = warehouse
        self._connection: Connection | None = None

    def append(self, rows: pa.RecordBatch, offset: int) -> None:
        """Add rows after the first ``offset``, all or none; on return they are there, once.

        Raises:
            RequestRefused, StreamEnded: The stream may have taken them before it ended, but takes no more.
            StoreUnavailable: They may be there; the same call, sooner or later, adds them once.
            RowsRefused: They are not there, and the service said which is unfit.
            ValueTooLarge, StoreRejected, ConfigurationError: They are not there.
        """
        ended = asked(self._warehouse, "The append", lambda: self._try(rows, offset))
        if ended is not None:
            raise ended

    def close(self) -> None:
        """Let go of the connection; calling it again does nothing."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _try(self, rows: pa.RecordBatch, offset: int) -> StreamEnded | None:
        """Send rows once; what ends the stream is returned, as it would be tried again were it raised."""
        if self._connection is None or not self._connection.usable:
            self._connection = Connection(self._warehouse.clients, self.name)
        try:
            response = self._connection.send(rows, offset)
        except LedgerError as error:
            self.close()
            return _outcome(error, reasons.code_of(error.__cause__), str(error))
        if not response.error.code:
            return None
        self.close()
        code, said = reasons.code_of_number(response.error.code), response.error.message
        if response.row_errors:
            raise RowsRefused(
                f"BigQuery refused rows: {said}", {row.index: row.message or said for row in response.row_errors}
            )
        refused = api.from_grpc_status(response.error.code, said)
        return _outcome(translate(refused, "The append"), code, said)


def _outcome(error: LedgerError, code: grpc.StatusCode | None, said: str) -> StreamEnded | None:
    """What a refusal says of a stream; None where the rows are there already.

    Raises:
        LedgerError: Nothing of the stream.
    """
    if code in reasons.ROWS_THERE:
        return None
    if code is None or code not in reasons.STREAM_ENDED or isinstance(error, ValueTooLarge):
        raise error
    about_rows = code in reasons.ROWS_INVALID and not reasons.NOT_ABOUT_ROWS.search(said)
    kind = RequestRefused if about_rows else StreamEnded
    return kind(f"BigQuery takes no more rows on this stream ({code.name}): {said}")


def asked(warehouse: Jobs, doing: str, once: Callable[[], T]) -> T:
    """What a call returns that may be made any number of times, and is while its errors are ``retryable``.

    Raises:
        StoreUnavailable: Patience ended; it may have been carried out, and can be asked again.
        LedgerError: It will not be answered otherwise.
    """
    try:
        return warehouse.retry(doing, once)
    except OutcomeLost as error:
        raise StoreUnavailable(str(error)) from error

"""Write streams of a relay. Each request names its offset in the stream, so a request sent twice is executed once."""

from __future__ import annotations

import grpc
import pyarrow as pa
from google.api_core import exceptions as api

from ledger.errors import LedgerError, RowsRefused, StreamEnded, ValueTooLarge
from ledger.warehouse.bigquery import reasons
from ledger.warehouse.bigquery.appends import ACK_SECONDS, Connection
from ledger.warehouse.bigquery.clients import ONCE
from ledger.warehouse.bigquery.errors import NotYetVisible, message_of, translate
from ledger.warehouse.bigquery.jobs import Jobs


class RequestRefused(StreamEnded):
    """Raised if BigQuery refuses a request without naming a row. Either the stream or the rows may be at fault."""


def create(warehouse: Jobs, table: str) -> str:
    """Create a stream whose rows can be read as soon as they are acknowledged, and return its name.

    Raises:
        StoreUnavailable: No stream was created, or one was created but its name was lost, so it stays unused.
        StoreRejected, ConfigurationError: The table or a permission is missing.
    """
    from google.cloud.bigquery_storage_v1 import types

    clients = warehouse.clients
    parent = f"projects/{clients.project}/datasets/{warehouse.dataset.name}/tables/{table}"

    def call() -> str:
        committed = types.WriteStream(type_=types.WriteStream.Type.COMMITTED)
        doing = f"Creating a write stream for {table}"
        with clients.writing() as write:
            try:
                stream = write.create_write_stream(
                    parent=parent, write_stream=committed, retry=ONCE, timeout=ACK_SECONDS
                )
            except Exception as error:
                if reasons.code_of(error) in reasons.MISSING and warehouse.table(table) is not None:
                    raise NotYetVisible(f"The table {table} cannot be written to yet: {message_of(error)}") from error
                raise translate(error, doing, writes=True, place=clients.place) from error
        return str(stream.name)

    return warehouse.retry_idempotent(f"Creating a write stream for {table}", call)


def finalize(warehouse: Jobs, name: str) -> int | None:
    """Finalize a stream, so that it accepts no more rows, and return its row count.

    Returns:
        The number of rows in the stream; None if BigQuery has removed the stream.

    Raises:
        StoreUnavailable: The stream may still accept rows.
        StoreRejected, ConfigurationError: The table or a permission is missing.
    """

    def call() -> int | None:
        clients = warehouse.clients
        with clients.writing() as write:
            try:
                finalized = write.finalize_write_stream(name=name, retry=ONCE, timeout=ACK_SECONDS)
            except Exception as error:
                if reasons.code_of(error) in reasons.STREAM_GONE:
                    return None
                raise translate(error, "Finalizing a write stream", writes=True, place=clients.place) from error
        return int(finalized.row_count)

    return warehouse.retry_idempotent("Finalizing a write stream", call)


class WriteStream:
    """A client that appends rows to one stream. If its connection has ended, the next append opens another.

    Args:
        name: The stream's name, as ``create`` returned it.
        is_new: True if the stream was just created. Until it has rows BigQuery may not find it, so that is retried.
    """

    def __init__(self, warehouse: Jobs, name: str, *, is_new: bool = False) -> None:
        self.name = name
        self._is_new = is_new
        self._warehouse = warehouse
        self._connection: Connection | None = None

    def append(self, rows: pa.RecordBatch, offset: int) -> None:
        """Append rows at an offset, all or none. When the call returns, the table has the rows exactly once.

        Args:
            offset: Number of rows that the stream must have before this append.

        Raises:
            RequestRefused, StreamEnded: The stream accepts no more rows. It may already have the rows of this call.
            StoreUnavailable: The rows may have been appended. A repeated call does not append them again.
            RowsRefused: No row was appended; the service named the rows at fault.
            ValueTooLarge, StoreRejected, ConfigurationError: No row was appended.
        """
        try:
            ended = self._warehouse.retry_idempotent("The append", lambda: self._append_once(rows, offset))
        except NotYetVisible as error:
            ended = StreamEnded(str(error))
            ended.__cause__ = error
        if ended is not None:
            raise ended
        self._is_new = False

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _append_once(self, rows: pa.RecordBatch, offset: int) -> StreamEnded | None:
        """Send rows once. Return None if the stream has the rows, or a StreamEnded if the stream accepts no more rows.

        The StreamEnded is returned because it is retryable: if it were raised, the caller would repeat the request.
        """
        if self._connection is None or not self._connection.usable:
            self._connection = Connection(self._warehouse.clients, self.name)
        try:
            response = self._connection.send(rows, offset)
        except LedgerError as error:
            self.close()
            cause = error.__cause__  # whose message recommends no repair
            self._check_visible(
                rows, reasons.code_of(cause), message_of(cause if isinstance(cause, Exception) else error)
            )
            return _end_of_stream(error, reasons.code_of(error.__cause__), str(error))
        if not response.error.code:
            return None
        self.close()
        code, message = reasons.code_of_number(response.error.code), response.error.message
        if response.row_errors:
            raise RowsRefused(
                f"BigQuery refused rows: {message}", {row.index: row.message or message for row in response.row_errors}
            )
        self._check_visible(rows, code, message)
        refused = api.from_grpc_status(response.error.code, message)
        return _end_of_stream(
            translate(refused, "The append", writes=True, place=self._warehouse.clients.place), code, message
        )

    def _check_visible(self, rows: pa.RecordBatch, code: grpc.StatusCode | None, message: str) -> None:
        """Raise NotYetVisible if the stream or a column of its table may be unknown only because it is new."""
        if self._is_new and code in reasons.MISSING:
            raise NotYetVisible(f"The new write stream cannot be written to yet: {message}")
        table = self.name.split("/")[5]
        if reasons.COLUMN_UNKNOWN.search(message) and self._warehouse.has_columns(table, rows.schema.names):
            raise NotYetVisible(f"The new columns of {table} cannot be written to yet: {message}")


def _end_of_stream(error: LedgerError, code: grpc.StatusCode | None, message: str) -> StreamEnded | None:
    """Tell from the error of an append whether the stream has ended.

    Returns:
        StreamEnded or RequestRefused if the stream accepts no more rows; None if the error only says that an earlier
        attempt appended the rows.

    Raises:
        LedgerError: ``error`` itself, in all other cases.
    """
    if code in reasons.ROWS_THERE:
        return None
    if code is None or code not in reasons.STREAM_ENDED or isinstance(error, ValueTooLarge):
        raise error
    about_rows = code in reasons.ROWS_INVALID and not reasons.NOT_ABOUT_ROWS.search(message)
    kind = RequestRefused if about_rows else StreamEnded
    return kind(f"BigQuery accepts no more rows on this stream ({code.name}): {message}")

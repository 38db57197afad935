"""The warehouse in BigQuery: parametrised queries and appends of rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from ledger import forking
from ledger.errors import ConfigurationError, LedgerError, StoreRejected
from ledger.warehouse import catalog
from ledger.warehouse.answer import Answer, array_of, fields_of
from ledger.warehouse.base import Parameters
from ledger.warehouse.bigquery import reasons
from ledger.warehouse.bigquery.errors import NotYetVisible, message_of
from ledger.warehouse.bigquery.expiration import PartitionExpiration
from ledger.warehouse.bigquery.jobs import Jobs, answer_of, log
from ledger.warehouse.bigquery.operations import operation_of
from ledger.warehouse.bigquery.settings import Dataset

if TYPE_CHECKING:
    import pyarrow as pa

    from ledger.warehouse.bigquery.appends import RowTransport

T = TypeVar("T")
#: Maximum number of rows that a user's query takes from its response. A larger result is downloaded through the
#: Storage Read API, which is faster for many rows.
FIRST_PAGE = 10_000


class BigQueryWarehouse(Jobs, forking.Renewed):
    """The ledger's tables, views and functions in a dataset. Thread-safe.

    The first call connects; only ``create`` creates objects.

    Args:
        dataset: The dataset and its options.
        environment: Environment variables; None for those of this process.
        sleep: Called with the seconds to wait before the next attempt.

    Raises:
        ConfigurationError: An emulator's address is malformed.
    """

    indexes_every_session = False

    def __init__(
        self,
        dataset: Dataset,
        *,
        environment: Mapping[str, str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(dataset, environment=environment, sleep=sleep)
        self._transport: RowTransport | None = None
        self._transport_lock = threading.RLock()
        self._expiration: PartitionExpiration | None = None
        forking.register(self, forking.Stage.WAREHOUSES)

    def renew(self) -> None:
        """Forget the connections for appends, which a forked child inherited; see ``Clients.renew``."""
        if self._transport is not None:
            forking.keep(self._transport)
        self._transport = None
        self._transport_lock = threading.RLock()

    def create(self) -> None:
        """Create missing objects and bring views and functions up to date; rows and columns are kept."""
        from ledger.warehouse.bigquery.tables import create

        create(self)

    def add_missing(self) -> None:
        """Create missing objects in a dataset that exists; see ``Warehouse.add_missing``.

        A dataset is created by ``ledger init`` only: a mistyped name would become a dataset, and a dataset without a
        location is in the US for good.
        """
        if self.describe() is None:
            project, dataset = self.clients.place
            raise ConfigurationError(
                f"The dataset {project}.{dataset} does not exist, and nothing was written. Check the URL of the "
                "warehouse. To create the dataset, choose its location, which cannot be changed later: "
                f"ledger --url 'bigquery://{project}/{dataset}?location=EU' init"
            )
        self.create()

    def expiration(self) -> PartitionExpiration:
        """Return how long ``session_events`` keeps the rows of a day, which is looked up once, at no cost.

        If the table does not exist, or its description may not be read, there is no expiration.

        Raises:
            StoreUnavailable: The table cannot be looked up now.
        """
        if self._expiration is None:
            try:
                table = self.table("session_events")
            except ConfigurationError as error:  # an append fails too if the credentials are at fault
                log.info("The expiration of session_events is unknown: %s", error)
                self._expiration = PartitionExpiration()
            else:
                if table is None:
                    return PartitionExpiration()
                self._expiration = PartitionExpiration.of_table(table)
        return self._expiration

    def has_dropped(self, created_at: datetime, now: datetime) -> bool:
        """Return True if the day of a creation time has expired at the time ``now``; see ``Warehouse.has_dropped``."""
        return self.expiration().has_dropped(created_at, now)

    def query(self, sql: str, parameters: Parameters | None = None, *, operation: str = "query") -> Answer:
        """Run one GoogleSQL SELECT and return its rows; see ``Warehouse.query``.

        Args:
            sql: One statement. It names an object of the ledger without qualifiers, or in backticks as
                `${project}.${dataset}.name`.
            parameters: Values of the statement's ``@name`` parameters; see ``Parameters``.
            operation: Label of the job. It must be ``query`` for a statement that a user wrote. With any other label,
                mistakes that BigQuery finds in the statement are not reported as InvalidInput.

        Raises:
            InvalidInput: The statement is not a single SELECT, or does not fit the tables.
            StoreUnavailable: No attempt succeeded within ``retry_timeout``.
            StoreRejected: The statement would read more than ``maximum_bytes_billed``.
            ConfigurationError: Credentials, a permission, the project or the dataset are missing or wrong.
        """
        from ledger.warehouse.statement import check_columns, prepare

        if operation != "query":
            check_columns(sql)
            return self.ask(operation, sql, parameters)
        statement, values = prepare(sql, parameters, (self.dataset.project or "", self.dataset.name))
        return self.retry_idempotent(operation_of("query").doing, lambda: self._run_user_query(statement, values))

    def estimate_query(self, sql: str, parameters: Parameters | None = None) -> int:
        """Return the number of bytes that a user's statement would read, by a dry run, which costs nothing.

        Rows that were just appended are left out, and clustering is not taken into account.

        Args:
            sql: As for ``query``.
            parameters: As for ``query``.

        Raises:
            InvalidInput: The statement is not a single SELECT, or does not fit the tables.
            StoreUnavailable: No attempt succeeded within ``retry_timeout``.
            ConfigurationError: Credentials, a permission, the project or the dataset are missing or wrong.
        """
        from ledger.warehouse.statement import prepare

        statement, values = prepare(sql, parameters, (self.dataset.project or "", self.dataset.name))
        return self.estimate("query", statement, values, own=False)

    def change(self, name: str, parameters: Parameters) -> None:
        """Run one of the ledger's own statements that change rows; see ``Warehouse.change``."""
        self.ask(name, catalog.query(name), parameters)

    def run_scheduled(self, name: str, parameters: Parameters) -> None:
        """Run one of the ledger's scheduled statements now; see ``Warehouse.run_scheduled``."""
        self.ask(name, catalog.scheduled(name), parameters)

    def append(self, table: str, rows: pa.RecordBatch, *, is_committed: Callable[[], bool] | None = None) -> None:
        """Append rows to one of the ledger's tables. When the call returns, the table has each row at least once.

        If the response to a request is lost, the request is sent again, unless ``is_committed`` returns True. Sending
        again may leave rows in the table twice; every view drops duplicates.

        Args:
            table: ``session_events`` or ``session_index``.
            rows: Rows with the table's columns; the rows of an event are adjacent. If they do not fit into one request,
                several are sent, one after the other.
            is_committed: Called after a lost response; returns True if the table has the rows.

        Raises:
            OutcomeLost: A response was lost, and the rows of that request may or may not have been appended.
            StoreUnavailable: No row of the request that failed was appended.
            StoreRejected, ConfigurationError: No row of the request that failed was appended, and none will be until
                something is repaired.
        """
        from ledger.warehouse.bigquery.appends import requests_of

        for request in requests_of(rows, self._row_transport().request_bytes):
            self._append(table, request, is_committed)

    def drop_quietly(self, table: str, sql: str) -> None:
        """Drop a staging table by running ``sql``. A failure is only logged, because the table expires by itself."""
        self._row_transport().disconnect(table)
        try:
            self.run("drop", sql)
        except LedgerError as error:
            log.info("%s", error)

    def close(self) -> None:
        """Close all connections; a second call does nothing."""
        if self._transport is not None:
            self._transport.close()
        self.clients.close()

    def _append(self, table: str, rows: pa.RecordBatch, is_committed: Callable[[], bool] | None) -> None:
        def send(response_lost: bool) -> None:
            if not (response_lost and is_committed is not None and is_committed()):
                self._send(table, rows)

        self.retry_non_idempotent(f"The append to {table}", send)

    def _send(self, table: str, rows: pa.RecordBatch) -> None:
        """Send rows once.

        Raises:
            NotYetVisible: BigQuery does not find the table, or one of its columns, although both exist.
            LedgerError: As for ``RowTransport.send``.
        """
        try:
            self._row_transport().send(table, rows)
        except (ConfigurationError, StoreRejected) as error:
            is_column = reasons.COLUMN_UNKNOWN.search(str(error)) is not None
            if not is_column and reasons.code_of(error.__cause__) not in reasons.MISSING:
                raise
            if not self.has_columns(table, rows.schema.names):
                raise
            if is_column:  # a connection keeps the columns with which it was opened
                self._row_transport().disconnect(table)
            what = f"New columns of the table {table}" if is_column else f"The table {table}"
            reason = message_of(error.__cause__) if isinstance(error.__cause__, Exception) else str(error)
            raise NotYetVisible(f"{what} cannot be written to yet: {reason}") from error

    def _row_transport(self) -> RowTransport:
        with self._transport_lock:
            if self._transport is None:
                self._transport = self.make_transport()
        return self._transport

    def make_transport(self) -> RowTransport:
        """Return a new way to append rows, without retries, as the dataset's options say; the caller closes it."""
        from ledger.warehouse.bigquery.appends import InsertAll, StorageWrites

        return (InsertAll if self.dataset.transport == "insertall" else StorageWrites)(self.clients)

    def _run_user_query(self, sql: str, parameters: Parameters) -> Answer:
        """Run a user's statement once. A result of more than ``FIRST_PAGE`` rows is read by the Storage Read API."""
        rows = self._query("query", sql, parameters, own=False, first_page=FIRST_PAGE)
        return replace(self._all_rows(rows, sql, parameters), bytes_billed=self.bytes_billed(rows))

    def _all_rows(self, rows: Any, sql: str, parameters: Parameters) -> Answer:
        if rows.total_rows <= FIRST_PAGE:
            return self._read_pages(rows, "query", own=False)
        try:
            with self.clients.reading() as read:
                table = rows.to_arrow(bqstorage_client=read)
        except Exception as error:
            translated = self._translated(error, "query", own=False)
            if isinstance(translated, ConfigurationError):  # no permission for the API, or no address of an emulator
                return self.run("query", sql, parameters, own=False)
            raise translated from error
        answer = answer_of(rows, [])
        columns = [
            [_decode_json(value, kind) for value in column.to_pylist()] if "JSON" in kind else column.to_pylist()
            for column, kind in zip(table.columns, answer.types, strict=True)
        ]
        return replace(answer, rows=list(zip(*columns, strict=True)))


def _decode_json(value: Any, kind: str) -> Any:
    """Decode the JSON texts in a value of a GoogleSQL type."""
    import orjson

    if value is None:
        return None
    if kind == "JSON":
        return orjson.loads(value)
    if (element := array_of(kind)) is not None:
        return [_decode_json(item, element) for item in value]
    if (fields := fields_of(kind)) is not None:
        return {name: _decode_json(value[name], inner) for name, inner in fields}
    return value

"""The ledger's GoogleSQL on BigQuery: queries with parameters, rows by Storage Write, frames by Storage Read."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from ledger.errors import InvalidInput, LedgerError, StoreUnavailable
from ledger.warehouse import catalog
from ledger.warehouse.base import Answer, Parameters
from ledger.warehouse.bigquery.clients import ONCE, Clients
from ledger.warehouse.bigquery.errors import OutcomeLost, translate
from ledger.warehouse.bigquery.retries import log, retrying
from ledger.warehouse.bigquery.settings import Dataset

if TYPE_CHECKING:
    import pandas
    import pyarrow as pa

    from ledger.warehouse.bigquery.appends import Transport

T = TypeVar("T")
#: Labels of every job, so that its costs can be told from others.
JOB_LABELS = {"app": "session-ledger"}
#: Rows of a frame that come with the answer to its query; where there are more, the Storage Read API is faster.
FIRST_PAGE = 10_000
_KINDS = {bool: "BOOL", int: "INT64", float: "FLOAT64", str: "STRING", datetime: "TIMESTAMP"}


class BigQueryWarehouse:
    """The ledger's tables, views and functions in a dataset. Safe for any number of threads.

    Nothing is asked of BigQuery before the first call, and nothing is created but by ``create_tables``.

    Args:
        place: The dataset and how it is used.
        environment: Where an emulator's address is looked up.
        sleep: Waits between tries.

    Raises:
        ConfigurationError: An emulator's address is malformed.
    """

    def __init__(
        self,
        place: Dataset,
        *,
        environment: Mapping[str, str] = os.environ,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.place = place
        self.clients = Clients(place, environment)
        self._sleep = sleep
        self._transport: Transport | None = None
        self._making = threading.Lock()

    def create(self) -> None:
        """Create what is missing and bring views and functions up to date; rows and columns are kept."""
        from ledger.warehouse.bigquery.tables import create

        create(self)

    def query(self, sql: str, parameters: Parameters | None = None, *, operation: str = "query") -> Answer:
        """Answer one GoogleSQL SELECT; see ``Warehouse.query``.

        Args:
            sql: One statement. Bare names are the ledger's objects; so are `${project}.${dataset}.name` in backticks.
            parameters: Values of its ``@name`` parameters: text, numbers, booleans, aware datetimes, or lists of them.
            operation: A label of the job, beside the ledger's own.

        Raises:
            InvalidInput: It is not one SELECT, or does not fit the tables.
            StoreUnavailable: BigQuery could not answer for as long as ``patience`` allows.
            StoreRejected: It would read more than ``maximum_bytes_billed``.
            ConfigurationError: Credentials, permissions, the project or the dataset are not as they must be.
        """
        _check_query(sql)
        return self.ask(operation, sql, parameters, own=operation != "query")

    def ask(self, operation: str, sql: str, parameters: Parameters | None = None, *, own: bool = True) -> Answer:
        """Run a statement that can be repeated without harm, until it is answered.

        Args:
            operation: A label of the job: ``state``.
            own: Whether the statement is the ledger's, so that a mistake in it is not the caller's.
        """
        try:
            return self.retry(f"The {operation}", lambda: self.run(operation, sql, parameters, own=own))
        except OutcomeLost as error:  # what is asked here may be asked again, so nothing hangs on the lost answer
            raise StoreUnavailable(str(error)) from error

    def change(self, name: str, parameters: Parameters) -> None:
        """Carry out one of the ledger's own statements that change rows; see ``Warehouse.change``."""
        self.ask(name, catalog.query(name), parameters)

    def retry(self, doing: str, call: Callable[[], T]) -> T:
        """What ``call`` returns, tried again while its errors are ``retryable``."""
        return retrying(doing, self.place.patience, self._sleep)(call)

    def carry_out(self, doing: str, call: Callable[[bool], T]) -> tuple[T, bool]:
        """What a call that changes something returns, tried again as ``retry`` does, and whether it may be an echo.

        Args:
            doing: What is tried, for messages.
            call: Told whether an earlier answer of it was lost, so that it may find what it did.

        Returns:
            The answer, and whether one before it was lost.

        Raises:
            OutcomeLost: An answer was lost, and whatever came afterwards did not tell what became of it.
            LedgerError: No answer was lost; nothing was done.
        """
        lost: OutcomeLost | None = None

        def once() -> T:
            nonlocal lost
            try:
                return call(lost is not None)
            except OutcomeLost as error:
                lost = error
                raise

        try:
            return self.retry(doing, once), lost is not None
        except Exception as error:
            if lost is not None and not isinstance(error, OutcomeLost):
                raise OutcomeLost(f"{lost} Afterwards: {error}") from error
            raise

    def run(self, operation: str, sql: str, parameters: Parameters | None = None, *, own: bool = True) -> Answer:
        """Run a statement or script once.

        Raises:
            OutcomeLost: It may have been carried out.
            LedgerError: As for ``query``.
        """
        rows = self._rows(operation, sql, parameters, own)
        try:
            names = tuple(field.name for field in rows.schema)
            return Answer(names, [tuple(row.values()) for row in rows])
        except Exception as error:
            raise translate(error, f"The {operation}", own=own) from error

    def frame(self, sql: str, parameters: Parameters | None = None) -> pandas.DataFrame:
        """The answer to a SELECT as a pandas DataFrame, downloaded through the Storage Read API.

        Args:
            sql, parameters: As for ``query``.

        Returns:
            One column per name; times in UTC, JSON decoded. Arrow types carry over as ``pyarrow.Table.to_pandas`` does.

        Raises:
            LedgerError: As for ``query``.
        """
        import pandas

        _check_query(sql)
        try:
            table, json_columns = self.retry("The frame", lambda: self._download(sql, parameters))
        except OutcomeLost as error:  # as in ``ask``
            raise StoreUnavailable(str(error)) from error
        frame: pandas.DataFrame = table.to_pandas()
        for name in json_columns:  # as objects: no integer becomes a float because another row holds none
            frame[name] = pandas.Series([_decoded(it) for it in table.column(name).to_pylist()], frame.index, object)
        return frame

    def append(self, table: str, rows: pa.RecordBatch, *, landed: Callable[[], bool] | None = None) -> None:
        """Add rows to one of the ledger's tables; on return they are there.

        A request whose answer is lost is sent again, so that a row may be there twice in the same words, which every
        view shows once.

        Args:
            table: ``session_events`` or ``session_index``.
            rows: The table's columns; the rows of an event stand together.
            landed: Asked after a lost answer; True where the rows turn out to be there.

        Raises:
            OutcomeLost: For as long as ``patience`` allows, it could not be found out whether they are there.
            StoreUnavailable: They are not there.
            StoreRejected, ConfigurationError: They are not there, and will not be until something is mended.
        """
        from ledger.warehouse.bigquery.appends import requests_of

        for request in requests_of(rows, self._rows_into().request_bytes):
            self._append(table, request, landed)

    def drop_quietly(self, table: str, sql: str) -> None:
        """Drop a table for the time being, whose failure leaves nothing but what lies about until it expires."""
        self._rows_into().forget(table)
        try:
            self.run("drop", sql)
        except LedgerError as error:
            log.info("%s", error)

    def close(self) -> None:
        """Let go of connections; calling it again does nothing."""
        if self._transport is not None:
            self._transport.close()
        self.clients.close()

    def _append(self, table: str, rows: pa.RecordBatch, landed: Callable[[], bool] | None) -> None:
        def send(lost: bool) -> None:
            if not (lost and landed is not None and landed()):
                self._rows_into().send(table, rows)

        self.carry_out(f"The append to {table}", send)

    def _rows_into(self) -> Transport:
        with self._making:
            if self._transport is None:
                self._transport = self._make_transport()
        return self._transport

    def _make_transport(self) -> Transport:
        from ledger.warehouse.bigquery.appends import InsertAll, StorageWrites

        return (InsertAll if self.place.transport == "insertall" else StorageWrites)(self.clients)

    def _rows(
        self, operation: str, sql: str, parameters: Parameters | None, own: bool, first_page: int | None = None
    ) -> Any:
        """The row iterator of a statement that ran once; rows beyond the first page are fetched when they are read."""
        from google.cloud import bigquery

        rest = self.clients.rest
        project, dataset = self.clients.project, self.place.dataset
        config = bigquery.QueryJobConfig(
            query_parameters=[_parameter(name, value) for name, value in (parameters or {}).items()],
            maximum_bytes_billed=self.place.maximum_bytes_billed,
            default_dataset=bigquery.DatasetReference(project, dataset),
            labels={**self.place.labels, **JOB_LABELS, "operation": operation},
            use_query_cache=True,
        )
        try:
            bound = catalog.bind(sql, project, dataset)
            return rest.query_and_wait(
                bound, job_config=config, location=self.place.location, retry=ONCE, job_retry=ONCE, page_size=first_page
            )
        except Exception as error:
            raise translate(error, f"The {operation}", own=own) from error

    def _download(self, sql: str, parameters: Parameters | None) -> tuple[pa.Table, list[str]]:
        rows = self._rows("frame", sql, parameters, own=False, first_page=FIRST_PAGE)
        try:
            json_columns = [field.name for field in rows.schema if field.field_type == "JSON"]
            return rows.to_arrow(bqstorage_client=self.clients.read), json_columns
        except Exception as error:
            raise translate(error, "The frame", own=False) from error


@lru_cache(maxsize=256)  # the ledger's own statements are few, and parsing one takes milliseconds
def _check_query(sql: str) -> None:
    """Raise InvalidInput unless this is one SELECT whose columns have each a name of their own."""
    from ledger.warehouse.dialect import check_query

    names = [name.lower() for name in check_query(sql).named_selects if name not in ("", "*")]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInput(f"The answer has several columns named {', '.join(twice)}; give each a name with AS.")


def _parameter(name: str, value: Any) -> Any:
    """A named parameter; NULL has no type of its own, so a value is needed, but within a struct."""
    from google.cloud import bigquery

    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        if value and isinstance(value[0], Mapping):
            return bigquery.ArrayQueryParameter(name, "STRUCT", [_struct(item) for item in value])
        return bigquery.ArrayQueryParameter(name, _kind_of_all(name, value), list(value))
    return bigquery.ScalarQueryParameter(name, _kind(name, value), value)


def _kind_of_all(name: str, values: Sequence[Any]) -> str:
    """The type of a list's values; that of an empty one is not known, and taken for text."""
    if any(value is None for value in values):
        raise InvalidInput(f"The parameter {name} is a list with a None in it, which BigQuery has not; leave it out.")
    kinds = {_kind(name, value) for value in values} or {"STRING"}
    if kinds == {"INT64", "FLOAT64"}:
        return "FLOAT64"
    if len(kinds) > 1:
        raise InvalidInput(f"The parameter {name} is a list of different types: {', '.join(sorted(kinds))}.")
    return kinds.pop()


def _struct(item: Mapping[str, Any]) -> Any:
    from google.cloud import bigquery

    parts = [bigquery.ScalarQueryParameter(name, _kind(name, value), value) for name, value in item.items()]
    return bigquery.StructQueryParameter(None, *parts)


def _kind(name: str, value: Any) -> str:
    if value is None:
        return "STRING"
    kind = _KINDS.get(type(value))
    if kind is None:
        raise InvalidInput(
            f"The parameter {name} is a {type(value).__name__}; it must be text, a number, a truth value or a time."
        )
    if isinstance(value, datetime) and value.tzinfo is None:
        raise InvalidInput(f"The parameter {name}, {value.isoformat()}, has no time zone; add one.")
    return kind


def _decoded(text: Any) -> Any:
    import orjson

    if isinstance(text, list):
        return [_decoded(each) for each in text]
    return orjson.loads(text) if isinstance(text, str) else text

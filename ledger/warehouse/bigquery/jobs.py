"""BigQuery query jobs: parametrised statements with labels, a cost limit and retries."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any, TypeVar

import tenacity

from ledger.errors import InvalidInput, LedgerError, StoreUnavailable
from ledger.model.values import full_name
from ledger.warehouse import catalog
from ledger.warehouse.answer import Answer
from ledger.warehouse.base import Parameters
from ledger.warehouse.bigquery.billed_jobs import DailyBudget, dataset_label, spent_on
from ledger.warehouse.bigquery.clients import ANSWER_SECONDS, ONCE, Clients
from ledger.warehouse.bigquery.errors import (
    NotYetVisible,
    OutcomeLost,
    is_over_budget,
    never_sent,
    none_if_absent,
    once,
    translate,
)
from ledger.warehouse.bigquery.list_prices import LEAST_BYTES
from ledger.warehouse.bigquery.operations import operation_of
from ledger.warehouse.bigquery.polling import POLLING
from ledger.warehouse.bigquery.settings import Dataset

T = TypeVar("T")
log = logging.getLogger("ledger.bigquery")
#: Maximum attempts of one call; the dataset's ``retry_timeout`` usually ends them earlier.
MAX_ATTEMPTS = 30
#: Seconds for which a call is repeated while an emulator that has not answered yet accepts no connection.
EMULATOR_SECONDS = 2.0
#: Seconds for which a call is repeated while BigQuery does not find a new table, column or stream, if ``retry_timeout``
#: is shorter, and the maximum attempts.
NEW_OBJECT_SECONDS = 300.0
NEW_OBJECT_ATTEMPTS = 150
#: Operations that look up sessions by id, and those of a strict append. BigQuery reads only the blocks of these
#: sessions, and compares the budget with all blocks of their days; see ``Dataset.lookup_maximum_bytes_billed``.
LOOKUPS = frozenset(
    {
        "append_checked",
        "existing_rows",
        "find_creation",
        "find_lost_event",
        "read_events",
        "read_heads",
        "read_messages",
        "read_states",
        "reconcile_rows",
    }
)
#: Operations that only read, and are not refused when the day's maximum is reached: look-ups, the start of a relay and
#: what the maximum itself is compared with.
_UNLIMITED = LOOKUPS | {"billed_jobs", "reconcile_sessions", "read_seals", "read_model_prices"}
#: Labels of every job, which attribute its cost to the ledger.
JOB_LABELS = {"app": "session-ledger"}
_TYPES = {
    bool: "BOOL",
    int: "INT64",
    float: "FLOAT64",
    str: "STRING",
    bytes: "BYTES",
    Decimal: "NUMERIC",
    datetime: "TIMESTAMP",
    date: "DATE",
    time_of_day: "TIME",
}
#: Names of types in the REST API that differ from those in GoogleSQL.
_LEGACY_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}


class Jobs:
    """A client that runs statements over one dataset. Thread-safe; the first call connects.

    Args:
        dataset: The dataset and its options.
        environment: Environment variables; None for those of this process.
        sleep: Called with the seconds to wait before the next attempt.

    Raises:
        ConfigurationError: An emulator's address is malformed.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        environment: Mapping[str, str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.dataset = dataset
        self.clients = Clients(dataset, environment)
        self._sleep = sleep
        self.day_budget = DailyBudget(dataset.maximum_bytes_billed_per_day, self._read_billed)
        self._has_answered = False  # True once a call has reached BigQuery or the emulator
        self._location: str | None = None  # of the dataset, as BigQuery tells it
        self._knows_location = False  # True if BigQuery has told it, or that it may not be read

    def describe(self) -> Any:
        """Return BigQuery's description of the dataset; None if it does not exist."""
        return self._find("the dataset", lambda rest: rest.get_dataset(self._path(), retry=ONCE))

    def table(self, name: str) -> Any:
        """Return BigQuery's description of one of the dataset's tables; None if it or its dataset does not exist."""
        return self._find(name, lambda rest: rest.get_table(self._path(name), retry=ONCE))

    def has_columns(self, table: str, names: Sequence[str]) -> bool:
        """Return True if a table exists and has all of these columns."""
        found = self.table(table)
        return found is not None and {column.name for column in found.schema}.issuperset(names)

    def location(self) -> str | None:
        """Return the location of jobs: that of the URL, or else of the dataset, which is looked up once.

        Without a location BigQuery finds it by the tables of a statement, but sometimes falls back to US. A dataset
        that does not exist is looked up again by the next call, since it may be created.

        Returns:
            The location; None if the dataset does not exist, or its description may not be read.

        Raises:
            StoreUnavailable: The dataset cannot be looked up now.
        """
        from google.api_core.exceptions import Forbidden

        if self.dataset.location is None and not self._knows_location:
            rest = self.clients.rest
            try:
                # Once, because the caller repeats it with its statement.
                found = once("Looking up the dataset", lambda: rest.get_dataset(self._path(), retry=ONCE))
            except LedgerError as error:
                if error.retryable:
                    raise
                if not isinstance(error.__cause__, Forbidden):
                    return None  # the statement fails too, with a message about itself
            else:
                self._location = found.location
            self._knows_location = True
        return self.dataset.location or self._location

    def ask(self, operation: str, sql: str, parameters: Parameters | None = None, *, own: bool = True) -> Answer:
        """Run an idempotent statement with retries, and return its rows.

        Args:
            operation: Label of the job, one of ``OPERATIONS``.
            own: False if a user wrote the statement; mistakes in it are then reported as InvalidInput.

        Raises:
            StoreUnavailable: No attempt succeeded within ``retry_timeout``; the statement may have run.
            LedgerError: The statement failed permanently.
        """
        doing = operation_of(operation).doing
        return self.retry_idempotent(doing, lambda: self.run(operation, sql, parameters, own=own))

    def request(self, doing: str, call: Callable[[], T]) -> T:
        """Call Google's client, repeat the call while it fails transiently, and return its result.

        Args:
            doing: Name of the call, for messages, such as ``Listing functions``.
            call: The function. It is idempotent, and tells the client not to retry.

        Raises:
            StoreUnavailable: No attempt succeeded within ``retry_timeout``. A request may have been executed even so.
            LedgerError: The call failed permanently.
        """
        return self.retry_idempotent(doing, lambda: once(doing, call, place=self.clients.place))

    def retry_idempotent(self, doing: str, call: Callable[[], T]) -> T:
        """Call an idempotent function, repeat it while it raises ``retryable`` errors, and return its result.

        Args:
            doing: Name of the call, for messages, such as ``The append``.

        Raises:
            StoreUnavailable: No attempt succeeded within ``retry_timeout``. A request may have been executed even so.
            LedgerError: The call failed permanently.
        """
        try:
            return self._retry(doing, call)
        except OutcomeLost as error:
            raise StoreUnavailable(str(error)) from error

    def retry_non_idempotent(self, doing: str, call: Callable[[bool], T]) -> tuple[T, bool]:
        """Call a function that is not idempotent, and repeat it while it raises ``retryable`` errors.

        Args:
            doing: Name of the call, for messages, such as ``The append``.
            call: The function. Its argument is True if the response to an earlier attempt was lost; the function must
                then check whether that attempt was executed.

        Returns:
            The function's result, and True if the response to an earlier attempt was lost.

        Raises:
            OutcomeLost: A response was lost, and no later attempt found out whether the request was executed.
            LedgerError: The call failed, and no response was lost, so nothing was changed.
        """
        lost: OutcomeLost | None = None

        def attempt() -> T:
            nonlocal lost
            try:
                return call(lost is not None)
            except OutcomeLost as error:
                lost = error
                raise

        try:
            return self._retry(doing, attempt), lost is not None
        except Exception as error:
            if lost is not None and not isinstance(error, OutcomeLost):
                raise OutcomeLost(f"{lost} Afterwards: {error}") from error
            raise

    def run(self, operation: str, sql: str, parameters: Parameters | None = None, *, own: bool = True) -> Answer:
        """Run a statement or script once, without retries, and return its rows. The arguments are those of ``ask``.

        Raises:
            OutcomeLost: The statement may have been executed.
            LedgerError: The statement failed. ``BigQueryWarehouse.query`` lists the errors.
        """
        return self._read_pages(self._query(operation, sql, parameters, own), operation, own=own)

    def _read_pages(self, rows: Any, operation: str, *, own: bool) -> Answer:
        """Read all pages of Google's row iterator, and return its rows as an answer."""
        try:
            return answer_of(rows, [tuple(row.values()) for row in rows])
        except Exception as error:
            raise self._translated(error, operation, own) from error

    def estimate(self, operation: str, sql: str, parameters: Parameters | None = None, *, own: bool = True) -> int:
        """Return the number of bytes that a statement would read, by dry runs with retries; see ``dry_run``."""
        doing = operation_of(operation).doing
        return self.retry_idempotent(doing, lambda: self.dry_run(operation, sql, parameters, own=own))

    def dry_run(
        self,
        operation: str,
        sql: str,
        parameters: Parameters | None = None,
        *,
        timeout: float = ANSWER_SECONDS,
        own: bool = True,
    ) -> int:
        """Check a statement, once, and return the number of bytes that it would read.

        A dry run costs nothing, so no budget limits it. It leaves out rows in the streaming buffer, and counts all
        blocks of the days that it cannot exclude.

        Args:
            operation: Label of the job, one of ``OPERATIONS``.
            timeout: Seconds to wait for the answer.
            own: False if a user wrote the statement; mistakes in it are then reported as InvalidInput.

        Returns:
            The bytes; 0 if there are none, or from an emulator that does not estimate.

        Raises:
            StoreUnavailable: BigQuery did not answer; a retry may succeed.
            LedgerError: An object or a permission is missing, or the statement is not valid.
        """
        config = self._config(operation, parameters, use_query_cache=False, dry_run=True)
        bound, place = catalog.bind(sql, self.clients.project, self.dataset.name), self.location()
        options = {"location": place, "retry": ONCE, "job_retry": ONCE, "timeout": timeout}
        try:
            job = self.clients.rest.query(bound, job_config=config, **options)
        except Exception as error:
            translated = self._translated(error, operation, own)
            if isinstance(translated, OutcomeLost):  # nothing was to be run
                translated = StoreUnavailable(str(translated))
            raise translated from error
        return int(job.total_bytes_processed or 0)

    def _path(self, *names: str) -> str:
        """Return the full name of the dataset, or of something in it."""
        return ".".join((self.clients.project, self.dataset.name, *names))

    def _find(self, name: str, get: Callable[[Any], T]) -> T | None:
        """Look something up with retries, and return what ``get`` returns; None if it does not exist."""
        return self.request(f"Looking up {name}", lambda: none_if_absent(lambda: get(self.clients.rest)))

    def _budget(self, operation: str) -> int:
        """Return the maximum number of bytes that a statement may be billed for."""
        place = self.dataset
        return place.lookup_maximum_bytes_billed if operation in LOOKUPS else place.maximum_bytes_billed

    def _config(self, operation: str, parameters: Parameters | None, **options: Any) -> Any:
        """Return the configuration of a query job."""
        from google.cloud import bigquery

        return bigquery.QueryJobConfig(
            query_parameters=[_parameter(name, value) for name, value in (parameters or {}).items()],
            default_dataset=bigquery.DatasetReference(self.clients.project, self.dataset.name),
            labels={
                **self.dataset.labels,
                **JOB_LABELS,
                "ledger_dataset": dataset_label(self.dataset.name),
                "operation": operation,
            },
            **options,
        )

    def _retry(self, doing: str, call: Callable[[], T]) -> T:
        """Call a function, and repeat it while it raises ``retryable`` errors.

        If an emulator is to answer and accepts no connection from the start, nobody has started it. So the attempts end
        after ``EMULATOR_SECONDS``. An emulator that has answered is waited for as BigQuery is.
        """
        emulator = None if self._has_answered else self.clients.emulator
        unreached = None if emulator is None else EMULATOR_SECONDS
        try:
            result = retrying(doing, self.dataset.retry_timeout, self._sleep, unreached)(call)
        except LedgerError as error:
            if emulator is not None and _is_unreached(error):
                raise StoreUnavailable(
                    f"{doing} failed: no emulator answers at {emulator.rest} (BIGQUERY_EMULATOR_HOST) or "
                    f"{emulator.grpc} (BIGQUERY_EMULATOR_GRPC_HOST). Start one with `ledger emulator`, correct the "
                    "addresses, or unset both to use BigQuery."
                ) from error
            raise
        self._has_answered = True
        return result

    def _query(
        self, operation: str, sql: str, parameters: Parameters | None, own: bool, first_page: int | None = None
    ) -> Any:
        """Run a statement once and return a Google row iterator, which fetches further pages on demand.

        Args:
            first_page: Number of rows in a page; None for BigQuery's default.
        """
        rest, place = self.clients.rest, self.location()
        budget, doing = self._budget(operation), operation_of(operation).doing
        left = self.day_budget.remaining(doing) if is_limited(operation) else None
        limit = budget if left is None else min(budget, left)
        config = self._config(operation, parameters, use_query_cache=True, maximum_bytes_billed=limit)
        bound = catalog.bind(sql, self.clients.project, self.dataset.name)
        try:
            rows = rest.query_and_wait(
                bound, job_config=config, location=place, retry=POLLING, job_retry=ONCE, page_size=first_page
            )
        except Exception as error:
            if limit < budget and is_over_budget(error):
                raise self.day_budget.exceeded(doing) from error
            raise self._translated(error, operation, own) from error
        # What is billed is at least this, and exactly told only by one more request; see ``bytes_billed``.
        processed = rows.total_bytes_processed or 0
        self.day_budget.add(max(processed, LEAST_BYTES) if processed else 0)
        return rows

    def bytes_billed(self, rows: Any) -> int | None:
        """Return the bytes that a statement was billed, which BigQuery is asked for; None if it does not say.

        Args:
            rows: Google's row iterator of the statement. If no byte was read, nothing is asked.
        """
        processed = rows.total_bytes_processed
        if not processed or rows.job_id is None:
            return None if processed is None else 0
        rest = self.clients.rest
        try:
            job = once("Looking up a job", lambda: rest.get_job(rows.job_id, location=rows.location, retry=ONCE))
        except LedgerError as error:  # the rows are there, and the permission to look up jobs may not be
            log.info("The bytes billed are unknown: %s", error)
            return None
        billed = getattr(job, "total_bytes_billed", None)  # jobs that are no queries have none
        return None if billed is None else int(billed)

    def _read_billed(self, day: datetime) -> int | None:
        """Return the bytes that the jobs of the dataset were billed on a day; None for an emulator."""
        return None if self.clients.emulator is not None else spent_on(self, self.clients.project, day)

    def _translated(self, error: Exception, operation: str, own: bool) -> LedgerError:
        """Return the ledger's error for an error of a statement; see ``translate``."""
        doing, writes = operation_of(operation)
        return translate(error, doing, own=own, writes=writes, place=self.clients.place)


def is_limited(operation: str) -> bool:
    """Return True if a statement is refused when the maximum of bytes billed in a day is reached."""
    return operation not in _UNLIMITED and not operation_of(operation).writes


def answer_of(rows: Any, values: list[tuple[Any, ...]]) -> Answer:
    """Return an answer with the columns of Google's row iterator and with the given values."""
    names = tuple(field.name for field in rows.schema)
    return Answer(names, values, tuple(_type_of_field(field) for field in rows.schema), rows.total_bytes_processed)


def _type_of_field(field: Any) -> str:
    """Return the GoogleSQL type of a column or of a field of a STRUCT."""
    kind = _LEGACY_NAMES.get(field.field_type, field.field_type)
    if kind == "STRUCT":
        kind = f"STRUCT<{', '.join(f'{inner.name} {_type_of_field(inner)}' for inner in field.fields)}>"
    return f"ARRAY<{kind}>" if field.mode == "REPEATED" else kind


def _parameter(name: str, value: Any) -> Any:
    """Return a named query parameter, whose SQL type follows from the value. None becomes a NULL of type STRING."""
    from google.cloud import bigquery

    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        if value and isinstance(value[0], Mapping):
            return bigquery.ArrayQueryParameter(name, "STRUCT", [_struct(item) for item in value])
        return bigquery.ArrayQueryParameter(name, _type_of_list(name, value), list(value))
    return bigquery.ScalarQueryParameter(name, _type_of(name, value), value)


def _type_of_list(name: str, values: Sequence[Any]) -> str:
    """Return the SQL type of a list's elements; STRING if the list is empty."""
    if any(value is None for value in values):
        raise InvalidInput(f"The parameter {name} is a list that contains None, which BigQuery rejects; remove it.")
    types = {_type_of(name, value) for value in values} or {"STRING"}
    if types == {"INT64", "FLOAT64"}:
        return "FLOAT64"
    if len(types) > 1:
        raise InvalidInput(f"The parameter {name} is a list of different types: {', '.join(sorted(types))}.")
    return types.pop()


def _struct(item: Mapping[str, Any]) -> Any:
    from google.cloud import bigquery

    parts = [bigquery.ScalarQueryParameter(name, _type_of(name, value), value) for name, value in item.items()]
    return bigquery.StructQueryParameter(None, *parts)


def _type_of(name: str, value: Any) -> str:
    if value is None:
        return "STRING"
    name_of_type = _TYPES.get(type(value))
    if name_of_type is None:
        raise InvalidInput(
            f"The parameter {name} is a {full_name(value)}; it must be text, a number, a boolean or a datetime."
        )
    if isinstance(value, datetime) and value.tzinfo is None:
        raise InvalidInput(f"The parameter {name}, {value.isoformat()}, has no time zone; add one.")
    return name_of_type


def _is_unreached(error: BaseException | None) -> bool:
    """Return True if an error of the ledger says that no connection could be established."""
    cause = None if error is None else error.__cause__
    return isinstance(cause, Exception) and never_sent(cause)


def retrying(
    doing: str,
    retry_timeout: float,
    sleep: Callable[[float], None] = time.sleep,
    unreached_seconds: float | None = None,
) -> tenacity.Retrying:
    """Return a retrier that repeats a call while it raises an error whose ``retryable`` flag is set.

    The waits between attempts are random. Only the first failure is logged.

    Args:
        doing: Name of the call, for the log, such as ``The append``.
        retry_timeout: Seconds after which no further attempt starts. The error of the last attempt is then raised.
            After NotYetVisible, attempts go on for at least ``NEW_OBJECT_SECONDS``.
        sleep: Called with the seconds to wait before the next attempt.
        unreached_seconds: Seconds after which no further attempt starts if no connection can be established; None for
            ``retry_timeout``.
    """

    def limits(state: tenacity.RetryCallState) -> tuple[float, int]:
        """Return the seconds and the attempts that are allowed after the latest failure."""
        error = None if state.outcome is None else state.outcome.exception()
        if isinstance(error, NotYetVisible):
            return max(retry_timeout, NEW_OBJECT_SECONDS), NEW_OBJECT_ATTEMPTS
        if unreached_seconds is not None and _is_unreached(error):
            return min(retry_timeout, unreached_seconds), MAX_ATTEMPTS
        return retry_timeout, MAX_ATTEMPTS

    def log_first_failure(state: tenacity.RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            log.warning("%s is retried for up to %g s: %s", doing, limits(state)[0], state.outcome.exception())

    def stop(state: tenacity.RetryCallState) -> bool:
        seconds, attempts = limits(state)
        return bool(tenacity.stop_before_delay(seconds)(state)) or state.attempt_number >= attempts

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, LedgerError) and error.retryable),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=8),
        stop=stop,
        before_sleep=log_first_failure,
        sleep=sleep,
        reraise=True,
    )

"""Query jobs in BigQuery: statements with parameters, labelled, bounded in cost, and retried."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from ledger.errors import InvalidInput, StoreUnavailable
from ledger.warehouse import catalog
from ledger.warehouse.base import Answer, Parameters
from ledger.warehouse.bigquery.clients import ONCE, Clients
from ledger.warehouse.bigquery.errors import OutcomeLost, translate
from ledger.warehouse.bigquery.retries import retrying
from ledger.warehouse.bigquery.settings import Dataset

T = TypeVar("T")
#: Labels of every job, so that its costs can be told from others.
JOB_LABELS = {"app": "session-ledger"}
_KINDS = {bool: "BOOL", int: "INT64", float: "FLOAT64", str: "STRING", datetime: "TIMESTAMP"}


class Jobs:
    """Runs statements over one dataset. Safe for any number of threads; nothing is asked before the first call.

    Args:
        dataset: The dataset and how it is used.
        environment: Where an emulator's address is looked up; None for the process's own.
        sleep: Waits between tries.

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

    def retry(self, doing: str, call: Callable[[], T]) -> T:
        """What ``call`` returns, tried again while its errors are ``retryable``."""
        return retrying(doing, self.dataset.retry_timeout, self._sleep)(call)

    def retry_non_idempotent(self, doing: str, call: Callable[[bool], T]) -> tuple[T, bool]:
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
        rows = self._query(operation, sql, parameters, own)
        try:
            names = tuple(field.name for field in rows.schema)
            return Answer(names, [tuple(row.values()) for row in rows])
        except Exception as error:
            raise translate(error, f"The {operation}", own=own) from error

    def _query(
        self, operation: str, sql: str, parameters: Parameters | None, own: bool, first_page: int | None = None
    ) -> Any:
        """The row iterator of a statement that ran once; rows beyond the first page are fetched when they are read."""
        from google.cloud import bigquery

        rest = self.clients.rest
        project, dataset = self.clients.project, self.dataset.name
        config = bigquery.QueryJobConfig(
            query_parameters=[_parameter(name, value) for name, value in (parameters or {}).items()],
            maximum_bytes_billed=self.dataset.maximum_bytes_billed,
            default_dataset=bigquery.DatasetReference(project, dataset),
            labels={**self.dataset.labels, **JOB_LABELS, "operation": operation},
            use_query_cache=True,
        )
        try:
            bound = catalog.bind(sql, project, dataset)
            return rest.query_and_wait(
                bound,
                job_config=config,
                location=self.dataset.location,
                retry=ONCE,
                job_retry=ONCE,
                page_size=first_page,
            )
        except Exception as error:
            raise translate(error, f"The {operation}", own=own) from error


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

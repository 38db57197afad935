"""How the service treats statements, where the emulator is kinder."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from faults.proxy_rest import Answer
from service.layer import Append, Behaviour, Request, Statement, refusal, refused_rows
from service.numbers import refused_numbers

#: For so long the service refuses DML of a transaction over rows that were streamed, in seconds.
RECENT = 30 * 60
_DATASET = re.compile(r"`([A-Za-z0-9-]+)\.(\w+)(?:\.\w+)?`")
_PARSED = re.compile(r"PARSE_JSON\s*\((?![^()]*wide_number_mode\s*=>\s*'round')", re.IGNORECASE)
_OPERATORS = {"AND", "NOT", "OR", "IN", "NEAR"}


class EmptyArraysAreNull(Behaviour):
    """An array parameter without elements arrives as NULL, so that its length is NULL and not 0.

    Source: github.com/googleapis/python-bigquery, issues 2325 and 2360.
    """

    def run(self, statement: Statement, forward: Callable[[], Answer]) -> Answer:
        for parameter in statement.parameters:
            value = parameter.get("parameterValue") or {}
            if parameter["parameterType"]["type"] == "ARRAY" and not value.get("arrayValues"):
                parameter["parameterValue"] = None
        return forward()


class ExactNumbers(Behaviour):
    """PARSE_JSON refuses a number that is not written with the digits that the service would write it with.

    So do the streams, as far as is known. `wide_number_mode => 'round'` refuses none.

    Source: github.com/google/zetasql, public/json_value.cc, CheckNumberRoundtrip; github.com/airbytehq/airbyte, issues
    29590 and 29594; the documentation of PARSE_JSON.
    """

    def run(self, statement: Statement, forward: Callable[[], Answer]) -> Answer:
        if _PARSED.search(statement.sql):
            for text in _texts(statement.parameters):
                if number := refused_numbers(text):
                    return refusal(400, "invalidQuery", f"Invalid input to PARSE_JSON: {_cannot(number)}")
        return forward()

    def rest(self, request: Request, forward: Callable[[], Answer]) -> Answer:
        if request.name == "POST insertAll":
            errors = [
                {"index": index, "errors": [{"reason": "invalid", "location": "value", "message": _cannot(number)}]}
                for index, row in enumerate(request.body.get("rows", ()))
                if (number := refused_numbers(row["json"].get("value")))
            ]
            if errors:
                body = json.dumps({"kind": "bigquery#tableDataInsertAllResponse", "insertErrors": errors}).encode()
                return 200, [("Content-Type", "application/json")], body
        return forward()

    def append(self, append: Append, forward: Callable[[], bytes]) -> bytes:
        if append.rows is not None and "value" in append.rows.schema.names:
            found = [
                (index, f"Field value: {_cannot(number)}")
                for index, text in enumerate(append.rows.column("value").to_pylist())
                if (number := refused_numbers(text))
            ]
            if found:
                message = "Errors found while processing rows. Please refer to the row_errors field for details."
                return refused_rows(grpc.StatusCode.INVALID_ARGUMENT, message, found)
        return forward()


class TransactionsOverStreamedRows(Behaviour):
    """UPDATE, DELETE and MERGE are refused within a transaction if rows were streamed to their table recently.

    Source: the documentation of the Storage Write API, Limitations: "Running mutating DML statements within a
    multi-statement transaction against recently streamed data is unsupported."
    """

    def __init__(self) -> None:
        self._streamed: dict[str, float] = {}

    def run(self, statement: Statement, forward: Callable[[], Answer]) -> Answer:
        if statement.in_transaction:
            for table in statement.mutated:
                if time.monotonic() - self._streamed.get(table, -RECENT) < RECENT:
                    return refusal(
                        400,
                        "invalidQuery",
                        "UPDATE, MERGE or DELETE statement in a multi-statement transaction over table "
                        f"{table} would affect recently streamed data, which is not supported",
                    )
        return forward()

    def rest(self, request: Request, forward: Callable[[], Answer]) -> Answer:
        if request.name == "POST insertAll":
            self._streamed[request.table] = time.monotonic()
        return forward()

    def append(self, append: Append, forward: Callable[[], bytes]) -> bytes:
        self._streamed[append.table] = time.monotonic()
        return forward()


class _Running:
    """The statements that are running, counted for each table."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()

    @contextlib.contextmanager
    def enter(self, tables: set[str], limit: int) -> Iterator[str | None]:
        """Yield a table for which so many statements are running already; None if this one is admitted."""
        with self._lock:
            full = next((table for table in sorted(tables) if self._running[table] >= limit), None)
            entered = set() if full else tables
            self._running.update(entered)
        try:
            yield full
        finally:
            with self._lock:
                self._running.subtract(entered)


class ContendingTransactions(Behaviour):
    """Of two transactions that change rows of one table at a time, one is cancelled; it does not wait.

    Source: the documentation of multi-statement transactions, Concurrency; github.com/elementary-data/elementary,
    issue 1109.
    """

    def __init__(self) -> None:
        self._running = _Running()

    def run(self, statement: Statement, forward: Callable[[], Answer]) -> Answer:
        with self._running.enter(statement.mutated if statement.in_transaction else set(), 1) as other:
            if other:
                return refusal(
                    400,
                    "invalidQuery",
                    f"Transaction is aborted due to concurrent update against table {other}. Transaction ID: 0",
                )
            return forward()


class OutstandingStatements(Behaviour):
    """No more than 20 statements that change rows may wait for one table; a further one is refused.

    Source: the documentation of quotas, "DML statements"; the message is that of the troubleshooting page.
    """

    def __init__(self, limit: int = 20) -> None:
        self._running, self._limit = _Running(), limit

    def run(self, statement: Statement, forward: Callable[[], Answer]) -> Answer:
        with self._running.enter(statement.mutated, self._limit) as full:
            if full:
                return refusal(
                    400,
                    "invalidQuery",
                    "Resources exceeded during query execution: Too many DML statements outstanding against table "
                    f"{full}, limit is {self._limit}.",
                )
            return forward()


class Locations(Behaviour):
    """A job that names no location runs in US, where no dataset is found that is elsewhere.

    Usually the service finds the location by the datasets of the statement, but not always: this is the worst case.

    Args:
        default: Location of datasets that are made without one.

    Source: github.com/snowplow/sql-runner, issue 173; the documentation of locations, "Specify locations".
    """

    def __init__(self, default: str = "EU") -> None:
        self._default = default
        self._made: dict[str, str] = {}

    def run(self, statement: Statement, forward: Callable[[], Answer]) -> Answer:
        named = {f"{project}.{dataset}" for project, dataset in _DATASET.findall(statement.sql)}
        default = statement.config.get("defaultDataset")
        if default:
            named.add(f"{default['projectId']}.{default['datasetId']}")
        where = (statement.location or "US").upper()
        for dataset in sorted(named):
            if self._made.get(dataset, self._default).upper() != where:
                found = dataset.replace(".", ":")
                return refusal(404, "notFound", f"Not found: Dataset {found} was not found in location {where}")
        return forward()

    def rest(self, request: Request, forward: Callable[[], Answer]) -> Answer:
        if request.name == "POST datasets":
            reference = request.body["datasetReference"]
            dataset = f"{reference['projectId']}.{reference['datasetId']}"
            self._made.setdefault(dataset, request.body.get("location") or self._default)
        status, headers, body = forward()
        if status == 200 and request.name in ("GET dataset", "POST datasets", "PATCH dataset"):
            found: dict[str, Any] = json.loads(body)
            reference = found["datasetReference"]
            found["location"] = self._made.get(f"{reference['projectId']}.{reference['datasetId']}", self._default)
            body = json.dumps(found).encode()
        return status, headers, body


class SearchTerms(Behaviour):
    """SEARCH reads AND, NOT, OR, IN and NEAR as operators, unless they stand in backticks.

    Source: the documentation of SEARCH, "search_query".
    """

    def run(self, statement: Statement, forward: Callable[[], Answer]) -> Answer:
        if "SEARCH(" in statement.sql:
            for parameter in statement.parameters:
                text = (parameter.get("parameterValue") or {}).get("value")
                if parameter.get("name") == "terms" and text:
                    operators = _OPERATORS.intersection(re.sub(r"`[^`]*`", " ", text).upper().split())
                    if operators:
                        return refusal(400, "invalidQuery", f"Invalid search query: unexpected {min(operators)}")
        return forward()


def _texts(value: Any) -> Iterator[str]:
    """Yield each text of the parameters."""
    for item in value if isinstance(value, list) else value.values():
        if isinstance(item, str):
            yield item
        elif isinstance(item, list | dict):
            yield from _texts(item)


def _cannot(number: str) -> str:
    return f"Input number: {number} cannot round-trip through string representation"

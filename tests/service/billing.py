"""What the service bills on demand, by a model: partitions, clusters, the streaming buffer and minimums.

    billing = BytesBilled()  # one of the behaviours of a layer
    billing.settle()
    billing.bills[-1].billed

What a statement reads is found in its text, by `service.reads`.
"""

from __future__ import annotations

import json
import math
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import sqlglot
from google.cloud.bigquery_storage_v1 import types
from sqlglot import exp
from sqlglot.optimizer.simplify import simplify

from faults.proxy_rest import Answer
from service.conditions import count_ids, day_of, is_possible, values_of
from service.definitions import Definitions, Table, name_of
from service.layer import Append, Behaviour, Request, Statement, refusal
from service.reads import Read, Step, steps

MB = 2**20
#: Of each table that a statement names, at least so much is billed.
MINIMUM = 10 * MB
#: Partitions above this size are likely to benefit from clustering; it is taken for the size of a block.
BLOCK = 64 * MB
_SIZES = {"INT64": 8, "FLOAT64": 8, "TIMESTAMP": 8, "DATETIME": 8, "DATE": 8, "TIME": 8, "BOOL": 1}
#: So many jobs are remembered, to be asked about, and so many bills.
REMEMBERED = 2_000

#: Bytes by column of each day; None is the day of a table without partitions.
_Days = dict[date | None, Counter[str]]


@dataclass(frozen=True)
class Bill:
    """What a job is billed.

    Attributes:
        operation: Its label ``operation``.
        processed: The bytes that its statements read.
        billed: The bytes billed: rounded up, with the minimums.
        estimated: What a dry run says: without the buffer, and without clustering.
        upper_bound: The largest of its statements without clustering, which is compared with ``maximum_bytes_billed``.
    """

    operation: str
    processed: int
    billed: int
    estimated: int
    upper_bound: int


@dataclass
class _Stored:
    """The rows of a table, by their sizes."""

    settled: _Days = field(default_factory=dict)
    buffer: _Days = field(default_factory=dict)

    def add(self, day: date | None, sizes: Mapping[str, int], *, streamed: bool) -> None:
        days = self.buffer if streamed else self.settled
        days.setdefault(day, Counter()).update(sizes)

    def settle(self) -> None:
        for day, sizes in self.buffer.items():
            self.add(day, sizes, streamed=False)
        self.buffer.clear()

    def columns(self) -> Counter[str]:
        """The bytes of each column, of all rows."""
        return sum((*self.settled.values(), *self.buffer.values()), Counter())


class BytesBilled(Behaviour):
    """Answers say what the service would bill, and a statement above its `maximum_bytes_billed` is refused.

    The model: a statement reads, of each table, the columns that its result depends on, of the days that its constant
    conditions on the partitioning column leave. If the table is clustered, and conditions allow n constant values of
    that column, it reads n blocks of each of these days at most. Rows that were streamed lie in a buffer until
    `settle()`, and each statement reads them, whatever its conditions. UPDATE, DELETE and MERGE read all columns of the
    days of their table that their conditions leave, and what they need to find rows. At least 10 MB are billed for each
    table of a statement. A script is billed statement by statement. A dry run leaves the buffer out. The budget is
    compared with an upper bound that ignores clustering. CREATE TABLE AS SELECT is billed as its SELECT, and CREATE
    TABLE LIKE nothing.

    Simplifications:

    - A table that a statement names several times is read once, as is each of its columns.
    - An id of `IN` is in a block of its own, in each day that the conditions leave. The service knows the lowest and
      highest id of a block, so UUIDv7s of another day may cost nothing there.
    - Conditions pass through views, table functions, windows and groups to the table (`service.reads` says when); no
      manual says that the service does so.
    - `column IN UNNEST(@list)` leaves the days of the list. Manuals say so of constants in a list.
    - A branch of a script is taken if its condition is true by the parameters, or not known by them; its ELSE only if
      it is false.
    - The budget is compared statement by statement, the buffer included: no manual says whether it is.
    - A row that was inserted by a statement has the size of the parameters named as its columns, and is settled.
    - Rows that were deleted still count; those of a table that was dropped do not.
    - Results are not taken from the cache, and time travel is not counted.

    Args:
        block: Bytes of a block of a clustered table.

    Source: the documentation of BigQuery: pricing ("On-demand query size calculation": data types, minimums, DML on
    partitioned tables), "Query partitioned tables", "Query clustered tables", "Estimate and control costs" (dry runs,
    maximum bytes billed: "for clustered tables an upper bound"), "Streaming data into partitioned tables" (the buffer
    is in the partition __UNPARTITIONED__), "Multi-statement queries". The refusal is that of "Error messages".
    """

    def __init__(self, block: int = BLOCK) -> None:
        self._block = block
        self._known = Definitions()
        self._stored: dict[str, _Stored] = {}
        self._steps: dict[str, list[Step] | None] = {}
        self._jobs: OrderedDict[str, Bill] = OrderedDict()
        self._lock = threading.RLock()
        self.bills: deque[Bill] = deque(maxlen=REMEMBERED)
        self.unread: deque[str] = deque(maxlen=REMEMBERED)

    # Sizes

    def settle(self) -> None:
        """Put the rows of the buffers into their partitions, as the service does within some 90 minutes."""
        with self._lock:
            for stored in self._stored.values():
                stored.settle()

    def declare(self, table: str, days: Iterable[date], day_bytes: int, buffer_bytes: int = 0) -> None:
        """Give a table so many bytes a day and in its buffer, in the shares that its columns have now."""
        with self._lock:
            shares = self._stored[table].columns()
            declared = self._stored[table] = _Stored()
            last = None
            for last in sorted(days):
                declared.add(last, _scaled(shares, day_bytes), streamed=False)
            if buffer_bytes:
                declared.add(last, _scaled(shares, buffer_bytes), streamed=True)

    # Requests

    def run(self, statement: Statement, forward: Callable[[], Answer]) -> Answer:
        found = self._read(statement)
        if found is None:
            return forward()
        values = values_of(statement.parameters)
        taken = [step for step in found if _is_taken(step, values)]
        bill = self._bill(statement, taken, values)
        limit = int(statement.config.get("maximumBytesBilled") or 0)
        if limit and bill.upper_bound > limit:
            needed = f"{bill.upper_bound} or higher required."
            message = f"Query exceeded limit for bytes billed: {limit}. {needed}"
            return refusal(500, "bytesBilledLimitExceeded", message)
        is_dry = bool(statement.config.get("dryRun") or statement.request.body.get("configuration", {}).get("dryRun"))
        status, headers, body = forward()
        if status != 200:
            return status, headers, body
        if is_dry:
            bill = Bill(bill.operation, bill.estimated, 0, bill.estimated, bill.upper_bound)
        else:
            self._learn(statement, taken, values)
            self.bills.append(bill)
        return status, headers, self._annotated(body, bill)

    def rest(self, request: Request, forward: Callable[[], Answer]) -> Answer:
        status, headers, body = forward()
        if status != 200:
            return status, headers, body
        if request.name == "POST insertAll":
            for row in request.body.get("rows", ()):
                self._add(request.table, [{name: _size(value) for name, value in row["json"].items()}], [row["json"]])
        elif request.name in ("GET job", "GET getQueryResults"):
            bill = self._jobs.get(request.path.partition("?")[0].rpartition("/")[2])
            body = body if bill is None else self._annotated(body, bill)
        elif request.name == "DELETE dataset":
            dataset = request.path.partition("/projects/")[2].partition("?")[0].replace("/datasets/", ".")
            with self._lock:
                for table in [name for name in self._stored if name.startswith(f"{dataset}.")]:
                    self._stored.pop(table)
        return status, headers, body

    def append(self, append: Append, forward: Callable[[], bytes]) -> bytes:
        answer = forward()
        if append.rows is not None and not types.AppendRowsResponse.deserialize(answer).error.code:
            rows = append.rows.to_pylist()
            self._add(append.table, [{name: _size(value) for name, value in row.items()} for row in rows], rows)
        return answer

    # The model

    def _read(self, statement: Statement) -> list[Step] | None:
        """The statement's steps; None if it cannot be read."""
        sql = statement.sql
        with self._lock:
            if sql not in self._steps:
                if len(self._steps) > REMEMBERED:
                    self._steps.clear()
                try:
                    self._steps[sql] = steps(sql, self._known)
                except sqlglot.errors.SqlglotError:
                    self._steps[sql] = None
                    self.unread.append(sql)
            return self._steps[sql]

    def _bill(self, statement: Statement, taken: Sequence[Step], values: Mapping[str, Any]) -> Bill:
        processed = billed = estimated = upper_bound = 0
        for step in taken:
            of_table: dict[str, list[Read]] = {}
            for read in step.reads:
                of_table.setdefault(statement.full(read.table), []).append(read)
            with self._lock:
                read = {table: self._bytes(table, reads, values) for table, reads in of_table.items()}
                dry = [self._bytes(table, reads, values, dry=True) for table, reads in of_table.items()]
                whole = {table: self._bytes(table, reads, values, dry=None) for table, reads in of_table.items()}
            processed += sum(read.values())
            billed += _rounded(read.values())
            estimated += sum(dry)
            upper_bound = max(upper_bound, _rounded(whole.values()))
        labels = statement.config.get("labels") or statement.request.body.get("labels")
        labels = labels or statement.request.body.get("configuration", {}).get("labels") or {}
        return Bill(labels.get("operation", ""), processed, billed, estimated, upper_bound)

    def _bytes(self, table: str, reads: Sequence[Read], values: Mapping[str, Any], *, dry: bool | None = False) -> int:
        """The bytes that these parts of a statement read of a table.

        Args:
            dry: True for the estimate of a dry run, None for the upper bound that the budget is compared with.
        """
        stored, definition = self._stored.get(table), self._known[table]
        if stored is None:
            return 0
        table_of = definition if isinstance(definition, Table) else Table({})
        total = 0
        for day, sizes in stored.settled.items():
            shares: Counter[str] = Counter()
            for read in reads:
                share = self._share(read, table_of, day, sizes, values, clustered=dry is False)
                for column in sizes if read.columns is None else read.columns:
                    shares[column] = max(shares[column], share)
            total += sum(math.ceil(sizes[column] * share) for column, share in shares.items())
        if not dry:
            needed = (
                None if any(read.columns is None for read in reads) else {it for r in reads for it in r.columns or ()}
            )
            for sizes in stored.buffer.values():
                total += sum(size for column, size in sizes.items() if needed is None or column in needed)
        return total

    def _share(
        self,
        read: Read,
        table: Table,
        day: date | None,
        sizes: Counter[str],
        values: Mapping[str, Any],
        *,
        clustered: bool,
    ) -> float:
        """The part of a day that is read: 0 if the conditions exclude it, some of its blocks, or 1."""
        if day is not None:
            on_days = [it.expression for it in read.conditions if it.column == table.partitioned_by]
            if not all(is_possible(condition, day, values) for condition in on_days):
                return 0
        if read.is_changed or not clustered:
            return 1
        counts = [
            count
            for it in read.conditions
            if it.column == table.clustered_by and (count := count_ids(it.expression, values)) is not None
        ]
        blocks = max(1, math.ceil(sizes.total() / self._block))
        return min(1.0, min(counts) / blocks) if counts else 1

    # What statements leave behind

    def _learn(self, statement: Statement, taken: Sequence[Step], values: Mapping[str, Any]) -> None:
        if statement.sql.lstrip().upper().startswith("CREATE"):
            with self._lock:
                self._steps.clear()
                for part in statement.sql.split(";\n"):
                    self._known.create(part)
        for step in taken:
            tree = step.statement
            if isinstance(tree, exp.Drop) and tree.kind == "TABLE":
                with self._lock:
                    name = name_of(tree.find(exp.Table))
                    self._stored.pop(statement.full(name), None)
                    self._known.drop(name)
            elif isinstance(tree, exp.Insert):
                self._insert(statement, tree, values)

    def _insert(self, statement: Statement, tree: exp.Insert, values: Mapping[str, Any]) -> None:
        """Add the rows that an INSERT made: what it selects from a table, or its parameters."""
        target, query = statement.full(name_of(tree.find(exp.Table))), tree.expression
        source = query.args.get("from_") if isinstance(query, exp.Select) else None
        if source is not None and isinstance(source.this, exp.Table):
            with self._lock:
                found = self._stored.get(statement.full(name_of(source.this)), _Stored())
                for day, sizes in (*found.settled.items(), *found.buffer.items()):
                    self._stored.setdefault(target, _Stored()).add(day, sizes, streamed=False)
            return
        columns = {it.name for it in tree.this.expressions} if isinstance(tree.this, exp.Schema) else set()
        plain = {name: value for name, value in values.items() if name in columns}
        lists = [value for value in values.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
        rows = [{**plain, **item} for item in (lists[0] if lists else [{}])]
        self._add(target, [{name: _size(row[name]) for name in row if name in columns} for row in rows], rows, False)

    def _add(
        self, table: str, sizes: Sequence[Mapping[str, int]], rows: Sequence[Mapping[str, Any]], streamed: bool = True
    ) -> None:
        definition = self._known[table]
        column = definition.partitioned_by if isinstance(definition, Table) else ""
        with self._lock:
            stored = self._stored.setdefault(table, _Stored())
            for of_row, row in zip(sizes, rows, strict=True):
                stored.add(day_of(row.get(column)) if column else None, of_row, streamed=streamed)

    def _annotated(self, body: bytes, bill: Bill) -> bytes:
        """Write a bill into a job or the answer of a query, as the service does."""
        found: dict[str, Any] = json.loads(body)
        figures = {"totalBytesProcessed": str(bill.processed), "totalBytesBilled": str(bill.billed)}
        if "statistics" in found:
            found["statistics"].setdefault("query", {}).update(figures)
            found["statistics"]["totalBytesProcessed"] = figures["totalBytesProcessed"]
        else:
            found.update(figures)
        if job := (found.get("jobReference") or {}).get("jobId"):
            with self._lock:
                self._jobs[job] = bill
                while len(self._jobs) > REMEMBERED:
                    self._jobs.popitem(last=False)
        return json.dumps(found).encode()


def _is_taken(step: Step, values: Mapping[str, Any]) -> bool:
    """True unless a branch around the statement is known not to run."""
    return all(_truth(condition, values) is holds for condition, holds in step.branches)


def _truth(condition: exp.Expr, values: Mapping[str, Any]) -> bool:
    """Whether a condition holds by the parameters; True if they do not say."""
    tree = condition.copy()
    for parameter in list(tree.find_all(exp.Parameter)):
        value = values.get(parameter.name)
        if not isinstance(value, str | int | float | bool):
            return True
        parameter.replace(exp.convert(value))
    found = simplify(tree)
    return found.this if isinstance(found, exp.Boolean) else True


def _rounded(sizes: Iterable[int]) -> int:
    """The bytes billed for these bytes of each table."""
    return math.ceil(sum(max(size, MINIMUM) for size in sizes) / MB) * MB


def _scaled(shares: Counter[str], total: int) -> dict[str, int]:
    whole = shares.total()
    return {column: round(size * total / whole) for column, size in shares.items()}


def _size(value: Any) -> int:
    """The logical bytes of a value."""
    if value is None:
        return 0
    if isinstance(value, bool):
        return 1
    if isinstance(value, int | float | datetime | date):
        return 8
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return 2 + len(text.encode(errors="surrogatepass"))

"""What the queries over a ledger's warehouse were billed, and what its tables cost to store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from ledger.errors import InvalidInput
from ledger.sdk.ledger import SessionLedger
from ledger.sdk.queries import bigquery_warehouse_of, warehouse_path
from ledger.stores.user_view import UserView
from ledger.warehouse import catalog
from ledger.warehouse.bigquery.list_prices import query_usd, storage_usd
from ledger.warehouse.urls import duckdb_file, duckdb_url

if TYPE_CHECKING:
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse


@dataclass(frozen=True, slots=True)
class JobCost:
    """What the jobs of a day with one operation were billed.

    Attributes:
        day: The day, in UTC.
        operation: What they did: ``query`` for a user's statement, or the name of one of the ledger's own.
        job_count: Number of jobs.
        bytes_processed: Bytes that they read.
        bytes_billed: Bytes billed.
        cost_usd: Their list price on demand, in US dollars.
    """

    day: date
    operation: str
    job_count: int
    bytes_processed: int
    bytes_billed: int
    cost_usd: float


@dataclass(frozen=True, slots=True)
class TableCost:
    """What a table costs to store.

    Attributes:
        table: Its name.
        row_count: Number of rows, without those that were just appended.
        active_bytes: Logical bytes in partitions that were changed in the last 90 days.
        long_term_bytes: Logical bytes in the others.
        month_usd: The list price of a month, in US dollars.
    """

    table: str
    row_count: int
    active_bytes: int
    long_term_bytes: int
    month_usd: float


@dataclass(frozen=True, slots=True)
class Costs:
    """What a warehouse costs.

    Attributes:
        warehouse: Its URL.
        jobs: What was billed, by day and operation; empty for a DuckDB file, and for an emulator, which bills nothing.
        tables: What is stored; empty for a DuckDB file.
        of_all_users: False if only the jobs of this user could be read.
        file_bytes: Size of a DuckDB file; None in BigQuery.
    """

    warehouse: str
    jobs: tuple[JobCost, ...] = ()
    tables: tuple[TableCost, ...] = ()
    of_all_users: bool = True
    file_bytes: int | None = None


def costs(
    ledger: SessionLedger,
    first_day: date | None = None,
    last_day: date | None = None,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Costs:
    """Return what the warehouse of a ledger was billed on some days, and what its tables cost to store.

    BigQuery keeps its list of jobs for 180 days. Reading the list is billed as well, at least 10 MB. Jobs have the
    label ``ledger_dataset`` since release 0.3; earlier ones are not counted, and neither are queries that were made
    without the ledger, as by a dashboard. Appends by the Storage Write API are no jobs.

    Args:
        ledger: The ledger.
        first_day, last_day: Days in UTC, both included. Without ``last_day`` the last one is today, without
            ``first_day`` there are seven.
        now: The time of today.

    Raises:
        InvalidInput: The last day is before the first one.
        PermissionDenied: The ledger was returned by ``for_user``.
        ConfigurationError: The list of jobs may not be read: this takes ``roles/bigquery.user`` for one's own jobs, and
            ``roles/bigquery.resourceViewer`` for those of all users.
        StoreUnavailable: BigQuery cannot be reached.
    """
    if isinstance(ledger.store, UserView):
        raise ledger.store.everybodys("costs")
    last = now().date() if last_day is None else last_day
    first = last - timedelta(days=6) if first_day is None else first_day
    if last < first:
        raise InvalidInput(f"The last day {last} is before the first day {first}.")
    warehouse = bigquery_warehouse_of(ledger)
    if warehouse is not None:
        return bigquery_costs(warehouse, first, last)
    attached = ledger._warehouse
    path = (None if attached is None else duckdb_file(attached.url)) or warehouse_path(ledger)
    return Costs(duckdb_url(path), file_bytes=path.stat().st_size if path.exists() else 0)


def bigquery_costs(warehouse: BigQueryWarehouse, first: date, last: date) -> Costs:
    """Return what a warehouse in BigQuery was billed from one day to another, and what its tables cost to store.

    See ``costs``. An emulator has no list of jobs.
    """
    from ledger.warehouse.bigquery.billed_jobs import billed_jobs

    project, dataset = warehouse.clients.place
    url = f"bigquery://{project}/{dataset}"
    tables = tuple(_tables(warehouse))
    if warehouse.clients.emulator is not None:
        return Costs(url, tables=tables)
    begin, end = _midnight(first), _midnight(last) + timedelta(days=1)
    found = billed_jobs(warehouse, project, begin, end)
    jobs = tuple(JobCost(**row, cost_usd=query_usd(row["bytes_billed"])) for row in found.answer)
    return Costs(url, jobs, tables, found.of_all_users)


def _tables(warehouse: BigQueryWarehouse) -> Iterable[TableCost]:
    for item in catalog.objects():
        table = warehouse.table(item.name) if item.kind == "table" else None
        if table is not None:
            yield _table_cost(item.name, table)


def _table_cost(name: str, table: Any) -> TableCost:
    whole = int(table.num_bytes or 0)
    long_term = min(whole, int(table._properties.get("numLongTermBytes") or 0))  # the client has no name for it
    active = whole - long_term
    return TableCost(name, int(table.num_rows or 0), active, long_term, storage_usd(active, long_term))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)

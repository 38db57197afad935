"""``ledger cost``: what the queries over a ledger were billed, and what its tables cost to store."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING

import click

from ledger.cli.app import command, opened
from ledger.cli.days import chosen_days, with_days
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import counted, plain, safe

if TYPE_CHECKING:
    from ledger.analytics.costs import Costs

COMMANDS: dict[str, click.Command] = {}


@command(
    "cost",
    "ledger cost",
    "ledger cost --days 30",
    "ledger cost --since 2026-11-01 --until 2026-12-01 --json",
    into=COMMANDS,
)
@with_days
def cost(as_json: bool, url: str | None, since: date | None, until: date | None, days: int | None) -> None:
    """Show what BigQuery billed for the queries over the ledger, and what its tables cost to store.

    The warehouse is the ledger in BigQuery, or the one in LEDGER_WAREHOUSE. Bytes billed are those that BigQuery lists
    for the ledger's jobs, by day and operation: `query` is your own SQL. The list takes the role
    roles/bigquery.resourceViewer on the project; without it, your own jobs are listed. It costs 10 MB or more to read.

    Prices are BigQuery's list prices on demand, without what is free each month: see docs/cost.md.
    """
    from ledger.analytics.costs import costs
    from ledger.analytics.questions import Analytics

    with opened(url) as ledger:
        found = costs(ledger, *chosen_days(Analytics(ledger), since, until, days))
    if as_json:
        jobs, tables = found.jobs, found.tables
        total = {"bytes_billed": sum(job.bytes_billed for job in jobs), "cost_usd": sum(job.cost_usd for job in jobs)}
        print_json({**asdict(found), **total, "storage_month_usd": sum(table.month_usd for table in tables)})
    else:
        _show(found)


def dollars(amount: float) -> str:
    """Return an amount of US dollars with as many digits as it takes to see small ones."""
    return f"${amount:,.2f}" if amount >= 1 or amount == 0 else f"${amount:.6f}"


def _show(found: Costs) -> None:
    from ledger.cli.output.tables import emit, rows_table
    from ledger.warehouse.bigquery.list_prices import AS_OF

    if found.file_bytes is not None:
        click.echo(safe(f"Nothing is billed: the warehouse is {found.warehouse}, {counted(found.file_bytes, 'byte')}."))
        return
    click.echo(safe(f"{found.warehouse}, at list prices of {AS_OF} on demand:"))
    if found.jobs:
        rows = [
            (job.day, job.operation, f"{job.job_count:,}", f"{job.bytes_billed:,}", dollars(job.cost_usd))
            for job in found.jobs
        ]
        billed, price = sum(job.bytes_billed for job in found.jobs), sum(job.cost_usd for job in found.jobs)
        footer = f"{counted(billed, 'byte')} billed, {dollars(price)}"
        footer += "" if found.of_all_users else "; only your own jobs, since those of others may not be listed"
        emit(rows_table(("day", "operation", "jobs", "bytes billed", "price"), rows), plain(footer, "dim"))
    else:
        click.echo("No job was billed on these days.")
    stored = [
        (it.table, f"{it.row_count:,}", f"{it.active_bytes:,}", f"{it.long_term_bytes:,}", dollars(it.month_usd))
        for it in found.tables
    ]
    footer = f"{dollars(sum(it.month_usd for it in found.tables))} a month"
    columns = ("table", "rows", "active bytes", "long-term bytes", "price of a month")
    emit(rows_table(columns, stored), plain(footer, "dim"))

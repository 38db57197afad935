"""Commands for the tables that scheduled statements keep: ``ledger refresh`` and ``ledger deploy``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ledger.cli.app import command, opened
from ledger.cli.commands.maintenance import with_attached
from ledger.cli.commands.relay import with_warehouse
from ledger.cli.commands.warehouse import shipping
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import counted
from ledger.clock import utc_now
from ledger.errors import CapabilityMissing, InvalidInput

if TYPE_CHECKING:
    from ledger.sdk.ledger import SessionLedger
    from ledger.warehouse.bigquery.tables import ObjectChange
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

COMMANDS: dict[str, click.Command] = {}
#: Maximum of a number of days: a hundred years.
_DAYS = click.IntRange(1, 36_525)
F = TypeVar("F", bound=Callable[..., Any])


def _with_lookback(default: str) -> Callable[[F], F]:
    """Return the option --lookback-days, whose help names its default."""
    return click.option(
        "--lookback-days",
        type=_DAYS,
        help=f"Days before a day on which sessions that are still worked in may have begun.  [default: {default}]",
    )


@command(
    "refresh",
    "ledger refresh",
    "ledger refresh --day 2026-11-29",
    "ledger refresh --full --json",
    into=COMMANDS,
)
@click.option(
    "--day",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Run as on the day after this one, in UTC, whose run was missed.  [default: run as now]",
)
@click.option("--full", is_flag=True, help="Compute the tables from all days, whatever is in them.")
@_with_lookback("8")
@with_warehouse
def refresh(
    as_json: bool,
    url: str | None,
    day: datetime | None,
    full: bool,
    lookback_days: int | None,
    warehouse: str | None,
) -> None:
    """Bring the tables sessions_latest and daily_rollup up to date. Run this periodically, for example from cron.

    Waiting rows are shipped first. sessions_latest has the latest state of each session, daily_rollup the counts of
    each day until yesterday. The command computes the last three days, and all days since the last one of the table, so
    a run that was missed is made up for; it can be interrupted and repeated. In BigQuery, `ledger deploy` schedules the
    same statements.
    """
    from ledger.sdk.queries import warehouse_of
    from ledger.warehouse.scheduled import refresh as bring_up_to_date

    now = utc_now()
    if day is not None and day.date() >= now.date():
        raise InvalidInput(f"--day {day:%Y-%m-%d} has not ended in UTC; nothing was computed. Name an earlier day.")
    run_time = now if day is None else day.replace(tzinfo=UTC) + timedelta(days=1)
    with with_attached(url, warehouse) as ledger, warehouse_of(ledger, shipping) as opened_warehouse:
        done = bring_up_to_date(opened_warehouse, run_time, full=full, lookback_days=lookback_days)
    if as_json:
        print_json(asdict(done))
        return
    last = "" if done.last_day is None else f", the last {done.last_day.isoformat()}"
    click.echo(
        f"sessions_latest: {counted(done.sessions, 'session')}; daily_rollup: {counted(done.days, 'day')}{last}."
    )


@command(
    "deploy",
    "ledger --url bigquery://PROJECT/DATASET deploy --dry-run",
    "ledger --url bigquery://PROJECT/DATASET deploy --retention-days 400",
    into=COMMANDS,
)
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@_with_lookback("8; 35 for --expire")
@click.option("--expire", is_flag=True, help="Also record the expiration of lenient sessions of a ledger in BigQuery.")
@click.option(
    "--retention-days",
    type=_DAYS,
    help="Also delete sessions of a ledger in BigQuery, for good, in which nothing was recorded for this many days.",
)
@click.option(
    "--service-account", metavar="EMAIL", help="Account as which the scheduled queries run.  [default: your own]"
)
def deploy(
    as_json: bool,
    url: str | None,
    dry_run: bool,
    lookback_days: int | None,
    expire: bool,
    retention_days: int | None,
    service_account: str | None,
) -> None:
    """Create or update tables, views, functions and scheduled queries in BigQuery.

    The plan is printed first. The scheduled queries bring the tables sessions_latest and daily_rollup up to date. When
    a schedule runs, and whether it is paused, can be changed in the console, and stays. The command removes no table,
    and of the schedules only those that it made for this dataset and that are not wanted any more: without
    --retention-days, sessions are no longer deleted.

    Sessions that a ledger in a file ships here are neither expired nor deleted: `ledger maintain` does both.
    """
    from ledger.sdk.queries import own_warehouse

    with opened(url) as ledger:
        warehouse = _in_bigquery(ledger, own_warehouse(ledger))
        from ledger.warehouse.bigquery.deployment import Deployment  # needs what a ledger in BigQuery has required

        deployment = Deployment(
            warehouse,
            lookback_days=lookback_days,
            expire=expire,
            retention_days=retention_days,
            service_account=service_account,
        )
        changes = deployment.plan()
        if not as_json:
            _print_plan(changes, retention_days)
        if not dry_run:
            deployment.execute()
        if as_json:
            _print_as_json(ledger.url, changes, dry_run)
        else:
            click.echo(_summary(changes, dry_run))


def _in_bigquery(ledger: SessionLedger, warehouse: BigQueryWarehouse | None) -> BigQueryWarehouse:
    """Return the warehouse of a ledger in BigQuery.

    Raises:
        CapabilityMissing: The ledger is a file.
    """
    if warehouse is None:
        raise CapabilityMissing(
            f"{ledger.url} is a file, and scheduled queries are BigQuery's. Name the dataset: ledger --url "
            "bigquery://PROJECT/DATASET deploy. For a file, run `ledger maintain` and `ledger refresh` from cron."
        )
    return warehouse


def _print_plan(changes: Sequence[ObjectChange], retention_days: int | None) -> None:
    from ledger.cli.output.render import changes_table
    from ledger.cli.output.tables import emit

    planned = {"created": "create", "updated": "update", "removed": "remove"}
    lines = [(it.what, it.name, planned[it.done], it.detail) for it in changes if it.done in planned]
    if lines:
        emit(changes_table(lines, heading="to do"))
    if retention_days is not None:
        click.echo(
            f"Each day, sessions in which nothing was recorded for {counted(retention_days, 'day')} are deleted for "
            "good, except those that a ledger in a file ships here."
        )


def _summary(changes: Sequence[ObjectChange], dry_run: bool) -> str:
    done = Counter(change.done for change in changes)
    if not any(done[each] for each in ("created", "updated", "removed")):
        return "Nothing to change."
    counts = f"{done['created']} created, {done['updated']} updated, {done['removed']} removed"
    if dry_run:
        counts = f"{done['created']} to create, {done['updated']} to update, {done['removed']} to remove"
    return f"{counts}, {done['unchanged']} unchanged.{' Nothing was changed.' if dry_run else ''}"


def _print_as_json(url: str, changes: Sequence[ObjectChange], dry_run: bool) -> None:
    done: Any = Counter(change.done for change in changes)
    counts = {each: done[each] for each in ("created", "updated", "removed", "unchanged")}
    print_json({"url": url, "dry_run": dry_run, "changes": [asdict(it) for it in changes], **counts})

"""The command that shows what the last days were like."""

from __future__ import annotations

from datetime import date

import click

from ledger.cli.app import command, opened
from ledger.cli.commands.warehouse import shipping
from ledger.cli.days import chosen_days, with_days
from ledger.cli.output.shapes import print_json

COMMANDS: dict[str, click.Command] = {}


@command(
    "stats",
    "ledger stats",
    "ledger stats --days 30",
    "ledger stats --since 2026-11-01 --until 2026-12-01 --json",
    into=COMMANDS,
)
@with_days
@click.option(
    "--lookback-days",
    type=click.IntRange(0, 100_000),
    default=8,
    show_default=True,
    metavar="NUMBER",
    help="Days before both periods on which sessions that are still worked in may have begun.",
)
def stats(
    as_json: bool, url: str | None, since: date | None, until: date | None, days: int | None, lookback_days: int
) -> None:
    """Show the last days beside as many before them: sessions, tools, models, cost.

    What is not known is shown as a dash, such as the price of calls that told none. docs/analytics.md has the views
    behind the numbers. In BigQuery, the days that are read are billed: those of both periods and --lookback-days.
    """
    from ledger.analytics.questions import Analytics

    with opened(url) as ledger:
        analytics = Analytics(ledger)
        first, last = chosen_days(analytics, since, until, days)
        summary = analytics.summary(first, last, lookback_days=lookback_days, shipping=shipping)
    if as_json:
        print_json(summary.to_dict())
    else:
        from ledger.cli.output.dashboard import show_summary

        show_summary(summary)

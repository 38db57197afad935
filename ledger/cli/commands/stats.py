"""The command that shows what the last days were like."""

from __future__ import annotations

from datetime import date, timedelta

import click

from ledger.cli.app import command, opened
from ledger.cli.commands.warehouse import shipping
from ledger.cli.output.shapes import print_json

COMMANDS: dict[str, click.Command] = {}


def day(text: str) -> date:
    """Parse a day from 0001-01-02 on."""
    try:
        found = date.fromisoformat(text)
        if found == date.min:  # the day before it does not exist
            raise ValueError(text)
        return found
    except ValueError as error:
        raise click.BadParameter(f"A day looks like 2026-11-30, not like {text[:70]!r}.") from error


@command(
    "stats",
    "ledger stats",
    "ledger stats --days 30",
    "ledger stats --since 2026-11-01 --until 2026-12-01 --json",
    into=COMMANDS,
)
@click.option("--since", type=day, metavar="DAY", help="First day, in UTC.  [default: seven days until --until]")
@click.option("--until", type=day, metavar="DAY", help="Only days before this one, in UTC.  [default: tomorrow]")
@click.option("--days", type=click.IntRange(1, 3660), metavar="NUMBER", help="Number of days, instead of --since.")
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
    from ledger.analytics.questions import DAYS, Analytics

    if since is not None and days is not None:
        raise click.UsageError("Give --since or --days, not both.", click.get_current_context())
    last = None if until is None else until - timedelta(days=1)
    with opened(url) as ledger:
        chosen = {"days": days or DAYS, "lookback_days": lookback_days}
        summary = Analytics(ledger).summary(since, last, **chosen, shipping=shipping)
    if as_json:
        print_json(summary.to_dict())
    else:
        from ledger.cli.output.dashboard import show_summary

        show_summary(summary)

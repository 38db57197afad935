"""The options of commands that ask about days."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ledger.cli.app import together

if TYPE_CHECKING:
    from ledger.analytics.questions import Analytics

F = TypeVar("F", bound=Callable[..., Any])


def _day(text: str) -> date:
    """Parse a day that has a day before it."""
    try:
        if (found := date.fromisoformat(text)) == date.min:
            raise ValueError(text)
        return found
    except ValueError as error:
        raise click.BadParameter(f"A day looks like 2026-11-30, not like {text[:70]!r}.") from error


#: Adds ``--since``, ``--until`` and ``--days``; ``chosen_days`` reads them.
with_days: Callable[[F], F] = together(
    click.option("--since", type=_day, metavar="DAY", help="First day, in UTC.  [default: seven days until --until]"),
    click.option("--until", type=_day, metavar="DAY", help="Only days before this one, in UTC.  [default: tomorrow]"),
    click.option("--days", type=click.IntRange(1, 3660), metavar="NUMBER", help="Number of days, instead of --since."),
)


def chosen_days(analytics: Analytics, since: date | None, until: date | None, days: int | None) -> tuple[date, date]:
    """Return the first and the last day that the options of ``with_days`` choose, both included.

    Raises:
        UsageError: ``--since`` and ``--days`` are both given, or there is no day between ``--since`` and ``--until``.
    """
    if since is not None and days is not None:
        raise click.UsageError("Give --since or --days, not both.", click.get_current_context())
    last = None if until is None else until - timedelta(days=1)
    if since is not None and until is not None and since >= until:
        raise click.UsageError(
            f"--since {since} must be before --until {until}, which is not included.", click.get_current_context()
        )
    return analytics.days(since, last, *([] if days is None else [days]))

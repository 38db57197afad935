"""The scheduled statements in ``sql/scheduled/``: when each runs, and the numbers that it takes.

Each statement takes ``@run_time``, the time of the run, as BigQuery gives it to a scheduled query, and numbers of days.
Running it twice with the same time has the same effect as running it once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from ledger.errors import InvalidInput
from ledger.model.values import full_name
from ledger.warehouse import catalog
from ledger.warehouse.base import Warehouse

#: The largest number of days that a statement takes: a hundred years.
MOST_DAYS = 36_525


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A scheduled statement.

    Attributes:
        name: The name of its file without suffix.
        schedule: When BigQuery runs it, in UTC, in the form of the Data Transfer Service. It is not on the hour, when
            most schedules fire, and a schedule may fire late or twice.
        days: The numbers of days that the statement takes, with their defaults. None means that there is no default:
            the statement deletes, so somebody must say the number.
    """

    name: str
    schedule: str
    days: Mapping[str, int | None]


#: The statements in the order in which they run: what expires is in the tables on the same day.
SCHEDULED = (
    Scheduled("expire_sessions", "every day 00:43", {"lookback_days": 35}),
    Scheduled("sessions_latest", "every day 01:23", {"lookback_days": 8}),
    Scheduled("daily_rollup", "every day 02:37", {"days": 3, "lookback_days": 8}),
    Scheduled("delete_old_sessions", "every day 03:19", {"retention_days": None}),
    Scheduled("sessions_latest_full", "every sunday 04:51", {}),
)


def numbers_of(item: Scheduled, given: Mapping[str, int | None]) -> dict[str, int] | None:
    """Return the numbers that a statement takes: those that are given, else the defaults.

    Args:
        item: The statement.
        given: Numbers of days by name; those of other statements are passed over, and None is the default.

    Returns:
        The numbers; None if one that has no default is not given, so that the statement must not run.

    Raises:
        InvalidInput: A number is not a whole number of 1 to 36,525.
    """
    numbers = {}
    for name, default in item.days.items():
        value = given.get(name)
        value = default if value is None else value
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_DAYS:
            found = value if isinstance(value, int) else full_name(value)
            raise InvalidInput(f"{name} must be a whole number of 1 to {MOST_DAYS:,} days, not {found}.")
        numbers[name] = value
    return numbers


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The tables after ``refresh``.

    Attributes:
        sessions: Number of rows of ``sessions_latest``.
        days: Number of rows of ``daily_rollup``.
        last_day: The last day of ``daily_rollup``; None if it has none.
    """

    sessions: int
    days: int
    last_day: date | None


def refresh(
    warehouse: Warehouse,
    run_time: datetime,
    *,
    full: bool = False,
    days: int | None = None,
    lookback_days: int | None = None,
) -> Refreshed:
    """Bring the tables ``sessions_latest`` and ``daily_rollup`` up to date, as their schedules in BigQuery do.

    Args:
        warehouse: The warehouse.
        run_time: Time of the run. ``daily_rollup`` ends with the day before it.
        full: True to compute the tables from all days, whatever is in them.
        days, lookback_days: The numbers of the statements; None for their defaults. ``days`` does not apply to a full
            refresh.

    Returns:
        What the tables have now.

    Raises:
        InvalidInput: A number is not a whole number of 1 to 36,525.
        StoreUnavailable: The warehouse cannot be reached; run it again.
    """
    given = {"days": MOST_DAYS if full else days, "lookback_days": lookback_days}
    for item in SCHEDULED:
        if item.name in ("daily_rollup", "sessions_latest_full" if full else "sessions_latest"):
            numbers = numbers_of(item, given)
            assert numbers is not None  # noqa: S101 - these statements have defaults
            times = {"run_time": run_time} if item.days else {}
            warehouse.run_scheduled(item.name, {**times, **numbers})
    answer = warehouse.query(catalog.query("count_refreshed"), operation="count_refreshed")
    return Refreshed(*answer.rows[0])


def query_text(item: Scheduled, project: str, dataset: str, numbers: Mapping[str, int]) -> str:
    """Return the text of a scheduled query in BigQuery.

    A scheduled query has no parameters but the time and the date of its run, so the numbers stand in the text.

    Raises:
        ConfigurationError: The project or the dataset is not a valid BigQuery identifier.
    """
    sql = catalog.bind(catalog.scheduled(item.name), project, dataset)
    return re.sub(r"@(\w+)", lambda found: str(numbers[found[1]]) if found[1] in numbers else found[0], sql)

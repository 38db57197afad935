"""What the jobs of a dataset were billed: as BigQuery lists it, and as this process counted it today."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

from ledger import forking
from ledger.errors import BudgetExceeded, ConfigurationError, LedgerError
from ledger.warehouse import catalog
from ledger.warehouse.answer import Answer
from ledger.warehouse.base import Parameters
from ledger.warehouse.bigquery.list_prices import LEAST_BYTES
from ledger.warehouse.bigquery.settings import Dataset

log = logging.getLogger("ledger.bigquery")
#: Seconds after which the day's sum is read from BigQuery again, which other processes may have raised.
REFRESH_SECONDS = 600.0
_OPTION = "maximum_bytes_billed_per_day"


class Asking(Protocol):
    """What runs the ledger's own statements, as ``Jobs`` does."""

    dataset: Dataset

    def location(self) -> str | None: ...

    def ask(self, operation: str, sql: str, parameters: Parameters | None = None) -> Answer: ...


@dataclass(frozen=True, slots=True)
class BilledJobs:
    """What jobs were billed.

    Attributes:
        answer: Its rows are the day, operation, job_count, bytes_processed and bytes_billed.
        of_all_users: False if only the jobs of this user could be read.
    """

    answer: Answer
    of_all_users: bool


def dataset_label(name: str) -> str:
    """Return the value of the label ``ledger_dataset`` for a dataset: its name, as far as labels allow it."""
    return re.sub(r"[^a-z0-9_-]", "-", name.lower())[:63]


def billed_jobs(jobs: Asking, project: str, begin: datetime, end: datetime) -> BilledJobs:
    """Return what the jobs of a dataset were billed, by day and operation.

    Args:
        jobs: Runs the statement.
        project: The project whose jobs are listed.
        begin, end: Jobs that were created from ``begin`` on and before ``end``.

    Raises:
        ConfigurationError: The list of jobs may not be read.
        StoreUnavailable: BigQuery cannot answer now.

    Source: sql/statements/billed_jobs.sql
    """
    region = (jobs.location() or "US").lower()
    parameters = {"begin": begin, "end": end, "dataset": dataset_label(jobs.dataset.name)}

    def listed(view: str) -> Answer:
        source = f"`{project}`.`region-{region}`.INFORMATION_SCHEMA.{view}"
        return jobs.ask("billed_jobs", catalog.query("billed_jobs").replace("`${jobs}`", source), parameters)

    try:
        return BilledJobs(listed("JOBS_BY_PROJECT"), of_all_users=True)
    except ConfigurationError as error:  # bigquery.jobs.listAll, which few have
        log.info("The jobs of all users cannot be listed: %s", error)
        return BilledJobs(listed("JOBS_BY_USER"), of_all_users=False)


class DailyBudget:
    """The bytes that the statements over a dataset were billed today (UTC), and the maximum for a day. Thread-safe.

    The day's sum is read from BigQuery's list of jobs, at most every ``REFRESH_SECONDS``, and this process adds what it
    has been billed since. Another process may be billed meanwhile, so the maximum may be passed by what several
    processes read at the same time.

    Args:
        maximum: Bytes a day; None for no maximum, and nothing is counted.
        read: Returns the bytes that BigQuery lists for the day that begins then; None if there is no list, as in an
            emulator.
        clock: Returns the time.
        monotonic: Returns seconds.
    """

    def __init__(
        self,
        maximum: int | None,
        read: Callable[[datetime], int | None],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._maximum = maximum
        self._read = read
        self._clock = clock
        self._monotonic = monotonic
        self._guard = forking.Guard()
        self._day: date | None = None
        self._listed = 0  # bytes in BigQuery's list
        self._counted = 0  # bytes that this process has been billed since
        self._read_at: float | None = None

    def add(self, bytes_billed: int) -> None:
        """Count bytes that a job of this process was billed."""
        if self._maximum is not None:
            with self._guard.lock:
                self._turn_day()
                self._counted += bytes_billed

    def remaining(self, doing: str) -> int | None:
        """Return how many bytes may still be billed today; None if there is no maximum.

        Args:
            doing: What is to be run, for the message.

        Raises:
            BudgetExceeded: Less is left than BigQuery bills for any statement.
        """
        if self._maximum is None:
            return None
        self._refresh()
        with self._guard.lock:
            self._turn_day()
            spent = self._listed + self._counted
        left = self._maximum - spent
        if left < LEAST_BYTES:
            raise self.exceeded(doing, spent)
        return left

    def exceeded(self, doing: str, spent: int | None = None) -> BudgetExceeded:
        """Return the error for a statement for which too little is left."""
        assert self._maximum is not None  # noqa: S101 - only then there is such an error
        known = self._listed + self._counted if spent is None else spent
        return BudgetExceeded(
            f"{doing} was not run: today (UTC) the statements over this dataset were billed {known:,} bytes, and the "
            f"maximum is {self._maximum:,} ({_OPTION} in the URL of BigQuery). Wait until midnight UTC, or raise the "
            f"maximum: ?{_OPTION}=BYTES. A narrower range of created_at reads less.",
            spent=known,
            maximum=self._maximum,
        )

    def _turn_day(self) -> None:
        today = self._clock().date()
        if today != self._day:
            self._day, self._listed, self._counted, self._read_at = today, 0, 0, None

    def _refresh(self) -> None:
        """Read the day's sum if it was not read for some time. If it cannot be read, this process counts on."""
        with self._guard.lock:
            self._turn_day()
            now = self._monotonic()
            if self._read_at is not None and now - self._read_at < REFRESH_SECONDS:
                return
            self._read_at = now  # other threads go on with the last sum
            day = self._day
        assert day is not None  # noqa: S101 - _turn_day sets it
        try:
            listed = self._read(datetime(day.year, day.month, day.day, tzinfo=UTC))
        except LedgerError as error:
            log.warning("The bytes billed today cannot be read; those of this process count only: %s", error)
            return
        if listed is None:
            return
        with self._guard.lock:
            if self._day == day:
                # The list may lack the latest jobs, so that the sum never falls.
                total = max(listed, self._listed + self._counted)
                self._listed, self._counted = total, 0


def spent_on(jobs: Asking, project: str, day: datetime) -> int:
    """Return the bytes that the jobs of a dataset were billed on the day that begins at ``day``."""
    found = billed_jobs(jobs, project, day, day + timedelta(days=1))
    return sum(row["bytes_billed"] for row in found.answer)

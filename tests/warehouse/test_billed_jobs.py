"""What jobs were billed: as BigQuery lists it, as an answer tells it, and as the day's maximum counts it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ledger import BudgetExceeded, ConfigurationError, StoreUnavailable
from ledger.testing import SetClock
from ledger.warehouse import catalog
from ledger.warehouse.answer import Answer
from ledger.warehouse.bigquery.billed_jobs import REFRESH_SECONDS, DailyBudget, billed_jobs, dataset_label
from ledger.warehouse.bigquery.list_prices import LEAST_BYTES
from ledger.warehouse.bigquery.settings import Dataset, parse
from support.bigquery_warehouses import batch
from support.histories import event

if TYPE_CHECKING:
    from support.emulator import Emulator

DAY = datetime(2026, 3, 1, tzinfo=UTC)
NEXT = DAY + timedelta(days=1)
MB = 2**20


# BigQuery's list


def job(second: int, billed: int | None, *labels: tuple[str, str], parent: str | None = None) -> str:
    pairs = ", ".join(f"STRUCT('{key}' AS key, '{value}' AS value)" for key, value in labels)
    size = "CAST(NULL AS INT64)" if billed is None else billed
    of = "CAST(NULL AS STRING)" if parent is None else f"'{parent}'"
    return (
        f"SELECT TIMESTAMP_ADD(TIMESTAMP '2026-03-01', INTERVAL {second} SECOND) AS creation_time, {of} AS "
        f"parent_job_id, {size} AS total_bytes_processed, {size} AS total_bytes_billed, [{pairs}] AS labels"
    )


@pytest.mark.emulator
def test_jobs_of_the_dataset_are_summed_by_day_and_operation_and_scripts_count_once(emulator: Emulator) -> None:
    ours = ("app", "session-ledger"), ("ledger_dataset", "d")
    query = (*ours, ("operation", "query"))
    rows = [
        job(0, 10, *query),
        job(86_399, 20, *query),
        job(86_400, 40, *query),
        job(-1, 1_000, *query),
        job(1, 100, *ours, ("operation", "take_fence")),
        job(1, 100, *ours, ("operation", "take_fence"), parent="script"),
        job(1, None, *ours, ("operation", "drop")),
        job(1, 5, *ours),
        job(1, 2_000, ("app", "session-ledger"), ("ledger_dataset", "other"), ("operation", "query")),
        job(1, 3_000, ("app", "another"), ("ledger_dataset", "d"), ("operation", "query")),
    ]
    sql = catalog.query("billed_jobs").replace("`${jobs}`", f"({' UNION ALL '.join(rows)})")
    given: Any = {"begin": DAY, "end": DAY + timedelta(days=2), "dataset": "d"}
    found = _query(emulator, sql, given)
    first, second = date(2026, 3, 1), date(2026, 3, 2)
    assert found == [
        (first, "take_fence", 1, 100, 100),
        (first, "query", 2, 30, 30),
        (first, "", 1, 5, 5),
        (first, "drop", 1, 0, 0),
        (second, "query", 1, 40, 40),
    ]


def _query(emulator: Emulator, sql: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    from google.cloud import bigquery

    typed = [
        bigquery.ScalarQueryParameter(name, "STRING" if isinstance(value, str) else "TIMESTAMP", value)
        for name, value in parameters.items()
    ]
    config = bigquery.QueryJobConfig(query_parameters=typed)
    return [tuple(row.values()) for row in emulator.client.query_and_wait(sql, job_config=config)]


class Asked:
    """A client that records the statements, and may not list the jobs of others."""

    dataset = Dataset("p", "My.Data")

    def __init__(self, refused: str = "") -> None:
        self.asked: list[tuple[str, Any]] = []
        self._refused = refused

    def location(self) -> str | None:
        return "europe-west3"

    def ask(self, operation: str, sql: str, parameters: Any = None) -> Answer:
        self.asked.append((sql, parameters))
        if self._refused and self._refused in sql:
            raise ConfigurationError("Access Denied")
        return Answer(("bytes_billed",), [(7,)])


def test_jobs_are_listed_in_the_region_of_the_dataset_and_without_the_permission_those_of_the_user() -> None:
    allowed = Asked()
    assert billed_jobs(allowed, "p", DAY, NEXT).of_all_users
    (sql, parameters), *others = allowed.asked
    assert "FROM `p`.`region-europe-west3`.INFORMATION_SCHEMA.JOBS_BY_PROJECT\n" in sql
    assert parameters == {"begin": DAY, "end": NEXT, "dataset": "my-data"}
    assert others == []
    found = billed_jobs(Asked("JOBS_BY_PROJECT"), "p", DAY, NEXT)
    assert (found.of_all_users, found.answer.rows) == (False, [(7,)])
    with pytest.raises(ConfigurationError):
        billed_jobs(Asked("JOBS_BY"), "p", DAY, NEXT)


def test_the_label_of_a_dataset_is_one_that_bigquery_allows() -> None:
    assert dataset_label("Ledger_1") == "ledger_1"
    assert len(dataset_label("x" * 1024)) == 63


# The maximum of a day


class Day:
    """A budget of 100 MB whose list, clock and seconds a test sets."""

    def __init__(self) -> None:
        self.clock = SetClock(DAY)
        self.listed: int | Exception | None = 0
        self.reads: list[datetime] = []
        self.seconds = 0.0
        self.budget = DailyBudget(100 * MB, self._read, clock=self.clock, monotonic=lambda: self.seconds)

    def _read(self, day: datetime) -> int | None:
        self.reads.append(day)
        if isinstance(self.listed, Exception):
            raise self.listed
        return self.listed


def test_the_day_begins_with_what_bigquery_lists_and_counts_what_is_billed_since() -> None:
    day = Day()
    day.listed = 30 * MB
    assert day.budget.remaining("The query") == 70 * MB
    day.budget.add(20 * MB)
    assert day.budget.remaining("The query") == 50 * MB
    assert day.reads == [DAY], "the list is read once, as each reading is billed"
    day.seconds, day.listed = REFRESH_SECONDS, 85 * MB
    assert day.budget.remaining("The query") == 15 * MB
    day.budget.add(10 * MB)
    with pytest.raises(BudgetExceeded) as refused:
        day.budget.remaining("The query")
    assert (refused.value.spent, refused.value.maximum) == (95 * MB, 100 * MB)
    assert "?maximum_bytes_billed_per_day=BYTES" in str(refused.value)
    day.clock.move(86_400)
    day.listed = 0
    assert day.budget.remaining("The query") == 100 * MB
    assert day.reads[-1] == NEXT


def test_a_list_that_lags_behind_or_cannot_be_read_lowers_nothing(caplog: pytest.LogCaptureFixture) -> None:
    day = Day()
    day.budget.add(40 * MB)
    assert day.budget.remaining("The query") == 60 * MB
    day.seconds, day.listed = REFRESH_SECONDS, StoreUnavailable("away")
    assert day.budget.remaining("The query") == 60 * MB
    assert "those of this process count only: away" in caplog.text
    day.seconds, day.listed = 2 * REFRESH_SECONDS, None
    assert day.budget.remaining("The query") == 60 * MB


def test_without_a_maximum_nothing_is_read_or_counted() -> None:
    budget = DailyBudget(None, lambda day: pytest.fail("the list was read"))
    budget.add(5)
    assert budget.remaining("The query") is None


def test_the_maximum_is_an_option_of_the_url() -> None:
    assert parse("my-project/d?maximum_bytes_billed_per_day=500").maximum_bytes_billed_per_day == 500
    assert parse("my-project/d").maximum_bytes_billed_per_day is None
    with pytest.raises(ConfigurationError, match="must be a whole number above 0"):
        parse("my-project/d?maximum_bytes_billed_per_day=0")


# What the service says


@pytest.fixture
def billed(emulator: Emulator, place: Dataset) -> Iterator[Any]:
    """A warehouse over a service that bills, with a maximum of 25 MB a day."""
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
    from service.billing import BytesBilled
    from service.layer import service

    billing = BytesBilled()
    limited = replace(place, maximum_bytes_billed_per_day=25 * MB)
    with service(*emulator.bare, [billing]) as layer:
        settings = {"BIGQUERY_EMULATOR_HOST": layer.rest, "BIGQUERY_EMULATOR_GRPC_HOST": layer.grpc}
        with contextlib.closing(BigQueryWarehouse(limited, environment=settings)) as warehouse:
            warehouse.append("session_events", batch(event(1, ("title", "", "t"))))
            billing.declare(f"{emulator.project}.{place.name}.session_events", [date(2026, 3, 4)], MB)
            yield warehouse


@pytest.mark.emulator
def test_an_answer_tells_what_was_billed_and_the_day_ends_when_its_maximum_is_reached(billed: Any) -> None:
    sql = "SELECT event_id FROM session_events WHERE created_at >= '2026-03-01'"
    assert 0 < billed.estimate_query(sql) < MB
    answer = billed.query(sql)
    assert 0 < answer.bytes_processed < MB
    assert answer.bytes_billed == LEAST_BYTES
    assert answer.cost_usd == pytest.approx(10 / 2**20 * 6.25)
    billed.query(sql)
    with pytest.raises(BudgetExceeded, match=r"^The query was not run: today \(UTC\) .* billed 20,971,520 bytes"):
        billed.query(sql)
    billed.query("SELECT event_id FROM session_events WHERE session_id = 's'", operation="read_events")


@pytest.mark.emulator
def test_a_statement_that_needs_more_than_is_left_of_the_day_is_refused_by_its_own_maximum(billed: Any) -> None:
    billed.day_budget.add(14 * MB)
    sql = "SELECT e.event_id, i.user_id FROM session_events AS e JOIN session_index AS i USING (session_id)"
    with pytest.raises(BudgetExceeded):
        billed.query(sql)

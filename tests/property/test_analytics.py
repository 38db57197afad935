"""The views for dashboards give, on DuckDB and on BigQuery, the rows that the Python model gives, for any history."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from ledger.testing import activity
from ledger.testing import activity_counts as counts
from ledger.testing.agent_events import agent_events
from support import histories as h
from support.sql_targets import OnDuckDB, OnEmulator, Target, comparable

#: Later than anything in a history by more than a day, as the time of the query is.
NOW = datetime(2026, 11, 30, tzinfo=UTC)
Rows = Callable[[list[h.History]], list[dict[str, Any]]]
VIEWS: dict[str, Rows] = {
    "session_items": lambda found: [row for item in found for row in activity.items(item.events)],
    "session_metrics": lambda found: [activity.metrics(item.events, NOW) for item in found],
    "agent_events": lambda found: [row for item in found for row in agent_events(item.events)],
    "errors": lambda found: [row for row in VIEWS["session_items"](found) if row["is_current"] and row["is_error"]],
}
#: Some of the time in which events of the histories are recorded, which is up to a year around their creation.
SPAN = counts.Span(datetime(2025, 9, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC), 5)
DAYS: dict[str, Any] = {"first": SPAN.first_day, "next": SPAN.next_day}
ARGUMENTS = DAYS | {"back": SPAN.lookback_days}
FUNCTIONS: dict[str, Callable[[list[dict[str, Any]]], list[dict[str, Any]]]] = {
    "daily_activity": lambda rows: counts.by_day(rows, SPAN),
    "user_activity": lambda rows: counts.by_day(rows, SPAN, "user_id"),
    "tool_usage": lambda rows: counts.tool_usage(rows, SPAN),
    "model_usage": lambda rows: counts.model_usage(rows, SPAN),
}
OF_CREATION: dict[str, Callable[[list[tuple[Any, ...]]], list[dict[str, Any]]]] = {
    "outcomes": lambda found: counts.outcomes(found, SPAN, NOW),
    "attribute_distribution": lambda found: counts.attribute_distribution(found, SPAN),
    "cohorts": lambda found: counts.cohorts(found, SPAN),
}


@pytest.fixture(scope="module")
def on_duckdb(tmp_path_factory: pytest.TempPathFactory) -> OnDuckDB:
    return OnDuckDB(tmp_path_factory.mktemp("duckdb"))


@pytest.fixture(scope="module")
def on_emulator(emulator: Any) -> Iterator[OnEmulator]:
    target = OnEmulator(emulator, "analytics")
    yield target
    target.close()
    emulator.client.delete_dataset("analytics", delete_contents=True)


def parsed(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows with the JSON text of parts of messages parsed: engines write the same number in different ways."""

    def of(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [{**part, "part_attributes": json.loads(part["part_attributes"])} for part in value]

    return [tuple(of(value) for value in row) for row in rows]


def check(target: Target, found: list[h.History]) -> None:
    target.load(h.shuffled(h.rows_of([event for item in found for event in item.events]), len(found)))
    for view, expected in VIEWS.items():
        answer = target.query(f"SELECT * FROM `${{project}}.${{dataset}}.{view}`")
        rows = [tuple(row[column] for column in answer.columns) for row in expected(found)]
        assert comparable(parsed(answer.rows)) == comparable(parsed(rows)), view
    items = VIEWS["session_items"](found)
    for function, counted in FUNCTIONS.items():
        call = f"`${{project}}.${{dataset}}.{function}`(@first, @next, @back)"
        answer = target.query(f"SELECT * FROM {call}", ARGUMENTS)
        rows = [tuple(row[column] for column in answer.columns) for row in counted(items)]
        assert comparable(answer.rows) == comparable(rows), function
    for function, told in OF_CREATION.items():
        answer = target.query(f"SELECT * FROM `${{project}}.${{dataset}}.{function}`(@first, @next)", DAYS)
        rows = [tuple(row[column] for column in answer.columns) for row in told([item.events for item in found])]
        assert comparable(answer.rows) == comparable(rows), function


quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.mark.duckdb
@settings(quick, max_examples=25)
@given(found=h.histories(items=True))
def test_every_view_for_dashboards_agrees_on_duckdb(on_duckdb: OnDuckDB, found: list[h.History]) -> None:
    check(on_duckdb, found)


@pytest.mark.emulator
@settings(quick, max_examples=4)
@given(found=h.histories(sessions=8, items=True))
def test_every_view_for_dashboards_agrees_on_bigquery(on_emulator: OnEmulator, found: list[h.History]) -> None:
    check(on_emulator, found)

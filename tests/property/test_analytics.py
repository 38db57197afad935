"""The views for dashboards give, on DuckDB and on BigQuery, the rows that the Python model gives, for any history."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from ledger.model.fold import fold
from ledger.model.prices import ModelPrice
from ledger.testing import activity
from ledger.testing import activity_counts as counts
from ledger.testing.agent_events import agent_events
from ledger.warehouse.base import Warehouse
from ledger.warehouse.prices import send
from support import histories as h
from support.sql_targets import OnDuckDB, OnEmulator, Target, comparable

#: Later than anything in a history by more than a day, as the time of the query is.
NOW = datetime(2026, 11, 30, tzinfo=UTC)
Prices = list[ModelPrice]
Rows = Callable[[list[h.History], Prices], list[dict[str, Any]]]
VIEWS: dict[str, Rows] = {
    "session_items": lambda found, prices: [row for item in found for row in activity.items(item.events, prices)],
    "session_metrics": lambda found, prices: [activity.metrics(item.events, NOW, prices) for item in found],
    "agent_events": lambda found, _: [row for item in found for row in agent_events(item.events)],
    "errors": lambda found, prices: [
        row for row in VIEWS["session_items"](found, prices) if row["is_current"] and row["is_error"]
    ],
    "queries": lambda found, _: [row for item in found for row in current_of(item, "query")],
    "scores": lambda found, _: [row for item in found for row in current_of(item, "score")],
    "model_calls": lambda found, prices: [row for item in found for row in costs_of_calls(item, prices)],
}
#: Columns that are compared, of a view that is compared with another model elsewhere.
COMPARED = {
    "model_calls": "session_id, call_id, cost_usd, cost_source",
    "storage_growth": "day, row_count, event_count, session_count, total_row_count",
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
OF_CREATION: dict[str, Callable[[list[tuple[Any, ...]], Prices], list[dict[str, Any]]]] = {
    "outcomes": lambda found, prices: counts.outcomes(found, SPAN, NOW, prices),
    "attribute_distribution": lambda found, _: counts.attribute_distribution(found, SPAN),
    "top_assets": lambda found, _: counts.top_assets(found, SPAN),
    "cohorts": lambda found, _: counts.cohorts(found, SPAN, NOW),
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


#: Each current item of the views that have one kind of items, with what they say of copies.
CURRENT = {"message": "messages", "model_call": "model_calls", "query": "queries", "score": "scores"}
ONE_KIND = " UNION ALL ".join(
    f"SELECT session_id, '{kind}', {kind.removeprefix('model_')}_id, is_copy FROM `${{project}}.${{dataset}}.{view}`"
    for kind, view in CURRENT.items()
)


def costs_of_calls(item: h.History, prices: Prices) -> list[dict[str, Any]]:
    """What the calls that a session has now cost, each on the day on which it occurred."""
    times = {(event.version, event.event_id): event.occurred_at for event in item.events}
    held = {key: value for (field, key), value in fold(item.events).items() if field == "model_call"}
    return [
        {"session_id": item.session_id, "call_id": call_id}
        | activity.cost_of(value.value or {}, times[value.version, value.event_id].date(), prices)
        for call_id, value in held.items()
    ]


def current_of(item: h.History, field: str) -> list[dict[str, Any]]:
    """The queries or scores that a session has now."""
    events = {event.position: event for event in item.events}
    copies = {row["item_id"]: row["is_copy"] for row in activity.items(item.events) if row["item_type"] == field}
    held = [(value, key) for (name, key), value in fold(item.events).items() if name == field]
    rows = []
    for position, (value, key) in enumerate(sorted(held, key=lambda each: (each[0].version, each[1])), 1):
        event, parts = events[value.version, value.event_id], value.value or {}
        row = {name: parts.get(name) for name in ("parameters", "result_summary", "value")}
        row |= {name: activity.text_of(parts.get(name)) for name in ("query_type", "name", "source", "comment")}
        took, score = parts.get("execution_time_ms"), parts.get("value")
        rows.append(
            row
            | {f"{field}_id": key, "position": position, "version": value.version, "is_copy": copies[key]}
            | {name: getattr(event, name) for name in ("session_id", "user_id", "actor", "created_at")}
            | {"occurred_at": event.occurred_at, "recorded_at": event.recorded_at, "day": event.recorded_at.date()}
            | {"is_cache_hit": parts.get("cache_hit"), "execution_time_ms": None if took is None else float(took)}
            | {"score": float(score) if isinstance(score, bool | int | float) else None}
        )
    return rows


def check(target: Target, warehouse: Warehouse, found: list[h.History], prices: Prices) -> None:
    target.load(h.shuffled(h.rows_of([event for item in found for event in item.events]), len(found)))
    send(warehouse, prices, NOW, replace=True)
    for view, expected in VIEWS.items():
        answer = target.query(f"SELECT {COMPARED.get(view, '*')} FROM `${{project}}.${{dataset}}.{view}`")
        rows = [tuple(row[column] for column in answer.columns) for row in expected(found, prices)]
        assert comparable(parsed(answer.rows)) == comparable(parsed(rows)), view
    items = VIEWS["session_items"](found, prices)
    current = [row for row in items if row["is_current"] and row["item_type"] in CURRENT]
    copies = [(row["session_id"], row["item_type"], row["item_id"], row["is_copy"]) for row in current]
    assert comparable(target.query(ONE_KIND).rows) == comparable(copies)
    for function, counted in FUNCTIONS.items():
        call = f"`${{project}}.${{dataset}}.{function}`(@first, @next, @back)"
        answer = target.query(f"SELECT * FROM {call}", ARGUMENTS)
        rows = [tuple(row[column] for column in answer.columns) for row in counted(items)]
        assert comparable(answer.rows) == comparable(rows), function
    growth = "`${project}.${dataset}.storage_growth`(@first, @next, @back)"
    answer = target.query(f"SELECT {COMPARED['storage_growth']} FROM {growth}", ARGUMENTS)
    grown = counts.storage_growth([item.events for item in found], SPAN)
    assert comparable(answer.rows) == comparable([tuple(row[column] for column in answer.columns) for row in grown])
    for function, told in OF_CREATION.items():
        answer = target.query(f"SELECT * FROM `${{project}}.${{dataset}}.{function}`(@first, @next)", DAYS)
        rows = [
            tuple(row[column] for column in answer.columns) for row in told([item.events for item in found], prices)
        ]
        assert comparable(answer.rows) == comparable(rows), function


quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.mark.duckdb
@settings(quick, max_examples=25)
@given(found=h.histories(items=True), prices=h.price_lists())
def test_every_view_for_dashboards_agrees_on_duckdb(
    on_duckdb: OnDuckDB, found: list[h.History], prices: Prices
) -> None:
    check(on_duckdb, on_duckdb, found, prices)


@pytest.mark.emulator
@settings(quick, max_examples=4)
@given(found=h.histories(sessions=8, items=True), prices=h.price_lists())
def test_every_view_for_dashboards_agrees_on_bigquery(
    on_emulator: OnEmulator, found: list[h.History], prices: Prices
) -> None:
    check(on_emulator, on_emulator.warehouse, found, prices)

"""Every view and function gives, on DuckDB and on BigQuery, the rows that the Python model gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from ledger.model.fold import fold
from ledger.model.ids import creation_day
from ledger.model.session import COLUMNS
from ledger.testing.reference import head_after, history, history_in, recorded_by
from ledger.warehouse.projection import Projection
from support import histories as h
from support.sql_targets import OnDuckDB, OnEmulator, Target, comparable

WIDE = ", ".join(COLUMNS)
CALL = "position, name, description, status, has_result, result, message_id"
VIEWS: dict[str, tuple[str, Callable[[h.History], list[tuple[Any, ...]]]]] = {
    "session_fields": ("session_id, field, key, value, version, event_id", h.expected_fields),
    "session_history": (
        "session_id, field, key, value, removed, version, event_id, idempotency_key, superseded_by",
        h.expected_history,
    ),
    "sessions": (WIDE, h.expected_sessions),
    "session_versions": (WIDE, h.expected_versions),
    "tool_calls": (
        f"session_id, call_id, {CALL}, started_at, finished_at, latency_ms, retry_count, failure_count",
        h.expected_calls,
    ),
    "model_calls": (
        "session_id, call_id, position, model, " + ", ".join(h.MODEL_CALL_PARTS),
        h.expected_model_calls,
    ),
    "messages": (
        "session_id, message_id, position, " + ", ".join(h.MESSAGE_PARTS),
        h.expected_messages,
    ),
    "conflicts": ("session_id, version, events, event_ids", h.expected_conflicts),
}
STATE_AT = (
    "SELECT session_id, field, key, value, version, event_id "
    "FROM `${project}.${dataset}.session_state_at`(@id, @first, @next, @at)"
)
VERSION_AT = "SELECT version FROM `${project}.${dataset}.session_version_at`(@id, @first, @next, @at)"


@pytest.fixture(scope="module")
def on_duckdb(tmp_path_factory: pytest.TempPathFactory) -> OnDuckDB:
    return OnDuckDB(tmp_path_factory.mktemp("duckdb"))


@pytest.fixture(scope="module")
def on_emulator(emulator: Any) -> Iterator[OnEmulator]:
    target = OnEmulator(emulator, "agreement")
    yield target
    target.close()
    emulator.client.delete_dataset("agreement", delete_contents=True)


def check_views(target: Target, items: list[h.History]) -> None:
    for view, (columns, expected) in VIEWS.items():
        rows = target.query(f"SELECT {columns} FROM `${{project}}.${{dataset}}.{view}`").rows
        assert comparable(rows) == comparable([row for item in items for row in expected(item)]), view


def check_functions(target: Target, items: list[h.History]) -> None:
    projection = Projection(target)
    for item in items:
        for version in (None, 1, 3):
            until = [event for event in item.events if version is None or event.version <= version]
            expected = (h.head_of(until), fold(until)) if until else None
            assert projection.state(item.session_id, version=version) == expected
        at = item.events[0].recorded_at
        by_then = recorded_by(item.events, at)
        assert projection.state(item.session_id, at=at) == (head_after(by_then), fold(by_then))
        first_day, next_day = creation_day(item.events[0].created_at)
        rows = target.query(STATE_AT, {"id": item.session_id, "first": first_day, "next": next_day, "at": at}).rows
        assert comparable(rows) == comparable(h.expected_fields(replace(item, events=tuple(by_then))))
        scope = {"id": item.session_id, "first": first_day, "next": next_day, "at": at}
        assert target.query(VERSION_AT, scope).rows == [(max(event.version for event in by_then),)]
        assert history_in(target, item.session_id) == history(item.events)
        assert projection.events(item.session_id) == h.expected_events(item)


def load(target: Target, items: list[h.History]) -> None:
    target.load(h.shuffled(h.rows_of([event for item in items for event in item.events]), len(items)))


quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@settings(quick, max_examples=25)
@given(items=h.histories())
def test_every_view_agrees_on_duckdb(on_duckdb: OnDuckDB, items: list[h.History]) -> None:
    load(on_duckdb, items)
    check_views(on_duckdb, items)


@settings(quick, max_examples=10)
@given(items=h.histories(sessions=2))
def test_every_function_agrees_on_duckdb(on_duckdb: OnDuckDB, items: list[h.History]) -> None:
    load(on_duckdb, items)
    check_functions(on_duckdb, items)


@pytest.mark.emulator
@settings(quick, max_examples=4)
@given(items=h.histories(sessions=8))
def test_every_view_agrees_on_bigquery(on_emulator: OnEmulator, items: list[h.History]) -> None:
    load(on_emulator, items)
    check_views(on_emulator, items)


@pytest.mark.emulator
@settings(quick, max_examples=3)
@given(items=h.histories(sessions=1))
def test_every_function_agrees_on_bigquery(on_emulator: OnEmulator, items: list[h.History]) -> None:
    load(on_emulator, items)
    check_functions(on_emulator, items)

"""Seed 4, what goes on around analysis sessions: settings, statistics, tasks, tracking, set-up, by its sentences."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import AsyncSessionLedger, ConfigurationError, InvalidInput, SessionLedger, SessionNotFound
from ledger.compat.analysis_sessions import (
    SessionAnalytics,
    SessionMetrics,
    SessionSettings,
    SessionStore,
    SessionType,
    TooManyQueries,
)
from ledger.testing import START, SetClock
from support.analysis import price, run, some_sessions, store_over

ROOT = Path(__file__).resolve().parents[2]


# Settings


def test_the_six_settings_have_the_documented_defaults() -> None:
    assert SessionSettings.from_environment({}).model_dump() == {
        "session_default_ttl_hours": 24,
        "session_max_ttl_hours": 168,
        "session_cleanup_interval_minutes": 60,
        "session_retention_days": 30,
        "session_max_queries_per_session": 1000,
        "session_enable_analytics": True,
    }


def test_settings_are_read_from_the_environment() -> None:
    read = SessionSettings.from_environment(
        {
            "SESSION_DEFAULT_TTL_HOURS": "2",
            "LEDGER_SESSION_MAX_TTL_HOURS": "12",
            "SESSION_MAX_TTL_HOURS": "99",
            "SESSION_ENABLE_ANALYTICS": "false",
        }
    )
    assert (read.session_default_ttl_hours, read.session_max_ttl_hours, read.session_enable_analytics) == (
        *(2, 12, False),
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"SESSION_RETENTION_DAYS": "inf"},
        {"SESSION_RETENTION_DAYS": "nan"},
        {"SESSION_RETENTION_DAYS": "1e7"},
        {"SESSION_DEFAULT_TTL_HOURS": "nan"},
        {"SESSION_MAX_TTL_HOURS": "inf"},
        {"SESSION_CLEANUP_INTERVAL_MINUTES": "inf"},
        {"SESSION_RETENTION_DAYS": "soon"},
        {"SESSION_DEFAULT_TTL_HOURS": "200"},
        {"SESSION_MAX_TTL_HOURS": "-1"},
        {"SESSION_DEFAULT_TTL_HOURS": "0"},
        {"SESSION_CLEANUP_INTERVAL_MINUTES": "0"},
        {"SESSION_RETENTION_DAYS": "-0.1"},
        {"SESSION_MAX_QUERIES_PER_SESSION": "0"},
    ],
)
def test_a_setting_that_cannot_be_is_named(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=r"(?i)session_"):
        SessionSettings.from_environment(environment)


def test_the_default_ttl_holds_where_nobody_says_otherwise(ledger: SessionLedger, clock: SetClock) -> None:
    store = store_over(ledger, clock, session_default_ttl_hours=6)
    assert run(lambda: store.create_session(["AAPL"])).expires_at == START + timedelta(hours=6)


@pytest.mark.parametrize("hours", [169, 0, -1, True, "24"])
def test_no_session_lives_longer_than_the_maximum(session_store: SessionStore, hours: Any) -> None:
    with pytest.raises(InvalidInput, match="session_max_ttl_hours"):
        run(lambda: session_store.create_session(["AAPL"], ttl_hours=hours))


def test_session_max_queries_per_session_is_enforced(ledger: SessionLedger, clock: SetClock) -> None:
    store = store_over(ledger, clock, session_max_queries_per_session=2)

    async def scenario() -> None:
        session = await store.create_session(["AAPL"])
        session.add_query(price())
        session.add_query(price(at=1))
        with pytest.raises(TooManyQueries) as refused:
            session.add_query(price(at=2))
        assert (refused.value.session_id, refused.value.limit) == (session.id, 2)
        await store.update_session(session.id, session)
        session.state.history.add_query(price(at=3))  # past the model's check
        with pytest.raises(TooManyQueries):
            await store.update_session(session.id, session)
        with pytest.raises(TooManyQueries):
            await store.track_query(session.id, price(at=4))

    run(scenario)


def test_writers_at_once_do_not_go_beyond_the_maximum_of_queries(ledger: SessionLedger, clock: SetClock) -> None:
    store = store_over(ledger, clock, session_max_queries_per_session=3)

    async def scenario() -> None:
        session = await store.create_session(["AAPL"])
        tries = [store.track_query(session.id, price(at=number)) for number in range(8)]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(outcome is None for outcome in outcomes) == 3
        assert sum(isinstance(outcome, TooManyQueries) for outcome in outcomes) == 5
        found = await store.get_session(session.id)
        assert found is not None
        assert found.state.history.total_queries == 3

    run(scenario)


def test_get_session_stats_gives_aggregated_statistics(session_store: SessionStore, clock: SetClock) -> None:
    async def scenario() -> None:
        await some_sessions(session_store, clock)
        stats = await SessionAnalytics(session_store).get_session_stats()
        assert stats == {
            "total_sessions": 3,
            "active_sessions": 1,
            "completed_sessions": 1,
            "archived_sessions": 0,
            "abandoned_sessions": 1,
            "total_queries": 4,
            "average_duration_seconds": (600 + 120 + 0) / 3,
            "average_queries_per_session": 4 / 3,
            "abandonment_rate": 1 / 3,
            "cache_hit_rate": 0.25,
            "top_assets": [
                {"asset": "AAPL", "sessions": 2},
                *sorted(
                    [{"asset": "MSFT", "sessions": 1}, {"asset": "BTC", "sessions": 1}],
                    key=lambda it: [top["asset"] for top in stats["top_assets"]].index(it["asset"]),
                ),
            ],
            "query_type_distribution": {"price": 3, "news": 1},
            "session_type_distribution": {"crypto": 1, "equity": 1, "comparative": 1},
        }

    run(scenario)


def test_the_abandonment_rate_outlasts_the_archiving(session_store: SessionStore, clock: SetClock) -> None:
    async def scenario() -> None:
        await some_sessions(session_store, clock)
        analytics = SessionAnalytics(session_store)
        before = await analytics.get_session_stats()
        assert await session_store.cleanup_expired_sessions() == 1
        after = await analytics.get_session_stats()
        changed = {"archived_sessions": 1}
        assert after == before | changed

    run(scenario)


def test_what_the_warehouse_alone_keeps_still_counts(url: str, tmp_path: Path, clock: SetClock) -> None:
    async def scenario() -> None:
        async with AsyncSessionLedger(url, warehouse=f"duckdb:///{tmp_path}/w.duckdb", clock=clock) as ledger:
            store = SessionStore(ledger, settings=SessionSettings.from_environment({}), clock=clock)
            session = await store.create_session(["AAPL"], user_id="ada")
            await store.track_query(session.id, price(cache_hit=True))
            await store.archive_session(session.id)
            before = await SessionAnalytics(store).get_session_stats()
            await ledger.warehouse.sync()
            assert await ledger.drop_archived() == 1
            assert await SessionAnalytics(store).get_session_stats() == before
            assert before["total_queries"] == 1
            (summary,) = await store.list_user_sessions("ada", include_archived=True)
            assert (summary.total_queries, summary.cache_hit_rate) == (1, 1.0)
            found = await store.get_session(session.id)
            assert found is not None
            assert found.state.history.total_queries == 1

    run(scenario)


def test_stats_are_filtered_by_user_type_and_time_range(session_store: SessionStore, clock: SetClock) -> None:
    async def scenario() -> None:
        await some_sessions(session_store, clock)
        analytics = SessionAnalytics(session_store)
        assert (await analytics.get_session_stats(user_id="ada"))["total_sessions"] == 2
        assert (await analytics.get_session_stats(session_type=SessionType.CRYPTO))["total_sessions"] == 1
        assert (await analytics.get_session_stats(days=0.01))["total_sessions"] == 1
        until = START + timedelta(hours=1)
        assert (await analytics.get_session_stats(created_until=until))["total_sessions"] == 2
        empty = await analytics.get_session_stats(user_id="nobody")
        assert (empty["total_sessions"], empty["abandonment_rate"], empty["cache_hit_rate"]) == (0, 0.0, 0.0)

    run(scenario)


@pytest.mark.parametrize(
    "criteria",
    [
        {"days": float("nan")},
        {"days": float("inf")},
        {"days": 1e10},
        {"days": -1},
        {"days": "x"},
        {"session_type": "nonsense"},
    ],
)
def test_stats_of_what_cannot_be_are_a_typed_error(session_store: SessionStore, criteria: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(criteria))):
        run(lambda: SessionAnalytics(session_store).get_session_stats(**criteria))


def test_get_user_session_summary_is_specific_to_the_user(session_store: SessionStore, clock: SetClock) -> None:
    async def scenario() -> None:
        await some_sessions(session_store, clock)
        summary = await SessionAnalytics(session_store).get_user_session_summary("ada")
        assert (summary["user_id"], summary["total_sessions"], summary["total_queries"]) == ("ada", 2, 4)
        assert summary["first_session_at"] == summary["last_session_at"] == START

    run(scenario)


def test_record_session_metrics_records_completed_session_metrics(
    session_store: SessionStore, clock: SetClock, ledger: SessionLedger
) -> None:
    async def scenario() -> None:
        completed, *_ = await some_sessions(session_store, clock)
        analytics = SessionAnalytics(session_store)
        metrics = await analytics.record_session_metrics(completed)
        assert isinstance(metrics, SessionMetrics)
        assert (metrics.total_queries, metrics.duration_seconds, metrics.abandoned) == (3, 600.0, False)
        assert (metrics.cache_hit_rate, metrics.query_types) == (1 / 3, {"price": 3})
        before = len(ledger.history(completed))
        session = await session_store.get_session(completed)
        assert session is not None
        assert await analytics.record_session_metrics(session) == metrics
        assert len(ledger.history(completed)) == before
        with pytest.raises(SessionNotFound):
            await analytics.record_session_metrics("nowhere")

    run(scenario)


def test_session_enable_analytics_turns_the_recording_off(ledger: SessionLedger, clock: SetClock) -> None:
    store = store_over(ledger, clock, session_enable_analytics=False)

    async def scenario() -> None:
        session = await store.create_session(["AAPL"])
        assert await SessionAnalytics(store).record_session_metrics(session) is None
        await store.archive_session(session.id)
        assert [event.event_type for event in ledger.history(session.id)] == ["session.created", "session.archived"]

    run(scenario)


def test_export_session_metrics_exports_in_various_formats(session_store: SessionStore, clock: SetClock) -> None:
    async def scenario() -> None:
        made = await some_sessions(session_store, clock)
        analytics = SessionAnalytics(session_store)
        rows = json.loads(await analytics.export_session_metrics("json"))
        assert {row["session_id"] for row in rows} == set(made)
        lines = await analytics.export_session_metrics("jsonl")
        assert [json.loads(line) for line in lines.splitlines()] == rows
        table = list(csv.DictReader(io.StringIO(await analytics.export_session_metrics("csv", user_id="ada"))))
        assert {row["session_id"] for row in table} == set(made[:2])
        assert list(table[0]) == list(SessionMetrics.model_fields)
        assert {row["total_queries"] for row in table} == {"1", "3"}
        with pytest.raises(InvalidInput, match="json, jsonl, csv"):
            await analytics.export_session_metrics("xml")

    run(scenario)

"""Seed 4, what goes on around analysis sessions: settings, statistics, tasks, tracking, set-up, by its sentences."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import runpy
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import (
    AsyncSessionLedger,
    ConfigurationError,
    InvalidInput,
    PermissionDenied,
    SessionLedger,
    SessionNotFound,
    StoreUnavailable,
)
from ledger.compat.analysis_sessions import (
    QueryRecord,
    SessionAnalytics,
    SessionMetrics,
    SessionSettings,
    SessionStore,
    SessionType,
    TooManyQueries,
    track_query_in_session,
)
from ledger.compat.analysis_sessions.tasks import (
    CELERY_BEAT_SCHEDULE,
    beat_schedule,
    cleanup_expired_sessions,
    delete_old_archived_sessions,
    generate_session_metrics,
)
from ledger.testing import START, SetClock
from ledger.tiers.store import TwoTierStore
from support.analysis import DAY, HOUR, price, run, store_over

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


# Analytics


async def some_sessions(store: SessionStore, clock: SetClock) -> tuple[str, str, str]:
    """One that is completed after ten minutes, one that is abandoned, one that goes on."""
    completed = await store.create_session(["AAPL", "MSFT"], SessionType.COMPARATIVE, "ada")
    abandoned = await store.create_session(["AAPL"], SessionType.EQUITY, "ada", ttl_hours=1)
    for number in range(3):
        await store.track_query(completed.id, price(at=number, cache_hit=number == 0))
    await store.track_query(abandoned.id, QueryRecord(query_type="news", timestamp=START + timedelta(seconds=120)))
    clock.move(600)
    await store.complete_session(completed.id)
    clock.move(2 * HOUR)
    going_on = await store.create_session(["BTC"], SessionType.CRYPTO, "bob")
    return completed.id, abandoned.id, going_on.id


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


# Background tasks


def test_the_cleanup_task_archives_and_returns_statistics(session_store: SessionStore, clock: SetClock) -> None:
    run(lambda: session_store.create_session(["AAPL"], ttl_hours=1))
    clock.move(2 * HOUR)
    done = cleanup_expired_sessions(session_store)
    assert done["archived_sessions"] == 1
    assert done["duration_seconds"] >= 0


def test_old_archived_sessions_are_deleted_after_the_retention(
    session_store: SessionStore, clock: SetClock, ledger: SessionLedger
) -> None:
    old = run(lambda: session_store.create_session(["AAPL"], ttl_hours=1))
    clock.move(2 * HOUR)
    cleanup_expired_sessions(session_store)
    clock.move(29 * DAY)
    assert delete_old_archived_sessions(session_store)["deleted_sessions"] == 0
    clock.move(2 * DAY)
    done = delete_old_archived_sessions(session_store)
    assert (done["deleted_sessions"], done["retention_days"]) == (1, 30)
    assert run(lambda: session_store.get_session(old.id)) is None
    assert delete_old_archived_sessions(session_store)["deleted_sessions"] == 0


@pytest.mark.parametrize("end", ["complete_session", "fail_session", "delete_session"])
def test_sessions_that_ended_otherwise_are_deleted_after_the_retention_as_well(
    session_store: SessionStore, clock: SetClock, ledger: SessionLedger, end: str
) -> None:
    session_id = run(lambda: session_store.create_session(["AAPL"])).id
    getattr(ledger, end)(session_id, *(["no data"] if end == "fail_session" else []))
    clock.move(31 * DAY)
    assert delete_old_archived_sessions(session_store)["deleted_sessions"] == 1
    assert ledger.get_session(session_id) is None


def test_the_retention_is_not_for_one_user(session_store: SessionStore, clock: SetClock) -> None:
    kept = run(lambda: session_store.create_session(["AAPL"], user_id="ada"))
    clock.move(40 * DAY)
    cleanup_expired_sessions(session_store)
    clock.move(40 * DAY)
    with pytest.raises(PermissionDenied, match="ada"):
        run(session_store.for_user("ada").delete_old_archived_sessions)
    assert run(lambda: session_store.get_session(kept.id)).is_archived


def test_what_could_not_be_deleted_in_the_warehouse_is_deleted_the_next_time(
    url: str, tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with AsyncSessionLedger(url, warehouse=f"duckdb:///{tmp_path}/w.duckdb", clock=clock) as ledger:
            store = SessionStore(ledger, settings=SessionSettings.from_environment({}), clock=clock)
            session = await store.create_session(["AAPL"])
            await store.archive_session(session.id)
            await ledger.warehouse.sync()
            clock.move(31 * DAY)
            with monkeypatch.context() as away:
                away.setattr(TwoTierStore, "purge_warehouse", unreachable)
                with pytest.raises(StoreUnavailable):
                    await store.delete_old_archived_sessions()
            assert len(await ledger.store.pending_deletions()) == 1
            assert await store.delete_old_archived_sessions() == 0
            assert await ledger.store.pending_deletions() == []

    run(scenario)


def unreachable(store: TwoTierStore) -> int:
    raise StoreUnavailable("The warehouse is away.")


def test_the_metrics_task_processes_recent_sessions(session_store: SessionStore, clock: SetClock) -> None:
    run(lambda: some_sessions(session_store, clock))
    done = generate_session_metrics(session_store)
    assert done["recorded_sessions"] == 2
    assert (done["total_sessions"], done["total_queries"]) == (3, 4)
    assert generate_session_metrics(session_store)["recorded_sessions"] == 0


def test_celery_beat_schedule_names_the_tasks_hourly_and_daily() -> None:
    place = "ledger.compat.analysis_sessions.tasks"
    assert dict(CELERY_BEAT_SCHEDULE) == {
        "cleanup-expired-sessions": {"task": f"{place}.cleanup_expired_sessions", "schedule": 3600.0},
        "delete-old-archived-sessions": {"task": f"{place}.delete_old_archived_sessions", "schedule": 86400.0},
        "generate-session-metrics": {"task": f"{place}.generate_session_metrics", "schedule": 86400.0},
    }
    often = beat_schedule(SessionSettings.model_validate({"session_cleanup_interval_minutes": 5}))
    assert often["cleanup-expired-sessions"]["schedule"] == 300.0


def test_tasks_need_no_celery() -> None:
    program = "import ledger.compat.analysis_sessions.tasks, sys; print('celery' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# Automatic tracking


def test_track_query_in_session_tracks_where_a_session_id_is_given(session_store: SessionStore) -> None:
    async def scenario() -> None:
        assert await track_query_in_session(None, "price", store=session_store) is None
        session = await session_store.create_session(["AAPL"])
        query = await track_query_in_session(
            session.id, "price", {"symbol": "AAPL"}, "AAPL: $175.43", True, 12.5, store=session_store
        )
        found = await session_store.get_session(session.id)
        assert found is not None
        assert found.state.history.queries == [query]
        assert found.state.history.last_query == query  # "remember previous query"

    run(scenario)


def test_track_query_in_session_refuses_parameters_that_are_no_object(
    session_store: SessionStore, ledger: SessionLedger
) -> None:
    session_id = run(lambda: session_store.create_session(["AAPL"])).id
    with pytest.raises(InvalidInput, match="parameters"):
        run(lambda: track_query_in_session(session_id, "price", [1], store=session_store))  # type: ignore[arg-type]
    assert len(ledger.history(session_id)) == 1


def test_an_erased_or_foreign_query_still_counts(session_store: SessionStore, ledger: SessionLedger) -> None:
    session = run(lambda: session_store.create_session(["AAPL"]))
    ledger.add_query(session.id, "price", cache_hit=True)
    found = run(lambda: session_store.get_session(session.id))
    assert found.state.history.total_queries == 1
    assert found.state.history.cache_hit_rate == 1.0


# Set-up and demonstration


def setup_db(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script = ROOT / "scripts" / "setup_session_db.py"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, cwd=folder, env=environment
    )


def test_the_set_up_script_creates_and_verifies_what_sessions_are_kept_in(tmp_path: Path) -> None:
    missing = setup_db("verify", folder=tmp_path)
    assert missing.returncode == 12
    assert missing.stderr.startswith("error: There is no ledger")
    made = json.loads(setup_db("create", "--json", folder=tmp_path).stdout)
    assert made["url"] == "sqlite:///ledger.db"
    again = setup_db("create", folder=tmp_path)
    assert (again.returncode, again.stderr) == (0, "")

    async def fill() -> None:
        async with SessionStore(f"sqlite:///{tmp_path}/ledger.db") as store:
            session = await store.create_session(["AAPL"])
            await store.track_query(session.id, QueryRecord(query_type="price"))

    run(fill)
    found = json.loads(setup_db("verify", "--json", folder=tmp_path).stdout)
    assert (found["sessions"], found["queries"], found["unreadable"]) == (1, 1, {})
    assert "1 analysis sessions, 1 queries" in setup_db("verify", folder=tmp_path).stdout


def test_verify_names_a_session_that_cannot_be_read(tmp_path: Path) -> None:
    setup_db("create", folder=tmp_path)
    with SessionLedger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        fields = {"session_type": "no such type", "attribute": {"analysis_session": True}}
        ledger.create_session("ada", fields=fields, session_id="odd")
    done = setup_db("verify", folder=tmp_path)
    assert done.returncode == 1
    assert "odd cannot be read" in done.stdout


def test_the_set_up_script_drops_only_when_it_is_told_so_twice(tmp_path: Path) -> None:
    setup_db("create", folder=tmp_path)
    with SessionLedger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        ledger.create_session("ada")
    refused = setup_db("drop", folder=tmp_path)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert (tmp_path / "ledger.db").exists()
    assert setup_db("drop", "--yes", folder=tmp_path).returncode == 0
    assert not list(tmp_path.iterdir())


def test_the_demo_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LEDGER_URL", f"sqlite:///{tmp_path}/example.db")
    runpy.run_path(str(ROOT / "examples" / "seed4_session_demo.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert "Total queries: 2, cache hit rate: 50%" in shown
    assert "Previous query: GOOGL: $141.80" in shown
    assert "Queries per session: 2" in shown

"""Seed 4: background tasks, automatic tracking, set-up and demonstration."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from ledger import AsyncSessionLedger, InvalidInput, PermissionDenied, SessionLedger, StoreUnavailable
from ledger.compat.analysis_sessions import QueryRecord, SessionSettings, SessionStore, track_query_in_session
from ledger.compat.analysis_sessions.tasks import (
    CELERY_BEAT_SCHEDULE,
    beat_schedule,
    cleanup_expired_sessions,
    delete_old_archived_sessions,
    generate_session_metrics,
)
from ledger.testing import SetClock
from ledger.tiers.store import TwoTierStore
from support.analysis import DAY, HOUR, run, some_sessions

ROOT = Path(__file__).resolve().parents[2]


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
    assert "1 analysis session, 1 query." in setup_db("verify", folder=tmp_path).stdout


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

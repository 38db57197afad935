"""The summary of a period equals a plain count over the Python model of the views, on DuckDB and on BigQuery."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from ledger import InvalidInput, PermissionDenied, SessionLedger
from ledger.analytics import Analytics
from ledger.analytics.summary import Totals, read_summary
from ledger.testing import START, CountedIds, SetClock, activity
from support import histories as h
from support.sql_targets import OnDuckDB, OnEmulator, Target

#: Later than anything in a history by more than a day, as the time of the query is.
NOW = datetime(2026, 11, 30, tzinfo=UTC)
#: Histories are recorded up to a year around their creation, early in March.
MIDDLE, NEXT, BACK = datetime(2026, 3, 5, tzinfo=UTC), datetime(2026, 6, 5, tzinfo=UTC), 5
quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
Rows = list[dict[str, Any]]


def known(rows: Rows, column: str) -> Any:
    values = [row[column] for row in rows if row[column] is not None]
    return pytest.approx(math.fsum(values)) if values else None


def check(target: Target, found: list[h.History]) -> None:
    target.load(h.shuffled(h.rows_of([event for item in found for event in item.events]), len(found)))
    summary = read_summary(target, MIDDLE, NEXT, BACK)
    begin = MIDDLE - (NEXT - MIDDLE)
    items = [row for item in found for row in activity.items(item.events)]
    items = [it for it in items if begin - timedelta(days=BACK) <= it["created_at"] < NEXT and not it["is_copy"]]
    sessions = [activity.metrics(item.events, NOW) for item in found]
    for totals, start, end in ((summary.before, begin, MIDDLE), (summary.current, MIDDLE, NEXT)):
        made = [row for row in sessions if start <= row["created_at"] < end]
        check_totals(totals, made, [row for row in items if start <= row["recorded_at"] < end])
    days = {MIDDLE.date() + timedelta(days=number): 0 for number in range((NEXT - MIDDLE).days)}
    for row in items:
        if row["recorded_at"] >= MIDDLE and row["recorded_at"] < NEXT and row["item_type"] == "message":
            days[row["day"]] += 1
    assert {day["day"]: day["message_count"] for day in summary.days} == days


def check_totals(totals: Totals, sessions: Rows, items: Rows) -> None:
    ended = [row["is_success"] for row in sessions if row["is_success"] is not None]
    assert totals.session_count == len(sessions)
    for outcome in ("completed", "failed", "abandoned", "open"):
        assert getattr(totals, f"{outcome}_count") == sum(row["outcome"] == outcome for row in sessions)
    assert totals.success_ratio == (sum(ended) / len(ended) if ended else None)
    assert totals.active_session_count == len({row["session_id"] for row in items})
    assert totals.user_count == len({row["user_id"] for row in items})
    assert totals.error_count == sum(row["is_error"] for row in items)
    of_type = {kind: [row for row in items if row["item_type"] == kind] for kind in ("message", "tool_call")}
    assert totals.message_count == len(of_type["message"])
    assert totals.turn_count == sum(row["name"] == "user" for row in of_type["message"])
    calls = of_type["tool_call"]
    assert (totals.tool_call_count, totals.failed_tool_call_count) == (len(calls), sum(it["is_error"] for it in calls))
    assert {it.tool: (it.call_count, it.failed_count, it.failure_ratio, it.retry_count) for it in totals.tools} == {
        tool: told_of([row for row in calls if row["name"] == tool]) for tool in {row["name"] for row in calls}
    }
    models = [row for row in items if row["item_type"] == "model_call"]
    assert (totals.model_call_count, totals.failed_model_call_count) == (
        len(models),
        sum(row["is_error"] for row in models),
    )
    for name in ("input_token_count", "output_token_count", "cost_usd"):
        assert getattr(totals, name) == known(models, name)
        for it in totals.models:
            of_model = [row for row in models if (row["provider"], row["name"]) == (it.provider, it.model)]
            assert (it.call_count, getattr(it, name)) == (len(of_model), known(of_model, name))
            assert it.unpriced_count == sum(row["cost_usd"] is None for row in of_model)
    assert len(totals.models) == len({(row["provider"], row["name"]) for row in models})


def told_of(calls: Rows) -> tuple[int, int, float | None, int]:
    failed, finished = sum(it["is_error"] for it in calls), sum(it["status"] in ("completed", "failed") for it in calls)
    return len(calls), failed, failed / finished if finished else None, sum(it["retry_count"] for it in calls)


@pytest.fixture(scope="module")
def on_duckdb(tmp_path_factory: pytest.TempPathFactory) -> OnDuckDB:
    return OnDuckDB(tmp_path_factory.mktemp("duckdb"))


@pytest.fixture(scope="module")
def on_emulator(emulator: Any) -> Iterator[OnEmulator]:
    target = OnEmulator(emulator, "summary")
    yield target
    target.close()
    emulator.client.delete_dataset("summary", delete_contents=True)


@pytest.mark.duckdb
@settings(quick, max_examples=4)
@given(found=h.histories(items=True))
def test_a_summary_agrees_with_a_plain_count_on_duckdb(on_duckdb: OnDuckDB, found: list[h.History]) -> None:
    check(on_duckdb, found)


@pytest.mark.emulator
@settings(quick, max_examples=2)
@given(found=h.histories(sessions=8, items=True))
def test_a_summary_agrees_with_a_plain_count_on_bigquery(on_emulator: OnEmulator, found: list[h.History]) -> None:
    check(on_emulator, found)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: SetClock) -> Iterator[SessionLedger]:
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db", relay="off", clock=clock, ids=CountedIds()) as opened:
        yield opened


@pytest.mark.duckdb
def test_nothing_is_known_of_an_empty_ledger(ledger):
    summary = Analytics(ledger).summary()
    for totals in (summary.current, summary.before):
        for name in Totals.__dataclass_fields__:
            value = getattr(totals, name)
            if name.endswith("_count") and not name.endswith("token_count"):
                assert value == 0, name
            elif not name.endswith("_day"):
                assert value in (None, ()), name
    assert [day["day"] for day in summary.days] == [START.date() - timedelta(days=back) for back in range(6, -1, -1)]
    assert {day["cost_usd"] for day in summary.days} == {None}
    assert {day["session_count"] for day in summary.days} == {0}


@pytest.mark.duckdb
def test_percentiles_are_of_the_period_and_not_of_its_days(ledger, clock):
    for day, latencies in enumerate([[1], [10] * 9]):
        clock.now = START + timedelta(days=day)
        for number, seconds in enumerate(latencies):
            sid = ledger.create_session("ada", fields={"tool_calls": [{"name": "sql", "id": "a"}]})
            ledger.update_tool_call_status(sid, "a", "running")
            clock.move(seconds)
            ledger.update_tool_call_status(sid, "a", "completed")
            ledger.record_model_call(sid, "m", duration_ms=seconds * 100, **({"cost_usd": 0.5} if number else {}))
    totals = Analytics(ledger).summary(days=2).current
    (tool,) = totals.tools
    assert (tool.latency_p50_ms, totals.tool_latency_p50_ms, totals.model_duration_p50_ms) == (10_000, 10_000, 1000)
    (model,) = totals.models
    assert (model.cost_usd, model.unpriced_count, totals.unpriced_count) == (4.0, 2, 2)
    assert model.input_token_count is None
    assert (totals.first_day, totals.last_day) == (START.date(), START.date() + timedelta(days=1))


@pytest.mark.duckdb
def test_the_days_are_counted_back_from_the_last_one(ledger):
    summary = Analytics(ledger).summary(last_day="2026-02-01", days=3)
    assert (summary.current.first_day, summary.current.last_day) == (date(2026, 1, 30), date(2026, 2, 1))
    assert (summary.before.first_day, summary.before.last_day) == (date(2026, 1, 27), date(2026, 1, 29))


@pytest.mark.duckdb
def test_days_that_do_not_exist_are_refused(ledger):
    analytics = Analytics(ledger)
    with pytest.raises(InvalidInput, match="before the year 1"):
        analytics.summary("0001-01-03", "0001-01-05")
    with pytest.raises(InvalidInput, match="days"):
        analytics.summary(days=0)
    with pytest.raises(InvalidInput, match="after last_day"):
        analytics.summary("2026-03-05", "2026-03-04")
    with pytest.raises(PermissionDenied):
        Analytics(ledger.for_user("ada")).summary()

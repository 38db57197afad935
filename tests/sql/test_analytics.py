"""The views and functions for dashboards: on an empty ledger, with forks and rewinds, and over recorded runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import SessionLedger
from ledger.formats.openai_chat import import_runs
from ledger.testing import START, CountedIds, SetClock
from support.histories import DAY, event
from support.recorded_runs import REAL, check_counts

pytestmark = pytest.mark.duckdb
VIEWS = (
    *("session_metrics", "session_items", "tool_call_history", "model_call_history", "agent_events"),
    *("queries", "scores", "errors"),
)
OF_CREATION = ("outcomes", "attribute_distribution", "top_assets", "cohorts")
OF_ACTIVITY = ("daily_activity", "user_activity", "tool_usage", "model_usage", "storage_growth")
MARCH = {"first": datetime(2026, 3, 1, tzinfo=UTC), "next": datetime(2026, 4, 1, tzinfo=UTC)}


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: SetClock) -> Iterator[SessionLedger]:
    url, warehouse = f"sqlite:///{tmp_path / 'l.db'}", f"duckdb:///{tmp_path / 'w.duckdb'}"
    with SessionLedger.open(url, warehouse=warehouse, relay="off", clock=clock, ids=CountedIds()) as opened:
        yield opened


def rows(ledger: SessionLedger, name: str, columns: str = "*", **given: Any) -> list[dict[str, Any]]:
    """The rows of a view, or of a function over March."""
    ledger.warehouse.sync()
    if name in OF_CREATION:
        name, given = f"{name}(@first, @next)", MARCH | given
    elif name in OF_ACTIVITY:
        name, given = f"{name}(@first, @next, @back)", {**MARCH, "back": 8, **given}
    return [dict(row) for row in ledger.sql(f"SELECT {columns} FROM {name}", given)]


@pytest.mark.parametrize("name", [*VIEWS, *OF_CREATION, *OF_ACTIVITY])
def test_an_empty_ledger_has_no_rows_and_is_no_error(ledger, name):
    assert rows(ledger, name) == []


@pytest.mark.parametrize("name", [*OF_CREATION, *OF_ACTIVITY])
def test_a_range_without_sessions_or_without_an_end_has_no_rows(ledger, name):
    sid = ledger.create_session("ada", "q", fields={"attribute": {"topic": "x"}})
    ledger.update_session(sid, {"tool_calls": [{"name": "sql", "tables": ["orders"]}]})
    ledger.record_model_call(sid, "m")
    assert rows(ledger, name) != []
    assert rows(ledger, name, first=MARCH["next"], next=MARCH["next"] + timedelta(days=3)) == []
    assert rows(ledger, name, next=None) == []
    arguments = ["@first", "@next", *(["@back"] if name in OF_ACTIVITY else [])]
    given = {"first": MARCH["first"], "next": MARCH["next"], "back": 8}
    for argument in arguments:
        none = [each if each != argument else "NULL" for each in arguments]
        others = {each[1:]: given[each[1:]] for each in arguments if each != argument}
        assert ledger.sql(f"SELECT * FROM {name}({', '.join(none)})", others).rows == []
        nothing = {**others, argument[1:]: None}
        assert ledger.sql(f"SELECT * FROM {name}({', '.join(arguments)})", nothing).rows == []


def test_what_a_fork_copies_is_counted_once_and_what_a_rewind_takes_back_was_spent_all_the_same(ledger, clock):
    sid = ledger.create_session("ada", "q", fields={"tool_calls": ["sql"]})
    ledger.update_tool_call_status(sid, "sql", "running")
    ledger.record_model_call(sid, "m", input_tokens=10, cost_usd=0.25)
    version = ledger.add_message(sid, "user", "hi").version
    ledger.update_tool_call_status(sid, "sql", "failed", {"type": "Timeout", "message": "late"})
    ledger.record_model_call(sid, "m", input_tokens=7, cost_usd=0.5)
    fork = ledger.fork_session(sid)
    ledger.record_model_call(fork, "m", input_tokens=1, cost_usd=1.0)
    ledger.rewind(sid, version)
    (day,) = rows(ledger, "daily_activity")
    assert (day["session_count"], day["message_count"], day["model_call_count"]) == (2, 1, 3)
    assert (day["tool_call_count"], day["failed_tool_call_count"], day["cost_usd"]) == (1, 0, 1.75)
    metrics = {row["session_id"]: row for row in rows(ledger, "session_metrics")}
    assert (metrics[sid]["cost_usd"], metrics[fork]["cost_usd"]) == (0.75, 1.0)
    assert (metrics[sid]["tool_call_count"], metrics[fork]["tool_call_count"]) == (1, 1)
    assert (metrics[sid]["failed_tool_call_count"], metrics[fork]["failed_tool_call_count"]) == (0, 1)
    (error,) = rows(ledger, "errors")
    assert (error["session_id"], error["error_type"], error["error_message"]) == (fork, "Timeout", "late")
    assert error["is_copy"]


def test_an_outcome_stays_when_the_session_is_archived_and_a_reward_decides_on_success(ledger, clock):
    ids = [ledger.create_session("ada", fields={"attribute": {"task": "t"}}) for _ in range(4)]
    ledger.set_attributes(ids[0], {"reward": 0.5})
    for sid in ids[:2]:
        ledger.complete_session(sid)
    ledger.fail_session(ids[2], {"type": "Timeout", "message": "late"})
    ledger.archive_session(ids[1])
    found = {row["session_id"]: row for row in rows(ledger, "session_metrics")}
    told = [(found[sid]["outcome"], found[sid]["is_success"]) for sid in ids]
    assert told == [("completed", False), ("completed", True), ("failed", False), ("abandoned", False)]
    assert found[ids[1]]["status"] == "archived"
    (task,) = [row for row in rows(ledger, "outcomes") if row["name"] == "task"]
    assert (task["session_count"], task["completed_count"], task["failed_count"], task["abandoned_count"]) == (
        4,
        2,
        1,
        1,
    )
    assert (task["success_count"], task["success_ratio"], task["reward_average"]) == (1, 0.25, 0.5)


@pytest.mark.parametrize(
    ("reward", "number", "is_success"),
    [
        *((True, 1.0, True), (False, 0.0, False), (2, 2.0, True), (0.2, 0.2, False)),
        *(("good", None, None), ("false", None, None), ("2", None, None), ([1], None, None)),
    ],
)
def test_a_reward_is_a_number_or_a_boolean_and_anything_else_leaves_success_unknown(ledger, reward, number, is_success):
    sid = ledger.create_session("ada", fields={"attribute": {"task": "t", "reward": reward}})
    ledger.add_score(sid, "reward", reward if reward != [1] else "text")
    ledger.complete_session(sid)
    (found,) = rows(ledger, "session_metrics")
    assert (found["reward"], found["is_success"]) == (number, is_success)
    (task,) = [row for row in rows(ledger, "outcomes") if row["name"] == "task"]
    ratio = None if is_success is None else float(is_success)
    assert (task["success_ratio"], task["reward_average"], task["unknown_count"]) == (ratio, number, ratio is None)
    assert rows(ledger, "scores", "score") == [{"score": number}]
    assert rows(ledger, "session_items", "score") == [{"score": number}]


def test_a_session_that_somebody_works_in_is_open(tmp_path):
    with SessionLedger.open(f"sqlite:///{tmp_path / 'l.db'}", relay="off") as ledger:
        ledger.create_session("ada", "q")
        assert ledger.sql("SELECT outcome, is_success FROM session_metrics").rows == [("open", None)]


def test_percentiles_of_latency_are_latencies_and_unknown_ones_are_left_out(ledger, clock):
    sid = ledger.create_session("ada", fields={"tool_calls": [f"c{n:02}" for n in range(21)]})
    calls = [{"id": f"c{n:02}", "name": "sql"} for n in range(21)]
    ledger.update_session(sid, {"tool_call": {call["id"]: {"name": "sql"} for call in calls}})
    for number in range(20):
        ledger.update_tool_call_status(sid, f"c{number:02}", "running", occurred_at=START)
        at = START + timedelta(milliseconds=number + 1)
        ledger.update_tool_call_status(sid, f"c{number:02}", "completed", occurred_at=at)
    (usage,) = rows(ledger, "tool_usage")
    assert (usage["call_count"], usage["completed_count"], usage["failure_ratio"]) == (21, 20, 0.0)
    assert (usage["latency_p50_ms"], usage["latency_p95_ms"], usage["latency_max_ms"]) == (10.0, 19.0, 20.0)


def test_assets_attributes_and_cohorts_are_counted_by_session_and_user(ledger, clock):
    tables = (["orders", {"name": "users"}, 7], ["orders", "orders"], "orders")
    for number, (user, named) in enumerate(zip(("ada", "bob", "ada"), tables, strict=True)):
        clock.now = START + timedelta(days=8 * number)
        attributes = {"topic": "x" if number else ["y"], "n": number}
        sid = ledger.create_session(user, fields={"attribute": attributes})
        ledger.update_session(sid, {"tool_calls": [{"name": "sql", "tables": named}]})
    assets = {row["asset"]: row for row in rows(ledger, "top_assets")}
    assert {name: (row["call_count"], row["user_count"]) for name, row in assets.items()} == {
        "orders": (2, 2),
        "users": (1, 1),
        "7": (1, 1),
    }
    topics = {row["value"]: row for row in rows(ledger, "attribute_distribution") if row["name"] == "topic"}
    assert {value: (row["session_count"], row["user_count"]) for value, row in topics.items()} == {
        '["y"]': (1, 1),
        "x": (2, 2),
    }
    assert topics["x"]["session_ratio"] == pytest.approx(2 / 3)
    cohorts = sorted(tuple(row.values()) for row in rows(ledger, "cohorts"))
    assert cohorts == [
        *((date(2026, 3, 2), week, 1, week in (0, 2), week in (0, 2), float(week in (0, 2))) for week in range(5)),
        *((date(2026, 3, 9), week, 1, week == 0, week == 0, float(week == 0)) for week in range(4)),
    ]


def test_the_number_1_and_the_text_1_are_one_value_of_an_attribute(ledger):
    for value in (1, "1", True, "true"):
        ledger.create_session("ada", fields={"attribute": {"n": value}})
    found = sorted(tuple(row.values()) for row in rows(ledger, "attribute_distribution"))
    assert found == [("n", "1", 2, 1, 0.5), ("n", "true", 2, 1, 0.5)]
    assert sorted((row["value"], row["session_count"]) for row in rows(ledger, "outcomes")) == [("1", 2), ("true", 2)]


def test_a_week_that_has_not_begun_is_no_week_in_which_nobody_came_back(tmp_path):
    with SessionLedger.open(f"sqlite:///{tmp_path / 'l.db'}", relay="off") as ledger:
        ledger.create_session("ada", "q")
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        weeks = ledger.sql(
            "SELECT week_number, retention_ratio FROM cohorts(@first, @next)",
            {"first": today - timedelta(days=1), "next": today + timedelta(days=60)},
        )
        assert weeks.rows[0] == (0, 1.0)
        assert len(weeks) <= 2  # two if midnight was in between


def test_storage_grows_by_the_rows_of_each_day(ledger, clock):
    sid = ledger.create_session("ada", "q")
    clock.now = START + timedelta(days=1)
    ledger.update_session(sid, {"summary": "five5", "title": "t"})
    first, second = rows(ledger, "storage_growth", "* ")
    assert (first["day"], second["day"]) == (START.date(), START.date() + timedelta(days=1))
    assert (second["row_count"], second["event_count"], second["character_count"]) == (2, 1, len('"five5""t"'))
    assert second["total_row_count"] == first["row_count"] + 2


def test_events_of_two_sessions_with_one_idempotency_key_are_two_events(ledger):
    for sid in ("s1", "s2"):
        ledger.create_session("ada", session_id=sid, event_id="turn-0")
        ledger.update_session(sid, {"summary": "s", "title": "t"}, event_id="turn-1")
    assert rows(ledger, "storage_growth", "event_count, session_count") == [{"event_count": 4, "session_count": 2}]


def test_what_happens_in_a_session_that_began_before_the_days_to_look_back_is_left_out(ask):
    events = [event(1, ("status", "", "active")), event(2, ("message", "m", {"role": "user", "content": "c"}))]
    function = "SELECT message_count FROM daily_activity(@first, @next, @back)"
    assert ask(events, function, first=DAY, next=DAY + timedelta(days=1), back=0) == [(1,)]
    late = [*events, event(3, ("message", "n", {"role": "user", "content": "c"}))]
    late[2] = replace(late[2], recorded_at=DAY + timedelta(days=9), occurred_at=DAY)
    ninth = {"first": DAY + timedelta(days=9), "next": DAY + timedelta(days=10)}
    assert ask(late, function, **ninth, back=8) == []
    assert ask(late, function, **ninth, back=9) == [(1,)]


def test_queries_and_scores_are_rows_with_typed_columns(ledger):
    sid = ledger.create_session("ada")
    ledger.add_query(sid, "sql", parameters={"q": 1}, result_summary={"rows": 3}, cache_hit=True, execution_time_ms=12)
    ledger.add_query(sid, "search")
    ledger.add_score(sid, "helpful", True, source="ann")
    ledger.add_score(sid, "accuracy", 0.9, comment="good")
    columns = "position, query_type, parameters, result_summary, is_cache_hit, execution_time_ms"
    found = [tuple(row.values()) for row in rows(ledger, "queries", columns)]
    assert min(found, key=lambda row: row[0]) == (1, "sql", {"q": 1}, {"rows": 3}, True, 12.0)
    found = [tuple(row.values()) for row in rows(ledger, "scores", "position, name, score, value, source, comment")]
    assert sorted(found, key=lambda row: row[0]) == [
        (1, "helpful", 1.0, True, "ann", None),
        (2, "accuracy", 0.9, 0.9, None, "good"),
    ]


@pytest.mark.skipif(not REAL.is_file(), reason="the recorded runs are not beside this checkout")
def test_recorded_runs_are_counted_as_a_plain_program_counts_them(ledger, clock):
    lines = REAL.read_bytes().splitlines()
    import_runs(ledger.store, lines, clock=clock)
    check_counts(ledger, lines)

"""The files of sql/scheduled/: their form, that Google's analyzer resolves each, and runs missed or repeated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from ledger.model.events import RecordedEvent
from ledger.warehouse import catalog
from ledger.warehouse.scheduled import SCHEDULED, query_text, refresh
from support.googlesql import GoogleSql
from support.histories import DAY, event, rows_of
from support.sql_targets import OnDuckDB

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    path.stem: path.read_text(encoding="utf-8") for path in sorted((catalog.sql_folder() / "scheduled").glob("*.sql"))
}
NAMED = {item.name: item for item in SCHEDULED}
named = pytest.mark.parametrize("name", SOURCES)


@pytest.fixture(scope="module")
def analyzer() -> GoogleSql:
    google = GoogleSql()
    for item in catalog.objects():
        google.create(item)
    return google


def test_every_file_is_scheduled_and_every_schedule_has_a_file():
    assert SOURCES.keys() == NAMED.keys()


@named
def test_the_header_names_the_purpose_the_facts_and_the_parameters(name):
    comment = re.match(r"(?:--[^\n]*\n)+", SOURCES[name])
    assert comment is not None
    assert re.match(rf"-- {name}: [^\n]+\.\n--\n", comment[0])
    facts = dict(re.findall(r"^-- ([A-Z]\w+): +(.+(?:\n--  +.+)*)", comment[0], re.MULTILINE))
    assert [fact for fact in facts if fact != "Answer"] == ["Grain", "Inputs", "Cost", "Twin", "Test"]
    paths = re.findall(r"[\w/]+\.py", facts["Twin"] + facts["Test"])
    assert [path for path in paths if not (ROOT / path).is_file()] == []
    told = re.findall(r"^--   (\w+) (?:TIMESTAMP|INT64): ", comment[0], re.MULTILINE)
    used = set(re.findall(r"@(\w+)", catalog.scheduled(name)))
    assert set(told) == used == {*NAMED[name].days, *(["run_time"] if NAMED[name].days else [])}


@named
def test_googles_analyzer_resolves_every_step(name, analyzer):
    parameters = {"run_time": "TIMESTAMP"} | dict.fromkeys(NAMED[name].days, "INT64")
    steps = analyzer.analyze_script(catalog.bind(catalog.scheduled(name)), parameters)
    kinds = {type(step).__name__ for step in steps}
    assert kinds & {"ResolvedMergeStmt", "ResolvedInsertStmt", "ResolvedDeleteStmt"}


@named
def test_googles_analyzer_resolves_the_text_of_the_scheduled_query(name, analyzer):
    text = query_text(NAMED[name], "my-project", "my_dataset", dict.fromkeys(NAMED[name].days, 5))
    assert "${" not in text
    unqualified = text.replace("`my-project.my_dataset.", "`")
    assert analyzer.analyze_script(unqualified, {"run_time": "TIMESTAMP", "run_date": "DATE"})


def test_the_analyzer_sees_into_declarations(analyzer):
    with pytest.raises(Exception, match="no_such_column"):
        analyzer.analyze_script("DECLARE n INT64 DEFAULT (SELECT MAX(no_such_column) FROM daily_rollup);", {})


@named
def test_no_filter_on_the_day_of_creation_is_missing(name):
    """A table that requires the filter refuses a statement without it."""
    code = re.sub(r"--[^\n]*", "", catalog.scheduled(name))
    partitioned = ("session_events", "session_heads", "sessions_latest", "sessions", "session_fields", "session_items")
    for table in re.findall(r"(?:FROM|MERGE) `\$\{project\}\.\$\{dataset\}\.(\w+)`[^;]*?(?=FROM|MERGE|;)", code):
        assert table in (*partitioned, "session_index", "relay_leases", "daily_rollup"), table
    scans = len(re.findall(rf"\.({'|'.join(partitioned)})`", code)) - code.count("INSERT INTO")
    assert code.count("created_at >=") + code.count("created_at <") >= scans


# Runs that are missed, repeated, or late. What each run makes of random histories is in tests/property.


def message(session: str, version: int, created: int, recorded: int) -> RecordedEvent:
    """An event of a session, recorded some days after the first."""
    made = event(version, ("message", f"m{version}", {"role": "user", "content": "c"}), session=session, day=created)
    return replace(made, recorded_at=DAY + timedelta(days=recorded, seconds=version))


def days_of_work(count: int) -> list[RecordedEvent]:
    """A session a day, with messages on this day and two days later."""
    return [
        message(f"s{day}", version, day, day + (2 if version > 1 else 0))
        for day in range(count)
        for version in range(1, day % 3 + 3)
    ]


def run(warehouse: OnDuckDB, day: int, name: str = "daily_rollup", **numbers: int) -> None:
    days = {"days": 3, "lookback_days": 8} if name == "daily_rollup" else {"lookback_days": 8}
    warehouse.run_scheduled(name, {"run_time": DAY + timedelta(days=day, hours=2.6), **days, **numbers})


def rollup(warehouse: OnDuckDB) -> dict[date, int]:
    return dict(warehouse.query("SELECT day, message_count FROM daily_rollup ORDER BY day").rows)


def recorded_until(day: int) -> list[RecordedEvent]:
    return [it for it in days_of_work(8) if it.recorded_at < DAY + timedelta(days=day, hours=2.6)]


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[OnDuckDB]:
    """An empty DuckDB warehouse, which stays open."""
    opened = OnDuckDB(tmp_path)
    with opened.kept_open():
        yield opened


def test_a_run_after_missed_days_ends_where_a_run_on_each_day_and_a_full_refresh_end(warehouse):
    found = []
    for days in ([*range(1, 9)], [1, 2, 6, 8], [8]):
        warehouse.load([(seq, *row) for seq, row in enumerate(rows_of(recorded_until(days[0])), 1)])
        there = len(rows_of(recorded_until(days[0])))
        for earlier, day in zip([days[0], *days], days, strict=False):
            new = [it for it in recorded_until(day) if it not in recorded_until(earlier)]
            if new:
                warehouse.add([(there + seq, *row) for seq, row in enumerate(rows_of(new), 1)])
                there += len(rows_of(new))
            for _ in range(2):  # a schedule may fire twice
                run(warehouse, day, days=1)
                run(warehouse, day, "sessions_latest", lookback_days=3)
        latest = warehouse.query("SELECT session_id, version, event_count FROM sessions_latest ORDER BY session_id")
        found.append((rollup(warehouse), latest.rows))
    assert found[0] == found[1] == found[2]
    assert len(found[0][0]) == 8
    assert len(found[0][1]) == 8
    refresh(warehouse, DAY + timedelta(days=8, hours=5), full=True)
    latest = warehouse.query("SELECT session_id, version, event_count FROM sessions_latest ORDER BY session_id")
    assert (rollup(warehouse), latest.rows) == found[0]


def test_the_run_of_a_missed_day_leaves_the_days_after_it_as_they_are(warehouse):
    warehouse.load([(seq, *row) for seq, row in enumerate(rows_of(days_of_work(6)), 1)])
    run(warehouse, 5)
    whole = rollup(warehouse)
    warehouse.change_rows(f"DELETE FROM `${{project}}.${{dataset}}.daily_rollup` WHERE day = '{DAY.date()}'")
    run(warehouse, 1)
    assert rollup(warehouse) == whole


def test_the_day_of_the_run_is_left_out_until_it_is_over(warehouse):
    warehouse.load([(seq, *row) for seq, row in enumerate(rows_of(days_of_work(3)), 1)])
    run(warehouse, 2)
    assert max(rollup(warehouse)) == (DAY + timedelta(days=1)).date()


def test_a_day_counts_the_same_sessions_whichever_run_computes_it(warehouse):
    old = message("old", 1, 0, 9)
    warehouse.load([(seq, *row) for seq, row in enumerate(rows_of([*days_of_work(12), old]), 1)])
    expected = {}
    for number in range(14):
        first, after = DAY + timedelta(days=number), DAY + timedelta(days=number + 1)
        activity = "SELECT day, message_count FROM daily_activity(@first, @next, 8)"
        expected |= dict(warehouse.query(activity, {"first": first, "next": after}).rows)
    for days in ([14], [3, 5, 14], range(1, 15)):
        warehouse.change_rows("DELETE FROM `${project}.${dataset}.daily_rollup` WHERE TRUE")
        for day in days:
            run(warehouse, day)
        assert rollup(warehouse) == expected


def test_a_change_of_a_session_older_than_the_days_looked_back_comes_with_the_full_refresh(warehouse):
    warehouse.load([(seq, *row) for seq, row in enumerate(rows_of(days_of_work(12)), 1)])
    run(warehouse, 14, "sessions_latest")
    late = replace(event(9, ("title", "", "late"), session="s0"), recorded_at=DAY + timedelta(days=13))
    warehouse.add([(999, *row) for row in rows_of([late])])
    title = "SELECT title FROM sessions_latest WHERE session_id = 's0'"
    run(warehouse, 14, "sessions_latest")
    assert warehouse.query(title).rows == [(None,)]
    warehouse.run_scheduled("sessions_latest_full", {})
    assert warehouse.query(title).rows == [("late",)]


def test_over_an_empty_ledger_every_statement_runs_and_leaves_every_table_empty(warehouse):
    for item in SCHEDULED:
        numbers = {name: default or 1 for name, default in item.days.items()}
        time = {"run_time": datetime.fromisoformat("2026-11-30T02:37:00+00:00")} if item.days else {}
        warehouse.run_scheduled(item.name, {**time, **numbers})
    for table in ("session_events", "sessions_latest", "daily_rollup"):
        assert warehouse.query(f"SELECT COUNT(*) FROM {table}").rows == [(0,)]

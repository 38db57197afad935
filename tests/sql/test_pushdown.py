"""Filters on created_at and session_id reach the scan, below windows, groups and joins: a look-up reads one day."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pytest

from ledger.model.events import LAST_VERSION
from ledger.warehouse import catalog
from ledger.warehouse.duckdb.dialect import query_to_duckdb, script_to_duckdb
from ledger.warehouse.scheduled import SCHEDULED
from support.histories import DAY, event, rows_of
from support.sql_targets import OnDuckDB

pytestmark = pytest.mark.duckdb

#: All views but those that have no created_at to filter by: one whose schema is not ours, and one of prices.
VIEWS = [
    it.name for it in catalog.objects() if it.kind == "view" and it.name not in ("agent_events", "model_price_periods")
]
FIRST, NEXT = f"TIMESTAMP '{DAY:%Y-%m-%d}'", f"TIMESTAMP '{DAY + timedelta(days=1):%Y-%m-%d}'"
OF_DAYS = ("outcomes", "attribute_distribution", "top_assets", "cohorts")
OF_ACTIVITY = ("daily_activity", "user_activity", "tool_usage", "model_usage", "storage_growth")
CALLS = {
    "session_state": f"session_state('s1', {FIRST}, {NEXT}, 2)",
    "session_changes": f"session_changes('s1', {FIRST}, {NEXT}, 0, 2)",
    "session_state_at": f"session_state_at('s1', {FIRST}, {NEXT}, {NEXT})",
    "session_version_at": f"session_version_at('s1', {FIRST}, {NEXT}, {NEXT})",
    "sessions_between": f"sessions_between({FIRST}, {NEXT})",
    **{name: f"{name}({FIRST}, {NEXT})" for name in OF_DAYS},
    **{name: f"{name}({FIRST}, {NEXT}, 8)" for name in OF_ACTIVITY},
}
SECOND, THIRD = DAY + timedelta(days=1), DAY + timedelta(days=2)
SPAN = {"created_from": SECOND, "created_until": THIRD}
OF_IDS = {**SPAN, "created": [SECOND]}
OF_DAY = {"session_id": "s1", "first_day": SECOND, "next_day": THIRD}
STATES = {**OF_IDS, "at_version": LAST_VERSION, "at_time": THIRD, "with_messages": False}
LISTED = {
    "unwanted_count": 0,
    **SPAN,
    "before": THIRD,
    "before_id": "",
    "by_update": False,
    "user_id": "ann",
    "at_most": 10,
    "updated_before": THIRD,
    "status": "active",
    "unwanted": ["deleted"],
    "at_time": "2026-03-05T00:00:00.000000Z",
    "unswept": False,
}
SEARCHED = {
    **SPAN,
    "before": THIRD,
    "before_id": "",
    "after_version": 0,
    "after_field": "",
    "after_key": "",
    "visible_to": "ann",
    "role": "user",
    "terms": "`daily orders` bavaria",
    "at_most": 10,
}
BOTH = ("created_at", "session_id")
#: Statements over session_events with their parameters, and the columns that are filtered at each of their scans.
STATEMENTS: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("read_states", {**STATES, "session_ids": ["s1"], "at_version": 3, "with_messages": True}, BOTH),
    ("read_states", {**STATES, "session_ids": ["s1", "s4"]}, BOTH),
    ("list_sessions", {**LISTED, "wanted": [], "wanted_count": 0}, ("created_at",)),
    (
        "list_sessions",
        {**LISTED, "wanted": ['session_type\n\n"x', "tag\nx\ntrue"], "wanted_count": 2},
        ("created_at",),
    ),
    ("list_sessions", {**LISTED, "by_update": True, "wanted": [], "wanted_count": 0}, ("created_at",)),
    ("attribute_texts", {**SPAN, "user_id": "ann", "names": ["n"]}, ("created_at",)),
    ("read_heads", {**OF_IDS, "session_ids": ["s1", "s4"], "event_id": "e1a"}, BOTH),
    ("existing_rows", {**OF_IDS, "session_ids": ["s1", "s4"], "event_ids": ["e1a", "e2b"]}, BOTH),
    ("reconcile_sessions", {**SPAN, "store_id": "store"}, ("created_at",)),
    ("reconcile_rows", {**OF_IDS, "session_ids": ["s1", "s4"]}, BOTH),
    ("read_events", {**OF_DAY, "after_version": 1, "until_version": 3, "versions": 2}, BOTH),
    ("search_text", {**SEARCHED, "user_id": "", "session_id": ""}, ("created_at",)),
    ("search_text", {**SEARCHED, "user_id": "ann", "session_id": "s1"}, ("created_at",)),
    (
        "sum_items",
        {"created_from": DAY, "first_day": SECOND, "middle_day": SECOND, "next_day": THIRD},
        ("created_at",),
    ),
    ("sum_sessions", {"first_day": DAY, "middle_day": SECOND, "next_day": THIRD}, ("created_at",)),
    ("read_messages", {**OF_DAY, "after_version": 0, "after_key": "", "at_most": 10, "newest": False}, BOTH),
]


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A warehouse with a few sessions over a few days, opened as it is."""
    target = OnDuckDB(tmp_path_factory.mktemp("pushdown"))
    changes = (
        ("title", "", "t"),
        ("attribute", "n", [1]),
        ("message", "m", {"role": "user", "content": "c"}),
        ("tool_call", "a", {"name": "n"}),
    )
    events = [
        event(version, *changes, session=f"s{number}", event_id=f"e{version}{twin}", day=number % 3)
        for number in range(30)
        for version in range(1, 5)
        for twin in "ab"
    ]
    target.load([(seq, *row) for seq, row in enumerate(rows_of(events), 1)])
    with duckdb.connect(str(target.path)) as opened:
        yield opened


def scans(connection: Any, sql: str, parameters: dict[str, Any] | None = None) -> list[str]:
    """The filters at each scan of session_events in the plan of a statement, as text.

    Left out are scans that only fetch the columns of rows found by another, which DuckDB joins by rowid.
    """
    values = {
        name: value.replace(tzinfo=None) if isinstance(value, datetime) else value  # as the warehouse binds it
        for name, value in (parameters or {}).items()
    }
    return scans_of(connection, query_to_duckdb(sql), values)


def scans_of(connection: Any, translated: str, values: dict[str, Any]) -> list[str]:
    """The filters at each scan of session_events in the plan of a statement of DuckDB's."""
    plan = json.loads(connection.execute(f"EXPLAIN (FORMAT JSON) {translated}", values).fetchall()[0][1])
    found = []

    def walk(node: dict[str, Any], fetches: bool = False) -> None:
        about = node.get("extra_info", {})
        if not fetches and "SCAN" in node["name"] and "session_events" in str(about.get("Table", "")):
            found.append(str(about.get("Filters", "")))
        by_rowid = about.get("Conditions") == "rowid = rowid"
        for place, child in enumerate(node.get("children", [])):
            walk(child, fetches or (by_rowid and place == 0))

    walk(plan[0])
    return found


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_filtered_where_it_is_scanned(connection, view):
    where = f"created_at >= {FIRST} AND created_at < {NEXT} AND session_id = 's1'"
    filters = scans(connection, f"SELECT * FROM {view} WHERE {where}")
    assert filters
    assert [one for one in filters if "created_at" not in one or "session_id" not in one] == []


@pytest.mark.parametrize("function", CALLS)
def test_a_function_is_filtered_where_it_scans(connection, function):
    filters = scans(connection, f"SELECT * FROM {CALLS[function]}")
    names = ["created_at"] if function in ("sessions_between", *OF_DAYS, *OF_ACTIVITY) else ["created_at", "session_id"]
    assert filters
    assert [one for one in filters if not all(name in one for name in names)] == []


@pytest.mark.parametrize(("name", "parameters", "columns"), STATEMENTS)
def test_a_statement_is_filtered_where_it_scans(connection, name, parameters, columns):
    filters = scans(connection, catalog.query(name), parameters)
    assert filters
    assert [one for one in filters if not all(column in one for column in columns)] == []


@pytest.mark.parametrize("name", [item.name for item in SCHEDULED if item.days])
def test_a_scheduled_statement_is_filtered_where_it_scans(connection, name):
    days = dict.fromkeys(("days", "lookback_days", "retention_days"), 1)
    spans = {"first_day": SECOND, **dict.fromkeys(("next_day", "kept_from", "run_time"), THIRD)}
    filters = []
    for variable, step in script_to_duckdb(catalog.scheduled(name)):
        if variable is None:
            times = {key: value.replace(tzinfo=None) for key, value in spans.items()}
            values = {key: value for key, value in (days | times).items() if f"${key}" in step}
            filters += scans_of(connection, step, values)
    assert filters
    assert [one for one in filters if "created_at" not in one] == []


def test_every_function_and_every_statement_is_tried():
    assert CALLS.keys() == {item.name for item in catalog.objects() if item.kind == "function"}
    statements = {path.stem for path in (catalog.sql_folder() / "statements").glob("*.sql")}
    # Of the rest, all but the last seven are BigQuery's scripts; those write, or read no events.
    scripts = {"append_checked", "claim_creation", "ingest_staged", "name_stream", "take_fence"}
    deletions = {"delete_claims", "delete_creations", "delete_heads", "delete_latest", "delete_sessions"}
    prices_and_bills = {"import_model_prices", "read_model_prices", "billed_jobs"}
    rest = {
        *scripts,
        *deletions,
        *prices_and_bills,
        "count_refreshed",
        "create_lock",
        "record_seal",
        "find_creation",
        "read_seals",
    }
    assert {name for name, *_ in STATEMENTS} == statements - rest


@pytest.mark.skipif(duckdb.__version__ >= "2", reason="DuckDB 2 plans the window well as it stands")
def test_the_last_write_of_each_slot_is_found_by_aggregation_not_by_sorting(connection):
    plan = connection.execute(f"EXPLAIN {query_to_duckdb('SELECT * FROM session_fields')}").fetchall()[0][1]
    assert "WINDOW" not in plan

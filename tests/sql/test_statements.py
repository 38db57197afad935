"""The files of sql/statements/: their form, that each is used, and that Google's analyzer resolves each of them."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ledger.model.events import RecordedEvent
from ledger.model.queries import SessionQuery
from ledger.warehouse import catalog
from ledger.warehouse.projection import Projection
from support.googlesql import ALLOWED_CALLS, GoogleSql
from support.histories import DAY, REMOVED, event, rows_of, shuffled
from support.sql_targets import OnDuckDB

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    path.stem: path.read_text(encoding="utf-8") for path in sorted((catalog.sql_folder() / "statements").glob("*.sql"))
}
OBJECTS = {item.name for item in catalog.objects()}
#: Statements of several steps, which BigQuery runs as scripts.
SCRIPTS = {"append_checked", "claim_creation", "import_model_prices", "ingest_staged", "name_stream", "take_fence"}
#: What stands in a script for a table that each call makes for itself.
STAGING = "session_staging"
#: What stands for the service's list of jobs, with the columns that the ledger reads.
JOBS = """
CREATE TABLE jobs (
  creation_time TIMESTAMP, labels ARRAY<STRUCT<key STRING, value STRING>>, parent_job_id STRING,
  total_bytes_processed INT64, total_bytes_billed INT64
)
"""
#: What a header calls the event's columns, where it does not name each.
EVENT = {
    *("event_id", "event_type", "actor", "occurred_at", "recorded_at", "schema_version", "store_id", "event_hash"),
    "idempotency_key",
}
named = pytest.mark.parametrize("name", SOURCES)

SPAN = {"created_from": "TIMESTAMP", "created_until": "TIMESTAMP"}
OF_IDS = {**SPAN, "created": "ARRAY<TIMESTAMP>", "session_ids": "ARRAY<STRING>"}
OF_DAY = {"session_id": "STRING", "first_day": "TIMESTAMP", "next_day": "TIMESTAMP"}
#: The types of the parameters, as ``ledger.warehouse.bigquery.warehouse`` sends the values that the callers hand over.
PARAMETERS: dict[str, dict[str, str]] = {
    "append_checked": {
        **dict.fromkeys(("session_id", "user_id", "event_id", "event_type", "actor", "store_id"), "STRING"),
        **dict.fromkeys(("hash_before", "event_hash", "idempotency_key"), "STRING"),
        **dict.fromkeys(("created_at", "occurred_at", "recorded_at"), "TIMESTAMP"),
        **dict.fromkeys(("version_before", "schema_version"), "INT64"),
        "indexed": "BOOL",
        "changes": (
            "ARRAY<STRUCT<field STRING, key STRING, value STRING, removed BOOL, value_hash STRING, value_salt STRING>>"
        ),
    },
    "attribute_texts": {**SPAN, "user_id": "STRING", "names": "ARRAY<STRING>"},
    "billed_jobs": {"begin": "TIMESTAMP", "end": "TIMESTAMP", "dataset": "STRING"},
    "claim_creation": {**dict.fromkeys(("session_id", "user_id"), "STRING"), "created_at": "TIMESTAMP"},
    "count_refreshed": {},
    "create_lock": {},
    "delete_claims": OF_IDS,
    "delete_creations": dict.fromkeys(("session_ids", "sessions"), "ARRAY<STRING>"),
    "delete_heads": {**OF_IDS, "sessions": "ARRAY<STRING>"},
    "delete_latest": {**OF_IDS, "sessions": "ARRAY<STRING>"},
    "delete_sessions": {**OF_IDS, "sessions": "ARRAY<STRING>"},
    "find_creation": {"session_ids": "ARRAY<STRING>"},
    "import_model_prices": {
        "prices": (
            "ARRAY<STRUCT<provider STRING, model STRING, valid_from DATE, input_usd_per_million FLOAT64, "
            "output_usd_per_million FLOAT64, cached_input_usd_per_million FLOAT64>>"
        ),
        "replaces": "BOOL",
        "imported_at": "TIMESTAMP",
    },
    "ingest_staged": {
        **SPAN,
        "heads": (
            "ARRAY<STRUCT<session_id STRING, user_id STRING, created_at TIMESTAMP, version INT64, "
            "updated_at TIMESTAMP, event_hash STRING, version_before INT64>>"
        ),
        "checked": "BOOL",
        "indexed": "ARRAY<STRING>",
        "stale": "TIMESTAMP",
        "store_id": "STRING",
    },
    "existing_rows": {**OF_IDS, "event_ids": "ARRAY<STRING>"},
    "list_sessions": {
        **SPAN,
        "before": "TIMESTAMP",
        "before_id": "STRING",
        "by_update": "BOOL",
        "user_id": "STRING",
        **dict.fromkeys(("wanted", "unwanted"), "ARRAY<STRING>"),
        "updated_before": "TIMESTAMP",
        **dict.fromkeys(("status", "at_time"), "STRING"),
        "unswept": "BOOL",
        **dict.fromkeys(("wanted_count", "unwanted_count", "at_most"), "INT64"),
    },
    "name_stream": {"store_id": "STRING", "fence": "INT64", "stream": "STRING"},
    "read_events": {**OF_DAY, **dict.fromkeys(("after_version", "until_version", "versions"), "INT64")},
    "read_heads": {**OF_IDS, "event_id": "STRING"},
    "read_model_prices": {},
    "read_messages": {**OF_DAY, "after_version": "INT64", "after_key": "STRING", "at_most": "INT64", "newest": "BOOL"},
    "read_states": {
        **OF_IDS,
        "at_version": "INT64",
        "at_time": "TIMESTAMP",
        "with_messages": "BOOL",
    },
    "reconcile_rows": OF_IDS,
    "reconcile_sessions": {**SPAN, "store_id": "STRING"},
    "read_seals": {"store_id": "STRING"},
    "record_seal": {
        **dict.fromkeys(("seal_id", "store_id", "root", "previous_root"), "STRING"),
        "made_at": "TIMESTAMP",
        **dict.fromkeys(("sessions", "events", "last_seq", "format_version"), "INT64"),
    },
    "search_text": {
        **SPAN,
        "before": "TIMESTAMP",
        **dict.fromkeys(
            ("before_id", "after_field", "after_key", "user_id", "session_id", "visible_to", "role"), "STRING"
        ),
        "terms": "STRING",
        **dict.fromkeys(("after_version", "at_most"), "INT64"),
    },
    "sum_items": {
        **dict.fromkeys(("created_from", "first_day", "middle_day", "next_day"), "TIMESTAMP"),
    },
    "sum_sessions": dict.fromkeys(("first_day", "middle_day", "next_day"), "TIMESTAMP"),
    "take_fence": {"store_id": "STRING", "holder": "STRING"},
}


@pytest.fixture(scope="module")
def analyzer() -> GoogleSql:
    google = GoogleSql()
    for item in catalog.objects():
        google.create(item)
        if item.name == "session_events":
            google.copy("session_events", STAGING)
    google.create(catalog.SqlObject("table", "jobs", JOBS, frozenset()))
    return google


def header_of(name: str) -> dict[str, str]:
    comment = re.match(r"(?:--[^\n]*\n)+", SOURCES[name])
    assert comment is not None
    return dict(re.findall(r"^-- ([A-Z]\w+): +(.+(?:\n--  +.+)*)", comment[0], re.MULTILINE))


def parameters_of(name: str) -> set[str]:
    return set(re.findall(r"@(\w+)", re.sub(r"--[^\n]*", "", catalog.query(name))))


@named
def test_the_header_names_the_purpose_and_the_facts(name):
    assert re.match(rf"-- {name}: [^\n]+\.\n--\n", SOURCES[name]), "the first line says what the statement is for"
    facts = tuple(header_of(name))
    if not parameters_of(name):
        assert facts == ("Twin", "Test")
    elif name in SCRIPTS:
        assert facts == ("Inputs", "Answer", "Cost", "Twin", "Test")
    else:
        assert facts == ("Grain", "Inputs", "Cost", "Twin", "Test")


@named
def test_the_header_tells_of_every_parameter(name):
    told = header_of(name).get("Inputs", "")
    in_short = EVENT if "the event's columns" in told else set()
    assert set(re.findall(r"@(\w+)", told)) | in_short == parameters_of(name)


@named
def test_the_twin_and_the_test_are_there(name):
    facts = header_of(name)
    paths = re.findall(r"[\w/]+\.py", facts["Twin"] + facts["Test"])
    assert len(paths) >= (1 if facts["Twin"] == "none." else 2)
    assert [path for path in paths if not (ROOT / path).is_file()] == []


@named
def test_only_the_names_of_the_ledgers_objects_are_substituted(name):
    if name == "billed_jobs":  # reads a view of the service's, which the code names
        return
    assert "${" not in catalog.bind(SOURCES[name], "my-project", "my_dataset")
    read = set(re.findall(r"`my-project\.my_dataset\.(\w+)`", catalog.bind(SOURCES[name], "my-project", "my_dataset")))
    assert read
    assert read - OBJECTS <= ({STAGING} if name == "ingest_staged" else set())


@named
def test_what_is_sent_begins_with_the_code(name):
    assert re.match(r"WITH\b|SELECT\b|DELETE\b|INSERT\b|UPDATE\b|DECLARE\b|BEGIN TRANSACTION;", catalog.query(name))
    assert SOURCES[name].endswith(catalog.query(name))


@named
def test_the_code_asks_for_it_by_its_name(name):
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "ledger").rglob("*.py")]
    assert any(re.search(rf'(catalog\.query|_ask|\.change)\("{name}"', source) for source in sources)


def test_every_statement_is_tried_with_its_parameters():
    assert PARAMETERS.keys() == SOURCES.keys()
    assert {name: set(kinds) for name, kinds in PARAMETERS.items()} == {name: parameters_of(name) for name in SOURCES}


@pytest.mark.parametrize("name", sorted(SOURCES.keys() - SCRIPTS))
def test_googles_analyzer_resolves_it(name, analyzer):
    sql = catalog.bind(catalog.query(name)).replace("${jobs}", "jobs")
    for lacking, instead in ALLOWED_CALLS.get(name, {}).items():
        assert lacking in sql
        sql = sql.replace(lacking, instead)
    assert analyzer.analyze(sql, PARAMETERS[name]) is not None


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_googles_analyzer_resolves_every_step_of_a_script(name, analyzer):
    steps = analyzer.analyze_script(catalog.bind(catalog.query(name)), PARAMETERS[name])
    kinds = [type(step).__name__ for step in steps]
    changes = [kind for kind in kinds if kind != "ResolvedQueryStmt"]
    assert changes[0] == "ResolvedUpdateStmt" or name == "import_model_prices", "the update of the lock comes first"
    assert kinds.count("ResolvedInsertStmt") >= (1 if "BEGIN TRANSACTION" in SOURCES[name] else 0)


def test_the_analyzer_refuses_what_does_not_fit(analyzer):
    sql = catalog.bind(catalog.query("read_states"))
    with pytest.raises(Exception, match="at_version"):
        analyzer.analyze(sql, {name: kind for name, kind in PARAMETERS["read_states"].items() if name != "at_version"})
    with pytest.raises(Exception, match="No matching signature"):
        analyzer.analyze(sql, {**PARAMETERS["read_states"], "session_ids": "ARRAY<INT64>"})
    with pytest.raises(Exception, match="no_such_column"):
        analyzer.analyze_script("BEGIN TRANSACTION; IF TRUE THEN SELECT no_such_column FROM sessions; END IF;", {})
    with pytest.raises(Exception, match="Table-valued function not found"):
        analyzer.analyze("SELECT version FROM no_such_function('s')")


# What read_states answers; the laws of the fold are in tests/property.

EVENTS = [
    event(1, ("title", "", "first"), ("status", "", "active"), ("message", "m1", {"role": "user", "content": "a"})),
    event(2, ("title", "", "second")),
    event(3, ("title", "", REMOVED)),
    event(4, ("message", "m2", {"role": "user", "content": "b"})),
    event(1, ("title", "", "other"), session="s2", day=1),
]


@pytest.fixture
def projection(warehouse: OnDuckDB) -> Projection:
    """Sessions s1 and s2, out of order and each event twice."""
    warehouse.load(shuffled(rows_of([*EVENTS, *EVENTS]), 7))
    return Projection(warehouse)


def test_a_removal_is_no_value_and_still_says_where_the_session_stands(projection):
    head, state = projection.states({"s1": DAY}, until=3)["s1"]
    assert (head.version, head.updated_at) == (3, DAY + timedelta(seconds=3))
    assert {slot: written.value for slot, written in state.items()} == {("status", ""): "active"}


def test_a_message_that_is_left_out_still_says_where_the_session_stands(projection):
    head, state = projection.states({"s1": DAY})["s1"]
    assert (head.version, head.updated_at) == (4, DAY + timedelta(seconds=4))
    assert list(state) == [("status", "")]
    _, whole = projection.states({"s1": DAY}, with_messages=True)["s1"]
    assert set(whole) == {("status", ""), ("message", "m1"), ("message", "m2")}


def test_the_states_of_several_sessions_come_at_once(projection):
    found = projection.states({"s1": DAY, "s2": DAY + timedelta(days=1), "nobody": DAY}, until=2)
    titles = {session_id: state["title", ""].value for session_id, (_, state) in found.items()}
    assert titles == {"s1": "second", "s2": "other"}
    assert projection.states({}) == {}


def test_a_session_that_was_created_at_another_time_is_another_one(projection):
    assert projection.states({"s1": DAY + timedelta(microseconds=1)}) == {}
    both = {"s1": DAY + timedelta(hours=1), "s2": DAY + timedelta(days=1)}
    assert list(projection.states(both)) == ["s2"]


def test_a_grant_that_was_erased_or_removed_or_is_of_another_kind_shows_a_session_to_nobody(warehouse):
    def granted(session: str, *values: object) -> list[RecordedEvent]:
        return [event(number, ("grant", "bob", value), session=session) for number, value in enumerate(values, 1)]

    erased = granted("erased", "read")[0]
    erased = replace(erased, changes=(replace(erased.changes[0], text=None, value_salt=None),))
    events = [*granted("removed", "write", REMOVED), *granted("other", "admin"), *granted("read", "read"), erased]
    warehouse.load(shuffled(rows_of([*events, *granted("write", "read", "write")]), 7))
    until = DAY + timedelta(days=1)
    query, wanted = SessionQuery(granted_to="bob"), [("grant", "bob", None)]
    found = Projection(warehouse).sessions(DAY, until, before=(until, ""), query=query, wanted=wanted, at_most=10)
    assert sorted(each.session_id for each in found) == ["read", "write"]


def test_sessions_come_by_creation_or_by_their_last_events_in_pages(warehouse):
    # Of four sessions, created an hour apart, each but the third has a last event later than the others' creation.
    last = {"a": 9, "b": 5, "c": 1, "d": 9}
    created = {session: DAY + timedelta(hours=number) for number, session in enumerate(last)}
    events = [
        replace(
            event(version, ("title", "", str(version)), session=session),
            created_at=at,
            recorded_at=at if version == 1 else DAY + timedelta(hours=10 + last[session], seconds=version),
        )
        for session, at in created.items()
        for version in range(1, 1 + (last[session] > 1) + 1)
    ]
    warehouse.load(shuffled(rows_of(events), 5))
    until = DAY + timedelta(days=1)
    expected = {"created": "dcba", "updated": "dabc"}
    for order, ids in expected.items():
        found, before = [], (until + timedelta(days=9), "")
        while True:
            page = Projection(warehouse).sessions(
                *(DAY, until), before=before, query=SessionQuery(order_by=order), wanted=[], at_most=1
            )
            if not page:
                break
            found += page
            before = (page[0].updated_at if order == "updated" else page[0].created_at), page[0].session_id
        assert "".join(each.session_id for each in found) == ids
        times = {each.session_id: (each.created_at, each.updated_at) for each in found}
        assert times == {
            session: (at, max(it.recorded_at for it in events if it.session_id == session))
            for session, at in created.items()
        }

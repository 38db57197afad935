"""The BigQuery warehouse on the emulator: what it answers and refuses, and what it sends."""

from __future__ import annotations

import contextlib
import math
import socket
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from google.cloud import bigquery

from ledger.errors import ConfigurationError, InvalidInput, StoreUnavailable
from ledger.warehouse.bigquery import clients, warehouse
from ledger.warehouse.bigquery.billed_jobs import dataset_label
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from support.bigquery_stores import environment
from support.bigquery_warehouses import batch, count, through
from support.histories import DAY, event

NOON = datetime(2026, 3, 4, 12, 0, 0, 123456, tzinfo=UTC)


# Parameters


@pytest.mark.parametrize(
    "value",
    [
        *(True, False, 0, 1, -(2**63), 2**63 - 1, 1.5, -0.25, 1e300, "", "é'`\\\n@v", "${project}", NOON),
        *([1, 2], [True, False], ["a", "b"], [1.5], [NOON, NOON], []),
    ],
)
def test_a_parameter_comes_back_as_it_went(direct, value):
    (answer,) = direct.query("SELECT @v AS v", {"v": value}).rows[0]
    assert (answer, type(answer)) == (value, type(value))
    if isinstance(value, list):
        assert [type(it) for it in answer] == [type(it) for it in value]


def test_none_is_a_null_of_text(direct):
    assert direct.query("SELECT @v IS NULL AND IFNULL(@v, 'none') = 'none' AS v", {"v": None}).rows == [(True,)]


def test_numbers_that_are_no_json_come_back_as_well(direct):
    assert math.isnan(direct.query("SELECT @v AS v", {"v": math.nan}).rows[0][0])
    assert direct.query("SELECT @v AS v", {"v": [math.inf]}).rows == [([math.inf],)]


def test_a_time_is_the_same_instant_in_whatever_zone_it_is_written(direct):
    elsewhere = NOON.astimezone(timezone(timedelta(hours=-5)))
    (found,) = direct.query("SELECT @v AS v", {"v": elsewhere}).rows[0]
    assert (found, found.tzinfo) == (NOON, UTC)


def test_whole_and_broken_numbers_stand_together_in_a_list(direct):
    assert direct.query("SELECT @v AS v", {"v": (1, 1.5)}).rows == [([1.0, 1.5],)]


def test_an_empty_list_is_an_empty_array_although_the_service_takes_it_for_null(direct):
    sql = "SELECT IFNULL('a' IN UNNEST(@v), FALSE) AS v, ARRAY_LENGTH(@v) AS n"
    assert direct.query(sql, {"v": []}).rows == [(False, 0)]


def test_a_list_of_objects_is_a_list_of_structs(direct):
    rows = [{"name": "a", "at": NOON, "n": 1, "none": None}, {"name": "b", "at": NOON, "n": 2, "none": "x"}]
    sql = "SELECT item.name, item.at, item.n, item.none FROM UNNEST(@v) AS item ORDER BY item.n"
    assert direct.query(sql, {"v": rows}).rows == [("a", NOON, 1, None), ("b", NOON, 2, "x")]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": 1}, "is a dict"),
        (bytearray(b"bytes"), "is a bytearray"),
        ({1, 2}, "is a set"),
        (object(), "is a object"),
        ([[1]], "is a list"),
        ([{"v": {}}], "is a dict"),
        (NOON.replace(tzinfo=None), "no time zone"),
        ([NOON, NOON.replace(tzinfo=None)], "no time zone"),
        ([None], "contains None"),
        (["a", None], "contains None"),
        ([1, "a"], "different types: int, str"),
        ([True, 2], "different types: bool, int"),
    ],
)
def test_a_parameter_of_another_kind_is_refused_and_named(direct, value, said):
    with pytest.raises(InvalidInput, match=f"The parameter v.*{said}"):
        direct.query("SELECT @v AS v", {"v": value})


# Statements


def test_json_is_decoded_and_times_are_in_utc(direct):
    sql = """
        SELECT
          JSON '{"a": [1, 2.5, null, "ü"]}' AS object, JSON '18446744073709551615' AS number, JSON '"s"' AS text,
          JSON 'null' AS json_null, CAST(NULL AS JSON) AS sql_null, [JSON '1', JSON '{}'] AS several,
          TIMESTAMP '2026-03-04 13:00:00.123456+01' AS at, ['a', 'b'] AS words
    """
    answer = direct.query(sql)
    assert answer.columns == ("object", "number", "text", "json_null", "sql_null", "several", "at", "words")
    assert answer.rows == [
        ({"a": [1, 2.5, None, "ü"]}, 2**64 - 1, "s", None, None, [1, {}], NOON, ["a", "b"]),
    ]


def test_names_are_bare_or_have_the_placeholders_of_the_dataset(direct, place):
    direct.append("session_events", batch(event(1, ("title", "", "named"), session="names")))
    for name in ("sessions", "`${project}.${dataset}.sessions`"):
        answer = direct.query(f"SELECT title FROM {name} WHERE session_id = 'names'")
        assert (answer.columns, answer.rows) == (("title",), [("named",)])
    with pytest.raises(InvalidInput, match="has a qualifier"):
        direct.query(f"SELECT title FROM `{place.project}.{place.name}.sessions`")


CHANGING = [
    "DELETE FROM session_events WHERE TRUE",
    "INSERT INTO session_index (session_id) VALUES ('a')",
    "UPDATE session_heads SET version = 1 WHERE TRUE",
    "MERGE session_heads USING session_index ON FALSE WHEN NOT MATCHED THEN INSERT ROW",
    "TRUNCATE TABLE session_events",
    "CREATE TABLE t (a INT64)",
    "DROP VIEW sessions",
    "ALTER TABLE session_events DROP COLUMN value",
    "GRANT `roles/bigquery.dataViewer` ON TABLE session_events TO 'user:a@b.c'",
    "EXPORT DATA OPTIONS (uri = 'gs://b/*', format = 'CSV') AS SELECT 1 AS a",
    "EXECUTE IMMEDIATE 'DROP VIEW sessions'",
    "CALL anything()",
    "BEGIN TRANSACTION",
    "BEGIN SELECT 1 AS a; END",
    "DECLARE a INT64; SELECT a",
    "SELECT 1 AS a; SELECT 2 AS a",
    "WITH gone AS (DELETE FROM session_events WHERE TRUE) SELECT 1 AS a",
]


@pytest.mark.parametrize(
    "sql",
    [
        *CHANGING,
        "",
        "-- nothing",
        "SELEC 1",
        "SELECT nothing FROM sessions",
        "SELECT 1 AS a FROM nowhere",
        "SELECT no_function(1) AS a",
        "SELECT @missing AS a",
        "SELECT 1 + JSON '1' AS a",
    ],
)
def test_only_one_select_that_fits_the_tables_is_answered(direct, sql):
    with pytest.raises(InvalidInput):
        direct.query(sql)


def test_what_would_change_something_is_not_sent_to_bigquery(emulator, place):
    with through(emulator, place) as (running, it):
        for sql in CHANGING:
            with contextlib.suppress(InvalidInput):
                it.query(sql)
                pytest.fail(f"answered: {sql}")
        assert running.counts == {}


@pytest.mark.parametrize(
    "sql", ["SELECT 1 AS a, 2 AS a", "SELECT status, MAX(status) AS Status FROM sessions GROUP BY 1"]
)
def test_two_columns_of_one_name_are_refused_before_bigquery_is_asked(emulator, place, sql):
    with through(emulator, place) as (running, it):
        with pytest.raises(InvalidInput, match=r"several columns named (a|status)"):
            it.query(sql)
        assert running.counts == {}


def test_columns_without_a_name_are_numbered(direct):
    assert direct.query("SELECT COUNT(*), MAX(version) FROM session_events").columns == ("f0_", "f1_")


# What goes with a statement


def test_a_job_carries_its_budget_and_labels(emulator, place):
    bounded = replace(place, maximum_bytes_billed=12345, labels={"team": uuid.uuid4().hex, "app": "another"})
    with contextlib.closing(BigQueryWarehouse(bounded, environment=environment(emulator))) as it:
        it.query("SELECT 1 AS a")
    (job,) = [job for job in emulator.client.list_jobs() if job.labels.get("team") == bounded.labels["team"]]
    assert isinstance(job, bigquery.QueryJob)
    assert job.maximum_bytes_billed == 12345
    ours = {"app": "session-ledger", "ledger_dataset": dataset_label(place.name), "operation": "query"}
    assert job.labels == {"team": bounded.labels["team"], **ours}


def test_an_own_statement_is_labelled_with_what_it_is_for(emulator, place):
    labelled = replace(place, labels={"team": uuid.uuid4().hex})
    with contextlib.closing(BigQueryWarehouse(labelled, environment=environment(emulator))) as it:
        it.query("SELECT 1 AS a", operation="read_states")
    (job,) = [job for job in emulator.client.list_jobs() if job.labels.get("team") == labelled.labels["team"]]
    assert job.labels["operation"] == "read_states"


def test_a_mistake_in_an_own_statement_is_not_the_callers(direct):
    with pytest.raises(ConfigurationError, match=r"Unrecognized name: nothing\. Create or update the ledger's dataset"):
        direct.query("SELECT nothing FROM sessions", operation="read_states")
    with pytest.raises(ConfigurationError, match=r"create_sessions_table\.py"):
        direct.query("SELECT 1 AS a FROM nowhere", operation="read_states")


def test_a_dataset_without_the_tables_says_how_to_create_them(emulator, place):
    empty = replace(place, name=f"empty_{uuid.uuid4().hex}")
    with contextlib.closing(BigQueryWarehouse(empty, environment=environment(emulator))) as it:
        with pytest.raises(ConfigurationError, match=r"create_sessions_table\.py"):
            it.query("SELECT title FROM sessions")
        with pytest.raises(ConfigurationError, match=r"create_sessions_table\.py"):
            it.append("session_events", batch(event(1, ("title", "", "t"))))


# Faults of a query


@pytest.mark.parametrize(
    "kind", ["unavailable", "quota", "rate_403", "quota_403", "reset_before", "lost_answer", "cut_answer"]
)
def test_a_query_is_asked_again_until_it_is_answered(emulator, place, kind):
    with through(emulator, place, {"POST query": {1: kind, 2: kind}}) as (running, it):
        assert it.query("SELECT 1 AS a").rows == [(1,)]
        assert running.counts["POST query"] == 3


@pytest.mark.parametrize("ask", ["query", "create"])
def test_when_patience_ends_nothing_is_uncertain_about_a_question(emulator, place, ask):
    faults = {request: dict.fromkeys(range(1, 99), "lost_answer") for request in ("POST query", "GET dataset")}
    with through(emulator, replace(place, retry_timeout=1e-6), faults) as (_, it):
        with pytest.raises(StoreUnavailable) as raised:
            it.create() if ask == "create" else getattr(it, ask)("SELECT 1 AS a")
        assert type(raised.value) is StoreUnavailable


def test_a_server_that_never_answers_is_given_up(place, monkeypatch):
    monkeypatch.setattr(clients, "ANSWER_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = {"BIGQUERY_EMULATOR_HOST": f"127.0.0.1:{silent.getsockname()[1]}"}
        impatient = replace(place, retry_timeout=1e-6)
        with (
            contextlib.closing(BigQueryWarehouse(impatient, environment=settings)) as it,
            pytest.raises(StoreUnavailable, match="timed out"),
        ):
            it.query("SELECT 1 AS a")


# Frames


def plain(value: Any) -> Any:
    """A value of a frame as a query gives it."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if hasattr(value, "to_pydatetime"):
        value = value.to_pydatetime()
    # NA and NaN stand for NULL; a comparison with NA has no truth value.
    return None if value is None or type(value).__name__ == "NAType" or value != value else value


def rows_of_frame(frame: Any) -> list[tuple[Any, ...]]:
    return [tuple(plain(value) for value in row) for row in frame.itertuples(index=False, name=None)]


# The client of the Storage API points to another package of Google's for this; the ledger does not need it.
arrow = pytest.mark.filterwarnings("ignore:Retrieving Arrow record batches directly:PendingDeprecationWarning")
FRAMED = [
    event(
        version,
        ("question", "", f"q{version} ü"),
        ("strategy", "", [None, {"n": version, "big": 2**64 - 1, "f": 0.1}, None][version % 3]),
        ("tool_call", "c", {"name": "n"}),
        ("tool_call_status", "c", "running"),
        session=f"framed{version % 2}",
    )
    for version in range(1, 9)
]


@arrow
@pytest.mark.parametrize("first_page", [1, 10_000])
@pytest.mark.parametrize("table", ["session_events", "sessions", "session_versions", "session_history"])
def test_a_frame_holds_what_a_query_answers(emulator, place, monkeypatch, table, first_page):
    monkeypatch.setattr(warehouse, "FIRST_PAGE", first_page)
    sql = f"SELECT * FROM {table} WHERE session_id LIKE @like AND created_at >= @day ORDER BY TO_JSON_STRING({table})"
    parameters = {"like": "framed%", "day": DAY}
    with through(emulator, place) as (running, it):
        if count(it, "framed0") == 0:
            it.append("session_events", batch(*FRAMED))
        before = running.counts
        answer = it.query(sql, parameters)
        asked = running.counts - before
        frame = answer.to_frame()
        page_by_page = it.ask("query", sql, parameters)
    assert len(frame) >= 2
    assert tuple(frame.columns) == answer.columns
    assert answer == page_by_page
    assert rows_of_frame(frame) == answer.rows
    assert asked["ReadRows"] == (1 if first_page == 1 else 0)


@arrow
def test_a_large_frame_comes_through_the_storage_read_api_in_its_order(emulator, place):
    rows = 13_000
    sql = f"""
        SELECT
          n, n / 2 AS half, MOD(n, 2) = 0 AS even, CAST(n AS STRING) AS text, IF(MOD(n, 2) = 0, NULL, 'odd') AS odd,
          IF(MOD(n, 3) = 0, JSON 'null', PARSE_JSON(CONCAT('{{"n":', CAST(n AS STRING), '}}'))) AS json,
          TIMESTAMP_ADD(TIMESTAMP '2026-03-04 12:00:00.123456+00', INTERVAL n SECOND) AS at, [n, -n] AS numbers
        FROM UNNEST(GENERATE_ARRAY(1, {rows})) AS n
        ORDER BY n DESC
    """
    with through(emulator, place) as (running, it):
        frame = it.query(sql).to_frame()
        assert running.counts["ReadRows"] >= 1
    assert [str(kind) for kind in frame.dtypes] == [
        *("Int64", "float64", "boolean", "str", "str", "object", "datetime64[us, UTC]", "object")
    ]
    numbers = range(rows, 0, -1)
    assert rows_of_frame(frame) == [
        (
            *(n, n / 2, n % 2 == 0, str(n), "odd" if n % 2 else None, {"n": n} if n % 3 else None),
            *(NOON + timedelta(seconds=n), [n, -n]),
        )
        for n in numbers
    ]


def test_json_in_a_frame_stays_exact(direct):
    sql = "SELECT value FROM UNNEST([JSON '1', JSON 'null', CAST(NULL AS JSON), JSON '18446744073709551615']) AS value"
    found = direct.query(sql).to_frame()["value"]
    assert found.dtype == object
    assert sorted(found, key=str) == [1, 2**64 - 1, None, None]
    assert {type(value) for value in found} == {int, type(None)}
    assert list(direct.query("SELECT [JSON '1', JSON '{\"a\": null}'] AS several").to_frame()["several"]) == [
        [1, {"a": None}]
    ]


@arrow
@pytest.mark.parametrize("first_page", [1, 10_000])
def test_a_frame_without_rows_has_its_columns(direct, monkeypatch, first_page):
    monkeypatch.setattr(warehouse, "FIRST_PAGE", first_page)
    frame = direct.query("SELECT * FROM session_events WHERE session_id = 'nobody'").to_frame()
    assert len(frame) == 0
    assert tuple(frame.columns) == direct.query("SELECT * FROM session_events WHERE session_id = 'nobody'").columns
    kinds = {name: str(kind) for name, kind in frame.dtypes.items()}
    assert kinds["created_at"] == "datetime64[us, UTC]"
    assert kinds["version"] == "Int64"
    assert kinds["value"] == "object"


@arrow
@pytest.mark.parametrize("kind", ["unavailable", "internal", "reset_before", "lost_answer"])
def test_a_frame_whose_download_breaks_is_downloaded_again(emulator, place, monkeypatch, kind):
    monkeypatch.setattr(warehouse, "FIRST_PAGE", 1)
    with through(emulator, place, {"ReadRows": {1: kind}, "CreateReadSession": {1: kind}}) as (running, it):
        frame = it.query("SELECT n FROM UNNEST(GENERATE_ARRAY(1, 5)) AS n ORDER BY n").to_frame()
        assert running.counts["ReadRows"] >= 2
    assert list(frame["n"]) == [1, 2, 3, 4, 5]

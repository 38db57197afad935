"""The model of what is billed: what a statement reads, and what the layer says and refuses."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlglot import exp, parse_one

from faults.proxy_rest import Answer
from ledger.warehouse import catalog
from service.billing import MB, BytesBilled
from service.conditions import count_ids, is_possible
from service.definitions import Definitions
from service.layer import Layer
from service.reads import Read, steps

DAY = date(2026, 3, 1)
EVENTS = "p.d.session_events"
NAMES = sorted(path.stem for path in (catalog.sql_folder() / "statements").glob("*.sql") if path.stem != "billed_jobs")


def reads(sql: str) -> list[Read]:
    return [read for step in steps(catalog.bind(sql, "project-x", "d"), Definitions()) for read in step.reads]


def columns(sql: str) -> set[str]:
    return {column for read in reads(sql) for column in read.columns or ()}


# What a statement reads


@pytest.mark.parametrize("name", NAMES)
def test_each_statement_of_the_ledger_is_read(name):
    assert {read.table.rpartition(".")[0] for read in reads(catalog.query(name))} == {"project-x.d"}


@pytest.mark.parametrize(
    "name", ["read_states", "read_heads", "read_events", "read_messages", "list_sessions", "search_text"]
)
def test_the_days_of_a_statement_reach_each_part_of_it_that_reads_events(name):
    found = [read for read in reads(catalog.query(name)) if read.table.endswith("session_events")]
    for read in found:
        assert sum(it.column == "created_at" for it in read.conditions) >= 2


def test_a_view_is_read_for_the_columns_that_are_asked_for_alone():
    assert columns("SELECT title FROM `${project}.${dataset}.sessions`") >= {"value", "field", "event_id"}
    assert columns("SELECT COUNT(*) FROM `${project}.${dataset}.session_events`") == set()
    fields = columns("SELECT session_id FROM `${project}.${dataset}.session_fields` WHERE field = 'title'")
    assert fields == {"session_id", "field", "key", "removed", "version", "event_id", "created_at"}


@pytest.mark.parametrize(
    ("sql", "passed"),
    [
        ("SELECT a FROM (SELECT a, b FROM t) WHERE b = 1", True),
        ("SELECT a FROM (SELECT a, b FROM t LIMIT 3) WHERE b = 1", False),
        ("SELECT a FROM (SELECT a, b, ROW_NUMBER() OVER (PARTITION BY b ORDER BY a) AS n FROM t) WHERE b = 1", True),
        ("SELECT a FROM (SELECT a, b, ROW_NUMBER() OVER (PARTITION BY a ORDER BY b) AS n FROM t) WHERE b = 1", False),
        ("SELECT b FROM (SELECT b, MAX(a) AS a FROM t GROUP BY b) WHERE b = 1", True),
        ("SELECT a FROM (SELECT MAX(b) AS b, a FROM t GROUP BY a) WHERE b = 1", False),
        ("SELECT a FROM (SELECT a, b FROM t UNION ALL SELECT a, b FROM t) WHERE b = 1", True),
        ("SELECT a FROM (SELECT a, b + 1 AS b FROM t) WHERE b = 1", False),
        ("WITH x AS (SELECT a, b FROM t) SELECT x.a FROM x JOIN t AS y ON y.a = x.a WHERE x.b = 1 AND y.b = 1", True),
        ("SELECT a FROM t WHERE b IN (SELECT b FROM t WHERE b = 1)", False),
    ],
)
def test_a_condition_passes_to_the_table_where_it_can(sql, passed):
    found = steps(sql.replace("FROM t", "FROM `p.d.t`").replace("JOIN t", "JOIN `p.d.t`"), Definitions())[0].reads
    assert all(bool(read.conditions) for read in found) is passed


def test_the_condition_of_a_branch_decides_whether_its_statements_are_billed():
    script = """
    IF @n > 0 THEN SELECT a FROM `p.d.t`; ELSE SELECT a FROM `p.d.u`, `p.d.t`; END IF;
    IF (SELECT COUNT(*) FROM `p.d.v`) = 0 THEN SELECT 1; END IF;
    """
    backend = Backend()
    for n, billed in (("1", 20 * MB), ("0", 30 * MB)):
        backend.run(script, parameter("n", n, "INT64"))
        assert backend.billing.bills[-1].billed == billed
    assert not backend.billing.unread


# Conditions


@pytest.mark.parametrize(
    ("condition", "possible"),
    [
        ("c >= @next", False),
        ("c < @next", True),
        ("@next <= c", False),
        ("c = @noon", True),
        ("c < @first", False),
        ("c BETWEEN @noon AND @next", True),
        ("c IN UNNEST(@list)", False),
        ("c IN UNNEST(@list) OR c = @noon", True),
        ("c < @noon AND c >= @next", False),
        ("c > TIMESTAMP '2026-03-02 00:00:00+00'", False),
        ("DATE(c) = '2026-04-01'", True),
        ("c < (SELECT x FROM t)", True),
    ],
)
def test_a_constant_condition_excludes_days_and_another_one_none(condition, possible):
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    first = noon - timedelta(hours=12)
    values = {"first": first, "noon": noon, "next": first + timedelta(days=1), "list": [first + timedelta(days=3)]}
    assert is_possible(parse_one(condition, dialect="bigquery"), DAY, values) is possible


@pytest.mark.parametrize(
    ("condition", "count"),
    [
        ("c = 'a'", 1),
        ("c IN ('a', 'b')", 2),
        ("c IN UNNEST(@ids)", 3),
        ("@none = '' OR c = 'a'", None),
        ("@one = '' OR c = 'a'", 1),
        ("c > 'a'", None),
    ],
)
def test_the_number_of_ids_that_a_condition_allows(condition, count):
    tree: exp.Expr = parse_one(condition, dialect="bigquery")
    assert count_ids(tree, {"ids": ["a", "b", "c", "c"], "none": "", "one": "x"}) == count


# What is billed, said and refused


def parameter(name: str, value: Any, kind: str = "STRING") -> dict[str, Any]:
    if isinstance(value, list):
        array = {"arrayValues": [{"value": item} for item in value]}
        return {"name": name, "parameterType": {"type": "ARRAY", "arrayType": {"type": kind}}, "parameterValue": array}
    return {"name": name, "parameterType": {"type": kind}, "parameterValue": {"value": value}}


class Backend:
    """Ten days of 100 MB, nine tenths of it values, in blocks of 10 MB, and 1 MB in the buffer."""

    def __init__(self) -> None:
        self.billing = BytesBilled(block=10 * MB)
        self.layer = Layer([self.billing])
        row = {"session_id": "x" * 98, "value": "x" * 898, "created_at": None}
        path = "/bigquery/v2/projects/p/datasets/d/tables/session_events/insertAll"
        self.layer.rest("POST", path, json.dumps({"rows": [{"json": row}]}).encode(), self._answer)
        days = [DAY + timedelta(days=number) for number in range(10)]
        self.billing.declare(EVENTS, days, 100 * MB, MB)

    def _answer(self, body: bytes) -> Answer:
        return 200, [], b"{}"

    def run(self, sql: str, *parameters: dict[str, Any], **config: Any) -> tuple[int, dict[str, Any]]:
        body = {"query": sql, "queryParameters": list(parameters), **config}
        path = "/bigquery/v2/projects/p/queries"
        status, _, content = self.layer.rest("POST", path, json.dumps(body).encode(), self._answer)
        return status, json.loads(content)

    def read(self, sql: str, *parameters: dict[str, Any]) -> int:
        """The MB that a statement reads."""
        return round(int(self.run(sql, *parameters)[1]["totalBytesProcessed"]) / MB)


ONE_DAY = f"FROM `{EVENTS}` WHERE created_at >= '2026-03-03' AND created_at < '2026-03-04'"


def test_the_columns_of_the_days_are_read_and_the_buffer_whatever_its_days():
    backend = Backend()
    assert backend.read(f"SELECT value, session_id FROM `{EVENTS}`") == 1001
    assert backend.read(f"SELECT session_id FROM `{EVENTS}`") == 100
    assert backend.read(f"SELECT value, session_id {ONE_DAY}") == 101
    assert backend.read(f"SELECT value, session_id FROM `{EVENTS}` WHERE created_at < '2020-01-01'") == 1
    backend.billing.settle()
    assert backend.read(f"SELECT value, session_id FROM `{EVENTS}` WHERE created_at < '2020-01-01'") == 0


def test_a_table_that_is_named_twice_is_read_once():
    backend = Backend()
    both = f"SELECT a.value, b.session_id FROM `{EVENTS}` AS a JOIN `{EVENTS}` AS b ON b.session_id = a.session_id"
    assert backend.read(both) == 1001


def test_constant_ids_read_a_block_each_of_a_day_of_settled_rows():
    backend = Backend()
    one = f"SELECT value, session_id {ONE_DAY} AND session_id IN UNNEST(@ids)"
    assert backend.read(one, parameter("ids", ["a"])) == 11
    assert backend.read(one, parameter("ids", ["a", "b", "c"])) == 31
    assert backend.read(one, parameter("ids", [str(number) for number in range(99)])) == 101


@pytest.mark.parametrize("verb", ["UPDATE `{t}` SET value = NULL WHERE", "DELETE FROM `{t}` WHERE"])
def test_a_change_reads_all_columns_of_its_days_whatever_its_ids(verb):
    backend = Backend()
    condition = "session_id = 'a' AND created_at >= '2026-03-03' AND created_at < '2026-03-05'"
    assert backend.read(f"{verb.format(t=EVENTS)} {condition}") == 201


def test_ten_mb_are_billed_for_each_table_of_each_statement():
    backend = Backend()
    _, said = backend.run("SELECT a FROM `p.d.t`; SELECT t.a FROM `p.d.t` AS t JOIN `p.d.u` AS u ON u.a = t.a")
    assert (said["totalBytesProcessed"], said["totalBytesBilled"]) == ("0", str(30 * MB))
    assert backend.run("SELECT 1")[1]["totalBytesBilled"] == "0"


def test_a_dry_run_leaves_out_the_buffer_and_clusters_and_costs_nothing():
    backend = Backend()
    _, said = backend.run(f"SELECT value, session_id {ONE_DAY} AND session_id = 'a'", dryRun=True)
    assert round(int(said["totalBytesProcessed"]) / MB) == 100
    assert not backend.billing.bills


def test_a_budget_is_compared_with_the_bytes_without_clusters():
    backend = Backend()
    one = f"SELECT value, session_id {ONE_DAY} AND session_id = 'a'"
    assert backend.run(one, maximumBytesBilled=str(101 * MB))[0] == 200
    status, said = backend.run(one, maximumBytesBilled=str(100 * MB))
    assert (status, said["error"]["errors"][0]["reason"]) == (500, "bytesBilledLimitExceeded")
    assert len(backend.billing.bills) == 1


def test_a_table_made_like_another_is_free_and_one_made_of_a_select_is_not():
    backend = Backend()
    assert backend.read(f"CREATE TABLE `p.d.a` LIKE `{EVENTS}`") == 0
    select = f"CREATE TABLE `p.d.b` AS SELECT * FROM `{EVENTS}` WHERE created_at < TIMESTAMP '1970-01-02'"
    assert backend.read(select) == 1


def test_rows_that_a_statement_inserts_are_settled_in_their_day():
    backend = Backend()
    sql = "INSERT INTO `p.d.session_heads` (session_id, created_at) VALUES (@session_id, @created_at)"
    backend.run(
        sql, parameter("session_id", "x" * MB), parameter("created_at", "2026-03-03 00:00:00+00:00", "TIMESTAMP")
    )
    heads = "SELECT session_id FROM `p.d.session_heads` WHERE created_at"
    assert [backend.read(f"{heads} {it}") for it in ("< '2026-03-03'", ">= '2026-03-03'")] == [0, 1]
    backend.run("DROP TABLE `p.d.session_heads`")
    assert backend.read(f"{heads} >= '2026-03-03'") == 0


def test_a_job_that_is_asked_about_says_what_it_was_billed():
    backend = Backend()
    backend._answer = lambda body: (200, [], json.dumps({"jobReference": {"jobId": "j"}, "statistics": {}}).encode())
    body = {"configuration": {"query": {"query": f"SELECT session_id FROM `{EVENTS}`"}}}
    path = "/bigquery/v2/projects/p/jobs"
    backend.layer.rest("POST", path, json.dumps(body).encode(), backend._answer)
    _, _, content = backend.layer.rest("GET", f"{path}/j?location=EU", b"", backend._answer)
    figures = json.loads(content)["statistics"]["query"]
    assert (int(figures["totalBytesProcessed"]) // MB, int(figures["totalBytesBilled"]) // MB) == (100, 101)

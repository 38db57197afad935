"""GoogleSQL functions that analysts use on the views, with BigQuery's documented answers."""

from __future__ import annotations

import pytest

from ledger.errors import InvalidInput
from support.histories import event


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("""STRING(JSON '"a\\\\n\\\\"b"')""", 'a\n"b'),
        ("INT64(JSON '10.0')", 10),
        ("FLOAT64(JSON '9.8')", 9.8),
        ("FLOAT64(JSON '3')", 3.0),
        ("BOOL(JSON 'true')", True),
        ("LAX_STRING(JSON '\"a\"')", "a"),
        ("LAX_STRING(JSON 'true')", "true"),
        ("LAX_STRING(JSON '1.5')", "1.5"),
        ("LAX_STRING(JSON '{}')", None),
        ("LAX_STRING(JSON 'null')", None),
        ("LAX_INT64(JSON '\"10\"')", 10),
        ("LAX_INT64(JSON 'true')", 1),
        ("LAX_INT64(JSON '\"x\"')", None),
        ("LAX_INT64(JSON '1e100')", None),
        ("LAX_FLOAT64(JSON '\"9.8\"')", 9.8),
        ("LAX_FLOAT64(JSON 'true')", None),
        ("LAX_BOOL(JSON '\"TRUE\"')", True),
        ("LAX_BOOL(JSON '0')", False),
        ("LAX_BOOL(JSON '2.5')", True),
        ("LAX_BOOL(JSON '\"yes\"')", None),
        ("JSON_TYPE(JSON '1')", "number"),
        ("JSON_TYPE(JSON '\"a\"')", "string"),
        ("JSON_TYPE(JSON 'null')", "null"),
        ("JSON_TYPE(CAST(NULL AS JSON))", None),
        ("FLOAT64(CAST(NULL AS JSON))", None),
        ("LAX_STRING(TO_JSON(INT64(JSON '3') + LAX_INT64(JSON '\"4\"')))", "7"),
    ],
)
def test_readers_of_json_give_its_value(warehouse, expression, expected):
    answer = warehouse.query(f"SELECT {expression} AS x").rows[0][0]
    assert (answer, type(answer)) == (expected, type(expected))


@pytest.mark.parametrize(
    "expression",
    ["STRING(JSON '1')", "INT64(JSON '1.5')", "INT64(JSON '\"1\"')", "FLOAT64(JSON '\"1\"')", "BOOL(JSON '1')"],
)
def test_strict_readers_of_json_refuse_another_type(warehouse, expression):
    with pytest.raises(InvalidInput, match="requires a JSON"):
        warehouse.query(f"SELECT {expression} AS x")


def test_readers_of_json_take_columns_paths_and_filters(ask):
    row = ask(
        [
            event(
                1, ("tool_call", "c", {"name": "n"}), ("tool_call_result", "c", {"rate": 0.5, "ok": True, "note": "hi"})
            )
        ],
        "SELECT FLOAT64(result.rate), BOOL(result.ok), STRING(result.note), LAX_STRING(result.no.such) "
        "FROM tool_calls WHERE LAX_BOOL(result.ok)",
    )
    assert row == [(0.5, True, "hi", None)]


def test_a_list_is_read_at_the_offset_that_unnest_gives(warehouse):
    sql = """
        SELECT word, other[OFFSET(place)] AS a, other[SAFE_OFFSET(place + 1)] AS b, other[ORDINAL(place + 1)] AS c
        FROM (SELECT ['a', 'b'] AS words, ['x', 'y'] AS other), UNNEST(words) AS word WITH OFFSET AS place
        ORDER BY place
    """
    assert warehouse.query(sql).rows == [("a", "x", "y", "x"), ("b", "y", None, "y")]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("EXTRACT(DAYOFWEEK FROM t)", 7),  # a Saturday
        ("EXTRACT(WEEK FROM t)", 0),  # before the year's first Sunday
        ("EXTRACT(ISOWEEK FROM t)", 52),
        ("EXTRACT(MILLISECOND FROM t)", 250),
        ("CAST(EXTRACT(DATE FROM t) AS STRING)", "2022-01-01"),
        ("CAST(EXTRACT(DATE FROM t AT TIME ZONE 'Asia/Tokyo') AS STRING)", "2022-01-02"),
        ("EXTRACT(HOUR FROM t AT TIME ZONE 'Asia/Tokyo')", 5),
        ("FORMAT_TIMESTAMP('%F %H', t, 'Asia/Tokyo')", "2022-01-02 05"),
        ("FORMAT_TIMESTAMP('%F %H', TIMESTAMP_TRUNC(t, DAY, 'Asia/Tokyo'))", "2022-01-01 15"),
    ],
)
def test_parts_of_a_time_are_counted_as_in_bigquery(warehouse, expression, expected):
    sql = f"SELECT {expression} AS x FROM (SELECT TIMESTAMP '2022-01-01 20:10:30.25+00' AS t)"
    assert warehouse.query(sql).rows == [(expected,)]


@pytest.mark.parametrize(
    "expression",
    [
        *("1 / 0", "1.5 / 0", "0 / 0", "a / b", "1 / (b / a)", "SUM(b) / SUM(b)", "a / a / b / a"),
        *("DIV(1, 0)", "DIV(a, b)", "MOD(5, 0)", "MOD(a, b)", "a / @n", "SUM(a / b)", "CAST('inf' AS FLOAT64) / 0"),
    ],
)
def test_a_division_by_zero_fails(warehouse, expression):
    parameters = {"n": 0} if "@n" in expression else {}
    with pytest.raises(InvalidInput, match="division by zero"):
        warehouse.query(f"SELECT {expression} AS x FROM (SELECT 3 AS a, 0 AS b)", parameters)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a / 2", 1.5),
        ("a / n", None),
        ("n / 0", None),
        ("a * n / b", None),
        ("n / a / b", None),
        ("a / n / b", None),
        ("DIV(n, 0)", None),
        ("MOD(n, b)", None),
        ("IF(b = 0, NULL, a / b)", None),
        ("CASE WHEN b = 0 THEN 7.0 ELSE a / b END", 7.0),
        ("a / NULLIF(b, 0)", None),
        ("SAFE_DIVIDE(a, b)", None),
        ("SAFE_DIVIDE(a, 2)", 1.5),
        ("IEEE_DIVIDE(a, b)", float("inf")),
        ("SAFE.DIV(a, b)", None),
        ("SAFE.MOD(a, b)", None),
        ("SAFE.DIV(a, 2)", 1),
        ("a / (1 / (1 / a))", 1.0),
        ("(SELECT SUM(a / x) FROM UNNEST([1, 0]) AS x WHERE x != 0)", 3.0),
    ],
)
def test_other_divisions_have_the_values_of_bigquery(warehouse, expression, expected):
    sql = f"SELECT {expression} AS x FROM (SELECT 3 AS a, 0 AS b, CAST(NULL AS INT64) AS n)"
    assert warehouse.query(sql).rows == [(expected,)]


@pytest.mark.parametrize(
    ("expression", "instead"), [("MOD(1, a)", "SAFE.MOD"), ("DIV(1, a)", "SAFE.DIV"), ("1 / a", "SAFE_DIVIDE")]
)
def test_the_error_of_a_division_by_zero_names_what_gives_null(warehouse, expression, instead):
    with pytest.raises(InvalidInput, match=rf"; {instead} gives NULL"):
        warehouse.query(f"SELECT {expression} AS x FROM (SELECT 0 AS a)")


@pytest.mark.parametrize("values", [["a"], []])
def test_a_list_in_the_parentheses_of_in_is_refused_with_advice(warehouse, values):
    with pytest.raises(InvalidInput, match=r"write IN UNNEST\(@Ids\)"):
        warehouse.query("SELECT 1 AS x FROM sessions WHERE session_id IN (@Ids)", {"ids": values})
    assert warehouse.query("SELECT 'a' IN UNNEST(@ids) AS x", {"ids": values}).rows == [(bool(values),)]
    assert warehouse.query("SELECT 'a' IN (@id, 'b') AS x", {"id": "a"}).rows == [(True,)]


def test_a_sum_beyond_64_bits_has_no_data_frame(warehouse):
    answer = warehouse.query("SELECT SUM(x) AS s FROM UNNEST([9223372036854775807, 1]) AS x")
    for convert in (answer.to_frame, answer.to_arrow):
        with pytest.raises(InvalidInput, match=r"column s \(INT64\) has a value beyond 64 bits"):
            convert()


def test_columns_without_a_name_are_numbered(warehouse):
    sql = "SELECT COUNT(*), status, 1 AS one, MAX(version) FROM sessions GROUP BY status"
    assert warehouse.query(sql).columns == ("f0_", "status", "one", "f1_")
    assert warehouse.query("SELECT 1 UNION ALL SELECT 2").columns == ("f0_",)


NAMED_BY_ENGINES = [
    ("created_at, CAST(created_at AS DATE)", ("created_at", "f0_")),
    ("CAST(version AS STRING), version", ("f0_", "version")),
    ("status, 'status'", ("status", "f0_")),
    ("DATE '2026-11-01', TIMESTAMP '2026-11-01'", ("f0_", "f1_")),
    ("s.status, UPPER(s.status), (s.title)", ("status", "f0_", "title")),
    ("constraints.kpi, constraints['kpi'], constraints.a[0]", ("kpi", "f0_", "f1_")),
    ("@status, status", ("f0_", "status")),
]


@pytest.mark.parametrize(("columns", "names"), NAMED_BY_ENGINES)
def test_only_an_alias_or_a_path_names_a_column(warehouse, columns, names):
    parameters = {"status": "x"} if "@status" in columns else {}
    assert warehouse.query(f"SELECT {columns} FROM sessions s", parameters).columns == names


@pytest.mark.parametrize(("columns", "names"), NAMED_BY_ENGINES)
@pytest.mark.emulator
def test_only_an_alias_or_a_path_names_a_column_in_bigquery(direct, columns, names):
    parameters = {"status": "x"} if "@status" in columns else {}
    assert direct.query(f"SELECT {columns} FROM sessions s", parameters).columns == names


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT content[0].text FROM messages", ("text",)),
        ("SELECT content[0].text, text FROM (SELECT content, 'a' AS b FROM messages), (SELECT 1 AS text)", None),
        ("SELECT definition['arguments'].city, result[0] FROM tool_calls", ("city", "f0_")),
        ("SELECT ARRAY(SELECT AS STRUCT 1 AS name)[OFFSET(0)].name, [1][OFFSET(0)]", ("name", "f0_")),
        ("SELECT city FROM (SELECT definition['arguments'].city FROM tool_calls)", ("city",)),
        ("SELECT * FROM (SELECT 1, 2)", ("f0_", "f1_")),
        ("SELECT 0, * FROM (SELECT *, 2 FROM (SELECT 1))", ("f0_", "f1_", "f2_")),
        ("WITH w AS (SELECT [1][OFFSET(0)], 2 AS b) SELECT w.*, SAFE.SUBSTR('a', 1) FROM w", ("f0_", "b", "f1_")),
        ("SELECT (SELECT 1 AS a), STRUCT(1 AS b).b UNION ALL SELECT 1, 2", ("f0_", "b")),
    ],
)
def test_no_name_of_a_column_is_an_expression_of_duckdb(warehouse, sql, names):
    if names is None:
        with pytest.raises(InvalidInput, match="several columns named text"):
            warehouse.query(sql)
    else:
        assert warehouse.query(sql).columns == names


def test_a_json_path_that_duckdb_has_not_is_named(warehouse):
    with pytest.raises(InvalidInput, match="DuckDB cannot answer"):
        warehouse.query("SELECT JSON_VALUE(constraints, '$..kpi') AS x FROM sessions")


def test_a_statement_that_is_refused_writes_nothing_beside_the_error(warehouse, capfd):
    with pytest.raises(InvalidInput):
        warehouse.query("CALL anything()")
    assert capfd.readouterr() == ("", "")


_SESSIONS = """
    (SELECT 'a' AS id, 'x' AS status, ['p', 'q'] AS calls, ['1', '2'] AS tags
     UNION ALL SELECT 'b', 'y', [], ['3'] UNION ALL SELECT 'c', 'x', ['p'], ['4', '5']) AS s
"""


@pytest.mark.parametrize(
    ("joined", "expected"),
    [
        (", UNNEST(s.calls) AS c", [("a", "p"), ("a", "q"), ("c", "p")]),
        (", s.calls AS c", [("a", "p"), ("a", "q"), ("c", "p")]),
        ("CROSS JOIN UNNEST(s.calls) AS c", [("a", "p"), ("a", "q"), ("c", "p")]),
        ("JOIN UNNEST(s.calls) AS c", [("a", "p"), ("a", "q"), ("c", "p")]),
        ("INNER JOIN UNNEST(s.calls) AS c ON TRUE", [("a", "p"), ("a", "q"), ("c", "p")]),
        ("JOIN UNNEST(s.calls) AS c ON s.status = 'y'", []),
        ("JOIN UNNEST(s.calls) AS c ON s.id = 'c'", [("c", "p")]),
        ("LEFT JOIN UNNEST(s.calls) AS c", [("a", "p"), ("a", "q"), ("b", None), ("c", "p")]),
        ("LEFT JOIN UNNEST(s.calls) AS c ON TRUE", [("a", "p"), ("a", "q"), ("b", None), ("c", "p")]),
        ("LEFT OUTER JOIN s.calls AS c", [("a", "p"), ("a", "q"), ("b", None), ("c", "p")]),
        ("LEFT JOIN UNNEST(s.calls) AS c ON c = 'q'", [("a", "q"), ("b", None), ("c", None)]),
        ("LEFT JOIN UNNEST(s.calls) AS c WITH OFFSET", [("a", "p"), ("a", "q"), ("b", None), ("c", "p")]),
    ],
)
def test_a_join_with_an_array_has_the_rows_of_its_kind(warehouse, joined, expected):
    rows = warehouse.query(f"SELECT s.id, c FROM {_SESSIONS} {joined}").rows
    assert sorted(rows, key=repr) == sorted(expected, key=repr)


@pytest.mark.parametrize(
    ("columns", "arrays", "rest", "expected"),
    [
        ("c, g", ", UNNEST(s.calls) AS c, UNNEST(s.tags) AS g", "WHERE s.id = 'c'", [("p", "4"), ("p", "5")]),
        ("c, COUNT(*)", ", UNNEST(s.calls) AS c", "GROUP BY 1", [("p", 2), ("q", 1)]),
        ("c, ROW_NUMBER() OVER (ORDER BY s.id, c)", ", UNNEST(s.calls) AS c", "", [("p", 1), ("p", 3), ("q", 2)]),
    ],
)
def test_a_join_with_an_array_multiplies_the_rows_before_they_are_counted(warehouse, columns, arrays, rest, expected):
    assert sorted(warehouse.query(f"SELECT {columns} FROM {_SESSIONS} {arrays} {rest}").rows) == expected


def test_sessions_without_tool_calls_are_in_a_left_join(ask):
    events = [
        event(1, ("tool_call", "c", {"name": "n"}), session="with"),
        event(1, ("title", "", "t"), session="without", event_id="w"),
    ]
    rows = ask(events, "SELECT s.session_id, c FROM sessions s LEFT JOIN UNNEST(s.tool_calls) c ORDER BY 1")
    assert rows == [("with", "c"), ("without", None)]

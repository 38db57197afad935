"""JSON over a DuckDB file is neither compared nor sorted, nor text, as in BigQuery; DuckDB's JSON is text."""

from __future__ import annotations

import pytest

from ledger.errors import InvalidInput

ROW = """FROM (SELECT PARSE_JSON('{"n": 1}') AS value, 'a' AS error, JSON '2' AS j) AS t"""
#: Statements that take JSON for text, and what the message names.
REFUSED = {
    f"SELECT MAX(value) AS v {ROW}": "MAX",
    f"SELECT MIN(value.n) AS v {ROW}": "MIN",
    f"SELECT GREATEST(value.n, j) AS v {ROW}": "GREATEST",
    f"SELECT value {ROW} ORDER BY value": "ORDER BY",
    f"SELECT value.n AS k {ROW} ORDER BY k DESC": "ORDER BY",
    f"SELECT value.n AS k {ROW} ORDER BY 1": "ORDER BY",
    f"SELECT value, COUNT(*) AS n {ROW} GROUP BY value": "GROUP BY",
    f"SELECT value.n AS k, COUNT(*) AS n {ROW} GROUP BY k": "GROUP BY",
    f"SELECT value, COUNT(*) AS n {ROW} GROUP BY 1": "GROUP BY",
    f"SELECT value, COUNT(*) AS n {ROW} GROUP BY ALL": "GROUP BY",
    f"SELECT value, COUNT(*) AS n {ROW} GROUP BY ROLLUP(value)": "GROUP BY",
    f"SELECT error, ANY_VALUE(value.n) AS m {ROW} GROUP BY error ORDER BY m": "ORDER BY",
    f"SELECT error, COUNT(*) AS n {ROW} GROUP BY error HAVING ANY_VALUE(value.n) = ANY_VALUE(j)": "A comparison",
    f"SELECT DISTINCT value {ROW}": "DISTINCT",
    f"SELECT COUNT(DISTINCT value) AS v {ROW}": "DISTINCT",
    f"SELECT value {ROW} UNION DISTINCT SELECT j {ROW}": "DISTINCT",
    "SELECT DISTINCT * FROM tool_calls": "DISTINCT",
    f"SELECT value = '1' AS v {ROW}": "A comparison",
    f"SELECT 1 AS v {ROW} WHERE value.n = 1": "A comparison",
    f"SELECT 1 AS v {ROW} WHERE value.n < j": "A comparison",
    f"SELECT 1 AS v {ROW} WHERE value['n'] = '1'": "A comparison",
    f"SELECT 1 AS v {ROW} WHERE JSON_QUERY(value, '$.n') = '1'": "A comparison",
    f"SELECT 1 AS v {ROW} WHERE value LIKE '%n%'": "A comparison",
    f"SELECT 1 AS v {ROW} WHERE value IN ('a')": "IN",
    f"SELECT 1 AS v {ROW} WHERE value BETWEEN 'a' AND 'b'": "BETWEEN",
    f"SELECT CASE value WHEN 'a' THEN 1 END AS v {ROW}": "CASE",
    f"SELECT 1 AS v {ROW} JOIN (SELECT JSON '2' AS j) AS u ON t.j = u.j": "A comparison",
    f"SELECT 1 AS v {ROW} JOIN (SELECT JSON '2' AS j) AS u USING (j)": "USING",
    f"SELECT 1 AS v {ROW} WHERE j": "WHERE",
    f"SELECT LENGTH(value) AS v {ROW}": "LENGTH",
    f"SELECT LOWER(value) AS v {ROW}": "LOWER",
    f"SELECT SUBSTR(value, 1) AS v {ROW}": "SUBSTR",
    f"SELECT REGEXP_CONTAINS(value, 'n') AS v {ROW}": "REGEXP",
    f"SELECT CAST(j AS INT64) AS v {ROW}": "CAST",
    f"SELECT NULLIF(value, j) AS v {ROW}": "NULLIF",
    f"SELECT STRING_AGG(value) AS v {ROW}": "takes no JSON",
    f"SELECT ROW_NUMBER() OVER (PARTITION BY value) AS v {ROW}": "PARTITION BY",
    f"SELECT ROW_NUMBER() OVER (ORDER BY value) AS v {ROW}": "ORDER BY",
    f"WITH w AS (SELECT value.n AS m {ROW}) SELECT m FROM w WHERE m > '0'": "A comparison",
    "SELECT d FROM UNNEST(JSON_QUERY_ARRAY(JSON '[1]', '$')) AS d WHERE d = '1'": "A comparison",
}
ANSWERED = {
    f"SELECT MAX(error) AS v {ROW} WHERE error = 'a'": "a",
    f"SELECT error AS v {ROW} GROUP BY error ORDER BY error": "a",
    f"SELECT DISTINCT LOWER(error) AS v {ROW} ORDER BY v": "a",
    f"SELECT error AS v {ROW} GROUP BY 1 HAVING error LIKE 'a%' ORDER BY 1": "a",
    f"SELECT LAX_INT64(value.n) AS v {ROW} GROUP BY v ORDER BY v": 1,
    f"SELECT JSON_VALUE(value, '$.n') AS v {ROW} GROUP BY 1 ORDER BY 1": "1",
    f"SELECT MAX(INT64(value.n)) AS v {ROW} WHERE value IS NOT NULL": 1,
    f"SELECT COUNT(*) AS v {ROW} GROUP BY LAX_INT64(value.n), ROLLUP(error, JSON_VALUE(value, '$.n')) LIMIT 1": 1,
    f"SELECT COUNT(value) AS v {ROW}": 1,
    f"SELECT ANY_VALUE(value.n) AS v {ROW}": 1,
    f"SELECT ARRAY_AGG(value.n ORDER BY INT64(value.n)) AS v {ROW}": [1],
    f"SELECT IFNULL(value.n, j) AS v {ROW}": 1,
    f"SELECT TO_JSON_STRING(value) AS v {ROW} GROUP BY v ORDER BY LENGTH(v)": '{"n":1}',
    f"SELECT COUNT(DISTINCT TO_JSON_STRING(value)) AS v {ROW}": 1,
    f"SELECT MAX_BY(value.n, error) AS v {ROW}": 1,
    f"SELECT JSON_TYPE(j) AS v {ROW} WHERE JSON_TYPE(value) = 'object'": "number",
    f"SELECT v {ROW}, UNNEST([1]) AS v WHERE t.error IN ('a') AND CASE error WHEN 'a' THEN TRUE END": 1,
}


@pytest.mark.duckdb
@pytest.mark.parametrize("sql", REFUSED)
def test_json_where_googlesql_takes_none_is_refused_with_what_to_write(file, sql):
    with pytest.raises(InvalidInput, match=r"takes no JSON.*JSON_VALUE") as raised:
        file.query(sql)
    assert REFUSED[sql] in str(raised.value)


@pytest.mark.duckdb
def test_the_refusal_names_the_path_of_the_value(file):
    with pytest.raises(InvalidInput, match=r"JSON_VALUE\(s.constraints, '\$.region'\)"):
        file.query(f"SELECT 1 AS v FROM (SELECT value AS constraints {ROW}) AS s WHERE s.constraints.region = 'R1'")


@pytest.mark.duckdb
@pytest.mark.parametrize("sql", ANSWERED)
def test_values_read_from_json_and_other_columns_of_such_names_are_answered(file, sql):
    assert file.query(sql).rows == [(ANSWERED[sql],)]


@pytest.mark.duckdb
def test_a_statement_without_json_is_not_checked():
    from ledger.warehouse.duckdb.dialect import query_to_duckdb

    sql = "SELECT status, MAX(version) AS v FROM sessions WHERE user_id = 'a' GROUP BY 1"
    assert "TYPEOF" not in query_to_duckdb(sql)

"""Subscripts of JSON count from 0 and are NULL where nothing is; those of arrays fail beyond the end."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.errors import InvalidInput
from support.histories import event
from support.sql_targets import OnDuckDB

DOC = '{"o":[10,20,30],"n":[[1,2],{"z":[7]}],"$.o":5,"a/b":6,"s":"text","0":4,"":8,"q\\"~":9}'
#: Google's reference implementation gives these values. ``d.j`` is the JSON above, ``d.l`` the array [5, 6].
SOURCE = (
    "(SELECT PARSE_JSON(@doc) AS j, [5, 6] AS l, 'o' AS name, '$.o' AS path, 1 AS i, "
    "STRUCT(PARSE_JSON(@doc) AS j, [5, 6] AS l) AS s)"
)
VALUES: list[tuple[str, Any]] = [
    ("d.j.o[0]", 10),
    ("j.o[2]", 30),
    ("j['o'][0]", 10),
    ("j.o[3]", None),
    ("j.o[-1]", None),
    ("j[0]", None),
    ("j.s[0]", None),
    ("j['0']", 4),
    ("j['']", 8),
    ("j['$.o']", 5),
    ("j['a/b']", 6),
    ("j['q\"~']", 9),
    ("j.n[0][1]", 2),
    ("j.n[1].z[0]", 7),
    ("j['n'][1]['z'][0]", 7),
    ("j.o[i]", 20),
    ("j.o[i + 1]", 30),
    ("j.o[-i]", None),
    ("j.o[@one]", 20),
    ("j[name][i]", 20),
    ("j[path]", 5),
    ("j[@field][0]", 10),
    ("j[CONCAT('o', '')][0]", 10),
    ("j.o[INT64(j.n[0][0])]", 20),
    ("j.o[(SELECT 1)]", 20),
    ("j.o[CAST(NULL AS INT64)]", None),
    ("s.j.o[0]", 10),
    ("d.s.j.n[0][1]", 2),
    ("s.l[0]", 5),
    ("l[0]", 5),
    ("l[i]", 6),
    ("l[@one]", 6),
    ("l[OFFSET(1)]", 6),
    ("l[ORDINAL(i)]", 5),
    ("l[SAFE_OFFSET(9)]", None),
    ("l[SAFE_OFFSET(-2)]", None),
    ("l[SAFE_ORDINAL(0)]", None),
    ("@words[0]", "a"),
    ("@words[OFFSET(i)]", "b"),
    ("JSON_QUERY(j, '$.o')[1]", 20),
    ("JSON_EXTRACT(j, '$.n[1]').z[0]", 7),
    ("JSON_QUERY_ARRAY(j, '$.n')[0][1]", 2),
    ("JSON_VALUE_ARRAY(j, '$.o')[0]", "10"),
    ("PARSE_JSON('[1,2]')[0]", 1),
    ("JSON '[1,2]'[0]", 1),
    ("""JSON '{"a":[{"b":3}]}'.a[0].b""", 3),
    ("TO_JSON([1, 2])[1]", 2),
    ("COALESCE(j.none, j.o)[0]", 10),
    ("IF(i = 1, j.o, NULL)[1]", 20),
    ("[STRUCT([5, 6] AS a)][0].a[1]", 6),
    ("[STRUCT(j AS a)][0].a.o[1]", 20),
    ("SPLIT('a,b', ',')[0]", "a"),
    ("(SELECT x[0] FROM UNNEST(JSON_QUERY_ARRAY(j, '$.n')) AS x LIMIT 1)", 1),
    ("(SELECT j.o[place] FROM UNNEST([1]) AS x WITH OFFSET AS place)", 10),
    ("(SELECT l[place] FROM UNNEST([1]) AS x WITH OFFSET AS place)", 5),
    ("(SELECT SUM(v) FROM UNNEST(INT64_ARRAY(j['n'][0])) AS v)", 3),
    ("(SELECT x.o[1] FROM (SELECT j AS x))", 20),
    ("(SELECT ARRAY_AGG(x)[COUNT(*) - 1].o[1] FROM (SELECT j AS x))", 20),
    ("(SELECT ANY_VALUE(x.o)[0] FROM (SELECT j AS x))", 10),
    ("(SELECT INT64(x['o'][0]) FROM (SELECT j AS x) GROUP BY INT64(x['o'][0]))", 10),
    ("(WITH c AS (SELECT j.n AS x) SELECT x[1].z[0] FROM c)", 7),
]
PARAMETERS = {"doc": DOC, "one": 1, "field": "o", "words": ["a", "b"]}


def answer(warehouse: OnDuckDB, expression: str) -> Any:
    used = {name: value for name, value in PARAMETERS.items() if f"@{name}" in SOURCE + expression}
    ((found,),) = warehouse.query(f"SELECT {expression} AS x FROM {SOURCE} AS d", used).rows
    return found


@pytest.mark.duckdb
def test_elements_are_those_of_googles_reference_implementation(file):
    wrong = []
    for expression, expected in VALUES:
        try:
            found = answer(file, expression)
        except InvalidInput as error:
            found = str(error)
        if found != expected:
            wrong.append((expression, found, expected))
    assert wrong == []


REFUSED = {
    "l[2]": "Array index 2 is out of bounds",
    "l[-1]": "Array index -1 is out of bounds",
    "l[OFFSET(2)]": "Array index 2 is out of bounds",
    "l[ORDINAL(0)]": "Array index 0 is out of bounds",
    "JSON_QUERY_ARRAY(j, '$.o')[3]": "Array index 3 is out of bounds",
    "j.o[OFFSET(0)]": "JSON has no OFFSET or ORDINAL",
    "j.o[SAFE_ORDINAL(1)]": "JSON has no OFFSET or ORDINAL",
    "name[0]": "needs an ARRAY or JSON",
    "JSON_VALUE(j, '$.s')[0]": "needs an ARRAY or JSON",
}


@pytest.mark.duckdb
@pytest.mark.parametrize("expression", REFUSED)
def test_a_subscript_that_bigquery_refuses_is_refused(file, expression):
    with pytest.raises(InvalidInput) as raised:
        answer(file, expression)
    assert REFUSED[expression] in str(raised.value)


@pytest.mark.duckdb
def test_columns_of_the_views_are_read_from_0(ask):
    calls = event(1, ("tool_call", "c", {"name": "n"}), ("tool_call_result", "c", {"orders": [10, 20, 30]}))
    sql = """
        SELECT INT64(result.orders[0]), JSON_VALUE(result, '$.orders[0]'), INT64(t.result['orders'][2]),
          INT64(result.orders[planned_version]), INT64(result[@field][0])
        FROM tool_calls AS t WHERE INT64(result.orders[1]) = 20
    """
    assert ask([calls], sql, field="orders") == [(10, "10", 30, 20, 10)]

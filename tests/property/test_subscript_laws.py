"""Subscripts of JSON and arrays: a DuckDB file gives the elements that Google's reference implementation gives.

The emulator is no measure: it gives the element after the right one, or none, for most of these shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger.model.values import canonical
from support.googlesql import GoogleSql
from support.sql_targets import OnDuckDB

NAMES = ("a", "b", "$.a", "a/b")
documents = st.recursive(
    st.integers(0, 9) | st.sampled_from(["text", True, None]),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, min_size=1),
    max_leaves=12,
).filter(lambda value: isinstance(value, dict | list))
#: Names of the document, and where they come from.
SOURCES = {
    "doc": "FROM docs",
    "d.doc": "FROM docs AS d",
    "PARSE_JSON(@doc)": "FROM docs",
    "JSON_QUERY(doc, '$')": "FROM docs",
    "x": "FROM (SELECT doc AS x FROM docs)",
    "s.j": "FROM (SELECT STRUCT(doc AS j, 1 AS k) AS s FROM docs)",
    "item": "FROM docs, UNNEST([doc]) AS item",
    "part": "FROM docs, UNNEST(JSON_QUERY_ARRAY(whole)) AS part",
    "ANY_VALUE(doc)": "FROM docs",
    "IF(one = 1, doc, NULL)": "FROM docs",
}
INDEXES = (
    *("[{}]", "[{} + 0]", "[@one - 1 + {}]", "[-{}]", "[(SELECT {})]"),
    *("[CAST('{}' AS INT64)]", "[INT64(JSON '{}')]", "[LENGTH(REPEAT('a', {}))]"),
)
WITH = "WITH docs AS (SELECT PARSE_JSON(@doc) AS doc, PARSE_JSON(CONCAT('[', @doc, ']')) AS whole, 1 AS one) "
ARRAYS = {
    "[4, 5, 6]": 3,
    "@numbers": 2,
    "JSON_QUERY_ARRAY(whole)": 1,
    "SPLIT('a,b', ',')": 2,
    "[STRUCT([7, 8] AS l)][OFFSET(0)].l": 2,
}
PARAMETERS = {"one": 1, "numbers": [1, 2]}


@st.composite
def paths(draw: st.DrawFn, value: Any) -> str:
    """Subscripts that often lead to a value of the document."""
    text = ""
    for _ in range(draw(st.integers(1, 3))):
        if isinstance(value, list) or not isinstance(value, dict):
            index = draw(st.integers(0, 3))
            text += draw(st.sampled_from(INDEXES)).format(index)
            value = value[index] if isinstance(value, list) and index < len(value) else None
        else:
            name = draw(st.sampled_from(sorted(value)))
            text += f".{name}" if name.isalpha() and draw(st.booleans()) else f"['{name}']"
            value = value[name]
    return text


@st.composite
def expressions(draw: st.DrawFn, value: Any) -> str:
    """A statement's column: an element of the document, or of an array."""
    if draw(st.integers(0, 3)):
        name, source = draw(st.sampled_from(list(SOURCES.items())))
        return f"(SELECT TO_JSON_STRING({name}{draw(paths(value))}) {source})"
    array = draw(st.sampled_from(list(ARRAYS)))
    index = draw(st.integers(0, 3))
    forms = [f"[SAFE_OFFSET({index})]", f"[SAFE_ORDINAL({index})]"]
    if index < ARRAYS[array]:
        forms += [f"[{index}]", f"[OFFSET({index})]", f"[ORDINAL({index + 1})]"]
        forms += [f"[@one - 1 + {index}]", f"[OFFSET(@one - 1 + {index})]", f"[ORDINAL(@one + {index})]"]
    return f"(SELECT TO_JSON_STRING({array}{draw(st.sampled_from(forms))}) FROM docs)"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnDuckDB]:
    opened = OnDuckDB(tmp_path_factory.mktemp("duckdb"))
    with opened.kept_open():
        yield opened


def elements(target: OnDuckDB, columns: list[str], value: Any) -> dict[str, Any]:
    sql = f"{WITH}SELECT {', '.join(f'{column} AS c{n}' for n, column in enumerate(columns))}"
    used = {name: it for name, it in {**PARAMETERS, "doc": canonical(value)}.items() if f"@{name}" in sql}
    return dict(zip(columns, target.query(sql, used).rows[0], strict=True))


quick = settings(
    max_examples=10,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # to shrink would take many minutes
)


@given(documents, st.data())
@quick
def test_a_file_gives_the_elements_of_googles_reference_implementation(
    file: OnDuckDB, value: Any, data: st.DataObject
) -> None:
    columns = data.draw(st.lists(expressions(value), min_size=12, max_size=12, unique=True))
    sql = WITH + " UNION ALL ".join(f"SELECT CONCAT('{n} ', {column})" for n, column in enumerate(columns))
    for name, literal in {"@doc": f"'{canonical(value)}'", "@one": "1", "@numbers": "[1, 2]"}.items():
        sql = sql.replace(name, literal)
    answers = dict(text.split(" ", 1) for text in GoogleSql().texts(sql))
    assert elements(file, columns, value) == {column: answers[str(n)] for n, column in enumerate(columns)}

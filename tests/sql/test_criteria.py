"""The texts that list_sessions.sql makes of values, by Google's reference implementation."""

from __future__ import annotations

import json
import re

from ledger.warehouse import catalog
from ledger.warehouse.criteria import wanted_texts
from support.googlesql import GoogleSql

SCALARS = [
    *(0, 0.0, -0.0, 1, 1.0, -1, -2.5e-7, 0.1, 1 / 3, 1e15, 1e16, 1e22, 5e-324, 1.7976931348623157e308),
    *(2**53, float(2**53), 2**53 + 1, 2**63 - 1, 2**63, float(2**63), -(2**63), 2**64 - 1),
    *(True, False, None, "", "1", "true", "null", 'é"/<\\\u2028\n'),
]


def texts_of(values: list[object]) -> list[str]:
    """What the statement compares with its parameter."""
    found = re.search(r"AND (CONCAT\(\s*field.*?\)) IN UNNEST\(@wanted\)", catalog.query("list_sessions"), re.DOTALL)
    assert found is not None
    texts = ", ".join(f"r'''{json.dumps(value)}'''" for value in values)
    rows = "SELECT 'attribute' AS field, 'v' AS key, PARSE_JSON(text) AS value, place"
    source = f"({rows} FROM UNNEST([{texts}]) AS text WITH OFFSET AS place)"
    return GoogleSql().texts(f"SELECT {found[1]} FROM {source} ORDER BY place")


def test_the_text_of_a_scalar_is_among_those_that_its_criterion_looks_for():
    missing = []
    for value, text in zip(SCALARS, texts_of(SCALARS), strict=True):
        wanted = wanted_texts([("attribute", "v", value)], lambda _: {})
        if text not in wanted:
            missing.append((value, text, wanted))
    assert missing == []


def test_the_text_of_an_array_or_object_is_the_stored_one():
    found = texts_of([[1, "a"], {"b": 1, "a": 1.0}])
    assert found[0] == 'attribute\nv\n[1,"a"]'
    assert json.loads(found[1].removeprefix("attribute\nv\n")) == {"a": 1, "b": 1}

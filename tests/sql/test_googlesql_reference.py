"""What docs/sql.md says of functions over a DuckDB file: the values of Google's reference, or a refusal."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ledger.errors import InvalidInput
from ledger.warehouse.duckdb.coverage import REFUSED_PREFIXES, functions
from support.googlesql_cases import CASES, ROWS, STATEMENTS

ANSWERED = {name: note for name, note in functions() if not note.startswith("refused")}
#: Functions that another test calls.
ELSEWHERE = {"SEARCH", "ERROR"}


@pytest.mark.duckdb
@pytest.mark.parametrize("chapter", CASES)
def test_expressions_have_the_values_of_googles_reference(file, chapter):
    wrong = []
    for expression, expected in CASES[chapter]:
        sql = f"SELECT {expression} AS v" + (f" FROM {ROWS}" if chapter == "Aggregates" else "")
        found: Any
        try:
            ((found,),) = file.query(sql).rows
        except InvalidInput:
            found = "REFUSED"
        if (found, type(found)) != (expected, type(expected)):
            wrong.append((expression, found, expected))
    assert wrong == []


@pytest.mark.duckdb
@pytest.mark.parametrize(("sql", "rows"), STATEMENTS)
def test_statements_have_the_rows_of_googles_reference(file, sql, rows):
    assert file.query(sql).rows == rows


def test_every_function_that_is_said_to_be_answered_has_a_case():
    texts = [expression for cases in CASES.values() for expression, value in cases if value != "REFUSED"]
    text = " ".join([*texts, *(sql for sql, _ in STATEMENTS)])
    missing = {name for name in ANSWERED if not re.search(rf"\b{name}(\(|\b)", text)}
    assert missing - ELSEWHERE == set()


@pytest.mark.duckdb
def test_every_function_that_is_said_to_be_refused_is_refused(file):
    refused = [name for name, note in functions() if note.startswith("refused")]
    for name in [*refused, *(f"{prefix}ANYTHING" for prefix in REFUSED_PREFIXES)]:
        with pytest.raises(InvalidInput, match=r"is not answered over a DuckDB file|not valid GoogleSQL"):
            file.query(f"SELECT {name}(1) AS v")


UNKNOWN = {
    "SELECT sttus FROM sessions": "no column 'sttus'. Did you mean status?",
    "SELECT s.sttus FROM sessions AS s": "no column 'sttus'. Did you mean status?",
    "SELECT x.status FROM sessions AS s": "no table or alias 'x'. There are: s.",
    "SELECT 1 AS a FROM sesions": "no table or view 'sesions'. Did you mean sessions",
    "SELECT FLOOOR(1) AS a": "no function 'FLOOOR'. Did you mean FLOOR?",
    "SELECT * FROM duckdb_tables()": "no function 'duckdb_tables'",
    "SELECT * FROM sesion_state('a')": "Did you mean session_state",
    "SELECT * FROM relay_batches": "no table or view 'relay_batches'",
    "SELECT * FROM pg_catalog.pg_tables": "`pg_catalog.pg_tables` has a qualifier",
    "SELECT current_setting('x') AS a": "no function 'current_setting'",
    "SELECT LIST_SORT([1]) AS a": "no function 'LIST_SORT'",
    "SELECT SUM(user_id) AS a FROM sessions": "SUM takes no arguments of these types: STRING.",
    "SELECT session_user AS a FROM sessions": "a DuckDB file knows no user",
    "SELECT LOWER(1) AS a": "no arguments of these types: INT64",
    "SELECT 'a' + DATE '2020-01-01' AS a": "no arguments of these types: STRING, DATE",
    "SELECT status FROM sessions GROUP BY version": "must appear in the GROUP BY clause",
    "SELECT CAST('x' AS INT64) AS a": "Bad INT64 value: x",
    "SELECT BIGNUMERIC '1' AS a": "BIGNUMERIC",
    "SELECT FORMAT('%t', 1) AS a": "literal format",
}


@pytest.mark.duckdb
@pytest.mark.parametrize("sql", UNKNOWN)
def test_a_refusal_suggests_the_ledgers_names_and_no_engines(file, sql):
    with pytest.raises(InvalidInput) as raised:
        file.query(sql)
    message = str(raised.value)
    assert UNKNOWN[sql] in message
    for internal in ("Candidate", "Binder", "Catalog", "main.", "LINE 1", "VARCHAR", "BIGINT", "octet_length"):
        assert internal not in message

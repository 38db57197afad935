"""The schema that ``ledger schema`` and INFORMATION_SCHEMA show is that of the objects as an engine creates them."""

from __future__ import annotations

import pytest

from ledger import InvalidInput, SessionLedger
from ledger.warehouse.schema import schema
from support.shell import Shell

NULLS = {"STRING": "''", "TIMESTAMP": "TIMESTAMP '2026-01-01'", "INT64": "1"}


def columns_of(name):
    (item,) = schema(name)
    return [(column.name, column.type) for column in item.columns]


@pytest.mark.parametrize("item", schema(), ids=lambda item: item.name)
def test_the_columns_are_those_of_the_object(warehouse, item):
    call = f"({', '.join(NULLS[each.type] for each in item.parameters)})" if item.parameters else ""
    answer = warehouse.query(f"SELECT * FROM {item.name}{call}")
    assert list(zip(answer.columns, answer.types, strict=True)) == [(each.name, each.type) for each in item.columns]


def test_everything_is_described():
    for item in schema():
        assert item.description.endswith(".")
        assert item.grain
        assert [column.name for column in item.columns if not column.description] == []


def test_information_schema_has_the_ledgers_objects_and_no_others(warehouse):
    tables = warehouse.query("SELECT table_name, table_type FROM INFORMATION_SCHEMA.TABLES").rows
    assert sorted(tables) == sorted(
        (item.name, "VIEW" if item.kind == "view" else "BASE TABLE") for item in schema() if item.kind != "function"
    )
    columns = warehouse.query(
        "SELECT c.column_name, c.data_type FROM INFORMATION_SCHEMA.COLUMNS AS c JOIN INFORMATION_SCHEMA.TABLES AS t "
        "USING (table_name) WHERE c.table_name = @name ORDER BY ordinal_position",
        {"name": "sessions"},
    ).rows
    assert columns == columns_of("sessions")


def test_information_schema_is_the_same_in_bigquery(warehouse, direct):
    sql = "SELECT table_name, column_name, data_type, is_nullable FROM INFORMATION_SCHEMA.COLUMNS"
    assert sorted(direct.query(sql).rows) == sorted(warehouse.query(sql).rows)


def test_an_unknown_table_of_bigquery_has_a_suggestion(direct):
    with pytest.raises(InvalidInput, match="Did you mean sessions"):
        direct.query("SELECT 1 AS a FROM sesions")


@pytest.mark.parametrize("sql", ["SELECT sumary FROM sessions", "SELECT 1 AS a FROM sessions WHERE sumary = 'a'"])
def test_an_unknown_column_has_a_suggestion_everywhere(warehouse, direct, sql):
    for target in (warehouse, direct):
        with pytest.raises(InvalidInput, match=r"There is no column 'sumary'\. Did you mean summary\?"):
            target.query(sql)


def test_the_sdk_and_the_command_show_the_schema(tmp_path, shell: Shell):
    with SessionLedger(f"sqlite:///{tmp_path / 'a.db'}") as ledger:
        assert ledger.schema() == schema()
        assert ledger.for_user("ada").schema("sessions") == schema("sessions")
        with pytest.raises(InvalidInput, match="Did you mean tool_calls"):
            ledger.schema("toolcalls")
    listed = shell.json("schema")["objects"]
    assert [it["name"] for it in listed] == [item.name for item in schema()]
    assert "tool_calls" in shell.ok("schema")
    shown = shell.ok("schema", "session_state")
    assert "session_state(of_session STRING, first_day TIMESTAMP" in shown
    assert "at_version  INT64      The version to read; NULL for the latest" in shown
    assert all(it.description for item in schema() for it in item.parameters)
    assert shell.fails("schema", "sesions")[0] == 3

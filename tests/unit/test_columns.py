"""The list of columns: everything that names the columns of an event's rows follows it."""

from __future__ import annotations

import dataclasses
import re
import sqlite3
from contextlib import closing

import pyarrow as pa
import pytest

from ledger.formats import events as lines
from ledger.model.events import RecordedChange, RecordedEvent
from ledger.outbox.columns import (
    CHANGE,
    COLUMNS,
    EVENT,
    NAMES,
    EventValues,
    Kind,
    change_values,
    event_values,
    position,
    row_of,
    sql_list,
)
from ledger.outbox.row_digests import RowDigest
from ledger.outbox.rows import SEQ, index_of
from ledger.stores.sqlite.schema import migrate
from ledger.testing.streams import START
from ledger.warehouse import arrow_rows, catalog
from support.histories import event

#: What each kind is in a table of BigQuery, of SQLite and of Arrow.
TYPES = {
    Kind.TEXT: ("STRING", "TEXT", pa.string()),
    Kind.INTEGER: ("INT64", "INTEGER", pa.int64()),
    Kind.BOOLEAN: ("BOOL", "INTEGER", pa.bool_()),
    Kind.INSTANT: ("TIMESTAMP", "INTEGER", pa.timestamp("us")),
    Kind.JSON: ("JSON", "TEXT", pa.string()),
}
OBJECTS = {item.name: item.source for item in catalog.objects()}


def last_select(sql: str) -> tuple[str, ...]:
    """The names of the columns that the last SELECT of a file lists."""
    listed = sql.rpartition("\nSELECT\n")[2].partition("\nFROM")[0]
    return tuple(re.split(r"\s+AS\s+|\s+", line.strip())[-1] for line in re.split(r",\n", listed))


def test_the_table_of_warehouses_has_these_columns():
    found = re.findall(r"^  (\w+) (\w+)( NOT NULL)? OPTIONS", OBJECTS["session_events"], re.MULTILINE)
    assert found == [(column.name, TYPES[column.kind][0], "" if column.nullable else " NOT NULL") for column in COLUMNS]


def test_the_table_of_sqlite_has_these_columns_after_seq(tmp_path):
    with closing(sqlite3.connect(tmp_path / "l.db", isolation_level=None)) as connection:
        migrate(connection, "l.db", new_store_id="store", now=START)
        _, *found = connection.execute("SELECT name, type, \"notnull\" FROM pragma_table_info('session_events')")
    assert found == [(column.name, TYPES[column.kind][1], int(not column.nullable)) for column in COLUMNS]


def test_rows_in_arrow_have_these_columns():
    assert {column.name: TYPES[column.kind][2] for column in COLUMNS} == arrow_rows.COLUMNS
    assert tuple(arrow_rows.COLUMNS) == NAMES


def test_events_and_changes_have_an_attribute_for_each_column():
    """The text of a value is called so, since ``value`` decodes it."""
    of_event = [field.name for field in dataclasses.fields(RecordedEvent) if field.name != "changes"]
    of_change = ["value" if field.name == "text" else field.name for field in dataclasses.fields(RecordedChange)]
    assert (tuple(of_event), tuple(of_change)) == (EVENT, CHANGE)
    assert EventValues._fields == EVENT


def test_an_exported_line_has_a_key_for_each_column():
    assert lines.ENVELOPE == EVENT
    assert set(lines.CHANGE) == set(CHANGE)


@pytest.mark.parametrize("name", ["session_history", "session_changes"])
def test_the_history_in_sql_shows_every_column(name):
    assert last_select(OBJECTS[name]) == (*NAMES, "superseded_by")


def test_read_events_gives_the_columns_of_the_event_and_then_those_of_the_change():
    change = ("text" if name == "value" else name for name in CHANGE)
    assert last_select(catalog.query("read_events")) == (*EVENT, *change, "superseded_by")


@pytest.mark.parametrize("name", ["append_checked", "ingest_staged"])
def test_statements_that_write_rows_write_every_column(name):
    listed = re.search(r"INSERT INTO `[^`]*\.session_events` \(([^)]*)\)", catalog.query(name))
    assert listed is not None
    assert tuple(re.split(r",\s+", listed[1].strip())) == NAMES


def test_a_recorded_event_becomes_rows_in_the_order_of_the_table():
    recorded = event(2, ("title", "", "t"), ("tag", "k", True))
    rows = [row_of(event_values(recorded), change) for change in change_values(recorded)]
    moment = 1772582402_000_000
    assert rows == [
        tuple(
            {
                "session_id": "s1",
                "version": 2,
                "event_id": "e2",
                "event_type": "x.happened",
                "user_id": "ann",
                "field": field,
                "key": key,
                "value": text,
                "removed": False,
                "schema_version": 1,
                "occurred_at": moment,
                "recorded_at": moment,
                "created_at": moment - 2_000_000,
                "store_id": "store",
            }.get(name)
            for name in NAMES
        )
        for field, key, text in (("title", "", '"t"'), ("tag", "k", "true"))
    ]


def test_positions_are_found_by_name():
    assert (position("session_id"), index_of("session_id"), SEQ) == (0, 1, 0)
    assert NAMES[position("event_hash")] == "event_hash"
    assert sql_list(("version", "key"), table="e") == "e.version, e.key"
    with pytest.raises(ValueError, match="not in tuple"):
        position("colour")


def test_what_a_comparison_reads_are_columns():
    assert set(RowDigest._fields) <= set(NAMES)

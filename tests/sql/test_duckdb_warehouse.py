"""The DuckDB warehouse: what it answers and refuses, how it is fed, and how it shares its file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from histories import DAY, event, rows_of
from ledger.errors import ConfigurationError, CorruptEvent, InvalidInput, StoreRejected, StoreUnavailable
from ledger.projection import Projection
from ledger.relay import catch_up
from ledger.warehouse.duckdb import DuckDBWarehouse
from sql_targets import ROW, OnDuckDB


def numbered(events, start=1):
    return [(seq, *row) for seq, row in enumerate(rows_of(events), start)]


EVENTS = [event(version, ("title", "", f"t{version}"), ("context", "k", {"v": version})) for version in range(1, 8)]


class Log:
    """A store that has these rows and gives whole events."""

    store_id = "store"

    def __init__(self, rows):
        self.rows = rows
        self.asked = []

    def rows_after(self, seq, limit):
        self.asked.append(seq)
        rows = [row for row in self.rows if row[0] > seq][:limit]
        while len(rows) == limit and rows and rows[-1][0] % 2:
            rows.pop()
        return rows


def test_the_tables_are_those_of_the_catalog(warehouse):
    columns = warehouse.query("SELECT * FROM session_events").columns
    assert columns == ROW
    assert warehouse.query("SELECT * FROM session_heads").columns == (
        *("session_id", "user_id", "created_at", "version", "updated_at", "event_hash", "store_id"),
    )
    assert warehouse.query("SELECT * FROM session_index").columns == ("session_id", "created_at", "user_id")


def test_every_column_comes_back_as_it_was_recorded(warehouse):
    row = (
        *("s", 1, "e", "x.y", "strategy", "", '{"a":[1,2.5,null,"ü"]}', 0, "u", "robot"),
        *(1, 2_000_000, 3_000_000, 1, "store", "vh", "vs", "ph", "eh"),
    )
    warehouse.ingest("store", [(1, *row)], after=0)
    second = datetime(1970, 1, 1, tzinfo=UTC)
    assert warehouse.query("SELECT * FROM session_events").rows == [
        (
            *("s", 1, "e", "x.y", "strategy", "", {"a": [1, 2.5, None, "ü"]}, False, "u", "robot"),
            *(second + timedelta(microseconds=1), second + timedelta(seconds=2), second + timedelta(seconds=3)),
            *(1, "store", "vh", "vs", "ph", "eh"),
        )
    ]


def test_a_query_takes_named_parameters_and_bare_or_full_names(warehouse):
    warehouse.ingest("store", numbered(EVENTS), after=0)
    sql = "SELECT title FROM {} WHERE session_id = @id AND created_at >= @day"
    for name in ("sessions", "`my-project.my_dataset.sessions`", "`${project}.${dataset}.sessions`"):
        answer = warehouse.query(sql.format(name), {"id": "s1", "day": DAY})
        assert (answer.columns, answer.rows) == (("title",), [("t7",)])


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM session_events WHERE TRUE",
        "CREATE TABLE t (a INT64)",
        "SELECT 1; SELECT 2",
        "DROP VIEW sessions",
        "",
        "SELEC 1",
        "SELECT nothing FROM sessions",
        "SELECT 1 FROM nowhere",
        "SELECT 'x' + 1 FROM sessions WHERE session_id = @missing",
        "WITH gone AS (DELETE FROM session_events WHERE TRUE) SELECT 1",
        "COPY session_events TO 'x.csv'",
        "PRAGMA database_list",
        "ATTACH 'x.duckdb'",
        "SET threads = 1",
        "SELECT ARRAY_AGG(session_id ORDER BY session_id LIMIT 3) AS ids FROM sessions",
    ],
)
def test_only_one_select_that_fits_the_tables_is_answered(warehouse, sql):
    warehouse.ingest("store", numbered(EVENTS), after=0)
    with pytest.raises(InvalidInput):
        warehouse.query(sql)
    assert warehouse.query("SELECT COUNT(*) AS n FROM session_events").rows == [(14,)]


def test_a_select_reads_no_file_of_the_machine(warehouse, tmp_path):
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(InvalidInput):
        warehouse.query(f"SELECT * FROM read_csv('{tmp_path}/secret.csv')")
    with warehouse, pytest.raises(InvalidInput):
        warehouse.query(f"SELECT * FROM read_csv('{tmp_path}/secret.csv')")


def test_a_naive_time_is_refused_as_a_parameter(warehouse):
    with pytest.raises(InvalidInput, match="no time zone"):
        warehouse.query("SELECT 1 FROM sessions WHERE created_at > @day", {"day": datetime(2026, 1, 1)})  # noqa: DTZ001


def test_unnesting_counts_from_zero(warehouse):
    sql = "SELECT word, place FROM (SELECT ['a', 'b'] AS words), UNNEST(words) AS word WITH OFFSET place ORDER BY place"
    assert warehouse.query(sql).rows == [("a", 0), ("b", 1)]
    assert warehouse.query("SELECT word FROM (SELECT ['a', 'b'] AS words), UNNEST(words) AS word").rows == [
        ("a",),
        ("b",),
    ]


def test_catching_up_brings_every_row_once_whatever_the_batch(warehouse):
    log = Log(numbered(EVENTS[:3]))
    assert catch_up(log, warehouse, batch_rows=3) == 6
    assert catch_up(log, warehouse) == 0
    log.rows = numbered(EVENTS)
    seen = []
    assert catch_up(log, warehouse, batch_rows=4, progress=seen.append) == 8
    assert seen == [4, 8]
    assert warehouse.query("SELECT COUNT(*) AS n, COUNT(DISTINCT version) AS v FROM session_events").rows == [(14, 7)]
    assert warehouse.checkpoint("store") == 14
    assert warehouse.query("SELECT session_id, created_at FROM session_index").rows == [("s1", DAY)]


def test_an_interrupted_catch_up_goes_on_where_the_last_batch_ended(warehouse):
    class Failing(Log):
        def rows_after(self, seq, limit):
            if seq >= 4:
                raise OSError("gone")
            return super().rows_after(seq, limit)

    with pytest.raises(OSError, match="gone"):
        catch_up(Failing(numbered(EVENTS)), warehouse, batch_rows=4)
    assert warehouse.checkpoint("store") == 4
    log = Log(numbered(EVENTS))
    assert catch_up(log, warehouse) == 10
    assert log.asked[:2] == [3, 4]  # first whether it still has what it sent last
    assert warehouse.query("SELECT COUNT(*) AS n FROM session_events").rows == [(14,)]


def test_a_relay_that_was_overtaken_goes_on_where_the_other_ended(warehouse):
    class Overtaken(Log):
        def rows_after(self, seq, limit):
            rows = super().rows_after(seq, limit)
            if len(self.asked) == 1:
                catch_up(Log(numbered(EVENTS[:5])), warehouse)
            return rows

    log = Overtaken(numbered(EVENTS))
    assert catch_up(log, warehouse) == 4
    assert log.asked[:2] == [0, 10]
    assert warehouse.query("SELECT COUNT(*) AS n, COUNT(DISTINCT version) AS v FROM session_events").rows == [(14, 7)]


def test_rows_that_do_not_follow_the_checkpoint_are_refused_whole(warehouse):
    warehouse.ingest("store", numbered(EVENTS[:1]), after=0)
    with pytest.raises(StoreRejected, match="another relay"):
        warehouse.ingest("store", numbered(EVENTS[:1]), after=0)
    assert warehouse.query("SELECT COUNT(*) AS n FROM session_events").rows == [(2,)]
    assert warehouse.checkpoint("another store") == 0


@pytest.mark.parametrize(
    ("column", "value"), [("version", "x"), ("session_id", 1), ("created_at", None), ("value", "{")]
)
def test_a_row_that_cannot_be_is_refused_and_the_checkpoint_stays(warehouse, column, value):
    rows = numbered(EVENTS[:2])
    bad = list(rows[-1])
    bad[1 + ROW.index(column)] = value
    with pytest.raises((CorruptEvent, StoreRejected)):
        warehouse.ingest("store", [*rows[:-1], tuple(bad)], after=0)
    assert warehouse.checkpoint("store") == 0
    assert warehouse.query("SELECT COUNT(*) AS n FROM session_events").rows == [(0,)]


def test_the_file_is_there_after_it_was_closed_and_its_views_are_renewed(tmp_path):
    first = OnDuckDB(tmp_path)
    first.ingest("store", numbered(EVENTS), after=0)
    with duckdb.connect(str(first.path)) as connection:
        connection.execute("UPDATE catalog_state SET digest = 'an older release'")
        connection.execute("DROP VIEW sessions")
    again = DuckDBWarehouse(first.path)
    assert again.query("SELECT title FROM sessions").rows == [("t7",)]


HOLD = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_file_held_by_another_process_is_unavailable_until_it_lets_go(tmp_path):
    path = OnDuckDB(tmp_path).path
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreUnavailable, match="in use by another process"):
            DuckDBWarehouse(path, patience=0).query("SELECT 1 AS one")

        def let_go(_seconds):
            holder.stdin.close()
            holder.wait()

        assert DuckDBWarehouse(path, patience=60, pause=let_go).query("SELECT 1 AS one").rows == [(1,)]


def test_a_file_that_is_no_warehouse_is_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"not a database at all, only text")
    with pytest.raises(ConfigurationError, match=r"notes\.txt"):
        DuckDBWarehouse(path).query("SELECT 1 AS one")
    assert path.read_bytes() == b"not a database at all, only text"


def test_a_sqlite_file_is_refused_and_nothing_is_fetched_to_open_it(tmp_path):
    path = tmp_path / "ledger.duckdb"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ConfigurationError) as refused:
        DuckDBWarehouse(path).query("SELECT 1 AS one")
    assert "download" not in str(refused.value)
    assert path.read_bytes() == before


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="no-such-lock"):  # as DuckDB speaks of held files
        DuckDBWarehouse(tmp_path / "no-such-lock" / "w.duckdb").create()


def test_the_projection_finds_the_day_of_an_id_that_carries_none(warehouse):
    warehouse.ingest("store", numbered(EVENTS), after=0)
    projection = Projection(warehouse)
    assert projection.creation_of("s1") == DAY
    assert projection.creation_of("unknown") is None
    assert projection.state("unknown") is None
    assert projection.history("unknown") == []
    assert projection.events("unknown") == []
    millis = f"{int(DAY.timestamp() * 1000):012x}"
    assert projection.creation_of(f"{millis[:8]}-{millis[8:]}-7000-8000-000000000000") == DAY


def test_the_projection_refuses_a_version_and_a_time_at_once(warehouse):
    with pytest.raises(InvalidInput, match="not both"):
        Projection(warehouse).state("s1", version=1, at=DAY)


def test_a_store_that_lost_what_it_sent_is_refused_and_nothing_is_mixed(warehouse):
    catch_up(Log(numbered(EVENTS)), warehouse)
    for left in (EVENTS[:3], [*EVENTS[:6], replace(EVENTS[6], event_id="another")]):
        with pytest.raises(ConfigurationError, match="restored"):
            catch_up(Log(numbered(left)), warehouse)
    assert warehouse.query("SELECT COUNT(*) AS n FROM session_events").rows == [(14,)]


def test_two_columns_of_one_name_are_refused_as_bigquery_refuses_them(warehouse):
    with pytest.raises(InvalidInput, match="several columns named a"):
        warehouse.query("SELECT 1 AS a, 2 AS a")

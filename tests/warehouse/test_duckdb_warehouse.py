"""The DuckDB warehouse: what it answers and refuses, how it is fed, and how it shares its file."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from ledger.errors import ConfigurationError, InvalidInput, StoreUnavailable
from ledger.outbox.columns import NAMES
from ledger.testing.reference import history_in
from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse
from ledger.warehouse.projection import Projection
from support.histories import DAY, event, rows_of
from support.sql_targets import OnDuckDB, fill

pytestmark = pytest.mark.duckdb


def numbered(events, start=1):
    return [(seq, *row) for seq, row in enumerate(rows_of(events), start)]


EVENTS = [event(version, ("title", "", f"t{version}"), ("context", "k", {"v": version})) for version in range(1, 8)]


def test_the_tables_are_those_of_the_catalog(warehouse):
    columns = warehouse.query("SELECT * FROM session_events").columns
    assert columns == NAMES
    assert warehouse.query("SELECT * FROM session_heads").columns == (
        *("session_id", "user_id", "created_at", "version", "updated_at", "event_hash", "store_id"),
    )
    assert warehouse.query("SELECT * FROM session_index").columns == ("session_id", "created_at", "user_id")


def test_every_column_comes_back_as_it_was_recorded(warehouse):
    row = (
        *("s", 1, "e", "x.y", "strategy", "", '{"a":[1,2.5,null,"ü"]}', 0, "u", "robot"),
        *(1, 2_000_000, 3_000_000, 1, "store", "vh", "vs", "ph", "eh", "job-42"),
    )
    fill(warehouse, [(1, *row)])
    second = datetime(1970, 1, 1, tzinfo=UTC)
    assert warehouse.query("SELECT * FROM session_events").rows == [
        (
            *("s", 1, "e", "x.y", "strategy", "", {"a": [1, 2.5, None, "ü"]}, False, "u", "robot"),
            *(second + timedelta(microseconds=1), second + timedelta(seconds=2), second + timedelta(seconds=3)),
            *(1, "store", "vh", "vs", "ph", "eh", "job-42"),
        )
    ]


def test_a_query_takes_named_parameters_and_names_with_and_without_placeholders(warehouse):
    fill(warehouse, numbered(EVENTS))
    sql = "SELECT title FROM {} WHERE session_id = @id AND created_at >= @day"
    for name in ("sessions", "`${project}.${dataset}.sessions`"):
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
    ],
)
def test_only_one_select_that_fits_the_tables_is_answered(warehouse, sql):
    fill(warehouse, numbered(EVENTS))
    with pytest.raises(InvalidInput):
        warehouse.query(sql)
    assert warehouse.query("SELECT COUNT(*) AS n FROM session_events").rows == [(14,)]


def test_a_select_reads_no_file_of_the_machine(warehouse, tmp_path):
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(InvalidInput):
        warehouse.query(f"SELECT * FROM read_csv('{tmp_path}/secret.csv')")
    with warehouse.kept_open(), pytest.raises(InvalidInput):
        warehouse.query(f"SELECT * FROM read_csv('{tmp_path}/secret.csv')")


def test_parameters_that_are_no_mapping_are_refused(warehouse):
    with pytest.raises(InvalidInput, match="pass a mapping of name to value"):
        warehouse.query("SELECT 1 AS a", ["x"])


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


def test_the_file_is_there_after_it_was_closed_and_its_views_are_renewed(tmp_path):
    first = OnDuckDB(tmp_path)
    fill(first, numbered(EVENTS))
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
            DuckDBWarehouse(path, retry_timeout=0).query("SELECT 1 AS one")

        def let_go(_seconds):
            holder.stdin.close()
            holder.wait()

        assert DuckDBWarehouse(path, retry_timeout=60, pause=let_go).query("SELECT 1 AS one").rows == [(1,)]


def test_a_file_that_other_code_of_this_process_holds_open_is_said_to_be_held_by_it(tmp_path):
    path = OnDuckDB(tmp_path).path
    with (
        duckdb.connect(str(path), read_only=True),
        pytest.raises(StoreUnavailable, match="open in this process by other code"),
        DuckDBWarehouse(path, retry_timeout=0).writing(),
    ):
        pass


def test_whoever_reads_a_file_that_this_process_is_writing_need_not_wait(tmp_path):
    path = tmp_path / "ledger.duckdb"
    with DuckDBWarehouse(path).writing() as connection:
        assert DuckDBWarehouse(path, retry_timeout=0).query("SELECT COUNT(*) AS n FROM session_events").rows == [(0,)]
        connection.execute("INSERT INTO relay_batches VALUES ('store', 1, 'digest')")
    with DuckDBWarehouse(path, retry_timeout=0).reading() as reader:
        assert reader.execute("SELECT seq FROM relay_batches").rows == [(1,)]


def test_readers_who_relieve_one_another_keep_no_writer_out(tmp_path):
    path, over = tmp_path / "ledger.duckdb", threading.Event()
    DuckDBWarehouse(path).create()

    def read():
        while not over.is_set():
            DuckDBWarehouse(path).query("SELECT COUNT(*) AS n FROM sessions")

    threads = [threading.Thread(target=read) for _ in range(4)]
    written = threading.Thread(target=DuckDBWarehouse(path).create)
    for thread in (*threads, written):
        thread.start()
    written.join(20)
    held_up = written.is_alive()
    over.set()
    for thread in (*threads, written):
        thread.join()
    assert not held_up


def test_whoever_reads_while_it_reads_and_a_writer_waits_is_let_in(tmp_path):
    warehouse = DuckDBWarehouse(tmp_path / "ledger.duckdb", retry_timeout=0.1)
    with warehouse.reading():
        writing = threading.Thread(target=warehouse.create)
        writing.start()
        writing.join(0.1)
        assert warehouse.query("SELECT 1 AS n").rows == [(1,)]
    writing.join(20)
    assert not writing.is_alive()


def test_whoever_still_reads_when_the_writer_is_done_reads_on(tmp_path):
    warehouse = DuckDBWarehouse(tmp_path / "ledger.duckdb")
    warehouse.create()
    with contextlib.ExitStack() as stack:
        with warehouse.kept_open():
            connection = stack.enter_context(warehouse.reading())
        assert connection.execute("SELECT COUNT(*) FROM sessions").rows == [(0,)]
    with duckdb.connect(str(warehouse.path)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM sessions").fetchall() == [(0,)], "nothing holds the file"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_that_is_forked_while_others_write_reads_and_writes(tmp_path):
    program = f"""
import os, threading, time
from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse

warehouse = DuckDBWarehouse({str(tmp_path / "ledger.duckdb")!r})
warehouse.create()
writes = threading.Event()

def write():
    with warehouse.kept_open():
        writes.set()
        time.sleep(0.3)

thread = threading.Thread(target=write)
thread.start()
writes.wait()
child = os.fork()
if not child:
    assert warehouse.query("SELECT COUNT(*) AS n FROM sessions").rows == [(0,)]
    DuckDBWarehouse(warehouse.path).create()
    os._exit(0)
thread.join()
assert os.waitpid(child, 0)[1] == 0
assert warehouse.query("SELECT COUNT(*) AS n FROM sessions").rows == [(0,)]
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer signals here")
def test_after_exceptions_of_signal_handlers_in_the_midst_of_statements_the_file_is_closed_and_can_be_opened(tmp_path):
    # In a process of its own: DuckDB would wait without end, where no time limit of Python's can strike.
    program = f"""
import signal, time
import duckdb, pyarrow
from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse

class TimeLimit(BaseException):
    pass

def strike(*_):
    raise TimeLimit

signal.signal(signal.SIGALRM, strike)
warehouse = DuckDBWarehouse({str(tmp_path / "ledger.duckdb")!r})
warehouse.create()
batch = pyarrow.table({{"store_id": [str(n) for n in range(2000)]}})
for number in range(60):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.008 + number / 2000)
        with warehouse.writing(batch) as connection:
            while True:
                connection.execute("INSERT OR REPLACE INTO relay_batches SELECT store_id, 1, 'd' FROM batch")
    except TimeLimit:
        signal.setitimer(signal.ITIMER_REAL, 0)
    duckdb.connect(str(warehouse.path)).close()  # nothing has it open
assert warehouse.query("SELECT COUNT(*) AS n FROM session_events").rows == [(0,)]
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


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
    fill(warehouse, numbered(EVENTS))
    projection = Projection(warehouse)
    assert projection.creation_of("s1") == DAY
    assert projection.creation_of("unknown") is None
    assert projection.state("unknown") is None
    assert history_in(warehouse, "unknown") == []
    assert projection.events("unknown") == []
    millis = f"{int(DAY.timestamp() * 1000):012x}"
    assert projection.creation_of(f"{millis[:8]}-{millis[8:]}-7000-8000-000000000000") == DAY


def test_the_projection_refuses_a_version_and_a_time_at_once(warehouse):
    with pytest.raises(InvalidInput, match="not both"):
        Projection(warehouse).state("s1", version=1, at=DAY)


def test_two_columns_of_one_name_are_refused_as_bigquery_refuses_them(warehouse):
    with pytest.raises(InvalidInput, match="several columns named a"):
        warehouse.query("SELECT 1 AS a, 2 AS a")


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_a_new_file_is_its_owners_alone_and_the_mode_of_an_old_one_is_kept(tmp_path):
    """Its log, which DuckDB creates again after each checkpoint, has the mode of the file."""
    path, log = tmp_path / "new.duckdb", tmp_path / "new.duckdb.wal"
    warehouse, before = DuckDBWarehouse(path), os.umask(0)
    try:
        with warehouse.kept_open():
            warehouse.create()
            for event in EVENTS:
                fill(warehouse, numbered([event]))
                assert log.stat().st_mode & 0o777 == 0o600
                with warehouse.writing() as connection:
                    connection.execute("CHECKPOINT")
                assert not log.exists()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    fill(DuckDBWarehouse(path), numbered(EVENTS))
    assert path.stat().st_mode & 0o777 == 0o640

"""The relay from a store to a DuckDB file: every row once, whatever happened to either of them."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from ledger import SessionLedger
from ledger.errors import CorruptEvent, LeaseHeld, RowsRefused, StoreRejected, StreamEnded
from ledger.outbox.contract import Batch, RelayCheckpoint
from ledger.outbox.rows import index_of
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import CountedIds, SetClock, event_id
from ledger.testing import event as new_event
from ledger.tiers.attached import AttachedWarehouse
from ledger.tiers.opening import relay_between
from ledger.warehouse.duckdb.sink import DuckDBSink
from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse
from support.histories import DAY, event, rows_of
from support.sql_targets import fill

pytestmark = pytest.mark.duckdb

EVENTS = [event(version, ("title", "", f"t{version}"), ("context", "k", {"v": version})) for version in range(1, 8)]
COUNT = "SELECT COUNT(*) AS n, COUNT(DISTINCT event_id) AS events FROM session_events"


def numbered(events, start=1):
    return [(seq, *row) for seq, row in enumerate(rows_of(events), start)]


@pytest.fixture
def files(tmp_path):
    return tmp_path / "ledger.db", tmp_path / "ledger.duckdb"


def append(path, *numbers, session="s"):
    with opened(path) as store:
        for number in numbers:
            store.append(session, new_event(number, user_id="ada"))


def opened(path):
    return contextlib.closing(SqliteStore(path, clock=SetClock(), ids=CountedIds(1)))


def sync(files, **more):
    with opened(files[0]) as store, contextlib.closing(relay_between(store, DuckDBWarehouse(files[1]))) as one:
        return one.sync(**more)


def count(files):
    return DuckDBWarehouse(files[1]).query(COUNT).rows[0]


def test_what_a_store_records_is_there_once_and_found_by_its_index(files):
    append(files[0], 1, 2, 3)
    assert sync(files) == 3
    assert sync(files) == 0
    append(files[0], 4)
    assert sync(files) == 1
    warehouse = DuckDBWarehouse(files[1])
    assert warehouse.query(COUNT).rows == [(4, 4)]
    assert warehouse.query("SELECT session_id FROM session_index").rows == [("s",)]
    assert warehouse.query("SELECT title FROM sessions").rows == [("title 4",)]


def test_a_file_of_an_older_release_gets_the_columns_that_it_lacks_and_keeps_its_rows(files):
    append(files[0], 1)
    sync(files)
    with duckdb.connect(str(files[1])) as connection:
        connection.execute("DROP VIEW session_history")
        connection.execute("ALTER TABLE session_events DROP COLUMN idempotency_key")
        connection.execute("ALTER TABLE session_events ADD COLUMN mine TEXT")
        connection.execute("UPDATE catalog_state SET digest = 'an older release'")
    with opened(files[0]) as store:
        store.append("s", new_event(2, user_id="ada", idempotency_key="job-2"))
    assert sync(files) == 1
    rows = "SELECT version, event_id, idempotency_key FROM {} ORDER BY version"
    expected = [(1, event_id(1), None), (2, event_id(2), "job-2")]
    assert DuckDBWarehouse(files[1]).query(rows.format("session_events")).rows == expected
    assert DuckDBWarehouse(files[1]).query(rows.format("session_history")).rows == expected


def test_a_file_that_was_moved_away_is_made_again(files):
    append(files[0], 1, 2)
    sync(files)
    files[1].unlink()
    assert sync(files) == 2
    assert count(files) == (2, 2)


@pytest.mark.parametrize("replace", ["nothing", "empty", "table"])
def test_a_file_that_is_replaced_while_a_relay_is_open_is_filled_again(files, replace):
    append(files[0], 1, 2)
    with opened(files[0]) as store, contextlib.closing(relay_between(store, DuckDBWarehouse(files[1]))) as relay:
        relay.sync()
        if replace == "table":
            with duckdb.connect(str(files[1])) as connection:
                connection.execute("DROP TABLE relay_batches")
        else:
            files[1].unlink()
        if replace == "empty":
            duckdb.connect(str(files[1])).close()
        store.append("s", new_event(3, user_id="ada"))
        with contextlib.suppress(StoreRejected):
            relay.sync()
        relay.sync()
    assert count(files) == (3, 3)


def test_threads_that_make_a_file_at_once_make_it_once(files):
    errors, gate = [], threading.Barrier(4)

    def make():
        gate.wait()
        try:
            DuckDBWarehouse(files[1]).create()
        except Exception as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_an_older_copy_of_the_file_gets_what_it_lacks(files, tmp_path):
    append(files[0], 1, 2)
    sync(files)
    shutil.copy(files[1], tmp_path / "older")
    append(files[0], 3, 4)
    sync(files)
    shutil.copy(tmp_path / "older", files[1])
    append(files[0], 5)
    assert sync(files) == 3
    assert count(files) == (5, 5)


@pytest.mark.parametrize("synced", [0, 1, 2, 3])
def test_a_restored_store_ships_on_without_loss_or_doubles(files, tmp_path, synced):
    for round_ in range(3):
        if round_ == synced:
            with opened(files[0]) as store:
                store.backup(tmp_path / "backup.db")
        append(files[0], *range(10 * round_ + 1, 10 * round_ + 4), session=f"s{round_}")
        sync(files)
    if synced == 3:
        with opened(files[0]) as store:
            store.backup(tmp_path / "backup.db")
    for file in tmp_path.glob("ledger.db*"):
        file.unlink()
    shutil.copy(tmp_path / "backup.db", files[0])
    append(files[0], *range(101, 106), session="after")
    assert sync(files) == 5
    assert count(files) == (14, 14)


def test_two_copies_of_a_store_ship_what_each_has_and_nothing_twice(files, tmp_path):
    append(files[0], 1, 2)
    sync(files)
    with opened(files[0]) as store:
        store.backup(tmp_path / "copy.db")
    copy = tmp_path / "copy.db", files[1]
    for round_ in range(1, 4):
        append(files[0], 10 * round_, session=f"a{round_}")
        append(copy[0], 10 * round_ + 1, session=f"b{round_}")
        assert sync(files) == 1
        assert sync(copy) == 1
    assert count(files) == (8, 8)


def test_a_batch_that_arrived_before_the_store_could_note_it_is_not_sent_again(files, monkeypatch):
    class Killed(BaseException):
        """The process ends here."""

    append(files[0], 1, 2)
    sync(files)
    append(files[0], 3, 4)
    real = DuckDBSink.send

    def send_and_die(*args):
        real(*args)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(DuckDBSink, "send", send_and_die)
        with pytest.raises(Killed):
            sync(files)
    assert count(files) == (4, 4)
    append(files[0], 5)
    asked = []
    monkeypatch.setattr(DuckDBSink, "existing", lambda self, rows: asked.extend(rows) or ())
    sync(files)
    assert (asked, count(files)) == ([], (5, 5))


def test_a_relay_that_begins_where_the_last_one_ended_asks_about_no_row(files, monkeypatch):
    monkeypatch.setattr(DuckDBSink, "existing", lambda self, rows: pytest.fail("asked"))
    for number in range(1, 4):
        append(files[0], number)
        assert sync(files) == 1
    assert count(files) == (3, 3)


def test_a_batch_that_follows_another_than_was_thought_is_not_taken(warehouse):
    sink, rows = DuckDBSink(warehouse, "duckdb:///x"), numbered(EVENTS[:1])
    place = sink.recover("store", RelayCheckpoint(1)).sink_state
    fill(warehouse, rows)
    with sink, pytest.raises(StreamEnded, match="another relay"):
        sink.send(place, Batch.of(rows), sink.pack(rows)[1])
    assert warehouse.query(COUNT).rows == [(2, 1)]


@pytest.mark.parametrize(
    ("column", "value"), [("version", "x"), ("session_id", 1), ("created_at", None), ("value", "{")]
)
def test_a_row_that_cannot_be_is_refused_with_its_batch(warehouse, column, value):
    rows = numbered(EVENTS[:2])
    bad = list(rows[-1])
    bad[index_of(column)] = value
    with pytest.raises((CorruptEvent, RowsRefused)):
        fill(warehouse, [*rows[:-1], tuple(bad)])
    assert warehouse.query(COUNT).rows == [(0, 0)]
    fill(warehouse, rows)
    assert warehouse.query("SELECT created_at FROM session_index").rows == [(DAY,)]


def test_a_table_that_is_not_the_ledgers_stops_the_relay_and_refuses_no_event(files):
    append(files[0], 1)
    sync(files)
    with duckdb.connect(str(files[1])) as connection:
        connection.execute("ALTER TABLE session_index ADD COLUMN more INTEGER")
    append(files[0], 2)
    with pytest.raises(StoreRejected):
        sync(files)
    with opened(files[0]) as store:
        assert store.outbox(f"duckdb:///{files[1]}").status().refused_events == 0


def test_a_damaged_value_is_put_aside_and_the_rest_is_there(files):
    append(files[0], 1, 2, 3)
    with contextlib.closing(sqlite3.connect(files[0])) as connection, connection:
        connection.execute("UPDATE session_events SET value = '{' WHERE version = 2")
    assert sync(files) == 2
    with opened(files[0]) as store:
        (refused,) = store.outbox(f"duckdb:///{files[1]}").refused()
    assert (refused.version, refused.rows) == (2, 1)


def test_reading_goes_on_in_other_threads_while_rows_are_sent(files):
    append(files[0], *range(1, 40))
    warehouse, seen = DuckDBWarehouse(files[1]), []

    def look(_rows):
        thread = threading.Thread(target=lambda: seen.append(warehouse.query(COUNT).rows[0]))
        thread.start()
        thread.join(20)

    with opened(files[0]) as store, contextlib.closing(relay_between(store, warehouse)) as one:
        one.sync(progress=look)
    assert seen == [(39, 39)]


def test_a_relay_is_refused_while_another_ships_and_free_afterwards(files):
    append(files[0], 1)
    with opened(files[0]) as store:
        one, two = (relay_between(store, DuckDBWarehouse(files[1])) for _ in range(2))
        one.sync()
        store.append("s", new_event(2))
        with pytest.raises(LeaseHeld):
            two.sync()
        one.close()
        assert two.sync() == 1
        two.close()


def test_a_lease_lasts_as_long_as_whoever_attaches_the_warehouse_says(tmp_path):
    clock = SetClock()
    with contextlib.closing(SqliteStore(tmp_path / "l.db", clock=clock)) as store:
        store.append("s", new_event(1, user_id="ada"))
        attached = AttachedWarehouse(store, f"duckdb:///{tmp_path}/w.duckdb", lease_seconds=5)
        with contextlib.closing(attached.relay()) as relay:
            assert relay.sync() == 1
            assert attached.status().holder is not None
            clock.move(5)
            assert attached.status().holder is None


def test_a_background_relay_that_waits_for_the_file_ends_when_the_ledger_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    hold = f"import duckdb; held = duckdb.connect({str(path)!r}); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        ledger = SessionLedger.open(f"sqlite:///{tmp_path}/l.db", warehouse=f"duckdb:///{path}", relay="background")
        ledger.create_session("ada", "q")
        (thread,) = (each for each in threading.enumerate() if each.name == "ledger-relay")
        assert ledger.close(drain=0.1) == 2
        assert not thread.is_alive()
        other.communicate(b"\n")

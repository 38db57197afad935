"""The relay in the background: draining, closing, mistakes, and what is said of failures."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import subprocess
import sys
import threading

import pytest

from ledger import SessionLedger, StoreRejected, StoreUnavailable
from ledger.errors import RowsRefused
from ledger.outbox.rows import SEQ
from ledger.relay import ahead
from ledger.relay.background import BackgroundRelay, drain
from ledger.tiers.attached import AttachedWarehouse
from support.relays import Streams, StreamsSink
from support.shipping import URL, Killed, append, relay, rows_of


def test_a_failure_is_kept_for_people_and_the_log(store, caplog):
    append(store, 1)

    def away(name):
        raise StoreUnavailable("BigQuery cannot be reached.")

    with caplog.at_level(logging.WARNING, "ledger.relay"), pytest.raises(StoreUnavailable):
        relay(store, StreamsSink(Streams(), away)).sync()
    status = store.outbox(URL).status()
    assert (status.last_error, status.waiting_rows, status.holder) == ("BigQuery cannot be reached.", 1, None)
    assert [record.error_code for record in caplog.records] == ["store_unavailable"]


def test_the_status_of_a_ledger_that_never_shipped_counts_what_waits(store, clock):
    append(store, 1, 2)
    status = store.outbox(URL).status()
    assert (status.waiting_rows, status.waiting_since, status.shipped_rows) == (2, clock.now, 0)
    assert status.disk_bytes > 0


def test_an_emptied_warehouse_gets_everything_again(store):
    append(store, 1, 2, 3)
    relay(store, StreamsSink(Streams()), lease_seconds=0.0).sync()
    sink = StreamsSink(Streams())
    append(store, 4)
    relay(store, sink).sync()
    assert sink.streams.rows == rows_of(store)


def test_draining_ends_in_time_with_a_whole_batch(store):
    append(store, *range(1, 13))
    seconds = [0.0]

    def slow(name):
        seconds[0] += 0.4 * (name == "sent")

    sink = StreamsSink(Streams(), slow)
    drain(relay(store, sink), 0.7, now=lambda: seconds[0])
    assert sink.streams.rows == rows_of(store)[:8]


def test_the_background_ships_what_is_appended_and_goes_on_after_failures(store):
    streams, failing, shipped = Streams(), [True], threading.Event()

    def step(name):
        if failing and name == "begin":
            failing.clear()
            raise StoreUnavailable("away")
        if name == "sent" and len(streams.rows) == 3:
            shipped.set()

    background = BackgroundRelay(lambda: relay(store, StreamsSink(streams, step)), age=0.01)
    background.start()
    append(store, 1, 2, 3)
    assert shipped.wait(20)
    assert background.close(20)
    assert streams.rows == rows_of(store)
    assert store.outbox(URL).status().holder is None


def test_the_log_of_a_failure_says_when_the_relay_tries_again_and_close_what_had_failed(store, caplog, monkeypatch):
    failed, begun, closed = threading.Event(), threading.Event(), threading.Event()

    def step(name):
        if name == "begin" and not failed.is_set():
            failed.set()
            raise StoreUnavailable("w.duckdb is in use by another process.")
        if name == "begin":
            begun.set()
            assert closed.wait(20)
            raise StoreUnavailable("closed")
        if name == "close":
            closed.set()

    append(store, 1)
    monkeypatch.setattr(AttachedWarehouse, "relay", lambda self: relay(store, StreamsSink(Streams(), step)))
    monkeypatch.setattr(AttachedWarehouse, "outbox", store.outbox(URL))
    attached = AttachedWarehouse(store, "bigquery://project/dataset", background=True)
    attached._background._age = 0.01
    attached.start()
    assert begun.wait(20)
    said = f"The relay to {URL} cannot ship: w.duckdb is in use by another process. It will try again in 1 s."
    assert [record.getMessage() for record in caplog.records] == [said]
    assert attached.close(0.05) == 1
    cut_off = "while the relay was starting, after an attempt that failed: w.duckdb is in use by another process. Ship"
    assert cut_off in caplog.text


def test_closing_the_background_ships_what_waits(store):
    streams = Streams()
    background = BackgroundRelay(lambda: relay(store, StreamsSink(streams)), age=60)
    background.start()
    append(store, 1, 2, 3)
    assert background.close(20)
    assert streams.rows == rows_of(store)


def test_closing_the_background_does_not_wait_for_ever(store):
    stuck, closed = threading.Event(), threading.Event()

    def step(name):
        if name == "send":
            stuck.set()
            assert closed.wait(20)
            raise StoreUnavailable("closed")
        if name == "close":
            closed.set()

    append(store, 1)
    background = BackgroundRelay(lambda: relay(store, StreamsSink(Streams(), step)), age=0.01)
    background.start()
    assert stuck.wait(20)
    assert background.close(0.05)
    assert background.cut_off == "shipping"
    status = store.outbox(URL).status()
    assert (status.waiting_rows, status.last_error, status.holder) == (1, None, None)


def test_what_waits_after_close_is_told_with_what_cut_the_relay_off(store, caplog, monkeypatch):
    begun, closed = threading.Event(), threading.Event()

    def step(name):
        if name == "begin":
            begun.set()
            assert closed.wait(20)
            raise StoreUnavailable("bigquery://project/dataset is closed; open it again.")
        if name == "close":
            closed.set()

    append(store, 1)
    monkeypatch.setattr(AttachedWarehouse, "relay", lambda self: relay(store, StreamsSink(Streams(), step)))
    monkeypatch.setattr(AttachedWarehouse, "outbox", store.outbox(URL))
    attached = AttachedWarehouse(store, "bigquery://project/dataset", background=True)
    attached.start()
    assert begun.wait(20)
    assert attached.close(0.05) == 1
    said = "1 row waits in the ledger for %s: close() ended after 0.05 s while the relay was starting. Ship them with "
    assert said % URL in caplog.text
    assert "is closed" not in caplog.text
    assert store.outbox(URL).status().last_error is None


def test_rows_that_cannot_be_counted_are_not_taken_for_none(tmp_path):
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db") as ledger:
        ledger.create_session("ada", "q")
        attached = AttachedWarehouse(ledger.store, f"duckdb:///{tmp_path}/w.duckdb", background=True)
        (tmp_path / "l.db").rename(tmp_path / "away.db")
        with pytest.raises(StoreRejected, match="was deleted, moved or replaced"):
            attached.close(0)


def test_a_mistake_in_a_warehouse_ends_no_relay_and_is_told_by_its_name_alone(store, caplog):
    streams, failing, shipped = Streams(), [True], threading.Event()

    def step(name):
        if failing and name == "begin":
            failing.clear()
            raise KeyError("secret")
        if name == "sent":
            shipped.set()

    append(store, 1)
    background = BackgroundRelay(lambda: relay(store, StreamsSink(streams, step)), age=0.01)
    background.start()
    assert shipped.wait(20)
    assert background.close(20)
    assert streams.rows == rows_of(store)
    assert store.outbox(URL).status().last_error == "KeyError"
    assert "secret" not in caplog.text


@pytest.mark.parametrize("certain", [True, False])
def test_what_a_warehouse_says_of_values_is_kept_in_the_store_and_not_in_the_log(store, caplog, certain):
    append(store, 1)
    sink = StreamsSink(Streams(), unfit=lambda row: True, named=certain, certain=certain)
    with contextlib.nullcontext() if certain else pytest.raises(RowsRefused):
        relay(store, sink).sync()
    assert [found.reason for found in store.outbox(URL).refused()] == ["unfit" if certain else "Rows are unfit."]
    assert "refused" in caplog.text or not certain
    assert "unfit" not in caplog.text


def test_the_rate_after_a_batch_that_had_arrived_is_of_the_time_that_it_took(store):
    append(store, 1, 2)
    streams, seconds = Streams(), itertools.count(1_000_000)

    def step(name):
        if name == "sent":
            raise Killed

    with pytest.raises(Killed):
        relay(store, StreamsSink(streams, step)).sync()
    assert relay(store, StreamsSink(streams), now=lambda: float(next(seconds))).sync() == 2
    assert store.outbox(URL).status().rows_per_second >= 0.5


def test_where_no_thread_can_be_had_any_more_rows_are_read_one_batch_after_the_other(store, monkeypatch):
    def none_left(*_, **__):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    append(store, *range(1, 10))
    sink = StreamsSink(Streams())
    assert relay(store, sink).sync() == 9
    assert sink.streams.rows == rows_of(store)


def test_a_relay_that_fails_does_not_wait_for_ever_for_a_batch_that_is_being_read(store, monkeypatch):
    monkeypatch.setattr(ahead, "WORK_TIMEOUT", 0.05)
    reading, released, read = threading.Event(), threading.Event(), threading.Event()

    class StuckSink(StreamsSink):
        def pack(self, rows):
            if rows[0][SEQ] > self.batch_rows:
                reading.set()
                released.wait(20)
                read.set()
            return super().pack(rows)

    def fail(name):
        if name == "send":
            assert reading.wait(20)
            raise StoreUnavailable("away")

    append(store, *range(1, 10))
    failed = relay(store, StuckSink(Streams(), fail))
    try:
        with pytest.raises(StoreUnavailable):
            failed.sync()
        failed.close()
        assert not read.is_set()
        (reader,) = [thread for thread in threading.enumerate() if thread.name == "ledger-relay-ahead"]
        assert reader.daemon  # the interpreter does not wait for it either
    finally:
        released.set()
    reader.join()
    sink = StreamsSink(Streams())
    assert relay(store, sink).sync() == 9
    assert sink.streams.rows == rows_of(store)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_ships_by_a_relay_of_its_own_once_the_parents_has_the_lease_no_more(tmp_path):
    program = """
import os, signal, sys, time
from ledger import SessionLedger
from ledger.relay import background

background.AGE = 0.05
path = sys.argv[1]
ledger = SessionLedger.open(f"sqlite:///{path}.db", warehouse=f"duckdb:///{path}.duckdb", relay="background")
ledger.create_session("ada", "q", session_id="s")
while ledger.warehouse.status().waiting_rows:  # until the thread has imported everything
    time.sleep(0.01)
heard, said = os.pipe()
pid = os.fork()
if pid == 0:
    signal.alarm(100)  # ends the child if it hangs
    os.read(heard, 1)
    ledger.add_message("s", "user", "child")
    assert ledger.close(drain=60) == 0, "rows wait"
    os._exit(0)
assert ledger.close(drain=60) == 0, "rows wait"
os.write(said, b"!")
assert os.waitpid(pid, 0)[1] == 0
with SessionLedger.open(f"sqlite:///{path}.db", warehouse=f"duckdb:///{path}.duckdb") as ledger:
    print(ledger.warehouse.query("SELECT COUNT(*) AS n FROM messages").rows)
"""
    command = [sys.executable, "-W", "ignore", "-c", program, str(tmp_path / "l")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stdout) == (0, "[(1,)]\n"), done.stderr

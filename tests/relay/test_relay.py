"""The relay's loop: order, exactly once through crashes at every step, refusals, leases, and what it says of itself."""

from __future__ import annotations

import contextlib
import itertools
import logging
import shutil
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import StoreUnavailable
from ledger.errors import LeaseHeld, StoreRejected, StreamEnded
from ledger.outbox.contract import Batch
from ledger.outbox.rows import SEQ, row_key
from ledger.relay.background import sync_now
from ledger.relay.loop import RESTARTS
from ledger.stores.sqlite.outbox import SqliteOutbox
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import CountedIds, SetClock
from support.relays import Streams, StreamsSink
from support.shipping import URL, Killed, append, relay, rows_of


def test_rows_arrive_in_the_order_of_their_commits_each_once(store):
    append(store, *range(1, 8), changes=2)
    sink = StreamsSink(Streams())
    acknowledged = []
    assert relay(store, sink).sync(progress=acknowledged.append) == 14
    assert sink.streams.rows == rows_of(store)
    assert [len(batch) for batch in sink.sent] == acknowledged == [4, 4, 4, 2]


def test_what_came_since_is_sent_by_the_next_one(store):
    sink = StreamsSink(Streams())
    for numbers in ((1, 2), (), (3,)):
        append(store, *numbers)
        again = relay(store, sink)
        assert again.sync() == len(numbers)
        again.close()
    assert sink.streams.rows == rows_of(store)
    assert sink.asked == 0


def test_each_round_that_sends_rows_says_how_many(store, caplog):
    caplog.set_level(logging.INFO, "ledger.relay")
    sink = StreamsSink(Streams())
    for numbers in ((1, 2), (), (3,)):
        append(store, *numbers)
        with contextlib.closing(relay(store, sink)) as again:
            again.sync()
    said = [record.getMessage() for record in caplog.records if "shipped" in record.getMessage()]
    assert said == [f"2 rows shipped to {URL}.", f"1 row shipped to {URL}."]


def test_an_event_is_never_split(store):
    append(store, 1, changes=3)
    append(store, 2, changes=7)
    append(store, 3, 4)
    sink = StreamsSink(Streams())
    relay(store, sink).sync()
    assert [[row[2] for row in batch] for batch in sink.sent] == [[1] * 3, [2] * 7, [3, 4]]


class Packing(StreamsSink):
    """A sink whose requests take fewer events than it is given."""

    events = 1

    def pack(self, rows):
        taken = list(dict.fromkeys(row[SEQ + 3] for row in rows))[: self.events]
        return super().pack([row for row in rows if row[SEQ + 3] in taken])


@pytest.mark.parametrize("events", [1, 2])
def test_rows_that_a_request_has_no_room_for_are_sent_with_the_next(store, events):
    append(store, *range(1, 7), changes=2)
    sink = Packing(Streams(), unfit=lambda row: row[2] == 5, named=False, batch_rows=8)
    sink.events = events
    assert relay(store, sink).sync() == 10
    assert sink.streams.rows == [row for row in rows_of(store) if row[2] != 5]
    assert {len(batch) for batch in sink.sent} <= {2, 2 * events}
    assert [it.version for it in store.outbox(URL).refused()] == [5]


def test_a_row_in_doubt_is_asked_about_before_it_is_sent(store):
    append(store, 1)
    sink = StreamsSink(Streams())
    sink.streams.rows = rows_of(store)  # and the store does not know
    outbox = store.outbox(URL)
    held = outbox.acquire("here/x/0", 60)
    outbox.save(replace(held, in_doubt_upto=1))
    outbox.release(held)
    one = relay(store, sink)
    assert one.sync() == 0
    assert (outbox.checkpoint().seq, outbox.status().waiting_rows) == (1, 0)
    append(store, 2)
    assert one.sync() == 1
    assert sink.streams.rows == rows_of(store)
    assert sink.asked == 1


def test_rows_that_were_sent_again_when_the_warehouse_was_replaced_arrive_all(store):
    append(store, *range(1, 9))
    sink = StreamsSink(Streams())
    relay(store, sink, lease_seconds=0.0).sync()
    outbox = store.outbox(URL)
    outbox.redrive(dict.fromkeys(range(1, 9), "lost"))
    held = outbox.acquire("here/x/2", 0.0)
    under_way = Batch(8, 4, "digest", redrive=True)
    outbox.save(replace(held, batch=under_way), redriving=[5, 6, 7, 8])
    sink.streams.rows.clear()
    sink.streams.fence += 5
    relay(store, sink, "here/x/3", lease_seconds=0.0).sync()
    assert sink.streams.rows == rows_of(store)
    assert outbox.refused() == []


def test_a_refusal_that_may_not_be_about_the_rows_is_about_them_once_others_have_arrived(store):
    append(store, *range(1, 9))
    sink = StreamsSink(Streams(), unfit=lambda row: row[2] in (6, 9), named=False, certain=False)
    one, outbox = relay(store, sink), store.outbox(URL)
    assert one.sync() == 7
    assert [it.version for it in outbox.refused()] == [6]
    append(store, 9)
    sink._certain = True  # what was doubted before is no doubt about this one
    assert one.sync() == 0
    assert [it.version for it in outbox.refused()] == [6, 9]


def test_a_sink_that_doubts_later_rows_than_were_sent_is_sent_all_of_them(store):
    class Doubting(StreamsSink):
        def recover(self, store_id, checkpoint):
            return replace(super().recover(store_id, checkpoint), in_doubt_after=9)

    append(store, *range(1, 12))
    sink = Doubting(Streams())
    assert relay(store, sink).sync() == 11
    assert sink.streams.rows == rows_of(store)


def test_a_relay_whose_stream_ends_again_and_again_gives_up_and_one_that_gets_on_does_not(store):
    append(store, *range(1, 5 * RESTARTS))
    ended = []

    def end(name):
        if name == "send":
            ended.append(name)
            if not on or len(ended) % 2:
                raise StreamEnded("The stream is over.")

    on = []
    with pytest.raises(StreamEnded):
        relay(store, StreamsSink(Streams(), end), lease_seconds=0.0).sync()
    assert len(ended) == RESTARTS + 1
    on.append(True)
    sink = StreamsSink(Streams(), end, batch_rows=2)
    assert relay(store, sink, lease_seconds=0.0).sync() == 5 * RESTARTS - 1
    assert sink.streams.rows == rows_of(store)
    assert len(ended) > 3 * RESTARTS


def test_what_is_appended_while_it_ships_waits_for_the_next_time(store):
    append(store, *range(1, 10))
    numbers = itertools.count(10)
    shipper = relay(
        store, StreamsSink(streams := Streams(), lambda name: name == "send" and append(store, next(numbers)))
    )
    assert 9 <= shipper.sync() <= 12
    assert shipper.sync() > 0
    assert streams.rows == rows_of(store)[: len(streams.rows)]


STEPS = ("begin", "begun", "send", "sent")


@pytest.mark.parametrize(("step", "at"), [*itertools.product(STEPS, (1, 2, 3))])
@pytest.mark.parametrize("error", [Killed, StoreUnavailable], ids=["killed", "away"])
def test_every_row_arrives_once_wherever_it_was_cut_off(store, step, at, error):
    append(store, *range(1, 12))
    seen = []

    def fail(name):
        seen.append(name)
        if name == step and seen.count(step) == at:
            raise error("at a step")

    streams = Streams()
    for attempt in range(3):
        try:
            relay(store, StreamsSink(streams, fail), f"here/x/{attempt}", lease_seconds=0.0).sync()
        except error:
            append(store, 20 + attempt)
    assert streams.rows == rows_of(store)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_happens_between_store_and_warehouse_each_row_is_there_once(tmp_path_factory, data):
    """Relays of two holders that die or lose the warehouse anywhere, appends in between, older copies restored."""
    folder, clock = tmp_path_factory.mktemp("relay"), SetClock()
    path, streams, numbers, backup = folder / "ledger.db", Streams(), itertools.count(1), None

    def opened():
        return contextlib.closing(SqliteStore(path, clock=clock, ids=CountedIds(next(numbers))))

    def step(name):
        kind = data.draw(st.sampled_from(["on", "on", "on", "killed", "away"]), label=name)
        if kind == "killed":
            raise Killed
        if kind == "away":
            raise StoreUnavailable("away")

    def ship(store, steps):
        sink = StreamsSink(streams, steps, batch_rows=data.draw(st.integers(1, 4)))
        with contextlib.suppress(Killed, StoreUnavailable):
            relay(store, sink, f"here/x/{next(numbers)}", lease_seconds=0.0).sync()

    for _ in range(data.draw(st.integers(1, 8))):
        action = data.draw(st.sampled_from(["append", "append", "ship", "ship", "back up", "restore"]))
        if action == "restore" and backup is not None:
            for file in folder.glob("ledger.db*"):
                file.unlink()
            shutil.copy(backup, path)
        with opened() as store:
            if action == "append":
                append(store, next(numbers), session=f"s{next(numbers)}", changes=data.draw(st.integers(1, 3)))
            elif action == "ship":
                ship(store, step)
            elif action == "back up":
                backup = folder / f"backup-{next(numbers)}.db"
                store.backup(backup)
    with opened() as store:
        ship(store, lambda name: None)
        arrived = [row_key(row) for row in streams.rows]
        assert len(arrived) == len(set(arrived))
        assert {row_key(row) for row in rows_of(store)} <= set(arrived)
        if backup is None:
            assert streams.rows == rows_of(store)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("again", [False, True], ids=["at first", "sent again"])
def test_an_event_that_is_refused_is_put_aside_whole_and_the_rest_goes_on(store, named, again):
    append(store, *range(1, 10), changes=2)
    unfit = {(3, "context", "3.1"), (8, "context", "8.0")}
    sink = StreamsSink(Streams(), unfit=lambda row: (row[2], row[5], row[6]) in unfit, named=named, batch_rows=8)
    one = relay(store, sink)
    assert one.sync() == 14
    outbox = store.outbox(URL)
    if again:
        assert outbox.redrive_event() == 4
        assert one.sync() == 0
    assert sink.streams.rows == [row for row in rows_of(store) if row[2] not in (3, 8)]
    assert [(it.version, it.rows, it.reason, it.redriving) for it in outbox.refused()] == [
        (3, 2, "unfit" if named else "Rows are unfit.", False),
        (8, 2, "unfit" if named else "Rows are unfit.", False),
    ]
    status = outbox.status()
    assert (status.refused_events, status.waiting_rows, status.shipped_rows) == (2, 0, 14)


def test_refused_events_are_sent_again_when_asked_for_one_or_all(store):
    append(store, *range(1, 7))
    bad = [2, 4, 5]
    sink = StreamsSink(Streams(), unfit=lambda row: row[2] in bad)
    one, outbox = relay(store, sink), store.outbox(URL)
    one.sync()
    assert one.sync() == 0, "nobody asked"
    bad.clear()
    assert outbox.redrive_event(outbox.refused()[1].event_id) == 1
    assert outbox.status().waiting_rows == 1
    assert one.sync() == 1
    assert [outbox.redrive_event() for _ in range(2)] == [2, 0]
    append(store, 7)
    assert one.sync() == 3
    assert sink.asked == 3  # each once, before it was sent again
    assert sorted(sink.streams.rows) == rows_of(store)
    assert outbox.refused() == []


def test_of_rows_that_are_sent_again_in_halves_none_is_forgotten_when_that_is_cut_off(store):
    append(store, 1, 2, 3, 4)
    bad, sends = [1, 2, 3, 4], []

    def fail(name):
        if name == "send" and len(bad) == 1:
            sends.append(name)
            if len(sends) == 3:  # the second half, after the first has arrived
                raise Killed

    sink = StreamsSink(Streams(), fail, unfit=lambda row: row[2] in bad, named=False)
    assert relay(store, sink, lease_seconds=0.0).sync() == 0
    bad[:] = [3]
    store.outbox(URL).redrive_event()
    with pytest.raises(Killed):
        relay(store, sink, "here/x/2", lease_seconds=0.0).sync()
    bad.clear()
    relay(store, sink, "here/x/3", lease_seconds=0.0).sync()
    assert sorted(sink.streams.rows) == rows_of(store)


@pytest.mark.parametrize("step", ["send", "sent"])
def test_sending_again_is_cut_off_and_goes_on(store, step):
    append(store, 1, 2, 3)
    bad, armed = [2], []
    sink = StreamsSink(Streams(), unfit=lambda row: row[2] in bad)
    relay(store, sink, lease_seconds=0.0).sync()
    bad.clear()
    store.outbox(URL).redrive_event()

    def fail(name):
        if name == step and not armed:
            armed.append(name)
            raise Killed

    with pytest.raises(Killed):
        relay(store, StreamsSink(sink.streams, fail), "here/x/2", lease_seconds=0.0).sync()
    relay(store, StreamsSink(sink.streams), "here/x/3").sync()
    assert sorted(sink.streams.rows) == rows_of(store)
    assert store.outbox(URL).refused() == []


def test_a_refusal_of_everything_that_names_nothing_stops_the_relay_and_refuses_no_event(store):
    append(store, *range(1, 6))
    broken = [True]
    sink = StreamsSink(Streams(), unfit=lambda row: bool(broken), named=False, certain=False)
    one, outbox = relay(store, sink), store.outbox(URL)
    with pytest.raises(StoreRejected, match="unfit"):
        one.sync()
    assert outbox.status().refused_events == 0
    assert outbox.status().last_error == "Rows are unfit."
    broken.clear()
    one.sync()
    assert sorted(sink.streams.rows) == rows_of(store)
    assert outbox.status().waiting_rows == 0


def test_a_row_that_was_damaged_in_the_store_is_put_aside_and_the_rest_goes_on(store):
    from ledger.errors import CorruptEvent

    append(store, *range(1, 6))

    class Packing(StreamsSink):
        def pack(self, rows):
            if any(row[2] == 3 for row in rows):
                raise CorruptEvent("Row 3 is not as recorded.")
            return super().pack(rows)

    sink = Packing(Streams())
    assert relay(store, sink).sync() == 4
    assert [(it.version, it.reason) for it in store.outbox(URL).refused()] == [(3, "Row 3 is not as recorded.")]


def test_one_relay_ships_and_others_are_told_who_it_is(store, clock):
    append(store, 1)
    streams = Streams()
    first, second = (relay(store, StreamsSink(streams), f"there/7/{name}") for name in "ab")
    first.sync()
    append(store, 2)
    with pytest.raises(LeaseHeld, match="there/7 ships this ledger"):
        second.sync()
    assert store.outbox(URL).status().holder == "there/7"
    clock.move(61)
    assert second.sync() == 1
    append(store, 3)
    with pytest.raises(LeaseHeld):
        first.sync()


def test_a_lease_is_free_when_it_is_given_back_or_its_process_has_died(store):
    import os
    import socket
    import subprocess
    import sys

    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    streams = Streams()
    for number, process in enumerate((gone.pid, os.getpid()), 1):
        append(store, number)
        one = relay(store, StreamsSink(streams), f"{socket.gethostname()}/{process}/x")
        assert one.sync() == 1
    one.close()
    append(store, 3)
    assert relay(store, StreamsSink(streams), "there/1/y").sync() == 1
    assert streams.rows == rows_of(store)


@pytest.mark.parametrize("nth", [1, 2])
def test_a_relay_interrupted_once_the_store_has_recorded_its_lease_releases_it(store, monkeypatch, nth):
    acquire, calls = SqliteOutbox.acquire, []

    def interrupted(outbox, holder, seconds):
        calls.append(acquire(outbox, holder, seconds))
        if len(calls) == nth:
            raise KeyboardInterrupt
        return calls[-1]

    monkeypatch.setattr(SqliteOutbox, "acquire", interrupted)
    append(store, 1)
    with pytest.raises(KeyboardInterrupt):
        relay(store, StreamsSink(Streams()), "there/1/a").sync()
    assert relay(store, StreamsSink(Streams()), "there/2/b").sync() == 1


def test_a_lease_that_was_taken_by_a_clock_that_was_ahead_holds_nobody_off(store, clock):
    append(store, 1)
    clock.now += timedelta(days=400)
    store.outbox(URL).acquire("elsewhere/1/x", 60)
    clock.now -= timedelta(days=400)
    sink = StreamsSink(Streams())
    assert relay(store, sink).sync() == 1


def test_whoever_ships_is_told_before_the_warehouse_is_entered(store):
    class Shut(StreamsSink):
        def __enter__(self):
            raise StoreUnavailable("in use")

    append(store, 1)
    store.outbox(URL).acquire("elsewhere/1/x", 60)
    with pytest.raises(LeaseHeld):
        relay(store, Shut(Streams())).sync()
    assert store.outbox(URL).status().last_error is None


def test_a_relay_that_slept_past_its_lease_sends_nothing_more(store, clock):
    append(store, 1, 2)
    streams, woken = Streams(), []

    def sleep(name):
        if name == "send" and not woken:
            woken.append(name)
            clock.move(120)
            assert relay(store, StreamsSink(streams), "there/2/b").sync() == 2

    with pytest.raises(LeaseHeld):
        relay(store, StreamsSink(streams, sleep), "there/1/a").sync()
    assert streams.rows == rows_of(store)


def test_a_lease_is_kept_alive_while_nothing_happens(store, clock):
    append(store, 1)
    seconds = [0.0]
    one = relay(store, StreamsSink(Streams()), "there/1/a", now=lambda: seconds[0])
    one.sync()
    for _ in range(5):
        clock.move(30)
        seconds[0] += 30
        assert one.sync() == 0
    append(store, 2)
    with pytest.raises(LeaseHeld):
        relay(store, StreamsSink(Streams()), "there/2/b").sync()


def test_whoever_waits_for_another_relay_is_done_when_that_one_is(store):
    append(store, 1, 2, 3)
    streams = Streams()
    first = relay(store, StreamsSink(streams), "there/1/a")
    first.sync()
    append(store, 4)
    second, outbox = relay(store, StreamsSink(streams), "there/2/b"), store.outbox(URL)
    slept = []

    def wait(seconds):
        slept.append(seconds)
        first.sync()

    assert sync_now(second, outbox, timeout=60, sleep=wait) == 0
    assert len(slept) == 1
    append(store, 5)
    with pytest.raises(LeaseHeld):
        sync_now(second, outbox, timeout=0)
    assert streams.rows == rows_of(store)[:4]

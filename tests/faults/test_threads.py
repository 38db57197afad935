"""Threads that share a ledger: one at fault, one interrupted, one that closes it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger import Change, InvalidInput, LedgerError, NewEvent, SessionLedger, StoreRejected, StoreUnavailable
from ledger.clock import new_id, utc_now
from ledger.model.integrity import verify
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import event


def together(*acts: Callable[[], object]) -> list[object]:
    """Run each act in a thread of its own, started at once; what each returned or raised."""
    answers: list[object] = [None] * len(acts)
    start = threading.Barrier(len(acts))

    def run(index: int, act: Callable[[], object]) -> None:
        start.wait()
        try:
            answers[index] = act()
        except BaseException as error:  # noqa: BLE001 - it is the answer
            answers[index] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread waits for ever"
    return answers


def new_event(title: str = "t") -> NewEvent:
    return NewEvent("a.b", [Change("title", value=title)], new_id(utc_now()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db") as ledger:
        ledger.create_session("ada", "q", session_id="s")
    return tmp_path / "l.db"


def test_threads_that_append_at_once_lose_nothing(path):
    store = SqliteStore(path)

    def append() -> list[int]:
        return [store.append("s", new_event()).version for _ in range(40)]

    answers = together(*[append] * 8)
    assert sorted(version for versions in answers for version in versions) == list(range(2, 322))
    assert all(versions == sorted(versions) for versions in answers)
    assert verify(store.events("s")) == 321
    store.close()


def test_an_append_that_is_refused_does_not_hurt_its_group(path):
    store = SqliteStore(path)

    def good() -> list[int]:
        return [store.append("s", new_event()).version for _ in range(30)]

    def bad() -> list[object]:
        refusals = []
        for _ in range(30):
            with pytest.raises(LedgerError) as refused:
                store.append("s", new_event(), expected_version=10**6)
            refusals.append(type(refused.value).__name__)
        return refusals

    answers = together(good, bad, good, bad, good)
    assert sorted(version for versions in answers[::2] for version in versions) == list(range(2, 92))
    assert set(answers[1] + answers[3]) == {"WrongExpectedVersion"}
    store.close()


def test_an_append_that_breaks_breaks_only_for_its_own_thread(path):
    store = SqliteStore(path)

    class Odd(int):
        """A number that breaks when the store compares it."""

        def __eq__(self, other: object) -> bool:
            raise ZeroDivisionError

        __hash__ = int.__hash__

    def bad() -> list[str]:
        names = []
        for _ in range(20):
            with pytest.raises((ZeroDivisionError, InvalidInput)) as refused:
                store.append("s", new_event(), expected_version=Odd(1))
            names.append(refused.type.__name__)
        return names

    def good() -> list[int]:
        return [store.append("s", new_event()).version for _ in range(20)]

    answers = together(good, bad, good, bad)
    assert sorted(version for versions in answers[::2] for version in versions) == list(range(2, 42))
    store.close()


def test_while_another_program_holds_the_file_no_thread_waits_longer_than_it_was_told(path):
    store = SqliteStore(path, wait=0.4)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    def append() -> float:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="nothing was written"):
            store.append("s", new_event())
        return time.monotonic() - began

    waited = together(*[append] * 6)
    other.execute("ROLLBACK")
    other.close()
    assert max(waited) < 2.0
    assert store.append("s", new_event()).version == 2
    store.close()


def test_a_ledger_that_is_closed_under_threads_ends_each_with_a_clear_error_and_keeps_what_it_acknowledged(path):
    for _ in range(5):
        store = SqliteStore(path)
        before = store.state("s")[0].version
        acknowledged: list[int] = []

        def append(store: SqliteStore = store, acknowledged: list[int] = acknowledged) -> None:
            while True:
                acknowledged.append(store.append("s", new_event()).version)

        def read(store: SqliteStore = store) -> None:
            while True:
                store.state("s")
                store.events("s", limit=5)

        def close(store: SqliteStore = store, acknowledged: list[int] = acknowledged) -> None:
            while len(acknowledged) < 20:
                threading.Event().wait(0.001)
            store.close()

        answers = together(append, append, append, read, read, close)
        assert [type(it) for it in answers[:5]] == [StoreRejected] * 5
        assert all("closed" in str(it) for it in answers[:5])
        assert answers[5] is None
        assert not path.with_name("l.db-wal").exists(), "the last to close folds the WAL into the file"
        again = SqliteStore(path)
        assert again.state("s")[0].version >= max(acknowledged)
        assert sorted(acknowledged) == list(range(before + 1, max(acknowledged) + 1))
        again.close()


def test_two_ledgers_on_one_file_in_one_process_take_turns(path):
    one, other = SqliteStore(path), SqliteStore(path)
    answers = together(
        *[
            lambda store=store: [store.append("s", new_event()).version for _ in range(40)]
            for store in (one, other, one, other)
        ]
    )
    assert sorted(version for versions in answers for version in versions) == list(range(2, 162))
    one.close()
    assert other.append("s", new_event()).version == 162
    other.close()
    with SessionLedger.open(f"sqlite:///{path}") as ledger:
        assert verify(ledger.history("s")) == 162


INTERRUPTED = """
import signal, sys, threading
from ledger import Change, NewEvent, StoreError
from ledger.clock import new_id, utc_now
from ledger.stores.sqlite.store import SqliteStore

store = SqliteStore(sys.argv[1], synchronous="NORMAL")
acknowledged, enough = [], threading.Event()

def append():
    done = store.append("s", NewEvent("a.b", [Change("title", value="t")], new_id(utc_now())))
    acknowledged.append(done.version)

def work():
    while not enough.is_set():
        try:
            append()
        except StoreError:
            pass  # told that nothing was written

threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()
interrupts, rounds = 0, int(sys.argv[2])

def strike(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, strike)
while interrupts < rounds:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0002 + (interrupts % 37) * 0.0001)
        while True:
            append()
    except KeyboardInterrupt:
        interrupts += 1
    except StoreError:
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
enough.set()
for thread in threads:
    thread.join(20)
assert not any(thread.is_alive() for thread in threads), "a thread waits for ever"
append()
store.close()
print(len(acknowledged), len(set(acknowledged)), max(acknowledged))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_thread_that_is_interrupted_stops_nobody_else(path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", INTERRUPTED, str(path), "300"], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    count, different, highest = map(int, done.stdout.split())
    assert count == different
    with SessionLedger.open(f"sqlite:///{path}") as ledger:
        events, after = [], 0
        while True:
            page = ledger.history("s", after=after, limit=10_000)
            events += page
            if page.next is None:
                break
            after = int(page.next)
        assert [it.version for it in events] == list(range(1, len(events) + 1))
        assert len(events) >= highest
        assert verify(events) == len(events)
        assert ledger.update_summary("s", "and on").version == len(events) + 1


def test_a_ledger_is_left_in_order_by_a_with_block_that_fails(path):
    def fail() -> None:
        with SessionLedger.open(f"sqlite:///{path}") as ledger:
            ledger.update_summary("s", "kept")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert sorted(it.name for it in path.parent.iterdir() if it.suffix.endswith(("wal", "shm"))) == []
    with SessionLedger.open(f"sqlite:///{path}") as ledger:
        assert ledger.get_session("s").summary == "kept"


def test_one_event_sent_by_many_threads_is_recorded_once(path):
    store = SqliteStore(path)
    answers = together(*[lambda: store.append("s", event(1))] * 10)
    assert {it.version for it in answers} == {2}
    assert sorted(it.replayed for it in answers) == [False] + [True] * 9
    store.close()

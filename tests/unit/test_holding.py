"""What is held for a block is free after it, wherever an exception strikes; every wait has a limit."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from faults.interruption import Interruption, interrupters
from ledger import StoreRejected, StoreUnavailable, holding
from ledger.holding import TimedLock, ending

monitored = pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring")


def nothing():
    """What a call does that only takes the lock."""


def test_one_call_holds_a_lock_at_a_time():
    lock, inside, most = TimedLock("it"), [], []

    def count():
        inside.append(1)
        most.append(len(inside))
        inside.pop()

    def work():
        for _ in range(50):
            lock.call(30, count)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(most), max(most)) == (200, 1)
    assert lock.call(0, lambda: "result") == "result"


def test_a_wait_for_a_lock_ends_with_an_error_that_names_it():
    lock, held, go = TimedLock("the file x"), threading.Event(), threading.Event()

    def hold():
        held.set()
        go.wait(10)

    thread = threading.Thread(target=lock.call, args=(0, hold))
    thread.start()
    held.wait(10)
    with pytest.raises(StoreUnavailable, match="Another thread has used the file x"):
        lock.call(0.01, nothing)
    go.set()
    thread.join()
    lock.call(0, nothing)


def test_a_signal_handler_that_needs_the_lock_of_its_own_thread_is_refused():
    lock = TimedLock("the file x")
    with pytest.raises(StoreRejected, match="signal handler"):
        lock.call(0, lambda: lock.call(60, nothing))
    lock.call(0, nothing)


def test_a_lock_held_for_a_fork_is_refused_to_calls_until_it_is_released():
    lock = TimedLock("the file x")

    def fork():
        assert not lock.hold_for_fork(time.monotonic() + 60)  # this thread's own call: it cannot be waited for
        lock.release_after_fork()
        with pytest.raises(StoreRejected):
            lock.call(0, nothing)

    lock.call(0, fork)
    assert lock.hold_for_fork(0)
    with ThreadPoolExecutor(1) as other, pytest.raises(StoreUnavailable):
        other.submit(lock.call, 0.01, nothing).result()
    lock.release_after_fork()
    lock.release_after_fork()
    lock.call(0, nothing)


@monitored
def test_a_lock_is_free_after_an_interruption_anywhere_however_long_the_exception_is_kept():
    lock, kept = TimedLock("it"), []
    for interrupter in interrupters(holding, contextlib):  # a context manager would be struck in contextlib, too
        try:
            interrupter.run(lambda: lock.call(0, nothing))
        except Interruption as error:
            assert interrupter.struck
            kept.append(error)
        lock.call(0, nothing)


@monitored
def test_a_resource_is_released_after_an_interruption_anywhere():
    for interrupter in interrupters(holding, sys.modules[__name__]):
        held: set[str] = set()

        def release(held: set[str] = held) -> None:
            _check()
            held.discard("it")

        def use(held: set[str] = held, release: Callable[[], None] = release) -> None:
            with ending(release):
                held.add("it")
                _check()

        try:
            interrupter.run(use)
        except Interruption:
            assert interrupter.struck
        assert not held, interrupter.place


def _check() -> None:
    """A place to strike at."""

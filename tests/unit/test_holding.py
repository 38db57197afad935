"""What is held for a block is free after it, wherever an exception strikes; every wait has a limit."""

from __future__ import annotations

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


def test_one_block_holds_a_lock_at_a_time():
    lock, inside, most = TimedLock("it"), [], []

    def work():
        for _ in range(50):
            with lock.held(30):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(most), max(most)) == (200, 1)


def test_a_wait_for_a_lock_ends_with_an_error_that_names_it():
    lock, held, go = TimedLock("the file x"), threading.Event(), threading.Event()

    def hold():
        with lock.held(0):
            held.set()
            go.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    with pytest.raises(StoreUnavailable, match="Another thread has used the file x"), lock.held(0.01):
        pass
    go.set()
    thread.join()
    with lock.held(0):
        pass


def test_a_signal_handler_that_needs_the_lock_of_its_own_thread_is_refused():
    lock = TimedLock("the file x")
    with lock.held(0), pytest.raises(StoreRejected, match="signal handler"), lock.held(60):
        pass


def test_a_lock_held_for_a_fork_is_refused_to_blocks_until_it_is_released():
    lock = TimedLock("the file x")
    with lock.held(0):
        assert not lock.hold_for_fork(time.monotonic() + 60)  # this thread's own block: it cannot be waited for
        lock.release_after_fork()
        with pytest.raises(StoreRejected), lock.held(0):
            pass
    assert lock.hold_for_fork(0)
    with ThreadPoolExecutor(1) as other, pytest.raises(StoreUnavailable):
        other.submit(lambda: lock.held(0.01).__enter__()).result()
    lock.release_after_fork()
    lock.release_after_fork()
    with lock.held(0):
        pass


def test_a_lock_is_free_for_its_thread_while_an_exception_that_struck_as_the_block_began_is_kept():
    lock, kept = TimedLock("it"), []

    def struck():
        kept.append(lock.held(0))
        kept[0].__enter__()  # an exception before the block begins leaves the generator as it is now
        with pytest.raises(StoreRejected), lock.held(0):
            pass

    struck()
    with lock.held(0), pytest.raises(StoreRejected), lock.held(0):
        pass


@monitored
def test_a_lock_is_free_after_an_interruption_anywhere():
    lock = TimedLock("it")

    def use():
        with lock.held(0):
            pass

    for interrupter in interrupters(holding):
        try:
            interrupter.run(use)
        except Interruption:
            assert interrupter.struck
        with lock.held(0):
            pass


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

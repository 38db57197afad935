"""Release of locks and resources even if a signal handler raises an exception at any point.

A signal handler, as for Ctrl-C or a time limit, may raise an exception between any two calls, even in a ``finally``
block. ``with threading.Lock()`` always releases the lock, but may wait forever. ``acquire(timeout=...)`` has a limit,
but an exception between its return and the next ``try`` leaves the lock held forever. ``TimedLock`` has a limit and
always releases the lock. ``ending`` always releases a resource.

``TimedLock`` calls a function and is no context manager. If an exception strikes between the ``yield`` of a context
manager's generator and the block, the generator stays suspended, and what it has acquired held, until the exception is
dropped. That may be late: a notebook keeps the last exception, and one that a variable of its own traceback refers to
lives until the garbage is collected.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ledger.errors import LedgerError, StoreRejected, StoreUnavailable

T = TypeVar("T")
_at_last: list[Callable[[], object]] = []
#: First and longest pause between two attempts, in seconds. Each pause is twice the one before.
_SOONEST, _LATEST = 0.0005, 0.02


@contextmanager
def ending(end: Callable[[], object]) -> Iterator[None]:
    """Context manager that calls ``end`` after its block. Acquire within the block what ``end`` releases.

    If an exception interrupts ``end``, it is called again. The second call must finish what the first left undone.
    """
    try:
        yield
    finally:
        try:
            end()
        except BaseException:
            end()
            raise


def at_last(act: Callable[[], T]) -> Callable[[], T]:
    """Have a function called at the exit of the process, after the functions that other modules register by atexit.

    That holds because this module, which they import, registers its own before them.
    """
    _at_last.append(act)
    return act


@atexit.register
def _act_at_last() -> None:
    for act in _at_last:
        act()


class _Holder:
    """One call that holds the lock, or waits for it."""

    __slots__ = ("done", "thread")

    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.done = False


class TimedLock:
    """A lock that one call holds at a time. Every wait has a limit.

    Args:
        name: What the lock is for, as a subject of messages: "the file ledger.duckdb".
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._guard = threading.Lock()
        self._holder = _Holder(0)
        self._holder.done = True
        self._fork = self._holder  # what holds the lock during a fork

    def call(self, seconds: float, act: Callable[[], T]) -> T:
        """Call ``act`` while this call holds the lock, and return its result.

        Args:
            seconds: Maximum seconds to wait for the lock.
            act: Function without arguments.

        Raises:
            StoreUnavailable: Another thread has held the lock for the whole time.
            StoreRejected: This thread holds the lock already, because a signal handler interrupted its call.
        """
        holder = _Holder(threading.get_ident())
        try:
            self._wait(holder, seconds)
            return act()
        finally:
            holder.done = True  # an assignment: no exception can strike before it

    def hold_for_fork(self, deadline: float) -> bool:
        """Hold the lock until ``release_after_fork``. See ``ledger.forking``, which calls one after the other.

        Args:
            deadline: Time on the monotonic clock until which to wait for the lock.

        Returns:
            False if another thread still holds the lock, or if this thread does and a signal handler forks.
        """
        self._fork = _Holder(threading.get_ident())
        try:
            self._wait(self._fork, max(0.0, deadline - time.monotonic()))
        except LedgerError:
            return False
        return True

    def release_after_fork(self) -> None:
        """Release the lock if ``hold_for_fork`` took it; a second call does nothing."""
        self._fork.done = True

    def _wait(self, holder: _Holder, seconds: float) -> None:
        deadline, pause = time.monotonic() + seconds, _SOONEST
        while not self._take(holder):
            present = self._holder
            if present.thread == holder.thread and not present.done:
                raise StoreRejected(
                    f"This thread uses {self._name} already: a signal handler called the ledger during another call. "
                    "Set a flag or raise in the handler, and make the call afterwards."
                )
            if time.monotonic() >= deadline:
                raise StoreUnavailable(
                    f"Another thread has used {self._name} for more than {seconds:g} s; try again when it is done."
                )
            time.sleep(pause)
            pause = min(2 * pause, _LATEST)

    def _take(self, holder: _Holder) -> bool:
        with self._guard:  # no call is made in the block, so no signal handler runs in it
            if self._holder.done:
                self._holder = holder
        return self._holder is holder

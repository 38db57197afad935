"""Group commit: appends that threads make at the same time share one transaction and one sync to disk.

Threads queue. The thread at the head of the queue is the **leader**: it runs the work of all threads in the queue in
one transaction, removes that group from the queue, and wakes its threads. The next thread at the head is its
**successor**, the next leader. The others are **waiters**::

              the queue is empty                        the leader has finished
    append ------------------------> leader <------------------------------ successor
      |                                | commits the group                      ^
      | there is a leader              | and leaves the queue                   | the head of the queue
      |                                v                                        |
      '-----------> waiter --------> done                                       |
                      |   its work was in the leader's group                    |
                      '---------------------------------------------------------'

The queue alone determines the leader, so no other state can contradict it. A waiter blocks on its *gate*, a lock that
is opened when the waiter's work is done or the waiter is at the head of the queue. Two rules keep an interruption (an
exception raised by a signal handler, as for Ctrl-C and time limits) from leaving a thread blocked forever:

* Opening a gate twice, or the gate of a thread that no longer waits, does nothing. So ``_finish`` may run again from
  its start after an interruption, and no step has to know how far the interrupted run came.
* A job that did not run stays in the queue. If a leader is interrupted, its successor runs the remaining jobs.

If a signal handler appends or closes the store during an append of its own thread, the call is refused. The append
cannot continue until the handler returns, so the handler must not wait for the append.

The waiters of a group are woken in a chain: the leader wakes the first, and each waiter wakes the next. If the leader
woke all at once, they would compete with the successor for the interpreter's lock.

There is no writer thread, because it takes two thread switches to pass an append to another thread and the result
back. The alternative was measured: a thread that owns the connection and reads a ``queue.SimpleQueue``. With it, an
append by one thread took 1.1 to 1.4 times as long with synchronous=FULL, and 1.3 to 2.7 times with NORMAL (2.7 times
on an idle machine). The appends of 8 threads took 1.1 to 1.3 times as long, or the same time on a busy machine.
Without the chain, the appends of 8 threads took up to 1.2 times as long. ``benchmarks/group_commit.py`` measures all
three designs.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice, pairwise
from threading import get_ident
from typing import Any, Generic, TypeVar, cast

from ledger.errors import LedgerError, OutcomeUnknown, StoreRejected
from ledger.stores.sqlite.writer_lock import FairFileLock

T = TypeVar("T")
#: Maximum number of jobs in one transaction. Larger groups would delay readers of the log without saving syncs.
MAX_GROUP = 128
#: Seconds that a leader waits for the threads of the last group to append again; about as long as a sync to disk.
LINGER = 0.0004


class _Job(Generic[T]):
    """A unit of work in the queue, and its outcome.

    Attributes:
        work: Called with the connection, in a transaction. None if the thread only needs to be the leader.
        result, error: What the work returned or raised.
        done: True once the work is committed or refused.
        gate: The lock that the thread blocks on. None if it does not wait.
        next: The waiter that this job's thread wakes.
    """

    __slots__ = ("done", "error", "gate", "next", "result", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], T] | None) -> None:
        self.work = work
        self.result: T | None = None
        self.error: BaseException | None = None
        self.done = False
        self.gate: threading.Lock | None = None
        self.next: _Job[Any] | None = None

    def finish(self, error: BaseException | None = None) -> None:
        self.error = error
        self.done = True


class CommitGroup:
    """Queue that runs the work of many threads on one connection, one group of threads in each transaction.

    The work of each thread is committed whole or not at all.

    Args:
        connection: The writing connection, in autocommit mode. No other code writes on it.
        file_lock: The lock shared with other processes, held for one group at a time.
        wait: Seconds to wait for other processes.
        translate: Function that converts an error of ``sqlite3`` to a LedgerError.
        check: Function that raises a LedgerError if nothing may be written now.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        file_lock: FairFileLock,
        wait: float,
        translate: Callable[[sqlite3.Error], LedgerError],
        check: Callable[[], None],
    ) -> None:
        self.connection = connection
        self._check = check
        self._file_lock = file_lock
        self._wait = wait
        self._translate = translate
        self._mutex = threading.Lock()  # guards changes of the queue
        self._queue: deque[_Job[Any]] = deque()  # the leader's job is the first
        self._inside: set[int] = set()  # threads that lead or wait
        self._stopped = False
        self._pause: _Job[None] | None = None  # at the head of the queue during a pause
        self._last_size = 1
        self._gathered = threading.Lock()  # opened when the queue is as long as the last group was

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in a transaction and return its result once it is durable.

        ``work`` should raise a LedgerError only before its first write. If it raises one later, the whole group is
        rolled back. If the group has several jobs, each then runs again in a transaction of its own.

        Raises:
            LedgerError: ``work`` raised it, or SQLite raised an error, which is translated.
            OutcomeUnknown: The disk failed during the commit.
            StoreRejected: This thread leads or waits already, because a signal handler called this during an append.
        """
        thread = get_ident()
        if thread in self._inside:
            raise _reentered()
        job = _Job(work)
        group: list[_Job[Any]] = [job]
        try:
            self._inside.add(thread)
            gate = self._enqueue(job)
            if gate is not None:
                gate.acquire()
            if job.done:
                _wake(job.next)
            else:
                self._lead(group)
        except BaseException:
            self._finish(group)
            raise
        finally:
            self._inside.discard(thread)
        if job.error is not None:
            raise job.error
        return cast(T, job.result)

    def stop(self) -> None:
        """Wait until the work in the queue is done, and refuse later work.

        Raises:
            StoreRejected: A signal handler called this during an append, which cannot continue until this returns.
        """
        if get_ident() in self._inside:
            raise _reentered()
        self._stopped = True
        job: _Job[None] = _Job(None)
        try:
            self._hold(job, -1)
            self._release(job)
        except BaseException:
            self._release(job)
            raise

    def pause(self) -> bool:
        """Block all writes until ``resume``, and return True.

        Return False, and block nothing, if writes in progress took too long or this thread is in an append itself.
        """
        if get_ident() in self._inside:
            return False
        self._pause = _Job(None)
        if self._hold(self._pause, self._wait):
            return True
        self.resume()
        return False

    def resume(self) -> None:
        """End a ``pause``."""
        if self._pause is not None:
            try:
                self._release(self._pause)
            except BaseException:
                self._release(self._pause)
                raise
            self._pause = None

    def _hold(self, job: _Job[None], timeout: float) -> bool:
        """Become the leader until ``_release``. Return False if that takes longer than ``timeout`` seconds."""
        self._inside.add(get_ident())
        gate = self._enqueue(job)
        return gate is None or gate.acquire(timeout=timeout)

    def _release(self, job: _Job[None]) -> None:
        """Make the successor the leader. May be called again after an interruption."""
        self._finish([job])
        self._inside.discard(get_ident())

    # An interruption may occur after any call below. No loop is inside a try or with block: CPython 3.13.0 excludes the
    # jump at the loop's end from the block, and an interruption there skips the block's exit.

    def _enqueue(self, job: _Job[Any]) -> threading.Lock | None:
        """Add ``job`` to the queue. Return the gate to wait at, or None if the thread leads."""
        with self._mutex:
            if self._stopped and job.work is not None:
                raise self._translate(sqlite3.ProgrammingError("Cannot operate on a closed database."))
            if self._queue:
                job.gate = threading.Lock()
                job.gate.acquire()
            self._queue.append(job)
            if len(self._queue) >= self._last_size:
                _open(self._gathered)
            return job.gate

    def _lead(self, group: list[_Job[Any]]) -> None:
        """Add the waiters' jobs to ``group``, which so far holds only the leader's job. Then commit the group."""
        if self._last_size > 1:
            self._linger()
        if len(self._queue) > 1:
            with self._mutex:
                self._gather(group)
        self._last_size = len(group)
        self._commit(group)
        self._finish(group)

    def _linger(self) -> None:
        """Wait briefly for the threads of the last group. Each thread that joins this group saves a sync to disk."""
        self._gathered.acquire(blocking=False)
        if len(self._queue) < self._last_size:
            self._gathered.acquire(timeout=LINGER)

    def _gather(self, group: list[_Job[Any]]) -> None:
        for job in islice(self._queue, 1, MAX_GROUP):
            if job.work is None:  # its thread must lead once all earlier jobs are done
                break
            group.append(job)

    def _finish(self, group: Sequence[_Job[Any]]) -> None:
        """Remove the thread's own job, the first in ``group``, and the other finished jobs from the queue.

        Then make the thread at the head of the queue the leader, and wake the waiters whose jobs are done. May be
        called again after an interruption.
        """
        own = group[0]
        own.gate = None
        done = group if len(group) == 1 else _chain(group)
        with self._mutex:
            self._remove(done)
            if self._queue:
                _open(self._queue[0].gate)
        _wake(own.next)

    def _remove(self, jobs: Sequence[_Job[Any]]) -> None:
        for job in jobs:
            if self._queue and self._queue[0] is job:
                self._queue.popleft()
            elif job in self._queue:
                self._queue.remove(job)

    def _commit(self, group: list[_Job[Any]]) -> None:
        """Run the jobs of a group while this process holds the file lock; afterwards every job is done."""
        try:
            self._file_lock.acquire(self._wait)
            self._check()
            self._run_together(group)
        except LedgerError as error:
            if group[0].done:  # a signal handler raised it after the commit
                raise
            _refuse(group, error)
        finally:
            self._file_lock.release()

    def _run_together(self, jobs: list[_Job[Any]]) -> None:
        """Run jobs in one transaction. If it fails, run each in its own. If the database is busy, refuse all jobs."""
        try:
            _transact(self.connection, jobs)
        except Exception as error:
            if jobs[0].done:  # a signal handler raised it after the commit
                raise
            if len(jobs) == 1 or _is_busy(error):  # if one is busy, all are; each attempt would wait again
                _refuse(jobs, self._translate(error) if isinstance(error, sqlite3.Error) else error)
                return
            self._run_alone(jobs)
            if not isinstance(error, sqlite3.Error) and all(job.error is None for job in jobs):
                raise  # no job raised it, so a signal handler did

    def _run_alone(self, jobs: list[_Job[Any]]) -> None:
        for job in jobs:
            if not job.done:
                self._run_together([job])


def _transact(connection: sqlite3.Connection, jobs: list[_Job[Any]]) -> None:
    """Run jobs in one transaction and commit it."""
    committing = False
    try:
        if connection.in_transaction:  # an interruption occurred during the last rollback
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        _perform(connection, jobs)
        committing = True
        connection.execute("COMMIT")
        _mark_done(jobs)
    except BaseException as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        elif committing and not isinstance(error, sqlite3.Error):  # interrupted after the commit
            _mark_done(jobs)
            raise
        if not (committing and _is_io_error(error)):
            raise
        _refuse(jobs, OutcomeUnknown(f"The disk failed during the commit ({error}); append again."))


def _perform(connection: sqlite3.Connection, jobs: list[_Job[Any]]) -> None:
    for job in jobs:
        changes = connection.total_changes
        try:
            job.result = job.work and job.work(connection)
            job.error = None
        except LedgerError as error:
            if connection.total_changes != changes:  # a signal handler raised it during the work
                raise
            job.error = error


def _reentered() -> StoreRejected:
    """Return the error for a signal handler that appends or closes during an append of its own thread."""
    return StoreRejected(
        "This thread is recording already: a signal handler called the ledger during an append; nothing was written. "
        "Set a flag or raise in the handler, and record afterwards."
    )


def _mark_done(jobs: list[_Job[Any]]) -> None:
    for job in jobs:
        job.done = True


def _refuse(jobs: list[_Job[Any]], error: BaseException) -> None:
    for job in jobs:
        if not job.done:
            job.finish(error)


def _chain(group: Sequence[_Job[Any]]) -> list[_Job[Any]]:
    """Return the first job and those of the others that are done, and set each to wake the next."""
    done = [group[0], *(job for job in group[1:] if job.done)]
    for job, following in pairwise(done):
        job.next = following
    return done


def _wake(job: _Job[Any] | None) -> None:
    """Wake the first thread of a chain that still waits; that thread wakes the next."""
    while job is not None and job.gate is None:
        job = job.next
    if job is not None:
        _open(job.gate)


def _open(gate: threading.Lock | None) -> None:
    """Open a gate; does nothing if it is open."""
    if gate is not None and gate.locked():
        try:
            gate.release()
        except RuntimeError:  # another thread opened it just now
            return


def _is_busy(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _is_io_error(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF == sqlite3.SQLITE_IOERR

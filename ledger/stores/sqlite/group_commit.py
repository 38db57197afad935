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
from contextlib import suppress
from itertools import islice
from threading import get_ident
from typing import Any, TypeVar, cast

from ledger.errors import LedgerError, OutcomeUnknown, StoreRejected, StoreUnavailable
from ledger.holding import ending
from ledger.stores.sqlite.commit_jobs import Job, chain, is_busy, open_gate, refuse, transact, wake
from ledger.stores.sqlite.writer_lock import FairFileLock

T = TypeVar("T")
#: Maximum number of jobs in one transaction. Larger groups would delay readers of the log without saving syncs.
MAX_GROUP = 128
#: Seconds that a leader waits for the threads of the last group to append again; about as long as a sync to disk.
LINGER = 0.0004


class CommitGroup:
    """Queue that runs the work of many threads on one connection, one group of threads in each transaction.

    The work of each thread is committed whole or not at all.

    Args:
        connection: The writing connection, in autocommit mode. No other code writes on it.
        file_lock: The lock shared with other processes, held for one group at a time.
        wait: Seconds to wait for other processes.
        translate: Function that converts an error of ``sqlite3`` to a LedgerError.
        check: Function called before each group. It raises a LedgerError if nothing may be written now, and may
            replace ``connection``.
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
        self._patience = 4 * wait + 60  # seconds that a thread waits for the others of this process
        self._translate = translate
        self._mutex = threading.Lock()  # guards changes of the queue
        self._queue: deque[Job[Any]] = deque()  # the leader's job is the first
        self._inside: set[int] = set()  # threads that lead or wait
        self._stopped = False
        self._pause: Job[None] | None = None  # at the head of the queue during a pause
        self._is_interrupting = False  # True if a pause has waited for long
        self._refusal: Callable[[], LedgerError] | None = None  # why a child that was forked may not write
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
            StoreUnavailable: The appends before this one did not end in time.
        """
        thread = get_ident()
        if thread in self._inside:
            raise _reentered()
        job = Job(work, thread)
        group: list[Job[Any]] = [job]
        try:
            self._inside.add(thread)
            gate = self._enqueue(job)
            if gate is not None and not gate.acquire(timeout=self._patience):
                self._give_up(job)
            if job.done:
                wake(job.next)
            else:
                self._lead(group)
        except BaseException as error:
            self._finish(group)
            if self._refusal is not None and isinstance(error, Exception):
                raise self._refusal() from error  # this is the child, and the parent goes on with the work
            raise
        finally:
            self._inside.discard(thread)
        if job.error is not None:
            raise job.error
        return cast(T, job.result)

    def stop(self, then: Callable[[], object] = lambda: None) -> None:
        """Wait until the work in the queue is done, refuse later work, and call ``then``, which closes the connection.

        Raises:
            StoreRejected: A signal handler called this during an append, which cannot continue until this returns.
            StoreUnavailable: The work in the queue was not done in time; call this again.
        """
        thread = get_ident()
        if thread in self._inside:
            raise _reentered()
        self._stopped = True
        job: Job[None] = Job(None, thread)
        with ending(lambda: self._release(job)):
            if not self._hold(job, self._patience):
                raise StoreUnavailable("Appends in progress did not end in time; close the ledger again.")
            then()

    def pause(self, timeout: float) -> bool:
        """Block all writes until ``resume``, and return True.

        Return False, and block nothing, if writes in progress took longer than ``timeout`` seconds or this thread is in
        an append itself. Writes that took half of that time are interrupted: their callers get StoreUnavailable.
        """
        thread = get_ident()
        if thread in self._inside:
            return False
        self._pause = Job(None, thread)
        if self._hold(self._pause, timeout / 2):
            return True
        self._is_interrupting = True
        with suppress(sqlite3.ProgrammingError):  # it is closed: the leader waits for another process
            self.connection.interrupt()
        gate = self._pause.gate
        if gate is None or gate.acquire(timeout=timeout / 2):
            return True
        self.resume()
        return False

    def resume(self) -> None:
        """Allow writes again after ``pause``."""
        self._is_interrupting = False
        pause = self._pause
        if pause is not None:
            with ending(lambda: self._release(pause)):
                pass
            self._pause = None

    def is_suspended(self) -> bool:
        """Return True if this thread is in an append or close, which a signal handler interrupted to make this call."""
        return get_ident() in self._inside

    def abandon(self, refusal: Callable[[], LedgerError]) -> bool:
        """Refuse all work in a child that was forked while the connection was in use; see ``SqliteStore``.

        Return True if this thread is the leader, which a signal handler has suspended.
        """
        queue, thread = list(self._queue), get_ident()
        self._refusal = refusal
        self._stopped = True
        self._mutex = threading.Lock()
        for job in queue:
            if not job.done:
                job.finish(refusal())
            open_gate(job.gate)
        return bool(queue) and queue[0].thread == thread

    def _hold(self, job: Job[None], timeout: float) -> bool:
        """Become the leader until ``_release``. Return False if that takes longer than ``timeout`` seconds."""
        self._inside.add(job.thread)
        gate = self._enqueue(job)
        return gate is None or gate.acquire(timeout=timeout)

    def _give_up(self, job: Job[Any]) -> None:
        """Raise the error for a job that waited too long for earlier appends. Do nothing if the job is done by now."""
        with self._mutex:
            if not job.done and not job.is_taken and job is not self._queue[0]:
                self._queue.remove(job)
                raise StoreUnavailable(
                    "The appends before this one did not end in time; nothing was written. Try again."
                )
        if job.is_taken and not job.done:
            raise OutcomeUnknown("The thread that records for this one does not go on, so its outcome is not known.")

    def _release(self, job: Job[None]) -> None:
        """Make the successor the leader. May be called again after an interruption."""
        self._finish([job])
        self._inside.discard(job.thread)

    # An interruption may occur after any call below. No loop is inside a try or with block: CPython 3.13.0 excludes the
    # jump at the loop's end from the block, and an interruption there skips the block's exit.

    def _enqueue(self, job: Job[Any]) -> threading.Lock | None:
        """Add ``job`` to the queue. Return the gate to wait at, or None if the thread leads."""
        with self._mutex:
            if self._stopped and job.work is not None:
                raise self._translate(sqlite3.ProgrammingError("Cannot operate on a closed database."))
            if self._queue:
                job.gate = threading.Lock()
                job.gate.acquire()
            self._queue.append(job)
            if len(self._queue) >= self._last_size:
                open_gate(self._gathered)
            return job.gate

    def _lead(self, group: list[Job[Any]]) -> None:
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

    def _gather(self, group: list[Job[Any]]) -> None:
        for job in islice(self._queue, 1, MAX_GROUP):
            if job.work is None:  # its thread must lead once all earlier jobs are done
                break
            job.is_taken = True
            group.append(job)

    def _finish(self, group: Sequence[Job[Any]]) -> None:
        """Remove the thread's own job, the first in ``group``, and the other finished jobs from the queue.

        Then make the thread at the head of the queue the leader, and wake the waiters whose jobs are done. May be
        called again after an interruption.
        """
        own = group[0]
        own.gate = None
        done = group if len(group) == 1 else chain(group)
        with self._mutex:
            self._remove(done)
            if self._queue:
                open_gate(self._queue[0].gate)
        wake(own.next)

    def _remove(self, jobs: Sequence[Job[Any]]) -> None:
        for job in jobs:
            if self._queue and self._queue[0] is job:
                self._queue.popleft()
            elif job in self._queue:
                self._queue.remove(job)

    def _commit(self, group: list[Job[Any]]) -> None:
        """Run the jobs of a group while this process holds the file lock; afterwards every job is done."""
        try:
            self._file_lock.acquire(self._wait, lambda: self._is_interrupting)
            self._check()
            self._run_together(group)
        except LedgerError as error:
            if group[0].done:  # a signal handler raised it after the commit
                raise
            refuse(group, error)
        finally:
            self._file_lock.release()

    def _run_together(self, jobs: list[Job[Any]]) -> None:
        """Run jobs in one transaction. If it fails, run each in its own. If the database is busy, refuse all jobs."""
        try:
            transact(self.connection, jobs)
        except Exception as error:
            if jobs[0].done:  # a signal handler raised it after the commit
                raise
            if len(jobs) == 1 or is_busy(error):  # if one is busy or interrupted, all are; each would wait again
                refuse(jobs, self._translate(error) if isinstance(error, sqlite3.Error) else error)
                return
            self._run_alone(jobs)
            if not isinstance(error, sqlite3.Error) and all(job.error is None for job in jobs):
                raise  # no job raised it, so a signal handler did

    def _run_alone(self, jobs: list[Job[Any]]) -> None:
        for job in jobs:
            if not job.done:
                self._run_together([job])


def _reentered() -> StoreRejected:
    """Return the error for a signal handler that appends or closes during an append of its own thread."""
    return StoreRejected(
        "This thread is recording already: a signal handler called the ledger during an append; nothing was written. "
        "Set a flag or raise in the handler, and record afterwards."
    )

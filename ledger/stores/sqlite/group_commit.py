"""Group commit: the appends that threads ask for at the same time share one transaction and one sync to disk.

Whichever thread has the lead runs everything that waits, its own work and that of others. Processes take turns (see
``ledger.stores.sqlite.writer_lock``), one commit group each.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast

from ledger.errors import LedgerError, OutcomeUnknown, StoreUnavailable
from ledger.stores.sqlite.writer_lock import TurnFile

T = TypeVar("T")
#: Pieces of work in one transaction; more would hold up readers of the log without saving syncs.
MAX_GROUP = 128
#: Seconds to wait for threads that have just appended; about a sync to disk.
LINGER = 0.0004


def let_go(lock: threading.RLock) -> None:
    """Release a lock that an interruption left held: CPython does not see every block to its end."""
    with suppress(RuntimeError):  # no longer this thread's
        _release_all(lock)


def _release_all(lock: threading.RLock) -> None:
    while True:
        lock.release()


class _Job(Generic[T]):
    __slots__ = ("done", "error", "gate", "gone", "heir", "leads", "result", "sleepers", "woken", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], T]) -> None:
        self.work = work
        self.result: T | None = None
        self.error: BaseException | None = None
        self.done = False
        self.leads = False  # its thread has the lead
        self.gate: threading.Lock | None = None  # its thread waits here
        self.woken = False  # the gate was opened
        self.heir: _Job[Any] | None = None  # to whom its thread handed the lead
        self.gone = False  # its thread was interrupted and no longer waits
        self.sleepers: deque[_Job[Any]] | None = None  # whom its thread is to wake, one after the other

    def finish(self, error: BaseException | None = None) -> None:
        self.error = error
        self.done = True


class CommitGroup:
    """Runs pieces of work on one connection, each whole or not at all, as many as wait in one transaction.

    One thread leads at a time: it runs what waits, hands the lead to the first that came meanwhile, and lets those
    whose work it did go. They wake one another in a chain: woken all at once they would only queue for the interpreter.

    Args:
        connection: The only one that writes, in autocommit mode.
        turn: The lock file shared with other processes.
        wait: Seconds to wait for other processes.
        translate: Makes a ledger error of a driver's.
        check: Raises a LedgerError where nothing may be written now.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        turn: TurnFile,
        wait: float,
        translate: Callable[[sqlite3.Error], LedgerError],
        check: Callable[[], None],
    ) -> None:
        self.connection = connection
        self._check = check
        self._turn_file = turn
        self._wait = wait
        self._translate = translate
        self._mutex = threading.RLock()  # guards all below, for a few instructions at a time
        self._idle = threading.Condition(self._mutex)
        self._waiting: deque[_Job[Any]] = deque()
        self._led = False
        self._stopped = False
        self._watched = False  # somebody waits, or has waited, for the lead to be free
        self._pause: _Job[None] = _Job(lambda _: None)  # holds the lead during a pause
        self._last_size = 1
        self._missing = 0  # how many the lingering leader still hopes for
        self._gathered = threading.Lock()  # opened when they are all there
        self._gathered.acquire()

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in a transaction and return its result once that is durable.

        Work that raises a LedgerError must not have written anything by then.

        Raises:
            LedgerError: What ``work`` raised, or what the database refused.
            OutcomeUnknown: The disk failed while the transaction was being committed.
        """
        job = _Job(work)
        try:
            self._enter(job)
            if job.gate is not None:
                job.gate.acquire()  # opened when the work is done, or to hand over the lead
                if job.sleepers:
                    self._wake_next(job.sleepers)
            if job.leads:
                self._lead(job)
        except BaseException:
            let_go(self._mutex)
            self._withdraw(job)
            raise
        if job.error is not None:
            raise job.error
        return cast(T, job.result)

    def stop(self) -> None:
        """Let the work that waits finish; what comes later is refused as after closing."""
        with self._idle:
            self._stopped = self._watched = True
            self._idle.wait_for(lambda: not self._led)

    def pause(self) -> bool:
        """Take the lead from all threads until ``resume``; False where it could not be had in time."""
        with self._idle:
            self._watched = True
            if self._idle.wait_for(lambda: not self._led, self._wait):
                self._pause = _Job(lambda _: None)
                self._led = self._pause.leads = True
            return self._pause.leads

    def resume(self) -> None:
        """Let the threads go on after ``pause``."""
        if self._pause.leads:
            self._hand_over(self._pause)

    def _enter(self, job: _Job[Any]) -> None:
        """Take the lead where nobody has it, else wait in line."""
        with self._mutex:
            if self._stopped:
                raise self._translate(sqlite3.ProgrammingError("Cannot operate on a closed database."))
            if not self._led:
                self._led = job.leads = True
                return
            job.gate = threading.Lock()
            job.gate.acquire()
            self._waiting.append(job)
            if self._missing > 0:
                self._missing -= 1
                if self._missing == 0:
                    _open(self._gathered)

    def _lead(self, own: _Job[Any]) -> None:
        """Commit ``own`` and what waits, then hand over the lead."""
        group = [own]
        try:
            if self._last_size > 1:
                self._linger()
            self._last_size = 1
            if self._waiting:
                with self._mutex:
                    self._gather(group)
            self._commit(group)
        finally:
            try:
                self._finish(own, group)
            except BaseException:  # struck in here: what the others wait for is done all the same
                self._finish(own, group)
                raise

    def _finish(self, own: _Job[Any], group: list[_Job[Any]]) -> None:
        """Give up the lead and let the group go; may be called again where it was interrupted."""
        self._hand_over(own)
        self._abandon(group)
        if len(group) > 1:
            sleepers = deque(group[1:])
            for job in sleepers:
                job.sleepers = sleepers
            self._wake_next(sleepers)

    def _linger(self) -> None:
        """Where several appended together just now, give them a moment to be back: it saves a whole sync to disk."""
        with self._mutex:
            self._missing = max(0, self._last_size - 1 - len(self._waiting))
            hope = self._missing > 0
        if hope and not self._gathered.acquire(timeout=LINGER):
            with self._mutex:
                if self._missing == 0:  # the last one came just now
                    self._gathered.acquire(blocking=False)
                self._missing = 0

    # A signal may strike at any call below, and what it broke off is begun again: marks are set without a call between
    # them, gates are opened after that, and opening one twice is harmless. Loops stand outside of try and with: CPython
    # 3.13.0 leaves the jump at a loop's end out of the block around it; a signal there skips what the block ends with.

    def _gather(self, group: list[_Job[Any]]) -> None:
        while self._waiting and len(group) < MAX_GROUP:
            group.append(self._waiting[0])  # in the group before it is out of the line
            del self._waiting[0]
        self._last_size = len(group)

    def _hand_over(self, job: _Job[Any]) -> None:
        """Give the lead, where ``job`` has it, to the first in line."""
        with self._mutex:
            if job.leads:
                self._missing = 0
                self._skip_done()
                if self._waiting:
                    heir = self._waiting[0]
                    job.leads, job.heir = False, heir
                    heir.leads = heir.woken = True
                    del self._waiting[0]
                else:
                    if self._watched:
                        self._idle.notify_all()  # they look when the mutex is free
                    self._led = job.leads = False
            if job.heir is not None:
                _open(job.heir.gate)

    def _skip_done(self) -> None:
        while self._waiting and self._waiting[0].done:
            del self._waiting[0]

    def _wake_next(self, sleepers: deque[_Job[Any]]) -> None:
        with self._mutex:
            _wake_first(sleepers)

    def _withdraw(self, job: _Job[Any]) -> None:
        """Take a job whose thread was interrupted out of everything, and do what others expect of that thread."""
        with self._mutex:
            job.gone = True
            if job in self._waiting:
                self._waiting.remove(job)
        self._hand_over(job)
        if job.woken and job.sleepers:
            self._wake_next(job.sleepers)

    def _commit(self, jobs: list[_Job[Any]]) -> None:
        """Run jobs when it is this process's turn; afterwards each is done."""
        try:
            self._turn_file.acquire(self._wait)
        except LedgerError as error:
            return self._abandon(jobs, error)
        try:
            self._check()
            self._try(jobs)
        except LedgerError as error:
            self._abandon(jobs, error)
        finally:
            self._turn_file.release()

    def _try(self, jobs: list[_Job[Any]]) -> None:
        """Run jobs together; where that fails, one of them may be at fault, so each then stands for itself."""
        try:
            self._transact(jobs)
        except Exception as error:  # noqa: BLE001 - it belongs to a job, whose thread raises it
            if len(jobs) == 1 or _is_busy(error):  # busy for one is busy for all, and each try waits as long again
                for job in jobs:
                    job.finish(self._translate(error) if isinstance(error, sqlite3.Error) else error)
            else:
                for job in jobs:
                    self._try([job])

    def _transact(self, jobs: list[_Job[Any]]) -> None:
        connection = self.connection
        committing = False
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._perform(jobs)
            committing = True
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            elif committing and not isinstance(error, sqlite3.Error):
                for job in jobs:  # interrupted just after the commit went through
                    job.done = True
                raise
            if committing and _is_io_error(error):
                for job in jobs:
                    job.finish(OutcomeUnknown(f"The disk failed during the commit ({error}); append again."))
                return
            raise
        for job in jobs:
            job.done = True

    def _perform(self, jobs: list[_Job[Any]]) -> None:
        for job in jobs:
            try:
                job.result = job.work(self.connection)
                job.error = None
            except LedgerError as error:
                job.error = error

    def _abandon(self, jobs: list[_Job[Any]], error: LedgerError | None = None) -> None:
        """Finish the jobs that did not run."""
        for job in jobs:
            if not job.done:
                job.finish(error or StoreUnavailable("The append was interrupted; nothing was written. Try again."))


def _wake_first(sleepers: deque[_Job[Any]]) -> None:
    while sleepers:
        job = sleepers[0]
        first = not (job.woken or job.gone)
        job.woken = True
        _open(job.gate)
        del sleepers[0]
        if first:
            break


def _open(gate: threading.Lock | None) -> None:
    if gate is not None and gate.locked():
        gate.release()


def _is_busy(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _is_io_error(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF == sqlite3.SQLITE_IOERR

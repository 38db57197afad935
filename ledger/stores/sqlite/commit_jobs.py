"""The jobs of a group commit, with their transaction, outcome and gates. ``group_commit.py`` defines these terms."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Generic, TypeVar

from ledger.errors import LedgerError, OutcomeUnknown

T = TypeVar("T")


class Job(Generic[T]):
    """A unit of work in the queue, and its outcome.

    Attributes:
        work: Called with the connection, in a transaction. None if the thread only needs to be the leader.
        result, error: What the work returned or raised.
        done: True once the work is committed or refused.
        gate: The lock that the thread blocks on. None if it does not wait.
        next: The waiter that this job's thread wakes.
        is_taken: True once a leader has taken the job into its group.
        thread: The thread that waits for the outcome.
    """

    __slots__ = ("done", "error", "gate", "is_taken", "next", "result", "thread", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], T] | None, thread: int) -> None:
        self.work = work
        self.thread = thread
        self.result: T | None = None
        self.error: BaseException | None = None
        self.done = self.is_taken = False
        self.gate: threading.Lock | None = None
        self.next: Job[Any] | None = None

    def finish(self, error: BaseException | None = None) -> None:
        self.error = error
        self.done = True


def transact(connection: sqlite3.Connection, jobs: list[Job[Any]]) -> None:
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
        elif committing and _is_from_handler(error):  # after the commit
            _mark_done(jobs)
            raise
        if not (committing and _is_io_error(error)):
            raise
        refuse(jobs, OutcomeUnknown(f"The disk failed during the commit ({error}), so its outcome is not known."))


def _is_from_handler(error: BaseException) -> bool:
    """Return True if a signal handler, and not SQLite, raised the error that interrupted a call of SQLite."""
    # SQLite's own errors have no frame below that of the call.
    traceback = error.__traceback__
    return not isinstance(error, sqlite3.Error) or (traceback is not None and traceback.tb_next is not None)


def _perform(connection: sqlite3.Connection, jobs: list[Job[Any]]) -> None:
    for job in jobs:
        changes = connection.total_changes
        try:
            job.result = job.work and job.work(connection)
            job.error = None
        except LedgerError as error:
            if connection.total_changes != changes:  # a signal handler raised it during the work
                raise
            job.error = error


def _mark_done(jobs: list[Job[Any]]) -> None:
    for job in jobs:
        job.done = True


def refuse(jobs: list[Job[Any]], error: BaseException) -> None:
    for job in jobs:
        if not job.done:
            job.finish(error)


def chain(group: Sequence[Job[Any]]) -> list[Job[Any]]:
    """Link the first job and the finished jobs of a group, so that each wakes the next. Return the linked jobs."""
    done = [group[0], *(job for job in group[1:] if job.done)]
    for job, following in pairwise(done):
        job.next = following
    return done


def wake(job: Job[Any] | None) -> None:
    """Follow the chain that begins at ``job``, and wake the first thread that still waits. It wakes the next one."""
    while job is not None and job.gate is None:
        job = job.next
    if job is not None:
        open_gate(job.gate)


def open_gate(gate: threading.Lock | None) -> None:
    """Open a gate; does nothing if it is open."""
    if gate is not None and gate.locked():
        try:
            gate.release()
        except RuntimeError:  # another thread opened it just now
            return


def is_busy(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT)


def _is_io_error(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF == sqlite3.SQLITE_IOERR

"""Group commit: the appends that threads ask for at the same time share one transaction and one sync to disk.

Whichever thread gets the turn runs everything that waits, its own work and that of others. Processes take turns
through a lock file beside the database, one commit group each: SQLite's own busy handler polls, and lets a writer
starve beside three others.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Generic, TypeVar, cast

from ledger.errors import LedgerError, OutcomeUnknown, StoreUnavailable

if sys.platform != "win32":
    import fcntl

T = TypeVar("T")
#: Pieces of work in one transaction; more would hold up readers of the log without saving syncs.
MAX_GROUP = 128
_FIRST_NAP, _LONGEST_NAP = 0.0001, 0.002


class TurnFile:
    """A lock file by which processes take turns at writing, in about the order in which they came.

    There are two locks: the turn itself, and the place at the head of the queue. Who lets go of the turn has to queue
    again behind whoever waits there, so a busy process cannot take turn after turn. Without ``fcntl`` (Windows) nothing
    is locked and SQLite's busy handler alone keeps writers apart.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: tuple[IO[bytes], IO[bytes]] | None = None

    def acquire(self, deadline: float) -> None:
        """Wait for the turn until ``deadline`` (of ``time.monotonic``).

        Raises:
            StoreUnavailable: Another process kept it all the while.
        """
        if sys.platform == "win32":
            return
        if self._files is None:
            self._files = (open(self._path, "ab"), open(f"{self._path}-queue", "ab"))  # noqa: SIM115 - see close()
        turn, queue = self._files
        self._lock(queue, deadline)
        try:
            self._lock(turn, deadline)
        finally:
            fcntl.flock(queue, fcntl.LOCK_UN)

    def release(self) -> None:
        """Let the next process have its turn."""
        if sys.platform != "win32" and self._files is not None:
            fcntl.flock(self._files[0], fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the files; the locks go with them."""
        for file in self._files or ():
            file.close()
        self._files = None

    def _lock(self, file: IO[bytes], deadline: float) -> None:
        if sys.platform == "win32":
            return None
        nap = _FIRST_NAP
        while True:
            try:
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreUnavailable(
                        f"Another process is writing and did not let go of {self._path} in time; nothing was written. "
                        "Try again, or find the process that hangs."
                    ) from None
            time.sleep(nap)
            nap = min(nap * 1.5, _LONGEST_NAP)


class _Job(Generic[T]):
    __slots__ = ("done", "error", "result", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], T]) -> None:
        self.work = work
        self.result: T | None = None
        self.error: BaseException | None = None
        self.done = False

    def finish(self, error: BaseException | None = None) -> None:
        self.error = error
        self.done = True


class CommitGroup:
    """Runs pieces of work on one connection, each whole or not at all, as many as wait in one transaction.

    Args:
        connection: The only one that writes, in autocommit mode.
        turn: The lock file shared with other processes.
        wait: Seconds to wait for other processes.
        translate: Makes a ledger error of a driver's.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        turn: TurnFile,
        wait: float,
        translate: Callable[[sqlite3.Error], LedgerError],
    ) -> None:
        self._connection = connection
        self._turn_file = turn
        self._wait = wait
        self._translate = translate
        self._waiting: deque[_Job[Any]] = deque()
        self._lock = threading.Lock()

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in a transaction and return its result once that is durable.

        Work that raises a LedgerError must not have written anything by then.

        Raises:
            LedgerError: What ``work`` raised, or what the database refused.
            OutcomeUnknown: The disk failed while the transaction was being committed.
        """
        job = _Job(work)
        self._waiting.append(job)
        with self._lock:
            while not job.done:
                self._commit([self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_GROUP))])
        if job.error is not None:
            raise job.error
        return cast(T, job.result)

    def exclusive(self) -> threading.Lock:
        """The lock under which the connection is used; held while closing."""
        return self._lock

    def _commit(self, jobs: list[_Job[Any]]) -> None:
        """Run jobs in one transaction; afterwards each is done."""
        try:
            self._turn_file.acquire(time.monotonic() + self._wait)
        except BaseException as error:  # noqa: BLE001 - nobody else may wait for ever
            return self._abandon(jobs, error)
        try:
            self._transact(jobs)
        except sqlite3.Error as error:
            if len(jobs) == 1:
                jobs[0].finish(self._translate(error))
            else:  # one of them may be at fault: let each stand for itself
                for job in jobs:
                    try:
                        self._transact([job])
                    except sqlite3.Error as own:
                        job.finish(self._translate(own))
        except BaseException as error:  # noqa: BLE001 - nobody else may wait for ever
            self._abandon(jobs, error)
        finally:
            self._turn_file.release()

    def _transact(self, jobs: list[_Job[Any]]) -> None:
        connection = self._connection
        committing = False
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                try:
                    job.result = job.work(connection)
                    job.error = None
                except LedgerError as error:
                    job.error = error
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

    def _abandon(self, jobs: list[_Job[Any]], error: BaseException) -> None:
        """Finish jobs that did not run; an interruption goes on in the thread that it struck."""
        for job in jobs:
            if not job.done:
                reason = error if isinstance(error, LedgerError) else None
                job.finish(reason or StoreUnavailable("The append was interrupted; nothing was written. Try again."))
        if not isinstance(error, LedgerError):
            raise error


def _is_io_error(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF == sqlite3.SQLITE_IOERR

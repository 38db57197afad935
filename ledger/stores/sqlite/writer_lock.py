"""A fair lock between writing processes. With SQLite's own busy handler, which polls, one writer of four can starve."""

from __future__ import annotations

import mmap
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

from ledger.errors import StoreUnavailable
from ledger.files import is_from_system, owner_and_mode
from ledger.stores.sqlite.database_file import match_mode
from ledger.stores.sqlite.errors import cannot

if sys.platform != "win32":
    import fcntl

#: Seconds between two attempts to lock: ``_SHORT_DELAY`` during the first ``_SHORT_POLLING`` seconds, and later
#: ``_LONG_DELAY``. Most commits take less than 1 ms.
_SHORT_DELAY, _SHORT_POLLING, _LONG_DELAY = 0.00002, 0.02, 0.002
#: Does nothing, as ``release`` before the lock file is open.
_NOTHING = partial(bool, None)


class FairFileLock:
    """A lock file that gives processes the right to write, in about the order in which they asked.

    There are two locks: the write lock and the queue's lock. The process that holds the queue's lock is the head of
    the queue. While the head waits for the write lock, it keeps the first byte of the lock file set. All processes map
    this file into memory and, while the byte is set, none of them takes the write lock without queueing. So a busy
    process cannot lock again and again. Without contention, acquiring takes one system call, and so does releasing.
    Without ``fcntl`` (Windows) nothing is locked, and SQLite's busy handler alone keeps writers apart.

    Args:
        path: The lock file; the queue's lock file is beside it, with the suffix ``-queue``.
        database: The database. Only those who may write it can open the lock files.

    Attributes:
        release: Function that releases the lock, and does nothing if this process does not hold it. It is written in
            C, so no exception can strike before it has done so: a ``finally`` block may call it once.
    """

    release: Callable[[], object]

    def __init__(self, path: Path, database: Path) -> None:
        self._path = path
        self._database = database
        self._files: tuple[IO[bytes], IO[bytes]] | None = None
        self._has_waiter: mmap.mmap | bytearray = bytearray(1)
        self.release = _NOTHING

    def acquire(self, wait: float, gives_up: Callable[[], bool] = lambda: False) -> None:
        """Acquire the lock, waiting at most ``wait`` seconds. Call ``release`` afterwards, even if this raises.

        Args:
            wait: Seconds to wait.
            gives_up: Returns True if the wait must end early.

        Raises:
            StoreUnavailable: Another process held the lock for too long, or this process forks.
            StoreRejected: The lock file cannot be created.
        """
        if sys.platform == "win32":
            return
        lock, queue = self._files or self._open()
        if self._has_waiter[0] or not self._try_lock(lock):
            self._queue_for(lock, queue, wait, gives_up)

    def close(self) -> None:
        """Close the files, which releases the locks."""
        self.release = _NOTHING
        for file in self._files or ():
            file.close()
        self._files = None
        self._has_waiter = bytearray(1)

    def _open(self) -> tuple[IO[bytes], IO[bytes]]:
        files: list[IO[bytes]] = []
        path = self._path
        try:
            for path in (self._path, Path(f"{self._path}-queue")):
                files.append(open(path, "a+b", opener=_private))  # noqa: SIM115 - see close()
                match_mode(files[-1].fileno(), self._database)
            lock, queue = files
            lock.truncate(1)
            self._has_waiter = mmap.mmap(lock.fileno(), 1)
        except BaseException as error:
            for file in files:
                file.close()
            if not isinstance(error, OSError | ValueError) or (
                isinstance(error, OSError) and not is_from_system(error)
            ):
                raise
            raise cannot(_opening(path, error), error if isinstance(error, OSError) else OSError(str(error))) from error
        if sys.platform != "win32":
            self.release = partial(fcntl.flock, lock, fcntl.LOCK_UN)
        self._files = lock, queue
        return lock, queue

    def _queue_for(self, lock: IO[bytes], queue: IO[bytes], wait: float, gives_up: Callable[[], bool]) -> None:
        if sys.platform == "win32":
            return
        is_head = False
        try:
            self._lock(queue, wait, gives_up)
            is_head = True
            self._has_waiter[0] = 1
            self._lock(lock, wait, gives_up)
        finally:
            if is_head:
                self._has_waiter[0] = 0
            fcntl.flock(queue, fcntl.LOCK_UN)

    def _try_lock(self, file: IO[bytes]) -> bool:
        if sys.platform == "win32":
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _lock(self, file: IO[bytes], wait: float, gives_up: Callable[[], bool]) -> None:
        started = time.monotonic()
        while not self._try_lock(file):
            waited = time.monotonic() - started
            if waited > wait:
                raise StoreUnavailable(
                    f"Another process is writing and did not release {self._path} in time; nothing was written. Try "
                    "again, or end the process that hangs."
                )
            if gives_up():
                raise StoreUnavailable(
                    "This process was forked while the append waited for another process; nothing was written. Try "
                    "again."
                )
            time.sleep(_SHORT_DELAY if waited < _SHORT_POLLING else _LONG_DELAY)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _opening(path: Path, error: BaseException) -> str:
    """Return what could not be done with a lock file because of an error, for the message of that error."""
    if isinstance(error, PermissionError):
        with suppress(FileNotFoundError, PermissionError):  # it cannot be created, or its folder not be read
            return (
                f"open the lock file {path}, whose owner is {owner_and_mode(path.stat())}; all who append must be able "
                "to write it, so it needs the group and mode of the ledger"
            )
    return f"create the lock file {path}; appends need a writable directory"

"""A fair lock between processes that write: SQLite's busy handler polls, and one writer of four starved under it."""

from __future__ import annotations

import mmap
import sys
import time
from pathlib import Path
from typing import IO

from ledger.errors import StoreRejected, StoreUnavailable

if sys.platform != "win32":
    import fcntl

#: Seconds between two looks at a lock: a turn takes less than a millisecond, so often at first, and seldom later.
_SHORT_NAP, _PATIENCE, _LONG_NAP = 0.00002, 0.02, 0.002


class FairFileLock:
    """A lock file by which processes take turns at writing, in about the order in which they came.

    There are two locks: the turn itself, and the place at the head of the queue. The process at the head says so in the
    first byte of the file, which all processes map; while the byte is set nobody takes the turn without queueing, so a
    busy process cannot take turn after turn. If nobody waits, a turn costs one system call to take and one to give.
    Without ``fcntl`` (Windows) nothing is locked and SQLite's busy handler alone keeps writers apart.

    Args:
        path: The lock file; a second one beside it, for the queue, has ``-queue`` at its end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: tuple[IO[bytes], IO[bytes]] | None = None
        self._somebody_waits: mmap.mmap | bytearray = bytearray(1)

    def acquire(self, wait: float) -> None:
        """Wait for the turn, at most ``wait`` seconds. Call ``release`` afterwards in any case, also if this raises.

        Raises:
            StoreUnavailable: Another process kept the turn for too long.
            StoreRejected: The lock file cannot be made.
        """
        if sys.platform == "win32":
            return
        turn, queue = self._files or self._open()
        if self._somebody_waits[0] or not self._try_lock(turn):
            self._queue_for(turn, queue, wait)

    def release(self) -> None:
        """Let the next process have its turn. Does nothing if this process does not have it."""
        if sys.platform != "win32" and self._files is not None:
            fcntl.flock(self._files[0], fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the files; the locks go with them."""
        for file in self._files or ():
            file.close()
        self._files = None

    def _open(self) -> tuple[IO[bytes], IO[bytes]]:
        try:
            turn, queue = open(self._path, "a+b"), open(f"{self._path}-queue", "ab")  # noqa: SIM115 - see close()
            turn.truncate(1)
            self._somebody_waits = mmap.mmap(turn.fileno(), 1)
        except (OSError, ValueError) as error:
            raise StoreRejected(
                f"Cannot make the lock file {self._path}: {error}. Appends need a writable folder."
            ) from error
        self._files = turn, queue
        return turn, queue

    def _queue_for(self, turn: IO[bytes], queue: IO[bytes], wait: float) -> None:
        if sys.platform == "win32":
            return
        is_head = False
        try:
            self._lock(queue, wait)
            is_head = True
            self._somebody_waits[0] = 1
            self._lock(turn, wait)
        finally:
            if is_head:
                self._somebody_waits[0] = 0
            fcntl.flock(queue, fcntl.LOCK_UN)

    def _try_lock(self, file: IO[bytes]) -> bool:
        if sys.platform == "win32":
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _lock(self, file: IO[bytes], wait: float) -> None:
        begun = time.monotonic()
        while not self._try_lock(file):
            waited = time.monotonic() - begun
            if waited > wait:
                raise StoreUnavailable(
                    f"Another process is writing and did not let go of {self._path} in time; nothing was written. "
                    "Try again, or find the process that hangs."
                )
            time.sleep(_SHORT_NAP if waited < _PATIENCE else _LONG_NAP)

"""The connections of one process to a DuckDB file. All threads of the process use them through one ``DuckDBFile``.

At any time the connections are either all read-only or all for writing. A process that has the file open for writing
excludes all other processes, readers too. A process that cannot open the file waits until the others have closed it,
and raises StoreUnavailable after a timeout.

Each block that uses the file is an element of a set, and the sets decide which connections must stay open. The blocks
are not counted, because an exception may interrupt the end of a block. The end is then run again, and removing an
element from a set twice does no harm.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ledger import forking
from ledger.errors import ConfigurationError, LedgerError, StoreError, StoreRejected, StoreUnavailable
from ledger.extras import require_extra
from ledger.files import is_from_system, owner_and_mode
from ledger.holding import TimedLock, ending
from ledger.warehouse.duckdb.connection import Connection
from ledger.warehouse.duckdb.creation import create

#: DuckDB's settings. The first two matter if the path names a SQLite file, such as a ledger. Without them DuckDB would
#: download an extension and open the file with a second copy of SQLite in this process. The second copy would release
#: the file locks of the first.
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    # Functions in a SELECT could read any file; users of the ledger's SQL may read only the ledger.
    "enable_external_access": "false",
}
_IS_LOCKED = "SELECT current_setting('lock_configuration')"
#: Seconds to wait for threads of this process: for one that opens or closes a connection, and for those that read
#: while another is to write.
THREADS_TIMEOUT = 60.0
#: Seconds between two attempts to open the file.
_PAUSE = 0.02
#: Share of a fork's time after which it interrupts the statements that still run.
_INTERRUPT_AFTER = 0.5
_FILES: dict[str, DuckDBFile] = {}


class _Use:
    """A block that uses a file, with the connection that was opened for the block, or None."""

    __slots__ = ("connection", "process", "thread")

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.process = os.getpid()
        self.thread = threading.get_ident()


class Cancellation:
    """A switch by which another thread cancels the calls of one thread on a file.

    Args:
        interrupt: Function that interrupts the statements that the thread runs.
    """

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self.cancelled = False

    def cancel(self) -> None:
        """Have the thread's call, and every further one, raise StoreUnavailable."""
        self.cancelled = True
        self._interrupt()


class DuckDBFile:
    """The connections of this process to one file. It is thread-safe.

    Args:
        path: The file; the first writer creates it.

    Attributes:
        like: A file whose group and mode a new file gets; None to let only the owner read it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.like: Path | None = None
        self._inherited = False  # True in a child process that was forked while the file was open
        self._start()
        forking.register(self, forking.Stage.WAREHOUSES)

    def _start(self) -> None:
        self._creating = TimedLock(f"the tables of {self._path}")
        self._opening = TimedLock(f"the file {self._path}")  # held while a connection is opened or the writer closed
        self._writer: Connection | None = None
        self._waiting: set[_Use] = set()  # blocks that wait to write
        self._writing: set[_Use] = set()  # blocks that keep the file open for writing
        self._cursors: set[_Use] = set()  # blocks with a cursor of the writer; closing the writer would close it
        self._readers: set[_Use] = set()  # blocks with a read-only connection
        self._cancellations: dict[int, Cancellation] = {}  # by thread

    def create(self, act: Callable[[], None]) -> None:
        """Call ``act``, which creates tables, in one thread at a time: creating the same tables at once fails."""
        self._creating.call(THREADS_TIMEOUT, act)

    @contextmanager
    def cancellable(self) -> Iterator[Cancellation]:
        """Context manager in whose block another thread can cancel the calls of this thread."""
        thread = threading.get_ident()
        with ending(lambda: self._cancellations.pop(thread, None)):
            cancellation = self._cancellations[thread] = Cancellation(lambda: self._interrupt(thread))
            yield cancellation

    @contextmanager
    def writer(self, retry_timeout: float, pause: Callable[[float], None]) -> Iterator[None]:
        """Context manager that keeps the file open for writing until its block ends. Blocks may overlap.

        Args:
            retry_timeout: Maximum seconds to wait for another process to close the file.
            pause: Called between two attempts, with the seconds to sleep.

        Raises:
            StoreUnavailable: Another process, or a thread that reads, still has the file open.
            StoreRejected: This thread reads the file, or this process was forked while the file was open.
            ConfigurationError: The file cannot be opened as a DuckDB file.
            MissingExtra: DuckDB is not installed.
        """
        require_extra("analytics", "duckdb")
        with self._use() as use:
            self._waiting.add(use)
            self._retry(lambda: self._try_to_write(use), retry_timeout, pause)
            self._waiting.discard(use)
            yield

    @contextmanager
    def reader(self, retry_timeout: float, pause: Callable[[float], None]) -> Iterator[Connection]:
        """Context manager that opens a connection for its block, and closes it after the block.

        If this process has the file open for writing, the connection is a cursor of the writer. Otherwise it is a
        read-only connection.

        Args:
            retry_timeout: Maximum seconds to wait for another process to close the file.
            pause: Called between two attempts, with the seconds to sleep.

        Raises:
            StoreUnavailable: Another process still has the file open for writing, or the block's statement was
                interrupted by a fork of the process or by a ``Cancellation``.
            StoreRejected: This process was forked while the file was open.
            ConfigurationError: The file cannot be opened as a DuckDB file, or is damaged where the block reads it.
            StoreError: DuckDB failed inside the block.
            MissingExtra: DuckDB is not installed.
        """
        require_extra("analytics", "duckdb")
        import duckdb

        try:
            with self._use() as use:
                # A reader waits for waiting writers; otherwise overlapping readers would block them, and other
                # processes, for ever. It does not wait longer, because this thread may already be a reader.
                deadline = time.monotonic() + retry_timeout
                self._retry(lambda: self._try_to_read(use, deadline), retry_timeout, pause)
                assert use.connection is not None  # noqa: S101 - _try_to_read has set it
                yield use.connection
        except duckdb.InterruptException as error:
            raise StoreUnavailable(
                f"A statement on {self._path} was interrupted, because the process was forked or the relay was closed; "
                "run it again."
            ) from error
        except duckdb.Error as error:  # one that the block did not translate
            if is_damage(error):
                raise _cannot_open(error, self._path) from error
            raise StoreError(f"{self._path} could not be read: {str(error).splitlines()[0]}") from error

    def before_fork(self, deadline: float) -> bool:
        """Block new connections, and wait until no connection is open; see ``ledger.forking``.

        A child process can neither use nor close a connection that it inherits, nor open another beside it. Statements
        that still run halfway to the deadline are interrupted.
        """
        started = time.monotonic()
        interrupt_at: float | None = started + _INTERRUPT_AFTER * (deadline - started)
        if not self._opening.hold_for_fork(deadline):
            return False
        own = threading.get_ident()
        while self._in_use():
            uses = (*self._cursors, *self._readers, *self._writing)
            if time.monotonic() >= deadline or any(use.thread == own for use in uses):
                return False
            if interrupt_at is not None and time.monotonic() >= interrupt_at:
                interrupt_at = None
                self._interrupt()
            time.sleep(0.001)
        return True

    def after_fork_in_parent(self) -> None:
        """Allow threads to open connections again."""
        self._opening.release_after_fork()

    def after_fork_in_child(self, clean: bool) -> None:
        """Start without connections. If the child inherited open connections, refuse to open the file again."""
        if not clean:
            self._inherited = True
            forking.keep(self._writer, self._cursors, self._readers)
        self._start()

    def _interrupt(self, thread: int | None = None) -> None:
        """Interrupt the statements of a thread; of all threads if it is None."""
        for use in (*self._cursors, *self._readers):
            if use.connection is not None and thread in (None, use.thread):
                use.connection.interrupt()

    def _in_use(self) -> bool:
        self._close_writer()  # the thread that used it last waits for the lock
        return self._writer is not None or bool(self._readers)

    def _try_to_write(self, use: _Use) -> bool:
        """Open the file for writing, or share the connection that writes already. Return False while threads read."""
        if self._writer is None:
            if self._readers:
                self._check_not_reading(use)
                return False
            self._writer = self._connect(read_only=False)
        self._writing.add(use)
        return True

    def _try_to_read(self, use: _Use, deadline: float) -> bool:
        """Open a connection for reading. Until the deadline, return False while a writer waits or is about to close."""
        if not self._writing and (self._writer is not None or self._waiting) and time.monotonic() < deadline:
            return False
        if self._writer is None:
            self._readers.add(use)
            use.connection = self._connect(read_only=True)
        else:
            self._cursors.add(use)
            use.connection = self._writer.cursor()
        return True

    def _check_not_reading(self, use: _Use) -> None:
        if any(reader.thread == use.thread for reader in tuple(self._readers)):
            raise StoreRejected(
                f"This thread is reading {self._path}, and cannot open it for writing before it has finished. If a "
                "signal handler made this call, set a flag in the handler and make the call afterwards."
            )

    @contextmanager
    def _use(self) -> Iterator[_Use]:
        """Context manager for one use of the file."""
        use = _Use()
        with ending(lambda: self._end(use)):
            yield use

    def _end(self, use: _Use) -> None:
        if use.process != os.getpid():  # a child must not close what its parent opened
            return
        if use.connection is not None:
            use.connection.close()
        if use in self._cursors:
            self._restrict_log()
        for uses in (self._waiting, self._readers, self._cursors, self._writing):
            uses.discard(use)
        self._close_unused()

    def _restrict_log(self) -> None:
        """Give the log the mode of the file. DuckDB creates a log after each checkpoint, with the mode of the umask."""
        log = self._path.with_name(f"{self._path.name}.wal")
        with suppress(FileNotFoundError, PermissionError):  # there is none, or another user made it
            mode = stat.S_IMODE(self._path.stat().st_mode)
            if stat.S_IMODE(log.stat().st_mode) != mode:
                log.chmod(mode)

    def _close_unused(self) -> None:
        if self._writer is not None and not self._writing and not self._cursors:
            self._opening.call(THREADS_TIMEOUT, self._close_writer)

    def _close_writer(self) -> None:
        """Close the writer if no block uses it. The caller holds the lock."""
        if not self._writing and not self._cursors:
            with ending(self._end_writer):
                pass

    def _end_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _retry(self, attempt: Callable[[], bool], retry_timeout: float, pause: Callable[[float], None]) -> None:
        """Call ``attempt`` with the lock until it returns True, for a limited time."""
        import duckdb

        started, locked_since = time.monotonic(), None
        cancellation = self._cancellations.get(threading.get_ident())
        while True:
            if cancellation is not None and cancellation.cancelled:
                raise StoreUnavailable(f"The relay to {self._path} was closed while it waited for the file.")
            try:
                if self._opening.call(THREADS_TIMEOUT, attempt):
                    return
            except (duckdb.IOException, duckdb.ConnectionException, BlockingIOError) as error:
                # ConnectionException: other code in this process has the file open in the other mode.
                # BlockingIOError: another process has opened an empty file, perhaps to fill it.
                if isinstance(error, duckdb.IOException) and "set lock on file" not in str(error):
                    raise _cannot_open(error, self._path) from error
                locked_since = locked_since or time.monotonic()
                if time.monotonic() - locked_since >= retry_timeout:
                    if isinstance(error, duckdb.ConnectionException):
                        raise StoreUnavailable(
                            f"{self._path} is open in this process by other code, which reads or writes it in another "
                            "way; close that connection of DuckDB and try again."
                        ) from error
                    raise StoreUnavailable(
                        f"{self._path} is in use by another process; try again when that process has closed it."
                    ) from error
            except duckdb.Error as error:
                raise _cannot_open(error, self._path) from error
            except OSError as error:
                if not is_from_system(error):
                    raise
                raise _cannot_create(error, self._path) from error
            else:
                if time.monotonic() - started >= max(retry_timeout, THREADS_TIMEOUT):
                    raise StoreUnavailable(
                        f"Threads of this process have read {self._path} for more than {THREADS_TIMEOUT:g} s; try "
                        "again when their queries have ended."
                    )
            pause(_PAUSE)

    def _connect(self, *, read_only: bool) -> Connection:
        """Open a connection. A process's connections share a DuckDB instance, which the first one configures."""
        if self._inherited:
            raise StoreRejected(
                f"{self._path} was open when this process was forked, and cannot be used in it. Fork while no thread "
                "uses the warehouse, or start the process with the method spawn."
            )
        if not read_only:
            create(self._path, self.like)
        connection = Connection.open(self._path, read_only=read_only, config=_CONFIG)
        try:
            if not connection.execute(_IS_LOCKED).rows[0][0]:
                connection.execute("SET GLOBAL TimeZone = 'UTC'")  # also applies to cursors
                # Each checkpoint rewrites the last row group and the metadata of all others. At DuckDB's default of
                # 16 MB a relay does so two or three times per row group; at 64 MB it still takes 1.5 times as long as
                # at 256 MB. Replaying a log of this size takes a second or two.
                connection.execute("SET GLOBAL checkpoint_threshold = '256MB'")
                connection.execute("SET lock_configuration = true")
        except BaseException:
            connection.close()
            raise
        return connection


def file_at(path: Path) -> DuckDBFile:
    """Return the one DuckDBFile that this process has for a path."""
    key = os.path.realpath(path)
    return _FILES.get(key) or _FILES.setdefault(key, DuckDBFile(path))


def is_damage(error: Exception) -> bool:
    """Return True if DuckDB has found that a block of the file is not what was written."""
    return "Corrupt database file" in str(error)


def _cannot_create(error: OSError, path: Path) -> LedgerError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreUnavailable(f"{path} cannot be created: {error.strerror}. Free some space, and try again.")
    return ConfigurationError(
        f"{path} cannot be created: {error.strerror}. Check the URL and the folder's permissions."
    )


def _cannot_open(error: Exception, path: Path) -> LedgerError:
    lines = str(error).splitlines()
    if os.strerror(errno.ENOSPC) in str(error):
        return _cannot_create(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), path)
    if "newer version of DuckDB" in str(error):
        import duckdb

        return ConfigurationError(
            f"{path} was written by a newer DuckDB than the {duckdb.__version__} that is installed. Install "
            "that one; or move the file away, and the ledger fills a new one, unless sessions of a ledger are archived "
            "in it: `ledger doctor` says what it knows of that."
        )
    if is_damage(error):
        return ConfigurationError(
            f"{path} is damaged ({lines[0]}). Restore it from a backup; or move it away, and the ledger fills a new "
            "one, unless sessions of a ledger are archived in it: `ledger doctor` says what it knows of that."
        )
    if os.strerror(errno.EACCES) in str(error) and os.path.isfile(path):  # noqa: PTH113 - False if the folder is closed
        return ConfigurationError(
            f"{path} may not be read and written by this user: its owner is {owner_and_mode(path.stat())}. All who "
            "ship to it or query it must be able to write it: its owner gives it the group and mode of the ledger with "
            "chgrp and chmod."
        )
    return ConfigurationError(f"{path} cannot be opened as a DuckDB file: {lines[0]}")

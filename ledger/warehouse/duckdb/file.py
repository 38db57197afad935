"""The connections of one process to a DuckDB file. All threads of the process use them through one ``DuckDBFile``.

At any time the connections are either all read-only or all for writing. A process that has the file open for writing
excludes all other processes, readers too. A process that cannot open the file waits until the others have closed it,
and raises StoreUnavailable after a timeout.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from ledger import forking  # noqa: F401 - its fork hook, registered first, runs last: writers here can still commit
from ledger.errors import ConfigurationError, StoreError, StoreUnavailable
from ledger.extras import require_extra

if TYPE_CHECKING:
    import duckdb

#: DuckDB's settings. The first two matter if the path names a SQLite file, such as a ledger. Without them DuckDB would
#: download an extension and open the file with a second copy of SQLite in this process. The second copy would release
#: the file locks of the first.
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    # Functions in a SELECT could read any file; users of the ledger's SQL may read only the ledger.
    "enable_external_access": "false",
}
#: Lock that is held while a connection is opened and configured. A process's connections to one file share a
#: DuckDB instance, and only the first connection can change the settings of the instance.
_CONNECT_LOCK = threading.Lock()
_IS_LOCKED = "SELECT current_setting('lock_configuration')"
_FILES: WeakValueDictionary[str, DuckDBFile] = WeakValueDictionary()
_FILES_LOCK = threading.Lock()
_FORKING: list[DuckDBFile] = []
#: Maximum seconds that a fork waits for readers and writers.
_FORK_TIMEOUT = 5.0
#: Connections that a child process inherited. They stay referenced, so that the child never closes them.
_ABANDONED: list[object] = []


class DuckDBFile:
    """The connections of this process to one file. It is thread-safe.

    Args:
        path: The file; the first writer creates it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.create_lock = threading.Lock()  # of two threads that create the same tables at once, one fails
        self._changed = threading.Condition()  # guards all attributes below
        self._writer: duckdb.DuckDBPyConnection | None = None
        self._writer_users = 0  # calls of acquire_writer without a release_writer
        self._cursors = 0  # open cursors of the writer; closing it would close them
        self._readers = 0  # open read-only connections
        self._waiting_writers = 0  # threads inside acquire_writer

    def acquire_writer(self, retry_timeout: float, pause: Callable[[float], None]) -> None:
        """Open the file for writing. It stays open until ``release_writer`` has been called as often as this method.

        Args:
            retry_timeout: Maximum seconds to wait for another process to close the file.
            pause: Called between two attempts, with the seconds to sleep.

        Raises:
            StoreUnavailable: Another process still has the file open.
            ConfigurationError: The file cannot be opened as a DuckDB file.
            MissingExtra: DuckDB is not installed.
        """
        require_extra("analytics", "duckdb")
        with self._changed:
            # A process opens a file in one mode at a time: a writer waits until no thread reads.
            self._waiting_writers += 1
            try:
                self._changed.wait_for(lambda: self._writer is not None or not self._readers)
                if self._writer is None:
                    self._writer = self._connect(retry_timeout, pause, read_only=False)
                self._writer_users += 1
            finally:
                self._waiting_writers -= 1
                self._changed.notify_all()

    def release_writer(self) -> None:
        """Undo one call of ``acquire_writer``. Once all calls are undone and no reader is left, the file is closed."""
        with self._changed:
            self._writer_users -= 1
            self._close_unused()

    @contextmanager
    def reader(self, retry_timeout: float, pause: Callable[[float], None]) -> Iterator[duckdb.DuckDBPyConnection]:
        """Context manager that opens a connection for its block, and closes it after the block.

        If this process has the file open for writing, the connection is a cursor of the writer. Otherwise it is a
        read-only connection.

        Args:
            retry_timeout: Maximum seconds to wait for another process to close the file.
            pause: Called between two attempts, with the seconds to sleep.

        Raises:
            StoreUnavailable: Another process still has the file open for writing.
            ConfigurationError: The file cannot be opened as a DuckDB file.
            StoreError: DuckDB failed inside the block.
            MissingExtra: DuckDB is not installed.
        """
        require_extra("analytics", "duckdb")
        import duckdb

        with self._changed:
            # A reader waits for waiting writers; otherwise overlapping readers would block them, and other processes,
            # for ever. The wait has a timeout because this thread may already be a reader.
            self._changed.wait_for(
                lambda: self._writer_users or (self._writer is None and not self._waiting_writers), retry_timeout
            )
            read_only = self._writer is None
            if self._writer is None:
                connection = self._connect(retry_timeout, pause, read_only=True)
                self._readers += 1
            else:
                connection = self._writer.cursor()
                self._cursors += 1
        try:
            yield connection
        except duckdb.Error as error:  # one that the block did not translate
            raise StoreError(f"{self._path} could not be read: {str(error).splitlines()[0]}") from error
        finally:
            connection.close()
            with self._changed:
                if read_only:
                    self._readers -= 1
                else:
                    self._cursors -= 1
                self._close_unused()
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Wait until no connection is open, or a timeout has passed. Then keep threads from opening connections.

        A child process can neither use nor close a connection that it inherits.
        """
        self._changed.acquire()
        self._changed.wait_for(lambda: self._writer is None and not self._readers, _FORK_TIMEOUT)

    def after_fork_in_parent(self) -> None:
        """Let the threads open connections again."""
        self._changed.release()

    def after_fork_in_child(self) -> None:
        """Start without connections. If the child inherited a connection, set it aside without closing it."""
        _ABANDONED.append(self._writer)
        self.__init__(self._path)  # type: ignore[misc]

    def _close_unused(self) -> None:
        if self._writer is not None and not self._writer_users and not self._cursors:
            self._writer.close()
            self._writer = None
            self._changed.notify_all()

    def _connect(
        self, retry_timeout: float, pause: Callable[[float], None], *, read_only: bool
    ) -> duckdb.DuckDBPyConnection:
        import duckdb

        deadline = time.monotonic() + retry_timeout
        while True:
            try:
                return self._connect_once(read_only=read_only)
            except (duckdb.IOException, duckdb.ConnectionException) as error:
                # ConnectionException: other code in this process has the file open in the other mode.
                if isinstance(error, duckdb.IOException) and "set lock on file" not in str(error):
                    raise _cannot_open(error, self._path) from error
                if time.monotonic() >= deadline:
                    raise StoreUnavailable(
                        f"{self._path} is in use by another process; try again when that process has closed it."
                    ) from error
                pause(0.02)
            except duckdb.Error as error:
                raise _cannot_open(error, self._path) from error

    def _connect_once(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        import duckdb

        with _CONNECT_LOCK:
            is_new = not read_only and not self._path.exists()
            connection = duckdb.connect(str(self._path), read_only=read_only, config=_CONFIG)
            if is_new:  # its owner's alone, before it has rows
                self._path.chmod(0o600)
            if not connection.execute(_IS_LOCKED).fetchall()[0][0]:
                connection.execute("SET GLOBAL TimeZone = 'UTC'")  # also applies to cursors
                # Each checkpoint rewrites the last row group and the metadata of all others. At DuckDB's default of
                # 16 MB a relay does so two or three times per row group; at 64 MB it still takes 1.5 times as long as
                # at 256 MB. Replaying a log of this size takes a second or two.
                connection.execute("SET GLOBAL checkpoint_threshold = '256MB'")
                connection.execute("SET lock_configuration = true")
            return connection


def file_at(path: Path) -> DuckDBFile:
    """Return the one DuckDBFile that this process has for a path."""
    with _FILES_LOCK:
        return _FILES.setdefault(os.path.realpath(path), DuckDBFile(path))


def _cannot_open(error: Exception, path: Path) -> ConfigurationError:
    return ConfigurationError(f"{path} cannot be opened as a DuckDB file: {str(error).splitlines()[0]}")


def _before_fork() -> None:
    _FORKING[:] = list(_FILES.values())
    for file in _FORKING:
        file.before_fork()


def _after_fork_in_parent() -> None:
    while _FORKING:
        _FORKING.pop().after_fork_in_parent()


def _after_fork_in_child() -> None:
    global _FILES_LOCK, _CONNECT_LOCK
    _FILES_LOCK, _CONNECT_LOCK = threading.Lock(), threading.Lock()
    while _FORKING:
        _FORKING.pop().after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)

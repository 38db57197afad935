"""A DuckDB file as one process has it open: by all who read and write it there, in one way at a time.

Another process may hold the file for writing. Opening waits for it to let go, and gives up with StoreUnavailable.
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

from ledger import forking  # noqa: F401 - registered first, it comes last: who writes here may yet commit
from ledger.errors import ConfigurationError, StoreError, StoreUnavailable
from ledger.extras import require_extra

if TYPE_CHECKING:
    import duckdb

#: For a SQLite file at the path, such as a ledger, DuckDB would fetch an extension from the network and open the file
#: with a second copy of SQLite, which drops the first one's locks.
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    # A SELECT can read any file by its functions; users of the ledger's SQL are to see the ledger only.
    "enable_external_access": "false",
}
#: Connections of a process to one file share an instance, and only the first may still change its settings.
_CONNECTING = threading.Lock()
_IS_LOCKED = "SELECT current_setting('lock_configuration')"
_FILES: WeakValueDictionary[str, DuckDBFile] = WeakValueDictionary()
_FINDING = threading.Lock()
_FORKING: list[DuckDBFile] = []
#: Seconds that a fork waits for those who read or write.
_FORK_PATIENCE = 5.0
#: What was open when the process forked: a child never touches its parent's.
_ABANDONED: list[object] = []


class DuckDBFile:
    """The connections of this process to one file. For any number of threads.

    Args:
        path: The file; it is made when it is first held.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.making = threading.Lock()  # of two who make the same tables at once one fails
        self._changed = threading.Condition()  # guards all below
        self._held: duckdb.DuckDBPyConnection | None = None
        self._depth = 0
        self._readers = 0  # connections that are open for reading only
        self._lent = 0  # cursors of the held one, which are closed where that is
        self._writers = 0  # threads that wait to hold it

    def hold(self, retry_timeout: float, pause: Callable[[float], None]) -> None:
        """Keep the file open for writing, until ``let_go`` was called as often.

        Args:
            retry_timeout: Seconds to wait for another process.
            pause: Waits between two tries.
        """
        require_extra("analytics", "duckdb")
        with self._changed:
            # One process has a file open in one way: writing waits until no thread reads.
            self._writers += 1
            try:
                self._changed.wait_for(lambda: self._held is not None or not self._readers)
                if self._held is None:
                    self._held = self._connect(retry_timeout, pause, read_only=False)
                self._depth += 1
            finally:
                self._writers -= 1
                self._changed.notify_all()

    def let_go(self) -> None:
        """Take back one ``hold``."""
        with self._changed:
            self._depth -= 1
            self._close_unused()

    @contextmanager
    def looking(self, retry_timeout: float, pause: Callable[[float], None]) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection beside the one that is held, else one that other readers may share the file with."""
        require_extra("analytics", "duckdb")
        import duckdb

        with self._changed:
            # Else readers who relieve one another would keep a writer out for ever, or other processes. A thread that
            # reads already has to be let in all the same.
            self._changed.wait_for(lambda: self._depth or (self._held is None and not self._writers), retry_timeout)
            own = self._held is None
            if self._held is None:
                connection = self._connect(retry_timeout, pause, read_only=True)
                self._readers += 1
            else:
                connection = self._held.cursor()
                self._lent += 1
        try:
            yield connection
        except duckdb.Error as error:  # of which nobody else said more
            raise StoreError(f"{self._path} could not be read: {str(error).splitlines()[0]}") from error
        finally:
            connection.close()
            with self._changed:
                if own:
                    self._readers -= 1
                else:
                    self._lent -= 1
                self._close_unused()
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Wait until nothing is open, for some seconds at most: what is, a child has for good and cannot use."""
        self._changed.acquire()
        self._changed.wait_for(lambda: self._held is None and not self._readers, _FORK_PATIENCE)

    def after_fork_in_parent(self) -> None:
        """Let the threads go on."""
        self._changed.release()

    def after_fork_in_child(self) -> None:
        """Leave what is open to the parent."""
        _ABANDONED.append(self._held)
        self.__init__(self._path)  # type: ignore[misc]

    def _close_unused(self) -> None:
        if self._held is not None and not self._depth and not self._lent:
            self._held.close()
            self._held = None
            self._changed.notify_all()

    def _connect(
        self, retry_timeout: float, pause: Callable[[float], None], *, read_only: bool
    ) -> duckdb.DuckDBPyConnection:
        import duckdb

        deadline = time.monotonic() + retry_timeout
        while True:
            try:
                return self._connected(read_only=read_only)
            except (duckdb.IOException, duckdb.ConnectionException) as error:
                # A ConnectionException: this process has the file open in the other mode, past this module.
                if isinstance(error, duckdb.IOException) and "set lock on file" not in str(error):
                    raise _unreadable(error, self._path) from error
                if time.monotonic() >= deadline:
                    raise StoreUnavailable(
                        f"{self._path} is in use by another process, which holds it for writing; try again later."
                    ) from error
                pause(0.02)
            except duckdb.Error as error:
                raise _unreadable(error, self._path) from error

    def _connected(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        import duckdb

        with _CONNECTING:
            connection = duckdb.connect(str(self._path), read_only=read_only, config=_CONFIG)
            if not connection.execute(_IS_LOCKED).fetchall()[0][0]:
                connection.execute("SET GLOBAL TimeZone = 'UTC'")  # also of cursors
                # Each checkpoint writes the row group it ends in anew, and what it knows of all others. At DuckDB's
                # default, 16 MB, a relay does that two or three times for each row group, and at 64 MB it still takes
                # half as long again as at this. A log of this size is replayed in a second or two.
                connection.execute("SET GLOBAL checkpoint_threshold = '256MB'")
                connection.execute("SET lock_configuration = true")
            return connection


def file_at(path: Path) -> DuckDBFile:
    """The file at a path, one object for all of the process that name it."""
    with _FINDING:
        return _FILES.setdefault(os.path.realpath(path), DuckDBFile(path))


def _unreadable(error: Exception, path: Path) -> ConfigurationError:
    return ConfigurationError(f"{path} cannot be opened as a DuckDB file: {str(error).splitlines()[0]}")


def _before_fork() -> None:
    _FORKING[:] = list(_FILES.values())
    for file in _FORKING:
        file.before_fork()


def _after_fork_in_parent() -> None:
    while _FORKING:
        _FORKING.pop().after_fork_in_parent()


def _after_fork_in_child() -> None:
    global _FINDING, _CONNECTING
    _FINDING, _CONNECTING = threading.Lock(), threading.Lock()
    while _FORKING:
        _FORKING.pop().after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)

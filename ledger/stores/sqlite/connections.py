"""The connections of one embedded store: who has one, and what becomes of them at an exception and at a fork.

A read borrows a connection for its work (``Connections.read``). An exception may strike between any two lines of it,
as a signal handler can raise one anywhere. Three rules make that harmless:

* A connection goes back to the idle ones only if its work returned and left no transaction. After any exception it is
  closed, with the cursors that still read from it: a statement that is not reset would pin its snapshot for good.
* No count is kept. The open connections are those of ``_open``, which refers to them weakly: one that is lost between
  two lines is closed by its finalizer.
* Nothing that another thread or another process could wait for is held by a reader.

A fork blocks new reads, and interrupts those in progress until none is left (``before_fork``). An interrupted read runs
again after the fork. In a child that inherited an open connection, the file cannot be opened any more, by whatever
name: SQLite would take the locks of the parent for its own.
"""

from __future__ import annotations

import gc
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import get_ident
from typing import Protocol, TypeVar, cast

from ledger import forking
from ledger.errors import LedgerError, StoreRejected, StoreUnavailable
from ledger.stores.sqlite.database_file import connect

T = TypeVar("T")
#: How often a read runs if forks of the process interrupt it.
ATTEMPTS = 5
#: Seconds between two looks at what a fork, or a thread that waits for one, waits for.
_PAUSE = 0.0005
#: Name of the SQL function that every connection has; see ``_is_reading``.
_FUNCTION = "ledger_is_reading"
#: The files, by device and inode, of which this process inherited open connections.
_inherited: set[tuple[int, int]] = set()


class Connection(sqlite3.Connection):
    """A connection of a store.

    Attributes:
        thread: The thread that has borrowed it for a read; 0 if none has.
        is_interrupted: True if a fork has interrupted it. It is closed after its read.
        is_closed: True if it was closed, or is about to be.
    """

    thread = 0
    is_interrupted = False
    is_closed = False

    def __del__(self) -> None:
        with suppress(sqlite3.Error):  # it was never opened
            self.close()


class Read(Protocol):
    """Type of ``Connections.read``."""

    def __call__(self, work: Callable[[sqlite3.Connection], T], *, snapshot: bool = False) -> T:
        """Run ``work`` with a connection; see ``Connections.read``."""


class Connections:
    """The connections of one store to its file.

    Args:
        path: The file.
        wait: Seconds to wait while other processes write.
        translate: Function that converts an error of ``sqlite3`` to a LedgerError.
    """

    def __init__(
        self, path: Path, wait: float, translate: Callable[[sqlite3.Error | UnicodeDecodeError], LedgerError]
    ) -> None:
        self._path = path
        self._wait = wait
        self._translate = translate
        self._idle: deque[Connection] = deque()
        self._take = iter(self._idle.pop, None)  # its next element is the last idle connection, or an IndexError
        self._open: dict[int, weakref.ref[Connection]] = {}
        self._opening: deque[int] = deque()  # the threads that open a connection
        self._closing = threading.RLock()
        self._blocked = 0  # the thread that forks, or -1 if this object is closed; readers look at it first
        self.refusal: Callable[[], LedgerError] | None = None  # why every call is refused from now on
        self.check_file: Callable[[], None] = _unchecked  # called before each read; raises a LedgerError

    def read(self, work: Callable[[sqlite3.Connection], T], *, snapshot: bool = False) -> T:
        """Run ``work`` with a connection that nobody else uses meanwhile, and return its result.

        If a fork of this process interrupts the work, it runs again afterwards.

        Args:
            work: Reads; must not keep the connection or a cursor of it.
            snapshot: True to have every statement of the work read the same snapshot of the database.

        Raises:
            LedgerError: ``work`` or ``check_file`` raised it, or SQLite raised an error, which is translated.
            StoreUnavailable: Forks interrupted the work too often, or this thread is forking.
        """
        connection: Connection | None
        interruptions = 0
        while interruptions < ATTEMPTS:
            connection = None
            try:
                if self._blocked:
                    self._wait_for_fork()
                self.check_file()
                try:
                    # Not a call: after a call an exception could strike before the connection has a name.
                    for connection in self._take:  # noqa: B007
                        break
                except IndexError:
                    self.while_opening(self._open_idle)
                    continue
                if connection is None:
                    continue
                if connection.is_closed:  # not surely: an exception has struck while it was closed
                    self.close(connection)
                    continue
                connection.thread = get_ident()
                if snapshot:
                    connection.execute("BEGIN")
                    result = work(connection)
                    connection.execute("COMMIT")
                else:
                    result = work(connection)
            except BaseException as error:
                if connection is not None:
                    self.close(connection)
                if not isinstance(error, (sqlite3.Error, UnicodeDecodeError)):
                    raise
                if connection is None or not connection.is_interrupted:
                    raise self._translate(error) from error
                interruptions += 1
                continue
            # Up to here no call is left that an exception could strike before the connection has its place.
            try:
                connection.thread = 0
                if connection.in_transaction or connection.is_interrupted:
                    self.close(connection)
                else:
                    self._idle.append(connection)
                if self._blocked:
                    self._close_idle()
                return result
            finally:
                connection = None  # a traceback may keep this frame: it must not keep another reader's connection alive
        raise StoreUnavailable(
            f"Forks of this process interrupted a read of the ledger {self._path} {ATTEMPTS} times; try again."
        )

    def while_opening(self, act: Callable[[], T]) -> T:
        """Call ``act``, which opens connections and may use them, while no fork is in progress; a fork waits for it."""
        thread = get_ident()
        while True:
            try:
                self._opening.append(thread)  # first, so that a fork that begins now finds this thread
                if not self._blocked:
                    return act()
            finally:
                if thread in self._opening:
                    self._opening.remove(thread)
            self._wait_for_fork()

    def wait_for_forks(self) -> None:
        """Wait for the forks in progress, which do not know this store yet.

        Raises:
            StoreUnavailable: A fork does not end, or this thread is forking.
        """
        if not forking.wait_for_forks(time.monotonic() + self._wait + forking.BUDGET):
            raise StoreUnavailable(
                f"The ledger {self._path} cannot be opened while this process is forked; open it after the fork."
            )

    def _open_idle(self) -> None:
        """Open a connection for reading, and leave it with the idle ones."""
        self.open(_set_query_only, self._idle)

    def open(self, set_up: Callable[[Connection], object], place: deque[Connection] | None = None) -> None:
        """Open a connection, and call ``set_up`` with it; close it if that raises. Then add it to ``place``.

        A fork must wait for the caller, see ``while_opening``.

        Raises:
            StoreRejected: This process inherited an open connection to the file.
            sqlite3.Error: SQLite cannot open the file.
        """
        if _inherited and self._identity() in _inherited:
            raise inherited(self._path)
        connection = None
        try:
            connection = cast(Connection, connect(self._path, wait=self._wait, factory=Connection))
            self._register(connection)
            connection.create_function(_FUNCTION, 0, len)
            connection.execute("PRAGMA foreign_keys = OFF").close()
            set_up(connection)
        except BaseException:
            if connection is not None:
                self.close(connection)
            raise
        if place is not None:
            place.append(connection)

    def _register(self, connection: Connection) -> None:
        opened, key = self._open, id(connection)
        opened[key] = weakref.ref(connection, lambda _: opened.pop(key, None))

    def close(self, connection: Connection) -> None:
        """Close a connection, whatever state it is in, and the cursors that still read from it."""
        connection.is_closed = True
        with self._closing:  # the last to close folds in the WAL; of two that close at the same time neither does
            if _is_reading(connection):
                _close_cursors(connection)
            with suppress(sqlite3.ProgrammingError):  # it was never opened
                connection.close()
        self._open.pop(id(connection), None)

    def refuse(self, refusal: Callable[[], LedgerError]) -> None:
        """Refuse every later read, and close the idle connections; the others are closed when their reads end."""
        self.refusal = refusal
        self._blocked = -1
        self._close_idle()

    def _close_idle(self) -> None:
        with suppress(IndexError):  # none is left
            self._close_each_idle()

    def _close_each_idle(self) -> None:
        for connection in self._take:
            try:
                self.close(connection)
            except BaseException:
                self._idle.append(connection)  # not lost, so that it is closed at last
                raise

    def _wait_for_fork(self) -> None:
        """Wait until no fork is in progress.

        Raises:
            LedgerError: This object is closed.
            StoreUnavailable: This thread is forking, or the fork does not end.
        """
        deadline = time.monotonic() + self._wait + forking.BUDGET
        while self._blocked:
            if self.refusal is not None:
                raise self.refusal()
            if self._blocked == get_ident():
                raise StoreUnavailable(
                    f"This thread is forking, and a hook or a signal handler called the ledger {self._path}; nothing "
                    "was read or written. Call it after the fork."
                )
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"A fork of this process does not end, so {self._path} waits; try again.")
            time.sleep(_PAUSE)

    def block(self) -> None:
        """Let no read begin until ``unblock``, as this thread forks."""
        if self.refusal is None:
            self._blocked = get_ident()

    def unblock(self) -> None:
        """End a ``block``."""
        if self.refusal is None:
            self._blocked = 0

    def drain(self, deadline: float) -> bool:
        """Close every connection, and return True. Reads in progress are interrupted until they have ended.

        Return False if a connection is still open at the deadline, or if a signal handler forks while its own thread
        opens a connection.
        """
        thread = get_ident()
        while thread not in self._opening:
            self._close_idle()
            for connection in self._all_open():
                self._end(connection, thread)
            if not self._open and not self._opening:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE)
        return False

    def _all_open(self) -> list[Connection]:
        return [connection for each in self._open.copy().values() if (connection := each()) is not None]

    def _end(self, connection: Connection, thread: int) -> None:
        """Interrupt the read of another thread. Close the connection if its read is suspended by a signal handler."""
        connection.is_interrupted = True
        if connection.thread == thread:
            self.close(connection)
        else:
            with suppress(sqlite3.ProgrammingError):  # its thread closes it now
                connection.interrupt()

    def reset(self) -> None:
        """Start anew in a child that inherited no connection."""
        self._idle.clear()
        self._opening.clear()
        self._closing = threading.RLock()
        self.unblock()

    def abandon(self, suspended: Connection | None) -> None:
        """Set aside, in a child, what was inherited open, and refuse every call from now on.

        Args:
            suspended: The writing connection, if this thread is in an append, which a signal handler has suspended.
        """
        _inherited.add(self._identity())
        connections = self._all_open()
        for connection in connections:
            if connection is suspended or connection.thread == get_ident():
                connection.set_authorizer(_deny)  # what was suspended may go on, but not with this connection
        forking.keep(*connections, self._idle)
        self._closing = threading.RLock()
        self.refusal, self._blocked = partial(inherited, self._path), -1

    def _identity(self) -> tuple[int, int]:
        try:
            status = self._path.stat()
        except OSError:
            return (0, 0)  # the file is gone, so nothing can be inherited or lost
        return status.st_dev, status.st_ino


def inherited(path: Path) -> StoreRejected:
    """Return the error for a child that inherited an open connection to a file."""
    return StoreRejected(
        f"This process was forked while its parent used the ledger {path}, and inherited an open connection to it. "
        "What this process recorded could be lost, so it cannot use that ledger; the parent can. Fork while no call is "
        "in progress, or start the process with subprocess, or with multiprocessing's method 'spawn'."
    )


def unopened() -> Connection:
    """Return a connection that was never opened, and counts as closed."""
    connection = Connection.__new__(Connection)
    connection.is_closed = True
    return connection


def _unchecked() -> None:
    """Do nothing: the file is not open yet."""


def _set_query_only(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA query_only = ON").close()


def _deny(*_: object) -> int:
    return sqlite3.SQLITE_DENY


def _close_cursors(connection: sqlite3.Connection) -> None:
    """Close the cursors of a connection. SQLite would keep the file open until the last of them is gone."""
    for each in gc.get_referrers(connection):
        if isinstance(each, sqlite3.Cursor):
            each.close()


def _is_reading(connection: sqlite3.Connection) -> bool:
    """Return True if a statement of a connection is not finished: SQLite then refuses to change a function."""
    try:
        connection.create_function(_FUNCTION, 0, None)
    except sqlite3.OperationalError:
        return True
    except sqlite3.ProgrammingError:  # it is closed
        return False
    return False

"""The embedded store over a file that this process may or shall not write: nothing is written there or beside it.

The index of a log (``-shm``) is the exception: SQLite creates it to read a file with a log.

A file without a write-ahead log is in use by no writer, so SQLite can read it as immutable: without locks, and without
files beside it. A writer may come at any time, and an immutable connection would not notice. So each read opens the
file anew, and is repeated if the file has changed meanwhile. With a log beside the file, SQLite's locks apply; so they
do with a rollback journal, which a program writes that has switched the file to another journal mode.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never, TypeVar

from ledger.clock import Clock, NewId, new_id, utc_now
from ledger.errors import ConfigurationError, LedgerError, StoreRejected, StoreUnavailable
from ledger.files import is_from_system
from ledger.model.findings import Finding
from ledger.model.upcast import Upcaster
from ledger.stores.sqlite import first_rows, read, search_index
from ledger.stores.sqlite.connections import ATTEMPTS, Connection
from ledger.stores.sqlite.database_file import IMMUTABLE, READ_ONLY, OpenFile, log_of
from ledger.stores.sqlite.migrations import MIGRATIONS
from ledger.stores.sqlite.schema import check_ledger
from ledger.stores.sqlite.store import SqliteStore

T = TypeVar("T")
#: Why a store is read-only, as in ``is read-only: WHY``.
ASKED = "its URL says mode=ro"
MOUNTED = "its file system is mounted read-only"
#: What to do to write, by why a store is read-only; else the permissions are to be changed.
_WAYS_OUT = {
    ASKED: "Open it without mode=ro",
    MOUNTED: "Mount it for writing, or copy the ledger with `ledger backup`,",
}


def why_read_only(path: Path) -> str | None:
    """Return why a ledger can only be read by this process, for messages. None if it can be written, or is missing."""
    if not path.exists():
        return None
    if is_mounted_read_only(path):
        return MOUNTED
    if not os.access(path, os.W_OK):
        return "this user may not write the file"
    if not os.access(path.parent, os.W_OK) and not log_of(path).exists():
        return "this user may not write its folder"
    return None


class ReadOnlyStore(SqliteStore):
    """An event store in a SQLite file that is only read. What would write is refused with StoreRejected.

    Args:
        path: The file, which must exist.
        why: Why the store is read-only, for messages.
        wait: Seconds to wait while other processes write.
        clock, ids: Sources of times and ids.
        upcaster: Brings events of older schema versions to the present one.

    Raises:
        ConfigurationError: The file is missing, is not a ledger, or was written by another release, whose schema would
            have to be upgraded.
        StoreRejected, StoreUnavailable: The file cannot be opened or read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        why: str = ASKED,
        wait: float = 10.0,
        clock: Clock = utc_now,
        ids: NewId = new_id,
        upcaster: Upcaster | None = None,
    ) -> None:
        self._why = why
        super().__init__(path, create=False, wait=wait, clock=clock, ids=ids, upcaster=upcaster)

    def update_index(self) -> None:
        """Check that all rows are indexed, since none can be indexed now.

        Raises:
            StoreRejected: Rows were recorded after the last search.
        """

        def is_behind(connection: sqlite3.Connection) -> bool:
            wanted = read.last_seq(connection)
            return not search_index.exists(connection) or search_index.next_step(connection, wanted) is not None

        if self._read(is_behind, snapshot=True):
            raise StoreRejected(
                f"The ledger {self.path} cannot be searched while {self._why}: rows were recorded after its last "
                "search, and a search indexes them first. Search it where it is written, or search a copy that can be "
                "written."
            )

    def _check_words(self) -> Finding | None:
        """Check nothing: before SQLite 3.44 this check of the search index is a statement that writes."""
        return None

    def _create_and_open(self) -> None:
        self._file = OpenFile(self.path, read_only=True)
        self._connections.read_anew(lambda: READ_ONLY if _has_log(self.path) else IMMUTABLE)
        self._connections.check_file = self._file.check_read
        self._read = self._read_unchanged
        self._connections.open(self._open)

    def _open(self, writer: Connection) -> None:
        """Check the file, over a connection that cannot write either and is closed afterwards."""
        if not check_ledger(writer, str(self.path)):
            found = writer.execute("PRAGMA user_version").fetchone()[0]
            raise ConfigurationError(
                f"{self.path} has schema {found}, older than the {len(MIGRATIONS)} of this release, and cannot be "
                f"upgraded, since {self._why}. Open a copy of it that can be written."
            )
        first_rows.check_not_lost(writer, self.path)
        self._has_rows = True  # so that an append is refused by _run, which comes before any note of first rows
        self.store_id = read.meta(writer, "store_id")
        if read.state_schema(writer) != self._upcast.current:
            raise ConfigurationError(
                f"The states in {self.path} are of another version of the events, and cannot be computed again, since "
                f"{self._why}. Open a copy of it that can be written."
            )
        self._connections.close(writer)

    def _read_unchanged(self, work: Callable[[sqlite3.Connection], T], *, snapshot: bool = False) -> T:
        """Run ``work`` as ``Connections.read`` does, and again if a writer has changed the file meanwhile."""
        for _ in range(ATTEMPTS):
            before = _trace(self.path)
            try:
                result = self._connections.read(work, snapshot=snapshot)
            except Exception:
                if _trace(self.path) == before:
                    raise
                continue
            if _trace(self.path) == before:
                return result
        raise StoreUnavailable(f"The ledger {self.path} was changed {ATTEMPTS} times while it was read; try again.")

    def _run(self, work: Callable[[sqlite3.Connection], Any]) -> Never:
        if self._connections.refusal is not None:
            raise self._connections.refusal()
        way_out = _WAYS_OUT.get(self._why, "Change its permissions")
        raise StoreRejected(
            f"The ledger {self.path} is read-only: {self._why}; nothing was written. {way_out} to write."
        )

    def _error(self, error: sqlite3.Error | UnicodeDecodeError) -> LedgerError:
        whole_code = getattr(error, "sqlite_errorcode", None) or 0
        code = whole_code & 0xFF
        if whole_code == sqlite3.SQLITE_READONLY_ROLLBACK or (
            code == sqlite3.SQLITE_CANTOPEN and _is_hot(_journal(self.path))
        ):
            return StoreRejected(
                f"The ledger {self.path} has a journal, {_journal(self.path).name}, of a write that did not finish, "
                "and is whole only when SQLite has undone that write in the file. Open the ledger once where it can be "
                "written; or copy it with its journal to a folder of yours, and open the copy."
            )
        if code == sqlite3.SQLITE_CANTOPEN and log_of(self.path).exists() and os.access(self.path, os.R_OK):
            return StoreRejected(
                f"The ledger {self.path} has a write-ahead log, {log_of(self.path).name}, for which SQLite needs a "
                "file beside it, and it cannot write one there. Copy the ledger with its log to a folder of yours, and "
                "open the copy."
            )
        return super()._error(error)


def is_mounted_read_only(path: Path) -> bool:
    """Return True if the file system of an existing file or folder is mounted read-only."""
    if sys.platform == "win32":
        return False
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _journal(path: Path) -> Path:
    return Path(f"{os.path.realpath(path)}-journal")


def _has_log(path: Path) -> bool:
    """Return True if a log or a journal of an unfinished write is beside a file, so that SQLite's locks apply."""
    return log_of(path).exists() or _is_hot(_journal(path))


def _is_hot(journal: Path) -> bool:
    """Return True if a rollback journal exists and holds pages; one of a finished write may stay, with a blank header.

    SQLite writes the header before it writes to the file.
    """
    try:
        with open(journal, "rb") as file:
            return file.read(1) not in (b"", b"\0")
    except FileNotFoundError:
        return False
    except OSError as error:
        if not is_from_system(error):
            raise
        return True


def _trace(path: Path) -> tuple[int, ...] | None:
    """Return what changes with the file if nothing but this module reads it now. None if its log is beside it."""
    if _has_log(path) or not path.exists():  # the read itself says that a file is gone
        return None
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

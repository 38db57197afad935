"""The file of an embedded store: its creation, its modes, and checks that its path still names the open file.

A new file is created under a temporary name, and renamed once it is a complete ledger. A file must not have a second
name. SQLite's WAL and locks belong to a name, so processes that open a file under two names overwrite each other's
commits.

A write-ahead log whose file is missing or empty has rows that are nowhere else: SQLite would delete it, or apply it to
a new file. So no file is created or opened beside such a log.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from ledger.errors import ConfigurationError, StoreRejected
from ledger.files import is_from_system, remove_leftovers, whole_path
from ledger.stores.sqlite.errors import cannot

#: Seconds for which commits only look whether the WAL exists, after one has compared it with the open one.
_COMPARE_WAL = 0.1
#: Suffixes of the names of the files that make up a ledger.
SUFFIXES = ("", "-wal", "-shm", "-journal", "-turn", "-turn-queue")
#: What to do about a log whose file is lost.
REMEDY = (
    "Put the file back beside its log; or restore a backup with `ledger restore-backup FILE`, which keeps the log "
    "aside; or move the log away to begin a new ledger there"
)
#: Options of SQLite's URI of a file: how a connection is opened. An immutable file is read without locks.
READ_WRITE, READ_ONLY, IMMUTABLE = "mode=rw", "mode=ro", "mode=ro&immutable=1"


def own_files(path: Path) -> list[Path]:
    """Return the paths of all files of a ledger, given the path of its database. Some may not exist."""
    names = (path, Path(os.path.realpath(path))) if path.is_symlink() else (path,)
    return [name.with_name(name.name + suffix) for name in names for suffix in SUFFIXES]


def log_of(path: Path) -> Path:
    """Return the path of a ledger's log, which SQLite keeps beside the file that a symbolic link points to."""
    return Path(f"{os.path.realpath(path)}-wal")


def create(path: Path, fill: Callable[[sqlite3.Connection], None]) -> None:
    """Create a database atomically. If another process creates the file first, leave that file as it is.

    Args:
        path: The file.
        fill: Function that writes the content of a new database over a connection in autocommit mode.

    Raises:
        ConfigurationError: The directory is missing, or the log of a lost file is there.
        StoreRejected, StoreUnavailable: The file cannot be created.
        sqlite3.Error: ``fill`` failed.
    """
    if not path.parent.exists():
        raise ConfigurationError(
            f"There is no directory {path.parent} for the ledger {path.name}; check the path, or create the directory."
        )
    try:
        with whole_path(path, private=True, replace=False) as part, closing(connect(part)) as connection:
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.execute("PRAGMA synchronous = OFF")  # it is synced before it is put in its place
            fill(connection)
            check_not_lost(path)  # last, so that little time passes between it and the renaming
    except FileExistsError as error:
        if not path.is_file():
            raise cannot(f"create the ledger {path}", error) from error
    except OSError as error:
        if not is_from_system(error):
            raise
        raise cannot(f"create the ledger {path}", error) from error


def check_not_lost(path: Path) -> None:
    """Raise ConfigurationError if the write-ahead log of a file is there without the file."""
    if is_lost(path):
        raise ConfigurationError(f"{lost(path)}. {REMEDY}.")


def is_lost(path: Path) -> bool:
    """Return True if a log with content is at its place, and the file is missing or empty."""
    # Once more after the log: a process that creates the ledger now puts the file in its place before it writes a log.
    return not _has_content(path) and _has_content(log_of(path)) and not _has_content(path)


def lost(path: Path) -> str:
    """Return what happened to a ledger of which only the log is left."""
    state = "is empty" if path.exists() else "is missing"
    return (
        f"The file of the ledger {path} {state}, but its write-ahead log {log_of(path)} is there: the file was moved, "
        "deleted or truncated without its log, which has rows that the file may lack. Nothing was written"
    )


def _has_content(path: Path) -> bool:
    try:
        return os.stat(path).st_size > 0  # noqa: PTH116 - Path.stat takes twice as long; every connection pays for it
    except OSError as error:  # there is none; or the caller learns why when it opens the file
        if not is_from_system(error):
            raise
        return False


def copy(source: sqlite3.Connection, path: Path) -> None:
    """Copy a database into an existing, empty file, which has no WAL."""
    with closing(connect(path)) as target:
        source.backup(target, pages=-1)
        target.execute("PRAGMA journal_mode = DELETE")


def connect(
    path: Path,
    *,
    wait: float = 5.0,
    mode: str = READ_WRITE,
    cached_statements: int = 64,
    factory: type[sqlite3.Connection] = sqlite3.Connection,
) -> sqlite3.Connection:
    """Open an existing database. A missing file is not created; SQLite raises an error.

    Raises:
        ConfigurationError: The file is missing or empty, and its log is there.
    """
    check_not_lost(path)
    name = path.as_posix().replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return sqlite3.connect(
        os.fsencode(f"file://{'' if name.startswith('/') else '/'}{name}?{mode}"),
        uri=True,
        isolation_level=None,
        timeout=wait,
        check_same_thread=False,
        cached_statements=cached_statements,
        factory=factory,
    )


def match_mode(descriptor: int, path: Path) -> None:
    """Give a lock file the mode and owner of the database, so that only those who may write the database can lock it.

    A process that could lock the file without being able to write the database could block all writers.
    """
    if sys.platform == "win32":
        return
    database, lock = path.stat(), os.fstat(descriptor)
    writable = stat.S_IMODE(database.st_mode) & 0o222
    mode = 0o600 | writable | writable << 1
    with suppress(PermissionError):  # the file belongs to another user, who has set its mode
        if os.geteuid() == 0 and (lock.st_uid, lock.st_gid) != (database.st_uid, database.st_gid):
            os.fchown(descriptor, database.st_uid, database.st_gid)
        if stat.S_IMODE(lock.st_mode) != mode:
            os.fchmod(descriptor, mode)


class OpenFile:
    """An open database file, with checks that its path still names the same file and that the file has no second name.

    Args:
        path: The file, which the caller has opened.
        read_only: True to change nothing in its folder.

    Raises:
        StoreRejected: The file has a second name, or it is gone.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._name, self._wal_name = str(path), str(log_of(path))
        status = self._status()
        if status.st_nlink > 1 and not read_only:
            remove_leftovers(path, status)
            status = self._status()
        self._device, self._inode = status.st_dev, status.st_ino
        self._compare_wal_at = 0.0
        self._wal: tuple[int, int] | None = None  # its device may be another, if only the file is mounted there
        self.check_write()

    def note_wal(self, connection: sqlite3.Connection) -> None:
        """Remember which file is the WAL now, so that ``check_write`` can tell whether it was deleted or replaced."""
        connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()  # the first read opens the WAL
        try:
            status = Path(self._wal_name).stat()
        except OSError as error:
            if not is_from_system(error):
                raise
            self._wal = None
        else:
            self._wal = status.st_dev, status.st_ino

    # os.stat and not Path.stat, which takes twice as long; every read and every commit pays for it.

    def check_read(self) -> None:
        """Raise StoreRejected if the file was moved, deleted or replaced, because reads would return outdated data."""
        self._same_file()

    def check_write(self) -> None:
        """Raise StoreRejected if a commit could be lost: the file or its WAL is gone, or the file has a second name."""
        status = self._same_file()
        if status.st_nlink > 1:
            raise StoreRejected(
                f"The ledger {self._path} has {status.st_nlink} names (hard links), and SQLite keeps a log for each: "
                "commits under one name would overwrite those under the other. Nothing was written. Remove the other "
                f"names (find them with `find DIRECTORY -samefile {self._path}`); to copy a ledger use `ledger backup`."
            )
        if self._wal is not None:
            self._check_wal(self._wal)

    def _check_wal(self, identity: tuple[int, int]) -> None:
        # Where time stamps are exact (Linux 6.13), the first write after a stat changes the inode, and the sync of that
        # commit takes half as long again. So a commit that soon follows another only looks whether the WAL is there.
        now = time.monotonic()
        if now < self._compare_wal_at and os.access(self._wal_name, os.F_OK):
            return
        try:
            wal = os.stat(self._wal_name)  # noqa: PTH116
        except OSError as error:
            if not is_from_system(error):
                raise
            raise self._without_wal() from error
        if (wal.st_dev, wal.st_ino) != identity:
            raise self._without_wal()
        self._compare_wal_at = now + _COMPARE_WAL

    def _same_file(self) -> os.stat_result:
        """Return the status of the file at the path. Raise StoreRejected if it is not the open one."""
        status = self._status()
        if status.st_ino != self._inode or status.st_dev != self._device:
            raise self._gone()
        return status

    def _status(self) -> os.stat_result:
        try:
            return os.stat(self._name)  # noqa: PTH116
        except OSError as error:
            if not is_from_system(error):
                raise
            raise self._gone() from error

    def _gone(self) -> StoreRejected:
        return StoreRejected(
            f"The ledger {self._path} was deleted, moved or replaced while it was open; nothing was written. Put the "
            "file back, or close this ledger and open it again."
        )

    def _without_wal(self) -> StoreRejected:
        return StoreRejected(
            f"The write-ahead log {self._wal_name} was deleted or replaced while the ledger was open; nothing was "
            "written. Close the ledger in every process, which saves what this log holds, and open it again. Never "
            "delete the files beside a ledger."
        )

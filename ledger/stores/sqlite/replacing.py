"""Replacement of a ledger's file by a backup.

The backup is copied beside the ledger and verified there. Then the former file gets a second name, and the copy is
renamed to the ledger's. So at any moment the path holds one of the two files, and never a file with the other's log: a
write-ahead log belongs to a name, and SQLite would apply that of the former file to the backup. On a file system
without hard links the former file is renamed, and for a moment an empty file stands at the path, which no ledger opens.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ledger.clock import Clock, utc_now
from ledger.errors import ConfigurationError, CorruptEvent, InvalidInput, StoreRejected, StoreUnavailable
from ledger.files import check_apart, is_from_system, whole_path
from ledger.model.instants import from_micros
from ledger.stores.base import Unreconciled
from ledger.stores.sqlite import read, unreconciled
from ledger.stores.sqlite.database_file import connect, own_files
from ledger.stores.sqlite.errors import cannot, naming_copy, translate
from ledger.stores.sqlite.former import (
    REPLACED,
    WAIT,
    Former,
    deletions_of,
    has_header,
    known_before,
    known_of,
    reading,
)
from ledger.stores.sqlite.schema import check_ledger
from ledger.stores.sqlite.store import SqliteStore
from ledger.warehouse.duckdb.creation import absence
from ledger.warehouse.urls import duckdb_file

if sys.platform != "win32":
    import fcntl

#: The bytes of a database that every connection to it has locked while it is open in WAL mode; see os_unix.c of SQLite.
_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510
#: What a log's name ends in.
_LOGS = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Replaced:
    """The result of a replacement.

    Attributes:
        path: The ledger.
        former: Where the former file is now; None if there was none.
        sessions, events: What the backup holds, all verified. Events of archived sessions are not counted.
        last_recorded: The time of the last event; None without sessions.
        unreconciled: The warehouses that may have events which the backup lacks. The ledger is marked with them.
        former_read: True if the former file could be read, so that its deletions are known.
        purged: The ids of the backup's sessions that had been purged in the former file, and were purged again.
        deleted: All sessions that are deleted in the former file, and not purged, each with the id of the event that
            deleted it.
    """

    path: Path
    former: Path | None
    sessions: int
    events: int
    last_recorded: datetime | None
    unreconciled: tuple[Unreconciled, ...]
    former_read: bool = False
    purged: tuple[str, ...] = ()
    deleted: tuple[tuple[str, str], ...] = ()


def replace_by_backup(
    path: Path,
    backup: Path,
    *,
    warehouses: Collection[str] = (),
    created_from: datetime | None = None,
    clock: Clock = utc_now,
    progress: Callable[[int], object] | None = None,
) -> Replaced:
    """Put a backup in the place of a ledger, and keep the former file beside it.

    The copy is marked as not reconciled with each warehouse that may have later events (see ``unreconciled.py``): those
    that had rows of the backup's ledger, those that had rows of the former file's, those with which the former file was
    not reconciled itself, and ``warehouses``.

    Sessions that were purged in the former file since the backup was written are purged in the copy.

    Args:
        path: The ledger; it may be missing or damaged.
        backup: A file that ``ledger backup`` wrote. It stays as it is.
        warehouses: URLs of further warehouses, as the store knows them.
        created_from: Time of creation of the first sessions to reconcile; None for the first session of the backup or
            of the former file, and for all sessions if that one cannot be read. An earlier time in a mark stays.
        clock: Source of the time in the name of the former file.
        progress: Called with the number of rows that were verified since the last call.

    Raises:
        StoreUnavailable: A program has the ledger open; nothing was changed.
        ConfigurationError: The backup is missing, or is no ledger of this or an earlier release.
        CorruptEvent: The backup is damaged.
        InvalidInput: The backup is a file of the ledger itself, or is that of another ledger.
        StoreRejected: The directory of the ledger is missing or cannot be written, or the former file could not get
            its name back.
    """
    path, backup = Path(os.path.realpath(path)), backup.absolute()
    if not backup.is_file():
        raise ConfigurationError(f"There is no backup {backup}; check the path.")
    check_apart(backup, own_files(path))
    with _translated(backup):
        own, known = _check_source(backup, path)
    if path.exists() and _is_open(path):
        raise _in_use(path)
    former, written = _free_name(path, clock()), datetime.fromtimestamp(backup.stat().st_mtime, UTC)
    copied: os.stat_result | None = None
    try:
        with whole_path(path, private=True) as part:
            with _translated(backup), naming_copy(path, part):
                found = replace(_verified_copy(backup, part, path, {*known, *warehouses}, progress), path=path)
                others = [each for each in warehouses if not found.former_read or not _is_missing(each)]
                since = _since(part, own, created_from, written)
                marked = unreconciled.mark_copy(part, {**dict.fromkeys(others), **known}, since)
            _sync(part)  # before _claim, so that little time passes between it and the renaming
            with _translated(path):
                _claim(path)
            copied = part.stat()
            _set_aside(path, former)
    except BaseException as error:
        if copied is not None and not _is_at(path, copied):
            _put_back(path, former)
        if isinstance(error, OSError) and is_from_system(error):
            raise cannot(f"restore the ledger {path}", error) from error
        raise
    if former.exists() and _is_open(former):
        _put_back(path, former)
        raise _in_use(path)
    return replace(found, former=former if former.exists() else None, unreconciled=tuple(marked))


def _check_source(backup: Path, path: Path) -> tuple[Former | None, Mapping[str, datetime | None]]:
    """Check that a backup is a ledger, and of the same store as the file that it replaces, if that one has sessions.

    Returns:
        What the file to be replaced knows; None if it cannot be read or is of another store. And the warehouses that
        may have rows of its sessions, as ``Former.warehouses``.
    """
    with reading(backup) as connection:
        check_ledger(connection, str(backup))
        wanted = read.meta(connection, "store_id")
    found = known_of(path)
    if found is not None and found.store_id != wanted:
        if found.sessions:
            raise InvalidInput(
                f"{backup} is a backup of another ledger than {path}, which has {found.sessions:,} of its own "
                "sessions; nothing was changed. Check both paths. To replace it all the same, move it and the files "
                "beside it away first."
            )
        found = None
    return found, known_before(path, wanted) if found is None else found.warehouses


def _claim(path: Path) -> None:
    """Fold the log of a ledger into its file, which SQLite does only if no other connection is open.

    Raises:
        StoreUnavailable: A program has the ledger open.
        sqlite3.Error: The file cannot be written.
    """
    if not has_header(path):  # SQLite would delete the log of an empty file
        if path.exists() and _is_open(path):
            raise _in_use(path)
        return
    try:
        with closing(connect(path, wait=WAIT)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE").fetchone()
    except sqlite3.Error as error:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise _in_use(path) from error
        if code not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR):
            raise
        if _is_open(path):
            raise _in_use(path) from error


def _in_use(path: Path) -> StoreUnavailable:
    return StoreUnavailable(
        f"A program has the ledger {path} open, and would go on with the file that is replaced; nothing was changed. "
        "Stop every program that uses it, relays above all (`fuser` names them), and try again."
    )


def _is_open(path: Path) -> bool:
    """Return True if another process has a connection to a file in WAL mode. Do not call it with one of one's own."""
    if sys.platform == "win32":
        return False
    with open(path, "r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
        except BlockingIOError:
            return True
        fcntl.lockf(file, fcntl.LOCK_UN, _SHARED_SIZE, _SHARED_FIRST)
    return False


def _verified_copy(
    backup: Path, part: Path, path: Path, warehouses: Collection[str], progress: Callable[[int], object] | None
) -> Replaced:
    """Copy a backup to ``part``, bring the copy to the present schema, verify it, and carry deletions over.

    Args:
        backup: The backup.
        part: The copy.
        path: The file to be replaced.
        warehouses: URLs of the warehouses that may have rows of the sessions, besides those that the backup knows.
        progress: As for ``replace_by_backup``.
    """
    with reading(backup) as source, closing(connect(part)) as target:
        source.backup(target, pages=-1)
        if target.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
            raise CorruptEvent(_damaged(backup, "its pages are not what was written"))
    try:
        with closing(SqliteStore(part, create=False)) as store:
            report = store.verify(rebuild=True, progress=progress)
            if report.left:
                raise CorruptEvent(_damaged(backup, report.left[0].message))
            found = deletions_of(path, store.store_id)
            purged = [] if found is None else store.carry_deletions(found, {*store.warehouses(), *warehouses})
        with closing(connect(part)) as connection:
            # Of relays, as the copy of a lease holds off nobody but those who begin with the restored file.
            connection.execute("UPDATE relays SET holder = NULL, lease_until = 0")
            (last,) = connection.execute("SELECT MAX(updated_at) FROM session_heads").fetchone()
            connection.execute("PRAGMA journal_mode = DELETE").fetchone()
    finally:
        for each in own_files(part)[1:]:
            each.unlink(missing_ok=True)
    at = None if last is None else from_micros(last)
    replaced = Replaced(part, None, report.sessions, report.events, at, (), found is not None)
    return replaced if found is None else replace(replaced, purged=tuple(purged), deleted=tuple(found.deleted))


def _since(part: Path, former: Former | None, created_from: datetime | None, written: datetime) -> datetime:
    """Return the time of creation of the first sessions to reconcile.

    It is midnight of the day of the first session, in the backup or in the former file, which may have got earlier ones
    by an import. Without a former file such sessions are not known, so it is the earliest time.

    Args:
        part: The copy of the backup.
        former: What the former file knows; None if it could not be read.
        created_from: What the caller asked for; None for nothing.
        written: When the backup was written, which is the first day of a ledger without sessions.
    """
    if created_from is not None:
        return created_from
    if former is None:
        return unreconciled.EARLIEST
    with closing(connect(part)) as connection:
        (first,) = connection.execute("SELECT MIN(created_at) FROM session_heads").fetchone()
    found = [each for each in (None if first is None else from_micros(first), former.first) if each is not None]
    return min(found, default=written).replace(hour=0, minute=0, second=0, microsecond=0)


def _is_missing(warehouse: str) -> bool:
    """Return True if a warehouse's URL names a DuckDB file that is missing or empty."""
    file = duckdb_file(warehouse)
    return file is not None and absence(file) is not None


def _damaged(backup: Path, what: str) -> str:
    return (
        f"The backup {backup} is damaged ({what}); nothing was changed. Restore another one, or see what is wrong with "
        f"`ledger --url {backup} verify`."
    )


def _sync(part: Path) -> None:
    with open(part, "r+b") as file:
        os.fsync(file.fileno())


def _set_aside(path: Path, former: Path) -> None:
    """Give the former file, and a log that could not be folded into it, a name that ends in ``former``'s.

    The file keeps its own name as well, which is replaced later. On a file system without hard links an empty file
    holds that name.

    Raises:
        StoreUnavailable: A program has opened the ledger since its log was folded into it.
    """
    if has_header(path) and _beside(path, "-wal").exists() and _is_open(path):
        raise _in_use(path)
    is_linked = path.exists() and _linked(path, former)
    for suffix in _LOGS:
        with suppress(FileNotFoundError):
            _beside(path, suffix).rename(_beside(former, suffix))
    if is_linked or not path.exists():
        return
    path.rename(former)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    if _is_open(former):
        raise _in_use(path)


def _linked(path: Path, former: Path) -> bool:
    """Give a file a second name; return False if the file system has no hard links."""
    try:
        former.hardlink_to(path)
    except OSError as error:
        if not is_from_system(error) or isinstance(error, FileExistsError):
            raise
        return False
    return True


def _put_back(path: Path, former: Path) -> None:
    """Undo ``_set_aside``, however far it came.

    Raises:
        StoreRejected: A program has begun a log or a ledger of its own at the path, so that the former one stays where
            it is; or the file system refuses a name.
    """
    try:
        # The log is at its place before the second name is gone, since no ledger opens a file with two names. A file
        # that was renamed comes first: SQLite deletes a log that it finds beside an empty file.
        is_linked = former.exists() and path.exists() and former.samefile(path)
        if not is_linked and former.exists():
            former.replace(path)
        for suffix in _LOGS:
            kept, own = _beside(former, suffix), _beside(path, suffix)
            if not kept.exists():
                continue
            if own.exists():
                raise FileExistsError(errno.EEXIST, f"a program has written {own.name} meanwhile")
            kept.rename(own)
        if is_linked:
            former.unlink()
    except OSError as error:
        if not is_from_system(error):
            raise
        raise StoreRejected(
            f"The ledger {path} could not be replaced, nor could all of its files get their names back "
            f"({error.strerror}). Stop every program that uses it, and rename each file {former.name}* that is left to "
            f"{path.name} with the same ending."
        ) from error


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _is_at(path: Path, status: os.stat_result) -> bool:
    """Return True if a path is that of the file with a given status."""
    return path.exists() and os.path.samestat(path.stat(), status)


def _free_name(path: Path, now: datetime) -> Path:
    name = f"{path.name}{REPLACED}{now:%Y%m%dT%H%M%SZ}"
    names = (name, *(f"{name}-{number}" for number in range(2, 100)))
    return next(
        each
        for each in map(path.with_name, names)
        if not any(os.path.lexists(_beside(each, suffix)) for suffix in ("", *_LOGS))
    )


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Context manager that translates errors of SQLite about a file."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise translate(error, path) from error

"""Checks of ``ledger doctor`` for a ledger in a SQLite file. They change nothing: a trial append is rolled back."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.cli.doctor.findings import NOTE, OK, PROBLEM, Finding
from ledger.cli.output.text import counted
from ledger.errors import CorruptEvent, LedgerError
from ledger.files import absolute_path
from ledger.stores.sqlite import database_file
from ledger.stores.sqlite.database_file import IMMUTABLE, READ_ONLY, connect

if TYPE_CHECKING:
    from ledger.stores.urls import SqliteFile

#: Free space below this number of bytes is a problem.
LOW_DISK = 100_000_000
#: Share of ``max_bytes`` from which the size of the file is noted.
NEARLY_FULL = 0.9
#: Seconds to wait while other processes write.
SECONDS = 2.0


def examine_file(file: SqliteFile) -> Iterator[Finding]:
    path = absolute_path(file.path)
    if database_file.is_lost(path):
        yield Finding("file", PROBLEM, database_file.lost(path), database_file.REMEDY)
        yield from _folder(path.parent)
        return
    if not path.exists():
        yield Finding("file", PROBLEM, f"{path} does not exist", "create it with `ledger init`, or check LEDGER_URL")
        yield from _folder(_nearest(path.parent))
        return
    found = list(_file(path))
    yield from found
    yield from _folder(path.parent)
    yield _durability(file.synchronous)
    if file.max_bytes is not None:
        yield _bound(path, file.max_bytes)
    if all(each.status == OK or each.what == "restored" for each in found):
        yield _append(file._replace(path=path))


def _durability(synchronous: str) -> Finding:
    if synchronous == "FULL":
        return Finding("synchronous", OK, "FULL: appends survive a power failure")
    if synchronous == "NORMAL":
        return Finding("synchronous", NOTE, "NORMAL: a power failure may lose the last appends")
    return Finding("synchronous", PROBLEM, f"{synchronous} is unknown", "use ?synchronous=FULL or NORMAL in the URL")


def _bound(path: Path, max_bytes: int) -> Finding:
    from ledger.stores.sqlite.write import used_bytes

    try:
        with reading(path) as connection:
            size = used_bytes(connection)
    except (sqlite3.Error, LedgerError):  # the checks of the file say what is wrong
        size = path.stat().st_size
    share = "more than 100%" if size > max_bytes else f"{size / max_bytes:.0%}"
    detail = f"{max_bytes:,} bytes, of which {share} are used"
    if size < NEARLY_FULL * max_bytes:
        return Finding("max_bytes", OK, detail)
    return Finding(
        "max_bytes", NOTE, detail, "raise it, or archive sessions: `ledger sync` and `ledger maintain` make room"
    )


def _append(file: SqliteFile) -> Finding:
    """Try an append, which is rolled back."""
    from ledger.stores.sqlite.read_only import ASKED, MOUNTED, why_read_only
    from ledger.stores.sqlite.store import SqliteStore

    why = ASKED if file.read_only else why_read_only(file.path)
    if why is not None:
        remedy = "mount it for writing" if why == MOUNTED else "change the permissions, or run as the owner"
        remedy = "" if file.read_only else remedy
        return Finding(
            "append", NOTE if file.read_only else PROBLEM, f"not tried: the ledger is read-only: {why}", remedy
        )
    try:
        with closing(
            SqliteStore(file.path, create=False, synchronous=file.synchronous, max_bytes=file.max_bytes, wait=SECONDS)
        ) as store:
            store.try_append()
    except LedgerError as error:
        return Finding("append", PROBLEM, str(error), "do what the message says: appends fail in the same way")
    return Finding("append", OK, "a trial append succeeded, and was rolled back")


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Context manager that opens a SQLite file and creates no file beside it.

    It is opened as immutable, which is safe only without a WAL file. With one, the other files exist already.
    """
    mode = READ_ONLY if database_file.log_of(path).exists() else IMMUTABLE
    with closing(connect(path, wait=SECONDS, mode=mode)) as connection:
        yield connection


def _nearest(folder: Path) -> Path:
    """Return the folder if it exists, or else the nearest of its parents that exists."""
    return next((each for each in (folder, *folder.parents) if each.exists()), Path("/"))


def _file(path: Path) -> Iterator[Finding]:
    """Check a SQLite file without changing it."""
    from ledger.stores.sqlite import first_rows, unreconciled
    from ledger.stores.sqlite.migrations import MIGRATIONS
    from ledger.stores.sqlite.read import meta
    from ledger.stores.sqlite.schema import APPLICATION_ID

    size = f"{path.stat().st_size:,} bytes"
    try:
        with reading(path) as connection:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            schema = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]
            ours = application == APPLICATION_ID
            sessions = connection.execute("SELECT COUNT(*) FROM session_heads").fetchone()[0] if ours else 0
            lost = ours and first_rows.is_lost(connection, path)
            marks = unreconciled.marks(connection) if ours else []
            if ours:
                meta(connection, "store_id")
    except (sqlite3.Error, CorruptEvent) as error:
        from ledger.stores.sqlite.errors import OPENING, is_closed_to_user, is_without_room, translate

        message = str(error if isinstance(error, CorruptEvent) else translate(error, path))
        is_full = is_without_room(error, path)
        remedy = "free some space" if is_full else "set LEDGER_URL to a ledger, or restore a backup"
        if is_closed_to_user(path):
            remedy = OPENING[0].lower() + OPENING[1:]
        yield Finding("file", PROBLEM, message, remedy)
        return
    if application == 0 and not tables:
        detail = f"{path} holds nothing: the program that created or copied it did not finish"
        yield Finding("file", PROBLEM, detail, "restore a backup, or move it away to begin a new ledger there")
        return
    if not ours:
        detail = f"{path} is a SQLite database of another program"
        yield Finding("file", PROBLEM, detail, "set LEDGER_URL to another file")
        return
    if lost:
        yield Finding("file", PROBLEM, first_rows.lost(path), first_rows.REMEDY)
        return
    yield Finding("file", OK, f"{path}, {size}, {counted(sessions, 'session')}")
    if schema > len(MIGRATIONS):
        detail = f"{schema}, newer than {len(MIGRATIONS)} of this release"
        yield Finding("schema", PROBLEM, detail, "install a newer release of the ledger")
    elif schema < len(MIGRATIONS):
        yield Finding("schema", NOTE, f"{schema}; the next command upgrades it to {len(MIGRATIONS)}")
    else:
        yield Finding("schema", OK, str(schema))
    if marks:
        yield Finding("restored", PROBLEM, unreconciled.said(path, marks), unreconciled.remedy(marks))
    if (links := path.stat().st_nlink) > 1:
        remedy = f"remove the other names: find DIRECTORY -samefile '{path}'"
        yield Finding("names", PROBLEM, f"{links} hard links; commits under one overwrite those under another", remedy)


def _folder(folder: Path) -> Iterator[Finding]:
    from ledger.stores.sqlite.read_only import is_mounted_read_only

    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding(
            "folder",
            PROBLEM,
            f"{folder} is not writable; the ledger creates files beside itself",
            "mount it for writing" if is_mounted_read_only(folder) else "change its permissions",
        )
    free = shutil.disk_usage(folder).free
    low = free < LOW_DISK
    yield Finding("disk", PROBLEM if low else OK, f"{free / 1e9:,.1f} GB free", "free some space" if low else "")

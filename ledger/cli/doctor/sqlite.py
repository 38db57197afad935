"""Checks of ``ledger doctor`` for a ledger in a SQLite file. They change nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ledger.cli.doctor.findings import NOTE, OK, PROBLEM, Finding
from ledger.cli.output.text import counted
from ledger.errors import CorruptEvent

if TYPE_CHECKING:
    from ledger.stores.urls import SqliteFile

#: Free space below this number of bytes is a problem.
LOW_DISK = 100_000_000


def examine_file(file: SqliteFile) -> Iterator[Finding]:
    path = Path(file.path).absolute()
    if not path.exists():
        yield Finding("file", PROBLEM, f"{path} does not exist", "create it with `ledger init`, or check LEDGER_URL")
        yield from _folder(_nearest(path.parent))
        return
    yield from _file(path)
    yield from _folder(path.parent)
    yield _durability(file.synchronous)
    yield from _warehouse(path.with_suffix(".duckdb"))


def _durability(synchronous: str) -> Finding:
    if synchronous == "FULL":
        return Finding("synchronous", OK, "FULL: appends survive a power failure")
    if synchronous == "NORMAL":
        return Finding("synchronous", NOTE, "NORMAL: a power failure may lose the last appends")
    return Finding("synchronous", PROBLEM, f"{synchronous} is unknown", "use ?synchronous=FULL or NORMAL in the URL")


def _nearest(folder: Path) -> Path:
    """Return the folder if it exists, or else the nearest of its parents that exists."""
    return next((each for each in (folder, *folder.parents) if each.exists()), Path("/"))


def _file(path: Path) -> Iterator[Finding]:
    """Check a SQLite file without changing it."""
    from ledger.stores.sqlite import first_rows
    from ledger.stores.sqlite.migrations import MIGRATIONS
    from ledger.stores.sqlite.read import meta
    from ledger.stores.sqlite.schema import APPLICATION_ID

    size = f"{path.stat().st_size:,} bytes"
    try:
        # Reading a WAL database creates files beside it, unless it is opened as immutable. That is safe only without a
        # WAL file; with one, the other files exist already.
        mode = "mode=ro" if path.with_name(path.name + "-wal").exists() else "immutable=1"
        connection = sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True, timeout=2)
        try:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            schema = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]
            ours = application == APPLICATION_ID
            sessions = connection.execute("SELECT COUNT(*) FROM session_heads").fetchone()[0] if ours else 0
            lost = ours and first_rows.is_lost(connection, path)
            if ours:
                meta(connection, "store_id")
        finally:
            connection.close()
    except (sqlite3.Error, CorruptEvent) as error:
        from ledger.stores.sqlite.errors import translate

        message = str(error if isinstance(error, CorruptEvent) else translate(error, path))
        yield Finding("file", PROBLEM, message, "set LEDGER_URL to a ledger, or restore a backup")
        return
    if application == 0 and not tables:
        detail = f"{path} holds nothing: the program that created or copied it did not finish"
        yield Finding("file", PROBLEM, detail, "restore a backup, or delete the file to begin a new ledger there")
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
        yield Finding("schema", PROBLEM, detail, "pip install --upgrade session-ledger")
    elif schema < len(MIGRATIONS):
        yield Finding("schema", NOTE, f"{schema}; the next command upgrades it to {len(MIGRATIONS)}")
    else:
        yield Finding("schema", OK, str(schema))
    if (links := path.stat().st_nlink) > 1:
        remedy = f"remove the other names: find DIRECTORY -samefile '{path}'"
        yield Finding("names", PROBLEM, f"{links} hard links; commits under one overwrite those under another", remedy)
    if os.access(path, os.W_OK):
        yield Finding("writable", OK, "yes")
    else:
        yield Finding("writable", PROBLEM, f"{path} is not writable", f"chmod u+w '{path}', or run as its owner")


def _folder(folder: Path) -> Iterator[Finding]:
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding(
            "folder",
            PROBLEM,
            f"{folder} is not writable; the ledger creates files beside itself",
            "change its permissions",
        )
    free = shutil.disk_usage(folder).free
    low = free < LOW_DISK
    yield Finding("disk", PROBLEM if low else OK, f"{free / 1e9:,.1f} GB free", "free some space" if low else "")


def _warehouse(path: Path) -> Iterator[Finding]:
    if not path.exists():
        yield Finding("duckdb", NOTE, f"{path.name} does not exist", "`ledger sql` creates it")
    elif os.access(path, os.R_OK | os.W_OK):
        yield Finding("duckdb", OK, f"{path.name}, {path.stat().st_size:,} bytes")
    else:
        remedy = f"change its permissions, or delete it: `ledger sql` creates '{path}' again from the ledger"
        yield Finding("duckdb", PROBLEM, f"{path.name} is not readable and writable", remedy)

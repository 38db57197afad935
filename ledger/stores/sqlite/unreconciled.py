"""The marks in a ledger's file that a backup took its place: what a warehouse may have that the file lacks.

An append to a session without its latest events gives the session two histories. A restored file therefore has a mark
for each warehouse that may have later events, from the moment it is at the ledger's path until ``reconcile`` has
compared it with that warehouse. The marks are rows of the table ``meta``.
"""

from __future__ import annotations

import logging
import shlex
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from ledger.model.instants import from_micros, to_micros
from ledger.stores.base import Unreconciled
from ledger.stores.sqlite import read, tombstones
from ledger.stores.sqlite.connections import Read
from ledger.stores.sqlite.database_file import connect

log = logging.getLogger("ledger.store")
#: What the name of a mark in ``meta`` begins with; the warehouse's URL follows.
PREFIX = "unreconciled "
_MARK = (
    "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value "
    "WHERE CAST(excluded.value AS INTEGER) < CAST(value AS INTEGER)"
)
_MARKED = "SELECT EXISTS (SELECT 1 FROM meta WHERE name >= ? AND name < ?)"
_NAMES = "SELECT name FROM meta WHERE name >= ? AND name < ?"
_RANGE = PREFIX, PREFIX.replace(" ", "!")
_CLEAR = "DELETE FROM meta WHERE name = ?"
_WARNED: set[Path] = set()
#: The time of a mark that is about all sessions.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


def mark_copy(part: Path, others: Mapping[str, datetime | None], created_from: datetime) -> list[Unreconciled]:
    """Mark the copy of a backup as not reconciled with warehouses and with those it has shipped to. Return all marks.

    A mark that the copy has already stays if it is about earlier sessions.

    Args:
        part: The copy, in the journal mode DELETE.
        others: URLs of further warehouses, each with the time of the mark that another file has for it, if it has one.
        created_from: Time of creation of the first sessions to reconcile.
    """
    with closing(connect(part)) as connection:
        found = {**dict.fromkeys(tombstones.warehouses(connection)), **others}
        starts = [(name, min(created_from, start or created_from)) for name, start in found.items()]
        connection.executemany(_MARK, [(PREFIX + name, str(to_micros(start))) for name, start in starts])
        return marks(connection)


def is_marked(connection: sqlite3.Connection) -> bool:
    """Return True if a file has a mark."""
    return bool(connection.execute(_MARKED, _RANGE).fetchone()[0])


def marks(connection: sqlite3.Connection) -> list[Unreconciled]:
    """Return the marks of a file, in the order of the warehouses' URLs.

    Raises:
        CorruptEvent: A mark is damaged.
    """
    names = [name for (name,) in connection.execute(_NAMES, _RANGE).fetchall()]
    return [Unreconciled(name.removeprefix(PREFIX), from_micros(read.number(connection, name))) for name in names]


def starts(connection: sqlite3.Connection) -> dict[str, datetime]:
    """Return the time of each mark of a file, by the warehouse's URL; that of a damaged mark is the earliest time."""
    names = [name for (name,) in connection.execute(_NAMES, _RANGE).fetchall()]
    found = [(name, read.whole(read.meta(connection, name))) for name in names]
    return {name.removeprefix(PREFIX): EARLIEST if at is None else from_micros(at) for name, at in found}


def clear(connection: sqlite3.Connection, warehouse: str) -> bool:
    """Remove the mark for a warehouse. Return False if there is none."""
    return connection.execute(_CLEAR, (PREFIX + warehouse,)).rowcount > 0


def clear_covered(connection: sqlite3.Connection, warehouse: str, created_from: datetime) -> None:
    """Remove the mark for a warehouse, unless it is also about sessions created before ``created_from``."""
    if any(each.warehouse == warehouse and each.created_from >= created_from for each in marks(connection)):
        clear(connection, warehouse)


def warn(path: Path, read_from: Read) -> None:
    """Log a warning if a file still has marks; once per process and file."""
    if path not in _WARNED:
        found = read_from(marks)
        if found:
            _WARNED.add(path)
            log.warning("%s. %s.", said(path, found), remedy(found))


def said(path: Path, found: Sequence[Unreconciled]) -> str:
    """Return what the marks of a file say."""
    warehouses = " and ".join(each.warehouse for each in found)
    return (
        f"{path} was restored from a backup and has not been reconciled with {warehouses} since. A session that is "
        "appended to without its latest events has two histories from then on"
    )


def remedy(found: Sequence[Unreconciled]) -> str:
    """Return what to do about the marks of a file."""
    return f"Stop the programs that append, and type: {'; '.join(map(command_for, found))}"


def command_for(found: Unreconciled) -> str:
    """Return the command that reconciles a file with a warehouse."""
    day = f"{found.created_from:%Y-%m-%d}"
    return f"ledger reconcile --repair --from {day} --warehouse {shlex.quote(found.warehouse)}"

"""The schema of the embedded store's file: which one it has, and how it comes to the present one.

``PRAGMA user_version`` holds the number of the last migration applied, ``PRAGMA application_id`` marks the file as
ours.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime

from ledger.errors import ConfigurationError
from ledger.model.events import SCHEMA_VERSION
from ledger.model.instants import to_micros
from ledger.stores.sqlite.migrations import MIGRATIONS, MIGRATIONS_TABLE

#: "LEDG" in ASCII.
APPLICATION_ID = 0x4C454447


def migrate(
    connection: sqlite3.Connection,
    path: str,
    *,
    new_store_id: str,
    now: datetime,
    state_schema: int = SCHEMA_VERSION,
    upto: int = len(MIGRATIONS),
) -> None:
    """Bring a database to the present schema, whole or not at all; an empty file becomes a ledger.

    Args:
        connection: In autocommit mode.
        path: For messages.
        new_store_id: The identity of the store, where this call makes one.
        now: When migrations are noted to be applied.
        state_schema: The schema_version of the events that ``session_state`` is folded from, in a new file.
        upto: Number of the last migration to run; tests of upgrades stop earlier.

    Raises:
        ConfigurationError: The file belongs to another program, or was written by a newer version of this one.
    """
    if is_ready(connection, path, upto):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not is_ready(connection, path, upto):  # another process may have done it while this one waited
            found = _pragma(connection, "user_version")
            for migration in MIGRATIONS[found:upto]:
                for statement in migration.statements:
                    connection.execute(statement)
            _note(connection, found, upto, now)
            if found == 0:
                connection.execute("INSERT INTO meta VALUES ('store_id', ?), ('epoch', '1')", (new_store_id,))
                connection.execute("INSERT INTO meta VALUES ('state_schema', ?)", (str(state_schema),))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {upto:d}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _note(connection: sqlite3.Connection, found: int, upto: int, now: datetime) -> None:
    """Record the migrations after ``found`` as applied now, and those before at a time that nobody noted."""
    if MIGRATIONS_TABLE not in MIGRATIONS[:upto]:
        return
    applied = [
        (migration.name, None if number < found else to_micros(now))
        for number, migration in enumerate(MIGRATIONS[:upto])
    ]
    connection.executemany("INSERT INTO migrations VALUES (?, ?) ON CONFLICT DO NOTHING", applied)


def is_ready(connection: sqlite3.Connection, path: str, upto: int = len(MIGRATIONS)) -> bool:
    """Whether a database has the schema; nothing is changed.

    Raises:
        ConfigurationError: The file belongs to another program, or was written by a newer version of this one.
    """
    # Looked at first: whoever sets up the file meanwhile writes the tables and the id at once, so that tables which are
    # there now are never found without their id.
    empty = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone() == (0,)
    application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    if application != APPLICATION_ID and not (empty and application == 0):
        raise ConfigurationError(f"{path} is a SQLite database of another program; give the ledger a file of its own.")
    if version > len(MIGRATIONS):
        raise ConfigurationError(
            f"{path} has schema {version}, newer than this code's {len(MIGRATIONS)}; upgrade session-ledger."
        )
    return version >= upto


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

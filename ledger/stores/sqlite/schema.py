"""Migration of the embedded store's file to the present schema. ``is_ready`` checks if a file has that schema.

``PRAGMA user_version`` holds the number of the last migration applied. ``PRAGMA application_id`` marks the file as a
ledger.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime

from ledger.errors import ConfigurationError
from ledger.model.events import SCHEMA_VERSION
from ledger.model.instants import to_micros
from ledger.stores.sqlite import replaced_views
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
    """Migrate a database to the present schema, in one transaction. A new, empty file becomes a ledger.

    Args:
        connection: A connection in autocommit mode.
        path: The file's path, for error messages.
        new_store_id: The id of the store if this call creates it.
        now: The time recorded for the migrations.
        state_schema: The event schema version to record in a new file. Events are brought to this version before
            ``session_state`` is folded from them.
        upto: Number of the last migration to run; tests of upgrades stop earlier.

    Raises:
        ConfigurationError: The file belongs to another program, or was written by a newer release. Or it has a view of
            the user's own that can neither keep its name nor get another one.
    """
    if is_ready(connection, path, upto):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not is_ready(connection, path, upto):  # another process may have migrated it meanwhile
            version = _pragma(connection, "user_version")
            _run_migrations(connection, path, version, upto)
            _record_applied(connection, version, upto, now)
            if version == 0:
                connection.execute("INSERT INTO meta VALUES ('store_id', ?), ('epoch', '1')", (new_store_id,))
                connection.execute("INSERT INTO meta VALUES ('state_schema', ?)", (str(state_schema),))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {upto:d}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # not if an exception struck just after the commit
            connection.execute("ROLLBACK")
        raise


def _run_migrations(connection: sqlite3.Connection, path: str, version: int, upto: int) -> None:
    # Not within the block of ``migrate``: CPython 3.13.0 excludes the jump at a loop's end from a try block.
    for migration in MIGRATIONS[version:upto]:
        replaced_views.rename(connection, path, migration.takes, migration.name[:3])
        for statement in migration.statements:
            connection.execute(statement)
        if migration.fill is not None:
            migration.fill(connection)


def _record_applied(connection: sqlite3.Connection, version: int, upto: int, now: datetime) -> None:
    """Record the migrations after ``version`` as applied now, and the earlier ones at an unknown time."""
    if MIGRATIONS_TABLE not in MIGRATIONS[:upto]:
        return
    applied = [
        (migration.name, None if number < version else to_micros(now))
        for number, migration in enumerate(MIGRATIONS[:upto])
    ]
    connection.executemany("INSERT INTO migrations VALUES (?, ?) ON CONFLICT DO NOTHING", applied)


def check_ledger(connection: sqlite3.Connection, path: str) -> bool:
    """Return True if a database has all migrations; nothing is changed.

    Unlike ``is_ready``, the function refuses an empty database. A new ledger appears at its path with its tables, so an
    empty file is the result of an interrupted copy. Opening such a file would hide the loss of its content.

    Raises:
        ConfigurationError: The database is empty, belongs to another program, or was written by a newer release.
    """
    ready = is_ready(connection, path)
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise ConfigurationError(
            f"{path} holds nothing: the program that created or copied it did not finish. Restore a backup; or move "
            "the file away to begin a new ledger there."
        )
    return ready


def is_ready(connection: sqlite3.Connection, path: str, upto: int = len(MIGRATIONS)) -> bool:
    """Return True if a database has all migrations up to number ``upto``; nothing is changed.

    Raises:
        ConfigurationError: The file belongs to another program, or was written by a newer release.
    """
    application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    if application != APPLICATION_ID and not (application == 0 and _is_empty(connection)):
        raise ConfigurationError(f"{path} is a SQLite database of another program; choose another file for the ledger.")
    if version > len(MIGRATIONS):
        raise ConfigurationError(
            f"{path} has schema {version}, newer than the {len(MIGRATIONS)} of this release; upgrade session-ledger."
        )
    return version >= upto


def _is_empty(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone() == (0,))


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

"""Views of the user's own that have a name which the ledger's file takes for a view of its own: they get another name.

SQLite cannot rename a view, so it is created again under the other name, from the statement that the file keeps.
"""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Iterable

from ledger.errors import ConfigurationError

log = logging.getLogger("ledger.store")
#: How SQLite keeps the statement: these words, and the name as the user wrote it, perhaps in quotation marks.
_BEGINNING = re.compile(r"CREATE VIEW ((\"[^\"]*\")+|(`[^`]*`)+|('[^']*')+|\[[^\]]*\]|\w+)")
_VIEW = "SELECT name, sql FROM sqlite_schema WHERE type = 'view' AND name = ? COLLATE NOCASE"
_TRIGGER = "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE"
_IS_TAKEN = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ? COLLATE NOCASE)"


def rename(connection: sqlite3.Connection, path: str, names: Iterable[str], number: str) -> None:
    """Give each view of the user's own with one of these names another name, and log it.

    Args:
        connection: A connection in the transaction of an upgrade to a schema that has these views.
        path: The file's path, for messages.
        names: The names that the ledger's views will have.
        number: The number of the migration, for example ``013``. The other name ends in ``_before_013``, perhaps with
            a number after it.

    Raises:
        ConfigurationError: Such a view has a trigger, which would be lost.
    """
    for name in names:
        found = connection.execute(_VIEW, (name,)).fetchone()
        if found is not None:
            found_name, sql = found
            _rename(connection, path, found_name, sql, f"_before_{number}")


def _rename(connection: sqlite3.Connection, path: str, name: str, sql: str, suffix: str) -> None:
    beginning = _BEGINNING.match(sql)
    trigger = connection.execute(_TRIGGER, (name,)).fetchone()
    if beginning is None or trigger is not None:
        why = "its statement cannot be read" if trigger is None else f"its trigger {trigger[0]} would be lost"
        raise ConfigurationError(
            f"{path} has a view {name} of your own, whose name the upgrade takes for a view of the ledger's: {why}. "
            "Create the view again under another name and drop this one with sqlite3; nothing was changed."
        )
    names = (f"{name}{suffix}{number}" for number in ("", *(f"_{number}" for number in range(2, 1000))))
    other = next(each for each in names if not connection.execute(_IS_TAKEN, (each,)).fetchone()[0])
    connection.execute(f'DROP VIEW "{name}"')
    connection.execute(f'CREATE VIEW "{other}"{sql[beginning.end() :]}')
    log.warning(
        "%s had a view %s of your own; it is %s now, since the ledger has a view of that name.", path, name, other
    )

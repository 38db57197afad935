"""Verification of the schema: the tables, indexes, views and triggers of the file are those that the migrations create.

The search index can be built again with its tables, so what differs there is a finding ``search``. Everything else is a
finding ``schema``, which nobody but its owner can mend: a trigger of another program might do anything.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple

from ledger.model.findings import Finding
from ledger.stores.sqlite import search_index as index
from ledger.stores.sqlite.schema import migrate
from ledger.stores.sqlite.verify_errors import any_text, printable

_OBJECTS = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type <> 'trigger', name"
_TRIGGERS = "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'trigger'"


class _Object(NamedTuple):
    """A row of ``sqlite_schema``. Blanks in ``sql`` do not count; it is empty for an index of a constraint."""

    type: str
    name: str
    table: str
    sql: str

    @property
    def is_of_search(self) -> bool:
        return self.type != "trigger" and self.table.startswith("search_")


def schema_findings(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Yield a finding for each difference between the schema of the file and the one of this release."""
    found = {each.name: each for each in _objects(connection)}
    expected = {each.name: each for each in _expected()}
    if not any(name.startswith(index.WORDS) for name in found):  # no search has created the table of words
        expected = {name: each for name, each in expected.items() if not name.startswith(index.WORDS)}
    for name, each in found.items():
        if each.type == "trigger":
            message = (
                f"the trigger {name} on {each.table} is not of the ledger; --rebuild does nothing before it is dropped"
            )
            yield _finding(each, message)
        elif name not in expected and each.type != "view":  # a view of the user's own can change nothing
            yield _finding(each, f"the {each.type} {name} is not of the ledger")
        elif name in expected and each != expected[name] and not name.startswith(f"{index.WORDS}_"):
            yield _finding(expected[name], f"the {expected[name].type} {name} is not as the ledger created it")
    for name, each in expected.items():
        if name not in found:
            yield _finding(each, f"the {each.type} {name} is missing")


def has_triggers(connection: sqlite3.Connection) -> bool:
    """Return True if the file has a trigger. The ledger has none, and a trigger could change what is mended."""
    return bool(connection.execute(_TRIGGERS).fetchone()[0])


@cache
def _expected() -> list[_Object]:
    """Return what the migrations and the first search create."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, ":memory:", new_store_id="", now=datetime(2000, 1, 1, tzinfo=UTC))
        if index.has_fts5():
            index.create(connection)
        return _objects(connection)


def _objects(connection: sqlite3.Connection) -> list[_Object]:
    """Return the objects of a schema, triggers first, without SQLite's own statistics."""
    with any_text(connection):
        rows = [
            _Object(kind, name, table, " ".join((sql or "").split()))
            for kind, name, table, sql in connection.execute(_OBJECTS)
        ]
    own = index.has_fts5()
    return [
        each
        for each in rows
        if not each.name.startswith("sqlite_stat") and (own or not each.table.startswith(index.WORDS))
    ]


def _finding(each: _Object, message: str) -> Finding:
    code = "search" if each.is_of_search else "schema"
    return Finding("", None, code, printable(message), mendable=each.is_of_search)

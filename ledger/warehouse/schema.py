"""The schema of the ledger's SQL objects: views, tables and functions with their columns, read from ``sql/``.

The schema is the same for every engine. The types are GoogleSQL types.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from ledger.errors import InvalidInput
from ledger.model import names
from ledger.model.fields import FIELDS
from ledger.warehouse import catalog

_TABLE_COLUMN = re.compile(
    r"^  (\w+) ([A-Z0-9]+)( NOT NULL)?(?: OPTIONS \(description = '((?:\\'|[^'])*)'\))?,?$", re.MULTILINE
)
_COLUMN = re.compile(r"^--   (\w+) ([A-Z][A-Z0-9]*(?:<[^:\n]*>)?)(?:: (.*))?$", re.MULTILINE)
_PARAMETERS = re.compile(r"TABLE FUNCTION `[^`]+`\s*\(([^)]*)\)")
_KINDS = ("view", "table", "function")


@dataclass(frozen=True, slots=True)
class SchemaColumn:
    """A column, or a parameter of a function. ``nullable`` is False if the value is never NULL."""

    name: str
    type: str
    description: str = ""
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class SchemaObject:
    """A view, table or table function.

    Attributes:
        kind: ``view``, ``table`` or ``function``.
        name: The name in SQL.
        description: What it is for, one sentence.
        grain: What identifies a row, as the header in ``sql/`` says.
        columns: The columns, in order.
        parameters: The parameters of a function, in order; empty for a view or table.
    """

    kind: str
    name: str
    description: str
    grain: str
    columns: tuple[SchemaColumn, ...]
    parameters: tuple[SchemaColumn, ...] = ()

    @property
    def call(self) -> str:
        """A function with its parameters, as ``sessions_between(first_day TIMESTAMP, next_day TIMESTAMP)``."""
        return f"{self.name}({', '.join(f'{it.name} {it.type}' for it in self.parameters)})"


def schema(name: str | None = None) -> tuple[SchemaObject, ...]:
    """Return the objects that statements can name: views first, then tables, then functions.

    Args:
        name: Return only the object of this name.

    Raises:
        InvalidInput: No object has this name.
    """
    if name is None:
        return _objects()
    for item in _objects():
        if item.name == str(name).lower():
            return (item,)
    raise unknown("view, table or function", str(name), [item.name for item in _objects()])


def unknown(what: str, name: str, known: Iterable[str]) -> InvalidInput:
    """Return the error for a name of SQL that does not exist; see ``ledger.model.names.unknown``.

    If a field has this name, the message says where its values are, since few fields have a view or a column.
    """
    found = set(known)
    field = _field_called(name) if what in ("table or view", "view, table or function", "column") else None
    if field is not None:
        return InvalidInput(
            f"There is no {what} {name!r}. The values of the field {field} are rows of session_fields, with "
            f"field = '{field}'; docs/sql-recipes.md has examples."
        )
    many = "docs/sql.md lists them." if what == "function" else "`ledger schema` lists them."
    return names.unknown(what, name, found, many if len(found) > 30 else "")


def _field_called(name: str) -> str | None:
    """Return the field that a name means, in singular or plural, if ``sessions`` has no column for it."""
    columns = {column.name for item in _objects() if item.name == "sessions" for column in item.columns}
    for field in FIELDS.values():
        if field.name not in columns and name.lower() in (field.name, field.attribute, f"{field.name}s"):
            return field.name
    return None


@cache
def _objects() -> tuple[SchemaObject, ...]:
    events = {column.name: column.description for column in table_columns(catalog.named("session_events"))}
    found = []
    for item in catalog.objects():
        header = item.source.split("CREATE ", 1)[0]
        first = re.match(rf"-- {item.name}: ([^\n]+)", header)
        grain = re.search(r"^-- Grain: +(.+(?:\n--  +.+)*)", header, re.MULTILINE)
        columns = (
            table_columns(item)
            if item.kind == "table"
            else tuple(
                SchemaColumn(name, kind, description or events.get(name, ""))
                for name, kind, description in _COLUMN.findall(header.partition("-- Columns:\n")[2])
            )
        )
        parameters = _PARAMETERS.search(item.source)
        meanings = {name: meaning for name, _, meaning in _COLUMN.findall(header.partition("-- Columns:\n")[0])}
        found.append(
            SchemaObject(
                item.kind,
                item.name,
                _sentence(first[1]) if first else "",
                re.sub(r"\n--  +", " ", grain[1]) if grain else "",
                columns,
                tuple(
                    SchemaColumn(name, kind, meanings.get(name, ""))
                    for name, kind in (part.split() for part in parameters[1].split(","))
                )
                if parameters
                else (),
            )
        )
    return tuple(sorted(found, key=lambda item: (_KINDS.index(item.kind), item.name)))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def table_columns(table: catalog.SqlObject) -> tuple[SchemaColumn, ...]:
    """Return the columns of one of the ledger's tables, in order."""
    return tuple(
        SchemaColumn(name, kind, description.replace("\\'", "'"), not required)
        for name, kind, required, description in _TABLE_COLUMN.findall(table.source)
    )


def missing_columns(table: catalog.SqlObject, present: Iterable[str]) -> dict[str, str]:
    """Return the statements that add the columns which an existing table lacks, by the name of the column.

    The columns are added without NOT NULL, which ADD COLUMN does not allow.

    Args:
        table: One of the ledger's tables.
        present: The names of the columns that it has in the warehouse.
    """
    names = set(present)
    statements = {}
    for column in table_columns(table):
        if column.name not in names:
            description = column.description.replace("'", "\\'")
            statements[column.name] = (
                f"ALTER TABLE `${{project}}.${{dataset}}.{table.name}` ADD COLUMN IF NOT EXISTS "
                f"{column.name} {column.type} OPTIONS (description = '{description}')"
            )
    return statements

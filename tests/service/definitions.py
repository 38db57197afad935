"""The tables, views and table functions that statements name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.dialects.bigquery import BigQuery

from ledger.warehouse import catalog

_FUNCTION = re.compile(
    r"CREATE\s+(?:OR\s+REPLACE\s+)?TABLE\s+FUNCTION\s+`([^`]+)`\s*\(([^)]*)\)\s*AS\s+(.+?);?\s*\Z",
    re.DOTALL | re.IGNORECASE,
)
_CREATE = re.compile(r"\s*CREATE\s+(?:OR\s+REPLACE\s+)?(TABLE\s+FUNCTION|TABLE|VIEW)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        types: The types of its columns.
        partitioned_by: The column whose days are its partitions.
        clustered_by: The first column that it is clustered by.
    """

    types: Mapping[str, str]
    partitioned_by: str = ""
    clustered_by: str = ""


@dataclass(frozen=True)
class View:
    """The query of a view or table function, and the names of its arguments."""

    query: exp.Query
    arguments: tuple[str, ...] = ()


class Definitions:
    """Tables, views and functions: those that were created here, and otherwise the ledger's own, in any dataset."""

    def __init__(self) -> None:
        self._own: dict[str, Table | View] = {}
        self._catalog = {item.name: catalog.bind(catalog.statement(item)) for item in catalog.objects()}
        self._read: dict[str, Table | View] = {}

    def create(self, sql: str) -> None:
        """Learn the object that a CREATE statement makes."""
        found = _definition(sql, self)
        if found is not None:
            self._own[found[0]] = found[1]

    def drop(self, name: str) -> None:
        self._own.pop(name, None)

    def __getitem__(self, name: str) -> Table | View | None:
        if name in self._own:
            return self._own[name]
        last = name.rpartition(".")[2]
        if last not in self._read and last in self._catalog:
            found = _definition(self._catalog[last], self)
            if found is not None:
                self._read[last] = found[1]
        return self._read.get(last)


def _definition(sql: str, known: Definitions) -> tuple[str, Table | View] | None:
    if not _CREATE.match(sql):
        return None
    if function := _FUNCTION.search(sql):
        names = tuple(part.split()[0] for part in function[2].split(",") if part.strip())
        return function[1], View(_query(sqlglot.parse_one(function[3], dialect=BigQuery)), names)
    created = sqlglot.parse_one(sql, dialect=BigQuery)
    name = name_of(created.find(exp.Table))
    if created.kind == "VIEW":
        return name, View(_query(created.expression))
    if like := created.find(exp.LikeProperty):
        source = known[name_of(like.this)]
        return (name, source) if source is not None else None
    columns = list(created.find_all(exp.ColumnDef))
    if not columns:  # CREATE TABLE AS SELECT: the types do not matter, and partitions are not kept
        query = created.expression
        return name, Table({it.alias_or_name: "" for it in query.selects} if isinstance(query, exp.Query) else {})
    partition, cluster = created.find(exp.PartitionedByProperty), created.find(exp.ClusterProperty)
    day = partition.find(exp.Column) if partition else None
    first = cluster.find(exp.Column) if cluster else None
    types = {item.name: item.kind.sql(dialect=BigQuery) if item.kind else "" for item in columns}
    return name, Table(types, day.name if day else "", first.name if first else "")


class Unread(sqlglot.errors.SqlglotError):
    """The statement is of a form that is not read here."""


def _query(found: exp.Expr | None) -> exp.Query:
    if not isinstance(found, exp.Query):
        raise Unread(f"not a query: {found!r}")
    return found


def is_function(sql: str) -> bool:
    """True for CREATE TABLE FUNCTION."""
    return _FUNCTION.match(sql) is not None


def name_of(table: exp.Expr | None) -> str:
    """``project.dataset.table`` as the statement has it."""
    if not isinstance(table, exp.Table):
        raise Unread(f"not a table: {table!r}")
    if isinstance(table.this, exp.Anonymous):
        return str(table.this.this.name if isinstance(table.this.this, exp.Expr) else table.this.this)
    return ".".join(part.name for part in table.parts)

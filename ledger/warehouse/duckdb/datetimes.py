"""Which columns of an answer are DATETIMEs. DuckDB has one type for DATETIME and TIMESTAMP, so the statement tells.

No table or view of the ledger has a DATETIME, so each comes from an expression of the statement. A column that is not
known to be one, such as the field of a STRUCT, counts as a TIMESTAMP.
"""

from __future__ import annotations

from functools import lru_cache

from sqlglot import exp

from ledger.warehouse.duckdb import grammar
from ledger.warehouse.duckdb.kinds import Kinds
from ledger.warehouse.schema import schema


@lru_cache(maxsize=256)
def datetime_columns(sql: str, names: tuple[str, ...]) -> frozenset[int]:
    """Return the positions of the columns of an answer that are known to be DATETIMEs.

    Args:
        sql: The user's statement that was answered.
        names: The names of the answer's columns.
    """
    tree = grammar.parse(sql)
    named = {(it.this if isinstance(it.this, exp.Func) else it).name.lower() for it in tree.find_all(exp.Table)}
    names_of_columns = frozenset(column.name for item in schema() if item.name in named for column in item.columns)
    kinds = Kinds(tree, apart=names_of_columns)
    queries = list(_queries(tree))
    if any(item.is_star for query in queries for item in query.selects):  # the answer has more columns than items
        return frozenset(place for place, name in enumerate(names) if kinds.is_datetime(exp.column(name)))
    columns = zip(*(query.selects for query in queries), strict=False)
    return frozenset(place for place, items in enumerate(columns) if _are_datetimes(items, kinds))


def _are_datetimes(items: tuple[exp.Expr, ...], kinds: Kinds) -> bool:
    values = [it for it in (item.unalias() for item in items) if not isinstance(it.unnest(), exp.Null)]
    return bool(values) and all(kinds.is_datetime(it) for it in values)


def _queries(query: exp.Expr) -> list[exp.Select]:
    """Return the SELECTs whose rows a query has."""
    query = query.unnest()
    if isinstance(query, exp.SetOperation):
        return [*_queries(query.this), *_queries(query.expression)]
    return [query] if isinstance(query, exp.Select) else []

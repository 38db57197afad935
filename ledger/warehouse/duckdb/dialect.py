"""GoogleSQL to DuckDB: SQLGlot translates, and the steps in ``_STEPS`` mend what it leaves different.

Each step takes a parsed GoogleSQL tree and changes it in place; its docstring says why it is needed. Loading this
module loads SQLGlot, so a warehouse does it only when it is used. ``check_query`` needs no DuckDB: BigQuery's warehouse
calls it too.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import sqlglot
from sqlglot import exp

from ledger.errors import ConfigurationError, InvalidInput
from ledger.warehouse import catalog
from ledger.warehouse.duckdb import functions

# What SQLGlot logs comes back as an error; without a handler Python would print it on stderr as well.
logging.getLogger("sqlglot").addHandler(logging.NullHandler())

#: BigQuery's own schemas, whose names stand for other things than a dataset.
_SYSTEM = frozenset({"information_schema"})
_FUNCTION = re.compile(
    r"\ACREATE OR REPLACE TABLE FUNCTION `(?P<name>\w+)`\s*\((?P<parameters>[^)]*)\)\s*AS\s+(?P<body>.+?);?\s*\Z",
    re.DOTALL,
)


def query_to_duckdb(sql: str) -> str:
    """One GoogleSQL SELECT in DuckDB's SQL, with ``@name`` parameters as ``$name``.

    Args:
        sql: As a user wrote it; `${project}.${dataset}.name` may stand for the ledger's objects.

    Raises:
        InvalidInput: It cannot be parsed, is no single statement, or would change something.
    """
    tree = check_query(sql)
    _name_columns(tree)
    try:
        return _render(tree)
    except (sqlglot.errors.UnsupportedError, ValueError) as error:  # a ValueError of its JSON paths
        raise InvalidInput(f"DuckDB cannot answer this GoogleSQL: {_first_line(error)}") from error


def check_query(sql: str) -> exp.Query:
    """One GoogleSQL SELECT, parsed.

    Raises:
        InvalidInput: It cannot be parsed, is no single statement, or would change something.
    """
    try:
        trees = [tree for tree in sqlglot.parse(catalog.bind(sql), dialect="bigquery") if tree is not None]
    except sqlglot.errors.SqlglotError as error:
        raise InvalidInput(f"This is not GoogleSQL: {_first_line(error)}") from error
    if len(trees) != 1:
        raise InvalidInput(f"Give one SELECT statement, not {len(trees)}.")
    (tree,) = trees
    if not isinstance(tree, exp.Query) or tree.find(exp.DML, exp.DDL, exp.Command, exp.Into) is not None:
        raise InvalidInput("Only SELECT is answered here; the ledger's rows are written by appending events.")
    return tree


def statement_to_duckdb(item: catalog.SqlObject) -> str:
    """The DuckDB statement that creates an object of the catalog; a table function becomes a table macro.

    Raises:
        ConfigurationError: The object's SQL is outside what is translated.
    """
    sql = catalog.bind(catalog.statement(item))
    try:
        if item.kind != "function":
            return _render(sqlglot.parse_one(sql, dialect="bigquery"), own=True)
        match = _FUNCTION.match(sql)
        if match is None:
            raise ConfigurationError(f"The function {item.name} is not of the form CREATE OR REPLACE TABLE FUNCTION.")
        # SQLGlot reads no table function that begins with WITH, and DuckDB's macro parameters carry no types.
        names = ", ".join(part.split()[0] for part in match["parameters"].split(","))
        body = _render(sqlglot.parse_one(match["body"], dialect="bigquery"), own=True)
        return f'CREATE OR REPLACE MACRO "{match["name"]}"({names}) AS TABLE {body}'
    except sqlglot.errors.SqlglotError as error:
        raise ConfigurationError(f"{item.name} cannot be translated for DuckDB: {_first_line(error)}") from error


def changes_to_duckdb(sql: str) -> list[str]:
    """The steps of one of the ledger's own statements that change rows, but for those that begin and end a transaction.

    Raises:
        ConfigurationError: The statement is outside what is translated.
    """
    try:
        trees = sqlglot.parse(catalog.bind(sql), dialect="bigquery")
        return [_render(tree, own=True) for tree in trees if isinstance(tree, exp.DML)]
    except sqlglot.errors.SqlglotError as error:
        raise ConfigurationError(f"A statement cannot be translated for DuckDB: {_first_line(error)}") from error


def _render(tree: exp.Expr, *, own: bool = False) -> str:
    """The tree in DuckDB's SQL; ``own`` for the ledger's objects, of which more is known than of users' statements."""
    import duckdb

    fold_steps = _FOLD_STEPS if int(duckdb.__version__.split(".")[0]) < 2 else ()
    for step in (*_STEPS, *fold_steps, *(_OWN_STEPS if own else ())):
        step(tree)
    return tree.sql(dialect="duckdb", unsupported_level=sqlglot.ErrorLevel.RAISE)


def _first_line(error: Exception) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    return plain.strip().split("\n")[0]


def _name_columns(query: exp.Query) -> None:
    """Columns without a name are ``f0_``, ``f1_`` ... as in BigQuery; DuckDB would show its text of the expression."""
    unnamed = [
        column for column in query.selects if not isinstance(column, exp.Alias | exp.Column | exp.Dot | exp.Star)
    ]
    for number, column in enumerate(unnamed):
        column.replace(exp.alias_(column.copy(), f"f{number}_"))


def _drop_storage(tree: exp.Expr) -> None:
    """Partitions, clusters and descriptions are BigQuery's; SQLGlot would drop them with a warning each."""
    for create in tree.find_all(exp.Create):
        create.set("properties", None)
    for constraint in list(tree.find_all(exp.ColumnConstraint)):
        if isinstance(constraint.kind, exp.Properties):
            constraint.pop()


def _bare_names(tree: exp.Expr) -> None:
    """The file holds one dataset: `project.dataset.sessions`, as written for BigQuery, is its own ``sessions``."""
    for table in tree.find_all(exp.Table):
        if table.db.lower() not in _SYSTEM:
            table.set("db", None)
            table.set("catalog", None)


def _timestamps(tree: exp.Expr) -> None:
    """TIMESTAMP is an instant in UTC; DuckDB keeps it as a plain TIMESTAMP, which needs neither time zones nor pytz."""
    for kind in tree.find_all(exp.DataType):
        if kind.this == exp.DType.TIMESTAMPTZ:
            kind.set("this", exp.DType.TIMESTAMP)
    for now in list(tree.find_all(exp.CurrentTimestamp)):
        now.replace(sqlglot.parse_one("MAKE_TIMESTAMP(EPOCH_US(NOW()))", dialect="duckdb"))


def _last_write_orders(tree: exp.Expr) -> None:
    """``ORDER BY a DESC, b DESC`` of a ROW_NUMBER becomes ``ORDER BY (a, b) DESC``.

    The order is the same where neither is NULL, as in the key of an event. DuckDB turns a ROW_NUMBER filter into one
    aggregation, which is twice as fast as its window, only where there is a single sort key.
    """
    for window in tree.find_all(exp.Window):
        order = window.args.get("order")
        if not isinstance(window.this, exp.RowNumber) or order is None or len(order.expressions) < 2:
            continue
        if all(key.args.get("desc") for key in order.expressions):
            keys = exp.Tuple(expressions=[key.this for key in order.expressions])
            order.set("expressions", [exp.Ordered(this=keys, desc=True, nulls_first=False)])


def _removals_after_the_window(tree: exp.Expr) -> None:
    """``WHERE NOT removed`` over a ROW_NUMBER filter becomes ``WHERE removed IN (SELECT FALSE)``.

    DuckDB joins a plain condition to the ROW_NUMBER filter below, and then no longer sees in it the one that it turns
    into an aggregation (see ``_last_write_orders``); a semi join stays where it is. Filters on the window's partition
    still pass through it.
    """
    qualified = {cte.alias for cte in tree.find_all(exp.CTE) if cte.this.args.get("qualify")}
    for select in tree.find_all(exp.Select):
        source, where = select.args.get("from_"), select.args.get("where")
        if source is None or where is None or source.this.name not in qualified:
            continue
        condition = where.this
        if isinstance(condition, exp.Not) and isinstance(condition.this, exp.Column):
            condition.replace(exp.In(this=condition.this.copy(), query=exp.select(exp.false()).subquery()))


def _unnested_in_the_select_list(tree: exp.Expr) -> None:
    """``SELECT v FROM t CROSS JOIN UNNEST(t.list) AS v`` becomes ``SELECT UNNEST(t.list) AS v FROM t``.

    The rows are the same. DuckDB plans a correlated UNNEST in FROM as a join of the table with itself, which no filter
    passes. Only where the value is used once, as a column of the result; elsewhere the join stays.
    """
    for select in list(tree.find_all(exp.Select)):
        for join in list(select.args.get("joins") or []):
            unnest = join.this
            if not isinstance(unnest, exp.Unnest) or unnest.args.get("offset") or len(unnest.alias_column_names) != 1:
                continue
            (name,) = unnest.alias_column_names
            uses = [column for column in select.find_all(exp.Column) if column.name == name and not column.table]
            if len(uses) != 1 or uses[0].parent is not select or uses[0].arg_key != "expressions":
                continue
            uses[0].replace(exp.alias_(exp.Anonymous(this="UNNEST", expressions=[unnest.expressions[0]]), name))
            join.pop()


def _offsets_from_zero(tree: exp.Expr) -> None:
    """``WITH OFFSET`` counts from 0, and the ORDINALITY that SQLGlot makes of it from 1."""
    for unnest in tree.find_all(exp.Unnest):
        offset, select = unnest.args.get("offset"), unnest.find_ancestor(exp.Select)
        if not isinstance(offset, exp.Identifier) or select is None:
            continue
        for column in [found for found in select.find_all(exp.Column) if found.name == offset.name]:
            from_zero = exp.paren(exp.Sub(this=column.copy(), expression=exp.Literal.number(1)))
            in_list = column.parent is select and column.arg_key == "expressions"
            column.replace(exp.alias_(from_zero, offset.name) if in_list else from_zero)


def _sorted_lists(tree: exp.Expr) -> None:
    """``ARRAY_AGG(x ORDER BY a)`` and ``STRING_AGG(x, s ORDER BY a)`` collect unordered lists and sort those.

    DuckDB sorts within an aggregate at two to four times the cost of sorting the list it makes. Only for keys that are
    never NULL (NULLs would go to the other end), as in the ledger's own views, and in ascending order.
    """
    for order in list(tree.find_all(exp.Order)):
        aggregate = order.parent
        if not isinstance(aggregate, exp.ArrayAgg | exp.GroupConcat) or isinstance(order.this, exp.Distinct):
            continue
        whole = aggregate.parent if isinstance(aggregate.parent, exp.IgnoreNulls) else aggregate
        if isinstance(whole.parent, exp.Window) or any(key.args.get("desc") for key in order.expressions):
            continue
        joined = isinstance(aggregate, exp.GroupConcat)
        result = _sorted_list(order, keep_nulls=whole is aggregate and not joined)
        if joined:
            result = exp.func("ARRAY_TO_STRING", result, aggregate.args["separator"])
        whole.replace(result)


def _sorted_list(order: exp.Order, *, keep_nulls: bool) -> exp.Expr:
    """The values of an ``x ORDER BY a, b`` as LIST_SORT over structs that hold the keys first and then the value."""
    keys = {f"k{place}": key.this for place, key in enumerate(order.expressions)}
    parts = [
        exp.PropertyEQ(this=exp.to_identifier(name), expression=value.copy())
        for name, value in {**keys, "x": order.this}.items()
    ]
    found: exp.Expr = exp.Anonymous(this="LIST", expressions=[exp.Struct(expressions=parts)])
    if not keep_nulls:
        present = exp.Not(this=exp.Is(this=order.this.copy(), expression=exp.null()))
        found = exp.Filter(this=found, expression=exp.Where(this=present))
    value = exp.Lambda(this=exp.column("x", "item"), expressions=[exp.to_identifier("item")])
    return exp.func("LIST_TRANSFORM", exp.func("LIST_SORT", found), value)


_STEPS: tuple[Callable[[exp.Expr], None], ...] = (
    _drop_storage,
    _bare_names,
    _timestamps,
    _unnested_in_the_select_list,
    functions.list_offsets,
    _offsets_from_zero,
    functions.time_zones,
    functions.time_parts,
    functions.json_arrays,
    functions.json_functions,
    functions.text_search,
)
#: What DuckDB 1 needs for a fast fold. DuckDB 2 plans the statement as it stands: with these, the ``sessions`` view
#: would take 1.7 times as long as the best statement by hand instead of 1.4 times.
_FOLD_STEPS: tuple[Callable[[exp.Expr], None], ...] = (_last_write_orders, _removals_after_the_window)
_OWN_STEPS: tuple[Callable[[exp.Expr], None], ...] = (_sorted_lists,)

"""Translate GoogleSQL to DuckDB's SQL. SQLGlot translates, and the steps in ``_STEPS`` correct what it leaves wrong.

Each step changes a parsed GoogleSQL tree in place; the step's docstring says which difference the step removes.
Importing this module imports SQLGlot, so a warehouse imports the module only on first use.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from functools import cache, lru_cache

import sqlglot
from sqlglot import exp

from ledger.errors import ConfigurationError, InvalidInput
from ledger.warehouse import catalog
from ledger.warehouse.duckdb import (
    aggregates,
    argument_types,
    forms,
    functions,
    grammar,
    instants,
    json_values,
    names,
    pivots,
    scopes,
    subscripts,
    times,
    translations,
    zones,
)
from ledger.warehouse.duckdb.scopes import UNNAMED
from ledger.warehouse.duckdb.templates import TEMPLATES
from ledger.warehouse.statement import check_query, column_name, first_line, range_names

_FUNCTION = re.compile(
    r"\ACREATE OR REPLACE TABLE FUNCTION `(?P<name>\w+)`\s*\((?P<parameters>[^)]*)\)\s*AS\s+(?P<body>.+?);?\s*\Z",
    re.DOTALL,
)


@lru_cache(maxsize=256)  # the ledger's own statements are few, and translating one takes milliseconds
def query_to_duckdb(sql: str, *, user: bool = True, zoned: frozenset[str] = frozenset()) -> str:
    """Translate one GoogleSQL SELECT to DuckDB's SQL, with ``@name`` parameters as ``$name``.

    Args:
        sql: The statement; it may name the ledger's objects as `${project}.${dataset}.name`.
        user: True for a user's statement. False for one of the ledger's own statements, which do not need the steps in
            ``_USER_STEPS``.
        zoned: Names of the parameters whose texts have a time zone.

    Raises:
        InvalidInput: The statement cannot be parsed or translated, is not a single statement, or is not a SELECT.
    """
    tree = grammar.parse(sql) if user else check_query(sql)
    if user:
        _correlated_arrays(tree)
        names.check_names(sql, tree)
        grammar.check_parts(tree)
        instants.mark(tree, zoned)
        scopes.struct_rows(tree)
    _name_columns(tree)
    try:
        return _render(tree, user=user)
    except InvalidInput:  # a ValueError, too
        raise
    except (sqlglot.errors.SqlglotError, ValueError) as error:  # SQLGlot raises ValueError for a JSON path
        raise InvalidInput(f"DuckDB cannot answer this GoogleSQL statement: {first_line(error)}") from error


@cache  # all objects together take a fifth of a second, and a process may create several files
def statement_to_duckdb(item: catalog.SqlObject) -> str:
    """Return the DuckDB statement that creates a catalog object; a table function becomes a table macro.

    Raises:
        ConfigurationError: The object's SQL cannot be translated.
    """
    sql = catalog.bind(catalog.statement(item))
    try:
        if item.kind != "function":
            return _render(sqlglot.parse_one(sql, dialect="bigquery"), own=True)
        match = _FUNCTION.match(sql)
        if match is None:
            raise ConfigurationError(f"The function {item.name} must be declared by CREATE OR REPLACE TABLE FUNCTION.")
        # SQLGlot cannot parse a table function whose body begins with WITH; DuckDB's macro parameters have no types.
        names = ", ".join(part.split()[0] for part in match["parameters"].split(","))
        body = _render(sqlglot.parse_one(match["body"], dialect="bigquery"), own=True)
        return f'CREATE OR REPLACE MACRO "{match["name"]}"({names}) AS TABLE {body}'
    except sqlglot.errors.SqlglotError as error:
        raise ConfigurationError(f"{item.name} cannot be translated for DuckDB: {first_line(error)}") from error


def changes_to_duckdb(sql: str) -> list[str]:
    """Translate the DML and ALTER statements of one of the ledger's own scripts; BEGIN and the like are left out.

    Raises:
        ConfigurationError: The script cannot be translated.
    """
    try:
        trees = sqlglot.parse(catalog.bind(sql), dialect="bigquery")
        return [_render(tree, own=True) for tree in trees if isinstance(tree, exp.DML | exp.Alter)]
    except sqlglot.errors.SqlglotError as error:
        raise ConfigurationError(
            f"A script in sql/statements cannot be translated for DuckDB: {first_line(error)}"
        ) from error


def script_to_duckdb(sql: str) -> list[tuple[str | None, str]]:
    """Translate one of the ledger's scheduled scripts to the statements that DuckDB runs one after the other.

    BEGIN, COMMIT and the SELECT that only reports are left out. A variable becomes a parameter of the statements after
    its declaration.

    Returns:
        For each variable its name and the SELECT of its value; for each statement that changes rows None and the
        statement.

    Raises:
        ConfigurationError: The script cannot be translated.
    """
    steps: list[tuple[str | None, str]] = []
    variables: set[str] = set()
    try:
        for tree in sqlglot.parse(catalog.bind(sql), dialect="bigquery"):
            if isinstance(tree, exp.Declare | exp.DML):
                for column in list(tree.find_all(exp.Column)):
                    if not column.table and column.name in variables:
                        column.replace(exp.Parameter(this=exp.Var(this=column.name)))
            if isinstance(tree, exp.Declare):
                for item in tree.expressions:
                    (variable,) = item.this
                    value = exp.cast(item.args["default"].copy(), item.args["kind"].copy())
                    steps.append((variable.name, _render(exp.select(value), own=True)))
                    variables.add(variable.name)
            elif isinstance(tree, exp.DML):
                steps.append((None, _render(tree, own=True)))
    except sqlglot.errors.SqlglotError as error:
        raise ConfigurationError(
            f"A script in sql/scheduled cannot be translated for DuckDB: {first_line(error)}"
        ) from error
    return steps


def _render(tree: exp.Expr, *, own: bool = False, user: bool = False) -> str:
    """Apply the steps to a syntax tree and return the changed tree as DuckDB's SQL.

    Args:
        own: True for the ledger's own objects; steps that rely on properties of these objects are then applied too.
        user: True for a user's statement; the steps for functions that the ledger does not use are then applied too.
    """
    import duckdb

    fold_steps = _FOLD_STEPS if int(duckdb.__version__.split(".")[0]) < 2 else ()
    users, last = (_USER_STEPS, _LAST_USER_STEPS) if user else ((), ())
    for step in (*users, *_STEPS, *last, *fold_steps, *(_OWN_STEPS if own else ())):
        step(tree)
    return tree.sql(dialect="duckdb", unsupported_level=sqlglot.ErrorLevel.RAISE)


def _name_columns(query: exp.Query) -> None:
    """Name columns as BigQuery does; DuckDB would use the text of the translated expression.

    A column to which BigQuery gives no name has one that begins with ``UNNAMED``, also in a subquery, from which ``*``
    may take it.
    """
    numbers = itertools.count()
    for select in [found for found in query.find_all(exp.Select) if not found.args.get("kind")]:
        for column in list(select.selects):
            is_plain = isinstance(column, exp.Alias | exp.Star) or (
                isinstance(column, exp.Column) and len(column.parts) == 1
            )
            if not is_plain and not column.is_star:
                name = column_name(column) or f"{UNNAMED}{next(numbers)}"
                column.replace(exp.alias_(column.copy(), name, quoted=True))


def _drop_storage_options(tree: exp.Expr) -> None:
    """Remove BigQuery's partitions, clusters and descriptions; SQLGlot would drop each with a warning."""
    for create in tree.find_all(exp.Create):
        create.set("properties", None)
    for constraint in list(tree.find_all(exp.ColumnConstraint)):
        if isinstance(constraint.kind, exp.Properties):
            constraint.pop()


def _correlated_arrays(tree: exp.Query) -> None:
    """Replace ``FROM t.list`` in a subquery by ``FROM UNNEST(t.list)`` if ``t`` is a name of the outer query.

    SQLGlot itself does this if ``t`` is a name of the same FROM clause.
    """
    names = range_names(tree)
    for table in [it for it in tree.find_all(exp.Table) if len(it.parts) > 1 and it.parts[0].name.lower() in names]:
        name = exp.to_identifier(table.alias_or_name)
        array = exp.Unnest(expressions=[exp.column(*[part.name for part in reversed(table.parts)])])
        array.set("alias", exp.TableAlias(columns=[name]))
        table.replace(array)


def _unnested_fields(tree: exp.Expr) -> None:
    """Make the fields of STRUCTs columns in ``FROM UNNEST(t.list)`` without an alias, as in GoogleSQL.

    SQLGlot itself does this if it knows that the array has STRUCTs.
    """
    for unnest in tree.find_all(exp.Unnest):
        from_clause = isinstance(unnest.parent, exp.From | exp.Join)
        if from_clause and not unnest.args.get("alias") and not unnest.args.get("offset"):
            unnest.set("explode_array", True)


def _timestamps_without_zone(tree: exp.Expr) -> None:
    """Translate GoogleSQL's TIMESTAMP to DuckDB's TIMESTAMP. DuckDB's has no time zone; the ledger stores UTC in it.

    SQLGlot would translate it to TIMESTAMPTZ, which requires pytz.
    """
    for kind in tree.find_all(exp.DataType):
        if kind.this == exp.DType.TIMESTAMPTZ and not kind.meta.get("duckdb"):
            kind.set("this", exp.DType.TIMESTAMP)
    for now in list(tree.find_all(exp.CurrentTimestamp)):
        now.replace(sqlglot.parse_one(TEMPLATES["CURRENT_DATETIME/0"], dialect="duckdb"))


def _merge_descending_keys(tree: exp.Expr) -> None:
    """Replace ``ORDER BY a DESC, b DESC`` of a ROW_NUMBER by ``ORDER BY (a, b) DESC``.

    The order is the same if no key is NULL, and the keys of events are never NULL. If there is only one sort key,
    DuckDB turns a ROW_NUMBER filter into an aggregation, which is twice as fast as a window.
    """
    for window in tree.find_all(exp.Window):
        order = window.args.get("order")
        if not isinstance(window.this, exp.RowNumber) or order is None or len(order.expressions) < 2:
            continue
        if all(key.args.get("desc") for key in order.expressions):
            keys = exp.Tuple(expressions=[key.this for key in order.expressions])
            order.set("expressions", [exp.Ordered(this=keys, desc=True, nulls_first=False)])


def _keep_filter_above_window(tree: exp.Expr) -> None:
    """Replace ``WHERE NOT removed`` above a ROW_NUMBER filter by ``WHERE removed IN (SELECT FALSE)``.

    DuckDB would merge the plain condition into the ROW_NUMBER filter below it, and would then not turn that filter into
    an aggregation (see ``_merge_descending_keys``). IN becomes a semi join, which DuckDB does not merge. Filters on the
    window's partition are still pushed down.
    """
    qualified = {cte.alias for cte in tree.find_all(exp.CTE) if cte.this.args.get("qualify")}
    for select in tree.find_all(exp.Select):
        source, where = select.args.get("from_"), select.args.get("where")
        if source is None or where is None or source.this.name not in qualified:
            continue
        condition = where.this
        if isinstance(condition, exp.Not) and isinstance(condition.this, exp.Column):
            condition.replace(exp.In(this=condition.this.copy(), query=exp.select(exp.false()).subquery()))


def _unnest_in_select_list(tree: exp.Expr) -> None:
    """Replace ``SELECT v FROM t CROSS JOIN UNNEST(t.list) AS v`` by ``SELECT UNNEST(t.list) AS v FROM t``.

    DuckDB plans a correlated UNNEST in FROM as a self-join, through which it pushes no filter. The step applies only if
    the rows stay the same: see ``_multiplies_rows_only``; and if the value is used once, as a column of the result.
    """
    for select in list(tree.find_all(exp.Select)):
        for join in list(select.args.get("joins") or []):
            unnest = join.this
            if not isinstance(unnest, exp.Unnest) or unnest.args.get("offset") or len(unnest.alias_column_names) != 1:
                continue
            (name,) = unnest.alias_column_names
            uses = [column for column in select.find_all(exp.Column) if column.parts[0].name.lower() == name.lower()]
            if len(uses) != 1 or uses[0].table or uses[0].parent is not select or uses[0].arg_key != "expressions":
                continue
            if not _multiplies_rows_only(select, join):
                continue
            uses[0].replace(exp.alias_(exp.Anonymous(this="UNNEST", expressions=[unnest.expressions[0]]), name))
            join.pop()
            break  # DuckDB would put the items of two UNNESTs in a SELECT list side by side


def _multiplies_rows_only(select: exp.Select, join: exp.Join) -> bool:
    """Return True if a join with an UNNEST has no condition, and what else the SELECT does comes to the same before it.

    A LEFT join keeps a row without items. A window, a group, an outer join and a random value see the multiplied rows.
    """
    condition = join.args.get("on")
    if join.side or join.kind not in ("", "CROSS", "INNER") or join.args.get("using"):
        return False
    if condition is not None and not (isinstance(condition, exp.Boolean) and condition.this):
        return False
    if any(select.args.get(part) for part in ("group", "having", "qualify", "windows")):
        return False
    if any(other.side in ("RIGHT", "FULL") for other in select.args["joins"]):
        return False
    if any(isinstance(column, exp.Star) for column in select.selects):
        return False
    return select.find(exp.Window, exp.Rand, exp.Uuid) is None


def _sort_aggregated_lists(tree: exp.Expr) -> None:
    """Replace ORDER BY inside ``ARRAY_AGG`` and ``STRING_AGG`` by a sort of the finished list.

    In DuckDB, a sort inside an aggregate takes two to four times as long as a sort of the finished list. Only ascending
    sorts are replaced. The new sort puts NULLs at the other end, so it is right only if no sort key is NULL. In the
    ledger's own views no sort key is NULL.
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
    """Translate ``x ORDER BY a, b`` into a LIST_SORT of structs (a, b, x), which sorts by a, then b.

    Args:
        keep_nulls: False if the list leaves out each x that is NULL.
    """
    keys = {f"k{position}": key.this for position, key in enumerate(order.expressions)}
    parts = [
        exp.PropertyEQ(this=exp.to_identifier(name), expression=value.copy())
        for name, value in {**keys, "x": order.this}.items()
    ]
    collected: exp.Expr = exp.Anonymous(this="LIST", expressions=[exp.Struct(expressions=parts)])
    if not keep_nulls:
        present = exp.Not(this=exp.Is(this=order.this.copy(), expression=exp.null()))
        collected = exp.Filter(this=collected, expression=exp.Where(this=present))
    value = exp.Lambda(this=exp.column("x", "item"), expressions=[exp.to_identifier("item")])
    return exp.func("LIST_TRANSFORM", exp.func("LIST_SORT", collected), value)


_STEPS: tuple[Callable[[exp.Expr], None], ...] = (
    translations.formatted,
    aggregates.distinct_counts,
    aggregates.counts,
    aggregates.quantiles,
    _drop_storage_options,
    _timestamps_without_zone,
    _unnest_in_select_list,
    functions.list_offsets,
    scopes.zero_based_offsets,
    functions.time_parts,
    functions.json_arrays,
    functions.json_functions,
    functions.normal_forms,
    functions.text_search,
)
#: Steps for users' statements; they come first. Casts come before the steps that put casts of DuckDB into the tree.
_USER_STEPS: tuple[Callable[[exp.Expr], None], ...] = (
    pivots.pivots,
    scopes.aliases,
    json_values.json_values,
    translations.quoted_names,
    translations.groups,
    translations.numerics,
    translations.shifts,
    translations.divisions,
    _unnested_fields,
    translations.float_literals,
    translations.numeric_types,
    instants.texts,
    instants.equal_texts,
    argument_types.sums,
    argument_types.lengths,
    argument_types.mixtures,
    translations.struct_comparisons,
    times.subtractions,
    aggregates.respected_nulls,
    aggregates.correlations,
    instants.casts,
    translations.casts,
    translations.like_escapes,
    subscripts.subscripts,
    zones.zoned_calls,
    times.date_results,
    times.differences,
    times.time_truncs,
    times.week_parts,
    times.date_parts,
    times.formatted_times,
    times.parsed_times,
    forms.strings,
    forms.json,
    aggregates.limits,
    zones.zoned_text,
)
#: Steps for users' statements that come last: their templates use DuckDB's functions, some of which have other meanings
#: in GoogleSQL.
_LAST_USER_STEPS: tuple[Callable[[exp.Expr], None], ...] = (translations.templates, translations.safe_calls)
#: Steps that make a fold fast on DuckDB 1 and slower on DuckDB 2. On DuckDB 2 the ``sessions`` view takes longer than
#: the best hand-written statement: 1.7 times as long with these steps, 1.4 times as long without them.
_FOLD_STEPS: tuple[Callable[[exp.Expr], None], ...] = (_merge_descending_keys, _keep_filter_above_window)
_OWN_STEPS: tuple[Callable[[exp.Expr], None], ...] = (_sort_aggregated_lists,)

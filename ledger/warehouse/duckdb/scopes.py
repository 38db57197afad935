"""Resolve names as GoogleSQL does: aliases before columns, and the offsets of UNNEST.

Each public function is a step of ``ledger.warehouse.duckdb.dialect``: it changes a parsed GoogleSQL tree in place.

Source: BigQuery's reference of query syntax, "Alias visibility" and "UNNEST operator".
"""

from __future__ import annotations

import itertools

from sqlglot import exp

from ledger.errors import InvalidInput

#: Beginning of the names of columns to which BigQuery gives no name; an answer has ``f0_``, ``f1_`` ... instead.
UNNAMED = "(unnamed) "
_SETS = (exp.Rollup, exp.Cube, exp.GroupingSets)
#: Name of the rows of a subquery that are values.
_ROW = "_row"
_VOLATILE = (exp.Rand, exp.Uuid)


def aliases(tree: exp.Expr) -> None:
    """Replace the aliases of a SELECT list by what they stand for in GROUP BY, HAVING, QUALIFY and ORDER BY.

    There, an alias goes before a column of FROM with the same name; in DuckDB the column does. A qualified name, and a
    name in an expression of GROUP BY or in a subquery, is the column in both.
    """
    for select in tree.find_all(exp.Select):
        values = select_aliases(select)
        if values:
            _group(select, values)
            for clause in ("having", "qualify", "order"):
                if (part := select.args.get(clause)) is not None:
                    _substitute(select, part, values)


def struct_rows(tree: exp.Expr) -> None:
    """Make the fields of ``SELECT AS STRUCT`` columns, where a query is a table or the whole statement.

    So does ``SELECT AS VALUE STRUCT(...)``. Elsewhere, as in ``ARRAY(SELECT AS STRUCT ...)``, the result is one value,
    for which ``*`` needs a row of a subquery, because DuckDB makes no STRUCT of it.
    """
    for select in [it for it in tree.find_all(exp.Select) if it.args.get("kind")]:
        value, is_struct = select.selects[0].unalias().unnest(), select.args["kind"].upper() == "STRUCT"
        if is_struct and _is_table(select):
            select.set("kind", None)
        elif is_struct and any(it.is_star for it in select.selects):
            rows = select.copy()
            rows.set("kind", None)
            select.replace(exp.select(exp.column(_ROW)).from_(rows.subquery(_ROW)))
        elif isinstance(value, exp.Struct) and _is_table(select):
            fields = [
                exp.alias_(it.expression, it.this, quoted=True) if isinstance(it, exp.PropertyEQ) else it
                for it in value.expressions
            ]
            select.set("expressions", fields)
            select.set("kind", None)


def _is_table(query: exp.Expr) -> bool:
    parent = query.parent
    while isinstance(parent, exp.SetOperation | exp.Subquery):
        query, parent = parent, parent.parent
    return parent is None or isinstance(parent, exp.CTE | exp.From | exp.Join)


def zero_based_offsets(tree: exp.Expr) -> None:
    """Count ``WITH OFFSET`` from 0. DuckDB's ORDINALITY counts from 1, so a subquery subtracts 1 from it.

    The columns have GoogleSQL's names: without an alias the elements have none, or are the fields of STRUCTs.
    """
    numbers = itertools.count()
    for unnest in list(tree.find_all(exp.Unnest)):
        offset = unnest.args.get("offset")
        if not isinstance(offset, exp.Identifier):
            continue
        number = next(numbers)
        element, place = exp.to_identifier(f"_element_{number}"), exp.to_identifier(f"_place_{number}")
        names = unnest.alias_column_names
        if names:
            items: exp.Expr = exp.alias_(exp.column(element.copy()), names[0], quoted=True)
        else:
            depth = exp.PropertyEQ(this=exp.to_identifier("max_depth"), expression=exp.Literal.number(2))
            single = exp.Array(expressions=[exp.column(element.copy())])
            items = exp.Anonymous(this="UNNEST", expressions=[single, depth])
            items = exp.alias_(items, f"{UNNAMED}of UNNEST {number}", quoted=True)
        from_zero = exp.Sub(this=exp.column(place.copy()), expression=exp.Literal.number(1))
        counted = exp.Unnest(expressions=[unnest.expressions[0].copy()], offset=place)
        counted.set("alias", exp.TableAlias(this=exp.to_identifier(f"_counted_{number}"), columns=[element]))
        source = exp.select(items, exp.alias_(from_zero, offset.name, quoted=True)).from_(counted)
        join = unnest.parent
        if isinstance(join, exp.Join) and (join.side or join.kind) and join.kind != "CROSS":
            join.set("on", join.args.get("on") or exp.true())
        unnest.replace(source.subquery(f"_offsets_{number}"))


def select_aliases(select: exp.Select) -> dict[str, tuple[int | None, exp.Expr]]:
    """Return the aliases of a SELECT list, with their positions and expressions.

    The position is None behind ``*``. An alias that stands for several columns, for a column of the same name or for a
    random value is left out.
    """
    found: dict[str, tuple[int | None, exp.Expr]] = {}
    repeated = set()
    has_star = bool(select.args.get("kind"))
    for position, item in enumerate(select.selects, 1):
        has_star = has_star or item.is_star
        if isinstance(item, exp.Alias):
            name = item.alias.lower()
            if name in found:
                repeated.add(name)
            found[name] = (None if has_star else position, item.this)
    return {
        name: (position, value)
        for name, (position, value) in found.items()
        if name not in repeated and not _is_named(value, name) and value.find(*_VOLATILE) is None
    }


def _is_named(value: exp.Expr, name: str) -> bool:
    return isinstance(value, exp.Column) and len(value.parts) == 1 and value.name.lower() == name


def _group(select: exp.Select, values: dict[str, tuple[int | None, exp.Expr]]) -> None:
    group = select.args.get("group")
    if group is None:
        return
    for column in list(group.find_all(exp.Column)):
        if column.name.lower() not in values or len(column.parts) > 1 or column.parent_select is not select:
            continue
        position, value = values[column.name.lower()]
        key: exp.Expr = column
        while isinstance(key.parent, exp.Paren):
            key = key.parent
        parent = key.parent
        is_tuple = isinstance(parent, exp.Tuple)
        if isinstance(parent.parent if is_tuple and parent else parent, _SETS if is_tuple else (exp.Group, *_SETS)):
            key.replace(exp.Literal.number(position) if position is not None else value.copy())


def _substitute(select: exp.Select, clause: exp.Expr, values: dict[str, tuple[int | None, exp.Expr]]) -> None:
    """Replace aliases in HAVING, QUALIFY or ORDER BY.

    ``ORDER BY alias``, and HAVING outside of aggregates, have the same meaning in DuckDB.
    """
    for column in list(clause.find_all(exp.Column)):
        if column.name.lower() not in values or len(column.parts) > 1 or column.parent_select is not select:
            continue
        if isinstance(column.parent, exp.Ordered) and column.parent.parent is clause and clause.parent is select:
            continue
        _, value = values[column.name.lower()]
        aggregate = column.find_ancestor(exp.AggFunc, exp.Select)
        if isinstance(clause, exp.Having) and not isinstance(aggregate, exp.AggFunc):
            continue
        if isinstance(aggregate, exp.AggFunc) and _aggregates(value) and not _in_window(aggregate):
            raise InvalidInput(
                f"{column.name} is here the alias of an aggregate, which no other aggregate takes; qualify the column, "
                f"as in t.{column.name}, or give the alias another name."
            )
        column.replace(exp.paren(value.copy()))


def _in_window(aggregate: exp.Expr) -> bool:
    return isinstance(aggregate.parent, exp.Window)


def _aggregates(value: exp.Expr) -> bool:
    return value.find(exp.AggFunc) is not None

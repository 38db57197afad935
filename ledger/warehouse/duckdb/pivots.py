"""Translate PIVOT to aggregates of GROUP BY. DuckDB's PIVOT takes fewer values, and gives its columns other names.

The public function is a step of ``ledger.warehouse.duckdb.dialect``: it changes a parsed GoogleSQL tree in place.

Source: BigQuery's reference of query syntax, "PIVOT operator" and "Rules for pivot_column".
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

from sqlglot import exp

from ledger.errors import InvalidInput
from ledger.warehouse.duckdb.kinds import Kinds
from ledger.warehouse.schema import schema

_AROUND = (exp.AggFunc, exp.IgnoreNulls, exp.RespectNulls, exp.Limit, exp.Order)


def pivots(tree: exp.Expr) -> None:
    """Replace ``t PIVOT(f(x) FOR k IN (1, ...))`` by ``SELECT * EXCEPT (x, k), f(IF(k = 1, x, NULL)) AS _1 FROM t``.

    It is grouped by the columns that PIVOT does not name. All aggregates but COUNT(*) and ARRAY_AGG ignore NULLs, and
    no answer of BigQuery has NULLs in an ARRAY.
    """
    kinds = Kinds(tree)
    for source in [it for it in tree.find_all(exp.Table, exp.Subquery) if it.args.get("pivots")]:
        whole = source.copy()
        operators = whole.args["pivots"]
        whole.set("pivots", [])
        for pivot in operators:
            if pivot.args.get("unpivot"):
                whole.append("pivots", pivot)
            else:
                selected = _selected(pivot, whole, kinds)
                whole = exp.Subquery(this=selected, alias=pivot.args.get("alias"))
        source.replace(whole)


def _selected(pivot: exp.Expr, source: exp.Expr, kinds: Kinds) -> exp.Select:
    aggregates, (field,) = pivot.expressions, pivot.args["fields"]
    if len(aggregates) > 1 and not all(isinstance(it, exp.Alias) for it in aggregates):
        raise InvalidInput("A PIVOT with several aggregates has an alias for each; write SUM(x) AS s, COUNT(*) AS n.")
    is_date = _is_date(field.this, kinds)
    star = exp.Star(except_=[exp.to_identifier(name, quoted=True) for name in _named(pivot, source.alias_or_name)])
    columns: list[exp.Expr] = [star]
    for value in field.expressions:
        bare = value.this if isinstance(value, exp.PivotAlias) else value
        if isinstance(bare, exp.PivotAny) or bare.find(exp.Column, exp.Query):
            raise InvalidInput("PIVOT takes values in IN: literals, parameters and calls without columns.")
        for aggregate in aggregates:
            alias = value.alias if isinstance(value, exp.PivotAlias) else ""
            alone, after = (alias, f"_{alias}") if alias else _name(bare, is_date=is_date)
            name = aggregate.alias + after if isinstance(aggregate, exp.Alias) else alone
            if name.lower() in (column.alias.lower() for column in columns[1:]):
                raise InvalidInput(f"PIVOT has two columns named {name}; give each an alias.")
            chosen = exp.NullSafeEQ(this=field.this.copy(), expression=bare.copy())
            columns.append(exp.alias_(_chosen(aggregate.unalias().copy(), chosen), name, quoted=True))
    return exp.Select(expressions=columns, from_=exp.From(this=source), group=exp.Group(all=True))


def _chosen(aggregate: exp.Expr, condition: exp.Expr) -> exp.Expr:
    """Return an aggregate over the rows for which a condition is true."""
    inner = aggregate.this if isinstance(aggregate, exp.IgnoreNulls | exp.RespectNulls) else aggregate
    if not isinstance(inner, exp.AggFunc):
        raise InvalidInput("PIVOT takes calls of aggregates, such as SUM(x) or COUNT(*); compute with its columns.")
    if isinstance(inner, exp.Count) and isinstance(inner.this, exp.Star):
        return exp.CountIf(this=condition)
    for value in list(_values(aggregate)):
        value.replace(exp.If(this=condition.copy(), true=value.copy(), false=exp.null()))
    return exp.IgnoreNulls(this=inner) if isinstance(inner, exp.ArrayAgg) else aggregate


def _values(node: exp.Expr) -> Iterator[exp.Expr]:
    """Yield the arguments of an aggregate that are NULL in rows to leave out."""
    while isinstance(node, _AROUND):
        if isinstance(node, exp.ArgMax | exp.ArgMin | exp.Corr | exp.CovarPop | exp.CovarSamp):
            yield node.expression
        node = node.this
    if isinstance(node, exp.HavingMax):
        yield from (node.this, node.expression)
    elif isinstance(node, exp.Distinct):
        yield node.expressions[0]
    else:
        yield node


def _named(pivot: exp.Expr, source: str) -> list[str]:
    """Return the columns of the source that a PIVOT names; it does not group by them."""
    names = {}
    for column in [it for part in (*pivot.expressions, *pivot.args["fields"]) for it in part.find_all(exp.Column)]:
        parts = [part.name for part in column.parts]
        name = parts[1] if len(parts) > 1 and parts[0].lower() == source.lower() else parts[0]
        names[name.lower()] = name
    return list(names.values())


def _is_date(value: exp.Expr, kinds: Kinds) -> bool:
    """Return True if a value is known to be a DATE, or is a column that is a DATE in all views, such as ``day``."""
    types = {column.type for item in schema() for column in item.columns if column.name == value.name.lower()}
    return kinds.is_date(value) or (isinstance(value, exp.Column) and types == {"DATE"})


def _name(value: exp.Expr, *, is_date: bool) -> tuple[str, str]:
    """Return the name that BigQuery gives to the column of a value: alone, and behind the alias of an aggregate."""
    value = value.unnest()
    if isinstance(value, exp.Null):
        return "NULL", "_NULL"
    if isinstance(value, exp.Boolean):
        return ("true", "_true") if value.this else ("false", "_false")
    text = value.this.name if isinstance(value, exp.Cast) and isinstance(value.this, exp.Literal) else value.name
    kind = value.to.this if isinstance(value, exp.Cast) else None
    if kind == exp.DType.DATE or (is_date and isinstance(value, exp.Literal)):
        name = "".join(f"_{part:0>2}" for part in text.strip().split("-"))
        return name, name
    if isinstance(value, exp.Literal | exp.RawString) and not value.is_number:
        return (text, f"_{text}") if text else ("empty_string_value", "__empty_string_value")
    if kind == exp.DType.DECIMAL or (isinstance(value, exp.Literal | exp.Neg) and value.is_number):
        return _number(text if kind is not None else value.sql())
    raise InvalidInput(f"PIVOT has no name for the column of {value.sql(dialect='bigquery')}; write an alias after it.")


def _number(text: str) -> tuple[str, str]:
    try:
        number = Decimal(text.strip().replace(" ", ""))
    except InvalidOperation as error:
        raise InvalidInput(f"{text} is no NUMERIC, and so no value for PIVOT.") from error
    written = f"{abs(number).normalize():f}".replace(".", "_point_")
    return (f"minus_{written}", f"_minus_{written}") if number < 0 else (f"_{written}", f"_{written}")

"""Translate aggregates of GoogleSQL that SQLGlot does not translate, or translates to other values.

Each public function is a step of ``ledger.warehouse.duckdb.dialect``: it changes a parsed GoogleSQL tree in place.
"""

from __future__ import annotations

from sqlglot import exp

from ledger.errors import InvalidInput
from ledger.warehouse.duckdb.functions import innermost_first
from ledger.warehouse.duckdb.translations import fill


def counts(tree: exp.Expr) -> None:
    """Translate ``COUNTIF(x)`` to a COUNT, which is 0 without rows. SQLGlot's translation, a SUM, would be NULL."""
    for call in innermost_first(tree, exp.CountIf):
        condition = call.this.expressions[0] if isinstance(call.this, exp.Distinct) else call.this
        counted: exp.Expr = exp.If(this=condition.copy(), true=exp.Literal.number(1))
        if isinstance(call.this, exp.Distinct):
            counted = exp.Distinct(expressions=[counted])
        call.replace(exp.Count(this=counted, big_int=True))


def distinct_counts(tree: exp.Expr) -> None:
    """Count exactly in APPROX_COUNT_DISTINCT, as BigQuery does for thousands of values; DuckDB estimates always."""
    for call in innermost_first(tree, exp.ApproxDistinct):
        call.replace(exp.Count(this=exp.Distinct(expressions=[call.this.copy()]), big_int=True))


def respected_nulls(tree: exp.Expr) -> None:
    """Remove RESPECT NULLS from ARRAY_AGG, which keeps NULLs in any case."""
    for node in innermost_first(tree, exp.RespectNulls):
        if isinstance(node.this, exp.ArrayAgg):
            node.replace(node.this)


def quantiles(tree: exp.Expr) -> None:
    """Make APPROX_QUANTILES give elements of its input; DuckDB's APPROX_QUANTILE gives means of two of them."""
    for call in innermost_first(tree, exp.ApproxQuantiles):
        is_distinct = isinstance(call.this, exp.Distinct)
        value, number = call.this.expressions if is_distinct else (call.this, call.expression)
        if not (isinstance(number, exp.Literal) and number.is_int and 0 < int(number.this) <= _MOST_QUANTILES):
            raise InvalidInput(f"Over DuckDB, APPROX_QUANTILES takes a literal number of 1 to {_MOST_QUANTILES} parts.")
        count = int(number.this)
        fractions = ", ".join(repr(part / count) for part in range(count + 1))
        distinct = "DISTINCT " if is_distinct else ""
        whole = call.parent if isinstance(call.parent, exp.IgnoreNulls) else call
        whole.replace(fill(f"QUANTILE_DISC({distinct}_1, [{fractions}])", value))


def correlations(tree: exp.Expr) -> None:
    """Make CORR NULL for fewer than two pairs; DuckDB gives NaN for one."""
    for call in innermost_first(tree, exp.Corr):
        whole = call.parent if isinstance(call.parent, exp.Window) else call
        pairs = whole.copy()
        counted = fill("REGR_COUNT(_1, _2)", call.this, call.expression).unnest()
        if whole is call:
            pairs = counted
        else:
            pairs.set("this", counted)
        enough = exp.GT(this=pairs, expression=exp.Literal.number(1))
        whole.replace(exp.paren(exp.case().when(enough, whole.copy())))


def limits(tree: exp.Expr) -> None:
    """Replace LIMIT inside ``ARRAY_AGG`` and ``STRING_AGG`` by a slice of the finished list.

    DuckDB's aggregates have no LIMIT.
    """
    for limit in innermost_first(tree, exp.Limit):
        aggregate = limit.parent
        if not isinstance(aggregate, exp.ArrayAgg | exp.GroupConcat):
            continue
        separator = aggregate.args.get("separator") or exp.Literal.string(",")
        whole = aggregate.parent if isinstance(aggregate.parent, exp.IgnoreNulls) else aggregate
        collected: exp.Expr = exp.ArrayAgg(this=limit.this.copy())
        if isinstance(whole, exp.IgnoreNulls) or isinstance(aggregate, exp.GroupConcat):
            collected = exp.IgnoreNulls(this=collected)
        sliced = exp.Anonymous(
            this="LIST_SLICE", expressions=[collected, exp.Literal.number(1), limit.expression.copy()]
        )
        if isinstance(aggregate, exp.GroupConcat):
            sliced = exp.Anonymous(this="ARRAY_TO_STRING", expressions=[sliced, separator.copy()])
        whole.replace(sliced)


_MOST_QUANTILES = 1000

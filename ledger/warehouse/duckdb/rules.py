"""Rules of GoogleSQL about the order of words and about single expressions, which SQLGlot and DuckDB do not enforce.

Source: BigQuery's reference of query syntax, navigation functions, window function calls and operators.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlglot import Token, TokenType, exp

from ledger.errors import InvalidInput
from ledger.warehouse.syntax import place

_CLAUSES = ("WHERE", "GROUP BY", "HAVING", "QUALIFY", "WINDOW", "ORDER BY", "LIMIT")
_STARTS = ("SELECT", "UNION", "INTERSECT", "EXCEPT")
_DATE_PARTS = frozenset(
    ["MICROSECOND", "MILLISECOND", "SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "ISOWEEK", "MONTH", "QUARTER", "YEAR"]
)
_OF_PARTS = tuple(f"{kind}_{name}" for kind in ("DATE", "DATETIME", "TIMESTAMP", "TIME") for name in ("TRUNC", "DIFF"))
_OF_PATHS = frozenset(
    f"JSON_{name}" for name in ("VALUE", "QUERY", "VALUE_ARRAY", "QUERY_ARRAY", "EXTRACT", "EXTRACT_ARRAY")
) | {"JSON_EXTRACT_SCALAR", "JSON_EXTRACT_STRING_ARRAY"}
_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)
_ORDERED = (exp.Rank, exp.DenseRank, exp.PercentRank, exp.CumeDist, exp.Ntile, exp.Lag, exp.Lead, exp.FirstValue)
_PERCENTILES = (exp.PercentileCont, exp.PercentileDisc)


def check_words(sql: str, tokens: Sequence[Token]) -> None:
    """Check the order of clauses, commas before clauses, names of date parts, and JSON paths.

    Raises:
        InvalidInput: One of them is not GoogleSQL.
    """
    clauses = [""]
    calls = [""]
    texts = [token.text.upper() if token.token_type != TokenType.STRING else "'" for token in tokens] + ["", ""]
    for index, token in enumerate(tokens):
        text, before = texts[index], texts[index - 1] if index else ""
        where = f"({place(sql, token.start)})"
        if text in ("(", "["):
            clauses.append("")
            calls.append(before if text == "(" else "")
        elif text in (")", "]") and len(clauses) > 1:
            clauses.pop()
            calls.pop()
        elif before != "." and (text in _STARTS or text == "FROM"):
            clauses[-1] = text
        elif before != "." and text in _CLAUSES and token.token_type.name.replace("_", " ") == text:
            if before == "," and clauses[-1] != "SELECT":
                raise InvalidInput(f"A comma before {text} is not GoogleSQL {where}; remove it.")
            last = clauses[-1]
            if last in _CLAUSES and _CLAUSES.index(last) > _CLAUSES.index(text):
                raise InvalidInput(f"{text} after {last} is not GoogleSQL {where}; write {text} before {last}.")
            clauses[-1] = text
        elif text == "'" and before == "," and texts[index + 1] in (")", ","):
            _check_argument(calls[-1], token, where)
    if tokens and tokens[-1].text == "," and clauses[-1] in ("GROUP BY", "ORDER BY"):
        raise InvalidInput(f"A comma ends {clauses[-1]} ({place(sql, tokens[-1].start)}); remove it.")


def _check_argument(call: str, token: Token, where: str) -> None:
    if call in _OF_PARTS and token.text.upper() in _DATE_PARTS:
        raise InvalidInput(f"{call} takes {token.text.upper()} without quotes {where}.")
    if call in _OF_PATHS and not token.text.startswith("$"):
        raise InvalidInput(f"A JSON path begins with $ {where}; write '$.{token.text}'.")


def problems(node: exp.Expr) -> Iterator[str]:
    """Yield which rules a node of a statement's syntax tree breaks."""
    if isinstance(node, _COMPARISONS):
        if any(isinstance(it.unnest(), exp.Null) for it in (node.this, node.expression)):
            yield "A comparison with NULL is never true; write IS NULL or IS NOT NULL"
    elif isinstance(node, exp.In):
        if (field := node.args.get("field")) is not None:
            yield f"IN takes a list or a query; for an array write IN UNNEST({field.sql(dialect='bigquery')})"
    elif isinstance(node, _PERCENTILES):
        whole = node.parent if isinstance(node.parent, exp.IgnoreNulls | exp.RespectNulls) else node
        if not isinstance(whole.parent, exp.Window):
            yield f"{node.sql_name()} has OVER; write OVER (), or use APPROX_QUANTILES(x, 100)[OFFSET(50)] for groups"
    elif isinstance(node, exp.Window):
        yield from _of_window(node)
    elif isinstance(node, exp.Limit | exp.Offset):
        count = node.expression
        if isinstance(count, exp.Literal) and not count.is_int:
            yield f"{type(node).__name__.upper()} takes a whole number"
    elif isinstance(node, exp.Select) and node.args.get("order") is not None:
        for key in node.args["order"].expressions:
            if isinstance(key.this.unnest(), exp.Parameter):
                yield "ORDER BY takes no parameter; write CASE @name WHEN 'a' THEN a ... END"
        if node.args.get("distinct"):
            yield from _of_distinct(node)


def _of_window(window: exp.Window) -> Iterator[str]:
    called = window.this
    if isinstance(called, exp.IgnoreNulls | exp.RespectNulls):
        called = called.this
    order = window.args.get("order")
    if order is None and (name := window.args.get("alias")) is not None:
        select = window.parent_select
        named = (select.args.get("windows") or []) if select is not None else []
        order = next((it.args.get("order") or it.args.get("alias") for it in named if it.name == name.name), None)
    if isinstance(called, (*_ORDERED, exp.LastValue, exp.NthValue)) and order is None:
        yield f"{called.sql_name()} has an ORDER BY in its OVER; write OVER (ORDER BY ...)"
    elif isinstance(called, _PERCENTILES) and order is not None:
        yield f"{called.sql_name()} has no ORDER BY in its OVER; it sorts its values itself"
    elif isinstance(called, exp.AggFunc) and isinstance(called.this, exp.Distinct) and order is not None:
        yield "An aggregate with DISTINCT has no ORDER BY in its OVER"


def _of_distinct(select: exp.Select) -> Iterator[str]:
    if any(item.is_star for item in select.selects):
        return
    names = {item.alias_or_name.lower() for item in select.selects}
    columns = {item.unalias().name.lower() for item in select.selects if isinstance(item.unalias(), exp.Column)}
    for column in select.args["order"].find_all(exp.Column):
        known = names if len(column.parts) == 1 else columns
        first = column.parts[0].name.lower()
        if column.parent_select is select and column.name.lower() not in known and first not in names:
            yield f"A SELECT DISTINCT is sorted by its columns; select {column.sql(dialect='bigquery')}, too"

"""Rules of GoogleSQL about the order of words and about single expressions, which SQLGlot and DuckDB do not enforce.

Source: BigQuery's reference of query syntax, navigation functions, window function calls and operators.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sqlglot import Token, TokenType, exp

from ledger.errors import InvalidInput
from ledger.warehouse.syntax import place

_CLAUSES = ("WHERE", "GROUP BY", "HAVING", "QUALIFY", "WINDOW", "ORDER BY", "LIMIT")
_SETS = ("UNION", "INTERSECT", "EXCEPT")
_STARTS = ("SELECT", *_SETS)
#: Parts of a time of day.
CLOCK_PARTS = frozenset(["MICROSECOND", "MILLISECOND", "SECOND", "MINUTE", "HOUR"])
_PARTS_OF_DAYS = CLOCK_PARTS | {"DAY"}
DATE_PARTS = _PARTS_OF_DAYS | frozenset(["WEEK", "ISOWEEK", "MONTH", "QUARTER", "YEAR", "ISOYEAR"])
_EXTRACTED = DATE_PARTS | {"DAYOFWEEK", "DAYOFYEAR", "DATE", "TIME", "DATETIME"}
_OF_PARTS = tuple(f"{kind}_{name}" for kind in ("DATE", "DATETIME", "TIMESTAMP", "TIME") for name in ("TRUNC", "DIFF"))
_OF_PATHS = frozenset(
    f"JSON_{name}" for name in ("VALUE", "QUERY", "VALUE_ARRAY", "QUERY_ARRAY", "EXTRACT", "EXTRACT_ARRAY")
) | {"JSON_EXTRACT_SCALAR", "JSON_EXTRACT_STRING_ARRAY"}
#: A name in brackets, which only the paths of JSON_EXTRACT and its like have.
_QUOTED = re.compile(r"""\[\s*['"](.*?)['"]\s*\]""")
_DIFFERENCES = (exp.DateDiff, exp.DatetimeDiff, exp.TimestampDiff, exp.TimeDiff)
_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)
_ORDERED = (exp.Rank, exp.DenseRank, exp.PercentRank, exp.CumeDist, exp.Ntile, exp.Lag, exp.Lead, exp.FirstValue)
_PERCENTILES = (exp.PercentileCont, exp.PercentileDisc)
_SORTING = (exp.Query, exp.Window, exp.ArrayAgg, exp.GroupConcat, exp.ArrayConcatAgg)
_FROM_ONLY = ("where", "group", "having", "qualify", "order", "windows", "distinct")


def check_words(sql: str, tokens: Sequence[Token]) -> None:
    """Check the order of clauses, commas before clauses, names of date parts, and JSON paths.

    Raises:
        InvalidInput: One of them is not GoogleSQL.
    """
    clauses = [""]
    calls = [""]
    operators = [""]
    texts = [token.text.upper() if token.token_type != TokenType.STRING else "'" for token in tokens] + ["", ""]
    for index, token in enumerate(tokens):
        text, before = texts[index], texts[index - 1] if index else ""
        where = f"({place(sql, token.start)})"
        if text in ("(", "["):
            clauses.append("")
            operators.append("")
            calls.append(before if text == "(" else "")
        elif text in (")", "]") and len(clauses) > 1:
            clauses.pop()
            calls.pop()
            operators.pop()
        elif before != "." and (text in _STARTS or text == "FROM"):
            clauses[-1] = text
            if text in _SETS and texts[index + 1] in ("ALL", "DISTINCT"):
                operator = f"{text} {texts[index + 1]}"
                if operators[-1] not in ("", operator):
                    raise InvalidInput(
                        f"{operators[-1]} and {operator} need parentheses {where}: a {operator} (b ...)."
                    )
                operators[-1] = operator
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
    if call in _OF_PARTS and token.text.upper() in DATE_PARTS:
        raise InvalidInput(f"{call} takes {token.text.upper()} without quotes {where}.")
    if call in _OF_PATHS and not token.text.startswith("$"):
        raise InvalidInput(f"A JSON path begins with $ {where}; write '$.{token.text}'.")
    if call in _OF_PATHS and not call.startswith("JSON_EXTRACT") and (quoted := _QUOTED.search(token.text)):
        raise InvalidInput(f'The path of {call} has no {quoted[0]} {where}; write $."{quoted[1]}".')


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
    elif isinstance(node, exp.TableSample):
        yield "TABLESAMPLE is not answered over a DuckDB file; write WHERE RAND() < 0.1"
    elif isinstance(node, exp.RespectNulls):
        if isinstance(node.this, (*_PERCENTILES, exp.ApproxQuantiles)):
            yield f"{node.this.sql_name()} is not answered with RESPECT NULLS over a DuckDB file; leave out these words"
    elif isinstance(node, exp.Window):
        yield from _of_window(node)
    elif isinstance(node, exp.Limit | exp.Offset):
        count = node.expression
        if isinstance(count, exp.Literal) and not count.is_int:
            yield f"{type(node).__name__.upper()} takes a whole number"
    elif isinstance(node, exp.Any) and not isinstance(node.parent, exp.Like):
        yield "ANY stands only after LIKE in GoogleSQL; write IN UNNEST(array) or IN (SELECT ...)"
    elif isinstance(node, exp.Order):
        owner = node.parent.parent if isinstance(node.parent, exp.Limit | exp.IgnoreNulls) else node.parent
        if not isinstance(owner, _SORTING):
            yield "Only ARRAY_AGG, STRING_AGG and ARRAY_CONCAT_AGG have an ORDER BY among their arguments"
    elif isinstance(node, exp.Count):
        counted = node.this
        if counted is None or (isinstance(counted, exp.Distinct) and len(counted.expressions) != 1):
            yield "COUNT takes one argument, or *; for more write COUNT(DISTINCT TO_JSON_STRING(STRUCT(a, b)))"
        elif isinstance(counted, exp.Column) and counted.is_star:
            yield "COUNT takes one argument, or *"
    elif isinstance(node, exp.Join):
        if node.kind not in ("", "CROSS", "INNER", "OUTER"):
            yield f"{node.kind} JOIN is not GoogleSQL; write WHERE EXISTS or WHERE NOT EXISTS (SELECT ...)"
        elif node.kind != "CROSS" and not isinstance(node.this, exp.Unnest) and not node.args.keys() & {"on", "using"}:
            yield "A JOIN has ON or USING; for all pairs of rows write CROSS JOIN"
    elif isinstance(node, exp.WindowSpec):
        if node.args.get("kind") not in ("ROWS", "RANGE"):
            yield "A window frame has ROWS or RANGE"
    elif isinstance(node, exp.Extract):
        part = node.this
        if not isinstance(part, exp.WeekStart) and not (isinstance(part, exp.Var) and part.name.upper() in _EXTRACTED):
            yield f"EXTRACT has no part {part.name or 'such as this'}; it has {', '.join(sorted(_EXTRACTED))}"
    elif isinstance(node, _DIFFERENCES) and node.args.get("unit") is None:
        name = node.sql_names()[-1]
        yield f"{name} takes a part of a date or time; write {name}(a, b, {'HOUR' if 'TIME' in name else 'DAY'})"
    elif isinstance(node, exp.DPipe):
        if any(isinstance(it.unnest(), exp.Null) for it in (node.this, node.expression)):
            yield "An operand of || is not NULL"
    elif isinstance(node, exp.TimestampAdd | exp.TimestampSub | exp.TimestampDiff):
        yield from _wrong_unit(node, _PARTS_OF_DAYS)
    elif isinstance(node, exp.JSONPathSubscript):
        if not isinstance(node.this, int) or node.this < 0:
            yield "A JSON path has [n], with n from 0"
    elif isinstance(node, exp.Unnest):
        if not isinstance(node.parent, exp.From | exp.Join | exp.In | exp.PivotAny):
            yield "UNNEST stands only in FROM, or after IN; write FROM t, UNNEST(t.list) AS item"
    elif isinstance(node, exp.Interval):
        yield from _wrong_unit(node, DATE_PARTS)
    elif isinstance(node, exp.Array):
        if any(isinstance(it.unnest(), exp.Array) for it in node.expressions):
            yield "An ARRAY has no ARRAYs as elements in GoogleSQL; put each into a STRUCT"
    elif isinstance(node, exp.Select):
        yield from _of_order(node)
        yield from _wrong_clauses(node)


def _of_order(select: exp.Select) -> Iterator[str]:
    order = select.args.get("order")
    for key in order.expressions if order is not None else []:
        if isinstance(key.this.unnest(), exp.Parameter):
            yield "ORDER BY takes no parameter; write CASE @name WHEN 'a' THEN a ... END"
    if order is not None and select.args.get("distinct"):
        yield from _of_distinct(select)


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


def _wrong_unit(node: exp.Expr, units: frozenset[str]) -> Iterator[str]:
    unit = node.args.get("unit")
    if isinstance(unit, exp.IntervalSpan):
        yield "INTERVAL with two parts is not answered over a DuckDB file; add two intervals"
    elif isinstance(unit, exp.Var) and unit.name.upper() not in units:
        owner = "INTERVAL" if isinstance(node, exp.Interval) else type(node).__name__.replace("stamp", "stamp_").upper()
        yield f"{owner} has no {unit.name}; it has {', '.join(sorted(units))}"


def _wrong_clauses(select: exp.Select) -> Iterator[str]:
    limit = select.args.get("limit")
    if limit is None and select.args.get("offset") is not None:
        yield "OFFSET stands only after LIMIT in GoogleSQL"
    if isinstance(limit, exp.Limit) and isinstance(limit.expression.unnest(), exp.Null | exp.Query):
        yield "LIMIT takes a number or a parameter"
    if (select.args.get("from_") or select.args.get("from")) is None:
        for clause in _FROM_ONLY:
            if select.args.get(clause):
                yield f"A SELECT without FROM has no {clause.upper()}"  # noqa: S608
        for column in select.expressions:
            for call in column.find_all(exp.AggFunc):
                if call.parent_select is select:
                    yield "A SELECT without FROM has no aggregates"

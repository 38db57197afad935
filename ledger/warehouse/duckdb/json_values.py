"""Refuse JSON values where GoogleSQL takes none: in comparisons, sorts, groups, and functions of text.

``json_values`` is a step of ``ledger.warehouse.duckdb.dialect``. DuckDB's JSON is text, so DuckDB would compare and
sort the texts. Only an expression that may be JSON, by the names and calls in it, is checked; DuckDB replaces the
check by a constant, because TYPEOF depends on no row.

Source: BigQuery's reference of data types, "JSON type", and of operators.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from ledger.errors import InvalidInput
from ledger.warehouse.duckdb.scopes import select_aliases
from ledger.warehouse.duckdb.translations import fill
from ledger.warehouse.schema import schema

_INSTEAD = "read its value with {}, or with LAX_STRING, INT64, LAX_INT64 or LAX_FLOAT64"
_COMPARED = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Like)
_OPERANDS = (*_COMPARED, exp.Between, exp.In, exp.Where, exp.Having, exp.Qualify, exp.Not, exp.Distinct)
_MAKERS = (exp.ParseJSON, exp.JSONObject, exp.JSONArray)
#: Functions that take JSON, and those of whose arguments other steps check the types.
_TAKERS = (
    *(*_MAKERS, exp.JSONExtract, exp.JSONExtractArray, exp.JSONExtractScalar, exp.JSONValueArray, exp.JSONType),
    *(exp.LaxBool, exp.LaxFloat64, exp.LaxInt64, exp.LaxString, exp.Int64, exp.Float64, exp.JSONBool, exp.String),
    *(exp.Coalesce, exp.If, exp.Case, exp.AnyValue, exp.ArrayAgg, exp.ArrayConcatAgg, exp.Count, exp.Struct, exp.Array),
    *(exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.NthValue, exp.ArgMax, exp.ArgMin, exp.Concat, exp.Format),
    *(exp.Unnest, exp.Exists, exp.SafeFunc),
)
_NAMED_TAKERS = ("TO_JSON", "JSON_", "LAX_", "CONTAINS_SUBSTR", "SEARCH", "UNNEST", "ARRAY_", "ERROR")
_PASSED = (
    *(exp.Coalesce, exp.If, exp.AnyValue, exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.NthValue, exp.Max),
    *(exp.Min, exp.ArgMax, exp.ArgMin, exp.Window, exp.IgnoreNulls, exp.Bracket, exp.Dot, exp.JSONExtract),
)


def json_values(tree: exp.Expr) -> None:
    """Make each JSON value fail that is compared, sorted, grouped or an argument of a function of other types."""
    names = _names(tree)
    for window in list(tree.find_all(exp.Window)):
        _check_window(window, names)
    for select in list(tree.find_all(exp.Select)):
        for what, key in list(_keys(select, names)):
            select.where(_check(what, key, "TRUE", names), copy=False)
    for ordered in list(tree.find_all(exp.Ordered)):
        if not isinstance(ordered.find_ancestor(exp.Window, exp.Query, exp.AggFunc), exp.Window):
            _sorted(ordered, names)
    for node in [it for it in tree.find_all(*_OPERANDS, exp.Func) if _takes_none(it)]:
        what = _what(node)
        for operand in list(node.iter_expressions()):
            if operand.arg_key != "to":
                _guard(what, operand, names)
    for case in tree.find_all(exp.Case):
        if case.this is not None:
            _guard("CASE", case.this, names)


def _takes_none(node: exp.Expr) -> bool:
    if isinstance(node, exp.Anonymous):
        return not node.name.upper().startswith(_NAMED_TAKERS) and not node.name.upper().endswith("_ARRAY")
    if isinstance(node, exp.Cast) and node.args["to"].this in (exp.DType.TEXT, exp.DType.JSON):
        return False
    if isinstance(node, exp.Distinct) and isinstance(node.parent, exp.Select):  # among the keys
        return False
    return not isinstance(node, _TAKERS) and not isinstance(node.parent, exp.Table)


def _what(node: exp.Expr) -> str:
    if isinstance(node, _COMPARED):
        return "A comparison"
    if isinstance(node, exp.Anonymous):
        return node.name.upper()
    return node.sql_name() if isinstance(node, exp.Func) else type(node).__name__.upper()


def _guard(what: str, value: exp.Expr, names: frozenset[str]) -> None:
    if _may_be_json(value, names):
        value.replace(_check(what, value, "_2", names))


def _check(what: str, value: exp.Expr, otherwise: str, names: frozenset[str]) -> exp.Expr:
    """Return an expression that fails if a value is JSON; ``_2`` in ``otherwise`` is the value."""
    message = f"{what} takes no JSON; {_INSTEAD.format(_reading(value, names))}".replace("'", "''")
    source = value
    while isinstance(source, exp.JSONExtract):  # of a STRING, JSON_QUERY gives a STRING in GoogleSQL
        source = source.this
    condition = "TRUE" if isinstance(source, _MAKERS) else "TYPEOF(_1) = 'JSON'"
    return fill(f"CASE WHEN {condition} THEN ERROR('{message}') ELSE {otherwise} END", source, value)


def _reading(value: exp.Expr, names: frozenset[str]) -> str:
    """Return the call of JSON_VALUE for a JSON value, with the path of its name if it has one."""
    parts = [part.name for part in value.parts] if isinstance(value, exp.Column) else []
    start = next((index for index, part in enumerate(parts, 1) if part.lower() in names), 0)
    json = ".".join(parts[:start]) or "json"
    if start in (0, len(parts)):
        return f"JSON_VALUE({json}) or JSON_VALUE({json}, '$.name')"
    return f"JSON_VALUE({json}, '{'.'.join(['$', *parts[start:]])}')"


def _sorted(ordered: exp.Ordered, names: frozenset[str]) -> None:
    """Check a sort key. In a SELECT it may be an alias or a position; a key of a group or of DISTINCT is checked there.

    A query of several SELECTs sorts by names only.
    """
    select = ordered.parent.parent if ordered.parent is not None else None
    key = ordered.this
    if isinstance(select, exp.SetOperation):
        return
    if isinstance(select, exp.Select):
        if isinstance(key, exp.Literal) and key.is_int:
            key = _item(select, int(key.this)) or key
        elif isinstance(key, exp.Column) and len(key.parts) == 1:
            key = select_aliases(select).get(key.name.lower(), (None, key))[1]
        grouped = select.args.get("group") or select.args.get("distinct")
        if grouped and key.find(exp.AggFunc, exp.Window) is None:
            return
    if _may_be_json(key, names):
        ordered.set("this", _check("ORDER BY", key, "_2", names))


def _check_window(window: exp.Window, names: frozenset[str]) -> None:
    """Check the keys of a window, before its rows are made: DuckDB 2 takes no call of ERROR as such a key."""
    order = window.args.get("order")
    keys = [("PARTITION BY", key) for key in window.args.get("partition_by") or []]
    keys += [("ORDER BY", ordered.this) for ordered in (order.expressions if order is not None else [])]
    select = window.parent_select
    for what, key in keys:
        if isinstance(select, exp.Select) and _may_be_json(key, names) and key.find(exp.AggFunc) is None:
            select.where(_check(what, key, "TRUE", names), copy=False)


def _keys(select: exp.Select, names: frozenset[str]) -> Iterator[tuple[str, exp.Expr]]:
    """Yield what a SELECT groups by, makes distinct or joins by, if it may be JSON."""
    group = select.args.get("group")
    found: list[tuple[str, exp.Expr]] = []
    if group is not None:
        keys = list(_group_keys(group))
        keys = [_item(select, int(it.this)) or it if isinstance(it, exp.Literal) and it.is_int else it for it in keys]
        found += [("GROUP BY", it) for it in [*keys, *(select.selects if group.args.get("all") else [])]]
    if select.args.get("distinct") or _in_distinct_set(select):
        found += [("DISTINCT", it) for it in select.selects]
        if any(isinstance(it, exp.Star) for it in select.selects):
            _check_star(select)
    for join in select.args.get("joins") or []:
        found += [("USING", exp.column(it.name)) for it in join.args.get("using") or []]
    for what, item in found:
        value = item.this if isinstance(item, exp.Alias) else item
        if _may_be_json(value, names) and value.find(exp.AggFunc, exp.Window) is None:
            yield what, value


def _group_keys(group: exp.Expr) -> Iterator[exp.Expr]:
    for each in group.iter_expressions():
        if isinstance(each, exp.Rollup | exp.Cube | exp.GroupingSets | exp.Tuple):
            yield from _group_keys(each)
        else:
            yield each


def _in_distinct_set(select: exp.Select) -> bool:
    parent = select.parent
    while isinstance(parent, exp.SetOperation | exp.Subquery):
        if isinstance(parent, exp.SetOperation) and parent.args.get("distinct"):
            return True
        parent = parent.parent
    return False


def _check_star(select: exp.Select) -> None:
    source = select.args.get("from_")
    hidden = {column.name.lower() for star in select.find_all(exp.Star) for column in star.args.get("except_") or []}
    ctes = {cte.alias.lower() for cte in select.root().find_all(exp.CTE)}
    for table in source.find_all(exp.Table) if source is not None else []:
        for item in schema():
            for column in item.columns if item.name == table.name.lower() and item.name not in ctes else []:
                if column.type == "JSON" and column.name not in hidden:
                    raise InvalidInput(
                        f"DISTINCT takes no JSON, as in the column {column.name}; "
                        f"{_INSTEAD.format(_reading(exp.column(column.name), frozenset([column.name])))}."
                    )


def _item(select: exp.Select, position: int) -> exp.Expr | None:
    """Return the expression at a position of the SELECT list, unless ``*`` is before it."""
    items = select.selects[:position]
    if len(items) < position or any(it.is_star for it in items):
        return None
    last: exp.Expr = items[-1]
    return last.this if isinstance(last, exp.Alias) else last


def _names(tree: exp.Expr) -> frozenset[str]:
    """Return the names that may stand for JSON in a statement: columns of the ledger, and aliases of such values."""
    names = {column.name for item in schema() for column in item.columns if "JSON" in column.type}
    aliases = list(tree.find_all(exp.Alias))
    arrays = [(it, it.alias_column_names) for it in tree.find_all(exp.Unnest)]
    while True:
        before = len(names)
        known = frozenset(names)
        names |= {alias.alias.lower() for alias in aliases if _may_be_json(alias.this, known)}
        for unnest, columns in arrays:
            if any(isinstance(it, exp.JSONExtractArray) or _may_be_json(it, known) for it in unnest.expressions):
                names |= {name.lower() for name in columns}
        if len(names) == before:
            return frozenset(names)


def _may_be_json(value: exp.Expr, names: frozenset[str]) -> bool:
    value = value.unnest()
    if isinstance(value, exp.Column):
        return any(part.name.lower() in names for part in value.parts)
    if isinstance(value, exp.Anonymous):
        return value.name.upper() == "TO_JSON"
    if isinstance(value, exp.Subquery):
        return any(_may_be_json(it.unalias(), names) for it in value.selects)
    if isinstance(value, exp.Case):
        branches = [it.args["true"] for it in value.args["ifs"]]
        return any(_may_be_json(it, names) for it in [*branches, value.args.get("default")] if it is not None)
    if isinstance(value, exp.If):
        return any(
            _may_be_json(it, names) for it in (value.args.get("true"), value.args.get("false")) if it is not None
        )
    if isinstance(value, exp.Coalesce):
        return any(_may_be_json(it, names) for it in [value.this, *value.expressions])
    return isinstance(value, _MAKERS) or (isinstance(value, _PASSED) and _may_be_json(value.this, names))

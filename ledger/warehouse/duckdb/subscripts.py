"""Translate GoogleSQL's subscripts: ``array[OFFSET(n)]``, ``array[n]``, ``json[n]`` and ``json['field']``.

In GoogleSQL, elements of JSON arrays and of ARRAYs count from 0, and only an ARRAY fails beyond its end. In DuckDB,
elements of JSON count from 0, elements of lists from 1, and both count backwards from -1. A syntax tree does not tell
JSON from a list, so most translations ask DuckDB for the type, by TYPEOF, which DuckDB replaces by a constant.

Source: BigQuery's reference of operators (array subscript operator, JSON subscript operator).
"""

from __future__ import annotations

import re

from sqlglot import exp

from ledger.warehouse.duckdb.functions import innermost_first
from ledger.warehouse.duckdb.translations import fill
from ledger.warehouse.schema import schema

#: DuckDB takes a field's name for a path or a pattern if it has other characters.
_PLAIN_FIELD = re.compile(r"[A-Za-z_]\w*")
_JSON_FUNCTIONS = (exp.ParseJSON, exp.JSONExtract, exp.JSONObject, exp.JSONArray)
_JSON_LISTS = (exp.JSONExtractArray,)
#: Templates of the position in DuckDB; ``_1`` is the JSON or list, ``_2`` the position in GoogleSQL.
_OTHERS = (
    "WHEN TYPEOF(_1) IN ('VARCHAR', 'BLOB') THEN ERROR('A subscript needs an ARRAY or JSON, not STRING or BYTES') ELSE "
)
_IN_EITHER = (
    f"CASE WHEN TYPEOF(_1) = 'JSON' THEN CASE WHEN _2 >= 0 THEN _2 END {_OTHERS}"
    "CASE WHEN _2 < 0 OR _2 >= LENGTH(_1) THEN ERROR('Array index ' || _2 || ' is out of bounds') ELSE _2 + 1 END END"
)
_IN_LIST = (
    "CASE WHEN TYPEOF(_1) = 'JSON' THEN ERROR('JSON has no OFFSET or ORDINAL; write json[n], which counts from 0') "
    f"{_OTHERS}CASE WHEN _2 < first OR _2 >= LENGTH(_1) + first THEN beyond ELSE _2 + shift END END"
)
_BEYOND = "ERROR('Array index ' || _2 || ' is out of bounds')"
#: ``_1`` is JSON, ``_2`` a field's name. A JSON pointer is the only path in which every name can be written. A later
#: step translates JSON_TYPE, so its values are GoogleSQL's.
_FIELD = (
    "CASE WHEN JSON_TYPE(_1) = 'object' THEN JSON_EXTRACT(_1, '/' || REPLACE(REPLACE(_2, '~', '~0'), '/', '~1')) END"
)
_EITHER_FIELD = (
    f"CASE WHEN TYPEOF(_2) = 'VARCHAR' THEN {_FIELD.replace('_2', 'CAST(_2 AS VARCHAR)')} "
    "ELSE JSON_EXTRACT(_1, CASE WHEN TRY_CAST(_2 AS BIGINT) >= 0 THEN TRY_CAST(_2 AS BIGINT) END) END"
)


def subscripts(tree: exp.Expr) -> None:
    """Translate all subscripts of a user's statement."""
    _subscripted_literals(tree)
    known = _Names(tree)
    for bracket in innermost_first(tree, exp.Bracket):
        if len(bracket.expressions) != 1:
            continue
        value, position = bracket.this, bracket.expressions[0]
        keyword = bracket.args.get("offset") is not None
        if isinstance(position, exp.Literal) and position.is_string:
            if not _PLAIN_FIELD.fullmatch(position.this):
                bracket.replace(fill(_FIELD, value, position))
        elif not keyword and isinstance(position, exp.Literal) and _makes_json(value):
            bracket.set("offset", 1)  # SQLGlot then leaves the position as it is
        elif not keyword and not _is_number(position) and known.is_json(value):
            bracket.replace(fill(_EITHER_FIELD, value, position))
        else:
            template = _IN_EITHER
            if keyword:
                first = int(bracket.args["offset"])
                beyond = "NULL" if bracket.args.get("safe") else _BEYOND
                template = _IN_LIST.replace("first", str(first)).replace("shift", str(1 - first))
                template = template.replace("beyond", beyond)
            bracket.replace(_element(value, position, template))


def _element(value: exp.Expr, position: exp.Expr, template: str) -> exp.Expr:
    """Return the element of a JSON value or list at the position that a template computes.

    A value other than a column stands in the statement once, as the only item of a list that a lambda reads. If
    subscripts were applied to subscripts, copies would double with each of them.
    """
    if isinstance(value.unnest(), exp.Column | exp.Parameter) or position.find(exp.Query) is not None:
        return _bracket(exp.paren(value.copy()), fill(template, value, position))
    name = f"subscripted_{sum(1 for _ in position.find_all(exp.Lambda))}"  # equal expressions stay equal for GROUP BY
    item = exp.column(name)
    reader = exp.Lambda(this=_bracket(item, fill(template, item, position)), expressions=[exp.to_identifier(name)])
    items = exp.Array(expressions=[value.copy()])
    return exp.paren(_bracket(exp.func("LIST_TRANSFORM", items, reader), exp.Literal.number(1)))


def _bracket(value: exp.Expr, position: exp.Expr) -> exp.Expr:
    return exp.Bracket(this=value, expressions=[position], offset=1)  # SQLGlot then leaves the position as it is


def _subscripted_literals(tree: exp.Expr) -> None:
    """Apply the subscripts of ``JSON '[1]'[0]`` to the JSON value; SQLGlot would apply them to the text."""
    for call in innermost_first(tree, exp.ParseJSON):
        inner = call.this
        while isinstance(inner, exp.Bracket | exp.Dot):
            inner = inner.this
        if inner is not call.this and isinstance(inner, exp.Literal) and inner.is_string:
            inner.replace(exp.ParseJSON(this=inner.copy()))
            call.replace(call.this)


def _is_number(position: exp.Expr) -> bool:
    """Return True if a position cannot be text: a number, or the result of arithmetic."""
    inner = position.unnest()
    if isinstance(inner, exp.Neg):
        inner = inner.this
    return isinstance(inner, exp.Add | exp.Sub | exp.Mul | exp.Mod | exp.IntDiv | exp.Count | exp.Length) or (
        isinstance(inner, exp.Literal) and not inner.is_string
    )


def _makes_json(value: exp.Expr) -> bool:
    """Return True if an expression is a JSON function or literal, or a field or element of one."""
    value = value.unnest()
    while isinstance(value, exp.Dot | exp.Bracket):
        value = value.this.unnest()
    if isinstance(value, exp.Cast):
        return bool(value.to.this == exp.DType.JSON)
    if isinstance(value, exp.Anonymous):
        return value.name.upper() == "TO_JSON"
    return isinstance(value, _JSON_FUNCTIONS)


class _Names:
    """Which columns and aliases of a statement are JSON, by their names.

    A statement can give a name that is JSON's to something else, so what is taken for JSON here is read by a
    translation that gives no other element of a list.
    """

    def __init__(self, tree: exp.Expr) -> None:
        named = {table.name.lower() for table in tree.find_all(exp.Table)}
        named |= {table.this.name.lower() for table in tree.find_all(exp.Table) if isinstance(table.this, exp.Func)}
        self._columns: dict[str, set[bool]] = {}
        for item in schema():
            if item.name in named:
                for column in item.columns:
                    self._columns.setdefault(column.name, set()).add(column.type == "JSON")
        self._aliases: dict[str, list[exp.Expr]] = {}
        for alias in tree.find_all(exp.Alias):
            self._aliases.setdefault(alias.alias.lower(), []).append(alias.this)
        self._tables = {table.alias.lower() for table in tree.find_all(exp.Table, exp.Subquery, exp.CTE)} | named
        for unnest in tree.find_all(exp.Unnest):
            for name in unnest.alias_column_names or [unnest.alias]:
                is_json = all(isinstance(array, _JSON_LISTS) for array in unnest.expressions)
                self._columns.setdefault(name.lower(), set()).add(is_json)

    def is_json(self, value: exp.Expr, seen: frozenset[str] = frozenset()) -> bool:
        """Return True if an expression is JSON, or a field or element of JSON."""
        value = value.unnest()
        if _makes_json(value):
            return True
        while isinstance(value, exp.Dot | exp.Bracket):
            value = value.this.unnest()
        if not isinstance(value, exp.Column):
            return False
        names = [part.name.lower() for part in value.parts]
        name = names[1] if len(names) > 1 and names[0] in self._tables and names[0] not in self._columns else names[0]
        kinds = set(self._columns.get(name, ()))
        if name not in seen:
            kinds |= {self.is_json(each, seen | {name}) for each in self._aliases.get(name, ())}
        return kinds == {True}

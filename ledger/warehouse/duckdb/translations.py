"""Translate calls, literals and casts of GoogleSQL that SQLGlot does not translate, or translates to other values.

Each public function is a step of ``ledger.warehouse.duckdb.dialect``: it changes a parsed GoogleSQL tree in place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

from sqlglot import exp

from ledger.errors import InvalidInput
from ledger.warehouse.duckdb.functions import innermost_first, parsed
from ledger.warehouse.duckdb.kinds import known
from ledger.warehouse.duckdb.templates import NAMES, TEMPLATES

#: Number of nodes from which an argument is large.
_LARGE = 60
_DECIMAL = re.compile(r"\d*\.\d*")
_GROUP = re.compile(r"\((?!\?[^P<])")
_FORMAT = re.compile(r"%(?:%|[-+ #0]*\d*(?:\.\d+)?([diouxXeEfFgGs]))|%")


def templates(tree: exp.Expr) -> None:
    """Replace each call of a function in ``TEMPLATES`` by its template, filled with the arguments of the call."""
    for call in innermost_first(tree, exp.Anonymous):
        name, count = call.name.upper(), len(call.expressions)
        template = TEMPLATES.get(f"{name}/{count}") or TEMPLATES.get(name)
        if template and max(map(int, re.findall(r"\b_(\d)\b", template)), default=0) == count:
            call.replace(fill(template, *call.expressions))
        elif name in ("GREATEST", "LEAST"):
            call.replace(_extreme(call))
        elif name == "ARRAY_CONCAT":
            call.replace(_concatenated(call))
        elif name == "NORMALIZE" and count == 2 and call.expressions[1].name.upper() == "NFC":
            call.replace(fill(TEMPLATES["NORMALIZE/1"], call.expressions[0]))
        elif name in NAMES:
            raise InvalidInput(f"{name} with {count} argument{'' if count == 1 else 's'} is not answered over DuckDB.")


def safe_calls(tree: exp.Expr) -> None:
    """Translate ``SAFE.f(x)``, which is NULL if ``f(x)`` fails, to DuckDB's TRY.

    Calls of ERROR inside become NULL, because TRY does not allow them.
    """
    for call in innermost_first(tree, exp.SafeFunc):
        call.replace(exp.Anonymous(this="TRY", expressions=[call.this]))
    for call in innermost_first(tree, exp.Anonymous):
        if call.name.upper() == "TRY":
            for error in [it for it in call.find_all(exp.Anonymous) if it.name.upper() == "ERROR"]:
                error.replace(exp.null())


def float_literals(tree: exp.Expr) -> None:
    """Write 2.5 as 2.5e0. GoogleSQL's 2.5 is a FLOAT64; DuckDB's 2.5 would be a DECIMAL."""
    for literal in list(tree.find_all(exp.Literal)):
        if not literal.is_string and _DECIMAL.fullmatch(literal.this):
            whole, _, part = literal.this.partition(".")
            literal.replace(exp.Literal.number(f"{whole or '0'}.{part or '0'}e0"))


def numeric_types(tree: exp.Expr) -> None:
    """Write NUMERIC as NUMERIC(38, 9), as in GoogleSQL. DuckDB's default is NUMERIC(18, 3)."""
    for kind in tree.find_all(exp.DataType):
        if kind.this == exp.DType.DECIMAL and not kind.expressions:
            kind.set("expressions", [exp.DataTypeParam(this=exp.Literal.number(n)) for n in (38, 9)])
        elif kind.this == exp.DType.BIGDECIMAL:
            raise InvalidInput("BIGNUMERIC has more digits than DuckDB stores; use NUMERIC or FLOAT64.")


def formatted(tree: exp.Expr) -> None:
    """Translate FORMAT with a literal format to DuckDB's PRINTF, which has the same format letters."""
    for call in innermost_first(tree, exp.Format):
        pattern = call.this
        if not isinstance(pattern, exp.Literal) or any(match[0] == "%" for match in _FORMAT.finditer(pattern.this)):
            raise InvalidInput(
                "Over DuckDB, FORMAT needs a literal format with %d, %i, %s, %f, %e, %g, %x, %X, %o or %%; for "
                "other values use CAST(... AS STRING) with %s."
            )
        letters = [match[1] for match in _FORMAT.finditer(pattern.this) if match[1]]
        if len(letters) != len(call.expressions):
            raise InvalidInput(
                f"FORMAT takes a value for each element: {len(letters)}, and not {len(call.expressions)}."
            )
        values = []
        for letter, value in zip(letters, call.expressions, strict=True):
            unsigned = letter in "xXo"
            values.append(fill(_UNSIGNED if unsigned else _FORMATTED, value))
        call.replace(exp.Anonymous(this="PRINTF", expressions=[pattern.copy(), *values]))


def numerics(tree: exp.Expr) -> None:
    """Make NUMERICs fail in a multiplication, a division and AVG: DuckDB has more digits, or gives a FLOAT64."""
    if not any(kind.this == exp.DType.DECIMAL for kind in tree.find_all(exp.DataType)) and not any(
        call.name.upper() == "PARSE_NUMERIC" for call in tree.find_all(exp.Anonymous)
    ):
        return
    for node in innermost_first(tree, exp.Mul, exp.Div, exp.SafeDivide, exp.Avg):
        for operand in [node.this, node.expression] if node.expression else [node.this]:
            if not isinstance(operand, exp.Literal | exp.Distinct):
                operand.replace(fill(_NO_NUMERIC, operand))


def shifts(tree: exp.Expr) -> None:
    """Make ``>>`` fail for numbers below 0, whose sign DuckDB keeps and GoogleSQL does not."""
    for shift in innermost_first(tree, exp.BitwiseRightShift):
        shift.set("this", fill(_NO_SIGN, shift.this))


def quoted_names(tree: exp.Expr) -> None:
    """Quote the names of columns: without quotes, DuckDB takes ``localtime`` and ``current_user`` for functions."""
    for column in tree.find_all(exp.Column):
        if isinstance(column.this, exp.Identifier):
            column.this.set("quoted", True)


def groups(tree: exp.Expr) -> None:
    """Refuse a regular expression with several groups in REGEXP_EXTRACT, of which DuckDB would take the whole match."""
    for call in tree.find_all(exp.RegexpExtract, exp.RegexpExtractAll):
        pattern = call.expression
        text = pattern.this if isinstance(pattern, exp.Literal | exp.RawString) else ""
        if len(_GROUP.findall(re.sub(r"\\.|\[[^]]*\]", "", text))) > 1:
            raise InvalidInput("REGEXP_EXTRACT takes a regular expression with one group; write (?:...) for others.")


def like_escapes(tree: exp.Expr) -> None:
    r"""Add ESCAPE ``\`` to LIKE with a literal pattern. In GoogleSQL ``\`` is always the escape character of LIKE."""
    for like in innermost_first(tree, exp.Like):
        pattern = like.expression
        if isinstance(pattern, exp.Literal | exp.RawString) and "\\" in pattern.this:
            like.replace(exp.Escape(this=like.copy(), expression=exp.Literal.string("\\")))


def divisions(tree: exp.Expr) -> None:
    """Make ``/``, DIV and MOD fail if the divisor is 0, as in GoogleSQL; DuckDB returns infinity, NaN or NULL.

    If another operand is NULL, the result is NULL in both.
    """
    divided = innermost_first(tree, exp.Div, exp.IntDiv, exp.Mod)
    for division, operands in [(each, _operands(each.this)) for each in divided]:  # as they are written
        divisor = division.expression
        if isinstance(divisor, exp.Literal) and not divisor.is_string and float(divisor.this):
            continue
        conditions: list[exp.Expr] = [exp.EQ(this=exp.paren(divisor.copy()), expression=exp.Literal.number(0))]
        conditions += [exp.Not(this=exp.Is(this=exp.paren(each), expression=exp.null())) for each in operands]
        is_div, is_mod = isinstance(division, exp.IntDiv), isinstance(division, exp.Mod)
        instead = "SAFE.DIV" if is_div else "SAFE.MOD" if is_mod else "SAFE_DIVIDE"
        error = exp.Literal.string(f"division by zero; {instead} gives NULL instead")
        checked = exp.case().when(exp.and_(*conditions), exp.Anonymous(this="ERROR", expressions=[error]))
        division.set("expression", exp.paren(checked.else_(divisor.copy())))


def struct_comparisons(tree: exp.Expr) -> None:
    """Compare STRUCTs field by field, as GoogleSQL does: NULL fields give NULL, and the fields' names do not count.

    A STRUCT that is not written as such cannot be compared.
    """
    for node in innermost_first(tree, exp.EQ, exp.NEQ, exp.In, exp.GT, exp.GTE, exp.LT, exp.LTE):
        items = [node.expression] if not isinstance(node, exp.In) else _listed(node)
        found = [_is_struct(it) for it in [node.this, *(items or [])]]
        if any(found) and (items is None or not all(found) or not isinstance(node, exp.EQ | exp.NEQ | exp.In)):
            raise InvalidInput(_NO_STRUCT)
        if all(found) and items:
            whole = exp.paren(exp.or_(*(_equal(node.this, item) for item in items)))
            node.replace(exp.Not(this=whole) if isinstance(node, exp.NEQ) else whole)
    for node in tree.find_all(exp.Nullif, exp.Case):
        compared = [node.this, node.expression, *(it.this for it in node.args.get("ifs") or [] if node.this)]
        if any(isinstance(it, exp.Expr) and _is_struct(it) for it in compared):
            raise InvalidInput(_NO_STRUCT)
    if tree.find(exp.Struct, exp.Tuple) or any(select.args.get("kind") for select in tree.find_all(exp.Select)):
        for node in innermost_first(tree, exp.EQ, exp.NEQ, exp.In):
            if isinstance(node.this.unnest(), exp.Column | exp.Dot | exp.Bracket):
                is_struct = "REGEXP_MATCHES(TYPEOF(_1), '^(STRUCT|TUPLE)')"
                node.set("this", fill(f"CASE WHEN {is_struct} THEN ERROR('{_NO_STRUCT}') ELSE _1 END", node.this))


def _listed(node: exp.In) -> list[exp.Expr] | None:
    """Return the items of an IN; None if they are not listed in the statement."""
    unnest = node.args.get("unnest")
    if unnest is None:
        return node.expressions or None
    return list(unnest.expressions[0].expressions) if isinstance(unnest.expressions[0], exp.Array) else None


def _is_struct(value: exp.Expr) -> bool:
    return isinstance(value.unnest(), exp.Struct | exp.Tuple)


def _equal(left: exp.Expr, right: exp.Expr) -> exp.Expr:
    """Return the condition that two values, or all fields of two STRUCTs, are equal."""
    sides = [it.unnest().expressions for it in (left, right)]
    if not (_is_struct(left) and _is_struct(right)):
        return exp.EQ(this=exp.paren(left.copy()), expression=exp.paren(right.copy()))
    if len(sides[0]) != len(sides[1]):
        raise InvalidInput("STRUCTs with different numbers of fields cannot be compared.")
    pairs = zip(*([field_value(it) for it in side] for side in sides), strict=True)
    return exp.paren(exp.and_(*(_equal(one, other) for one, other in pairs)))


def field_value(field: exp.Expr) -> exp.Expr:
    """Return the value of a field of a STRUCT, or of a column of a SELECT, which may have a name."""
    return field.expression if isinstance(field, exp.PropertyEQ) else field.unalias()


def casts(tree: exp.Expr) -> None:
    """Translate casts to BYTES, INT64, BOOL and DATE, whose results differ in DuckDB."""
    for cast in innermost_first(tree, exp.Cast):
        kind, value = cast.args["to"].this, cast.this
        if isinstance(value, exp.Null) or cast.args["to"].meta.get("duckdb"):
            continue
        safe = isinstance(cast, exp.TryCast)
        if kind in (exp.DType.BINARY, exp.DType.BLOB, exp.DType.VARBINARY):
            cast.replace(fill("ENCODE(_1)" if not isinstance(value, exp.HexString | exp.ByteString) else "_1", value))
        elif kind == exp.DType.BIGINT:
            bad = "NULL" if safe else "ERROR('Bad INT64 value: ' || CAST(_1 AS VARCHAR))"
            form = _AS_INTEGER.format(bad=bad, kind="TRY_CAST" if safe else "CAST")
            cast.replace(known(fill(form, value), "INT64"))
        elif kind == exp.DType.BOOLEAN:
            bad = "NULL" if safe else "ERROR('Bad BOOL value: ' || CAST(_1 AS VARCHAR))"
            cast.replace(fill(_AS_BOOL.format(bad=bad), value))
        elif kind == exp.DType.DATE:
            bad = "NULL" if safe else "ERROR('Bad DATE value: ' || CAST(_1 AS VARCHAR))"
            cast.replace(known(fill(_AS_DATE.format(bad=bad, kind="TRY_CAST" if safe else "CAST"), value), "DATE"))


_FORMATTED = (
    "CASE WHEN TYPEOF(_1) LIKE 'DECIMAL%' THEN ERROR('Over DuckDB, FORMAT takes no NUMERIC; cast it to FLOAT64') "
    "WHEN TYPEOF(_1) IN ('TIMESTAMP', 'DATE', 'TIME', 'JSON') THEN "
    "ERROR('FORMAT takes STRING, INT64 and FLOAT64; use CAST(x AS STRING)') ELSE _1 END"
)
_UNSIGNED = "CASE WHEN _1 < 0 THEN ERROR('Over DuckDB, FORMAT with %x, %X or %o takes numbers from 0') ELSE _1 END"
_NO_SIGN = "CASE WHEN _1 < 0 THEN ERROR('Over DuckDB, >> takes numbers from 0') ELSE _1 END"
_NO_NUMERIC = (
    "CASE WHEN TYPEOF(_1) LIKE 'DECIMAL%' THEN ERROR('Over DuckDB, NUMERICs are not multiplied, divided or averaged; "
    "cast them to FLOAT64') ELSE _1 END"
)
_NO_STRUCT = "Over DuckDB, = and != compare a STRUCT(...) or (a, b) with another; compare the fields, as in x.a = y.a"
#: GoogleSQL rounds halves away from zero, and takes no text with a point.
_AS_INTEGER = (
    "CASE WHEN TYPEOF(_1) = 'DOUBLE' THEN {kind}(ROUND(CAST(_1 AS DOUBLE)) AS BIGINT) WHEN TYPEOF(_1) = 'VARCHAR' AND "
    "NOT REGEXP_FULL_MATCH(TRIM(CAST(_1 AS VARCHAR)), '[+-]?([0-9]+|0[xX][0-9a-fA-F]+)') THEN {bad} "
    "ELSE {kind}(_1 AS BIGINT) END"
)
_AS_BOOL = (
    "CASE LOWER(CAST(_1 AS VARCHAR)) WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE ELSE CASE WHEN TYPEOF(_1) NOT IN "
    "('VARCHAR', 'JSON') THEN TRY_CAST(_1 AS BOOLEAN) WHEN _1 IS NOT NULL THEN {bad} END END"
)
#: GoogleSQL takes no text with a time of day.
_AS_DATE = (
    "CASE WHEN TYPEOF(_1) = 'VARCHAR' AND NOT REGEXP_FULL_MATCH(CAST(_1 AS VARCHAR), '\\s*[0-9]{{1,4}}-[0-9]{{1,2}}-"
    "[0-9]{{1,2}}\\s*') THEN {bad} ELSE {kind}(_1 AS DATE) END"
)


def fill(template: str, *arguments: exp.Expr, large: int = _LARGE) -> exp.Expr:
    """Return a template in DuckDB's SQL with the arguments in place of ``_1``, ``_2`` ...

    The first large argument that the template has several times stands in it once, as the only item of a list.
    Otherwise a call inside a call inside a call would have exponentially many copies.

    Args:
        template: An expression.
        arguments: Expressions.
        large: Number of nodes from which an argument is large. Names, parameters and literals never are.
    """
    for number, argument in enumerate(arguments, 1):
        others = (*arguments[: number - 1], *arguments[number:])
        if (
            template.count(f"_{number}") > 1
            and not isinstance(argument.unnest(), exp.Column | exp.Parameter | exp.Literal)
            and next(islice(argument.walk(), large, None), None) is not None
            and not any(other.find(exp.Query, exp.AggFunc, exp.Window) for other in others)  # a body has none
        ):
            name = f"written_{sum(1 for _ in argument.find_all(exp.Lambda))}"  # equal ones stay equal for GROUP BY
            rest = (*arguments[: number - 1], exp.column(name), *arguments[number:])
            return _bound_once(_filled(template, rest), name, argument)
    return _filled(template, arguments)


def _filled(template: str, arguments: Sequence[exp.Expr]) -> exp.Expr:
    tree = parsed(template).copy()
    for column in list(tree.find_all(exp.Column)):
        if (place := re.fullmatch(r"_(\d)", column.name)) is not None:
            column.replace(exp.paren(arguments[int(place[1]) - 1].copy()))
    return tree


def _bound_once(body: exp.Expr, name: str, argument: exp.Expr) -> exp.Expr:
    """Return an expression in which a name stands for an argument, which is the only item of a list.

    Args:
        body: Has the name any number of times, and no query, aggregate or window.
        name: The name.
        argument: The argument.
    """
    writer = exp.Lambda(this=body, expressions=[exp.to_identifier(name)])
    items = exp.Array(expressions=[argument.copy()])
    texts = exp.Anonymous(this="LIST_TRANSFORM", expressions=[items, writer])
    return exp.Anonymous(this="LIST_EXTRACT", expressions=[texts, exp.Literal.number(1)])


def _operands(value: exp.Expr) -> list[exp.Expr]:
    """Return expressions of which one is NULL if and only if the value, which may be arithmetic, is NULL."""
    value = value.unnest()
    if isinstance(value, exp.Add | exp.Sub | exp.Mul | exp.Div | exp.IntDiv | exp.Mod):
        return [*_operands(value.this), *_operands(value.expression)]
    return [] if isinstance(value, exp.Literal) else [value.copy()]


def _extreme(call: exp.Expr) -> exp.Expr:
    """Return a call of GREATEST or LEAST that is NULL if an argument is NULL. DuckDB's functions ignore NULLs."""
    isnull = exp.or_(*(exp.Is(this=exp.paren(each.copy()), expression=exp.null()) for each in call.expressions))
    return exp.paren(exp.case().when(isnull, exp.null()).else_(call.copy()))


def _concatenated(call: exp.Expr) -> exp.Expr:
    """Translate ARRAY_CONCAT so that it is NULL if an argument is NULL. DuckDB treats NULL as an empty list."""
    isnull = exp.or_(*(exp.Is(this=exp.paren(each.copy()), expression=exp.null()) for each in call.expressions))
    whole = exp.Anonymous(this="LIST_CONCAT", expressions=[each.copy() for each in call.expressions])
    return exp.paren(exp.case().when(isnull, exp.null()).else_(whole))

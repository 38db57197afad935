"""Read texts where GoogleSQL takes them for TIMESTAMPs, with their time zones.

GoogleSQL reads a literal, or a parameter that is text, as a TIMESTAMP if it is compared with one, or is the argument
of a function that takes one. DuckDB does so too, and drops the text's UTC offset.

Source: BigQuery's reference of conversion rules, "Literal coercion" and "Parameter coercion".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sqlglot import exp

from ledger.errors import InvalidInput
from ledger.warehouse.duckdb import zones
from ledger.warehouse.duckdb.functions import innermost_first
from ledger.warehouse.duckdb.kinds import Kinds, known
from ledger.warehouse.duckdb.templates import TEMPLATES
from ledger.warehouse.duckdb.translations import field_value, fill
from ledger.warehouse.schema import schema

_TEXT = re.compile(
    r"\s*(\d{1,4}-\d{1,2}-\d{1,2}[ Tt]\d{1,2}:\d{1,2}:\d{1,2}(?:\.\d*)?)(?:([Zz])|([+-][\d:]+)| (\S+))\s*"
)
_UTC = re.compile(r"[Zz]|UTC|[+-]0?0(:00)?")
_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Nullif)
#: Functions that take TIMESTAMPs, and the names of those arguments.
_TAKERS: dict[type[exp.Expr], tuple[str, ...]] = {
    **dict.fromkeys((exp.TimestampAdd, exp.TimestampSub, exp.TimestampTrunc, exp.TsOrDsToTimestamp), ("this",)),
    **dict.fromkeys((exp.UnixMicros, exp.AtTimeZone, exp.Date), ("this",)),
    exp.TimestampDiff: ("this", "expression"),
    exp.GenerateTimestampArray: ("start", "end"),
}
_TAKING_CALLS = frozenset({"UNIX_SECONDS", "UNIX_MILLIS"})
#: Functions that take DATEs, DATETIMEs or TIMEs, of which a text has no time zone.
_CIVIL: tuple[type[exp.Expr], ...] = (
    exp.Datetime,
    exp.DatetimeAdd,
    exp.DatetimeSub,
    exp.DatetimeDiff,
    exp.DatetimeTrunc,
    exp.TsOrDsToDatetime,
)
_CIVIL += (exp.TsOrDsToDate, exp.DateAdd, exp.DateSub, exp.DateDiff, exp.DateTrunc, exp.LastDay, exp.UnixDate)
_CIVIL += (exp.Time, exp.TsOrDsToTime)
_NO_TIME = (
    "CASE WHEN TYPEOF(_1) IN ('TIMESTAMP', 'DATE', 'TIME') THEN ERROR('A text with a time zone is compared with a date "
    "or time; write TIMESTAMP(text)') ELSE _1 END"
)
_NO_STRING = (
    "CASE WHEN TYPEOF(_1) = 'VARCHAR' THEN ERROR('A TIMESTAMP is compared with a STRING; write TIMESTAMP(text)') "
    "ELSE _1 END"
)
_BAD = "ERROR('Bad DATETIME value: ' || CAST(_1 AS VARCHAR) || '; a DATETIME has no time zone')"


def has_zone(value: Any) -> bool:
    """Return True if a parameter is a text, or a list of texts, with a time zone other than UTC."""
    if isinstance(value, list):
        return any(has_zone(item) for item in value)
    return isinstance(value, str) and (match := _TEXT.fullmatch(value)) is not None and _zone(match) != ""


def mark(tree: exp.Expr, zoned: frozenset[str]) -> None:
    """Mark the parameters whose texts have time zones."""
    for parameter in tree.find_all(exp.Parameter):
        parameter.meta["zoned"] = parameter.name in zoned


def texts(tree: exp.Expr) -> None:
    """Cast texts to TIMESTAMP where GoogleSQL does.

    What is compared with a text with a time zone, and is not known to be a TIMESTAMP, fails if it is a date or time.
    """
    for call in tree.find_all(*_TAKERS):
        for name in _TAKERS[type(call)]:
            _take(call, call.args.get(name))
    for call in tree.find_all(exp.Anonymous):
        if call.name.upper() in _TAKING_CALLS:
            _take(call, *call.expressions)
        elif call.name.upper() == "TIMESTAMP" and len(call.expressions) == 1 and _is_literal(call.expressions[0]):
            call.replace(_instant(call.expressions[0]))
    for call in tree.find_all(exp.String):
        if call.args.get("zone") is not None:
            _take(call, call.this)
    for call in tree.find_all(*_CIVIL):
        _refuse([it for it in (call.this, call.expression) if isinstance(it, exp.Expr) and _is_zoned(it)])
    _table_arguments(tree)
    kinds = Kinds(tree)
    for group, of_columns in [*_groups(tree)]:
        found = [it for it in group if _is_zoned(it) or (of_columns and _is_text(it))]
        others = [it for it in group if not _is_text(it) and not isinstance(it, exp.Null)]
        if not found or not others:
            continue
        if any(kinds.is_datetime(it) for it in others):
            _refuse([it for it in found if _is_zoned(it)])
        elif any(kinds.is_instant(it) for it in others):
            for text in found:
                text.replace(_instant(text))
        elif not of_columns:
            others[0].replace(fill(_NO_TIME, others[0]))


def equal_texts(tree: exp.Expr) -> None:
    """Make ``=`` and ``!=`` of a TIMESTAMP and a STRING that is no literal fail, as in GoogleSQL.

    DuckDB would read the text without its time zone. Of other comparisons it fails itself.
    """
    kinds = Kinds(tree)
    for node in innermost_first(tree, exp.EQ, exp.NEQ, exp.NullSafeEQ, exp.NullSafeNEQ):
        for side, other in ((node.this, node.expression), (node.expression, node.this)):
            if kinds.is_instant(side) and not (kinds.is_instant(other) or kinds.is_datetime(other) or _is_text(other)):
                other.replace(fill(_NO_STRING, other))


def casts(tree: exp.Expr) -> None:
    """Translate casts to TIMESTAMP, and make casts of texts with a time zone to DATETIME fail.

    A time of day that occurs twice in the text's time zone is the first of them.
    """
    kinds = Kinds(tree)
    for cast in innermost_first(tree, exp.Cast):
        value = cast.this
        if kinds.is_datetime(cast) and not isinstance(value, exp.Null) and (not _is_literal(value) or _is_zoned(value)):
            bad, kind = ("NULL", "TRY_CAST") if isinstance(cast, exp.TryCast) else (_BAD, "CAST")
            template = f"CASE WHEN {zones.HAS_ZONE} THEN {bad} ELSE {kind}(_1 AS TIMESTAMP) END"
            cast.replace(known(fill(template, value), "DATETIME"))
        if (
            cast.args["to"].this != exp.DType.TIMESTAMPTZ
            or cast.args["to"].meta.get("duckdb")
            or isinstance(value, exp.Null)
        ):
            continue
        match = _TEXT.fullmatch(value.name) if isinstance(value, exp.Literal) else None
        if match is not None and (match[3] or (match[4] and match[4][0].isalpha())):
            civil = fill("CAST(_1 AS TIMESTAMP)", exp.Literal.string(match[1].upper()))
            whole = zones.instant(civil, exp.Literal.string(match[3] or match[4]))
        else:
            whole = fill(
                TEMPLATES["TIMESTAMP/1"], exp.Literal.string(value.name.upper()) if match is not None else value
            )
        whole = exp.Anonymous(this="TRY", expressions=[whole]) if isinstance(cast, exp.TryCast) else whole
        cast.replace(known(whole, "TIMESTAMP"))


def _take(call: exp.Expr, *arguments: exp.Expr | None) -> None:
    for argument in arguments:
        is_date = isinstance(call, exp.Date) and call.args.get("zone") is None
        if argument is not None and (_is_zoned(argument) or (_is_text(argument) and not is_date)):
            argument.replace(_instant(argument))


def _table_arguments(tree: exp.Expr) -> None:
    """Cast the texts and NULLs among the arguments of the ledger's table functions that are TIMESTAMPs.

    A NULL has the type of the parameter in GoogleSQL; DuckDB subtracts no interval from one without a type.
    """
    parameters = {item.name: item.parameters for item in schema() if item.kind == "function"}
    for table in tree.find_all(exp.Table):
        called = table.this
        if isinstance(called, exp.Anonymous):
            for parameter, argument in zip(parameters.get(called.name.lower(), ()), called.expressions, strict=False):
                if parameter.type == "TIMESTAMP":
                    _take(called, argument)
                    if isinstance(argument, exp.Null):
                        argument.replace(_instant(argument))


def _groups(tree: exp.Expr) -> Iterator[tuple[list[exp.Expr], bool]]:
    """Yield the expressions that GoogleSQL brings to one type, and whether they are columns of queries."""
    for node in tree.walk():
        if isinstance(node, _COMPARISONS):
            yield from ((pair, False) for pair in _pairs(node.this, node.expression))
        elif isinstance(node, exp.Between):
            yield [node.this, node.args["low"], node.args["high"]], False
        elif isinstance(node, exp.In):
            unnest = node.args.get("unnest")
            items = node.expressions if unnest is None else unnest.expressions
            for item in [inner for it in items for inner in (it.expressions if isinstance(it, exp.Array) else [it])]:
                yield from ((pair, False) for pair in _pairs(node.this, item))
        elif isinstance(node, exp.Case):
            results = [*(it.args["true"] for it in node.args["ifs"]), node.args.get("default")]
            yield [it for it in results if it is not None], False
            if node.this is not None:
                yield [node.this, *(it.this for it in node.args["ifs"])], False
        elif isinstance(node, exp.If) and not isinstance(node.parent, exp.Case):
            yield [it for it in (node.args.get("true"), node.args.get("false")) if it is not None], False
        elif isinstance(node, exp.Coalesce):
            yield [node.this, *node.expressions], False
        elif isinstance(node, exp.Array):
            yield node.expressions, False
        elif isinstance(node, exp.Lag | exp.Lead) and node.args.get("default") is not None:
            yield [node.this, node.args["default"]], False
        elif isinstance(node, exp.Anonymous) and node.name.upper() in ("GREATEST", "LEAST", "ARRAY_INCLUDES"):
            items = [it.expressions if isinstance(it, exp.Array) else [it] for it in node.expressions]
            yield [inner for each in items for inner in each], False
        elif isinstance(node, exp.SetOperation) and not isinstance(node.parent, exp.SetOperation):
            yield from ((column, True) for column in zip(*_columns(node), strict=False))  # type: ignore[misc]


def _pairs(left: exp.Expr, right: exp.Expr) -> Iterator[list[exp.Expr]]:
    """Yield the two sides of a comparison, or those of each field of two STRUCTs."""
    sides = [it.unnest() for it in (left, right)]
    if all(isinstance(it, exp.Tuple | exp.Struct) for it in sides):
        for one, other in zip(sides[0].expressions, sides[1].expressions, strict=False):
            yield from _pairs(field_value(one), field_value(other))
    else:
        yield [left, right]


def _columns(query: exp.Expr) -> list[list[exp.Expr]]:
    """Return the columns of the queries of a set operation, as far as they do not begin with ``*``."""
    query = query.unnest()
    if isinstance(query, exp.SetOperation):
        return [*_columns(query.this), *_columns(query.expression)]
    if not isinstance(query, exp.Select) or any(it.is_star for it in query.selects):
        return []
    return [[field_value(it) for it in query.selects]]


def _is_text(value: exp.Expr) -> bool:
    return isinstance(value.unnest(), exp.Parameter) or _is_literal(value)


def _is_literal(value: exp.Expr) -> bool:
    value = value.unnest()
    return isinstance(value, exp.RawString) or (isinstance(value, exp.Literal) and value.is_string)


def _is_zoned(value: exp.Expr) -> bool:
    """Return True if an expression is a literal, or a parameter, with the text of a time in another zone than UTC."""
    value = value.unnest()
    if isinstance(value, exp.Parameter):
        return bool(value.meta.get("zoned"))
    return _is_text(value) and (match := _TEXT.fullmatch(value.name)) is not None and _zone(match) != ""


def _zone(match: re.Match[str]) -> str:
    """Return the time zone of a text; '' if it is UTC."""
    zone = match[2] or match[3] or match[4]
    return "" if _UTC.fullmatch(zone) else str(zone)


def _instant(text: exp.Expr) -> exp.Expr:
    if isinstance(text.parent, exp.Unnest):  # a parameter with a list
        return fill(f"LIST_TRANSFORM(_1, lambda t: {TEMPLATES['TIMESTAMP/1'].replace('_1', 't')})", text)
    plain = text.unnest()
    value = exp.Literal.string(plain.name) if isinstance(plain, exp.RawString) else plain.copy()
    return exp.Cast(this=value, to=exp.DataType(this=exp.DType.TIMESTAMPTZ))


def _refuse(found: list[exp.Expr]) -> None:
    for text in found:
        raise InvalidInput(
            f"{text.sql(dialect='bigquery')} has a time zone, and stands where a DATE, DATETIME or TIME is needed; "
            "write the text without a time zone, or convert it by DATETIME(TIMESTAMP(text)) or DATE(TIMESTAMP(text))."
        )

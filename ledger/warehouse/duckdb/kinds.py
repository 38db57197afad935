"""Which expressions of a statement are TIMESTAMPs, and which are DATETIMEs, as far as a syntax tree tells.

DuckDB has one type for both, and a syntax tree has no types. What these functions do not know is asked of DuckDB by
TYPEOF, when the statement runs.
"""

from __future__ import annotations

from sqlglot import exp

_INSTANTS: tuple[type[exp.Expr], ...] = (exp.CurrentTimestamp, exp.TimestampAdd, exp.TimestampSub, exp.TimestampTrunc)
_INSTANTS += (exp.StrToTime, exp.UnixToTime)
_DATETIMES: tuple[type[exp.Expr], ...] = (
    exp.Datetime,
    exp.DatetimeAdd,
    exp.DatetimeSub,
    exp.DatetimeTrunc,
    exp.ParseDatetime,
)
_DATETIMES += (exp.TsOrDsToDatetime,)
_SOURCES = (exp.Table, exp.Subquery, exp.CTE, exp.Unnest)
_INSTANT_CALLS = frozenset({"TIMESTAMP", "TIMESTAMP_SECONDS"})
#: Functions whose result is a DATETIME for a DATETIME, and a TIMESTAMP for a TIMESTAMP, whatever their names say.
_OF_EITHER: tuple[type[exp.Expr], ...] = (exp.DatetimeAdd, exp.DatetimeSub, exp.DatetimeTrunc)
_OF_EITHER += (exp.TimestampAdd, exp.TimestampSub, exp.TimestampTrunc)
#: Functions whose result has the type of their first argument.
_SAME_TYPE: tuple[type[exp.Expr], ...] = (
    exp.Max,
    exp.Min,
    exp.AnyValue,
    exp.Lag,
    exp.Lead,
    exp.FirstValue,
    exp.LastValue,
    exp.NthValue,
)
_SAME_TYPE += (exp.ArgMax, exp.ArgMin, exp.Nullif, exp.Coalesce, exp.Window, exp.IgnoreNulls, exp.RespectNulls)
_SAME_TYPE += (exp.Distinct, exp.HavingMax, exp.DateTrunc)


def is_instant(value: exp.Expr, seen: frozenset[str] = frozenset()) -> bool:
    """Return True if an expression is known to be a TIMESTAMP, for example a column such as created_at or a cast.

    A cast to DATETIME is one, too, because DuckDB has one type for both: see ``is_datetime``.

    Args:
        value: The expression, within its statement.
        seen: Names that stand for the expression.
    """
    value = _scalar(value)
    if "kind" in value.meta:
        return value.meta["kind"] in ("TIMESTAMP", "DATETIME")
    if isinstance(value, exp.Column):
        return _is_instant_column(value, seen)
    if isinstance(value, exp.Cast):
        return bool(value.to.this in (exp.DType.TIMESTAMP, exp.DType.TIMESTAMPTZ, exp.DType.TIMESTAMPNTZ))
    if isinstance(value, exp.Anonymous):
        extreme = value.name.upper() in ("GREATEST", "LEAST") and bool(value.expressions)
        return value.name.upper() in _INSTANT_CALLS or (extreme and is_instant(value.expressions[0], seen))
    if isinstance(value, exp.Add | exp.Sub):
        is_interval = isinstance(value.expression.unnest(), exp.Interval)
        return is_interval and is_instant(value.this, seen) and not is_datetime(value.this)
    if isinstance(value, exp.If):
        return is_instant(value.args["true"], seen)
    if isinstance(value, exp.Case):
        return is_instant(value.args["ifs"][0].args["true"], seen)
    if isinstance(value, exp.SafeFunc):
        return is_instant(value.this, seen)
    if isinstance(value, _SAME_TYPE):
        first = value.expressions[0] if isinstance(value, exp.Distinct) else value.this
        return isinstance(first, exp.Expr) and is_instant(first, seen)
    return isinstance(value, _INSTANTS)


def _scalar(value: exp.Expr) -> exp.Expr:
    """Return an expression without parentheses; of a scalar subquery, its column."""
    value = value.unnest()
    while isinstance(value, exp.Select) and len(value.selects) == 1 and not value.args.get("kind"):
        value = value.selects[0].unalias().unnest()
    return value


def _is_instant_column(column: exp.Column, seen: frozenset[str]) -> bool:
    """Return True if a name is that of a column such as created_at, or of an alias that stands for timestamps only."""
    name = column.name.lower()
    if not _is_plain(column):
        return False
    if name not in seen and (values := _values(column)):
        return all(is_instant(it, seen | {name}) and not is_datetime(it) for it in values)
    return name.endswith("_at")


def _is_plain(column: exp.Column) -> bool:
    """Return True if a column's qualifier, if it has one, is no column of which it would be a field."""
    sources = (it.alias_or_name.lower() for it in column.root().find_all(*_SOURCES))
    return len(column.parts) == 1 or (len(column.parts) == 2 and column.parts[0].name.lower() in sources)


def _values(column: exp.Column) -> list[exp.Expr]:
    """Return what the column's name is an alias of, anywhere in the statement."""
    return [it.this for it in column.root().find_all(exp.Alias) if it.alias.lower() == column.name.lower()]


def is_datetime(value: exp.Expr, seen: frozenset[str] = frozenset()) -> bool:
    """Return True if an expression is known to be a DATETIME."""
    value = _scalar(value)
    if "kind" in value.meta:
        return bool(value.meta["kind"] == "DATETIME")
    if isinstance(value, exp.Column) and _is_plain(value):
        name, values = value.name.lower(), _values(value)
        return name not in seen and bool(values) and all(is_datetime(it, seen | {name}) for it in values)
    if isinstance(value, exp.Cast):
        return bool(value.to.this == exp.DType.TIMESTAMP and not value.to.meta.get("duckdb"))
    if isinstance(value, exp.Anonymous):
        return value.name.upper() == "CURRENT_DATETIME"
    if isinstance(value, exp.Add | exp.Sub) and isinstance(value.expression.unnest(), exp.Interval):
        return is_datetime(value.this, seen) or is_date(value.this, seen)
    if isinstance(value, _OF_EITHER):
        return is_datetime(value.this, seen) or (isinstance(value, _DATETIMES) and not is_instant(value.this))
    if isinstance(value, _SAME_TYPE):
        return isinstance(value.this, exp.Expr) and is_datetime(value.this, seen)
    return isinstance(value, _DATETIMES)


def is_date(value: exp.Expr, seen: frozenset[str] = frozenset()) -> bool:
    """Return True if an expression is known to be a DATE."""
    value = _scalar(value)
    if "kind" in value.meta:
        return bool(value.meta["kind"] == "DATE")
    if isinstance(value, exp.Cast):
        return bool(value.to.this == exp.DType.DATE)
    if isinstance(value, exp.Extract):
        return value.name.upper() == "DATE"
    if isinstance(value, exp.Column) and _is_plain(value):
        name, values = value.name.lower(), _values(value)
        return name not in seen and bool(values) and all(is_date(it, seen | {name}) for it in values)
    return isinstance(value, exp.Date | exp.CurrentDate | exp.StrToDate | exp.LastDay)


def known(translated: exp.Expr, kind: str) -> exp.Expr:
    """Mark a translated expression as a TIMESTAMP, a DATETIME or a DATE, and return it."""
    translated.unnest().meta["kind"] = kind
    return translated

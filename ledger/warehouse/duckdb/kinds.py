"""Which expressions of a statement are TIMESTAMPs, and which are DATETIMEs, as far as a syntax tree tells.

DuckDB has one type for both, and a syntax tree has no types. What these functions do not know is asked of DuckDB by
TYPEOF, when the statement runs.
"""

from __future__ import annotations

from functools import cached_property

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


class Kinds:
    """The kinds of a statement's expressions. The names in it are looked up once; a step has a ``Kinds`` of its own.

    Args:
        tree: The statement. While a ``Kinds`` is in use, expressions may be replaced by others of the same kinds.
        apart: Names of which nothing is known, though aliases have them, because columns have them, too.
    """

    def __init__(self, tree: exp.Expr, apart: frozenset[str] = frozenset()) -> None:
        self._tree = tree
        self._apart = apart

    def is_instant(self, value: exp.Expr, seen: frozenset[str] = frozenset()) -> bool:
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
            return self._is_instant_column(value, seen)
        if isinstance(value, exp.Cast):
            return bool(value.to.this in (exp.DType.TIMESTAMP, exp.DType.TIMESTAMPTZ, exp.DType.TIMESTAMPNTZ))
        if isinstance(value, exp.Anonymous):
            extreme = value.name.upper() in ("GREATEST", "LEAST") and bool(value.expressions)
            return value.name.upper() in _INSTANT_CALLS or (extreme and self.is_instant(value.expressions[0], seen))
        if isinstance(value, exp.Add | exp.Sub):
            is_interval = isinstance(value.expression.unnest(), exp.Interval)
            return is_interval and self.is_instant(value.this, seen) and not self.is_datetime(value.this, seen)
        if isinstance(value, exp.If):
            return self.is_instant(value.args["true"], seen)
        if isinstance(value, exp.Case):
            return self.is_instant(value.args["ifs"][0].args["true"], seen)
        if isinstance(value, exp.SafeFunc):
            return self.is_instant(value.this, seen)
        if isinstance(value, _SAME_TYPE):
            first = value.expressions[0] if isinstance(value, exp.Distinct) else value.this
            return isinstance(first, exp.Expr) and self.is_instant(first, seen)
        return isinstance(value, _INSTANTS)

    def is_datetime(self, value: exp.Expr, seen: frozenset[str] = frozenset()) -> bool:
        """Return True if an expression is known to be a DATETIME."""
        value = _scalar(value)
        if "kind" in value.meta:
            return bool(value.meta["kind"] == "DATETIME")
        if isinstance(value, exp.Column) and self._is_plain(value):
            name, values = value.name.lower(), self._values(value)
            return name not in seen and bool(values) and all(self.is_datetime(it, seen | {name}) for it in values)
        if isinstance(value, exp.Cast):
            return bool(value.to.this == exp.DType.TIMESTAMP and not value.to.meta.get("duckdb"))
        if isinstance(value, exp.Anonymous):
            extreme = value.name.upper() in ("GREATEST", "LEAST") and bool(value.expressions)
            return value.name.upper() == "CURRENT_DATETIME" or (
                extreme and self.is_datetime(value.expressions[0], seen)
            )
        if isinstance(value, exp.Extract):
            return value.name.upper() == "DATETIME"
        if isinstance(value, exp.If | exp.Case):
            results = [it.args["true"] for it in value.args.get("ifs", [value])]
            results += [it for it in (value.args.get("false"), value.args.get("default")) if it is not None]
            return any(self.is_datetime(it, seen) for it in results)
        if isinstance(value, exp.SafeFunc):
            return self.is_datetime(value.this, seen)
        if isinstance(value, exp.Add | exp.Sub) and isinstance(value.expression.unnest(), exp.Interval):
            return self.is_datetime(value.this, seen) or self.is_date(value.this, seen)
        if isinstance(value, _OF_EITHER):
            is_civil = isinstance(value, _DATETIMES)
            return self.is_datetime(value.this, seen) or (is_civil and not self.is_instant(value.this, seen))
        if isinstance(value, _SAME_TYPE):
            return isinstance(value.this, exp.Expr) and self.is_datetime(value.this, seen)
        return isinstance(value, _DATETIMES)

    def is_date(self, value: exp.Expr, seen: frozenset[str] = frozenset()) -> bool:
        """Return True if an expression is known to be a DATE."""
        value = _scalar(value)
        if "kind" in value.meta:
            return bool(value.meta["kind"] == "DATE")
        if isinstance(value, exp.Cast):
            return bool(value.to.this == exp.DType.DATE)
        if isinstance(value, exp.Extract):
            return value.name.upper() == "DATE"
        if isinstance(value, exp.Column) and self._is_plain(value):
            name, values = value.name.lower(), self._values(value)
            return name not in seen and bool(values) and all(self.is_date(it, seen | {name}) for it in values)
        if isinstance(value, exp.DateAdd | exp.DateSub | exp.DateTrunc):
            return self.is_date(value.this, seen)
        return isinstance(value, exp.Date | exp.CurrentDate | exp.StrToDate | exp.LastDay)

    def _is_instant_column(self, column: exp.Column, seen: frozenset[str]) -> bool:
        """Return True if a name is that of a column such as created_at, or of an alias that stands for timestamps only.

        A name in ``seen`` is one of those that the caller follows, and must not be followed again.
        """
        name = column.name.lower()
        if not self._is_plain(column):
            return False
        if name not in seen and (values := self._values(column)):
            inside = seen | {name}
            return all(self.is_instant(it, inside) and not self.is_datetime(it, inside) for it in values)
        return name.endswith("_at")

    def _is_plain(self, column: exp.Column) -> bool:
        """Return True if a column's qualifier, if it has one, is no column of which it would be a field."""
        parts = column.parts
        return len(parts) == 1 or (len(parts) == 2 and parts[0].name.lower() in self._names[1])

    def _values(self, column: exp.Column) -> list[exp.Expr]:
        """Return what the column's name is an alias of, anywhere in the statement."""
        name = column.name.lower()
        return [] if name in self._apart else [it.this for it in self._names[0].get(name, ())]

    @cached_property
    def _names(self) -> tuple[dict[str, list[exp.Alias]], set[str]]:
        """The aliases of the statement by their names, and the names of what it reads from."""
        aliases: dict[str, list[exp.Alias]] = {}
        sources = set()
        for node in self._tree.find_all(exp.Alias, *_SOURCES):
            if isinstance(node, exp.Alias):
                aliases.setdefault(node.alias.lower(), []).append(node)
            else:
                sources.add(node.alias_or_name.lower())
        return aliases, sources


def _scalar(value: exp.Expr) -> exp.Expr:
    """Return an expression without parentheses; of a scalar subquery, its column."""
    value = value.unnest()
    while isinstance(value, exp.Select) and len(value.selects) == 1 and not value.args.get("kind"):
        value = value.selects[0].unalias().unnest()
    return value


def known(value: exp.Expr, kind: str) -> exp.Expr:
    """Mark an expression with its type, such as TIMESTAMP, and return it."""
    value.unnest().meta["kind"] = kind
    return value

"""What the constant conditions of a statement say of a day and of ids, given the statement's parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlglot import exp

#: A value that is not known before the statement runs.
UNKNOWN = object()


def values_of(parameters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The named parameters of a request, as Python's values."""
    return {
        it["name"]: _value(it["parameterType"], it.get("parameterValue") or {}) for it in parameters if "name" in it
    }


def _value(kind: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    if kind["type"] == "ARRAY":
        return [_value(kind["arrayType"], item) for item in given.get("arrayValues") or ()]
    if kind["type"] == "STRUCT":
        found = given.get("structValues") or {}
        return {it["name"]: _value(it["type"], found.get(it["name"]) or {}) for it in kind["structTypes"]}
    text = given.get("value")
    if text is None:
        return None
    if kind["type"] in ("INT64", "INTEGER"):
        return int(text)
    if kind["type"] in ("BOOL", "BOOLEAN"):
        return str(text).lower() == "true"
    return instant_of(text) if kind["type"] == "TIMESTAMP" else text


def instant_of(value: Any) -> Any:
    """A time of a text or a number of microseconds; UNKNOWN if it is none."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, int):
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)
    try:
        found = datetime.fromisoformat(str(value).strip().replace(" UTC", "+00:00"))
    except ValueError:
        return UNKNOWN
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def day_of(value: Any) -> date | None:
    """The day of a time, in UTC; None if it is no time."""
    found = instant_of(value) if value is not None else UNKNOWN
    return found.astimezone(UTC).date() if isinstance(found, datetime) else None


def is_possible(condition: exp.Expr, day: date, values: Mapping[str, Any]) -> bool:
    """False if a condition on a column of times excludes every time of a day."""
    first = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return _is_possible(condition, first, first + timedelta(days=1), values)


def _is_possible(tree: exp.Expr, first: datetime, after: datetime, values: Mapping[str, Any]) -> bool:
    def possible(part: exp.Expr) -> bool:
        return _is_possible(part, first, after, values)

    def times(*parts: exp.Expr) -> list[Any]:
        return [instant_of(_constant(part, values)) for part in parts]

    if isinstance(tree, exp.Paren):
        return possible(tree.this)
    if isinstance(tree, exp.And):
        return possible(tree.left) and possible(tree.right)
    if isinstance(tree, exp.Or):
        return possible(tree.left) or possible(tree.right)
    if isinstance(tree, exp.Between) and isinstance(tree.this, exp.Column):
        low, high = times(tree.args["low"], tree.args["high"])
        return UNKNOWN in (low, high) or (low < after and high >= first)
    if isinstance(tree, exp.In) and isinstance(tree.this, exp.Column):
        items = _items(tree, values)
        found = [instant_of(item) for item in items] if items is not None else [UNKNOWN]
        return UNKNOWN in found or any(first <= time < after for time in found)
    if isinstance(tree, exp.EQ | exp.GT | exp.GTE | exp.LT | exp.LTE):
        turned = {exp.GT: exp.LT, exp.GTE: exp.LTE, exp.LT: exp.GT, exp.LTE: exp.GTE, exp.EQ: exp.EQ}
        kind, column, other = type(tree), tree.left, tree.right
        if isinstance(other, exp.Column):
            kind, column, other = turned[kind], other, column
        (time,) = times(other)
        if time is UNKNOWN or not isinstance(column, exp.Column):
            return True
        return {
            exp.EQ: first <= time < after,
            exp.GT: time < after - timedelta(microseconds=1),
            exp.GTE: time < after,
            exp.LT: time > first,
            exp.LTE: time >= first,
        }[kind]
    return True


def count_ids(tree: exp.Expr, values: Mapping[str, Any]) -> int | None:
    """How many values of a column a condition allows at most; None if it does not say."""
    if isinstance(tree, exp.Paren):
        return count_ids(tree.this, values)
    if isinstance(tree, exp.And | exp.Or):
        counts = [count_ids(part, values) for part in (tree.left, tree.right)]
        known = [count for count in counts if count is not None]
        if isinstance(tree, exp.And):
            return min(known, default=None)
        return sum(known) if len(known) == 2 else None
    if isinstance(tree, exp.In) and isinstance(tree.this, exp.Column):
        items = _items(tree, values)
        return None if items is None else len(set(items))
    if isinstance(tree, exp.EQ):
        sides = (tree.left, tree.right)
        constants = [_constant(side, values) for side in sides]
        if UNKNOWN not in constants:
            return None if constants[0] == constants[1] else 0
        if any(isinstance(side, exp.Column) for side in sides) and any(it is not UNKNOWN for it in constants):
            return 1
    return None


def _items(tree: exp.In, values: Mapping[str, Any]) -> list[Any] | None:
    """The constants of an IN; None if they are not known."""
    unnest = tree.args.get("unnest")
    if isinstance(unnest, exp.Unnest):
        found = _constant(unnest.expressions[0], values)
        return found if isinstance(found, list) else None
    items = [_constant(item, values) for item in tree.expressions]
    return items if items and UNKNOWN not in items else None


def _constant(tree: exp.Expr, values: Mapping[str, Any]) -> Any:
    if isinstance(tree, exp.Parameter):
        return values.get(tree.name, UNKNOWN)
    if isinstance(tree, exp.Literal):
        return tree.to_py()
    if isinstance(tree, exp.TimestampSub) and tree.text("unit").upper() == "DAY":
        time, days = instant_of(_constant(tree.this, values)), _constant(tree.expression, values)
        return time - timedelta(days=days) if isinstance(time, datetime) and isinstance(days, int) else UNKNOWN
    if isinstance(tree, exp.Cast | exp.Paren | exp.Timestamp | exp.StrToTime):
        return _constant(tree.this, values)
    return UNKNOWN

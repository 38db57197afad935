"""Translate GoogleSQL's time zones: the names that follow AT TIME ZONE and those that functions of times take.

DuckDB knows zones by name only, so offsets such as ``+05:30`` are added to the time. It has more names than
GoogleSQL; see ``zone_names``. The ledger's TIMESTAMPs have no zone in DuckDB and are in UTC.

Source: BigQuery's reference of timestamp functions, "How time zones work with timestamp functions".
"""

from __future__ import annotations

import re

from sqlglot import exp

from ledger.errors import InvalidInput
from ledger.warehouse.duckdb.functions import innermost_first
from ledger.warehouse.duckdb.kinds import Kinds, known
from ledger.warehouse.duckdb.rules import CLOCK_PARTS
from ledger.warehouse.duckdb.templates import TEMPLATES
from ledger.warehouse.duckdb.translations import fill
from ledger.warehouse.duckdb.zone_names import NAME, checked

_OFFSET = re.compile(r"(?:UTC)?([+-])(\d{1,2})(?::(\d\d))?")


def local(value: exp.Expr, zone: exp.Expr) -> exp.Expr:
    """Return the civil time of a TIMESTAMP in a time zone."""
    if (minutes := _minutes(zone)) is not None:
        return fill("CAST(_1 AS TIMESTAMP)" if minutes == 0 else f"_1 + TO_MINUTES({minutes})", value)
    return fill("TIMEZONE(_2, TIMEZONE('UTC', _1))", _if_named(value, zone), zone)


def instant(civil: exp.Expr, zone: exp.Expr) -> exp.Expr:
    """Return the TIMESTAMP at which clocks in a time zone show a civil time: the first, if they do so twice.

    DuckDB would give the second. If the zone's offset of the day before gives a time at which the clocks show the civil
    time, then that time is the first.
    """
    if (minutes := _minutes(zone)) is not None:
        template = "CAST(_1 AS TIMESTAMP)" if minutes == 0 else f"_1 - TO_MINUTES({minutes})"
        return known(fill(template, civil), "TIMESTAMP")
    second = "TIMEZONE('UTC', TIMEZONE(_2, _1))"
    before = f"({second} - TO_HOURS(24))"
    first = f"(_1 - (TIMEZONE(_2, TIMEZONE('UTC', {before})) - {before}))"
    template = f"CASE WHEN TIMEZONE(_2, TIMEZONE('UTC', {first})) = _1 THEN {first} ELSE {second} END"
    return known(fill(template, _if_named(civil, zone), zone, large=3), "TIMESTAMP")


def _if_named(value: exp.Expr, zone: exp.Expr) -> exp.Expr:
    """Return a value to which a time zone is applied; it fails if GoogleSQL has no zone of that name."""
    bare = zone.unnest()
    if isinstance(bare, exp.Literal) and re.fullmatch(NAME, bare.name):
        return value
    return fill(checked("_2", "_1"), value, zone)


def zoned_calls(tree: exp.Expr) -> None:
    """Translate AT TIME ZONE, and the functions that take a time zone, except those that format or parse a time."""
    kinds = Kinds(tree)
    for node in innermost_first(tree, exp.AtTimeZone, exp.CurrentDate, exp.Anonymous, *_TRUNCS, *_CIVIL):
        zone = node.expression if isinstance(node, exp.Datetime) else node.args.get("zone")
        if isinstance(node, exp.AtTimeZone):
            node.replace(local(_checked(node.this, kinds), node.args["zone"]))
        elif isinstance(node, exp.Anonymous):
            _anonymous(node, kinds)
        elif isinstance(node, exp.CurrentDate):
            if node.this is not None:
                node.replace(fill("CAST(_1 AS DATE)", local(fill(_NOW), node.this)))
        elif zone and isinstance(node, _TRUNCS):
            node.replace(_truncated(node, zone, kinds))
        elif zone and not (isinstance(node, exp.Datetime) and not isinstance(zone, exp.Literal | exp.Parameter)):
            civil = local(_checked(node.this, kinds), zone)
            kind = next((each for each in _CIVIL if type(node) is each), exp.Datetime)
            node.replace(known(civil, "DATETIME") if kind is exp.Datetime else fill(_CIVIL[kind], civil))


def zoned_text(tree: exp.Expr) -> None:
    """Translate ``STRING(timestamp, zone)``, whose result ends with the zone's UTC offset."""
    for call in innermost_first(tree, exp.String):
        if (zone := call.args.get("zone")) is not None:
            call.replace(fill(_ZONED, call.this, local(call.this, zone)))


def _anonymous(call: exp.Anonymous, kinds: Kinds) -> None:
    name, arguments = call.name.upper(), call.expressions
    if name == "TIMESTAMP" and len(arguments) == 2:
        value, zone = arguments
        if kinds.is_instant(value) and not kinds.is_datetime(value):
            raise InvalidInput("TIMESTAMP with a time zone takes a DATE, a DATETIME or text; remove the time zone.")
        call.replace(instant(fill(_UNZONED, value), zone))
    elif name in _NOW_IN and len(arguments) == 1:
        now = local(fill(_NOW), arguments[0])
        call.replace(known(now, "DATETIME") if name == "CURRENT_DATETIME" else fill("CAST(_1 AS TIME)", now))


def _truncated(call: exp.Expr, zone: exp.Expr, kinds: Kinds) -> exp.Expr:
    """Return the start of the part in which a TIMESTAMP is in a time zone."""
    unit, value = call.args["unit"], _checked(call.this, kinds)
    if isinstance(unit, exp.Literal):
        unit = exp.var(unit.name)
    civil = local(value, zone)
    if isinstance(unit, exp.Var) and unit.name.upper() in CLOCK_PARTS:
        # A subtraction, so that the second of two repeated hours stays the second.
        return fill(f"_1 - (_2 - DATE_TRUNC('{unit.name.lower()}', _2))", value, civil)
    return instant(exp.TimestampTrunc(this=civil, unit=unit.copy()), zone)


def _checked(value: exp.Expr, kinds: Kinds) -> exp.Expr:
    """Return a value to which a time zone is applied; only a TIMESTAMP has one."""
    if kinds.is_datetime(value):
        raise InvalidInput("A DATETIME has no time zone; remove the time zone, or use a TIMESTAMP.")
    return value.copy() if kinds.is_instant(value) else fill(_NO_CIVIL, value)


def _minutes(zone: exp.Expr) -> int | None:
    """Return a literal offset from UTC in minutes; None if the zone is a name, or no literal."""
    zone = zone.unnest()
    if not isinstance(zone, exp.Literal):
        return None
    if zone.name == "UTC":
        return 0
    match = _OFFSET.fullmatch(zone.name)
    if match is None:
        return None
    minutes = 60 * int(match[2]) + int(match[3] or 0)
    if minutes > _LARGEST or int(match[3] or 0) > 59:
        raise InvalidInput(f"The time zone {zone.name!r} is no offset from UTC; it has at most 14 hours.")
    return -minutes if match[1] == "-" else minutes


_LARGEST = 14 * 60
_TRUNCS = (exp.DateTrunc, exp.DatetimeTrunc, exp.TimestampTrunc)
_CIVIL = {exp.Date: "CAST(_1 AS DATE)", exp.Time: "CAST(_1 AS TIME)", exp.Datetime: ""}
_NOW = TEMPLATES["CURRENT_DATETIME/0"]
_NOW_IN = ("CURRENT_DATETIME", "CURRENT_TIME")
_NO_CIVIL = (
    "CASE WHEN TYPEOF(_1) IN ('DATE', 'TIME') THEN ERROR('A DATE or TIME has no time zone; remove the time zone, or "
    "use a TIMESTAMP') ELSE _1 END"
)
#: The condition that a value is the text of a time with a time zone.
HAS_ZONE = "TYPEOF(_1) = 'VARCHAR' AND REGEXP_MATCHES(CAST(_1 AS VARCHAR), ':\\d+:\\d+(\\.\\d*)?\\s*[^\\d.\\s]')"
_UNZONED = (
    f"CASE WHEN {HAS_ZONE} THEN ERROR('TIMESTAMP with a time zone takes a text without one; remove one of them') ELSE "
    "CAST(_1 AS TIMESTAMP) END"
)
_OFFSET_MINUTES = "CAST(EPOCH(_2 - _1) AS BIGINT) // 60"
_ZONED = (
    f"CAST(_2 AS VARCHAR) || CASE WHEN {_OFFSET_MINUTES} < 0 THEN '-' ELSE '+' END || "
    f"LPAD(CAST(ABS({_OFFSET_MINUTES}) // 60 AS VARCHAR), 2, '0') || CASE WHEN ({_OFFSET_MINUTES}) % 60 = 0 THEN '' "
    f"ELSE ':' || CAST(ABS({_OFFSET_MINUTES}) % 60 AS VARCHAR) END"
)

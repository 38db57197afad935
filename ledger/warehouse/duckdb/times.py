"""Translate GoogleSQL's functions of dates and times whose results differ in DuckDB.

Each public function is a step of ``ledger.warehouse.duckdb.dialect``: it changes a parsed GoogleSQL tree in place.
Source: BigQuery's reference of date, time and timestamp functions, and of their format elements.
"""

from __future__ import annotations

import re

from sqlglot import exp

from ledger.errors import InvalidInput
from ledger.warehouse.duckdb import zones
from ledger.warehouse.duckdb.functions import innermost_first
from ledger.warehouse.duckdb.kinds import Kinds, known
from ledger.warehouse.duckdb.rules import CLOCK_PARTS
from ledger.warehouse.duckdb.translations import fill

_ELEMENT = re.compile(r"%(E\d?\*?[SYz]|-?[a-zA-Z%]|[a-zA-Z%]|.)", re.DOTALL)
#: Elements of a time of day or of a time zone.
_TIMED = re.compile(r"(?<!%)(?:%%)*%(?:[HIMSTRXklpPszZc]|E\d?\*?[Sz])")
#: Elements that DuckDB's STRFTIME has too, and those that it writes in another way.
_SAME = {letter: f"%{letter}" for letter in "aAbBdHIjmMpSuUVWGwyYc%"}
_SAME |= {"F": "%Y-%m-%d", "T": "%H:%M:%S", "R": "%H:%M", "D": "%m/%d/%y", "x": "%m/%d/%y", "X": "%H:%M:%S", "h": "%b"}
_SAME |= {"n": "\n", "t": "\t", "E6S": "%S.%f", "f": "%f", "E4Y": "%Y", "c": "%a %b %d %H:%M:%S %Y"}
#: Elements that DuckDB lacks, as expressions; ``_1`` is the time.
_COMPUTED = {
    "-d": "LPAD(CAST(EXTRACT(DAY FROM _1) AS VARCHAR), 2, ' ')",
    "e": "LPAD(CAST(EXTRACT(DAY FROM _1) AS VARCHAR), 2, ' ')",
    "k": "LPAD(CAST(EXTRACT(HOUR FROM _1) AS VARCHAR), 2, ' ')",
    "l": "LPAD(CAST((EXTRACT(HOUR FROM _1) + 11) % 12 + 1 AS VARCHAR), 2, ' ')",
    "P": "LOWER(STRFTIME(_1, '%p'))",
    "C": "LPAD(CAST(EXTRACT(YEAR FROM _1) // 100 AS VARCHAR), 2, '0')",
    "g": "RIGHT(CAST(EXTRACT(ISOYEAR FROM _1) AS VARCHAR), 2)",
    "J": "CAST(EXTRACT(ISOYEAR FROM _1) AS VARCHAR)",
    "Q": "CAST(EXTRACT(QUARTER FROM _1) AS VARCHAR)",
    "E*S": "REGEXP_REPLACE(STRFTIME(_1, '%S.%f'), '\\.?0+$', '')",
    **{f"E{digits}S": f"LEFT(STRFTIME(_1, '%S.%f'), {digits + 3})" for digits in range(1, 6)},
}
#: Elements of the time zone and of the instant. They can be written only if the time is in UTC.
_IN_UTC = {"s": "CAST(CAST(FLOOR(EPOCH_US(_1) / CAST(1000000 AS DOUBLE)) AS BIGINT) AS VARCHAR)", "Z": "'UTC'"}
_IN_UTC |= {"z": "'+0000'", "Ez": "'+00:00'"}
_KINDS = (exp.TsOrDsToTimestamp, exp.TsOrDsToDate, exp.TsOrDsToTime, exp.TsOrDsToDatetime)
#: Elements of a time zone, and a format that ends with that of its name.
_ZONED = re.compile(r"(?<!%)(?:%%)*(%(?:E?z|Z))")
_ENDS_WITH_NAME = re.compile(r"((?:[^%]|%.)*?)\s*%Z\s*", re.DOTALL)
_DAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")


def formatted_times(tree: exp.Expr) -> None:
    """Translate ``FORMAT_DATE``, ``FORMAT_DATETIME``, ``FORMAT_TIME`` and ``FORMAT_TIMESTAMP`` with literal formats."""
    for call in innermost_first(tree, exp.TimeToStr):
        pattern, zone, value = call.args["format"], call.args.get("zone"), call.this
        if not isinstance(value, _KINDS):
            continue
        if not isinstance(pattern, exp.Literal):
            raise InvalidInput("Over DuckDB, a FORMAT_ function of a date or time needs a literal format.")
        plain = value.this
        if isinstance(value, exp.TsOrDsToTime):
            moment = fill("CAST('1970-01-01' AS DATE) + CAST(_1 AS TIME)", plain)
        elif zone is not None:
            moment = zones.local(plain, zone)
        else:
            moment = fill("CAST(_1 AS TIMESTAMP)", plain)
        in_utc = zone is None or (isinstance(zone, exp.Literal) and zone.this.upper() == "UTC")
        if isinstance(value, exp.TsOrDsToDate) and (timed := _TIMED.search(pattern.this)) is not None:
            raise InvalidInput(f"A DATE has no time of day for {timed[0]}; use FORMAT_TIMESTAMP.")
        pieces = _pieces(pattern.this, moment, in_utc=in_utc)
        whole = exp.Literal.string("") if not pieces else pieces[0]
        for piece in pieces[1:]:
            whole = exp.DPipe(this=whole, expression=piece)
        call.replace(exp.paren(whole))


def _pieces(pattern: str, moment: exp.Expr, *, in_utc: bool) -> list[exp.Expr]:
    """Return expressions whose results, concatenated, are the time ``moment`` in the format ``pattern``."""
    pieces: list[exp.Expr] = []
    direct, end = "", 0

    def flush() -> None:
        nonlocal direct
        if direct:
            pieces.append(fill("STRFTIME(_1, _2)", moment, exp.Literal.string(direct)))
            direct = ""

    for match in _ELEMENT.finditer(pattern):
        direct += pattern[end : match.start()]
        end = match.end()
        letter = match[1]
        if letter in _SAME:
            direct += _SAME[letter]
            continue
        template = _COMPUTED.get(letter) or (_IN_UTC.get(letter) if in_utc else None)
        if template is None:
            where = "" if letter not in _IN_UTC else " in another time zone than UTC"
            raise InvalidInput(f"Over DuckDB, the format element %{letter} is not answered{where}; leave it out.")
        flush()
        pieces.append(fill(template, moment))
    direct += pattern[end:]
    flush()
    return pieces


def parsed_times(tree: exp.Expr) -> None:
    """Translate ``PARSE_DATE``, ``PARSE_DATETIME``, ``PARSE_TIME`` and ``PARSE_TIMESTAMP`` with literal formats."""
    targets: dict[type[exp.Expr], str] = {
        exp.StrToDate: "DATE",
        exp.ParseTime: "TIME",
        exp.ParseDatetime: "TIMESTAMP",
        exp.StrToTime: "TIMESTAMP",
    }
    for call in innermost_first(tree, *targets):
        pattern, zone = call.args.get("format"), call.args.get("zone")
        if not isinstance(pattern, exp.Literal):
            raise InvalidInput("Over DuckDB, a PARSE_ function needs a literal format.")
        written, text = pattern.this, call.this
        if not isinstance(call, exp.StrToTime) and (element := _ZONED.search(written)) is not None:
            raise InvalidInput(f"{element[1]} is an element of PARSE_TIMESTAMP only, whose values have time zones.")
        if (named := _ENDS_WITH_NAME.fullmatch(written)) is not None:
            written, zone = named[1], fill("REGEXP_EXTRACT(_1, '([A-Za-z][^\\s:]*)\\s*$', 1)", text)
            text = fill("REGEXP_REPLACE(_1, '\\s*[A-Za-z][^\\s:]*\\s*$', '')", text)
        formats = [_ELEMENT.sub(_parsed_element, written)]
        if "%E*S" in written:
            formats = [formats[0].replace("%E*S", "%S.%f"), formats[0].replace("%E*S", "%S")]
        listed = exp.Array(expressions=[exp.Literal.string(f"%Y {each}") for each in formats])
        template = f"CAST(CAST(STRPTIME('1970 ' || _1, _2) AS TIMESTAMP) AS {targets[type(call)]})"
        parsed = fill(template, text, listed)
        call.replace(zones.instant(parsed, zone) if zone is not None and not _ZONED.search(written) else parsed)


def _parsed_element(match: re.Match[str]) -> str:
    letter = match[1]
    if letter == "E*S":
        return match[0]
    if letter == "Z":
        raise InvalidInput("Over DuckDB, the format element %Z is parsed at the end of a format only.")
    parsed = {"-d": "%-d", "e": "%-d", "Ez": "%z", "z": "%z", "P": "%p", "k": "%-H", "l": "%-I"} | _SAME
    if letter not in parsed:
        raise InvalidInput(f"Over DuckDB, the format element %{letter} is not parsed; leave it out.")
    return parsed[letter]


def date_results(tree: exp.Expr) -> None:
    """Give DATE_ADD, DATE_SUB and the functions that truncate the type of their argument; DuckDB returns timestamps.

    An argument that is not known to be a timestamp must not be one.
    """
    kinds = Kinds(tree)
    for call in innermost_first(tree, exp.DateAdd, exp.DateSub, exp.DateTrunc, exp.TimestampTrunc, exp.DatetimeTrunc):
        unit, civil = call.args.get("unit"), kinds.is_datetime(call.this)
        if civil or kinds.is_instant(call.this):
            if isinstance(call, exp.DateAdd | exp.DateSub):
                kind = exp.TimestampAdd if isinstance(call, exp.DateAdd) else exp.TimestampSub
                call.replace(kind(this=call.this, expression=call.expression, unit=unit))
            else:
                unit = exp.var(unit.name) if isinstance(unit, exp.Literal) else unit
                call.replace((exp.DatetimeTrunc if civil else exp.TimestampTrunc)(this=call.this, unit=unit))
        elif not isinstance(call, exp.TimestampTrunc | exp.DatetimeTrunc):
            if isinstance(unit, exp.Var) and unit.name.upper() in CLOCK_PARTS:
                raise InvalidInput(f"A DATE has no {unit.name}; use TIMESTAMP_ADD or TIMESTAMP_SUB.")
            if not isinstance(call.this.unnest(), exp.Cast | exp.Literal):
                call.set("this", fill(_NO_INSTANT, call.this))
            call.replace(exp.cast(call.copy(), "DATE"))


def date_parts(tree: exp.Expr) -> None:
    """Make EXTRACT of an hour, a minute or a second fail for a DATE; DuckDB gives 0."""
    for call in innermost_first(tree, exp.Extract):
        if call.name.upper() in CLOCK_PARTS:
            call.set("expression", fill(_NO_DATE, call.expression))


_NO_DATE = (
    "CASE WHEN TYPEOF(_1) = 'DATE' THEN ERROR('A DATE has no time of day; EXTRACT takes a TIMESTAMP') ELSE _1 END"
)
_NO_INSTANT = (
    "CASE WHEN TYPEOF(_1) = 'TIMESTAMP' THEN ERROR('Over DuckDB, DATE_ADD, DATE_SUB and DATE_TRUNC take a DATE; use "
    "TIMESTAMP_ADD, TIMESTAMP_SUB or TIMESTAMP_TRUNC') ELSE _1 END"
)


def differences(tree: exp.Expr) -> None:
    """Make TIMESTAMP_DIFF count whole units. Untranslated, DuckDB would count the boundaries crossed.

    For example, from 10:59 to 11:01 is 0 hours in GoogleSQL, and 1 hour in DuckDB.
    """
    for call in innermost_first(tree, exp.TimestampDiff):
        unit = call.args.get("unit")
        if isinstance(unit, exp.Var):
            template = f"DATE_SUB('{unit.name.lower()}', CAST(_2 AS TIMESTAMP), CAST(_1 AS TIMESTAMP))"
            call.replace(fill(template, call.this, call.expression))


def subtractions(tree: exp.Expr) -> None:
    """Make a TIMESTAMP minus a TIMESTAMP an INTERVAL of hours, and a DATE minus a DATE one of days, as in GoogleSQL.

    DuckDB's have days and hours, as a DATETIME minus a DATETIME has in both, or are numbers. What is not known to be a
    date or time must not be one.
    """
    kinds = Kinds(tree)
    for difference in innermost_first(tree, exp.Sub):
        left, right = difference.this, difference.expression
        bare = right.unnest()
        if isinstance(bare, exp.Interval | exp.Neg | exp.Count) or (isinstance(bare, exp.Literal) and bare.is_number):
            continue
        if kinds.is_datetime(left) and kinds.is_datetime(right):
            continue
        if kinds.is_instant(left) and kinds.is_instant(right):
            difference.replace(fill("TO_MICROSECONDS(EPOCH_US(_1) - EPOCH_US(_2))", left, right))
        elif kinds.is_date(left) and kinds.is_date(right):
            difference.replace(fill("TO_DAYS(CAST(_1 - _2 AS INTEGER))", left, right))
        else:
            difference.set("expression", fill(_NO_SUBTRAHEND, right))


_NO_SUBTRAHEND = (
    "CASE WHEN TYPEOF(_1) IN ('TIMESTAMP', 'DATE') THEN ERROR('Over DuckDB, the difference of these dates or times is "
    "not answered; write TIMESTAMP_DIFF(a, b, SECOND) or DATE_DIFF(a, b, DAY)') ELSE _1 END"
)


def time_truncs(tree: exp.Expr) -> None:
    """Translate TIME_TRUNC, which DuckDB lacks."""
    for call in innermost_first(tree, exp.TimeTrunc):
        template = f"CAST(DATE_TRUNC('{call.args['unit'].name.lower()}', CAST('1970-01-01' AS DATE) + _1) AS TIME)"
        call.replace(fill(template, call.this))


def week_parts(tree: exp.Expr) -> None:
    """Translate ``EXTRACT(WEEK(day) FROM x)`` and ``EXTRACT(DATETIME FROM x)``.

    A week begins on the given day. Days before the year's first such day are in week 0.
    """
    for call in innermost_first(tree, exp.Extract):
        part = call.this
        if isinstance(part, exp.WeekStart):
            first = _DAYS.index(part.name.upper()) + 1
            days = f"(EXTRACT(ISODOW FROM _1) - {first} + 7) % 7"
            call.replace(fill(f"CAST((EXTRACT(DOY FROM _1) - 1 + 7 - {days}) // 7 AS BIGINT)", call.expression))
        elif part.name.upper() == "DATETIME":
            call.replace(known(fill("CAST(_1 AS TIMESTAMP)", call.expression), "DATETIME"))

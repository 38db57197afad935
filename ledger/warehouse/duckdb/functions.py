"""GoogleSQL's functions of JSON, times and lists that SQLGlot leaves without a DuckDB form, or with another meaning.

Each public function is a step of ``ledger.warehouse.duckdb.dialect``: it changes a parsed GoogleSQL tree in place.
Source: BigQuery's reference of JSON, timestamp and array functions.
"""

from __future__ import annotations

import sqlglot
from sqlglot import exp

_NUMBER = "JSON_TYPE(v) IN ('BIGINT', 'UBIGINT', 'HUGEINT', 'DOUBLE')"
_SCALAR = f"JSON_TYPE(v) IN ('VARCHAR', 'BOOLEAN') OR {_NUMBER}"
_TEXT = "JSON_EXTRACT_STRING(v, '$')"

#: What takes the place of each function; ``v`` stands for its argument. The strict ones refuse what is of another type,
#: the lax ones give NULL for what they cannot convert. STRING also takes times, whose JSON form is a string.
_FUNCTIONS: dict[type[exp.Expr], str] = {
    exp.Int64: f"CASE WHEN {_NUMBER} AND CAST({_TEXT} AS DOUBLE) % 1 = 0 THEN CAST({_TEXT} AS BIGINT) "
    "WHEN v IS NOT NULL THEN ERROR('INT64() of JSON that is no whole number') END",
    exp.Float64: f"CASE WHEN {_NUMBER} THEN CAST({_TEXT} AS DOUBLE) "
    "WHEN v IS NOT NULL THEN ERROR('FLOAT64() of JSON that is no number') END",
    exp.JSONBool: f"CASE WHEN JSON_TYPE(v) = 'BOOLEAN' THEN CAST({_TEXT} AS BOOLEAN) "
    "WHEN v IS NOT NULL THEN ERROR('BOOL() of JSON that is no truth value') END",
    exp.String: "CASE WHEN JSON_TYPE(TO_JSON(v)) = 'VARCHAR' THEN JSON_EXTRACT_STRING(TO_JSON(v), '$') "
    "WHEN v IS NOT NULL THEN ERROR('STRING() of JSON that is no string') END",
    exp.LaxInt64: f"CASE WHEN JSON_TYPE(v) = 'BOOLEAN' THEN CAST(CAST({_TEXT} AS BOOLEAN) AS BIGINT) "
    f"WHEN JSON_TYPE(v) = 'VARCHAR' OR {_NUMBER} THEN TRY_CAST({_TEXT} AS BIGINT) END",
    exp.LaxFloat64: f"CASE WHEN JSON_TYPE(v) = 'VARCHAR' OR {_NUMBER} THEN TRY_CAST({_TEXT} AS DOUBLE) END",
    exp.LaxString: f"CASE WHEN {_SCALAR} THEN {_TEXT} END",
    exp.LaxBool: f"CASE WHEN {_NUMBER} THEN CAST({_TEXT} AS DOUBLE) <> 0 "
    f"WHEN LOWER({_TEXT}) IN ('true', 'false') THEN LOWER({_TEXT}) = 'true' END",
    exp.JSONType: "CASE JSON_TYPE(v) WHEN 'VARCHAR' THEN 'string' WHEN 'BOOLEAN' THEN 'boolean' "
    "WHEN 'NULL' THEN 'null' WHEN 'OBJECT' THEN 'object' WHEN 'ARRAY' THEN 'array' "
    "ELSE IF(v IS NULL, NULL, 'number') END",
}
#: Parts of a time that DuckDB counts in another way, or calls otherwise.
_PARTS = {
    "DATE": "CAST(v AS DATE)",
    "TIME": "CAST(v AS TIME)",
    "DAYOFWEEK": "EXTRACT(DOW FROM v) + 1",
    "WEEK": "CAST(STRFTIME(v, '%U') AS BIGINT)",
    "ISOWEEK": "EXTRACT(WEEK FROM v)",
    "MILLISECOND": "EXTRACT(MILLISECOND FROM v) % 1000",
    "MICROSECOND": "EXTRACT(MICROSECOND FROM v) % 1000000",
}

#: What LOG_ANALYZER parts words at, but for bytes that are written with a percent sign.
_PARTS_WORDS = r"\s\[\]<>(){}|!;,''\"*&?+/:=@.\-$%\\_`"
_WORDS = "' ' || TRIM(REGEXP_REPLACE(LOWER(x), '[parts]+', ' ', 'g')) || ' '".replace("parts", _PARTS_WORDS)
#: ``v`` stands for the text, ``?`` for the query.
_SEARCH = (
    f"COALESCE(LIST_BOOL_AND(LIST_TRANSFORM(REGEXP_EXTRACT_ALL(?, '`[^`]+`|[^{_PARTS_WORDS}]+'), "
    f"lambda x: CONTAINS({_WORDS.replace('(x)', '(v)')}, {_WORDS}))), FALSE)"
)


def json_functions(tree: exp.Expr) -> None:
    """Readers of JSON give its value: SQLGlot knows no LAX_ ones, and would leave the quotes around a STRING."""
    for call in _innermost_first(tree, *_FUNCTIONS):
        if call.args.get("zone") is None:
            call.replace(_filled(_FUNCTIONS[type(call)], call.this))


def json_arrays(tree: exp.Expr) -> None:
    """``JSON_QUERY_ARRAY`` of what is no array is NULL; the cast that SQLGlot makes of it would fail."""
    for call in _innermost_first(tree, exp.JSONExtractArray):
        found = exp.JSONExtract(this=call.this, expression=call.expression) if call.expression else call.this
        call.replace(_filled("TRY_CAST(v AS JSON[])", found))


def text_search(tree: exp.Expr) -> None:
    """``SEARCH(text, query)``: every word of the query, and what stands in backticks in a row, is in the text.

    As LOG_ANALYZER parts words; SQLGlot knows no SEARCH. Of STRING alone, and without the function's other arguments.
    """
    for call in _innermost_first(tree, exp.Anonymous):
        if call.name.upper() == "SEARCH" and len(call.expressions) == 2:
            text, terms = call.expressions
            found = _filled(_SEARCH, text)
            for place in list(found.find_all(exp.Placeholder)):
                place.replace(exp.paren(terms.copy()))
            call.replace(found)


def list_offsets(tree: exp.Expr) -> None:
    """``list[OFFSET(n)]`` counts from 0; SQLGlot adds the 1 that DuckDB counts from only where n is a number."""
    for bracket in _innermost_first(tree, exp.Bracket):
        place = bracket.expressions[0]
        if bracket.args.get("offset") == 0 and not isinstance(place, exp.Literal):
            bracket.set("expressions", [exp.Add(this=exp.paren(place.copy()), expression=exp.Literal.number(1))])
            bracket.set("offset", 1)


def time_zones(tree: exp.Expr) -> None:
    """Instants are kept as plain times in UTC, so a time zone is applied to them only once they are said to be UTC."""
    for call in _innermost_first(tree, exp.Extract, exp.TimestampTrunc, exp.TimeToStr):
        zone = call.args.get("zone")
        if isinstance(call, exp.Extract) and isinstance(call.expression, exp.AtTimeZone):
            call.expression.set("this", _utc(call.expression.this))
        elif isinstance(call, exp.TimestampTrunc) and zone is not None:
            call.set("this", _utc(call.this))
            call.replace(_utc(call.copy()))
        elif isinstance(call, exp.TimeToStr) and zone is not None:
            call.set("this", exp.AtTimeZone(this=_utc(call.this), zone=zone))
            call.set("zone", None)


def time_parts(tree: exp.Expr) -> None:
    """``EXTRACT(DAYOFWEEK ...)`` counts from Sunday as 1, WEEK begins on Sunday, MILLISECOND leaves the seconds out."""
    for call in _innermost_first(tree, exp.Extract):
        template = _PARTS.get(call.name.upper())
        if template is not None:
            call.replace(_filled(template, call.expression))


def _innermost_first(tree: exp.Expr, *kinds: type[exp.Expr]) -> list[exp.Expr]:
    """Calls before those that they are arguments of, since what is replaced is copied with its arguments."""
    return list(tree.find_all(*kinds))[::-1]


def _utc(instant: exp.Expr) -> exp.Expr:
    return exp.AtTimeZone(this=instant.copy(), zone=exp.Literal.string("UTC"))


def _filled(template: str, argument: exp.Expr) -> exp.Expr:
    """A template, in DuckDB's SQL, with the argument for each ``v``."""
    tree = exp.paren(sqlglot.parse_one(template, dialect="duckdb"))
    for place in list(tree.find_all(exp.Column)):
        place.replace(exp.paren(argument.copy()))
    return tree

"""Translate those JSON, time, list and search functions of GoogleSQL that SQLGlot does not translate correctly.

Each public function is a step of ``ledger.warehouse.duckdb.dialect``: it changes a parsed GoogleSQL tree in place.
Source: BigQuery's reference of JSON, timestamp and array functions.
"""

from __future__ import annotations

from functools import lru_cache

import sqlglot
from sqlglot import exp

_NUMBER = "JSON_TYPE(v) IN ('BIGINT', 'UBIGINT', 'HUGEINT', 'DOUBLE')"
_SCALAR = f"JSON_TYPE(v) IN ('VARCHAR', 'BOOLEAN') OR {_NUMBER}"
_TEXT = "JSON_EXTRACT_STRING(v, '$')"

#: Maps each GoogleSQL function to an expression of DuckDB, in which ``v`` is the function's argument. If the argument
#: has a JSON type that the function does not accept, INT64, FLOAT64, BOOL and STRING fail, and the LAX_ functions
#: return NULL. Of users' statements, ``forms`` translates STRING.
_FUNCTIONS: dict[type[exp.Expr], str] = {
    exp.Int64: f"CASE WHEN {_NUMBER} AND CAST({_TEXT} AS DOUBLE) % 1 = 0 THEN CAST({_TEXT} AS BIGINT) "
    "WHEN v IS NOT NULL THEN ERROR('INT64() requires a JSON whole number') END",
    exp.Float64: f"CASE WHEN {_NUMBER} THEN CAST({_TEXT} AS DOUBLE) "
    "WHEN v IS NOT NULL THEN ERROR('FLOAT64() requires a JSON number') END",
    exp.JSONBool: f"CASE WHEN JSON_TYPE(v) = 'BOOLEAN' THEN CAST({_TEXT} AS BOOLEAN) "
    "WHEN v IS NOT NULL THEN ERROR('BOOL() requires a JSON boolean') END",
    exp.String: "CASE WHEN JSON_TYPE(TO_JSON(v)) = 'VARCHAR' THEN JSON_EXTRACT_STRING(TO_JSON(v), '$') "
    "WHEN v IS NOT NULL THEN ERROR('STRING() requires a JSON string') END",
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
#: DuckDB's expression for each part of EXTRACT that DuckDB numbers or names differently; ``v`` is the time.
_DATE_PARTS = {
    "DATE": "CAST(v AS DATE)",
    "TIME": "CAST(v AS TIME)",
    "DAYOFWEEK": "EXTRACT(DOW FROM v) + 1",
    "WEEK": "CAST(STRFTIME(v, '%U') AS BIGINT)",
    "ISOWEEK": "EXTRACT(WEEK FROM v)",
    "MILLISECOND": "EXTRACT(MILLISECOND FROM v) % 1000",
    "MICROSECOND": "EXTRACT(MICROSECOND FROM v) % 1000000",
}

#: The characters at which LOG_ANALYZER splits a text, for use in a regular expression. LOG_ANALYZER also splits at
#: percent-encoded bytes, which are missing here.
_DELIMITERS = r"\s\[\]<>(){}|!;,''\"*&?+/:=@.\-$%\\_`"
_WORDS = "' ' || TRIM(REGEXP_REPLACE(LOWER(x), '[delimiters]+', ' ', 'g')) || ' '".replace("delimiters", _DELIMITERS)
#: DuckDB's expression for SEARCH; ``v`` is the text, ``?`` the query.
_SEARCH = (
    f"COALESCE(LIST_BOOL_AND(LIST_TRANSFORM(REGEXP_EXTRACT_ALL(?, '`[^`]+`|[^{_DELIMITERS}]+'), "
    f"lambda x: CONTAINS({_WORDS.replace('(x)', '(v)')}, {_WORDS}))), FALSE)"
)


def json_functions(tree: exp.Expr) -> None:
    """Translate the functions that convert JSON values, such as STRING and LAX_INT64.

    SQLGlot's translation of STRING keeps the quotes of the JSON text, and SQLGlot does not translate LAX_ functions.
    """
    for call in innermost_first(tree, *_FUNCTIONS):
        if call.args.get("zone") is None:
            call.replace(_fill_template(_FUNCTIONS[type(call)], call.this))


def json_arrays(tree: exp.Expr) -> None:
    """Make ``JSON_QUERY_ARRAY`` return NULL for a value that is not an array. SQLGlot's cast would fail."""
    for call in innermost_first(tree, exp.JSONExtractArray):
        value = exp.JSONExtract(this=call.this, expression=call.expression) if call.expression else call.this
        call.replace(_fill_template("TRY_CAST(v AS JSON[])", value))


def normal_forms(tree: exp.Expr) -> None:
    """Translate ``NORMALIZE`` to the form NFC, the only one that DuckDB has.

    Only the ledger's own statements have it here: ``translations.templates`` translates the calls of users.
    """
    for call in innermost_first(tree, exp.Normalize):
        if call.text("form").upper() == "NFC" and not call.args.get("is_casefold"):
            call.replace(exp.Anonymous(this="NFC_NORMALIZE", expressions=[call.this]))


def text_search(tree: exp.Expr) -> None:
    """Translate ``SEARCH(text, query)``, which SQLGlot does not know.

    SEARCH is true if the text contains every term of the query. A term is a phrase in backticks or a single word. Text
    and query are split into words as BigQuery's LOG_ANALYZER does. Only a STRING can be searched, and SEARCH's optional
    arguments are not supported.
    """
    for call in innermost_first(tree, exp.Anonymous):
        if call.name.upper() == "SEARCH" and len(call.expressions) == 2:
            text, terms = call.expressions
            condition = _fill_template(_SEARCH, text)
            for placeholder in list(condition.find_all(exp.Placeholder)):
                placeholder.replace(exp.paren(terms.copy()))
            call.replace(condition)


def list_offsets(tree: exp.Expr) -> None:
    """Add 1 to n in ``list[OFFSET(n)]``: DuckDB counts from 1, and SQLGlot adjusts only a literal n."""
    for bracket in innermost_first(tree, exp.Bracket):
        offset = bracket.expressions[0]
        if bracket.args.get("offset") == 0 and not isinstance(offset, exp.Literal):
            bracket.set("expressions", [exp.Add(this=exp.paren(offset.copy()), expression=exp.Literal.number(1))])
            bracket.set("offset", 1)


def time_parts(tree: exp.Expr) -> None:
    """Translate the parts of EXTRACT that DuckDB numbers or names differently.

    In GoogleSQL, Sunday is DAYOFWEEK 1 and the first day of a WEEK. MILLISECOND and MICROSECOND omit whole seconds.
    """
    for call in innermost_first(tree, exp.Extract):
        template = _DATE_PARTS.get(call.name.upper())
        if template is not None:
            call.replace(_fill_template(template, call.expression))


def innermost_first(tree: exp.Expr, *kinds: type[exp.Expr]) -> list[exp.Expr]:
    """Return a tree's nodes of the given kinds, each after the nodes inside it.

    Nodes must be replaced in this order, because replacing a node copies the nodes inside it.
    """
    return list(tree.find_all(*kinds))[::-1]


@lru_cache(maxsize=512)  # a long template takes milliseconds to parse, and a statement has many calls
def parsed(template: str) -> exp.Paren:
    """Parse an expression in DuckDB's SQL, whose types are marked as DuckDB's. Copy the tree before you change it."""
    tree = exp.paren(sqlglot.parse_one(template, dialect="duckdb"))
    for kind in tree.find_all(exp.DataType):
        kind.meta["duckdb"] = True  # _timestamps_without_zone leaves it as it is
    return tree


def _fill_template(template: str, argument: exp.Expr) -> exp.Expr:
    """Return a template in DuckDB's SQL with the argument in place of each ``v``."""
    tree = parsed(template).copy()
    for column in list(tree.find_all(exp.Column)):
        column.replace(exp.paren(argument.copy()))
    return tree

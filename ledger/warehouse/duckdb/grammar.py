"""The part of GoogleSQL's grammar that a DuckDB file answers. Everything else in a user's statement is refused.

SQLGlot reads every dialect's syntax: ``x::DATE``, ``ILIKE``, ``SELECT DISTINCT ON``. The tables here list what
GoogleSQL has: its symbols, its words, and the parts of a statement as SQLGlot names them. What is not
listed is an error, also what a later SQLGlot learns. Functions have a table of their own, ``coverage``.

Source: BigQuery's reference of lexical structure, query syntax, operators and data types.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import sqlglot
from sqlglot import TokenType, exp
from sqlglot.dialects.bigquery import BigQuery

from ledger.errors import InvalidInput
from ledger.warehouse.duckdb import rules
from ledger.warehouse.duckdb.templates import NAMES
from ledger.warehouse.statement import check_query
from ledger.warehouse.syntax import place

_TYPE_NAMES = """
    INT64 INT SMALLINT INTEGER BIGINT TINYINT BYTEINT NUMERIC DECIMAL BIGNUMERIC BIGDECIMAL FLOAT64 BOOL BOOLEAN STRING
    BYTES DATE DATETIME TIME TIMESTAMP JSON STRUCT RANGE GEOGRAPHY
"""
_TYPES = frozenset(_TYPE_NAMES.split())
_SYMBOLS = frozenset("()[],.;@*/+-~&|^=<>") | {"@@", "||", "<<", ">>", "<=", ">=", "!=", "<>", "=>", "|>"}
#: Words with a meaning in a SELECT. SQLGlot then takes every other word for a name, as GoogleSQL does.
_CLAUSES = """
    ALL AND ANY ARRAY AS ASC BETWEEN CASE CROSS CUBE DESC DISTINCT ELSE END EXCEPT EXISTS FALSE FIRST FOR FORMAT FROM
    FULL HAVING IN INNER INTERSECT INTERVAL INTO IS JOIN LEFT LIKE LIMIT NEXT NOT NULL OFFSET ON OR OUTER OVER
    PARTITION PERCENT PIVOT QUALIFY RECURSIVE REPEAT REPLACE RIGHT ROLLUP ROWS SELECT SET TABLE TABLESAMPLE THEN TRUE
    UNION UNKNOWN UNNEST UNPIVOT USING WHEN WHERE WINDOW WITH
    CURRENT_DATE CURRENT_DATETIME CURRENT_TIME CURRENT_TIMESTAMP
"""
#: Beginnings of statements that are no SELECT. Another check refuses them.
_STATEMENTS = """
    ALTER BEGIN CALL CREATE DELETE DROP EXECUTE EXPORT GRANT INSERT LOAD MERGE REVOKE ROLLBACK TRUNCATE UPDATE
"""
_WORDS = _TYPES | {*_CLAUSES.split(), *_STATEMENTS.split(), "GROUP BY", "ORDER BY", "PARTITION BY", "GROUPING SETS"}
#: Words that are no names unless they are quoted, save those that begin a type.
_RESERVED_WORDS = """
    ALL AND ANY AS ASC ASSERT_ROWS_MODIFIED AT BETWEEN BY CASE CAST COLLATE CONTAINS CREATE CROSS CUBE CURRENT DEFAULT
    DEFINE DESC DISTINCT ELSE END ENUM ESCAPE EXCEPT EXCLUDE EXISTS EXTRACT FALSE FETCH FOLLOWING FOR FROM FULL GROUP
    GROUPING GROUPS HASH HAVING IF IGNORE IN INNER INTERSECT INTO IS JOIN LATERAL LEFT LIKE LIMIT LOOKUP MERGE NATURAL
    NEW NO NOT NULL NULLS ON OR ORDER OUTER OVER PARTITION PRECEDING QUALIFY RECURSIVE RESPECT RIGHT ROLLUP ROWS SELECT
    SET SOME TABLESAMPLE THEN TO TREAT TRUE UNBOUNDED UNION UNNEST USING WHEN WHERE WINDOW WITH WITHIN
"""
_RESERVED = frozenset(_RESERVED_WORDS.split()) | {"GROUP BY", "ORDER BY", "PARTITION BY", "GROUPING SETS"}
#: Reserved words with which a type begins. STRUCT also follows SELECT AS.
_RESERVED_TYPES = ("ARRAY", "RANGE", "STRUCT")
#: Symbols and words that do not follow each other in GoogleSQL.
_NO_PAIRS = {("IN", "["), ("*", "LIKE"), ("TIMESTAMP", "WITH"), ("TIME", "WITH"), (")", "IGNORE"), (")", "RESPECT")}
_NO_PAIRS |= {("*", "EXCLUDE"), ("*", "RENAME"), ("(", "VALUES")}
#: What to write for symbols and words of other dialects.
_INSTEAD = {
    "::": "CAST(x AS type)",
    "?::": "SAFE_CAST(x AS type)",
    "%": "MOD(x, y)",
    "==": "=",
    "??": "IFNULL(x, y)",
    "!": "NOT",
    "<=>": "IS NOT DISTINCT FROM",
    "->": "JSON_QUERY(json, '$.name') or json.name",
    "->>": "JSON_VALUE(json, '$.name')",
    "~~": "LIKE",
    "{": "STRUCT(x AS name)",
    ":": "AS, or CAST(x AS type)",
    "ILIKE": "LOWER(x) LIKE 'pattern'",
    **dict.fromkeys(("RLIKE", "REGEXP", "SIMILAR", "GLOB", "~*"), "REGEXP_CONTAINS(x, r'pattern')"),
    "XOR": "a != b",
    "ISNULL": "IS NULL",
    "NOTNULL": "IS NOT NULL",
    "EXCLUDE": "EXCEPT",
    "FETCH": "LIMIT",
    "FILTER": "COUNTIF(condition), or IF(condition, x, NULL) inside the aggregate",
    "VALUES": "UNNEST([STRUCT(1 AS a), ...])",
    "SEMI": "WHERE EXISTS (SELECT ...)",
    "ANTI": "WHERE NOT EXISTS (SELECT ...)",
    **dict.fromkeys(("VARCHAR", "TEXT", "CHAR"), "STRING"),
    **dict.fromkeys(("DOUBLE", "FLOAT", "REAL"), "FLOAT64"),
    "TIMESTAMPTZ": "TIMESTAMP",
    "BLOB": "BYTES",
}
_BOTH = "this expression"
#: Maps each kind of node of a syntax tree to the names of the parts that it may have.
_PARTS: Mapping[type[exp.Expr], frozenset[str]] = {
    kind: frozenset(parts.split())
    for kinds, parts in {
        (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.EQ, exp.NEQ, exp.GT, exp.GTE): _BOTH,
        (exp.LT, exp.LTE, exp.Is, exp.NullSafeEQ, exp.NullSafeNEQ, exp.BitwiseAnd, exp.BitwiseOr): _BOTH,
        (exp.BitwiseXor, exp.BitwiseLeftShift, exp.BitwiseRightShift, exp.PropertyEQ, exp.Kwarg, exp.Dot): _BOTH,
        (exp.JSONKeyValue, exp.IntervalSpan): _BOTH,
        (exp.DPipe,): "this expression safe",
        (exp.Like,): "this expression negate",
        (exp.HavingMax,): "this expression max",
        (exp.Neg, exp.Not, exp.BitwiseNot, exp.Paren, exp.Having, exp.Qualify, exp.Where, exp.IgnoreNulls): "this",
        (exp.RespectNulls, exp.Var, exp.Boolean, exp.Any, exp.DataTypeParam, exp.From, exp.Parameter): "this",
        (exp.Null,): "",
        (exp.Literal,): "this is_string",
        (exp.RawString,): "this",
        (exp.HexString, exp.ByteString): "this is_integer is_bytes",
        (exp.Identifier,): "this quoted global temporary",
        (exp.Column,): "this table db catalog",
        (exp.ColumnDef,): "this kind",
        (exp.Alias,): "this alias",
        (exp.Between,): "this low high",
        (exp.In,): "this expressions query unnest is_global",
        (exp.AtTimeZone,): "this zone",
        (exp.Interval,): "this unit",
        (exp.Bracket,): "this expressions offset safe",
        (exp.DataType,): "this expressions nested values",
        (exp.Tuple, exp.Cube, exp.Rollup, exp.GroupingSets, exp.JSONPath): "expressions",
        (exp.JSONPathKey, exp.JSONPathSubscript, exp.JSONPathRoot): "this",
        (exp.Distinct,): "expressions",
        (exp.Star,): "except replace",
        (exp.Ordered,): "this desc nulls_first",
        (exp.Order,): "this expressions",
        (exp.Group,): "expressions all rollup cube grouping_sets",
        (exp.Limit,): "this expression",
        (exp.Offset,): "expression",
        (exp.Window,): "this partition_by order over spec alias",
        (exp.WindowSpec,): "kind start start_side end end_side",
        (exp.Join,): "this kind side on using pivots",
        (exp.Table,): "this db catalog alias pivots joins sample",
        (exp.TableAlias,): "this columns",
        (exp.Pivot,): "this expressions fields columns unpivot alias include_nulls group prefixed_pivot_columns "
        "pivot_column_naming unpivot_value_columns_first",
        (exp.PivotAlias, exp.PivotAny): "this alias",
        (exp.CTE,): "this alias",
        (exp.With,): "expressions recursive",
        (exp.Subquery,): "this alias with pivots sample joins order limit offset",
        (exp.Select,): "with kind distinct expressions from joins where group having qualify windows order limit "
        "offset pivots operation_modifiers",
        (exp.Union, exp.Intersect, exp.Except): "this expression with distinct by_name side kind on order limit offset",
        # functions with syntax of their own
        (exp.Cast, exp.TryCast): "this to safe",
        (exp.Count,): "this big_int",
        (exp.Extract,): "this expression",
    }.items()
    for kind in kinds
}
#: Functions that SQLGlot makes of syntax that GoogleSQL does not have.
_NO_FUNCTIONS = (exp.Explode, exp.ToMap, exp.Collate, exp.Xor, exp.Columns)


class GoogleSQL(BigQuery):
    """BigQuery's dialect as SQLGlot reads it, with GoogleSQL's words only.

    Its parser leaves calls of the functions in ``TEMPLATES`` as they are written.
    """

    class Tokenizer(BigQuery.Tokenizer):
        KEYWORDS = {  # noqa: RUF012 - SQLGlot's own form
            word: token
            for word, token in BigQuery.Tokenizer.KEYWORDS.items()
            if word in _WORDS or not word[0].isalpha()
        }

    class Parser(BigQuery.Parser):  # type: ignore[valid-type, misc]
        FUNCTIONS = {  # noqa: RUF012
            name: make for name, make in BigQuery.Parser.FUNCTIONS.items() if name not in NAMES
        }
        FUNCTION_PARSERS = {  # noqa: RUF012
            name: parse for name, parse in BigQuery.Parser.FUNCTION_PARSERS.items() if name not in NAMES
        }
        NO_PAREN_FUNCTIONS = {  # noqa: RUF012
            token: kind for token, kind in BigQuery.Parser.NO_PAREN_FUNCTIONS.items() if token.name not in NAMES
        }


def parse(sql: str) -> exp.Query:
    """Parse a user's statement and return its syntax tree.

    Raises:
        InvalidInput: The statement is not one SELECT, or has words or symbols that GoogleSQL lacks.
    """
    _check_symbols(sql)
    try:
        return check_query(sql, GoogleSQL)
    except InvalidInput as error:
        raise _with_hint(sql, error) from error


def check_parts(tree: exp.Query) -> None:
    """Check the parts of a user's statement.

    Raises:
        InvalidInput: A part is not GoogleSQL, or is not answered over a DuckDB file.
    """
    for node in tree.walk():
        _check_node(node)


@lru_cache(maxsize=256)
def check(sql: str) -> None:
    """Check a user's statement as ``parse`` and ``check_parts`` do; a statement that was right is not parsed again."""
    check_parts(parse(sql))


def _check_symbols(sql: str) -> None:
    """Check the symbols of a statement, and what SQLGlot's syntax tree does not keep."""
    try:
        tokens = GoogleSQL().tokenize(sql)
    except sqlglot.errors.SqlglotError:
        return  # the parser says where
    texts = [sql[token.start : token.end + 1] for token in tokens]
    words = ["(", *(text.upper() for text in texts), ";"]
    for index, (token, text) in enumerate(zip(tokens, texts, strict=True)):
        first, before, after = text[:1] or "'", words[index], words[index + 2]
        if not (first.isalnum() or first in "_'\"`" or (first == "." and text[1:].isdigit()) or text in _SYMBOLS):
            raise InvalidInput(f"`{text}` is not GoogleSQL ({place(sql, token.start)}){_instead(text)}.")
        if before == "(" and text.upper() == "FROM" and "|>" not in words:
            raise InvalidInput(f"A query begins with SELECT or WITH, not FROM ({place(sql, token.start)}).")  # noqa: S608
        of_interval = before == "INTERVAL" and token.token_type == TokenType.STRING and after not in rules.DATE_PARTS
        if before == "FOR" and text.upper() in ("SYSTEM_TIME", "SYSTEM"):
            raise InvalidInput(
                f"FOR SYSTEM_TIME is not answered over a DuckDB file ({place(sql, token.start)}); the view "
                "session_versions has the state at every version, and session_state_at the values at a time."
            )
        is_type = (
            text.upper() in _RESERVED_TYPES and after != "<" and words[index - 1] not in ("SELECT", "ALL", "DISTINCT")
        )
        if before == "AS" and (is_type or text.upper() in _RESERVED):
            where = place(sql, token.start)
            raise InvalidInput(f"{text} is a reserved word of GoogleSQL ({where}); write the name as `{text}`.")
        of_limit = text == "," and index > 1 and words[index - 1] == "LIMIT" and words[index - 2] != "."
        if (
            (before, text.upper()) in _NO_PAIRS
            or of_interval
            or of_limit
            or (before in _TYPES and (text, after) == ("[", "]"))
        ):
            where = place(sql, token.start)
            raise InvalidInput(f"`{before} {text}` is not GoogleSQL ({where}){_instead(text.upper())}.")
    rules.check_words(sql, tokens)


def _with_hint(sql: str, error: InvalidInput) -> InvalidInput:
    """Return the error of a statement that cannot be parsed, with what to write for the first foreign word in it."""
    try:
        words = [token.text.upper() for token in GoogleSQL().tokenize(sql) if token.text[:1].isalpha()]
    except sqlglot.errors.SqlglotError:
        return error
    foreign = next((word for word in words if word in _INSTEAD), None)
    return error if foreign is None else InvalidInput(f"{error} For {foreign} write {_INSTEAD[foreign]}.")


def _instead(text: str) -> str:
    return f"; write {_INSTEAD[text]}" if text in _INSTEAD else ""


def _check_node(node: exp.Expr) -> None:
    for problem in rules.problems(node):
        raise InvalidInput(f"{problem}.")
    allowed = _PARTS.get(type(node))
    if allowed is None and (not isinstance(node, exp.Func) or isinstance(node, _NO_FUNCTIONS)):
        raise _refused(node)
    if allowed is not None:
        for name, value in node.args.items():
            if value not in (None, False, "", []) and name.rstrip("_") not in allowed:
                raise _refused(node, name.rstrip("_"))


def _refused(node: exp.Expr, part: str = "") -> InvalidInput:
    """Return the error for a node, or for one of its parts, that is not in the table."""
    if isinstance(node, exp.JSONPathPart):
        return InvalidInput("DuckDB cannot answer the JSON path: it may have .name and [n] only.")
    source = node.sql(dialect="bigquery") if not isinstance(node, exp.Query) else ""
    quoted = f" `{source if len(source) <= 60 else source[:57] + '...'}`" if source else ""
    name = type(node).__name__.upper() + (f" with {part.upper().replace('_', ' ')}" if part else "")
    return InvalidInput(
        f"{name}{quoted} is not GoogleSQL, or is not answered over a DuckDB file; docs/sql.md lists what is."
    )

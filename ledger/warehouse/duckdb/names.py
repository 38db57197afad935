"""Check the names in a user's statement, and describe DuckDB's errors in the words of GoogleSQL and of the ledger."""

from __future__ import annotations

import re
from itertools import pairwise

from sqlglot import TokenType, exp

from ledger.errors import InvalidInput
from ledger.warehouse.duckdb.coverage import REFUSED_PREFIXES, functions
from ledger.warehouse.duckdb.grammar import GoogleSQL
from ledger.warehouse.schema import schema, unknown

#: Names that may be followed by a parenthesis and are no functions: types with parameters, and parts of clauses.
_NO_FUNCTIONS = frozenset({"STRING", "BYTES", "NUMERIC", "BIGNUMERIC", "WEEK", "RECURSIVE", "ROLLUP", "CUBE", "SETS"})
_NO_FUNCTIONS |= {
    "EXCEPT",
    "REPLACE",
    "INTERVAL",
    "VALUES",
    "PIVOT",
    "UNPIVOT",
    "TABLESAMPLE",
    "SYSTEM",
    "USING",
    "OVER",
}
_TYPES = {
    **dict.fromkeys(("VARCHAR", "STRING_LITERAL"), "STRING"),
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "INT32", "INTEGER_LITERAL"), "INT64"),
    **dict.fromkeys(("DOUBLE", "FLOAT"), "FLOAT64"),
    "BOOLEAN": "BOOL",
    "BLOB": "BYTES",
}
_COLUMN = re.compile(r'(?:Referenced column|does not have a column named) "([^"]+)"|Column "([^"]+)" in EXCLUDE list')
_NOT_FOUND = re.compile(r'Referenced table "([^"]+)" not found')
_NO_MATCH = re.compile(r"(?:argument types '|function call \")([^(']+)\(([^)]*)\)")
_ZONE = re.compile(r"Unknown TimeZone '([^']*)'")
_PREFIX = re.compile(r"^(?:[A-Z]\w+ )+Error: ")
_USERS = frozenset({"current_user", "session_user"})
#: Names that DuckDB answers though no column has them.
_NO_COLUMNS = _USERS | {"user", "current_role", "current_catalog", "current_schema", "rowid"}
_NO_COLUMNS |= {"localtime", "localtimestamp", "current_date", "current_time", "current_timestamp"}


def check_names(sql: str, tree: exp.Query) -> None:
    """Check that a statement names only objects and functions that exist.

    Raises:
        InvalidInput: A table, view or function is unknown or not answered over DuckDB.
    """
    _check_functions(sql)
    objects = {item.name: item for item in schema()}
    ctes = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    for column in tree.find_all(exp.Column):
        if column.name.lower() in _NO_COLUMNS and column.name not in _columns(tree):
            if column.name.lower() in _USERS:
                raise InvalidInput(
                    f"There is no column '{column.name}', and a DuckDB file knows no user; pass its name as @name."
                )
            raise unknown("column", column.name, _columns(tree))
    for table in tree.find_all(exp.Table):
        name = table.name.lower()
        if isinstance(table.this, exp.Func):
            name = (table.this.name or table.this.sql_name()).lower()
            if name not in objects or objects[name].kind != "function":
                raise unknown("table function", name, [it.name for it in objects.values() if it.kind == "function"])
            continue
        if not table.db and name in ctes:
            continue
        if name not in objects or objects[name].kind == "function":
            raise unknown("table or view", table.name, [it.name for it in objects.values() if it.kind != "function"])


def _check_functions(sql: str) -> None:
    known = dict(functions())
    tokens = GoogleSQL().tokenize(sql)
    own = {item.name.upper() for item in schema()}
    for index, (token, following) in enumerate(pairwise(tokens)):
        if following.token_type != TokenType.L_PAREN or token.token_type not in (TokenType.VAR, TokenType.RANGE):
            continue
        name, prefix = token.text.upper(), ""
        if index > 1 and tokens[index - 1].token_type == TokenType.DOT:
            prefix = tokens[index - 2].text.upper() + "."
        if prefix == "SAFE." or not prefix:
            note = known.get(name)
        else:
            note = "refused" if prefix in REFUSED_PREFIXES else None
            if note is None:  # a qualified table function
                continue
        if note is not None and note.startswith("refused"):
            instead = note.partition(": ")[2] or "docs/sql.md lists what is"
            raise InvalidInput(f"{prefix}{name} is not answered over a DuckDB file; {instead}.")
        if note is None and name.startswith(REFUSED_PREFIXES):
            raise InvalidInput(f"{name} is not answered over a DuckDB file; docs/sql.md lists what is.")
        if note is None and name not in _NO_FUNCTIONS and name not in own:
            answered = [each for each, why in known.items() if not why.startswith("refused")]
            raise unknown("function", token.text, [*answered, *(it.name for it in schema() if it.kind == "function")])


def describe(error: Exception, tree: exp.Query) -> InvalidInput:
    """Return the error for a statement that DuckDB refused. Its message has GoogleSQL's names instead of DuckDB's."""
    text = str(error)
    if (match := _NOT_FOUND.search(text)) is not None:
        return unknown("table or alias", match[1], [node.alias_or_name for node in tree.find_all(exp.Table)])
    if (match := _COLUMN.search(text)) is not None:
        missed = match[1] or match[2]
        return unknown("column", missed, [it for it in _columns(tree) if it.lower() != missed.lower()])
    if (match := _NO_MATCH.search(text)) is not None:
        called = match[1].upper()
        written = f"{called}(" in tree.sql(dialect="bigquery").upper() if called[0].isalpha() else len(called) == 1
        subject = called if written else "A function or operator"
        return InvalidInput(f"{subject} takes no arguments of these types: {_in_googlesql(match[2])}.")
    if (match := _ZONE.search(text)) is not None:
        return InvalidInput(
            f"There is no time zone '{match[1]}'; write a name such as 'Europe/Berlin'. Over DuckDB, an offset such as "
            "'+05:30' is a literal, not a parameter or column."
        )
    if text.startswith("Parser Error"):
        return InvalidInput("DuckDB cannot answer the statement as it is written; docs/sql.md lists what it answers.")
    first = _PREFIX.sub("", text.strip().split("\n")[0])
    return InvalidInput(f"The statement cannot be answered: {_in_googlesql(first)}")


def _columns(tree: exp.Query) -> list[str]:
    """Return the names of columns that the statement may use: those of the objects it names, and its own aliases."""
    named = {table.name.lower() for table in tree.find_all(exp.Table)}
    named |= {table.this.name.lower() for table in tree.find_all(exp.Table) if isinstance(table.this, exp.Func)}
    columns = [column.name for item in schema() if item.name in named for column in item.columns]
    return columns + [alias.alias for alias in tree.find_all(exp.Alias)]


def _in_googlesql(text: str) -> str:
    """Replace DuckDB's names of types by those of GoogleSQL, and drop its hints."""
    text = text.split(" You might need")[0].replace("main.", "")
    return re.sub(r"\b[A-Z][A-Z0-9_]+\b", lambda match: _TYPES.get(match[0], match[0]), text)

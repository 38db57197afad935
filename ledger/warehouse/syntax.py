"""Say where a statement is not valid GoogleSQL, in words about the statement instead of SQLGlot's."""

from __future__ import annotations

import re

import sqlglot
from sqlglot import Token
from sqlglot.dialects.bigquery import BigQuery

from ledger.errors import InvalidInput

_STARTS = frozenset({"SELECT", "WITH", "(", "FROM"})
_NOT_CLOSED = re.compile(r"Missing (\S+) from \d+:(\d+)")


def syntax_error(sql: str, error: sqlglot.errors.SqlglotError) -> InvalidInput:
    """Return the error for a statement that SQLGlot cannot parse. Its message quotes the place.

    Args:
        sql: The statement as it was parsed.
        error: SQLGlot's error.
    """
    if isinstance(error, sqlglot.errors.ParseError) and error.errors:
        tokens = BigQuery().tokenize(sql)
        last = _refused(tokens, error.errors[0])
        first = tokens[max(last - 1, 0)]
        last = max(last, min(1, len(tokens) - 1))
        quoted = re.sub(r"\s+", " ", sql[first.start : tokens[last].end + 1])
        if len(quoted) > 60:
            quoted = f"{quoted[:57]}..."
        return InvalidInput(f"The statement is not valid GoogleSQL near '{quoted}' ({place(sql, first.start)}).")
    match = _NOT_CLOSED.search(str(error.__cause__ or ""))
    if match is not None:
        where = place(sql, int(match[2]))
        return InvalidInput(f"The statement is not valid GoogleSQL: the quote {match[1]} at {where} is not closed.")
    return InvalidInput("The statement is not valid GoogleSQL: a text or a comment in it is not closed.")


def _refused(tokens: list[Token], details: dict[str, object]) -> int:
    """Return the index of the token that does not fit: the first one if no query begins so."""
    if tokens[0].text.upper() not in _STARTS:
        return 0
    where = (details.get("line"), details.get("col"))
    return next((index for index, token in enumerate(tokens) if (token.line, token.col) == where), len(tokens) - 1)


def place(sql: str, offset: int) -> str:
    line, column = sql.count("\n", 0, offset) + 1, offset - sql.rfind("\n", 0, offset)
    return f"line {line}, column {column}"

"""Say where a statement is not valid GoogleSQL, in words about the statement instead of SQLGlot's."""

from __future__ import annotations

import re
from itertools import pairwise

import sqlglot
from sqlglot import Token, TokenType
from sqlglot.dialects.bigquery import BigQuery

from ledger.errors import InvalidInput

_STARTS = frozenset({"SELECT", "WITH", "(", "FROM"})
#: How SQLGlot refuses DATE_ADD(d, 7); its error has no place.
_NO_INTERVAL = re.compile(r"INTERVAL expression expected but got '(.+)'\Z", re.DOTALL)
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
        hint = _hint(sql, tokens, last)
        return InvalidInput(f"The statement is not valid GoogleSQL near '{quoted}' ({place(sql, first.start)}){hint}.")
    match = _NO_INTERVAL.search(str(error))
    if match is not None:
        number = match[1] if match[1].isalnum() else "7"
        return InvalidInput(
            "The statement is not valid GoogleSQL: DATE_ADD, DATE_SUB, TIMESTAMP_ADD and the like take an interval, "
            f"not {match[1]}; write INTERVAL {number} DAY."
        )
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


def _hint(sql: str, tokens: list[Token], last: int) -> str:
    """Return what to write in the place of the tokens about one that does not fit, if that is known."""
    around = tokens[max(last - 1, 0) : last + 2]
    if any(token.text.upper() in ("UNION", "INTERSECT", "EXCEPT") for token in around[:2]):
        name = next(token.text.upper() for token in around if token.text.upper() in ("UNION", "INTERSECT", "EXCEPT"))
        return f"; write {'UNION ALL or UNION' if name == 'UNION' else name} DISTINCT"
    strings = [token for token in around if token.token_type == TokenType.STRING]
    if any(one.end + 1 == other.start and sql[one.end] == sql[other.start] for one, other in pairwise(strings)):
        return "; a quote inside a text is written as \\'"
    return ""


def place(sql: str, offset: int) -> str:
    line, column = sql.count("\n", 0, offset) + 1, offset - sql.rfind("\n", 0, offset)
    return f"line {line}, column {column}"

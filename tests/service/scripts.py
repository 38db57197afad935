"""The statements of a script."""

from __future__ import annotations

from collections.abc import Iterator

import sqlglot
from sqlglot import exp
from sqlglot.dialects.bigquery import BigQuery
from sqlglot.tokens import TokenType


def split(sql: str) -> Iterator[tuple[str, list[tuple[exp.Expr, bool]]]]:
    """Yield each statement with the IFs around it; the condition of an IF is yielded as a SELECT.

    A branch is the condition and whether it holds; that of a condition itself is the last, marked by its text.
    """
    tokens = BigQuery().tokenize(sql)
    branches: list[tuple[exp.Expr, bool]] = []
    start, place = 0, 0

    def text(first: int, after: int) -> str:
        return sql[tokens[first].start : tokens[after - 1].end + 1]

    while place < len(tokens):
        word = tokens[place].text.upper()
        if place == start and word in ("IF", "ELSE", "END", "BEGIN", "COMMIT"):
            end = place
            if word == "IF":
                while tokens[end].text.upper() != "THEN":
                    end += 1
                condition = f"SELECT {text(place + 1, end)}"
                parsed = sqlglot.parse_one(condition, dialect=BigQuery).selects[0]
                parsed.meta["text"] = condition
                branches.append((parsed, True))
                yield condition, list(branches)
            elif word == "ELSE":
                branches[-1] = (branches[-1][0].copy(), False)
                branches[-1][0].meta.pop("text", None)
            else:
                branches = branches[:-1] if word == "END" else branches
                while end < len(tokens) and tokens[end].token_type != TokenType.SEMICOLON:
                    end += 1
            start = place = end + 1
        elif tokens[place].token_type == TokenType.SEMICOLON:
            if start < place:
                yield text(start, place), list(branches)
            start = place = place + 1
        else:
            place += 1
    if start < len(tokens):
        yield text(start, len(tokens)), list(branches)

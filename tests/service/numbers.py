"""Which numbers Google's exact parsing of JSON refuses."""

from __future__ import annotations

import json
from decimal import Decimal

from ledger.warehouse.json_numbers import bigquery_spelling


def refused_numbers(text: str | None) -> str | None:
    """The first number of a JSON text that exact parsing refuses; None if it refuses none, or the text is no JSON.

    `tests/service/test_numbers.py` compares it with verdicts of Google's analyzer.
    """
    if not text or ("." not in text and "e" not in text and "E" not in text):
        return None
    refused: list[str] = []

    def check(number: str) -> float:
        if Decimal(bigquery_spelling(float(number))) != Decimal(number):
            refused.append(number)
        return 0.0

    try:
        json.loads(text, parse_float=check)
    except ValueError:
        return None
    return refused[0] if refused else None

"""Compare the spelling of doubles in JSON for BigQuery with what Google's own analyzer accepts.

The analyzer is zetasql, which runs as WebAssembly and is in the development environment:
``.venv/bin/python tools/json_doubles.py --doubles 100000``. It prints how many doubles exact parsing refuses as they
are written with the fewest digits, and fails if it refuses one as the ledger spells it, if a double is not the same
after parsing (exactly, or with 'round'), or if the ledger is wrong about which are refused. ``--record FILE`` writes
the verdicts that `tests/service/test_numbers.py` reads.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from ledger.warehouse.json_numbers import bigquery_spelling, exactly_parsable

AT_ONCE = 1_000
SQL = """
SELECT
  TO_JSON_STRING(SAFE.PARSE_JSON(text, wide_number_mode => 'exact')),
  TO_JSON_STRING(SAFE.PARSE_JSON(text, wide_number_mode => 'round'))
FROM UNNEST([{texts}]) AS text WITH OFFSET AS place
ORDER BY place
"""


class Analyzer:
    """Google's analyzer and its reference implementation of PARSE_JSON."""

    def __init__(self) -> None:
        from zetasql.api import CatalogBuilder, PreparedQuery
        from zetasql.types import AnalyzerOptions, LanguageOptions, ZetaSQLBuiltinFunctionOptions

        language = LanguageOptions.maximum_features()
        functions = ZetaSQLBuiltinFunctionOptions(language_options=language)
        self._catalog = CatalogBuilder("doubles").with_builtin_functions(functions).build()
        self._options = AnalyzerOptions(language_options=language)
        self._query = PreparedQuery

    def parse(self, texts: list[str]) -> list[tuple[float | None, float | None]]:
        """The doubles that exact and rounding parsing make of each text; None if it is refused."""
        sql = SQL.format(texts=", ".join(f"'{text}'" for text in texts))
        query: Any = self._query.builder().set_sql(sql).set_analyzer_options(self._options).set_catalog(self._catalog)
        rows = query.prepare().execute().content.table_data.row
        return [tuple(_double(cell.string_value) for cell in row.cell) for row in rows]  # type: ignore[misc]


def _double(text: str) -> float | None:
    return None if text == "null" else float(text)


def doubles(seed: int) -> Iterator[float]:
    """Doubles as programs have them, and any: amounts, times, shares, and random bits."""
    chance = random.Random(seed)  # noqa: S311 - a sample of doubles
    while True:
        yield chance.uniform(-1e6, 1e6)
        yield round(chance.uniform(0, 2e9), 6)
        yield chance.random()
        (number,) = struct.unpack("<d", chance.randbytes(8))
        if number - number == 0:  # neither infinite nor no number
            yield number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--doubles", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", type=Path)
    wanted = parser.parse_args()
    analyzer, numbers = Analyzer(), doubles(wanted.seed)
    refused, faults, recorded = 0, [], []
    for _ in range(0, wanted.doubles, AT_ONCE):
        batch = [next(numbers) for _ in range(AT_ONCE)]
        shortest = [repr(number) for number in batch]
        spelled = [exactly_parsable(text) for text in shortest]
        answers = analyzer.parse(shortest + spelled)
        for number, text, (exact, rounded), (again, _) in zip(
            batch, shortest, answers[:AT_ONCE], answers[AT_ONCE:], strict=True
        ):
            refused += exact is None
            expected = Decimal(bigquery_spelling(number)) != Decimal(text)
            if again != number or rounded != number or (exact is None) != expected:
                faults.append((text, exact, rounded, again))
            recorded.append(f"{text}\t{'refused' if exact is None else 'accepted'}\n")
    print(f"{wanted.doubles} doubles: {refused} refused with the fewest digits, {len(faults)} faults {faults[:3]}")
    if wanted.record:
        kept = [line for line in recorded if line.endswith("refused\n")][:300] + recorded[:2_000]
        wanted.record.write_text("".join(dict.fromkeys(kept)))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()

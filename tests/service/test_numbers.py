"""The doubles that exact parsing refuses, and the spelling in which it accepts them."""

from __future__ import annotations

import itertools
import random
import struct
from pathlib import Path

import orjson
import pytest

from ledger.model.values import canonical
from ledger.warehouse.json_numbers import bigquery_spelling, exactly_parsable
from service.numbers import refused_numbers

#: Doubles with the fewest digits, and what Google's analyzer says of each (``tools/json_doubles.py --record``).
VERDICTS = [line.split("\t") for line in (Path(__file__).parent / "verdicts.tsv").read_text().splitlines()]


def test_the_stand_in_refuses_the_doubles_that_googles_analyzer_refuses():
    assert {verdict for _, verdict in VERDICTS} == {"accepted", "refused"}
    assert len(VERDICTS) > 1_000
    for text, verdict in VERDICTS:
        assert (refused_numbers(text) is not None) == (verdict == "refused"), text


def test_every_double_is_spelled_so_that_it_is_accepted_and_stays_the_same():
    chance = random.Random(3)
    random_bits = (struct.unpack("<d", chance.randbytes(8))[0] for _ in itertools.count())
    finite = itertools.islice((number for number in random_bits if number - number == 0), 3_000)
    for number in (*finite, *(float(text) for text, _ in VERDICTS), 5e-324, 1.7976931348623157e308, 2.0**1023):
        text = exactly_parsable(canonical(number))
        assert struct.pack("<d", orjson.loads(text)) == struct.pack("<d", number)
        assert refused_numbers(text) is None


def test_doubles_that_are_accepted_anyway_strings_and_integers_keep_their_text():
    texts = ["67.174118", '"67.174118', "\\", "1.5e3"]
    value = {"a": [1, -2.5, 1e300, 0.0, -0.0, *texts], "67.174118": 18446744073709551615}
    assert exactly_parsable(canonical(value)) == canonical(value)


@pytest.mark.parametrize(("text", "spelled"), [("67.174118", "6717411800000001e-14"), ("-1e23", "-9999999999999999e7")])
def test_a_double_that_is_refused_is_written_as_bigquery_writes_it(text, spelled):
    assert exactly_parsable(f'{{"a":[{text}],"b":"{text}"}}') == f'{{"a":[{spelled}],"b":"{text}"}}'
    assert bigquery_spelling(float(text)) == spelled

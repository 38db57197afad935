"""Values: the boundaries of what can be recorded, one by one."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid

import numpy
import orjson
import pytest

from ledger import InvalidInput
from ledger.model.values import MAX_DEPTH, canonical, check_text, check_whole, decode


@pytest.mark.parametrize(
    "value",
    [
        2**64 - 1,
        -(2**63),
        2**63,
        0,
        -1,
        5e-324,
        1.7976931348623157e308,
        -0.0,
        0.1,
        1e22,
        "",
        [],
        {},
        None,
        True,
        False,
        "\x00\x1f\u2028",
        "héllo 👩\u200d👩\u200d👧 日本",
        {"": ""},
        {"a": {"b": [1, 1.0, True, "1"]}},
        [[[]]],
        "\U0010ffff",
    ],
    ids=repr,
)
def test_a_value_at_the_boundary_comes_back(value):
    assert repr(decode(canonical(value))) == repr(value)


def test_one_and_one_point_zero_and_true_are_three_values():
    assert [canonical(value) for value in (1, 1.0, True, "1")] == ["1", "1.0", "true", '"1"']


def test_keys_are_sorted_and_no_space_is_wasted():
    assert canonical({"b": [1, 2], "a": {"d": 1, "c": 2}}) == '{"a":{"c":2,"d":1},"b":[1,2]}'


def test_tuples_are_arrays():
    assert canonical({"pair": (1, (2, "x"))}) == '{"pair":[1,[2,"x"]]}'


@dataclasses.dataclass
class Point:
    x: int = 1


class Colour(enum.Enum):
    RED = (1,)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "inf"),
        (2**64, "record it as text"),
        (-(2**63) - 1, "record it as text"),
        (10**5000, "16610 bits"),
        ({10**5000: 1}, "JSON keys are text"),
        ("\ud800", "lone surrogate"),
        ({"\udfff": 1}, "lone surrogate"),
        ({1: 2}, "JSON keys are text"),
        ({None: 2}, "JSON keys are text"),
        (datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), "datetime"),
        (datetime.date(2026, 1, 1), "date"),
        (uuid.UUID(int=1), "UUID"),
        (decimal.Decimal("1.5"), "Decimal"),
        (b"bytes", "bytes"),
        ({1, 2}, "set"),
        (Point(), "Point"),
        (Colour.RED, "Colour"),
        (numpy.int64(1), "int64"),
        (numpy.float64(1.5), "float64"),
        (numpy.array([1]), "ndarray"),
        (orjson.Fragment(b"not json"), "Fragment"),
        (range(3), "range"),
        ((x for x in ()), "generator"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize(
    "wrap",
    [lambda v: v, lambda v: [v], lambda v: ("a", v), lambda v: {"part": v}],
    ids=["plain", "list", "tuple", "dict"],
)
def test_what_json_cannot_carry_is_refused_and_named(value, says, wrap):
    with pytest.raises(InvalidInput, match=says) as refused:
        canonical(wrap(value), "strategy")
    assert "strategy" in str(refused.value)


def test_the_path_to_the_culprit_is_named():
    with pytest.raises(InvalidInput, match=r"constraints\.filters\[1\]\.since is of type datetime.date"):
        canonical({"filters": [{}, {"since": datetime.date(2026, 1, 1)}]}, "constraints")


def nested(depth: int, kind: str) -> object:
    value: object = 1
    for _ in range(depth):
        value = {"list": [value], "dict": {"k": value}, "tuple": (value,)}[kind]
    return value


@pytest.mark.parametrize("kind", ["list", "dict", "tuple"])
def test_nesting_goes_to_the_limit_and_no_further(kind):
    canonical(nested(MAX_DEPTH, kind))
    for depth in (MAX_DEPTH + 1, 260, 5000):
        with pytest.raises(InvalidInput, match="250"):
            canonical(nested(depth, kind))


def test_many_brackets_side_by_side_are_not_deep():
    assert decode(canonical([[]] * 1000)) == [[]] * 1000
    assert decode(canonical("[{" * 1000)) == "[{" * 1000


def test_what_contains_itself_is_refused():
    loop: list[object] = []
    loop.append(loop)
    ring: dict[str, object] = {}
    ring["ring"] = [ring]
    for value in (loop, ring):
        with pytest.raises(InvalidInput, match="contains itself"):
            canonical(value)


def test_a_reader_gets_fresh_objects_each_time():
    text = canonical({"list": [1]})
    decode(text)["list"].append(2)
    assert decode(text) == {"list": [1]}


@pytest.mark.parametrize(
    "text", ["a", "a" * 255, "user:1/2", "Orders Trend for CFC-1", "日本語", "ключ", "é", "e\u0301", "🎉"]
)
def test_an_id_may_be_any_printable_text(text):
    assert check_text(text, "key") == text


@pytest.mark.parametrize(
    "text",
    ["", " a", "a ", "a\n", "\n", "\x00", "a\x7f", "\ud800", "a" * 256, "\u2028", 5, None, b"a", ["a"]],
    ids=ascii,
)
def test_an_id_that_cannot_be_one_is_refused_by_name(text):
    with pytest.raises(InvalidInput, match="user_id"):
        check_text(text, "user_id")


@pytest.mark.parametrize(
    "number", [True, 1.0, "1", None, -1, 2**63, 10**5000, numpy.int64(1)], ids=lambda it: type(it).__name__
)
def test_a_whole_number_is_an_integer_within_bounds(number):
    with pytest.raises(InvalidInput, match="version must be a whole number"):
        check_whole(number, "version")
    assert check_whole(0, "version") == 0


def test_canonical_text_differs_from_rfc_8785_as_it_says():
    """In numbers and in the order of keys beyond U+FFFF; there it would be 1, 0, 10000000000000000, 0.000001 ..."""
    numbers = [1.0, -0.0, 1e15, 1e16, 1e-5, 9.9e-6, 1e21, 1e-7, 2**53 + 1]
    text = "[1.0,-0.0,1000000000000000.0,1e16,0.00001,9.9e-6,1e21,1e-7,9007199254740993]"
    assert canonical(numbers).replace("e+", "e") == text  # the sign is of orjson's release
    assert canonical({"\U0001f600": 1, "\ufb33": 2}) == '{"\ufb33":2,"\U0001f600":1}'
    assert canonical("\x7f\u2028\x0b\b/<é") == '"\x7f\u2028\\u000b\\b/<é"'

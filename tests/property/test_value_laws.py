"""Values: the canonical text is exact, and one for each value."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import InvalidInput
from ledger.model.values import canonical, decode
from support.streams import json_values, scalars


def same(one: object, other: object) -> bool:
    """Equal with types: 1, 1.0 and True are three values, and 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


@given(json_values)
def test_a_value_comes_back_exactly(value):
    assert same(decode(canonical(value)), value)


@given(json_values)
def test_other_readers_of_json_understand_the_text(value):
    assert same(json.loads(canonical(value)), value)


@given(json_values)
def test_the_text_of_a_text_is_itself(value):
    assert canonical(decode(canonical(value))) == canonical(value)


@given(st.dictionaries(st.text("abé😀", max_size=3), scalars, max_size=6), st.randoms())
def test_the_order_of_keys_does_not_matter(value, random):
    items = list(value.items())
    random.shuffle(items)
    assert canonical(dict(items)) == canonical(value)


@given(json_values, json_values)
def test_two_values_have_one_text_only_where_they_are_the_same(one, other):
    assert (canonical(one) == canonical(other)) == same(one, other)


bad = st.sampled_from(
    [float("nan"), float("inf"), -float("inf"), 2**64, -(2**63) - 1, "\ud800", b"x", {1}, 1j, object()]
)


@given(bad, st.lists(st.sampled_from(["list", "tuple", "dict"]), max_size=4))
def test_what_is_no_json_is_refused_however_deep_it_hides(value, wrapping):
    for kind in wrapping:
        value = {"list": [1, value], "tuple": (value,), "dict": {"k": value, "other": 1}}[kind]
    with pytest.raises(InvalidInput, match="value"):
        canonical(value)

"""Criteria compare values: a file, DuckDB and BigQuery find the sessions whose values equal the one asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from ledger import Change
from ledger.model.equality import canonical_texts, comparison_text, equal_texts
from ledger.model.queries import SessionQuery
from ledger.model.values import canonical
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import SetClock, event
from ledger.testing.harness import listed
from ledger.warehouse.projection import Projection
from support import histories as h
from support.sql_targets import OnDuckDB, OnEmulator, Target

#: Numbers at which one of two forms ends, or at which doubles are too few.
EDGES = [
    *(0, 1, -1, 10, 0.1, -2.5, 1e-7, 5e-324, 1e15, 1e16, 1e22, 1.7976931348623157e308, 1 / 3),
    *(2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63, -(2**63), 2**64 - 2048, 2**64 - 1, 2.0**64),
]
numbers = st.sampled_from(EDGES) | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=4) | st.sampled_from(
    ["1", "1.0", "true", "null", "[1]", '{"a":1}', '"', "\u2028", "é", "e\u0301", "/<\\"]
)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars | numbers,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abé"), inner, max_size=3),
    max_leaves=5,
)


def is_number(value: Any) -> bool:
    return type(value) in (int, float)


def equal(one: Any, other: Any) -> bool:
    """The definition again, in other words."""
    if is_number(one) and is_number(other):
        return Fraction(one) == Fraction(other)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


@st.composite
def respelled(draw: st.DrawFn, value: Any) -> Any:
    """An equal value: numbers in either form, keys in any order."""
    if isinstance(value, dict):
        return {key: draw(respelled(item)) for key, item in draw(st.permutations(list(value.items())))}
    if isinstance(value, list):
        return [draw(respelled(item)) for item in value]
    if not is_number(value):
        return value
    forms: list[Any] = [value]
    if float(value) == value:
        forms.append(float(value))
    if -(2**63) <= value < 2**64 and int(value) == value:
        forms.append(int(value))
    return draw(st.sampled_from([*forms, *([] if value else [-0.0])]))


@st.composite
def asked_of(draw: st.DrawFn, most: int) -> tuple[list[Any], list[Any]]:
    """Values of sessions, some of them equal, and values to ask for."""
    bases = draw(st.lists(values, min_size=1, max_size=most))
    stored = [draw(respelled(base)) for base in bases for _ in range(draw(st.integers(1, 3)))]
    return draw(st.permutations(stored)), [draw(respelled(base)) for base in bases] + [draw(values)]


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """A JSON text of a value, as another writer might have spelled it."""
    if isinstance(value, dict):
        items = draw(st.permutations(list(value.items())))
        return "{" + ", ".join(f"{draw(written(key))}: {draw(written(item))}" for key, item in items) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(draw(written(item)) for item in value) + "]"
    if isinstance(value, float):
        return draw(st.sampled_from([repr(value), f"{value:.16e}", f"{value:.16E}"]))
    return json.dumps(value, ensure_ascii=draw(st.booleans()))


quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@given(st.data(), values, values)
def test_equality_is_that_of_the_values(data: st.DataObject, one: Any, other: Any) -> None:
    again = data.draw(respelled(one))
    assert comparison_text(one) == comparison_text(again)
    assert (comparison_text(one) == comparison_text(other)) == equal(one, other)
    assert equal_texts(again, [canonical(one), canonical(other), "{"]) == [
        canonical(each) for each in (one, other) if equal(one, each)
    ]


@given(st.data(), values)
def test_the_canonical_texts_are_those_of_all_equal_values(data: st.DataObject, value: Any) -> None:
    found = canonical_texts(value)
    if found is None:
        assert isinstance(value, dict | list)
    else:
        assert canonical(data.draw(respelled(value))) in found
        assert set(equal_texts(value, found)) == set(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("criteria")


@settings(quick, max_examples=40)
@given(asked_of(6))
@example(([1e16, 10**16, [1e16], [10**16]], [1e16, [1e16]]))
@example(([0, 0.0, -0.0, False, None], [0, -0.0, False, None]))
def test_a_file_finds_the_sessions_with_an_equal_value(folder: Path, asked: tuple[list[Any], list[Any]]) -> None:
    stored, wanted = asked
    (folder / "l.db").unlink(missing_ok=True)
    with closing(SqliteStore(folder / "l.db", clock=SetClock(), synchronous="NORMAL")) as store:
        for number, value in enumerate(stored):
            store.append(f"s{number}", event(number, Change("attribute", "v", value), user_id="ada"))
        for value in wanted:
            found = listed(store, SessionQuery(attributes={"v": value}), 2)
            assert sorted(found) == sorted(f"s{number}" for number, it in enumerate(stored) if equal(value, it))


def check(target: Target, stored: list[Any], texts: list[str], wanted: list[Any]) -> None:
    events = []
    for number, (value, text) in enumerate(zip(stored, texts, strict=True)):
        made = h.event(1, ("attribute", "v", value), ("attribute", "w", number % 2), session=f"s{number}")
        events.append(replace(made, changes=(replace(made.changes[0], text=text), made.changes[1])))
    target.load(h.shuffled(h.rows_of(events), len(stored)))
    until = h.DAY + timedelta(days=1)
    for value in wanted:
        for others in ([], [("attribute", "w", 1.0)]):
            found = Projection(target).sessions(
                *(h.DAY, until),
                before=(until, ""),
                query=SessionQuery(),
                wanted=[("attribute", "v", value), *others],
                at_most=99,
            )
            meet = [f"s{n}" for n, it in enumerate(stored) if equal(value, it) and (not others or n % 2)]
            assert sorted(each.session_id for each in found) == sorted(meet), (value, texts)


@pytest.fixture(scope="module")
def on_duckdb(tmp_path_factory: pytest.TempPathFactory) -> OnDuckDB:
    return OnDuckDB(tmp_path_factory.mktemp("duckdb"))


@pytest.mark.duckdb
@settings(quick, max_examples=12)
@given(asked_of(5), st.data())
def test_duckdb_finds_the_sessions_with_an_equal_value(
    on_duckdb: OnDuckDB, asked: tuple[list[Any], list[Any]], data: st.DataObject
) -> None:
    stored, wanted = asked
    check(on_duckdb, stored, [data.draw(written(value)) for value in stored], wanted)


@pytest.fixture(scope="module")
def on_emulator(emulator: Any) -> Iterator[OnEmulator]:
    target = OnEmulator(emulator, "criteria")
    yield target
    target.close()
    emulator.client.delete_dataset("criteria", delete_contents=True)


@pytest.mark.emulator
@settings(quick, max_examples=4, phases=[Phase.explicit, Phase.generate])  # to shrink would take many minutes
@given(asked_of(5), st.data())
def test_bigquery_finds_the_sessions_with_an_equal_value(
    on_emulator: OnEmulator, asked: tuple[list[Any], list[Any]], data: st.DataObject
) -> None:
    stored, wanted = asked
    check(on_emulator, stored, [data.draw(written(value)) for value in stored], wanted)

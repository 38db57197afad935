"""The fields: those of the design's table, keyed as it says, and the shape of each value."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ledger import InvalidInput
from ledger.model.fields import FIELDS, FIXED, check_change, field_named

TABLE = """
| question, title, session_type, summary | - |
| status | - |
| constraints, response_plan | - |
| strategy | - |
| expires_at | - |
| error | - |
| lineage | - |
| tool_call | call id |
| tool_call_status | call id |
| tool_call_result | call id |
| message | message id |
| query | query id |
| context, result, attribute | name |
| tag | tag |
| grant | user id |
| child | session id |
| score | score id |
"""
KEYED = {
    name.strip(): key.strip() != "-"
    for _, names, key, _ in (line.split("|") for line in TABLE.strip().splitlines())
    for name in names.split(",")
}

GOOD = {
    "question": ["", "Why?"],
    "title": ["x"],
    "session_type": ["chat"],
    "summary": ["## Done"],
    "status": ["active", "completed", "failed", "on_hold", "s2"],
    "constraints": [{}, {"kpi": ["orders"]}],
    "response_plan": [{"insights": []}],
    "strategy": ["# Plan", {"steps": [1]}, [1], 5, None, False],
    "expires_at": [None, "2026-11-21T05:00:00Z", "2026-11-21T05:00:00+02:00"],
    "error": [{"type": "Timeout", "message": "late"}, {"type": "a", "message": "b", "stack": []}],
    "lineage": [{"session_id": "a", "version": 3, "kind": "fork"}],
    "tool_call": [{"name": "search"}, {"name": "search", "arguments": {"q": 1}}],
    "tool_call_status": ["pending", "running", "completed", "failed"],
    "tool_call_result": [None, {"rows": []}, "text", 0],
    "message": [
        {"role": "user", "content": "hi"},
        {"role": "tool", "content": None},
        {"role": "assistant", "content": []},
    ],
    "query": [{"query_type": "sql", "cache_hit": False}],
    "context": [None, 1, {"deep": {}}],
    "result": [[], "x"],
    "attribute": [True, 1.5, "x"],
    "tag": [True],
    "grant": ["read", "write"],
    "child": [{"version": 2, "kind": "fork"}],
    "score": [{"name": "reward", "value": 0.5}, {"name": "label", "value": "good"}],
}
BAD = {
    "question": [None, 5, ["x"]],
    "title": [{}],
    "session_type": [True],
    "summary": [b"x"],
    "status": ["", "Active", "two words", "a" * 64, 5, None, "é", "active\n"],
    "constraints": [None, [], "x", 5],
    "response_plan": ["x"],
    "expires_at": ["soon", "2026-11-21T05:00:00", 5, datetime(2026, 1, 1)],  # noqa: DTZ001
    "error": [{}, {"type": "x"}, {"type": 1, "message": "x"}, "boom"],
    "lineage": [{}, {"session_id": 1, "version": 1, "kind": "fork"}],
    "tool_call": [{}, {"name": 5}, "search", None],
    "tool_call_status": ["done", "", None, 1, ["pending"]],
    "message": [{}, {"role": "user"}, {"role": "robot", "content": "x"}, {"role": ["user"], "content": "x"}, "hi"],
    "query": [{}, {"query_type": 5}],
    "tag": [False, None, 1, "true"],
    "grant": ["own", True, None],
    "child": [{}, {"version": 1}],
    "score": [{}, {"name": "x"}],
}


def key_of(name: str) -> str:
    return "k" if KEYED[name] else ""


def test_the_fields_are_those_of_the_table_keyed_as_it_says():
    assert {name: field.keyed for name, field in FIELDS.items()} == KEYED


def test_every_field_has_examples_here():
    assert GOOD.keys() == FIELDS.keys()
    assert FIELDS.keys() - BAD.keys() == {"strategy", "tool_call_result", "context", "result", "attribute"}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in GOOD.items() for value in values], ids=repr
)
def test_a_value_of_the_right_shape_is_recorded_as_it_is(name, value):
    kept = check_change(name, key_of(name), value, removed=False)
    assert kept == value or name == "expires_at"


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values], ids=repr
)
def test_a_value_of_another_shape_is_refused_by_name(name, value):
    with pytest.raises(InvalidInput, match=name):
        check_change(name, key_of(name), value, removed=False)


@pytest.mark.parametrize("name", sorted(KEYED))
def test_a_key_stands_exactly_where_the_field_is_keyed(name):
    with pytest.raises(InvalidInput, match=name):
        check_change(name, "" if KEYED[name] else "k", GOOD[name][0], removed=False)


def test_an_end_is_recorded_in_utc_with_six_decimals():
    for end in ("2026-11-21T05:00:00+02:00", datetime(2026, 11, 21, 3, tzinfo=UTC)):
        assert check_change("expires_at", "", end, removed=False) == "2026-11-21T03:00:00.000000Z"


@pytest.mark.parametrize("key", ["", "k"])
def test_a_free_field_takes_any_value_with_or_without_a_key(key):
    assert check_change("x_anything_1", key, {"a": [1]}, removed=False) == {"a": [1]}


@pytest.mark.parametrize(
    "name", ["nope", "", "x_", "x_Upper", "X_a", "x_" + "a" * 61, "messages", "Question", None, 5, ["x"]]
)
def test_an_unknown_field_is_refused_and_those_there_are_named(name):
    with pytest.raises(InvalidInput) as refused:
        field_named(name)
    assert all(known in str(refused.value) for known in FIELDS)


@pytest.mark.parametrize("name", FIXED)
def test_what_is_fixed_cannot_be_set(name):
    with pytest.raises(InvalidInput, match="fixed for the life of a session"):
        field_named(name)


@pytest.mark.parametrize("key", [5, None, "", " k", "k" * 256, "\ud800"], ids=ascii)
def test_a_key_that_cannot_be_one_is_refused(key):
    with pytest.raises(InvalidInput, match="key of context"):
        check_change("context", key, 1, removed=False)


def test_a_removal_needs_no_value():
    assert check_change("title", "", "ignored", removed=True) is None
    assert check_change("tag", "a", None, removed=True) is None

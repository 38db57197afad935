"""The fields: the shape of each value, and that Session, copies and search follow from ``FIELDS``."""

from __future__ import annotations

import ast
import inspect
import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from ledger import InvalidInput, Session
from ledger.model.copying import to_copy
from ledger.model.fields import FIELDS, FIXED, check_change, field_named
from ledger.model.fold import RegisterValue
from ledger.model.search import SEARCHED_FIELDS, text_of
from ledger.model.session import Head
from ledger.model.values import canonical
from ledger.testing import START

SEARCH_SQL = Path(__file__).parents[2] / "sql" / "statements" / "search_text.sql"
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
    "model_call": [
        {"model": "gemini-2.5-flash"},
        {"model": "m", "input_tokens": 5, "output_tokens": 0, "cost_usd": 0.5, "duration_ms": 0, "more": [1]},
        {"model": "m", "provider": None, "input_tokens": None, "error": {"type": "Timeout", "message": "late"}},
    ],
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
    "model_call": [
        *({}, {"model": None}, {"model": "m", "input_tokens": -1}, {"model": "m", "output_tokens": 1.5}, "m"),
        *({"model": "m", "cost_usd": "0.5"}, {"model": "m", "duration_ms": True}, {"model": "m", "error": "boom"}),
        *({"model": ""}, {"model": "m", "cost_usd": -0.5}, {"model": "m", "time_to_first_token_ms": -1}),
    ],
    "message": [{}, {"role": "user"}, {"role": "robot", "content": "x"}, {"role": ["user"], "content": "x"}, "hi"],
    "query": [{}, {"query_type": 5}],
    "tag": [False, None, 1, "true"],
    "grant": ["own", True, None],
    "child": [{}, {"version": 1}],
    "score": [{}, {"name": "x"}],
}


ANY_JSON = {name for name, field in FIELDS.items() if field.shape.startswith("any JSON")}


def key_of(name: str) -> str:
    return "k" if FIELDS[name].keyed else ""


def test_every_field_has_examples_here():
    assert GOOD.keys() == FIELDS.keys(), "add values that the field takes to GOOD in this module"
    assert BAD.keys() == FIELDS.keys() - ANY_JSON, "add values that the field refuses to BAD in this module"


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


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_key_stands_exactly_where_the_field_is_keyed(name):
    with pytest.raises(InvalidInput, match=name):
        check_change(name, "" if FIELDS[name].keyed else "k", GOOD[name][0], removed=False)


def test_an_end_is_recorded_in_utc_with_six_decimals():
    for end in ("2026-11-21T05:00:00+02:00", datetime(2026, 11, 21, 3, tzinfo=UTC)):
        assert check_change("expires_at", "", end, removed=False) == "2026-11-21T03:00:00.000000Z"


@pytest.mark.parametrize("key", ["", "k"])
def test_a_free_field_takes_any_value_with_or_without_a_key(key):
    assert check_change("x_anything_1", key, {"a": [1]}, removed=False) == {"a": [1]}


@pytest.mark.parametrize("name", ["nope", "", "x_", "x_Upper", "X_a", "x_" + "a" * 61, None, 5, ["x"]])
def test_an_unknown_field_is_refused_and_those_there_are_named(name):
    with pytest.raises(InvalidInput) as refused:
        field_named(name)
    assert all(known in str(refused.value) for known in FIELDS)


@pytest.mark.parametrize(("name", "meant"), [("messages", "message"), ("Question", "question"), ("tags", "tag")])
def test_a_field_that_is_nearly_one_is_refused_with_the_one_that_was_meant(name, meant):
    with pytest.raises(InvalidInput, match=rf"There is no field '{name}'\. Did you mean {meant}\?$"):
        field_named(name)


@pytest.mark.parametrize("name", FIXED)
def test_what_is_fixed_cannot_be_set(name):
    with pytest.raises(InvalidInput, match="set by the ledger"):
        field_named(name)


@pytest.mark.parametrize("key", [5, None, "", " k", "k" * 256, "\ud800"], ids=ascii)
def test_a_key_that_cannot_be_one_is_refused(key):
    with pytest.raises(InvalidInput, match="key of context"):
        check_change("context", key, 1, removed=False)


def test_a_removal_needs_no_value():
    assert check_change("title", "", "ignored", removed=True) is None
    assert check_change("tag", "a", None, removed=True) is None


def declared_in_session() -> dict[str, str]:
    """The attributes that Session declares for fields, each with its docstring."""
    (body,) = ast.parse(inspect.getsource(Session)).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for line, below in pairwise(body.body):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            is_docstring = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            found[line.target.id] = str(below.value.value) if is_docstring else ""
    return found


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
def test_session_declares_an_attribute_for_each_field(field):
    if field.own_form:
        assert getattr(Session, field.attribute, None) is not None, (
            f"add a method {field.attribute} to Session in ledger/model/session.py, and its JSON to session_object in "
            "ledger/cli/output/shapes.py"
        )
        return
    kind, make = ("dict[str, Any]", "_by_key") if field.keyed else ("Any", "_single")
    lines = f'''    {field.attribute}: _Part[{kind}] = {make}("{field.name}")\n    """{field.doc}"""'''
    assert declared_in_session().get(field.attribute) == field.doc, (
        f"add the attribute {field.attribute} to Session in ledger/model/session.py, under its docstring:\n{lines}"
    )


@pytest.mark.parametrize("field", [field for field in FIELDS.values() if not field.own_form], ids=lambda it: it.name)
def test_session_reads_each_field_by_its_attribute(field):
    key, value = key_of(field.name), GOOD[field.name][-1]
    state = {(field.name, key): RegisterValue(canonical(value), 1, "e")}
    found = getattr(Session(Head("s", "ada", START, 1, START, None, "store"), state), field.attribute)
    assert found == ({key: value} if field.keyed else value)


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
def test_a_copy_holds_what_is_copied_in_the_order_in_which_it_was_written(field):
    keys = ("z", "a") if field.keyed else ("",)
    text = canonical(GOOD[field.name][-1])
    state = {(field.name, key): RegisterValue(text, version, "e") for version, key in enumerate(keys, 1)}
    plan = to_copy(state)
    copied = [[it.change.key for it in sequence] for sequence in (plan.free, *plan.ordered)]
    is_ordered = field.ordered or field.name == "tool_call_status"  # in the order of its tool calls
    if field.name == "status" or not field.copied:
        assert copied == [[]]
    else:
        assert copied == ([[], list(keys)] if is_ordered else [list(keys)])


def test_the_statement_that_searches_bigquery_names_the_fields_that_are_searched():
    names = re.search(r"AND field IN \(([^)]*)\)", SEARCH_SQL.read_text(encoding="utf-8"))
    assert names is not None
    assert re.findall(r"'(\w+)'", names[1]) == list(SEARCHED_FIELDS), "see sql/statements/search_text.sql"


@pytest.mark.parametrize("name", SEARCHED_FIELDS)
def test_the_text_of_each_field_that_is_searched_is_known(name):
    assert any(text_of(name, value) for value in GOOD[name]), f"ledger.model.search.text_of has no text of {name}"

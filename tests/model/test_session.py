"""The session object: typed and a mapping, folded from slots, and the reader's own."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from ledger import Change, MessagesNotRead, Session
from ledger.model.fields import FIELDS
from ledger.model.fold import Origin, Written, fold
from ledger.model.session import COLUMNS, Head
from ledger.testing import START, recorded

SEED_COLUMNS = """
session_id user_id question constraints response_plan strategy summary status tool_calls tool_call_status
tool_call_results created_at updated_at
"""
HEAD = Head("s", "ada", START, 4, START, None, "store")


def session(*changes: Change, with_messages: bool = True) -> Session:
    events = [recorded(version, version, [change]) for version, change in enumerate(changes, 1)]
    return Session(HEAD, fold(events), with_messages=with_messages)


def test_a_session_has_the_seeds_columns_in_order_then_four_more():
    assert list(session()) == [*SEED_COLUMNS.split(), "version", "title", "session_type", "expires_at"]
    assert len(session()) == 17


def test_pydantic_takes_a_session_as_it_is_and_writes_it_as_a_dictionary():
    one = session(Change("question", value="Why?"), Change("message", "m", {"role": "user", "content": "hi"}))
    adapter = TypeAdapter(list[Session])
    assert adapter.validate_python([one])[0] is one
    assert adapter.dump_python([one]) == json.loads(adapter.dump_json([one])) == [one.to_dict()]
    assert adapter.json_schema(mode="serialization")["items"]["type"] == "object"
    with pytest.raises(ValidationError, match="instance of Session"):
        adapter.validate_python([one.to_dict()])


FULL = [
    Change("question", value="Why?"),
    Change("constraints", value={"kpi": ["orders"]}),
    Change("response_plan", value={"insights": []}),
    Change("strategy", value="# plan"),
    Change("summary", value="done"),
    Change("status", value="completed"),
    Change("title", value="T"),
    Change("session_type", value="chat"),
    Change("expires_at", value="2026-11-21T05:00:00.000000Z"),
    Change("tool_call", "c1", {"name": "search"}),
    Change("tool_call_result", "c1", {"rows": [1]}),
]


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_is_also_an_attribute(column):
    full = session(*FULL)
    assert full[column] == getattr(full, column)
    assert full[column] is not None
    assert full.get(column) == full[column]


def test_a_session_is_a_mapping():
    full = session(*FULL)
    assert isinstance(full, Mapping)
    assert dict(full)["question"] == "Why?"
    assert full == dict(full)
    assert "question" in full
    assert "messages" not in full
    assert full.get("nope") is None
    with pytest.raises(KeyError):
        _ = full["messages"]
    with pytest.raises(KeyError, match=r"There is no column 'sumary'\. Did you mean summary"):
        _ = full["sumary"]


def test_an_empty_session_has_none_and_empty_lists():
    empty = session()
    assert [empty[c] for c in ("question", "constraints", "tool_call_results", "status", "expires_at")] == [None] * 5
    assert (empty.tool_calls, empty.tool_call_status, empty.tags, empty.context, empty.complete) == (
        [],
        [],
        (),
        {},
        False,
    )


def test_times_are_aware_and_in_utc():
    full = session(*FULL)
    assert full.expires_at == datetime(2026, 11, 21, 5, tzinfo=UTC)
    assert full.created_at == START
    assert full.expires_at.utcoffset().total_seconds() == 0


def test_a_later_status_leaves_the_result():
    calls = session(
        Change("tool_call", "c", {"name": "search", "tables": ["orders"]}),
        Change("tool_call_result", "c", {"rows": 1}),
        Change("tool_call_status", "c", "failed"),
    ).calls
    (call,) = calls
    assert (call.call_id, call.name, call.status, call.result, call.has_result) == (
        "c",
        "search",
        "failed",
        {"rows": 1},
        True,
    )
    assert call.definition["tables"] == ["orders"]


def test_a_result_that_is_null_is_a_result():
    call = session(Change("tool_call", "c", {"name": "c"}), Change("tool_call_result", "c", None)).calls[0]
    assert (call.result, call.has_result, call.status) == (None, True, "pending")


def test_tool_calls_statuses_and_results_stand_in_one_order():
    it = session(
        Change("tool_call", "z", {"name": "first"}),
        Change("tool_call", "a", {"name": "second"}),
        Change("tool_call_status", "a", "completed"),
    )
    assert (it.tool_calls, it.tool_call_status) == (["z", "a"], ["pending", "completed"])


@pytest.mark.parametrize(
    ("statuses", "complete"),
    [
        ([], False),
        (["completed"], True),
        (["completed", "running"], False),
        (["completed", "completed"], True),
        (["failed"], False),
    ],
)
def test_a_session_is_complete_when_there_are_calls_and_all_are_completed(statuses, complete):
    changes = [Change("tool_call_status", str(number), status) for number, status in enumerate(statuses)]
    assert session(*changes).complete is complete


def test_messages_stand_in_the_order_of_their_versions():
    said = [Change("message", key, {"role": "user", "content": key}) for key in ("z", "a", "m")]
    assert [m.message_id for m in session(*said).messages] == ["z", "a", "m"]
    unread = session(with_messages=False)
    assert not unread.has_messages
    with pytest.raises(MessagesNotRead, match="get_messages"):
        _ = unread.messages
    assert getattr(unread, "messages", None) is None
    assert session().messages == ()


def test_an_erased_message_keeps_its_place():
    state = {("message", "m"): Written(None, 3, "e", Origin("ada", START, START))}
    (message,) = Session(HEAD, state, with_messages=True).messages
    assert (message.role, message.content, message.version) == ("erased", None, 3)


def test_free_fields_are_read_by_field_and_key():
    it = session(Change("x_note", value=1), Change("x_note", "k", 2), Change("context", "a", 3))
    assert it.free == {("x_note", ""): 1, ("x_note", "k"): 2}
    assert it.context == {"a": 3}


def test_tags_are_sorted():
    assert session(Change("tag", "b", True), Change("tag", "a", True)).tags == ("a", "b")


def mutate(value: Any) -> None:
    value.clear() if isinstance(value, dict | list) else None


def test_what_a_reader_does_to_one_session_reaches_no_other():
    state = fold([recorded(1, 1, FULL)])
    one, other = Session(HEAD, state), Session(HEAD, state)
    for column in COLUMNS:
        mutate(one[column])
    assert one.constraints == {}
    assert other.constraints == {"kpi": ["orders"]}
    assert other.tool_calls == ["c1"]
    assert state == fold([recorded(1, 1, FULL)])


@pytest.mark.parametrize("name", ["question", "constraints", "version", "head_", "session_id"])
def test_a_session_cannot_be_set(name):
    with pytest.raises(AttributeError):
        setattr(session(*FULL), name, "x")


def test_a_session_can_be_copied_and_pickled():
    full = session(*FULL)
    for again in (copy.deepcopy(full), pickle.loads(pickle.dumps(full))):
        assert again == full
        assert again.calls == full.calls


def test_a_session_shows_what_it_is():
    assert repr(session(Change("status", value="active"))) == "Session('s', version=4, status='active')"


def test_every_field_is_in_the_json_of_a_session_under_its_attribute():
    within_tool_calls = {"calls", "tool_call_status", "tool_call_results"}
    assert {field.attribute for field in FIELDS.values()} - within_tool_calls <= session().to_dict().keys()
    assert session(with_messages=False).to_dict().keys() == session().to_dict().keys() - {"messages"}

"""Tool calls: updates take the columns that a session is read with, and two calls of one tool are two calls."""

from __future__ import annotations

from typing import Any

import pytest

from ledger import InvalidInput, SessionLedger

COLUMNS = ("tool_calls", "tool_call_status", "tool_call_results")
BERN, ROME = {"city": "Bern"}, {"city": "Rome"}


@pytest.fixture
def sid(ledger: SessionLedger) -> str:
    """A session with a call that has an id and a name, a call that has a name, and two calls of one tool."""
    sid = ledger.create_session("ada", "q")
    calls = [{"name": "plot", "id": "p1"}, "sum", {"name": "weather", "arguments": BERN}, {"name": "weather"}]
    ledger.update_constraints(sid, {"tool_calls": calls})
    return sid


def columns(ledger: SessionLedger, sid: str) -> dict[str, Any]:
    session = ledger.get_session(sid)
    return {name: session[name] for name in COLUMNS}


def statuses(ledger: SessionLedger, sid: str) -> dict[str, str]:
    return {call.call_id: call.status for call in ledger.get_session(sid).calls}


# Two calls of one tool


@pytest.mark.parametrize("way", ["constraints", "creation", "fields", "template", "columns"])
def test_two_calls_of_one_tool_without_ids_are_two_calls_whatever_plans_them(ledger, way):
    planned = [{"name": "weather", "arguments": BERN}, {"name": "weather", "arguments": ROME}]
    constraints = {"tool_calls": planned}
    if way == "creation":
        sid = ledger.create_session("ada", "q", fields={"constraints": constraints})
    elif way == "template":
        template = ledger.create_session("ada", "q", fields={"constraints": constraints})
        sid = ledger.create_from_template(template, "ada")
    else:
        sid = ledger.create_session("ada", "q")
        if way == "constraints":
            ledger.update_constraints(sid, constraints)
        elif way == "fields":
            ledger.update_session(sid, {"constraints": constraints, "title": "t"})
        else:
            ledger.update_session(sid, {"tool_calls": planned})
    found = [(call.call_id, call.name, call.status) for call in ledger.get_session(sid).calls]
    assert found == [("weather", "weather", "pending"), ("weather#2", "weather", "pending")]
    assert [call.definition["arguments"] for call in ledger.get_session(sid).calls] == [BERN, ROME]


def test_a_call_with_other_arguments_is_a_further_call_and_one_with_the_same_is_the_call_that_is_there(ledger):
    sid = ledger.create_session("ada", "q")
    for turn, city in enumerate(["Bern", "Rome", "Rome", "Bern"]):
        asked = [{"name": "weather", "arguments": {"city": city}}]
        ledger.update_session(sid, {"tool_calls": asked, "summary": f"turn {turn}"}, event_id=f"turn {turn}")
    again = ledger.update_session(
        sid, {"tool_calls": [{"name": "weather", "arguments": ROME}], "summary": "turn 1"}, event_id="turn 1"
    )
    assert again.replayed
    ledger.update_tool_call_status(sid, "weather", "completed", 3)
    ledger.update_tool_call_status(sid, "weather", "completed", 21)
    calls = [(call.call_id, call.definition["arguments"], call.result) for call in ledger.require_session(sid).calls]
    assert calls == [("weather", BERN, 3), ("weather#2", ROME, 21)]


def test_a_planned_call_without_arguments_gets_those_that_it_is_called_with(ledger):
    sid = ledger.create_session("ada", "q", fields={"tool_calls": ["weather"]})
    ledger.update_tool_call_status(sid, "weather", "running")
    ledger.update_session(sid, {"tool_calls": [{"name": "weather", "input": BERN, "by": "agent"}]})
    (call,) = ledger.require_session(sid).calls
    assert (call.definition, call.status) == ({"name": "weather", "input": BERN, "by": "agent"}, "running")


def test_arguments_that_are_empty_are_arguments_and_no_list_of_a_later_turn_replaces_them(ledger):
    sid = ledger.create_session("ada", "q", fields={"constraints": {"tool_calls": [{"name": "now", "arguments": {}}]}})
    ledger.update_constraints(sid, {"tool_calls": [{"name": "now", "arguments": {"zone": "UTC"}}]})
    assert [call.definition["arguments"] for call in ledger.get_session(sid).calls] == [{}]


@pytest.mark.parametrize(
    "call", [{"id": "weather", "name": "plot"}, {"call_id": "weather", "name": "weather", "arguments": ROME}]
)
def test_an_id_that_another_call_has_is_refused(ledger, sid, call):
    with pytest.raises(InvalidInput, match=r"'weather' has another name or other arguments .* an id of its own"):
        ledger.update_session(sid, {"tool_calls": [call], "summary": "s"})
    with pytest.raises(InvalidInput, match=r"has these tool calls: weather\. To record a further call"):
        ledger.update_session(sid, {"tool_calls": [{"name": "weather", "arguments": BERN}]})


def test_calls_of_one_tool_are_answered_in_turn(ledger, sid):
    ledger.update_tool_call_status(sid, "weather", "running")
    ledger.update_tool_call_status(sid, "weather", "completed", 3)
    assert statuses(ledger, sid) | {"p1": None, "sum": None} == {
        "p1": None,
        "sum": None,
        "weather": "completed",
        "weather#2": "pending",
    }
    ledger.update_tool_call_status(sid, "weather", "failed", 20)
    assert columns(ledger, sid)["tool_call_results"] == {"weather": 3, "weather#2": 20}
    ledger.update_tool_call_status(sid, "weather", "completed", 21)  # all are answered: the last is answered again
    assert columns(ledger, sid)["tool_call_results"] == {"weather": 3, "weather#2": 21}


def test_a_call_of_one_tool_can_be_answered_before_the_others_by_its_id(ledger, sid):
    ledger.update_tool_call_status(sid, "weather#2", "completed", 20)
    ledger.update_tool_call_status(sid, "weather", "completed", 3)
    assert columns(ledger, sid)["tool_call_results"] == {"weather": 3, "weather#2": 20}


def test_a_call_whose_id_only_looks_like_the_next_of_another_is_not_answered_for_it(ledger):
    calls = [{"name": "book", "id": "c"}, {"name": "pay", "id": "c#2"}, "q", "q#2", "q"]
    sid = ledger.create_session("ada", "q", fields={"constraints": {"tool_calls": calls}})
    for name in ("c", "c", "q", "q"):
        ledger.update_tool_call_status(sid, name, "completed")
    assert statuses(ledger, sid) == {
        "c": "completed",
        "c#2": "pending",
        "q": "completed",
        "q#2": "pending",
        "q#3": "completed",
    }


def test_an_answer_that_is_sent_again_answers_no_other_call(ledger, sid):
    first = ledger.update_tool_call_status(sid, "weather", "completed", 3, event_id="answer-1")
    again = ledger.update_tool_call_status(sid, "weather", "completed", 3, event_id="answer-1")
    assert (again.version, again.replayed) == (first.version, True)
    assert statuses(ledger, sid)["weather#2"] == "pending"


def test_a_session_is_complete_only_when_each_call_of_one_tool_is(ledger):
    sid = ledger.create_session("ada", "q", fields={"constraints": {"tool_calls": ["weather", "weather"]}})
    ledger.update_tool_call_status(sid, "weather", "completed")
    assert not ledger.is_session_complete(sid)
    ledger.update_tool_call_status(sid, "weather", "completed")
    assert ledger.is_session_complete(sid)


def test_planning_the_same_calls_again_plans_none_and_one_more_plans_one(ledger, sid):
    ledger.update_constraints(sid, {"tool_calls": ["weather", "weather"]})
    assert [*statuses(ledger, sid)] == ["p1", "sum", "weather", "weather#2"]
    ledger.update_constraints(sid, {"tool_calls": ["weather", "weather", "weather"]})
    assert [*statuses(ledger, sid)] == ["p1", "sum", "weather", "weather#2", "weather#3"]


@pytest.mark.parametrize(
    ("calls", "ids"),
    [
        (["q", "q", "q#2", "q"], ["q", "q#3", "q#2", "q#4"]),
        ([{"name": "x", "id": "q"}, "q"], ["q", "q#2"]),
        (["q", {"name": "x", "id": "q#2"}, "q"], ["q", "q#2", "q#3"]),
        ([{"name": "q", "call_id": "c"}, {"name": "q", "id": ""}, {"name": "q", "id": None}], ["c", "q", "q#2"]),
    ],
    ids=str,
)
def test_no_planned_call_is_lost_to_another_that_has_its_id(ledger, calls, ids):
    sid = ledger.create_session("ada", "q", fields={"constraints": {"tool_calls": calls}})
    names = [call if isinstance(call, str) else call["name"] for call in calls]
    assert {it.call_id: it.name for it in ledger.get_session(sid).calls} == dict(zip(ids, names, strict=True))


# Updates take the columns of tool calls


def test_the_columns_of_a_session_can_be_written_back_as_they_were_read(ledger, sid):
    ledger.update_tool_call_status(sid, "weather", "completed", 3)
    ledger.update_tool_call_status(sid, "p1", "failed", {"error": "no data"})
    before = columns(ledger, sid)
    ledger.update_session(sid, before)
    assert columns(ledger, sid) == before
    empty = ledger.create_session("ada", "q")
    ledger.update_session(empty, {"title": "t", **columns(ledger, empty)})
    assert columns(ledger, empty) == {"tool_calls": [], "tool_call_status": [], "tool_call_results": None}


def test_a_results_key_is_the_calls_id_whichever_calls_are_answered(ledger, sid):
    ledger.update_tool_call_status(sid, "weather", "completed", 3)
    ledger.update_session(sid, {"tool_call_results": {"weather": 4, "weather#2": 20}})
    assert columns(ledger, sid)["tool_call_results"] == {"weather": 4, "weather#2": 20}


def test_statuses_are_a_list_in_the_order_of_the_calls_or_an_object_by_call(ledger, sid):
    ledger.update_session(sid, {"tool_call_status": ["running", "completed", "failed", "pending"]})
    assert statuses(ledger, sid) == {"p1": "running", "sum": "completed", "weather": "failed", "weather#2": "pending"}
    ledger.update_session(sid, {"tool_call_status": {"plot": "completed", "weather#2": "running"}})
    assert statuses(ledger, sid) == {"p1": "completed", "sum": "completed", "weather": "failed", "weather#2": "running"}
    ledger.update_session(sid, {"tool_calls": ["weather#2", "plot"], "tool_call_status": ["completed", "failed"]})
    assert statuses(ledger, sid) == {
        "p1": "failed",
        "sum": "completed",
        "weather": "failed",
        "weather#2": "completed",
    }


def test_calls_their_statuses_and_their_results_are_planned_in_one_update(ledger):
    sid = ledger.create_session("ada", "q")
    ledger.update_session(
        sid,
        {
            "tool_calls": ["weather", {"name": "plot", "id": "p1"}, "weather"],
            "tool_call_status": ["completed", "running", "pending"],
            "tool_call_results": {"weather": 3, "plot": {"url": "a.png"}},
        },
    )
    assert statuses(ledger, sid) == {"weather": "completed", "p1": "running", "weather#2": "pending"}
    assert columns(ledger, sid)["tool_call_results"] == {"weather": 3, "p1": {"url": "a.png"}}
    assert ledger.get_session(sid).version == 2


def test_a_session_may_begin_with_the_columns_of_tool_calls(ledger):
    fields = {"tool_calls": ["sum"], "tool_call_status": ["completed"], "tool_call_results": {"sum": 1217}}
    sid = ledger.create_session("ada", "q", fields=fields)
    assert columns(ledger, sid) == fields


def test_none_takes_a_result_away(ledger, sid):
    ledger.update_session(sid, {"tool_call_results": {"sum": 1, "plot": 2}})
    ledger.update_session(sid, {"tool_call_results": {"sum": None}})
    assert columns(ledger, sid)["tool_call_results"] == {"p1": 2}


@pytest.mark.parametrize(
    ("updates", "refusal"),
    [
        ({"tool_calls": "sum"}, "tool_calls must be a list of calls, ids or names, not str"),
        ({"tool_calls": None}, "tool_calls must be a list of calls, ids or names, not NoneType"),
        ({"tool_calls": [1]}, "must be an object with a name, or a name"),
        ({"tool_calls": [{"id": "c"}]}, "must be an object with a name, or a name"),
        ({"tool_call_status": ["completed"]}, "list of different tool calls, 4, not 1"),
        ({"tool_calls": ["sum"], "tool_call_status": []}, "list of different tool calls, 1, not 0"),
        ({"tool_calls": ["p1", "plot"], "tool_call_status": ["failed"] * 2}, "different tool calls, 1, not 2"),
        ({"tool_call_status": "completed"}, "must be a list of statuses, or an object of call to status, not str"),
        ({"tool_call_status": {"sum": "done"}}, r"tool_call_status\['sum'\] must be one of pending, running"),
        ({"tool_call_status": {"p1": "failed", "plot": "failed"}}, "two values for the tool call 'p1'"),
        ({"tool_call_results": [1]}, "tool_call_results must be an object of call to result, not list"),
        ({"tool_call_results": {1: 2}}, "key of tool_call_result must be text"),
        ({"tool_calls": [], "tool_call_status": [], "tool_call_results": None}, "changes nothing"),
    ],
)
def test_columns_that_say_nothing_certain_are_refused_with_what_to_give(ledger, sid, updates, refusal):
    before = columns(ledger, sid)
    with pytest.raises(InvalidInput, match=refusal):
        ledger.update_session(sid, updates)
    assert (columns(ledger, sid), ledger.get_session(sid).version) == (before, 2)


def test_a_name_that_several_calls_with_ids_have_is_refused(ledger):
    calls = [{"name": "search", "id": "a"}, {"name": "search", "id": "b"}]
    sid = ledger.create_session("ada", "q", fields={"tool_calls": calls})
    for updates in ({"tool_calls": ["search"]}, {"tool_call_results": {"search": 1}}):
        with pytest.raises(InvalidInput, match="give the id: a, b"):
            ledger.update_session(sid, updates)
    with pytest.raises(InvalidInput, match="give the id: a, b"):
        ledger.create_session("ada", "q", fields={"tool_calls": calls, "tool_call_results": {"search": 1}})

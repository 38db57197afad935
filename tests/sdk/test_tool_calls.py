"""Tool calls: updates take the columns that a session is read with, and two calls of one tool are two calls."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from ledger import Change, InvalidInput, SessionLedger

COLUMNS = ("tool_calls", "tool_call_status", "tool_call_results")
BERN, ROME = {"city": "Bern"}, {"city": "Rome"}


class Function(BaseModel):
    """The function of a call in OpenAI's form."""

    name: str
    arguments: str


class OpenAICall(BaseModel):
    """A call as OpenAI's library has it."""

    id: str
    function: Function
    type: str = "function"


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
    assert found == [("weather#1", "weather", "pending"), ("weather#2", "weather", "pending")]
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
    "call", [{"id": "weather#1", "name": "plot"}, {"call_id": "weather#1", "name": "weather", "arguments": ROME}]
)
def test_an_id_that_another_call_has_is_refused(ledger, sid, call):
    with pytest.raises(InvalidInput, match=r"'weather#1' has another name or other arguments .* an id of its own"):
        ledger.update_session(sid, {"tool_calls": [call], "summary": "s"})
    with pytest.raises(InvalidInput, match=r"has these tool calls: weather#1\. To record a further call"):
        ledger.update_session(sid, {"tool_calls": [{"name": "weather", "arguments": BERN}]})


def test_calls_of_one_tool_are_answered_in_turn(ledger, sid):
    ledger.update_tool_call_status(sid, "weather", "running")
    ledger.update_tool_call_status(sid, "weather", "completed", 3)
    assert statuses(ledger, sid) | {"p1": None, "sum": None} == {
        "p1": None,
        "sum": None,
        "weather#1": "completed",
        "weather#2": "pending",
    }
    ledger.update_tool_call_status(sid, "weather", "failed", 20)
    assert columns(ledger, sid)["tool_call_results"] == {"weather#1": 3, "weather#2": 20}
    ledger.update_tool_call_status(sid, "weather", "completed", 21)  # all are answered: the last is answered again
    assert columns(ledger, sid)["tool_call_results"] == {"weather#1": 3, "weather#2": 21}


def test_a_call_of_one_tool_can_be_answered_before_the_others_by_its_id(ledger, sid):
    ledger.update_tool_call_status(sid, "weather#2", "completed", 20)
    ledger.update_tool_call_status(sid, "weather", "completed", 3)
    assert columns(ledger, sid)["tool_call_results"] == {"weather#1": 3, "weather#2": 20}


def test_a_call_whose_id_only_looks_like_the_next_of_another_is_not_answered_for_it(ledger):
    calls = [{"name": "book", "id": "c"}, {"name": "pay", "id": "c#2"}, "q", "q#2", "q"]
    sid = ledger.create_session("ada", "q", fields={"constraints": {"tool_calls": calls}})
    for name in ("c", "c", "q", "q"):
        ledger.update_tool_call_status(sid, name, "completed")
    assert statuses(ledger, sid) == {
        "c": "completed",
        "c#2": "pending",
        "q#1": "completed",
        "q#2": "pending",
        "q#3": "completed",
    }


def test_the_id_of_each_call_of_a_list_means_this_call_only(ledger, sid):
    for call in ledger.require_session(sid).calls:
        for status in ("failed", "running", "completed"):
            ledger.update_tool_call_status(sid, call.call_id, status, call.call_id)
            found = {it.call_id: (it.status, it.result) for it in ledger.require_session(sid).calls}
            assert found[call.call_id] == (status, call.call_id)
    assert {result for _, result in found.values()} == {"p1", "sum", "weather#1", "weather#2"}


def test_an_id_that_is_the_name_of_another_call_means_the_call_with_this_id(ledger):
    sid = ledger.create_session("ada", "q", fields={"tool_calls": [{"name": "sum", "id": "plot"}, "plot"]})
    for status in ("failed", "running"):
        ledger.update_tool_call_status(sid, "plot", status)
    assert statuses(ledger, sid) == {"plot": "running", "plot#2": "pending"}


def test_a_session_of_an_earlier_release_keeps_the_ids_of_its_calls(ledger):
    sid = ledger.create_session("ada", "q")
    earlier = [Change("tool_call", call_id, {"name": "q"}) for call_id in ("q", "q#2")]
    pending = [Change("tool_call_status", call_id, "pending") for call_id in ("q", "q#2")]
    ledger.append(sid, "constraints.updated", [*earlier, *pending])
    ledger.update_tool_call_status(sid, "q", "completed")
    ledger.update_tool_call_status(sid, "q", "failed")
    assert statuses(ledger, sid) == {"q": "completed", "q#2": "failed"}
    ledger.update_session(sid, {"tool_call_status": {"q": "running"}})  # here an id is never a name
    ledger.update_constraints(sid, {"tool_calls": ["q", "q", "q"]})
    assert statuses(ledger, sid) == {"q": "running", "q#2": "failed", "q#3": "pending"}


def test_a_list_continues_the_calls_that_the_session_has(ledger):
    sid = ledger.create_session("ada", "q", fields={"tool_calls": ["once", "twice", "twice"]})
    ledger.update_session(sid, {"tool_calls": ["once", "twice"], "constraints": {"tool_calls": ["once", "once"]}})
    ledger.update_constraints(sid, {"tool_calls": ["once", "twice", "twice", "twice"]})
    assert [*statuses(ledger, sid)] == ["once", "twice#1", "twice#2", "once#2", "twice#3"]
    ledger.update_session(sid, {"tool_calls": [{"name": "twice", "arguments": {"n": n}} for n in range(4)]})
    numbers = {
        it.call_id: it.definition["arguments"]["n"] for it in ledger.require_session(sid).calls if it.name == "twice"
    }
    assert numbers == {"twice#1": 0, "twice#2": 1, "twice#3": 2, "twice#4": 3}


def test_the_calls_in_constraints_continue_those_that_the_same_update_lists(ledger):
    sid = ledger.create_session("ada", "q")
    ledger.update_session(sid, {"tool_calls": ["x"], "constraints": {"tool_calls": ["x", "x"]}})
    assert [*statuses(ledger, sid)] == ["x", "x#2"]


def test_an_id_that_only_looks_like_that_of_a_further_call_is_neither_used_nor_counted(ledger):
    taken = [{"id": "q#2", "name": "x"}, {"id": "q#\u00b2", "name": "q"}]
    sid = ledger.create_session("ada", "q", fields={"tool_calls": taken})
    ledger.update_constraints(sid, {"tool_calls": ["q", "q"]})
    assert [*statuses(ledger, sid)] == ["q#2", "q#\u00b2", "q#1", "q#3"]


@pytest.mark.parametrize("other", [{"name": "y", "arguments": {"q": 1}}, {"name": "x", "arguments": {"q": 2}}])
@pytest.mark.parametrize("way", ["update_session", "update_constraints", "create_session"])
def test_two_different_calls_with_one_id_are_refused(ledger, sid, way, other):
    calls = {"tool_calls": [{"id": "d", "name": "x", "arguments": {"q": 1}}, {"call_id": "d", **other}]}
    target, more = ("ada", {"fields": {"constraints": calls}}) if way == "create_session" else (sid, {})
    with pytest.raises(InvalidInput, match=r"has the id 'd' for two calls.* an id of its own"):
        getattr(ledger, way)(target, "q" if more else calls, **more)
    assert ledger.require_session(sid).version == 2


def test_a_call_that_is_listed_twice_with_its_id_is_one_call(ledger):
    sid = ledger.create_session("ada", "q")
    ledger.update_session(sid, {"tool_calls": [{"id": "d", "name": "x", "args": {"q": 1}}] * 2})
    assert statuses(ledger, sid) == {"d": "pending"}


@pytest.mark.parametrize("way", ["update_session", "update_constraints"])
def test_calls_in_the_form_of_openai_have_the_name_and_the_arguments_of_their_function(ledger, way):
    sid = ledger.create_session("ada", "q")
    as_object = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
    as_model = OpenAICall(id="c2", function=Function(name="weather", arguments="Rome"))
    getattr(ledger, way)(sid, {"tool_calls": [as_object, as_model, {"function": as_model.function}]})
    calls = [(it.call_id, it.name, it.definition["arguments"]) for it in ledger.require_session(sid).calls]
    assert calls == [("c1", "weather", BERN), ("c2", "weather", "Rome"), ("weather", "weather", "Rome")]
    getattr(ledger, way)(sid, {"tool_calls": [{"id": "c3", "function": {"name": "now"}}]})
    assert ledger.require_session(sid).calls[-1].definition == {"id": "c3", "name": "now"}


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
    assert [*statuses(ledger, sid)] == ["p1", "sum", "weather#1", "weather#2"]
    ledger.update_constraints(sid, {"tool_calls": ["weather", "weather", "weather"]})
    assert [*statuses(ledger, sid)] == ["p1", "sum", "weather#1", "weather#2", "weather#3"]


@pytest.mark.parametrize(
    ("calls", "ids"),
    [
        (["q", "q", "q#2", "q"], ["q#1", "q#3", "q#2", "q#4"]),
        ([{"name": "x", "id": "q"}, "q"], ["q", "q#2"]),
        (["q", {"name": "x", "id": "q#2"}, "q"], ["q#1", "q#2", "q#3"]),
        ([{"name": "q", "call_id": "c"}, {"name": "q", "id": ""}, {"name": "q", "id": None}], ["c", "q#1", "q#2"]),
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
    ledger.update_session(sid, {"tool_call_results": {"weather#1": 4, "weather#2": 20}})
    assert columns(ledger, sid)["tool_call_results"] == {"weather#1": 4, "weather#2": 20}


def test_statuses_are_a_list_in_the_order_of_the_calls_or_an_object_by_call(ledger, sid):
    ledger.update_session(sid, {"tool_call_status": ["running", "completed", "failed", "pending"]})
    assert statuses(ledger, sid) == {"p1": "running", "sum": "completed", "weather#1": "failed", "weather#2": "pending"}
    ledger.update_session(sid, {"tool_call_status": {"plot": "completed", "weather#2": "running"}})
    assert statuses(ledger, sid) == {
        "p1": "completed",
        "sum": "completed",
        "weather#1": "failed",
        "weather#2": "running",
    }
    ledger.update_session(sid, {"tool_calls": ["weather#2", "plot"], "tool_call_status": ["completed", "failed"]})
    assert statuses(ledger, sid) == {
        "p1": "failed",
        "sum": "completed",
        "weather#1": "failed",
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
    assert statuses(ledger, sid) == {"weather#1": "completed", "p1": "running", "weather#2": "pending"}
    assert columns(ledger, sid)["tool_call_results"] == {"weather#1": 3, "p1": {"url": "a.png"}}
    assert ledger.get_session(sid).version == 2


def test_a_session_may_begin_with_the_columns_of_tool_calls(ledger):
    fields = {"tool_calls": ["sum"], "tool_call_status": ["completed"], "tool_call_results": {"sum": 1217}}
    sid = ledger.create_session("ada", "q", fields=fields)
    assert columns(ledger, sid) == fields


def test_none_takes_a_result_away(ledger, sid):
    ledger.update_session(sid, {"tool_call_results": {"sum": 1, "plot": 2}})
    ledger.update_session(sid, {"tool_call_results": {"sum": None}})
    assert columns(ledger, sid)["tool_call_results"] == {"p1": 2}


@pytest.mark.parametrize("status", ["pending", "completed"])
def test_a_call_that_is_withdrawn_leaves_neither_a_status_nor_a_result(ledger, status):
    sid = ledger.create_session(
        "ada", "q", fields={"tool_calls": ["a", "b"], "tool_call_status": [status, "completed"]}
    )
    ledger.update_session(sid, {"tool_call_results": {"a": 1, "b": 2}})
    ledger.update_session(sid, {"tool_call": {"a": None}})
    assert columns(ledger, sid) == {
        "tool_calls": ["b"],
        "tool_call_status": ["completed"],
        "tool_call_results": {"b": 2},
    }
    assert ledger.is_session_complete(sid)
    assert ledger.require_session(sid, version=2).tool_calls == ["a", "b"]
    ledger.update_session(sid, {"tool_calls": ["a"]})
    assert statuses(ledger, sid) == {"b": "completed", "a": "pending"}


def test_a_withdrawal_removes_what_the_call_has_and_what_is_set_with_it_stays(ledger):
    sid = ledger.create_session("ada", "q", fields={"tool_calls": ["a", "b"], "tool_call_results": {"b": 2}})
    ledger.update_session(sid, {"tool_call": {"a": None}})
    assert [it.field for it in ledger.history(sid)[-1].changes] == ["tool_call", "tool_call_status"]
    ledger.update_session(sid, {"tool_call": {"b": None}, "tool_call_status": {"b": "failed"}})
    assert (statuses(ledger, sid), columns(ledger, sid).get("tool_call_results")) == ({"b": "failed"}, None)


def test_a_call_that_kept_its_status_when_it_was_withdrawn_can_be_withdrawn_again(ledger):
    sid = ledger.create_session(
        "ada", "q", fields={"tool_calls": ["a", "b"], "tool_call_status": ["pending", "completed"]}
    )
    ledger.append(sid, "session.updated", [Change("tool_call", "a", removed=True)])
    ledger.update_session(sid, {"tool_call": {"a": None}, "tool_call_results": {"a": None}})
    assert ledger.is_session_complete(sid)


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

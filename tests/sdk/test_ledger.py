"""The SDK: the methods of the BigQuery session manager under its names and meaning, and what came after it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ledger import Change, ConfigurationError, InvalidInput, SessionLedger, SessionNotFound, WrongExpectedVersion
from ledger.model.ids import created_at_of
from ledger.testing import START, SetClock

CONSTRAINTS = {
    "kpi": ["orders"],
    "time_aggregation": "Weekly",
    "time_filter": {"start_date": "2025-02-09", "end_date": "2025-03-11"},
    "cfc": ["CFC-1"],
    "spokes": [],
    "comparison_type": "trend",
    "tool_calls": [
        {
            "name": "Orders Trend for CFC-1",
            "description": "This query retrieves order trends for CFC-1 over the past month",
            "tables": ["orders"],
            "result_id": "orders_trend_cfc1",
        }
    ],
}


@pytest.fixture
def sid(ledger: SessionLedger) -> str:
    return ledger.create_session("user123", "What were the total orders for CFC1 in the last week?")


def types(ledger: SessionLedger, sid: str) -> list[str]:
    return [it.event_type for it in ledger.history(sid)]


# The session manager's methods


def test_the_seeds_scenario_ends_in_the_seeds_columns(ledger, clock):
    sid = ledger.create_session(user_id="user123", question="What were the total orders for CFC1 in the last week?")
    clock.move(10)
    ledger.update_constraints(sid, CONSTRAINTS)
    ledger.update_strategy(sid, "\n## Comprehensive Strategy\n")
    ledger.update_response_plan(sid, {"insights": [{"type": "trend"}]})
    result = {"sql": "SELECT 1", "data": [{"week_date": "2025-02-09", "total_orders": 1200}]}
    ledger.update_tool_call_status(sid, "Orders Trend for CFC-1", "completed", result)
    ledger.update_summary(sid, "\n## Order Trends\n")
    session = ledger.get_session(sid)
    assert {column: session[column] for column in list(session)[:13]} == {
        "session_id": sid,
        "user_id": "user123",
        "question": "What were the total orders for CFC1 in the last week?",
        "constraints": CONSTRAINTS,
        "response_plan": {"insights": [{"type": "trend"}]},
        "strategy": "\n## Comprehensive Strategy\n",
        "summary": "\n## Order Trends\n",
        "status": "active",
        "tool_calls": ["Orders Trend for CFC-1"],
        "tool_call_status": ["completed"],
        "tool_call_results": {"Orders Trend for CFC-1": result},
        "created_at": START,
        "updated_at": START + timedelta(seconds=10),
    }
    assert ledger.is_session_complete(sid)


def test_a_session_begins_active_with_an_id_that_holds_its_creation_time(ledger, sid):
    assert created_at_of(sid) == START == ledger.get_session(sid).created_at
    assert (ledger.get_session(sid).status, ledger.get_session(sid).version) == ("active", 1)


def test_a_session_may_begin_with_an_id_and_fields_of_the_callers_own(ledger):
    fields = {
        "title": "Orders",
        "tag": {"weekly": True},
        "constraints": {"tool_calls": ["search"]},
        "status": "on_hold",
    }
    assert ledger.create_session("ada", session_id="chat-1", fields=fields) == "chat-1"
    session = ledger.get_session("chat-1")
    assert (session.title, session.tags, session.status, session.question) == ("Orders", ("weekly",), "on_hold", None)
    assert (session.tool_calls, session.tool_call_status, session.version) == (["search"], ["pending"], 1)


def test_a_session_begins_once(ledger):
    ledger.create_session("ada", "q", session_id="chat-1")
    with pytest.raises(WrongExpectedVersion) as refused:
        ledger.create_session("ada", "q", session_id="chat-1")
    assert refused.value.actual == 1


def test_an_unknown_session_is_none_to_read_and_an_error_to_change(ledger):
    assert ledger.get_session("nope") is None
    for change in (
        lambda: ledger.update_session("nope", {"title": "x"}),
        lambda: ledger.update_constraints("nope", {}),
        lambda: ledger.update_strategy("nope", "x"),
        lambda: ledger.update_response_plan("nope", {}),
        lambda: ledger.update_summary("nope", "x"),
        lambda: ledger.update_tool_call_status("nope", "t", "pending"),
        lambda: ledger.add_message("nope", "user", "hi"),
        lambda: ledger.append("nope", "a.b", [Change("title", value="x")]),
        lambda: ledger.update_summary("nope", "x", event_id="key"),
        lambda: ledger.is_session_complete("nope"),
        lambda: ledger.history("nope"),
        lambda: ledger.get_messages("nope"),
        lambda: ledger.diff("nope", 0),
        lambda: ledger.diff("nope", 1, 2),
    ):
        with pytest.raises(SessionNotFound, match="create_session") as refused:
            change()
        assert refused.value.session_id == "nope"
    assert list(ledger.list_sessions()) == []


def test_every_change_returns_the_version_that_it_gave(ledger, sid):
    changes = (
        lambda: ledger.update_session(sid, {"title": "x"}),
        lambda: ledger.update_constraints(sid, {}),
        lambda: ledger.update_strategy(sid, "x"),
        lambda: ledger.update_response_plan(sid, {}),
        lambda: ledger.update_summary(sid, "x"),
        lambda: ledger.update_tool_call_status(sid, "t", "pending"),
        lambda: ledger.add_message(sid, "user", "hi"),
        lambda: ledger.append(sid, "a.b", [Change("title", value="y")]),
    )
    assert [change().version for change in changes] == list(range(2, len(changes) + 2))


def test_several_fields_are_set_in_one_event(ledger, sid):
    ledger.update_session(
        sid,
        {
            "title": "T",
            "status": "completed",
            "attribute": {"topic": "orders", "n": 1},
            "expires_at": START,
            "x_a": [1],
        },
    )
    session = ledger.get_session(sid)
    assert (session.title, session.status, session.attributes) == ("T", "completed", {"topic": "orders", "n": 1})
    assert (session.expires_at, session.free, session.version) == (START, {("x_a", ""): [1]}, 2)


def test_none_takes_a_field_away(ledger, sid):
    ledger.update_session(sid, {"title": "T", "summary": "S", "expires_at": START + timedelta(days=6)})
    ledger.update_session(sid, {"title": None, "expires_at": None})
    ledger.update_summary(sid, None)
    session = ledger.get_session(sid)
    assert (session.title, session.summary, session.expires_at) == (None, None, None)
    assert [it.removed for it in ledger.history(sid, after=2)[0].changes] == [True, False]


def test_a_context_update_merges_by_name_and_none_takes_a_name_away(ledger, sid):
    ledger.update_session(sid, {"context": {"a": {"x": 1}, "b": 2, "c": 3}})
    ledger.update_session(sid, {"context": {"a": {"y": 1}, "c": None, "never": None}})
    assert ledger.get_session(sid).context == {"a": {"y": 1}, "b": 2}


def test_an_unknown_field_is_refused_and_those_there_are_named(ledger, sid):
    with pytest.raises(InvalidInput, match=r"no field 'colour'.*question, title, session_type, summary"):
        ledger.update_session(sid, {"colour": "x", "title": "y"})
    assert ledger.get_session(sid).version == 1


def test_tool_calls_become_pending_only_where_they_are_new(ledger, sid):
    ledger.update_constraints(sid, {"tool_calls": ["a", {"name": "b", "id": "call-b"}]})
    ledger.update_tool_call_status(sid, "a", "completed", 1)
    ledger.update_constraints(sid, {"tool_calls": ["a", "c", {"name": "b", "id": "call-b"}]})
    session = ledger.get_session(sid)
    assert dict(zip(session.tool_calls, session.tool_call_status, strict=True)) == {
        "a": "completed",
        "call-b": "pending",
        "c": "pending",
    }
    assert session.tool_call_results == {"a": 1}


def test_a_status_of_an_unknown_tool_begins_a_call(ledger, sid):
    ledger.update_tool_call_status(sid, "search", "running")
    (call,) = ledger.get_session(sid).calls
    assert (call.name, call.status, call.has_result) == ("search", "running", False)


def test_a_call_may_be_named_by_id_or_by_its_name_where_one_has_it(ledger, sid):
    calls = [{"name": "search", "id": "c1"}, {"name": "search", "id": "c2"}, {"name": "plot", "id": "c3"}]
    ledger.update_constraints(sid, {"tool_calls": calls})
    ledger.update_tool_call_status(sid, "plot", "completed")
    ledger.update_tool_call_status(sid, "c1", "failed")
    with pytest.raises(InvalidInput, match="c1, c2"):
        ledger.update_tool_call_status(sid, "search", "completed")
    assert [c.status for c in ledger.get_session(sid).calls] == ["failed", "pending", "completed"]


def test_a_result_of_none_is_a_result_and_a_later_status_leaves_it(ledger, sid):
    ledger.update_tool_call_status(sid, "t", "completed", None)
    ledger.update_tool_call_status(sid, "t", "failed")
    (call,) = ledger.get_session(sid).calls
    assert (call.has_result, call.result, call.status) == (True, None, "failed")


@pytest.mark.parametrize(
    ("statuses", "complete"),
    [([], False), (["completed"], True), (["completed", "pending"], False), (["failed"], False)],
)
def test_a_session_is_complete_when_all_of_its_calls_are(ledger, sid, statuses, complete):
    for number, status in enumerate(statuses):
        ledger.update_tool_call_status(sid, f"t{number}", status)
    assert ledger.is_session_complete(sid) is complete


def test_each_method_names_its_event(ledger, sid):
    ledger.update_session(sid, {"title": "T"})
    ledger.update_constraints(sid, {})
    ledger.update_strategy(sid, None)
    ledger.update_response_plan(sid, {})
    ledger.update_summary(sid, "S")
    ledger.update_tool_call_status(sid, "t", "pending")
    ledger.add_message(sid, "user", "hi")
    ledger.append(sid, "plan.approved", [Change("attribute", "approved", True)])
    assert types(ledger, sid) == [
        "session.created", "session.updated", "constraints.updated", "strategy.updated", "response_plan.updated",
        "summary.updated", "tool_call.updated", "message.added", "plan.approved",
    ]  # fmt: skip


# Messages


def test_messages_come_back_whole_and_in_order(ledger, sid):
    ledger.add_message(sid, "user", "hi", message_id="m1")
    ledger.add_message(
        sid, "assistant", [{"type": "text"}], tools_used=["t"], processing_time_ms=1.5, token_count=7,
        error={"type": "x"}, metadata={"a": 1}, payload={"rows": []},
    )  # fmt: skip
    first, second = ledger.get_messages(sid)
    assert (first.message_id, first.role, first.content, first.tools_used) == ("m1", "user", "hi", None)
    assert (second.content, second.tools_used, second.processing_time_ms) == ([{"type": "text"}], ["t"], 1.5)
    assert (second.token_count, second.error, second.metadata, second.payload) == (
        7,
        {"type": "x"},
        {"a": 1},
        {"rows": []},
    )
    assert not ledger.get_session(sid).has_messages
    assert ledger.get_session(sid, messages=True).messages == (first, second)


def test_the_last_messages_can_be_asked_for(ledger, sid):
    for number in range(5):
        ledger.add_message(sid, "user", number)
    assert [m.content for m in ledger.get_messages(sid, last=2)] == [3, 4]
    page = ledger.get_messages(sid, limit=3)
    assert [m.content for m in ledger.get_messages(sid, after=page.next)] == [3, 4]


# Looking back


def test_a_session_can_be_read_as_it_was(ledger, sid, clock):
    clock.move(60)
    ledger.update_summary(sid, "first")
    clock.move(60)
    ledger.update_summary(sid, "second")
    assert [ledger.get_session(sid, version=v).summary for v in (1, 2, 3)] == [None, "first", "second"]
    assert ledger.get_session(sid, at=START + timedelta(seconds=61)).summary == "first"
    assert ledger.get_session(sid, at=START - timedelta(seconds=1)) is None
    assert ledger.get_session(sid, version=2).updated_at == START + timedelta(seconds=60)


def test_a_difference_names_what_changed(ledger, sid):
    ledger.update_session(sid, {"title": "a", "summary": "s"})
    ledger.update_session(sid, {"title": "b", "summary": None})
    ledger.add_message(sid, "user", "hi", message_id="m")
    found = {it.field: (it.before and it.before.value, it.after and it.after.value) for it in ledger.diff(sid, 2)}
    assert found == {"title": ("a", "b"), "summary": ("s", None), "message": (None, {"content": "hi", "role": "user"})}
    assert [it.field for it in ledger.diff(sid, 0, 1)] == ["question", "status"]
    assert ledger.diff(sid, 4) == []
    assert [it.before.value for it in ledger.diff(sid, 3, 2) if it.before] == ["b"]


@pytest.mark.parametrize("versions", [(-1,), (5,), (1, 9), (True,), ("1",), (1, 0.5)], ids=str)
def test_a_difference_is_between_versions_that_were(ledger, sid, versions):
    with pytest.raises(InvalidInput, match="version"):
        ledger.diff(sid, *versions)


def test_a_reader_cannot_reach_the_ledger_or_other_readers(ledger, sid):
    ledger.update_constraints(sid, {"kpi": ["orders"]})
    ledger.get_session(sid).constraints["kpi"].append("spoilt")
    ledger.get_session(sid)["constraints"].clear()
    ledger.history(sid, after=1)[0].changes[0].value["kpi"].append("spoilt")
    next(iter(ledger.list_sessions())).constraints.clear()
    assert ledger.get_session(sid).constraints == {"kpi": ["orders"]}
    assert ledger.get_session(sid, version=2).constraints == {"kpi": ["orders"]}


def test_the_callers_objects_stay_the_callers(ledger, sid):
    plan = {"steps": [{"n": 1}], "tool_calls": [{"name": "t"}]}
    ledger.update_constraints(sid, plan)
    plan["steps"][0]["n"] = 2
    assert ledger.get_session(sid).constraints["steps"] == [{"n": 1}]
    with pytest.raises(InvalidInput):
        ledger.update_session(sid, {"constraints": plan, "title": 5})
    assert plan == {"steps": [{"n": 2}], "tool_calls": [{"name": "t"}]}


# Sessions


def test_sessions_are_listed_newest_first_in_pages(ledger, clock):
    for number in range(5):
        clock.move(1)
        ledger.create_session("ada" if number % 2 else "bob", str(number), fields={"attribute": {"n": number}})
    assert [s.question for s in ledger.list_sessions()] == list("43210")
    assert [s.question for s in ledger.list_sessions("ada")] == ["3", "1"]
    assert [s.question for s in ledger.list_sessions(attributes={"n": 2})] == ["2"]
    page = ledger.list_sessions(limit=2)
    assert [s.question for s in ledger.list_sessions(after=page.next, limit=50)] == list("210")


def test_sessions_of_one_millisecond_are_listed_newest_first_too(tmp_path):
    clock = SetClock()
    with SessionLedger.open(f"sqlite:///{tmp_path}/m.db", clock=lambda: clock.move(1e-6)) as ledger:
        made = [ledger.create_session("ada", str(number)) for number in range(20)]
        assert [s.session_id for s in ledger.list_sessions()] == made[::-1]


@pytest.mark.parametrize("session_id", [None, "mine"])
def test_a_session_at_its_creation_time_is_at_its_first_version(ledger, clock, session_id):
    """The time in a generated id is cut to milliseconds, so it is before that of the first event."""
    clock.move(0.000789)
    sid = ledger.create_session("ada", "q", session_id=session_id)
    clock.move(0.000001)
    ledger.add_message(sid, "user", "hi")
    created = ledger.get_session(sid).created_at
    first = ledger.get_session(sid, at=created, messages=True)
    assert (first.version, first.messages, first.question) == (1, (), "q")
    assert ledger.for_user("ada").get_session(sid, at=created).version == 1
    assert ledger.for_user("bob").get_session(sid, at=created) is None
    assert ledger.get_session(sid, at=created - timedelta(microseconds=1)) is None
    assert ledger.get_session("unknown", at=created) is None


def test_require_session_gives_what_get_session_gives_or_says_that_there_is_none(ledger):
    sid = ledger.create_session("ada", "q")
    ledger.add_message(sid, "user", "hi")
    assert ledger.require_session(sid, messages=True) == ledger.get_session(sid, messages=True)
    assert ledger.require_session(sid, version=1) == ledger.get_session(sid, version=1)
    created = ledger.require_session(sid).created_at
    assert ledger.require_session(sid, at=created) == ledger.get_session(sid, at=created)
    with pytest.raises(SessionNotFound, match="There is no session nowhere; create it") as raised:
        ledger.require_session("nowhere", at=created)
    assert raised.value.session_id == "nowhere"
    with pytest.raises(SessionNotFound, match=f"Session {sid} did not exist at 1999-01-01T.*Z: it was created at 20"):
        ledger.require_session(sid, at=datetime(1999, 1, 1, tzinfo=UTC))
    with pytest.raises(SessionNotFound, match=f"There is no session {sid}"):
        ledger.for_user("bob").require_session(sid)
    with pytest.raises(InvalidInput, match="version 7"):
        ledger.require_session(sid, version=7)


def test_a_ledger_in_bigquery_is_told_that_it_is_its_own_warehouse_and_needs_no_relay(monkeypatch):
    for name in ("LEDGER_WAREHOUSE", "LEDGER_RELAY"):
        monkeypatch.delenv(name, raising=False)
    url = "bigquery://my-project/agents"
    with SessionLedger.open(url) as ledger, pytest.raises(ConfigurationError, match=r"Query it with ledger\.sql\(\)"):
        _ = ledger.warehouse
    with pytest.raises(ConfigurationError, match="needs no relay"):
        SessionLedger.open(url, relay="background")

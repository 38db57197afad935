"""Templates, rewinding and replaying: laws over random sessions, large states and values."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from ledger import Change, IdempotencyConflict, InvalidInput, Session, SessionEnded, SessionLedger
from support.branches import everything, many, read

# Random sessions

SLOTS = [
    *(("title", ""), ("summary", ""), ("strategy", ""), ("context", "a"), ("context", "b"), ("x_free", "k")),
    *((field, key) for field in ("message", "query", "tool_call", "tool_call_status") for key in ("1", "2", "3")),
    *(("score", "1"), ("score", "2"), ("tag", "t"), ("status", ""), ("grant", "bob"), ("error", "")),
]


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "message": st.sampled_from(["x", "y"]).map(lambda text: {"role": "user", "content": text}),
    "query": st.just({"query_type": "q"}),
    "score": st.just({"name": "n", "value": 1}),
    "tool_call": st.sampled_from([{"name": "t"}, {"name": "u"}]),
    "tool_call_status": st.sampled_from(["pending", "completed"]),
    "tag": st.just(True),
    "status": st.sampled_from(["active", "completed", "on_hold"]),
    "grant": st.just("read"),
    "error": st.just({"type": "t", "message": "m"}),
}


@st.composite
def events(draw: st.DrawFn) -> list[list[Change]]:
    """The events of a session: one to four slots each, set or removed."""

    def change(slot: tuple[str, str]) -> Change:
        removed = draw(st.integers(0, 3)) == 0
        value = None if removed else draw(VALUES.get(slot[0], st.sampled_from(["one", "two"])))
        return Change(*slot, value, removed)

    slots = st.lists(st.sampled_from(SLOTS), min_size=1, max_size=4, unique=True)
    return [[change(slot) for slot in of_event] for of_event in draw(st.lists(slots, min_size=1, max_size=10))]


def begin(ledger: SessionLedger, history: list[list[Change]]) -> str:
    """A session with these events behind its first."""
    session_id = ledger.create_session("ada", "q")
    for changes in history:
        ledger.append(session_id, "test.made", changes)
    return session_id


ONE_LEDGER = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@ONE_LEDGER
@given(history=events(), data=st.data())
def test_a_fork_begins_as_the_session_was(ledger, history, data):
    source = begin(ledger, history)
    version = data.draw(st.integers(1, len(history) + 1))
    then, before = read(ledger, source, version), read(ledger, source)
    fork = ledger.fork_session(source, at_version=version)
    assert read(ledger, fork) == then
    assert read(ledger, source) == before
    assert ledger.get_session(fork).lineage == {"session_id": source, "version": version, "kind": "fork"}
    assert ledger.get_session(source).children == {fork: {"version": version, "kind": "fork"}}
    assert (ledger.get_session(fork).grants, ledger.get_session(fork).children) == ({}, {})
    assert ledger.get_session(source).version == len(history) + 2


@ONE_LEDGER
@given(history=events(), data=st.data())
def test_a_rewound_session_is_as_it_was(ledger, history, data):
    session_id = begin(ledger, history)
    ledger.update_session(session_id, {"grant": {"eve": "write"}})
    fork = ledger.fork_session(session_id)
    version = data.draw(st.integers(1, len(history) + 1))
    grants, then = ledger.get_session(session_id).grants, read(ledger, session_id, version)
    earlier = everything(ledger)
    done = ledger.rewind(session_id, version)
    assert read(ledger, session_id) == then
    assert (ledger.get_session(session_id).grants, list(ledger.get_session(session_id).children)) == (grants, [fork])
    assert everything(ledger)[: len(earlier)] == earlier
    assert ledger.get_session(session_id).version == (done.version if done else len(history) + 3)
    assert ledger.rewind(session_id, version) is None


@ONE_LEDGER
@given(history=events(), data=st.data())
def test_a_replay_gives_the_session_of_every_version(ledger, history, data):
    session_id = begin(ledger, history)
    first = data.draw(st.integers(1, len(history) + 1))
    last = data.draw(st.none() | st.integers(first, len(history) + 1))
    messages = data.draw(st.booleans())
    replayed = list(ledger.replay(session_id, from_version=first, to_version=last, messages=messages))
    assert [event.version for event, _ in replayed] == list(range(first, (last or len(history) + 1) + 1))
    for event, session in data.draw(st.permutations(replayed)):  # each stays what it was, read in whatever order
        one = ledger.get_session(session_id, version=event.version, messages=messages)
        assert (session, session.head, session._state) == (one, one.head, one._state)
        assert session.has_messages == one.has_messages == messages
        assert not messages or session.messages == one.messages


@ONE_LEDGER
@given(history=events(), data=st.data(), key=st.sampled_from(["key", "0190163d-8694-7b2e-9c1f-4f6d3a5e7b90"]))
def test_twice_the_same_event_id_is_once(ledger, history, data, key):
    source = begin(ledger, history)
    version = data.draw(st.integers(1, len(history) + 1))
    fork = ledger.fork_session(source, at_version=version, event_id=key)
    rewound = ledger.rewind(source, version, event_id=f"{key} back")
    ledger.add_message(source, "user", "later")
    ledger.update_summary(fork, "later")
    rows = everything(ledger)
    assert ledger.fork_session(source, at_version=version, event_id=key) == fork
    assert ledger.fork_session(source, event_id=key) == fork
    if rewound is not None:
        again = ledger.rewind(source, version, event_id=f"{key} back")
        assert (again.version, again.event_id, again.replayed) == (rewound.version, rewound.event_id, True)
    assert everything(ledger) == rows


def test_a_long_session_is_rewound_in_events_of_bounded_size(ledger):
    sid = many(ledger, 2500)
    version = ledger.get_session(sid).version
    before = read(ledger, sid)
    ledger.append(sid, "message.removed", [Change("message", "m00000", removed=True)])
    ledger.append(sid, "message.removed", [Change("message", f"m{n:05}", removed=True) for n in range(1200, 1700)])
    done = ledger.rewind(sid, version)
    assert read(ledger, sid) == before
    events = list(ledger.history(sid, after=version + 2))
    assert [event.event_type for event in events] == ["session.rewinding", "session.rewinding", "session.rewound"]
    assert (max(len(event.changes) for event in events), done.version) == (999, version + 5)


def test_a_value_that_fills_an_event_alone_is_copied_too(ledger):
    sid = ledger.create_session("ada", "q")
    largest = "x" * 7_998_900
    ledger.update_summary(sid, largest)
    ledger.update_strategy(sid, largest)
    ledger.append(sid, "a.b", [Change("message", "m", {"role": "user", "content": largest[100:]})])
    fork = ledger.fork_session(sid)
    assert read(ledger, fork) == read(ledger, sid)
    ledger.update_session(sid, {"summary": None, "strategy": None})
    ledger.rewind(sid, 4)
    assert read(ledger, fork) == read(ledger, sid)


def test_a_replay_reads_page_by_page_and_stops_where_it_is_told(ledger, monkeypatch):
    sid = many(ledger, 2500)
    read_pages: list[int] = []
    events_of = type(ledger.store).events

    def counted(self: Any, *args: Any, **more: Any) -> Any:
        read_pages.append(more["limit"])
        return events_of(self, *args, **more)

    monkeypatch.setattr(type(ledger.store), "events", counted)
    replay = ledger.replay(sid, from_version=100, to_version=450, messages=True)
    assert read_pages == []
    event, session = next(replay)
    assert (event.version, len(session.messages), read_pages) == (100, 99, [200])
    kept = [session for _, session in replay]
    assert read_pages == [200, 151]
    assert [len(it.messages) for it in (kept[-1], kept[0], kept[200], session)] == [449, 100, 300, 99]


def test_a_replay_ends_where_the_session_ended_when_it_began(ledger, sid):
    replay = ledger.replay(sid)
    ledger.add_score(sid, "n", 1)
    assert [event.version for event, _ in replay] == list(range(1, 10))


def test_states_of_a_replay_are_read_by_other_threads_while_it_goes_on(ledger):
    sid = many(ledger, 600)
    seen: list[bool] = []

    def look(session: Session) -> None:
        seen.append(len(session.messages) == session.version - 1)

    threads = [threading.Thread(target=look, args=(session,)) for _, session in ledger.replay(sid, messages=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(seen), all(seen)) == (601, True)


# Rewinding


@pytest.mark.parametrize("lifetimes", [{"default_ttl_hours": 24}])
def test_a_rewind_leaves_alone_what_is_of_the_session(ledger, clock):
    sid = ledger.create_session("ada", "q")
    fork = ledger.fork_session(sid)
    ledger.update_session(fork, {"title": "later", "grant": {"bob": "read"}})
    ledger.extend_session(fork, timedelta(hours=48))
    grandchild = ledger.fork_session(fork)
    before = ledger.get_session(fork)
    assert ledger.rewind(fork, 1).version == before.version + 1
    session = ledger.get_session(fork)
    assert (session.title, session.grants, session.lineage) == (None, {"bob": "read"}, before.lineage)
    assert (list(session.children), session.expires_at) == ([grandchild], before.expires_at)


def test_a_rewind_does_not_end_a_session_again(ledger, clock):
    sid = ledger.create_session("ada", "q")
    ledger.update_summary(sid, "s")
    ledger.expire_session(sid)
    with pytest.raises(SessionEnded):
        ledger.rewind(sid, 1)
    ledger.restore_session(sid)
    ledger.update_summary(sid, "t")
    ledger.rewind(sid, 3)
    assert (ledger.get_session(sid).status, ledger.get_session(sid).summary) == ("active", "s")


def test_a_message_that_is_brought_back_has_its_old_place(ledger):
    sid = ledger.create_session("ada", "q")
    for name in "dcba":
        ledger.add_message(sid, "user", name, message_id=name)
    ledger.append(sid, "message.removed", [Change("message", "c", removed=True)])
    ledger.rewind(sid, 5)
    assert [m.content for m in ledger.get_messages(sid)] == ["d", "c", "b", "a"]
    # c, b and a fall, so each has an event, the first and last of them with the status; d stays where it is.
    assert [len(event.changes) for event in ledger.history(sid, after=6)] == [2, 1, 2]
    assert ledger.get_messages(sid)[0].version == 2


def test_a_rewind_to_what_is_there_writes_nothing_and_says_so(ledger, sid):
    rows = everything(ledger)
    assert ledger.rewind(sid, 9) is None
    assert ledger.rewind(sid, 9, event_id="k", expected_version=9) is None
    assert everything(ledger) == rows


# Templates


@pytest.mark.parametrize("lifetimes", [{"default_ttl_hours": 24}])
def test_a_session_begins_from_a_template(ledger, clock):
    template = ledger.create_session("ada", "q", fields={"title": "T", "tag": {"t": True}, "response_plan": {"i": 1}})
    ledger.update_constraints(template, {"kpi": ["orders"], "tool_calls": ["sum", "plot"]})
    ledger.update_tool_call_status(template, "sum", "completed", 1)
    ledger.update_strategy(template, "## Plan")
    ledger.update_session(template, {"context": {"a": {"x": 1}, "b": 2}})
    ledger.add_message(template, "user", "hi")
    made = ledger.create_from_template(template, "bob", "And now?", fields={"context": {"a": 0}, "title": "Mine"})
    session = ledger.get_session(made, messages=True)
    assert (session.user_id, session.question, session.status, session.title) == ("bob", "And now?", "active", "Mine")
    assert session.constraints == {"kpi": ["orders"], "tool_calls": ["sum", "plot"]}
    assert (session.strategy, session.response_plan, session.context) == ("## Plan", {"i": 1}, {"a": 0, "b": 2})
    assert dict(zip(session.tool_calls, session.tool_call_status, strict=True)) == {"plot": "pending", "sum": "pending"}
    assert (session.tool_call_results, session.messages, session.tags, session.version) == (None, (), (), 1)
    assert session.lineage == {"session_id": template, "version": 6, "kind": "template"}
    assert session.expires_at == clock.now + timedelta(hours=24)
    assert ledger.get_session(template).children == {made: {"version": 6, "kind": "template"}}
    assert ledger.history(template)[-1].event_type == "template.used"
    early = ledger.create_from_template(template, "bob", at_version=2, ttl=None)
    session = ledger.get_session(early)
    assert (session.strategy, session.question, session.expires_at) == (None, None, None)


def test_fields_win_over_the_template(ledger):
    template = ledger.create_session("ada", "q", fields={"constraints": {"tool_calls": ["a"]}, "strategy": "s"})
    fields = {"constraints": None, "strategy": "mine", "status": "on_hold", "expires_at": "2026-03-06T00:00:00Z"}
    session = ledger.get_session(ledger.create_from_template(template, "bob", fields=fields))
    assert (session.constraints, session.strategy, session.status, session.calls) == (None, "mine", "on_hold", ())
    assert session.expires_at.day == 6


def test_a_template_used_twice_with_one_key_is_used_once(ledger):
    template = ledger.create_session("ada", "q", fields={"constraints": {"tool_calls": ["a"]}, "strategy": "s"})
    made = ledger.create_from_template(template, "bob", "q", event_id="k")
    ledger.update_strategy(template, "later")
    ledger.update_session(made, {"question": "later"})
    rows = everything(ledger)
    assert ledger.create_from_template(template, "bob", "q", event_id="k") == made
    with pytest.raises(IdempotencyConflict):
        ledger.create_from_template(template, "bob", "another", event_id="k")
    assert everything(ledger) == rows


@pytest.mark.usefixtures("small_events")
def test_a_large_template_takes_several_events(ledger):
    template = ledger.create_session("ada", "q", fields={"context": {str(n): n for n in range(20)}})
    made = ledger.get_session(ledger.create_from_template(template, "bob", "q", event_id="k"))
    assert (made.context, made.status) == ({str(n): n for n in range(20)}, "active")
    assert made.version > 5
    assert ledger.create_from_template(template, "bob", "q", event_id="k") == made.session_id


def test_a_profile_checks_what_callers_say_and_not_what_is_recorded(ledger):
    class Chat(BaseModel):
        stars: int = 0

    old = ledger.create_session("ada", "q", fields={"session_type": "chat", "attribute": {"topic": "orders"}})
    ledger.append(old, "a.b", [Change("attribute", "topic", removed=True)])
    ledger.register_profile("chat", Chat)
    assert ledger.get_session(ledger.fork_session(old, at_version=1)).attributes == {"topic": "orders"}
    ledger.rewind(old, 1)
    assert ledger.get_session(old).attributes == {"topic": "orders"}
    fields = {"session_type": "chat", "attribute": {"stars": "5"}}
    assert ledger.get_session(ledger.create_from_template(old, "bob", fields=fields)).attributes == {"stars": 5}
    rows = everything(ledger)
    with pytest.raises(InvalidInput, match="topic"):
        ledger.create_from_template(old, "bob", fields={**fields, "attribute": {"topic": "x"}})
    assert everything(ledger) == rows

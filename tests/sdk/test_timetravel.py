"""Forks, templates, rewinding, replaying and comparing: laws over random sessions, and what may come in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from ledger import (
    Appended,
    Change,
    IdempotencyConflict,
    InvalidInput,
    OutcomeUnknown,
    Session,
    SessionEnded,
    SessionLedger,
    SessionNotFound,
    StoreUnavailable,
    WrongExpectedVersion,
)
from ledger.model import copying
from ledger.stores.base import EventStore
from ledger.testing import CountedIds, SetClock, chained, event_id, recorded

#: What a fork has of its own.
OWN = ("lineage", "child", "grant", "expires_at")


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: SetClock) -> Iterator[SessionLedger]:
    url = f"sqlite:///{tmp_path}/l.db?synchronous=NORMAL"
    with SessionLedger.open(url, clock=clock, ids=CountedIds()) as opened:
        yield opened


@pytest.fixture
def sid(ledger: SessionLedger) -> str:
    """A session of nine events, with something of every kind."""
    sid = ledger.create_session("ada", "How many orders?", fields={"tag": {"weekly": True}, "title": "Orders"})
    ledger.update_constraints(sid, {"tool_calls": ["sum", {"name": "plot", "id": "a-plot"}]})
    ledger.update_tool_call_status(sid, "sum", "completed", [1217])
    ledger.add_message(sid, "user", "hi", message_id="m2")
    ledger.add_message(sid, "assistant", "hello", message_id="m1")
    ledger.update_session(sid, {"context": {"a": 1}, "attribute": {"topic": "orders"}})
    ledger.update_session(sid, {"grant": {"bob": "read"}})
    ledger.update_summary(sid, "1,217")
    ledger.complete_session(sid)
    return sid


def content(session: Session | None) -> dict[str, Any]:
    """All of a session but its ids, times, versions and what is its own: values, and the order of what has one."""
    assert session is not None
    slots = {slot: it.text for slot, it in session._state.items() if slot[0] not in OWN and slot[0] != "message"}
    return {
        **{"/".join(slot): text for slot, text in slots.items()},
        "messages": [(it.message_id, it.role, it.content) for it in session.messages or ()],
        "calls": session.calls,
        "queries": list(session.queries) and in_order(session, "query"),
        "scores": in_order(session, "score"),
    }


def in_order(session: Session, field: str) -> list[str]:
    slots = [slot for slot in session._state if slot[0] == field]
    return [key for _, key in sorted(slots, key=lambda slot: (session._state[slot].version, slot[1]))]


def read(ledger: SessionLedger, session_id: str, version: int | None = None) -> dict[str, Any]:
    return content(ledger.get_session(session_id, version=version, messages=True))


def everything(ledger: SessionLedger) -> list[tuple[Any, ...]]:
    return list(ledger.store.rows_after(0, 100_000))


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
    ledger.update_session(session_id, {"grant": {"eve": "write"}, "child": {"c": {"version": 1, "kind": "fork"}}})
    version = data.draw(st.integers(1, len(history) + 1))
    grants, then = ledger.get_session(session_id).grants, read(ledger, session_id, version)
    earlier = everything(ledger)
    done = ledger.rewind(session_id, version)
    assert read(ledger, session_id) == then
    assert (ledger.get_session(session_id).grants, list(ledger.get_session(session_id).children)) == (grants, ["c"])
    assert everything(ledger)[: len(earlier)] == earlier
    assert ledger.get_session(session_id).version == (done.version if done else len(history) + 2)
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
        assert session.messages == one.messages


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


# Forks


def test_a_fork_has_an_owner_an_id_and_a_life_of_its_own(ledger, sid, clock):
    clock.move(3600)
    fork = ledger.fork_session(sid, user_id="bob", new_session_id="mine", ttl=timedelta(hours=2), actor="agent:7")
    session = ledger.get_session("mine")
    assert (fork, session.user_id, session.status) == ("mine", "bob", "completed")
    assert (session.created_at, session.expires_at) == (clock.now, clock.now + timedelta(hours=2))
    assert ledger.get_session(ledger.fork_session(sid)).user_id == "ada"
    assert ledger.get_session(ledger.fork_session(sid, ttl=None)).expires_at is None
    assert ledger.get_session(ledger.fork_session(sid)).expires_at == clock.now + timedelta(hours=24)
    # The second message has the lower id, so it must be in an event of its own.
    assert [it.event_type for it in ledger.history("mine")] == ["session.created", *["session.copied"] * 2]
    assert {ledger.history("mine")[0].actor, ledger.history(sid, after=9)[0].actor} == {"agent:7"}
    assert ledger.history(sid, after=9)[0].event_type == "session.forked"


def test_a_session_that_has_expired_goes_on_as_a_fork(ledger, clock):
    sid = ledger.create_session("ada", "q")
    clock.move(25 * 3600)
    fork = ledger.fork_session(sid)
    assert ledger.get_session(fork).status == "active"
    ledger.expire_old_sessions()
    assert ledger.get_session(sid).recorded_status == "expired"
    assert ledger.get_session(ledger.fork_session(sid)).status == "active"
    ledger.add_message(fork, "user", "on we go")


def test_a_deleted_session_is_not_forked(ledger, sid):
    ledger.delete_session(sid)
    rows = everything(ledger)
    for branch in (ledger.fork_session, lambda it: ledger.create_from_template(it, "ada")):
        with pytest.raises(SessionEnded, match="restore_session"):
            branch(sid)
    assert everything(ledger) == rows


def test_what_was_erased_is_not_copied_and_not_brought_back(ledger):
    sid = erased_session(ledger)
    assert [m.message_id for m in ledger.get_session(ledger.fork_session(sid), messages=True).messages] == ["m3"]
    fork = ledger.get_session(ledger.fork_session(sid))
    assert (fork.title, fork.question) == (None, "q")
    ledger.add_message(sid, "user", "anew", message_id="m1")
    ledger.update_session(sid, {"title": "anew"})
    ledger.update_session(sid, {"message": {"m3": {"role": "user", "content": "changed"}}})
    ledger.rewind(sid, 4)
    session = ledger.get_session(sid, messages=True)
    assert [(m.message_id, m.content) for m in session.messages] == [("m2", None), ("m3", "3")]
    assert session.title is None


def erased_session(ledger: SessionLedger) -> str:
    """A session whose title and first two messages were erased where it comes from."""

    def message(number: int) -> Change:
        return Change("message", f"m{number}", {"role": "user", "content": str(number)})

    first = [Change("status", value="active"), Change("question", value="q"), Change("title", value="t")]
    made = chained(
        recorded(version, version, changes)
        for version, changes in enumerate([first, [message(1)], [message(2)], [message(3)]], 1)
    )
    ledger.store.ingest(made)
    erase(ledger, "session_id = 's' AND (key IN ('m1', 'm2') OR field = 'title')")
    return "s"


def erase(ledger: SessionLedger, which: str) -> None:
    """What an erasure does to rows, and to the slots that are folded from them."""

    def work(connection: Any) -> None:
        connection.execute(f"UPDATE session_events SET value = NULL, value_salt = NULL WHERE {which}")
        connection.execute(f"UPDATE session_state SET value = NULL WHERE {which}")

    ledger.store._run(work)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda ledger, sid: ledger.fork_session("nope"), SessionNotFound),
        (lambda ledger, sid: ledger.fork_session("nope", at_version=1, event_id="k"), SessionNotFound),
        (lambda ledger, sid: ledger.fork_session(sid, at_version=0), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, at_version=-1), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, at_version=10), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, at_version=True), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, at_version="3"), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, user_id=""), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, user_id=7), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, new_session_id=""), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, new_session_id=sid), WrongExpectedVersion),
        (lambda ledger, sid: ledger.fork_session(sid, new_session_id=sid, event_id="k"), WrongExpectedVersion),
        (lambda ledger, sid: ledger.fork_session(sid, expected_version=8), WrongExpectedVersion),
        (lambda ledger, sid: ledger.fork_session(sid, at_version=8, expected_version=8), WrongExpectedVersion),
        (lambda ledger, sid: ledger.fork_session(sid, ttl=timedelta(0)), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, ttl=timedelta(days=400)), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, actor=""), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, expected_verion=9), TypeError),
        (lambda ledger, sid: ledger.create_from_template("nope", "ada"), SessionNotFound),
        (lambda ledger, sid: ledger.create_from_template(sid), InvalidInput),
        (lambda ledger, sid: ledger.create_from_template(sid, "ada", 7), InvalidInput),
        (lambda ledger, sid: ledger.create_from_template(sid, "ada", fields=[1]), InvalidInput),
        (lambda ledger, sid: ledger.create_from_template(sid, "ada", fields={"titel": "x"}), InvalidInput),
        (lambda ledger, sid: ledger.create_from_template(sid, "ada", fields={"title": 1}), InvalidInput),
        (lambda ledger, sid: ledger.create_from_template(sid, "ada", fields={"expires_at": 1}), InvalidInput),
        (lambda ledger, sid: ledger.create_from_template(sid, "ada", at_version=10), InvalidInput),
        (lambda ledger, sid: ledger.create_from_template(sid, "ada", new_session_id=sid), WrongExpectedVersion),
        (lambda ledger, sid: ledger.rewind("nope", 1), SessionNotFound),
        (lambda ledger, sid: ledger.rewind(sid, 0), InvalidInput),
        (lambda ledger, sid: ledger.rewind(sid, 10), InvalidInput),
        (lambda ledger, sid: ledger.rewind(sid, None), InvalidInput),
        (lambda ledger, sid: ledger.rewind(sid, 1.5), InvalidInput),
        (lambda ledger, sid: ledger.rewind(sid, 3, expected_version=8), WrongExpectedVersion),
        (lambda ledger, sid: ledger.rewind(sid, 9, expected_version=8), WrongExpectedVersion),
        (lambda ledger, sid: ledger.rewind(sid, 9, expected_verion=9), TypeError),
        (lambda ledger, sid: ledger.replay("nope"), SessionNotFound),
        (lambda ledger, sid: ledger.replay(sid, from_version=0), InvalidInput),
        (lambda ledger, sid: ledger.replay(sid, from_version=10), InvalidInput),
        (lambda ledger, sid: ledger.replay(sid, from_version=5, to_version=4), InvalidInput),
        (lambda ledger, sid: ledger.replay(sid, to_version=10), InvalidInput),
        (lambda ledger, sid: ledger.replay(sid, to_version="9"), InvalidInput),
        (lambda ledger, sid: ledger.compare(sid, "nope"), SessionNotFound),
        (lambda ledger, sid: ledger.compare("nope", sid), SessionNotFound),
        (lambda ledger, sid: ledger.compare(sid, sid, version=10), InvalidInput),
        (lambda ledger, sid: ledger.compare(sid, sid, other_version=-1), InvalidInput),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(ledger, sid, call, kind):
    rows = everything(ledger)
    with pytest.raises(kind):
        call(ledger, sid)
    assert everything(ledger) == rows


def test_a_key_of_another_change_is_a_conflict(ledger, sid):
    ledger.add_score(sid, "n", 1, event_id="score")
    fork = ledger.fork_session(sid, at_version=4, event_id="fork")
    ledger.rewind(sid, 5, event_id="back")
    rows = everything(ledger)
    for call in (
        lambda: ledger.fork_session(sid, event_id="score"),
        lambda: ledger.fork_session(sid, at_version=5, event_id="fork"),
        lambda: ledger.fork_session(sid, new_session_id="other", event_id="fork"),
        lambda: ledger.create_from_template(sid, "ada", event_id="fork"),
        lambda: ledger.rewind(sid, 4, event_id="back"),
        lambda: ledger.rewind(sid, 5, event_id="fork"),
        lambda: ledger.rewind(sid, 5, event_id="score"),
    ):
        with pytest.raises(IdempotencyConflict):
            call()
    with pytest.raises(WrongExpectedVersion):
        ledger.fork_session(sid, user_id="bob", event_id="fork")
    assert everything(ledger) == rows
    assert ledger.fork_session(sid, event_id="fork") == fork


def test_one_key_begins_a_session_and_forks_others(ledger):
    first = ledger.create_session("ada", "q", event_id="job-1")
    second = ledger.create_session("ada", "q", event_id="job-2")
    made = {ledger.fork_session(it, event_id="job-3") for it in (first, second)}
    made.add(ledger.create_session("ada", "q", event_id="job-3"))
    assert len(made) == 3


# Large states


def many(ledger: SessionLedger, messages: int, name: Callable[[int], str] = "m{:05}".format) -> str:
    """A session of so many messages, brought in at once."""
    first = recorded(1, 0, [Change("status", value="completed"), Change("question", value="q")])
    rest = (
        recorded(number + 2, number + 1, [Change("message", name(number), {"role": "user", "content": number})])
        for number in range(messages)
    )
    ledger.store.ingest([first, *rest])
    return "s"


def shuffled(number: int) -> str:
    """Ids that fall every third time."""
    return f"{(number % 3) * 5000 + number // 3 * 7919 % 5000:05}-{number}"


@pytest.mark.parametrize("name", ["m{:05}".format, shuffled], ids=["rising", "falling"])
def test_a_fork_of_a_long_session_is_copied_in_events_of_bounded_size(ledger, name):
    sid = many(ledger, 2500, name)
    fork = ledger.fork_session(sid)
    assert read(ledger, fork) == read(ledger, sid)
    copied = list(ledger.history(fork, limit=5000))
    assert max(len(event.changes) for event in copied) <= 1000
    assert [event.event_type for event in copied] == ["session.created", *["session.copied"] * (len(copied) - 1)]
    assert ledger.get_session(fork, version=len(copied) - 1).status == "copying"
    assert ledger.get_session(fork).status == "completed"
    if name is not shuffled:
        assert len(copied) == 4


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
    assert (max(len(event.changes) for event in events), done.version) == (1000, version + 5)


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


# Broken off, and in between


class Failing:
    """A store whose appends beyond the first so many fail; the one at the limit may be recorded all the same."""

    def __init__(self, store: EventStore, appends: int, *, recorded: bool, kind: type[BaseException]) -> None:
        self._store, self._left, self._recorded, self._kind = store, appends, recorded, kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append(self, *args: Any, **more: Any) -> Appended:
        self._left -= 1
        if self._left >= 0:
            return self._store.append(*args, **more)
        if self._left == -1 and self._recorded:
            self._store.append(*args, **more)
        raise self._kind("cut off")


def cut_off(
    ledger: SessionLedger, appends: int, recorded: bool, kind: type[BaseException], call: Callable[[], object]
) -> BaseException | None:
    """What a call raises whose appends fail beyond the first so many; None where it needs no more."""
    store = ledger.store
    ledger.store = Failing(store, appends, recorded=recorded, kind=kind)
    try:
        call()
    except (OutcomeUnknown, StoreUnavailable, KeyboardInterrupt) as error:
        return error
    finally:
        ledger.store = store
    return None


FAILURES = [(False, StoreUnavailable), (True, OutcomeUnknown), (False, OutcomeUnknown), (False, KeyboardInterrupt)]


@pytest.fixture
def small_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event takes four changes, so that a session of some messages needs several."""
    portions = copying.portions
    for module in ("branch_events", "timetravel"):
        monkeypatch.setattr(f"ledger.sdk.{module}.portions", lambda plan, _, size: portions(plan, 4, size))


@pytest.mark.usefixtures("small_events")
@pytest.mark.parametrize(("recorded", "kind"), FAILURES)
@pytest.mark.parametrize("given_id", [True, False], ids=["own key", "no key"])
def test_a_fork_broken_off_after_any_event_is_finished_by_the_same_call(ledger, sid, recorded, kind, given_id):
    whole = read(ledger, sid)
    for appends in count():
        key = f"fork {appends}" if given_id else None
        before = ledger.get_session(sid).version
        about = {"event_id": key} if key else {}
        error = cut_off(ledger, appends, recorded, kind, partial(ledger.fork_session, sid, at_version=9, **about))
        noted = [it for it in ledger.history(sid, after=before) if it.event_type == "session.forked"]
        if error is None:
            break
        assert isinstance(error, OutcomeUnknown if appends and kind is StoreUnavailable else kind)
        for event in noted:
            half = ledger.get_session(event.changes[0].key, messages=True)
            assert half is None or half.status == "copying" or content(half) == whole
        if isinstance(error, OutcomeUnknown):
            assert error.session_id == sid
            about = about or {"event_id": error.event_id}
        elif noted:  # whoever looks at the source finds what it needs
            about = about or {"event_id": noted[0].event_id}
        fork = ledger.fork_session(sid, at_version=9, **about)
        assert not about or ledger.fork_session(sid, **about) == fork
        assert read(ledger, fork) == whole
        assert ledger.get_session(fork).lineage["version"] == 9
        assert len(ledger.history(sid, after=before)) == 1
        assert len(ledger.history(fork)) == len(ledger.history(ledger.fork_session(sid, at_version=9)))
    assert appends > 4
    assert list(ledger.list_sessions(status="copying")) == []


@pytest.mark.usefixtures("small_events")
@pytest.mark.parametrize(("recorded", "kind"), FAILURES)
def test_a_rewind_broken_off_after_any_event_is_finished_by_the_same_call(ledger, recorded, kind):
    for appends in count():
        sid = ledger.create_session("ada", "q")
        for number in range(12):
            ledger.add_message(sid, "user", number, message_id=f"m{number:02}")
        before = read(ledger, sid)
        ledger.append(sid, "a.b", [Change("message", f"m{number:02}", removed=True) for number in range(12)])

        rewind = partial(ledger.rewind, sid, 13, event_id="back")
        error = cut_off(ledger, appends, recorded, kind, partial(rewind, expected_version=14))
        if error is None:
            break
        assert isinstance(error, OutcomeUnknown if appends and kind is StoreUnavailable else kind)
        again, once_more = rewind(), rewind()
        assert (again.event_id, again.version) == (once_more.event_id, once_more.version)
        assert read(ledger, sid) == before
        rewound = [it.event_type for it in ledger.history(sid, after=14)]
        assert rewound == ["session.rewinding", "session.rewinding", "session.rewound"]
    assert appends == 3


@pytest.mark.usefixtures("small_events")
def test_a_half_fork_keeps_what_others_wrote_to_it_and_gets_the_rest(ledger, sid):
    store, whole = ledger.store, read(ledger, sid)
    ledger.store = Failing(store, 3, recorded=False, kind=StoreUnavailable)
    with pytest.raises(OutcomeUnknown) as broken:
        ledger.fork_session(sid, new_session_id="fork", event_id="k")
    ledger.store = store
    assert str(broken.value).count("event_id")
    ledger.update_session("fork", {"title": "Mine"})
    assert ledger.fork_session(sid, event_id="k") == "fork"
    assert read(ledger, "fork") == {**whole, "title/": '"Mine"'}
    with pytest.raises(WrongExpectedVersion):
        ledger.fork_session(sid, new_session_id="fork")


@pytest.mark.usefixtures("small_events")
def test_a_half_fork_that_expired_is_finished_and_lives(ledger, sid, clock):
    store = ledger.store
    ledger.store = Failing(store, 3, recorded=False, kind=StoreUnavailable)
    with pytest.raises(OutcomeUnknown):
        ledger.fork_session(sid, at_version=8, new_session_id="fork", event_id="k")
    ledger.store = store
    clock.move(25 * 3600)
    ledger.expire_old_sessions()
    ledger.fork_session(sid, event_id="k")
    assert ledger.get_session("fork").status == "active"
    ledger.add_message("fork", "user", "on we go")


@pytest.mark.usefixtures("small_events")
def test_many_who_finish_one_fork_make_one(ledger, sid):
    whole, made = read(ledger, sid), []
    threads = [
        threading.Thread(target=lambda: made.append(ledger.fork_session(sid, at_version=9, event_id="k")))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(set(made))) == (6, 1)
    assert read(ledger, made[0]) == whole
    alone = ledger.fork_session(sid, at_version=9)
    assert len(ledger.history(made[0])) == len(ledger.history(alone))


class Between:
    """A store to which, before each append, somebody else appends first."""

    def __init__(self, store: EventStore, write: Callable[[int], object], times: int) -> None:
        self._store, self._write, self._times, self._done = store, write, times, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append(self, *args: Any, **more: Any) -> Appended:
        if self._done < self._times:
            self._done += 1
            self._write(self._done)
        return self._store.append(*args, **more)


@pytest.mark.usefixtures("small_events")
@pytest.mark.parametrize("times", [1, 2, 5])
def test_what_is_appended_to_the_source_meanwhile_is_not_in_the_fork(ledger, sid, times):
    store, whole = ledger.store, read(ledger, sid)

    def write(number: int) -> None:
        inner, ledger.store = ledger.store, store
        ledger.add_tags(sid, f"t{number}")
        ledger.store = inner

    ledger.store = Between(store, write, times)
    fork = ledger.fork_session(sid)
    ledger.store = store
    assert read(ledger, fork) == whole
    assert ledger.get_session(fork).lineage["version"] == 9
    assert len(ledger.get_session(sid).tags) == times + 1


@pytest.mark.usefixtures("small_events")
@pytest.mark.parametrize("times", [1, 2, 3])
def test_what_is_appended_while_a_session_is_rewound_is_taken_back_too(ledger, times):
    sid, store = ledger.create_session("ada", "q"), ledger.store
    for number in range(9):
        ledger.add_message(sid, "user", number)
    then = read(ledger, sid, 5)
    ledger.update_session(sid, {"message": {"new": {"role": "user", "content": 1}}})

    def write(number: int) -> None:
        inner, ledger.store = ledger.store, store
        ledger.update_session(sid, {"title": f"t{number}", "context": {str(number): 1}})
        ledger.store = inner

    ledger.store = Between(store, write, times)
    ledger.rewind(sid, 5)
    ledger.store = store
    assert read(ledger, sid) == then
    ledger.store = Between(store, lambda number: write(number + 10), 1)
    ledger.update_session(sid, {"title": "x"})
    version = ledger.get_session(sid).version
    ledger.store = Between(store, lambda number: write(number + 20), 1)
    with pytest.raises(WrongExpectedVersion):
        ledger.rewind(sid, 5, expected_version=version)
    ledger.store = store
    assert ledger.get_session(sid).version == version + 1


# Rewinding


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
    # c, b and a fall, so each has an event; d stays where it is.
    assert [len(event.changes) for event in ledger.history(sid, after=6)] == [1, 1, 1]
    assert ledger.get_messages(sid)[0].version == 2


def test_a_rewind_to_what_is_there_writes_nothing_and_says_so(ledger, sid):
    rows = everything(ledger)
    assert ledger.rewind(sid, 9) is None
    assert ledger.rewind(sid, 9, event_id="k", expected_version=9) is None
    assert everything(ledger) == rows


# Templates


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


# Comparing


def test_two_sessions_are_compared(ledger, sid):
    fork = ledger.fork_session(sid)
    assert {it.field for it in ledger.compare(sid, fork)} == {"child", "grant", "lineage"}
    ledger.add_tags(fork, "mine")
    (tag,) = [it for it in ledger.compare(sid, fork) if it.field == "tag"]
    assert (tag.key, tag.before, tag.after.value) == ("mine", None, True)
    assert {it.field for it in ledger.compare(sid, sid, version=8)} == {"status", "child"}
    assert ledger.compare(sid, sid, version=4, other_version=4) == []
    assert {it.before for it in ledger.compare(sid, fork, version=0)} == {None}


def test_a_users_view_forks_what_is_shared_for_the_user(ledger, sid):
    bob = ledger.for_user("bob")
    fork_id = event_id(77)
    rows = everything(ledger)
    with pytest.raises(Exception, match="bob"):
        bob.fork_session(sid)  # shared to read
    assert everything(ledger) == rows
    ledger.grant_access(sid, "bob", "write")
    mine = bob.fork_session(sid, new_session_id=fork_id)
    assert bob.get_session(mine).user_id == "bob"
    assert ledger.history(sid)[-1].actor == "bob"
    with pytest.raises(SessionNotFound):
        ledger.for_user("eve").fork_session(sid)


def test_a_fork_that_is_asked_for_again_is_there_also_when_its_source_is_deleted(ledger, sid):
    fork = ledger.fork_session(sid, event_id="k")
    made = ledger.create_from_template(sid, "ada", event_id="t")
    ledger.delete_session(sid)
    assert ledger.fork_session(sid, event_id="k") == fork
    assert ledger.create_from_template(sid, "ada", event_id="t") == made


def test_a_fork_that_another_call_notes_meanwhile_is_that_one(ledger, sid, monkeypatch):
    recorded_child, made = ledger._recorded_child, []

    def another_first(*args):
        found = recorded_child(*args)
        monkeypatch.setattr(ledger, "_recorded_child", recorded_child)
        made.append(ledger.fork_session(sid, event_id="k"))
        return found

    monkeypatch.setattr(ledger, "_recorded_child", another_first)
    assert ledger.fork_session(sid, event_id="k") == made[0]
    assert list(ledger.get_session(sid).children) == made


def test_a_fork_into_an_id_that_somebody_else_has_leaves_no_child(ledger):
    ledger.for_user("eve").create_session(session_id="taken")
    ada = ledger.for_user("ada")
    sid = ada.create_session()
    with pytest.raises(SessionNotFound):
        ada.fork_session(sid, new_session_id="taken")
    assert not ada.get_session(sid).children
    assert ada.get_session("taken") is None


@pytest.mark.parametrize(
    "changes",
    [
        [Change("question", "", "x")],
        [Change("child", "c", removed=True)],
        [Change("child", "c", {"version": 1, "kind": "fork"}), Change("title", "", "x")],
    ],
)
def test_an_event_that_is_no_fork_and_calls_itself_one_is_a_conflict(ledger, sid, changes):
    ledger.append(sid, "session.forked", changes, event_id="k")
    with pytest.raises(IdempotencyConflict):
        ledger.fork_session(sid, event_id="k")

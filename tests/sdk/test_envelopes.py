"""What a change says about itself: keys, expected versions, times; and opening a ledger."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from ledger import (
    ANY_VERSION,
    Change,
    ConfigurationError,
    IdempotencyConflict,
    InvalidInput,
    SessionLedger,
    SessionManagerV2,
    WrongExpectedVersion,
)
from ledger.model.events import Envelope
from ledger.testing import START, uuid7


@pytest.fixture
def sid(ledger: SessionLedger) -> str:
    return ledger.create_session("user123", "What were the total orders for CFC1 in the last week?")


def types(ledger: SessionLedger, sid: str) -> list[str]:
    return [it.event_type for it in ledger.history(sid)]


# What a change says about itself


def test_an_envelope_is_recorded(ledger, sid):
    happened = datetime(2026, 3, 1, tzinfo=UTC)
    ledger.update_summary(sid, "s", actor="agent:7", occurred_at=happened, expected_version=1)
    event = ledger.history(sid)[1]
    assert (event.actor, event.occurred_at, event.user_id) == ("agent:7", happened, "user123")


def test_an_argument_of_the_envelope_that_is_none_is_one_that_is_not_given(ledger, sid):
    nothing: Any = dict.fromkeys(Envelope.__annotations__)
    bob = ledger.create_session("bob", **nothing)
    assert ledger.update_summary(sid, "s", **nothing).version == 2
    assert ledger.update_session(sid, {"summary": "t"}, **nothing).version == 3
    assert ledger.add_message(sid, "user", "hello", **nothing).version == 4
    assert ledger.rewind(sid, 2, **nothing).version == 5
    assert ledger.require_session(ledger.fork_session(sid, **nothing)).summary == "s"
    assert ledger.delete_session(bob, **nothing).version == 2
    assert ledger.delete_session(bob, **nothing) is None, "without a key, deleting it again writes nothing"


def test_creating_a_session_that_exists_says_so(ledger, sid):
    bob = ledger.for_user("user123")
    for create in (
        lambda: ledger.create_session("user123", session_id=sid),
        lambda: bob.create_session(session_id=sid),
        lambda: ledger.fork_session(sid, new_session_id=sid),
    ):
        with pytest.raises(
            WrongExpectedVersion, match=f"Session {sid} exists already, at version 1; nothing"
        ) as raised:
            create()
        assert (raised.value.expected, raised.value.actual) == (0, 1)


@pytest.mark.parametrize("expected", [0, 7])
def test_a_change_of_a_session_at_another_version_says_which_it_has(ledger, sid, expected):
    bob = ledger.for_user("user123")
    for change in (
        lambda: ledger.update_summary(sid, "s", expected_version=expected),
        lambda: bob.add_message(sid, "user", "hi", expected_version=expected),
        lambda: ledger.rewind(sid, 1, expected_version=expected),
        lambda: ledger.fork_session(sid, expected_version=expected),
    ):
        with pytest.raises(WrongExpectedVersion, match=f"{sid} is at version 1, not {expected}; .* Read it again"):
            change()
    assert ledger.update_summary(sid, "s", expected_version=-1).version == 2


@pytest.mark.parametrize("key", ["order-17", "it's \u00e9", uuid7(START, 99)])
def test_a_conflict_names_the_key_that_the_caller_gave(ledger, sid, key):
    ledger.update_summary(sid, "s", event_id=key)
    ledger.create_session("ada", "q", event_id=key)
    rewound = ledger.rewind(sid, 1, event_id=f"{key}-r").event_id
    event = ledger.history(sid)[1].event_id
    for call, given, about in (
        (lambda: ledger.update_summary(sid, "other", event_id=key), key, event),
        (lambda: ledger.update_constraints(sid, {"a": 1}, event_id=key), key, event),
        (lambda: ledger.add_message(sid, "user", "hi", event_id=key), key, event),
        (lambda: ledger.fork_session(sid, event_id=key), key, event),
        (lambda: ledger.rewind(sid, 1, event_id=key), key, event),
        (lambda: ledger.rewind(sid, 2, event_id=f"{key}-r"), f"{key}-r", rewound),
        (lambda: ledger.create_session("ada", "other", event_id=key), key, None),
    ):
        with pytest.raises(IdempotencyConflict) as raised:
            call()
        assert given in str(raised.value) or repr(given) in str(raised.value)
        assert raised.value.idempotency_key == given
        assert about in (None, raised.value.event_id)


@pytest.mark.parametrize("key", ["order-17", "it's \u00e9", uuid7(START, 99)])
def test_the_key_that_a_caller_gave_is_in_the_history(ledger, sid, key):
    ledger.update_summary(sid, "s", event_id=key)
    ledger.rewind(sid, 1, event_id=f"{key}-r")
    ledger.fork_session(sid, event_id=f"{key}-f")
    ledger.update_summary(sid, "t")
    kept = None if key == uuid7(START, 99) else key
    events = ledger.history(sid)
    assert [it.idempotency_key for it in events] == [None, kept, f"{key}-r", f"{key}-f", None]
    assert [it.to_dict()["idempotency_key"] for it in events] == [it.idempotency_key for it in events]
    made = ledger.history(ledger.create_session("ada", "q", event_id=key))
    assert [it.idempotency_key for it in made] == [kept]
    assert ledger.verify().findings == ()


def test_a_rewind_leaves_room_for_a_long_key_beside_the_values(ledger, sid):
    ledger.update_session(sid, {"context": {f"k{number}": "x" * 2989 for number in range(999)}})
    ledger.update_context(sid, {}, remove=[f"k{number}" for number in range(999)])
    key = "\U0001f600" * 1024
    ledger.rewind(sid, 2, event_id=key)
    parts = ledger.history(sid, after=3)
    assert [it.event_type for it in parts] == ["session.rewinding", "session.rewound"]
    assert [it.idempotency_key for it in parts] == [None, key]
    assert sum(len(it.changes) for it in parts) == 1001  # with the status, twice


def test_a_text_is_a_key_of_one_user_in_one_session_and_a_uuid_of_one_session(ledger, sid):
    ada, bob, other = ledger.for_user("user123"), ledger.for_user("bob"), ledger.create_session("user123")
    ada.grant_access(sid, "bob", "write")
    for key in ("order-17", uuid7(START, 99)):
        assert not ada.add_message(sid, "user", "one", event_id=key).replayed
        assert ledger.add_message(sid, "user", "one", event_id=key).replayed  # without a view, the owner acts
        assert not ada.add_message(other, "user", "two", event_id=key).replayed
    assert not bob.add_message(sid, "user", "three", event_id="order-17").replayed
    with pytest.raises(IdempotencyConflict):
        bob.add_message(sid, "user", "three", event_id=uuid7(START, 99))
    assert ada.create_session(event_id="k") == ada.create_session(event_id="k") != bob.create_session(event_id="k")


def test_a_uuid_object_is_the_key_that_its_text_is(ledger, sid):
    numbers = iter(range(99))

    def twice(call: Callable[..., Any]) -> None:
        key = uuid.UUID(uuid7(START, 100 + next(numbers)))
        first, again = call(event_id=key), call(event_id=str(key))
        assert again == first if isinstance(first, str) else again.replayed  # an id, or the result of an append

    for change in CHANGES.values():
        twice(partial(change, ledger, sid))
    twice(partial(ledger.create_session, "ada", "q"))
    twice(partial(ledger.fork_session, sid))
    twice(partial(ledger.rewind, sid, 1))
    assert {it.idempotency_key for it in ledger.history(sid)} == {None}
    assert len(ledger.history(sid)) == 1 + len(CHANGES) + 2


CHANGES = {
    "session": lambda ledger, sid, **more: ledger.update_session(sid, {"constraints": {"tool_calls": ["t"]}}, **more),
    "constraints": lambda ledger, sid, **more: ledger.update_constraints(sid, {"tool_calls": ["t", "u"]}, **more),
    "strategy": lambda ledger, sid, **more: ledger.update_strategy(sid, {"a": 1}, **more),
    "response_plan": lambda ledger, sid, **more: ledger.update_response_plan(sid, {"a": 1}, **more),
    "summary": lambda ledger, sid, **more: ledger.update_summary(sid, "s", **more),
    "tool_call": lambda ledger, sid, **more: ledger.update_tool_call_status(sid, "t", "completed", [1], **more),
    "message": lambda ledger, sid, **more: ledger.add_message(sid, "user", "hi", **more),
    "append": lambda ledger, sid, **more: ledger.append(sid, "a.b", [Change("title", value="x")], **more),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("key", ["order-17", uuid7(START, 99)], ids=["text", "uuid"])
def test_a_change_sent_again_is_recorded_once_whatever_came_between(ledger, sid, change, key):
    first = change(ledger, sid, event_id=key)
    ledger.update_tool_call_status(sid, "t", "failed")
    ledger.update_constraints(sid, {"tool_calls": ["t", "u", "v"]})
    state = ledger.get_session(sid)
    again = change(ledger, sid, event_id=key)
    assert (again.version, again.event_id, again.replayed) == (first.version, first.event_id, True)
    assert ledger.get_session(sid) == state


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_key_of_another_change_is_a_conflict(ledger, sid, change):
    ledger.update_summary(sid, "other", event_id="key")
    with pytest.raises(IdempotencyConflict):
        change(ledger, sid, event_id="key")
    assert ledger.get_session(sid).version == 2


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_key_of_the_creation_is_a_conflict(ledger, change):
    ledger.create_session("ada", "q", session_id="s", event_id="key")
    with pytest.raises(IdempotencyConflict):
        change(ledger, "s", event_id="key")


def test_a_creation_sent_again_later_ends_when_the_first_one_said(ledger, clock):
    for _ in range(2):
        assert ledger.create_session("ada", "q", session_id="s", event_id="key", ttl=timedelta(hours=1)) == "s"
        clock.move(60)
    assert ledger.get_session("s").expires_at == START + timedelta(hours=1)
    assert ledger.get_session("s").version == 1


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_no_change_waits_for_a_warehouse_that_is_away(tmp_path, monkeypatch, change):
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "127.0.0.1:9")  # nobody is there
    away = "bigquery://project/dataset?patience=0.01"
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db", warehouse=away) as ledger:
        ledger.create_session("ada", "q", event_id="first")
        for _ in range(2):
            sid = ledger.create_session("ada", "q", session_id="s", event_id="begin")
            change(ledger, sid, event_id="key")
        assert ledger.get_session(sid).version == 2


def test_a_creation_sent_again_with_its_id_is_recorded_once(ledger):
    for _ in range(2):
        assert ledger.create_session("ada", "q", session_id="s", event_id="key") == "s"
    assert ledger.get_session("s").version == 1
    with pytest.raises(IdempotencyConflict):
        ledger.create_session("ada", "other", session_id="s", event_id="key")
    with pytest.raises(WrongExpectedVersion):
        ledger.create_session("bob", "q", session_id="s", event_id="key")


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_wrong_expected_version_writes_nothing(ledger, sid, change):
    for wrong in (0, 2, 7):
        with pytest.raises(WrongExpectedVersion) as refused:
            change(ledger, sid, expected_version=wrong)
        assert (refused.value.expected, refused.value.actual) == (wrong, 1)
    assert change(ledger, sid, expected_version=1).version == 2
    assert change(ledger, sid, expected_version=ANY_VERSION).version == 3


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_misspelt_argument_is_not_swallowed(ledger, sid, change):
    with pytest.raises(TypeError, match="expected_verion"):
        change(ledger, sid, expected_verion=7)
    assert ledger.get_session(sid).version == 1


class Overtaken(Mapping):
    """Constraints that, the first time somebody looks into them, let another writer go first."""

    def __init__(self, overtake) -> None:
        self.content, self.overtake = {"tool_calls": ["t"]}, overtake

    def __getitem__(self, name):
        overtake, self.overtake = self.overtake, None
        if overtake:
            overtake()
        return self.content[name]

    def __iter__(self):
        return iter(self.content)

    def __len__(self) -> int:
        return len(self.content)


@pytest.mark.parametrize("more", [{}, pytest.param({"expected_version": ANY_VERSION}, id="any")], ids=["plain", "any"])
def test_a_call_that_completes_meanwhile_is_not_planned_again(ledger, sid, more):
    constraints = Overtaken(lambda: ledger.update_tool_call_status(sid, "t", "completed", 1))
    ledger.update_constraints(sid, constraints, **more)
    assert ledger.get_session(sid).tool_call_status == ["completed"]
    assert ledger.get_session(sid).version == 3


def test_of_a_change_on_a_version_that_is_overtaken_nothing_is_written(ledger, sid):
    constraints = Overtaken(lambda: ledger.update_summary(sid, "first"))
    with pytest.raises(WrongExpectedVersion):
        ledger.update_constraints(sid, constraints, expected_version=1)
    assert types(ledger, sid) == ["session.created", "summary.updated"]


def test_threads_that_plan_at_once_lose_nothing(ledger, sid):
    def plan(number: int) -> None:
        for step in range(5):
            ledger.update_constraints(sid, {"tool_calls": ["shared", f"t{number}-{step}"]})

    threads = [threading.Thread(target=plan, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.get_session(sid).version == 21
    assert len(ledger.get_session(sid).tool_calls) == 21
    planned = [c for e in ledger.history(sid) for c in e.changes if (c.field, c.key) == ("tool_call_status", "shared")]
    assert len(planned) == 1


# Opening


@pytest.mark.parametrize(
    "url",
    [
        *("ledger", "sqlite://ledger.db", "sqlite:///", "postgres:///x", "sqlite:/x.db", "sqlite:///x.db?sync=OFF"),
        *("sqlite:///x.db?synchronous=OFF", "sqlite:///x\x00.db"),
    ],
    ids=ascii,
)
def test_a_url_that_leads_nowhere_is_a_configuration_error(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError):
        SessionLedger.open(url)
    assert list(tmp_path.iterdir()) == []


def test_without_a_url_the_environments_is_used_else_a_file_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LEDGER_URL", raising=False)
    with SessionLedger.open() as ledger:
        ledger.create_session("ada", "q")
    assert (tmp_path / "ledger.db").exists()
    (tmp_path / "deep").mkdir()
    monkeypatch.setenv("LEDGER_URL", "sqlite:///deep/own.db?synchronous=normal")
    with SessionManagerV2() as ledger:
        assert list(ledger.list_sessions()) == []
    assert (tmp_path / "deep" / "own.db").exists()


@pytest.mark.parametrize("drain", [float("nan"), float("inf"), -1])
def test_what_is_no_time_to_drain_is_refused_and_the_ledger_stays_open(ledger, sid, drain):
    with pytest.raises(InvalidInput, match="drain"):
        ledger.close(drain=drain)
    assert ledger.get_session(sid).version == 1


def test_a_file_that_must_be_there_is_not_made(tmp_path):
    with pytest.raises(ConfigurationError, match="There is no ledger at"):
        SessionLedger.open(f"sqlite:///{tmp_path}/none/l.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_session_begun_twice_with_one_event_id_is_one_session(ledger):
    first = ledger.create_session("ada", "q", event_id="job-1")
    assert ledger.create_session("ada", "q", event_id="job-1") == first
    assert ledger.create_session("bob", "q", event_id="job-1") != first
    key = "0190163D-8694-739B-AEA5-966C26F8AD91"
    assert ledger.create_session("ada", "q", event_id=key) == ledger.create_session("ada", "q", event_id=key.lower())
    assert len(ledger.history(first)) == 1


def test_the_newest_messages_have_no_page_to_follow(ledger):
    session_id = ledger.create_session("ada", "q")
    with pytest.raises(InvalidInput, match="Give last, or"):
        ledger.get_messages(session_id, last=1, after="1:m")


def test_a_state_that_readers_share_cannot_be_changed(ledger):
    session_id = ledger.create_session("ada", "q")
    _, state = ledger.store.state(session_id)
    with pytest.raises(TypeError):
        state["status", ""] = None


def test_a_key_that_a_message_of_the_source_had_adds_another_message_to_a_fork(ledger):
    source = ledger.create_session("ada", "q")
    ledger.add_message(source, "user", "hi", event_id="1")
    ledger.add_message(source, "assistant", "hello", event_id="2")
    fork = ledger.fork_session(source)
    for again in (False, True):
        assert ledger.add_message(fork, "user", "in the fork", event_id="1").replayed is again
    twice = ledger.fork_session(fork)
    ledger.add_message(twice, "user", "in the fork's fork", event_id="1")
    assert [it.content for it in ledger.get_messages(twice)] == ["hi", "hello", "in the fork", "in the fork's fork"]

"""A state machine that compares a store with the reference model, which is the fold of the appended events."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ledger import (
    AppendResult,
    Change,
    IdempotencyConflict,
    RecordedChange,
    RecordedEvent,
    SessionNotFound,
    WrongExpectedVersion,
)
from ledger.model.fold import fold
from ledger.model.queries import SessionQuery
from ledger.stores.base import EventStore
from ledger.testing.harness import events_of, listed, state_of
from ledger.testing.reference import head_after, recorded_by
from ledger.testing.streams import START, SetClock, changes, event, key_of

SESSIONS = st.sampled_from(["a", "b"])


def written(changes: Iterable[Change | RecordedChange]) -> dict[tuple[str, str], tuple[Any, bool]]:
    """Return ``{register: (value, removed)}`` for the changes of an event. The order of the changes has no effect."""
    return {(change.field, change.key): (change.value, change.removed) for change in changes}


class StoreMachine(RuleBasedStateMachine):
    """State machine that tests a store. Rules append events and log them; the invariant compares store and log.

    A subclass defines ``open``. A test module assigns the subclass's ``TestCase`` to a name, so that pytest finds it.
    Settings of Hypothesis are set on ``TestCase.settings``.
    """

    def open(self, clock: SetClock) -> EventStore:
        """Return the store under test: empty at the first call, with the same data at every later call."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.clock = SetClock()
        self.log: dict[str, list[tuple[int, list[Change]]]] = {}
        self.events: dict[str, list[RecordedEvent]] = {}
        self.numbers = 0

    @initialize()
    def begin(self) -> None:
        """Open the empty store; runs once, before the rules."""
        self.store = self.open(self.clock)

    @rule(session_id=SESSIONS, changes=changes(), seconds=st.integers(-3, 3))
    def append(self, session_id: str, changes: list[Change], seconds: int) -> None:
        """Move the clock, possibly back, and append an event that expects the logged version."""
        self.clock.move(seconds)
        self.numbers += 1
        expected = len(self.log.get(session_id, []))
        owner = None if expected else "ada"
        new = event(self.numbers, *changes, user_id=owner, idempotency_key=key_of(self.numbers))
        answer = self.store.append(session_id, new, expected_version=expected)
        log = self.log.setdefault(session_id, [])
        log.append((self.numbers, changes))
        assert (answer.version, answer.replayed) == (len(log), False)

    @rule(session_id=SESSIONS, changes=changes(), off=st.sampled_from([-1, 1, 5]))
    def append_on_another_version(self, session_id: str, changes: list[Change], off: int) -> None:
        """Check that an append is refused if its expected version is not the session's current version."""
        at = len(self.log.get(session_id, []))
        if at + off >= 0:
            with pytest.raises(WrongExpectedVersion) as refused:
                self.store.append(session_id, event(9999, *changes, user_id="ada"), expected_version=at + off)
            assert refused.value.actual == at

    @rule(session_id=SESSIONS)
    def append_without_an_owner(self, session_id: str) -> None:
        """Check that an event without an owner creates no session."""
        if session_id not in self.log:
            with pytest.raises(SessionNotFound):
                self.store.append(session_id, event(9999))

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        """Check that an event sent again is not recorded again, and that its id with other content is a conflict."""
        session_id = data.draw(st.sampled_from(sorted(self.log)))
        log = self.log[session_id]
        version = data.draw(st.integers(1, len(log)))
        number, changes = log[version - 1]
        answer = self.store.append(session_id, event(number, *reversed(changes)))
        assert answer == AppendResult(session_id, version, answer.event_id, replayed=True)
        with pytest.raises(IdempotencyConflict):
            self.store.append(session_id, event(number, Change("title", value="never recorded")))

    @rule()
    def reopen(self) -> None:
        """Close the store and open it again."""
        self.store.close()
        self.store = self.open(self.clock)

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def look_back(self, data: st.DataObject) -> None:
        """Check the states at a random version and at a random time against the reference model."""
        session_id = data.draw(st.sampled_from(sorted(self.log)))
        events = self.events[session_id]
        version = data.draw(st.integers(1, len(events)))
        assert state_of(self.store, session_id, version=version)[1] == fold(events, at_version=version)
        at = START + timedelta(seconds=data.draw(st.integers(-20, 20)))
        then = recorded_by(events, at)
        found = self.store.state(session_id, at=at)
        assert found == ((head_after(then), fold(then)) if then else None)

    @rule()
    def list_by_a_tag(self) -> None:
        """Check that a list by tag contains the sessions whose fold has the tag."""
        tagged = [session_id for session_id in self.log if ("tag", "a") in fold(self.events[session_id])]
        assert sorted(listed(self.store, SessionQuery(tag="a"))) == sorted(tagged)

    @invariant()
    def the_store_answers_as_the_model(self) -> None:
        """Check that the store has the sessions and events of the log, and that heads and states are their fold.

        Because reads may be slow, events are read only here. The rules use the events that were read here.
        """
        for session_id, log in self.log.items():
            events = self.events[session_id] = events_of(self.store, session_id)
            assert [(it.version, it.idempotency_key, written(it.changes)) for it in events] == [
                (version, key_of(number), written(changes)) for version, (number, changes) in enumerate(log, 1)
            ]
            times = [it.recorded_at for it in events]
            assert times == sorted(times)
            head, state = state_of(self.store, session_id)
            assert state == fold(events)
            assert (head.version, head.updated_at) == (len(log), times[-1])
        assert sorted(listed(self.store)) == sorted(self.log)

    def teardown(self) -> None:
        """Close the store."""
        if hasattr(self, "store"):
            self.store.close()

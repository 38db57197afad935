"""A store beside the model: whatever is done to it, it answers what the pure fold answers."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ledger import Appended, Change, IdempotencyConflict, RecordedEvent, SessionNotFound, WrongExpectedVersion
from ledger.model.fold import fold, version_at
from ledger.stores.base import EventStore, SessionQuery
from streams import START, SetClock, changes, event

SESSIONS = st.sampled_from(["a", "b"])


class StoreMachine(RuleBasedStateMachine):
    """Rules act on the store and keep a log of what it acknowledged; invariants compare store and fold of the log."""

    def open(self, clock: SetClock) -> EventStore:
        """The store under test, empty at first, the same at each later call."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.clock = SetClock()
        self.log: dict[str, list[tuple[int, list[Change]]]] = {}
        self.numbers = 0

    @initialize()
    def begin(self) -> None:
        self.store = self.open(self.clock)

    @rule(session_id=SESSIONS, changes=changes(), seconds=st.integers(-3, 3))
    def append(self, session_id, changes, seconds):
        self.clock.move(seconds)
        self.numbers += 1
        expected = len(self.log.get(session_id, []))
        new = event(self.numbers, *changes, user_id=None if expected else "ada")
        answer = self.store.append(session_id, new, expected_version=expected)
        log = self.log.setdefault(session_id, [])
        log.append((self.numbers, changes))
        assert (answer.version, answer.replayed) == (len(log), False)

    @rule(session_id=SESSIONS, changes=changes(), off=st.sampled_from([-1, 1, 5]))
    def append_on_another_version(self, session_id, changes, off):
        at = len(self.log.get(session_id, []))
        if at + off >= 0:
            with pytest.raises(WrongExpectedVersion) as refused:
                self.store.append(session_id, event(9999, *changes, user_id="ada"), expected_version=at + off)
            assert refused.value.actual == at

    @rule(session_id=SESSIONS)
    def append_without_an_owner(self, session_id):
        if session_id not in self.log:
            with pytest.raises(SessionNotFound):
                self.store.append(session_id, event(9999))

    @rule(session_id=SESSIONS, data=st.data())
    def send_again(self, session_id, data):
        if log := self.log.get(session_id):
            version = data.draw(st.integers(1, len(log)))
            number, changes = log[version - 1]
            answer = self.store.append(session_id, event(number, *reversed(changes)))
            assert answer == Appended(session_id, version, answer.event_id, replayed=True)
            with pytest.raises(IdempotencyConflict):
                self.store.append(session_id, event(number, Change("title", value="never recorded")))

    @rule()
    def reopen(self):
        self.store.close()
        self.store = self.open(self.clock)

    @rule(session_id=SESSIONS, data=st.data())
    def look_back(self, session_id, data):
        if log := self.log.get(session_id):
            version = data.draw(st.integers(1, len(log)))
            assert self.store.state(session_id, version=version)[1] == fold(self.events(session_id), at_version=version)
            at = START + timedelta(seconds=data.draw(st.integers(-20, 20)))
            then = version_at(self.events(session_id), at)
            found = self.store.state(session_id, at=at)
            assert (found is None) == (then == 0)
            assert found is None or found[0].version == then

    @invariant()
    def the_store_answers_as_the_model(self):
        for session_id, log in self.log.items():
            events = self.events(session_id)
            assert [(it.version, [(c.field, c.key, c.value, c.removed) for c in it.changes]) for it in events] == [
                (version, [(c.field, c.key, c.value, c.removed) for c in changes])
                for version, (_, changes) in enumerate(log, 1)
            ]
            times = [it.recorded_at for it in events]
            assert times == sorted(times)
            head, state = self.store.state(session_id)
            assert state == fold(events)
            assert (head.version, head.updated_at) == (len(log), times[-1])

    @invariant()
    def lists_hold_every_session_once(self):
        tagged = {session_id for session_id in self.log if ("tag", "a") in fold(self.events(session_id))}
        for query, expected in ((SessionQuery(), set(self.log)), (SessionQuery(tag="a"), tagged)):
            assert sorted(head.session_id for head, _ in self.store.sessions(query)) == sorted(expected)

    def events(self, session_id: str) -> list[RecordedEvent]:
        return list(self.store.events(session_id, limit=10_000))

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()

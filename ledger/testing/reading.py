"""The contract of state: the last write to each register, at present, at a version or at a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from ledger import Change, InvalidInput
from ledger.model.fold import fold
from ledger.stores.base import EventStore
from ledger.testing.harness import Harness, begin, events_of, refusals, state_of, values
from ledger.testing.reference import head_after, recorded_by
from ledger.testing.streams import START, SetClock, event, recorded


class ReadingContract(Harness):
    """Tests that the state at a version or time is the fold of the events up to that version or time."""

    def test_the_state_is_the_last_write_of_each_slot(self, store: EventStore) -> None:
        begin(store)
        store.append("s", event(1, Change("title", value="a"), Change("tag", "x", True)))
        store.append("s", event(2, Change("title", value="b"), Change("tag", "y", True)))
        store.append("s", event(3, Change("tag", "x", removed=True)))
        assert values(store) == {("status", ""): "active", ("title", ""): "b", ("tag", "y"): True}

    def test_the_state_is_the_fold_of_the_events(self, store: EventStore) -> None:
        begin(store)
        message = Change("message", "m", {"role": "user", "content": "x"})
        store.append("s", event(1, Change("title", value="a"), message))
        store.append("s", event(2, Change("title", removed=True)))
        assert state_of(store, with_messages=True)[1] == fold(events_of(store))

    def test_a_state_read_again_sees_what_came_meanwhile(self, store: EventStore) -> None:
        begin(store)
        for number in range(1, 5):
            assert values(store).get(("title", "")) == (None if number == 1 else f"title {number - 1}")
            store.append("s", event(number))

    def test_a_slot_can_be_set_again_after_its_removal(self, store: EventStore) -> None:
        begin(store)
        for number, change in enumerate([Change("title", value="a"), Change("title", removed=True)] * 2, 1):
            store.append("s", event(number, change))
        assert ("title", "") not in values(store)
        store.append("s", event(9, Change("title", value="z")))
        assert values(store)["title", ""] == "z"

    def test_a_session_that_is_not_there_has_no_state(self, store: EventStore) -> None:
        assert store.state("nope") is None
        assert store.state("nope", version=3) is None
        assert store.state("nope", at=START) is None
        assert list(store.events("nope")) == []
        assert list(store.messages("nope", after=None, limit=5)) == []

    def test_the_head_says_where_the_session_stands(self, store: EventStore, clock: SetClock) -> None:
        begin(store)
        clock.move(7)
        store.append("s", event(1))
        head, _ = state_of(store)
        assert (head.session_id, head.user_id, head.version) == ("s", "ada", 2)
        assert (head.created_at, head.updated_at) == (START, START + timedelta(seconds=7))
        assert head.store_id == store.store_id

    def test_messages_are_read_only_where_asked_for(self, store: EventStore) -> None:
        begin(store)
        store.append("s", event(1, Change("message", "m", {"role": "user", "content": "hi"})))
        assert ("message", "m") not in values(store)
        assert values(store, with_messages=True)["message", "m"]["content"] == "hi"
        assert ("message", "m") not in values(store, version=2)
        assert ("message", "m") in values(store, version=2, with_messages=True)

    # At a version, at a time

    def test_the_state_at_a_version_is_the_fold_up_to_it(self, store: EventStore) -> None:
        begin(store)
        for number, change in enumerate([Change("title", value="a"), Change("title", removed=True)] * 2, 1):
            store.append("s", event(number, change))
        events = events_of(store)
        for version in range(1, 6):
            head, state = state_of(store, version=version)
            assert state == fold(events, at_version=version)
            assert (head.version, head.event_hash) == (version, events[version - 1].event_hash)

    def test_a_version_that_never_was_is_refused(self, store: EventStore) -> None:
        begin(store)
        store.append("s", event(1))
        bad: list[Any] = [0, -1, 3, True, 1.0, "1", 2**63, 10**5000]
        refusals(InvalidInput, bad, lambda it: store.state("s", version=it), "version")

    def test_the_state_at_a_time_is_that_of_the_last_version_by_then(self, store: EventStore, clock: SetClock) -> None:
        begin(store)
        clock.move(10)
        store.append("s", event(1, Change("title", value="a")))
        store.append("s", event(2, Change("title", value="b")))
        clock.move(10)
        store.append("s", event(3, Change("title", value="c")))

        def version_at(seconds: float) -> int | None:
            found = store.state("s", at=START + timedelta(seconds=seconds))
            return None if found is None else found[0].version

        assert [version_at(it) for it in (-1, 0, 9.999999, 10, 19, 20, 10**6)] == [None, 1, 1, 3, 3, 4, 4]

    def test_the_state_at_a_time_leaves_out_a_version_that_was_recorded_later(self, store: EventStore) -> None:
        began = recorded(1, 1, [Change("title", value="begun")])
        late, early = (recorded(version, version, [Change("title", value=str(version))]) for version in (2, 3))
        late = replace(late, recorded_at=START + timedelta(seconds=90))
        early = replace(early, recorded_at=START + timedelta(seconds=30))
        store.ingest([began, late, early])
        events = events_of(store)
        for seconds in (0, 30, 89, 90):
            by_then = recorded_by(events, START + timedelta(seconds=seconds))
            head, state = state_of(store, at=START + timedelta(seconds=seconds))
            assert (replace(head, store_id="elsewhere"), state) == (head_after(by_then), fold(by_then))
        assert state_of(store, at=START + timedelta(seconds=89))[1]["title", ""].value == "3"

    def test_times_recorded_never_go_back_though_the_clock_does(self, store: EventStore, clock: SetClock) -> None:
        begin(store)
        for number, step in enumerate([5, -60, 2, 100, -1], 1):
            clock.move(step)
            store.append("s", event(number))
        times = [it.recorded_at for it in events_of(store)]
        assert times == sorted(times)
        assert times[1] == times[2] == times[3] == START + timedelta(seconds=5)
        assert state_of(store, at=START + timedelta(seconds=5))[0].version == 4

    def test_a_time_must_be_an_aware_datetime(self, store: EventStore) -> None:
        begin(store)
        bad: list[Any] = ["2026-01-01", 5, datetime(2026, 1, 1)]  # noqa: DTZ001
        refusals(InvalidInput, bad, lambda it: store.state("s", at=it), "at ")
        refusals(InvalidInput, bad, lambda it: store.state("nope", at=it), "at ")

    def test_a_version_and_a_time_are_too_much(self, store: EventStore) -> None:
        with pytest.raises(InvalidInput, match="not both"):
            store.state("s", version=1, at=START)

"""The contract of concurrent use: threads on one store, and two stores on the same data, as in two processes.

The capabilities ``compare_and_append`` and ``gapless_versions`` declare what holds if several stores append to the same
data. Even without these capabilities, no event is lost or duplicated, and all readers see the same order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ledger import AppendResult, WrongExpectedVersion
from ledger.model.fold import fold
from ledger.stores.base import EventStore
from ledger.testing.harness import Harness, OpenStore, begin, events_of, state_of, values
from ledger.testing.streams import event, event_id


def at_once(calls: Sequence[Callable[[], AppendResult]]) -> tuple[list[AppendResult], list[WrongExpectedVersion]]:
    """Make all calls at once, each in its own thread; return the successful results and the conflicts."""
    ready = threading.Barrier(len(calls))

    def run(call: Callable[[], AppendResult]) -> AppendResult | WrongExpectedVersion:
        ready.wait(timeout=60)
        try:
            return call()
        except WrongExpectedVersion as error:
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        answers = list(threads.map(run, calls))
    won = [it for it in answers if isinstance(it, AppendResult)]
    return won, [it for it in answers if isinstance(it, WrongExpectedVersion)]


class ConcurrencyContract(Harness):
    """Tests of threads on one store, and of two stores on the same data, with the capabilities that they declare."""

    def test_of_threads_that_expect_one_version_one_wins(self, store: EventStore) -> None:
        begin(store)
        won, lost = at_once([partial(store.append, "s", event(number), expected_version=1) for number in range(1, 9)])
        assert [it.version for it in won] == [2]
        assert [it.actual for it in lost] == [2] * 7
        assert [it.event_id for it in events_of(store)] == [event_id(0), won[0].event_id]

    def test_of_threads_that_send_one_event_one_records_it(self, store: EventStore) -> None:
        begin(store)
        answers, _ = at_once([partial(store.append, "s", event(1))] * 8)
        assert [it.version for it in answers] == [2] * 8
        assert [it.replayed for it in answers].count(False) == 1
        assert len(events_of(store)) == 2

    def test_two_stores_on_the_same_data_see_each_others_appends(
        self, store: EventStore, open_store: OpenStore
    ) -> None:
        begin(store)
        other = open_store("main")
        versions: dict[int, list[int]] = {0: [], 1: []}
        for number in range(1, 6):
            writer, reader = (store, other) if number % 2 else (other, store)
            if self.capabilities.compare_and_append:
                assert writer.append("s", event(number), expected_version=number).version == number + 1
                assert values(reader)["title", ""] == f"title {number}"
            else:
                versions[number % 2].append(writer.append("s", event(number)).version)
                assert reader.version_of("s", event_id(number)) == versions[number % 2][-1]
        events = events_of(store)
        assert events == events_of(other) == sorted(events, key=lambda it: it.position)
        assert {it.event_id for it in events} == {event_id(number) for number in range(6)}
        assert state_of(store)[1] == state_of(other)[1] == fold(events)
        if self.capabilities.gapless_versions:
            assert [it.version for it in events] == [1, 2, 3, 4, 5, 6]
        else:
            assert len(events) == 6
            assert all(each == sorted(set(each)) for each in versions.values())

    def test_of_two_stores_that_expect_one_version_one_wins_or_both_are_kept(
        self, store: EventStore, open_store: OpenStore
    ) -> None:
        begin(store)
        writers = (store, open_store("main"))
        won, lost = at_once(
            [partial(writers[number % 2].append, "s", event(number), expected_version=1) for number in range(1, 5)]
        )
        if self.capabilities.compare_and_append:
            assert [it.version for it in won] == [2]
            assert [it.actual for it in lost] == [2] * 3
        assert won
        assert sorted(it.event_id for it in events_of(store)) == sorted([event_id(0), *(it.event_id for it in won)])
        assert events_of(writers[1]) == events_of(store)

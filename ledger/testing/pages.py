"""The contract of pages: events and messages in order, without gap or repetition between pages."""

from __future__ import annotations

from typing import Any

import pytest

from ledger import Change, InvalidInput, Message
from ledger.model.fold import Origin
from ledger.stores.base import EventStore
from ledger.testing.harness import ALL, Harness, begin, events_of, refusals
from ledger.testing.streams import event


class PagesContract(Harness):
    """Tests that a page's ``next`` is set only if another page follows, and that no event is split between pages."""

    def test_pages_of_events_join_to_the_whole(self, store: EventStore) -> None:
        begin(store)
        for number in range(1, 8):
            store.append("s", event(number, Change("title", value=str(number)), Change("tag", str(number), True)))
        whole = list(store.events("s", limit=100))
        assert len(whole) == 8
        for limit in (1, 2, 3, 4, 8, 9):
            page = store.events("s", limit=limit)
            pages = [page]
            while page.next is not None:
                page = store.events("s", after=int(page.next), limit=limit)
                pages.append(page)
            assert [it for page in pages for it in page] == whole
            assert [len(page) for page in pages[:-1]] == [limit] * ((8 - 1) // limit)

    def test_an_event_is_never_split_between_pages(self, store: EventStore) -> None:
        begin(store)
        for number in (1, 2):
            store.append("s", event(number, *(Change("context", str(key), key) for key in range(50))))
        assert [len(store.events("s", after=after, limit=1)[0].changes) for after in (0, 1, 2)] == [1, 50, 50]

    def test_beyond_the_last_version_there_is_an_empty_page(self, store: EventStore) -> None:
        begin(store)
        page = store.events("s", after=1)
        assert (list(page), page.next) == ([], None)
        assert list(store.events("s", after=2**62)) == []

    def test_events_follow_a_version(self, store: EventStore) -> None:
        bad: list[Any] = [-1, True, "1", 1.0, None, 2**63]
        refusals(InvalidInput, bad, lambda it: store.events("s", after=it), "after")

    def test_a_limit_is_a_sensible_number(self, store: EventStore) -> None:
        bad: list[Any] = [0, -1, True, "5", 2.0, None, 10**9, 10**5000]
        refusals(InvalidInput, bad, lambda it: store.events("s", limit=it), "limit")
        refusals(InvalidInput, bad, lambda it: store.messages("s", after=None, limit=it), "limit")
        refusals(InvalidInput, bad, lambda it: store.messages("s", after=None, limit=it, newest=True), "limit")
        refusals(InvalidInput, bad, lambda it: store.sessions(ALL, limit=it), "limit")

    def test_a_cursor_that_no_page_gave_is_refused(self, store: EventStore) -> None:
        bad: list[Any] = ["", ":", "x:y", "5", "²:x", "--5:x", "0:\ud800", "9" * 5000 + ":x", 5, b"1:x"]
        refusals(InvalidInput, bad, lambda it: store.messages("s", after=it, limit=5), "after")
        refusals(InvalidInput, bad, lambda it: store.sessions(ALL, after=it), "after")

    # Messages

    @pytest.fixture
    def talk(self, store: EventStore) -> EventStore:
        """Fixture: a store whose session has five messages, at versions 2 to 6."""
        begin(store)
        for number, key in enumerate(["z", "a:b", "m", ":", "é"], 1):
            store.append("s", event(number, Change("message", key, {"role": "user", "content": number})))
        return store

    def test_messages_come_in_order_in_pages_that_join(self, talk: EventStore) -> None:
        for limit in (1, 2, 4, 5, 6):
            page = talk.messages("s", after=None, limit=limit)
            found = list(page)
            while page.next is not None:
                assert len(page) == limit
                page = talk.messages("s", after=page.next, limit=limit)
                found += page
            assert [(it.message_id, it.version) for it in found] == [("z", 2), ("a:b", 3), ("m", 4), (":", 5), ("é", 6)]

    def test_a_message_tells_the_actor_and_the_times_of_its_event(self, talk: EventStore) -> None:
        written = {it.version: Origin.of(it) for it in events_of(talk)}
        told = {
            it.version: (it.actor, it.occurred_at, it.recorded_at) for it in talk.messages("s", after=None, limit=9)
        }
        assert told == {version: origin for version, origin in written.items() if version > 1}

    def test_the_newest_messages_come_in_order_too(self, talk: EventStore) -> None:
        assert [it.content for it in talk.messages("s", after=None, limit=2, newest=True)] == [4, 5]
        assert [it.content for it in talk.messages("s", after=None, limit=9, newest=True)] == [1, 2, 3, 4, 5]

    def test_a_message_that_is_replaced_moves_to_its_new_version(self, talk: EventStore) -> None:
        talk.append("s", event(9, Change("message", "z", {"role": "user", "content": "again"})))
        assert ids(talk) == ["a:b", "m", ":", "é", "z"]

    def test_a_message_that_is_removed_is_gone(self, talk: EventStore) -> None:
        talk.append("s", event(9, Change("message", "m", removed=True)))
        assert ids(talk) == ["z", "a:b", ":", "é"]

    def test_messages_of_one_event_are_ordered_by_id(self, store: EventStore) -> None:
        begin(store, "s", *(Change("message", key, {"role": "user", "content": key}) for key in ("c", "a", "b")))
        first = store.messages("s", after=None, limit=2)
        rest: list[Message] = list(store.messages("s", after=first.next, limit=2))
        assert [it.message_id for it in [*first, *rest]] == ["a", "b", "c"]


def ids(store: EventStore) -> list[str]:
    """Return the ids of the session's messages, in order."""
    return [it.message_id for it in store.messages("s", after=None, limit=9)]

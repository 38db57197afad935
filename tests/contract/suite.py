"""The store contract: what every event store does, by the EventStore protocol alone.

A store's own test module subclasses ``StoreContract`` and gives the fixture ``open_store``: called with a name it opens
the store of that name (again, where it was open before), with the test's clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from ledger import (
    Change,
    CorruptEvent,
    IdempotencyConflict,
    InvalidInput,
    LedgerError,
    NewEvent,
    RecordedEvent,
    SessionNotFound,
    StoreRejected,
    WrongExpectedVersion,
)
from ledger.model.fold import fold
from ledger.model.integrity import verify
from ledger.stores.base import Capabilities, EventStore, SessionQuery
from streams import START, SetClock, event, event_id, recorded, uuid7

ALL = SessionQuery()
OpenStore = Callable[..., EventStore]


def begin(store: EventStore, session_id: str = "s", *changes: Change, user_id: str = "ada", number: int = 0) -> None:
    changes = changes or (Change("status", value="active"),)
    store.append(session_id, event(number, *changes, user_id=user_id), expected_version=0)


def events_of(store: EventStore, session_id: str = "s") -> list[RecordedEvent]:
    found, after = [], 0
    while True:
        page = store.events(session_id, after=after, limit=3)
        found += page
        if page.next is None:
            return found
        after = int(page.next)


def values(store: EventStore, session_id: str = "s", **when: object) -> dict[tuple[str, str], object] | None:
    found = store.state(session_id, **when)
    return None if found is None else {slot: written.value for slot, written in found[1].items()}


def listed(store: EventStore, query: SessionQuery = ALL, limit: int = 50) -> list[str]:
    found, after = [], None
    while True:
        page = store.sessions(query, after=after, limit=limit)
        found += [head.session_id for head, _ in page]
        if page.next is None:
            return found
        after = page.next


class Refused:
    """Asserts that what is tried raises and that no row is written."""

    def __init__(self, store: EventStore) -> None:
        self.store = store

    def __call__(self, kind: type[LedgerError], attempt: Callable[[], object], match: str | None = None) -> LedgerError:
        before = self.store.rows_after(0, 10_000)
        with pytest.raises(kind, match=match) as refused:
            attempt()
        assert self.store.rows_after(0, 10_000) == before
        return refused.value


class StoreContract:
    capabilities: Capabilities

    @pytest.fixture
    def clock(self) -> SetClock:
        return SetClock()

    @pytest.fixture
    def store(self, open_store: OpenStore) -> EventStore:
        return open_store("main")

    @pytest.fixture
    def refused(self, store: EventStore) -> Refused:
        return Refused(store)

    # What it can do

    def test_the_capabilities_are_those_expected(self, store):
        assert store.capabilities == self.capabilities

    def test_a_store_keeps_its_identity(self, store, open_store):
        store.close()
        assert open_store("main").store_id == store.store_id != open_store("other").store_id

    # Append

    def test_versions_count_a_sessions_events_from_one(self, store):
        begin(store)
        assert [store.append("s", event(number)).version for number in (1, 2, 3)] == [2, 3, 4]
        assert [it.version for it in events_of(store)] == [1, 2, 3, 4]

    def test_an_event_comes_back_as_it_was_appended(self, store, clock):
        begin(store)
        clock.move(5)
        given = event(
            1, Change("strategy", value={"a": (1, 1.0, None)}), Change("tag", "x", True), Change("title", removed=True),
            event_type="plan.approved", actor="bob", occurred_at=START - timedelta(days=1),
        )  # fmt: skip
        store.append("s", given)
        (it,) = store.events("s", after=1)
        assert (it.session_id, it.version, it.event_id, it.event_type) == ("s", 2, event_id(1), "plan.approved")
        assert (it.user_id, it.actor, it.store_id, it.schema_version) == ("ada", "bob", store.store_id, 1)
        assert (it.occurred_at, it.recorded_at) == (START - timedelta(days=1), START + timedelta(seconds=5))
        assert it.created_at == START
        assert [(c.field, c.key, c.value, c.removed) for c in it.changes] == [
            ("strategy", "", {"a": [1, 1.0, None]}, False),
            ("tag", "x", True, False),
            ("title", "", None, True),
        ]

    def test_an_event_without_a_time_of_its_own_happened_when_it_was_recorded(self, store):
        begin(store)
        assert events_of(store)[0].occurred_at == START

    def test_what_was_appended_is_there_after_reopening(self, store, open_store):
        begin(store)
        store.append("s", event(1, Change("title", value="kept")))
        before, state = events_of(store), store.state("s")
        store.close()
        again = open_store("main")
        assert events_of(again) == before
        assert again.state("s") == state

    def test_an_event_of_a_thousand_changes_is_recorded_whole(self, store):
        begin(store)
        store.append("s", event(1, *(Change("context", f"k{number}", number) for number in range(1000))))
        assert len(events_of(store)[1].changes) == 1000
        assert len(values(store)) == 1001

    def test_values_are_kept_exactly(self, store):
        value = [2**64 - 1, -(2**63), 1, 1.0, True, None, 5e-324, -0.0, "é😀\x00", {"": {}}, [[]], "x" * 100_000]
        begin(store, "s", Change("strategy", value=value), Change("message", "m", {"role": "user", "content": value}))
        assert repr(values(store)["strategy", ""]) == repr(value)
        assert repr(store.messages("s", after=None, limit=1)[0].content) == repr(value)
        assert repr(events_of(store)[0].changes[0].value) == repr(value)

    # Creation and ownership

    def test_the_first_event_names_the_owner(self, store, refused):
        refused(SessionNotFound, lambda: store.append("s", event(1)), "create_session")
        begin(store, user_id="ada")
        assert store.state("s")[0].user_id == "ada"

    def test_the_owner_never_changes(self, store, refused):
        begin(store, user_id="ada")
        refused(InvalidInput, lambda: store.append("s", event(1, user_id="bob")), "owner")
        store.append("s", event(2, user_id="ada"))
        assert {it.user_id for it in events_of(store)} == {"ada"}

    def test_a_uuid7_sessions_creation_time_is_the_one_inside_its_id(self, store, clock):
        session_id = uuid7(START - timedelta(hours=1), 1)
        begin(store, session_id)
        clock.move(60)
        store.append(session_id, event(1))
        assert {it.created_at for it in events_of(store, session_id)} == {START - timedelta(hours=1)}
        assert store.state(session_id)[0].created_at == START - timedelta(hours=1)

    def test_another_session_begins_when_it_is_recorded(self, store, clock):
        clock.move(0.001234)
        begin(store, "chat:17/ключ é")
        assert store.state("chat:17/ключ é")[0].created_at == START + timedelta(microseconds=1234)

    def test_a_creation_day_that_no_warehouse_takes_is_refused(self, store, refused):
        for days in (-3660, 400):
            refused(InvalidInput, lambda days=days: begin(store, uuid7(START + timedelta(days=days), 1)), "warehouse")

    @pytest.mark.parametrize("session_id", ["", " s", "s\n", "\ud800", "s" * 256, 5, None], ids=ascii)
    def test_an_id_that_cannot_be_one_is_refused_everywhere(self, store, refused, session_id):
        refused(InvalidInput, lambda: begin(store, session_id))
        for read in (
            lambda: store.state(session_id),
            lambda: store.events(session_id),
            lambda: store.messages(session_id, after=None, limit=5),
            lambda: store.version_of(session_id, event_id(1)),
        ):
            with pytest.raises(InvalidInput, match="session_id"):
                read()

    # expected_version

    def test_an_append_that_expects_the_present_version_goes_through(self, store):
        begin(store)
        assert store.append("s", event(1), expected_version=1).version == 2

    @pytest.mark.parametrize("expected", [0, 1, 3, 2**62])
    def test_an_append_that_expects_another_version_writes_nothing(self, store, refused, expected):
        begin(store)
        store.append("s", event(1))
        error = refused(WrongExpectedVersion, lambda: store.append("s", event(2), expected_version=expected))
        assert (error.session_id, error.expected, error.actual) == ("s", expected, 2)

    def test_expecting_a_version_of_a_session_that_is_not_there_is_a_wrong_version(self, store, refused):
        wanted = event(1, user_id="ada")
        error = refused(WrongExpectedVersion, lambda: store.append("s", wanted, expected_version=3))
        assert error.actual == 0

    @pytest.mark.parametrize(
        "expected", [True, False, 1.0, "1", None, -2, 2**63, 10**5000], ids=lambda it: str(type(it))
    )
    def test_what_is_no_version_cannot_be_expected(self, store, refused, expected):
        begin(store)
        refused(InvalidInput, lambda: store.append("s", event(1), expected_version=expected), "expected_version")

    # Idempotency

    def test_the_same_event_again_is_replayed(self, store, clock):
        begin(store)
        first = store.append("s", event(1, Change("strategy", value={"a": 1, "b": 2})))
        store.append("s", event(2))
        clock.move(60)
        again = store.append("s", event(1, Change("strategy", value={"b": 2, "a": 1}), actor="bob", occurred_at=START))
        assert again == replace(first, replayed=True)
        assert len(events_of(store)) == 3

    def test_a_replay_does_not_mind_what_version_is_expected(self, store):
        begin(store)
        store.append("s", event(1), expected_version=1)
        assert store.append("s", event(1), expected_version=1).replayed
        assert store.append("s", event(1), expected_version=77).replayed

    def test_a_creation_can_be_repeated(self, store):
        begin(store)
        again = store.append("s", event(0, Change("status", value="active"), user_id="ada"), expected_version=0)
        assert (again.version, again.replayed) == (1, True)

    @pytest.mark.parametrize(
        "other",
        [
            event(1, Change("title", value="other")),
            event(1, Change("title", value="t"), event_type="other.made"),
            event(1, Change("title", value="t"), Change("summary", value="s")),
            event(1, Change("title", removed=True)),
            event(1, Change("summary", value="t")),
        ],
        ids=["value", "type", "more", "removed", "field"],
    )
    def test_an_event_id_with_other_content_is_a_conflict(self, store, refused, other):
        begin(store)
        store.append("s", event(1, Change("title", value="t")))
        error = refused(IdempotencyConflict, lambda: store.append("s", other))
        assert (error.session_id, error.event_id) == ("s", event_id(1))

    def test_one_and_one_point_zero_are_other_content(self, store, refused):
        begin(store, "s", Change("strategy", value=1), number=1)
        refused(IdempotencyConflict, lambda: store.append("s", event(1, Change("strategy", value=1.0))))

    def test_an_event_id_belongs_to_its_session(self, store):
        begin(store, "a", number=1)
        begin(store, "b", number=1)
        assert store.version_of("a", event_id(1)) == store.version_of("b", event_id(1)) == 1

    def test_the_version_of_an_event_can_be_looked_up(self, store):
        begin(store)
        store.append("s", event(1))
        assert store.version_of("s", event_id(1)) == 2
        assert store.version_of("s", event_id(9)) is None
        assert store.version_of("nope", event_id(1)) is None

    # State

    def test_the_state_is_the_last_write_of_each_slot(self, store):
        begin(store)
        store.append("s", event(1, Change("title", value="a"), Change("tag", "x", True)))
        store.append("s", event(2, Change("title", value="b"), Change("tag", "y", True)))
        store.append("s", event(3, Change("tag", "x", removed=True)))
        assert values(store) == {("status", ""): "active", ("title", ""): "b", ("tag", "y"): True}

    def test_the_state_is_the_fold_of_the_events(self, store):
        begin(store)
        store.append(
            "s", event(1, Change("title", value="a"), Change("message", "m", {"role": "user", "content": "x"}))
        )
        store.append("s", event(2, Change("title", removed=True)))
        assert store.state("s", with_messages=True)[1] == fold(events_of(store))

    def test_a_state_read_again_sees_what_came_meanwhile(self, store):
        begin(store)
        for number in range(1, 5):
            assert values(store).get(("title", "")) == (None if number == 1 else f"title {number - 1}")
            store.append("s", event(number))

    def test_a_slot_can_be_set_again_after_its_removal(self, store):
        begin(store)
        for number, change in enumerate([Change("title", value="a"), Change("title", removed=True)] * 2, 1):
            store.append("s", event(number, change))
        store.append("s", event(9, Change("title", value="z")))
        assert values(store)["title", ""] == "z"

    def test_a_session_that_is_not_there_has_no_state(self, store):
        assert store.state("nope") is None
        assert store.state("nope", version=3) is None
        assert store.state("nope", at=START) is None
        assert list(store.events("nope")) == []
        assert list(store.messages("nope", after=None, limit=5)) == []

    def test_the_head_says_where_the_session_stands(self, store, clock):
        begin(store)
        clock.move(7)
        store.append("s", event(1))
        head, _ = store.state("s")
        assert (head.session_id, head.user_id, head.version) == ("s", "ada", 2)
        assert (head.created_at, head.updated_at) == (START, START + timedelta(seconds=7))
        assert head.store_id == store.store_id

    def test_messages_are_read_only_where_asked_for(self, store):
        begin(store)
        store.append("s", event(1, Change("message", "m", {"role": "user", "content": "hi"})))
        assert ("message", "m") not in values(store)
        assert values(store, with_messages=True)["message", "m"]["content"] == "hi"
        assert ("message", "m") not in values(store, version=2)
        assert ("message", "m") in values(store, version=2, with_messages=True)

    # As of a version, as of a time

    def test_the_state_at_a_version_is_the_fold_up_to_it(self, store):
        begin(store)
        for number, change in enumerate([Change("title", value="a"), Change("title", removed=True)] * 3, 1):
            store.append("s", event(number, change))
        events = events_of(store)
        for version in range(1, 8):
            head, state = store.state("s", version=version)
            assert state == fold(events, at_version=version)
            assert (head.version, head.event_hash) == (version, events[version - 1].event_hash)

    @pytest.mark.parametrize("version", [0, -1, 3, True, 1.0, "1", 2**63, 10**5000], ids=lambda it: str(type(it)))
    def test_a_version_that_never_was_is_refused(self, store, version):
        begin(store)
        store.append("s", event(1))
        with pytest.raises(InvalidInput, match="version"):
            store.state("s", version=version)

    def test_the_state_at_a_time_is_that_of_the_last_version_by_then(self, store, clock):
        begin(store)
        clock.move(10)
        store.append("s", event(1, Change("title", value="a")))
        store.append("s", event(2, Change("title", value="b")))
        clock.move(10)
        store.append("s", event(3, Change("title", value="c")))

        def at(seconds):
            found = store.state("s", at=START + timedelta(seconds=seconds))
            return found and found[0].version

        assert [at(s) for s in (-1, 0, 9.999999, 10, 19, 20, 10**6)] == [None, 1, 1, 3, 3, 4, 4]

    def test_times_recorded_never_go_back_though_the_clock_does(self, store, clock):
        begin(store)
        for number, step in enumerate([5, -60, 2, 100, -1], 1):
            clock.move(step)
            store.append("s", event(number))
        times = [it.recorded_at for it in events_of(store)]
        assert times == sorted(times)
        assert times[1] == times[2] == times[3] == START + timedelta(seconds=5)
        assert store.state("s", at=START + timedelta(seconds=5))[0].version == 4

    @pytest.mark.parametrize("at", ["2026-01-01", 5, datetime(2026, 1, 1)], ids=str)  # noqa: DTZ001
    @pytest.mark.parametrize("session_id", ["s", "nope"])
    def test_a_time_must_be_an_aware_datetime(self, store, at, session_id):
        begin(store)
        with pytest.raises(InvalidInput, match="at "):
            store.state(session_id, at=at)

    def test_a_version_and_a_time_are_too_much(self, store):
        with pytest.raises(InvalidInput, match="not both"):
            store.state("s", version=1, at=START)

    # Events, in pages

    def test_pages_of_events_join_to_the_whole(self, store):
        begin(store)
        for number in range(1, 8):
            store.append("s", event(number, Change("title", value=str(number)), Change("tag", str(number), True)))
        whole = list(store.events("s", limit=100))
        for limit in (1, 2, 3, 4, 8, 9):
            joined, after, pages = [], 0, 0
            while True:
                page = store.events("s", after=after, limit=limit)
                joined += page
                pages += 1
                assert len(page) <= limit
                if page.next is None:
                    break
                after = int(page.next)
            assert joined == whole
            assert pages == -(-8 // limit)

    def test_an_event_is_never_split_between_pages(self, store):
        begin(store)
        for number in (1, 2):
            store.append("s", event(number, *(Change("context", str(key), key) for key in range(50))))
        assert [len(store.events("s", after=after, limit=1)[0].changes) for after in (0, 1, 2)] == [1, 50, 50]

    def test_beyond_the_last_version_there_is_an_empty_page(self, store):
        begin(store)
        page = store.events("s", after=1)
        assert (list(page), page.next) == ([], None)
        assert list(store.events("s", after=2**62)) == []

    @pytest.mark.parametrize("after", [-1, True, "1", 1.0, None, 2**63], ids=repr)
    def test_events_follow_a_version(self, store, after):
        with pytest.raises(InvalidInput, match="after"):
            store.events("s", after=after)

    @pytest.mark.parametrize("limit", [0, -1, True, "5", 2.0, None, 10**9, 10**5000], ids=lambda it: str(type(it)))
    def test_a_limit_is_a_sensible_number(self, store, limit):
        for read in (
            lambda: store.events("s", limit=limit),
            lambda: store.messages("s", after=None, limit=limit),
            lambda: store.messages("s", after=None, limit=limit, newest=True),
            lambda: store.sessions(ALL, limit=limit),
        ):
            with pytest.raises(InvalidInput, match="limit"):
                read()

    @pytest.mark.parametrize(
        "after", ["", ":", "x:y", "5", "²:x", "--5:x", "0:\ud800", "9" * 5000 + ":x", 5, b"1:x"], ids=ascii
    )
    def test_a_cursor_that_no_page_gave_is_refused(self, store, after):
        for read in (lambda: store.messages("s", after=after, limit=5), lambda: store.sessions(ALL, after=after)):
            with pytest.raises(InvalidInput, match="after"):
                read()

    # Messages

    @pytest.fixture
    def talk(self, store):
        begin(store)
        for number, key in enumerate(["z", "a:b", "m", ":", "é"], 1):
            store.append("s", event(number, Change("message", key, {"role": "user", "content": number})))
        return store

    def test_messages_come_in_order_in_pages_that_join(self, talk):
        for limit in (1, 2, 4, 5, 6):
            found, after = [], None
            while True:
                page = talk.messages("s", after=after, limit=limit)
                found += page
                if page.next is None:
                    break
                after = page.next
            assert [m.message_id for m in found] == ["z", "a:b", "m", ":", "é"]
            assert [m.version for m in found] == [2, 3, 4, 5, 6]

    def test_the_newest_messages_come_in_order_too(self, talk):
        assert [m.content for m in talk.messages("s", after=None, limit=2, newest=True)] == [4, 5]
        assert [m.content for m in talk.messages("s", after=None, limit=9, newest=True)] == [1, 2, 3, 4, 5]

    def test_a_message_that_is_replaced_moves_to_its_new_version(self, talk):
        talk.append("s", event(9, Change("message", "z", {"role": "user", "content": "again"})))
        assert [m.message_id for m in talk.messages("s", after=None, limit=9)] == ["a:b", "m", ":", "é", "z"]

    def test_a_message_that_is_removed_is_gone(self, talk):
        talk.append("s", event(9, Change("message", "m", removed=True)))
        assert [m.message_id for m in talk.messages("s", after=None, limit=9)] == ["z", "a:b", ":", "é"]

    def test_messages_of_one_event_are_ordered_by_id(self, store):
        parts = [Change("message", key, {"role": "user", "content": key}) for key in ("c", "a", "b")]
        begin(store, "s", *parts)
        first = store.messages("s", after=None, limit=2)
        rest = store.messages("s", after=first.next, limit=2)
        assert [m.message_id for m in [*first, *rest]] == ["a", "b", "c"]

    # Sessions

    @pytest.fixture
    def shelf(self, store, clock):
        for number in range(12):
            clock.move(60)
            changes = [
                Change("status", value="active" if number % 2 else "completed"),
                Change("attribute", "n", number % 3),
                Change("attribute", "null", None),
            ]
            if number % 4 == 0:
                changes.append(Change("tag", "hot", True))
            if number % 5 == 0:
                changes.append(Change("session_type", value="chat"))
            begin(store, f"s:{number:02}", *changes, user_id="ada" if number < 6 else "bob:é")
        return store

    @pytest.mark.parametrize(
        ("criteria", "numbers"),
        [
            ({}, range(12)),
            ({"user_id": "ada"}, range(6)),
            ({"user_id": "bob:é"}, range(6, 12)),
            ({"user_id": "nobody"}, []),
            ({"status": "completed"}, range(0, 12, 2)),
            ({"session_type": "chat"}, [0, 5, 10]),
            ({"tag": "hot"}, [0, 4, 8]),
            ({"attributes": {"n": 1}}, [1, 4, 7, 10]),
            ({"attributes": {"n": 1.0}}, []),
            ({"attributes": {"n": True}}, []),
            ({"attributes": {"n": "1"}}, []),
            ({"attributes": {"null": None, "n": 0}}, [0, 3, 6, 9]),
            ({"attributes": {"missing": None}}, []),
            ({"created_from": START + timedelta(minutes=3)}, range(2, 12)),
            ({"created_until": START + timedelta(minutes=3)}, range(2)),
            ({"created_from": START + timedelta(minutes=3), "created_until": START + timedelta(minutes=5)}, [2, 3]),
            ({"user_id": "ada", "tag": "hot", "status": "completed"}, [0, 4]),
            ({"user_id": "bob:é", "attributes": {"n": 1}, "status": "active"}, [7]),
            ({"tag": "hot", "session_type": "chat", "attributes": {"n": 0}}, [0]),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("limit", [1, 2, 50])
    def test_sessions_are_listed_by_every_criterion_newest_first(self, shelf, criteria, numbers, limit):
        assert listed(shelf, SessionQuery(**criteria), limit) == [f"s:{n:02}" for n in reversed(list(numbers))]

    def test_a_list_holds_heads_and_states_without_messages(self, shelf):
        shelf.append("s:03", event(99, Change("message", "m", {"role": "user", "content": "hi"})))
        for head, state in shelf.sessions(ALL):
            assert (head, state) == shelf.state(head.session_id)

    def test_a_criterion_follows_the_present_state(self, shelf):
        shelf.append("s:00", event(99, Change("tag", "hot", removed=True), Change("status", value="failed")))
        assert listed(shelf, SessionQuery(tag="hot")) == ["s:08", "s:04"]
        assert listed(shelf, SessionQuery(status="failed")) == ["s:00"]

    def test_sessions_of_one_instant_are_paged_without_gap_or_repeat(self, store):
        ids = [f"same {n}:{n}" for n in range(7)]
        for session_id in ids:
            begin(store, session_id)
        assert listed(store, limit=2) == sorted(ids, reverse=True)

    def test_what_begins_while_one_pages_disturbs_nothing(self, shelf, clock):
        first = shelf.sessions(ALL, limit=5)
        clock.move(60)
        begin(shelf, "new")
        begin(shelf, uuid7(START - timedelta(hours=1), 1))  # an older day, further down
        rest = shelf.sessions(ALL, after=first.next, limit=50)
        found = [head.session_id for head, _ in [*first, *rest]]
        assert found[:12] == [f"s:{n:02}" for n in reversed(range(12))]
        assert len(found) == 13

    @pytest.mark.parametrize(
        "criteria",
        [
            *({"user_id": 5}, {"user_id": ""}, {"user_id": "\ud800"}, {"tag": ["x"]}, {"status": 5}),
            *({"attributes": ["n"]}, {"attributes": {5: 1}}, {"attributes": {"\ud800": 1}}, {"attributes": {"n": {1}}}),
            *({"session_type": b"x"}, {"created_from": datetime(2026, 1, 1)}, {"created_until": "now"}),  # noqa: DTZ001
        ],
        ids=ascii,
    )
    def test_a_criterion_that_cannot_be_one_is_refused(self, store, criteria):
        with pytest.raises(InvalidInput):
            store.sessions(SessionQuery(**criteria))

    # Whole events, in and out

    @pytest.fixture
    def elsewhere(self, open_store) -> Iterator[EventStore]:
        other = open_store("elsewhere")
        for session_id in ("a", "b"):
            begin(other, session_id)
            for number in range(1, 4):
                other.append(
                    session_id, event(number, Change("title", value=str(number)), Change("tag", str(number), True))
                )
        return other

    def test_events_are_taken_over_as_they_were_recorded(self, store, elsewhere):
        brought = [*elsewhere.events("a"), *elsewhere.events("b")]
        assert store.ingest(brought) == 8
        for session_id in ("a", "b"):
            assert list(store.events(session_id)) == list(elsewhere.events(session_id))
            assert store.state(session_id)[1] == elsewhere.state(session_id)[1]

    def test_taking_over_again_adds_nothing(self, store, elsewhere):
        brought = list(elsewhere.events("a"))
        assert store.ingest(brought[:2]) == 2
        assert store.ingest(brought + brought) == 2
        assert store.ingest(brought) == 0
        assert store.ingest([]) == 0
        assert list(store.events("a")) == brought

    def test_the_order_in_which_events_are_handed_in_does_not_matter(self, store, elsewhere):
        brought = list(elsewhere.events("a"))
        assert store.ingest(brought[::-1]) == 4
        assert list(store.events("a")) == brought

    def test_a_session_that_was_taken_over_goes_on(self, store, elsewhere):
        store.ingest(elsewhere.events("a"))
        assert store.append("a", event(9), expected_version=4).version == 5
        assert store.append("a", event(2, Change("title", value="2"), Change("tag", "2", True))).replayed
        if store.capabilities.hash_chain:
            assert verify(store.events("a")) == 5

    def test_a_session_that_went_on_in_two_places_is_refused(self, store, elsewhere, refused):
        store.ingest(elsewhere.events("a"))
        elsewhere.append("a", event(8))
        store.append("a", event(9))
        error = refused(WrongExpectedVersion, lambda: store.ingest(elsewhere.events("a")))
        assert (error.session_id, error.actual) == ("a", 5)

    def test_an_event_with_other_content_is_a_conflict(self, store, elsewhere, refused):
        store.ingest(elsewhere.events("a"))
        begin(store, "b", number=1)
        refused(IdempotencyConflict, lambda: store.ingest(elsewhere.events("b")))

    def test_of_several_sessions_all_are_taken_or_none(self, store, elsewhere, refused):
        begin(store, "b", number=77)
        refused(WrongExpectedVersion, lambda: store.ingest([*elsewhere.events("a"), *elsewhere.events("b")]))
        assert store.state("a") is None

    @pytest.mark.parametrize(
        "change",
        [
            {"event_type": "other.made"},
            {"actor": "eve"},
            {"prev_hash": "0" * 64},
            {"recorded_at": START - timedelta(1)},
        ],
        ids=str,
    )
    def test_an_event_that_was_tampered_with_is_refused(self, store, elsewhere, refused, change):
        if not store.capabilities.hash_chain:
            pytest.skip("this store keeps no chain")
        brought = list(elsewhere.events("a"))
        brought[1] = replace(brought[1], **change)
        refused(CorruptEvent, lambda: store.ingest(brought), "version 2")

    def test_a_gap_in_a_chain_is_refused(self, store, elsewhere, refused):
        brought = list(elsewhere.events("a"))
        for missing in (brought[1:], brought[:1] + brought[2:]):
            refused(CorruptEvent, lambda missing=missing: store.ingest(missing))

    def test_owner_and_creation_time_are_one_for_a_session(self, store, refused):
        first = recorded(1, 1, [Change("title", value="a")])
        for other in ({"user_id": "bob"}, {"created_at": START + timedelta(days=1)}):
            second = recorded(2, 2, [Change("title", value="b")], **other)
            refused(InvalidInput, lambda second=second: store.ingest([first, second]), "never change")
        store.ingest([first])
        refused(InvalidInput, lambda: store.ingest([recorded(2, 2, [Change("title", value="b")], user_id="bob")]))

    def test_the_creation_time_of_a_uuid7_session_is_the_one_inside(self, store, refused):
        wrong = recorded(1, 1, [Change("title", value="a")], session_id=uuid7(START - timedelta(days=1), 1))
        refused(InvalidInput, lambda: store.ingest([wrong]), "inside")

    @pytest.mark.parametrize("count", [0, 1001])
    def test_an_event_that_no_append_would_take_is_refused(self, store, refused, count):
        event = recorded(1, 1, [Change("context", str(n), n) for n in range(count)])
        refused(InvalidInput, lambda: store.ingest([event]), "1 to 1,000")

    def test_events_without_a_chain_do_not_break_that_of_their_session(self, store):
        if not store.capabilities.hash_chain:
            pytest.skip("this store keeps no chain")
        begin(store)
        store.ingest([recorded(2, 2, [Change("title", value="unchained")])])
        store.append("s", event(3))
        assert verify(store.events("s")) == 2
        assert values(store)["title", ""] == "title 3"

    def test_unchecked_writers_events_of_one_version_are_both_kept(self, store):
        both = [recorded(1, 1, [Change("status", value="active")])] + [
            recorded(2, number, [Change("title", value=str(number))]) for number in (3, 2)
        ]
        store.ingest(both)
        assert [it.event_id for it in store.events("s")] == [event_id(1), event_id(2), event_id(3)]
        assert [len(store.events("s", after=after, limit=1)) for after in (0, 1)] == [1, 2]
        assert values(store)["title", ""] == values(store, version=2)["title", ""] == "3"

    # Rows, for a relay

    def test_rows_come_in_the_order_of_their_commits_each_once(self, store):
        begin(store, "a")
        begin(store, "b")
        store.append("a", event(1, Change("title", value="x"), Change("tag", "t", True)))
        rows = store.rows_after(0, 100)
        assert [f"{row[1]} {row[2]} {row[5]}" for row in rows] == ["a 1 status", "b 1 status", "a 2 title", "a 2 tag"]
        assert [row[0] for row in rows] == sorted({row[0] for row in rows})
        assert store.rows_after(rows[1][0], 100) == rows[2:]
        assert list(store.rows_after(rows[-1][0], 100)) == []

    def test_rows_never_split_an_event(self, store):
        begin(store)
        sizes = [400, 700, 1000, 1, 999]
        for number, size in enumerate(sizes, 1):
            store.append("s", event(number, *(Change("context", str(key), number) for key in range(size))))
        seq, found = 0, []
        while rows := store.rows_after(seq, 1):
            versions = [row[2] for row in rows]
            assert all(versions.count(version) == [1, *sizes][version - 1] for version in versions[:1] + versions[-1:])
            found += rows
            seq = rows[-1][0]
        assert len(found) == 1 + sum(sizes)

    def test_a_row_has_the_columns_of_the_table(self, store):
        begin(store, "s", Change("strategy", value={"b": 1, "a": None}))
        (row,) = store.rows_after(0, 10)
        assert len(row) == 20
        assert row[1:10] == ("s", 1, event_id(0), "test.made", "strategy", "", '{"a":null,"b":1}', 0, "ada")

    @pytest.mark.parametrize("seq", [-1, "0", 2**63, None], ids=repr)
    def test_rows_follow_a_row(self, store, seq):
        with pytest.raises(InvalidInput, match="seq"):
            store.rows_after(seq, 10)

    # Integrity

    def test_what_was_appended_verifies(self, store):
        if not store.capabilities.hash_chain:
            pytest.skip("this store keeps no chain")
        begin(store)
        for number in range(1, 6):
            store.append(
                "s", event(number, Change("title", removed=number % 2 == 0, value=None if number % 2 == 0 else "t"))
            )
        assert verify(events_of(store)) == 6
        assert store.state("s")[0].event_hash == events_of(store)[-1].event_hash

    # Several at once

    def test_of_threads_that_expect_one_version_one_wins(self, store):
        begin(store)
        won, lost = [], []

        def race(number: int) -> None:
            try:
                won.append(store.append("s", event(number), expected_version=1))
            except WrongExpectedVersion as error:
                lost.append(error.actual)

        threads = [threading.Thread(target=race, args=(number,)) for number in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert lost == [2] * 7

    def test_of_threads_that_send_one_event_one_records_it(self, store):
        begin(store)
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(store.append("s", event(1)))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {it.version for it in answers} == {2}
        assert [it.replayed for it in answers].count(False) == 1

    def test_two_stores_on_the_same_data_see_each_others_appends(self, store, open_store):
        begin(store)
        other = open_store("main")
        for number in range(1, 6):
            writer, reader = (store, other) if number % 2 else (other, store)
            assert writer.append("s", event(number), expected_version=number).version == number + 1
            assert values(reader)["title", ""] == f"title {number}"

    # Backup and close

    def test_a_backup_is_a_store_of_its_own(self, store, tmp_path, open_backup):
        if not store.capabilities.backup:
            pytest.skip("this store makes no backups")
        begin(store)
        store.append("s", event(1))
        store.backup(tmp_path / "copy")
        store.append("s", event(2))
        copy = open_backup(tmp_path / "copy")
        assert events_of(copy) == events_of(store)[:2]
        copy.append("s", event(3))
        assert len(events_of(copy)) == len(events_of(store)) == 3

    def test_a_backup_overwrites_nothing(self, store, tmp_path):
        if not store.capabilities.backup:
            pytest.skip("this store makes no backups")
        (tmp_path / "copy").write_text("mine")
        with pytest.raises(StoreRejected, match="exists"):
            store.backup(tmp_path / "copy")
        assert (tmp_path / "copy").read_text() == "mine"
        with pytest.raises(StoreRejected):
            store.backup(tmp_path / "nowhere" / "copy")

    def test_a_closed_store_refuses_everything_and_closes_again(self, store, tmp_path):
        begin(store)
        store.close()
        store.close()
        for use in (
            lambda: store.append("s", event(1)),
            lambda: store.state("s"),
            lambda: store.state("s", version=1),
            lambda: store.events("s"),
            lambda: store.messages("s", after=None, limit=1),
            lambda: store.sessions(ALL),
            lambda: store.version_of("s", event_id(1)),
            lambda: store.rows_after(0, 1),
            lambda: store.ingest([recorded(1, 1, [Change("title", value="x")], session_id="t")]),
            lambda: store.backup(tmp_path / "copy"),
        ):
            with pytest.raises(StoreRejected, match="closed"):
                use()
        assert not (tmp_path / "copy").exists()

    # What cannot be recorded

    @pytest.mark.parametrize(
        "bad",
        [
            NewEvent("no type", [Change("title", value="x")], event_id(1)),
            NewEvent("a.b", [], event_id(1)),
            NewEvent("a.b", [Change("nope", value="x")], event_id(1)),
            NewEvent("a.b", [Change("title", value=float("nan"))], event_id(1)),
            NewEvent("a.b", [Change("title", value="x"), Change("strategy", value={1: 2})], event_id(1)),
            NewEvent("a.b", [Change("tag", "x\ud800", True)], event_id(1)),
            NewEvent("a.b", [Change("title", value="x")], "\ud800"),
            NewEvent("a.b", [Change("title", value="x")], ""),
            NewEvent("a.b", [Change("title", value="x")], event_id(1), actor="\ud800"),
            NewEvent("a.b", [Change("title", value="x")], event_id(1), occurred_at=datetime(2026, 1, 1)),  # noqa: DTZ001
        ],
        ids=lambda it: ascii(it)[:60],
    )
    def test_an_event_that_cannot_be_recorded_is_refused_whole(self, store, refused, bad):
        begin(store)
        refused(InvalidInput, lambda: store.append("s", bad))
        assert store.state("s")[0].version == 1

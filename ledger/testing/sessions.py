"""The contract of lists: the sessions that meet given criteria, newest first, in pages."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from ledger import Change, InvalidInput
from ledger.model.queries import SessionQuery
from ledger.stores.base import EventStore
from ledger.testing.harness import ALL, Harness, begin, listed, refusals, state_of
from ledger.testing.streams import START, SetClock, event, uuid7

MINUTE = timedelta(minutes=1)
#: Test cases. Each has criteria, the numbers of the sessions of ``fill`` that meet them, and the page limits to try.
CRITERIA: list[tuple[dict[str, Any], Iterable[int], tuple[int, ...]]] = [
    ({}, range(12), (50, 5)),
    ({"user_id": "ada"}, range(6), (50,)),
    ({"user_id": "bob:é"}, range(6, 12), (50, 3)),
    ({"user_id": "nobody"}, [], (1,)),
    ({"status": "completed"}, range(0, 12, 2), (50,)),
    ({"session_type": "chat"}, [0, 5, 10], (2,)),
    ({"tag": "hot"}, [0, 4, 8], (50, 1)),
    ({"attributes": {"n": 1}}, [1, 4, 7, 10], (2,)),
    ({"attributes": {"n": 1.0}}, [1, 4, 7, 10], (50,)),
    ({"attributes": {"n": True}}, [], (50,)),
    ({"attributes": {"n": "1"}}, [], (50,)),
    ({"attributes": {"null": None, "n": 0}}, [0, 3, 6, 9], (50,)),
    ({"attributes": {"missing": None}}, [], (50,)),
    ({"granted_to": "eve"}, [1, 6], (1,)),
    ({"granted_to": "eve", "user_id": "ada"}, [1], (50,)),
    ({"granted_to": "ada"}, [], (50,)),
    ({"created_from": START + 3 * MINUTE}, range(2, 12), (50,)),
    ({"created_until": START + 3 * MINUTE}, range(2), (1,)),
    ({"created_from": START + 3 * MINUTE, "created_until": START + 5 * MINUTE}, [2, 3], (50,)),
    ({"user_id": "ada", "tag": "hot", "status": "completed"}, [0, 4], (1,)),
    ({"user_id": "bob:é", "attributes": {"n": 1}, "status": "active"}, [7], (50,)),
    ({"tag": "hot", "session_type": "chat", "attributes": {"n": 0}}, [0], (50,)),
]

#: Attribute values to ask for, each with an equal value and one that is not equal, as ``ledger.model.equality`` defines
#: it.
COMPARED: list[tuple[Any, Any, Any]] = [
    (1, 1.0, True),
    (1.0, 1, "1"),
    (0, -0.0, False),
    (2**53, float(2**53), 2**53 + 1),
    (2**53 + 1, 2**53 + 1, float(2**53)),
    (float(2**63), 2**63, 2**63 - 1),
    (10**16, 1e16, "1e16"),
    (1e300, 1e300, 1.0000000000000002e300),
    (0.1, 0.1, 0.10000000000000002),
    (True, True, 1),
    (False, False, None),
    (None, None, "null"),
    ("é", "é", "e\u0301"),
    ('/"\u2028\n', '/"\u2028\n', '/"\u2028'),
    ([], [], {}),
    ([1, 2.0], [1.0, 2], [2, 1]),
    ({"b": ["x", None], "a": True}, {"a": True, "b": ["x", None]}, {"a": True, "b": [None, "x"]}),
    (
        {"a": 1, "b": [True, {"c": 0, "d": 1e16}]},
        {"b": [True, {"d": 10**16, "c": -0.0}], "a": 1.0},
        {"a": 1, "b": [1, {"c": 0, "d": 1e16}]},
    ),
]


def fill(store: EventStore, clock: SetClock, count: int) -> list[str]:
    """Create sessions one minute apart. Owner, status, type, tags and so on vary. Return the sessions' ids."""
    ids = [f"s:{number:02}" for number in range(count)]
    for number, session_id in enumerate(ids):
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
        if number in (1, 6):
            changes.append(Change("grant", "eve", "read" if number == 1 else "write"))
        begin(store, session_id, *changes, user_id="ada" if number < 6 else "bob:é")
    return ids


class SessionsContract(Harness):
    """Tests that a list contains each session that meets all of the criteria, exactly once, and no other session."""

    def test_sessions_are_listed_by_every_criterion_newest_first(self, store: EventStore, clock: SetClock) -> None:
        ids = fill(store, clock, 12)  # one store for all criteria, since filling one may be slow
        for criteria, numbers, limits in CRITERIA:
            expected = [ids[number] for number in reversed(list(numbers))]
            for limit in limits:
                assert listed(store, SessionQuery(**criteria), limit) == expected, f"{criteria} at limit {limit}"

    def test_attributes_are_compared_as_values(self, store: EventStore) -> None:
        asked, equal, others = ({f"v{n}": it for n, it in enumerate(each)} for each in zip(*COMPARED, strict=True))
        sessions = {"asked": asked, "equal": equal}
        sessions.update({f"{name} is {other!a}": {**asked, name: other} for name, other in others.items()})
        for number, (session_id, values) in enumerate(sessions.items()):
            begin(store, session_id, *(Change("attribute", *item) for item in values.items()), number=number)
        assert sorted(listed(store, SessionQuery(attributes=asked))) == ["asked", "equal"]

    def test_a_list_holds_heads_and_states_without_messages(self, store: EventStore, clock: SetClock) -> None:
        fill(store, clock, 3)
        store.append("s:01", event(99, Change("message", "m", {"role": "user", "content": "hi"})))
        assert [(head.session_id, head.version) for head, _ in store.sessions(ALL)] == [
            ("s:02", 1),
            ("s:01", 2),
            ("s:00", 1),
        ]
        for head, state in store.sessions(ALL):
            assert (head, state) == state_of(store, head.session_id)

    def test_a_criterion_follows_the_present_state(self, store: EventStore, clock: SetClock) -> None:
        fill(store, clock, 5)
        store.append("s:00", event(99, Change("tag", "hot", removed=True), Change("status", value="failed")))
        store.append("s:01", event(99, Change("tag", "hot", True), Change("attribute", "n", 7)))
        store.append("s:02", event(99, Change("grant", "eve", "read")))
        store.append("s:02", event(98, Change("grant", "eve", "write")))
        store.append("s:01", event(98, Change("grant", "eve", removed=True)))
        assert listed(store, SessionQuery(tag="hot")) == ["s:04", "s:01"]
        assert listed(store, SessionQuery(status="failed")) == ["s:00"]
        assert listed(store, SessionQuery(granted_to="eve")) == ["s:02"]
        assert listed(store, SessionQuery(attributes={"n": 7})) == ["s:01"]
        assert listed(store, SessionQuery(attributes={"n": 1})) == ["s:04"]

    def test_sessions_of_one_instant_are_paged_without_gap_or_repeat(self, store: EventStore) -> None:
        ids = [f"same {n}:{n}" for n in range(7)]
        for session_id in ids:
            begin(store, session_id)
        assert listed(store, limit=2) == sorted(ids, reverse=True)

    def test_what_begins_while_one_pages_disturbs_nothing(self, store: EventStore, clock: SetClock) -> None:
        ids = fill(store, clock, 5)
        first = store.sessions(ALL, limit=2)
        clock.move(60)
        begin(store, "new")
        older = uuid7(START - timedelta(hours=1), 1)  # listed after the others
        begin(store, older)
        rest = store.sessions(ALL, after=first.next, limit=50)
        assert [head.session_id for head, _ in [*first, *rest]] == [*reversed(ids), older]

    def test_a_criterion_that_cannot_be_one_is_refused(self, store: EventStore) -> None:
        bad: list[dict[str, Any]] = [
            *({"user_id": 5}, {"user_id": ""}, {"user_id": "\ud800"}, {"tag": ["x"]}, {"status": 5}),
            *({"status": ""}, {"status": "Completed"}, {"status": "in progress"}),
            *({"attributes": ["n"]}, {"attributes": {5: 1}}, {"attributes": {"\ud800": 1}}, {"attributes": {"n": {1}}}),
            *({"granted_to": 5}, {"granted_to": ""}),
            *({"session_type": b"x"}, {"created_from": datetime(2026, 1, 1)}, {"created_until": "now"}),  # noqa: DTZ001
        ]
        refusals(InvalidInput, bad, lambda it: store.sessions(SessionQuery(**it)))

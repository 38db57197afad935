"""The contract of append: the recorded event, creation of a session, and refused events."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from ledger import Change, InvalidInput, LedgerError, NewEvent, SessionNotFound, ValueTooLarge
from ledger.stores.base import EventStore
from ledger.testing.harness import Harness, Refused, begin, events_of, refusals, state_of, values
from ledger.testing.streams import START, SetClock, event, event_id, uuid7


class AppendContract(Harness):
    """Tests that a store records an event whole and unchanged, or not at all."""

    def test_an_event_comes_back_as_it_was_appended(self, store: EventStore, clock: SetClock) -> None:
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

    def test_an_event_without_a_time_of_its_own_happened_when_it_was_recorded(self, store: EventStore) -> None:
        begin(store)
        assert events_of(store)[0].occurred_at == START

    def test_values_are_kept_exactly(self, store: EventStore) -> None:
        value: list[Any] = [
            2**64 - 1,
            -(2**63),
            1,
            1.0,
            True,
            None,
            5e-324,
            -0.0,
            "é😀\x00",
            {"": {}},
            [[]],
            "x" * 100_000,
        ]
        begin(store, "s", Change("strategy", value=value), Change("message", "m", {"role": "user", "content": value}))
        assert repr(values(store)["strategy", ""]) == repr(value)
        assert repr(store.messages("s", after=None, limit=1)[0].content) == repr(value)
        recorded = {change.field: change.value for change in events_of(store)[0].changes}
        assert repr(recorded["strategy"]) == repr(recorded["message"]["content"]) == repr(value)

    def test_an_event_of_as_many_changes_as_declared_is_recorded_whole(
        self, store: EventStore, refused: Refused
    ) -> None:
        begin(store)
        most = self.capabilities.max_changes
        changes = [Change("context", f"k{number}", number) for number in range(most + 1)]
        store.append("s", event(1, *changes[:most]))
        assert len(events_of(store)[1].changes) == most
        assert len(values(store)) == most + 1
        refused(InvalidInput, lambda: store.append("s", event(2, *changes)), f"1 to {most:,}")

    def test_an_event_of_nearly_the_declared_size_is_recorded_and_a_larger_one_refused(
        self, store: EventStore, refused: Refused
    ) -> None:
        begin(store)
        limit = self.capabilities.max_event_bytes
        # The text alone fills the event; the store counts other parts on top.
        large = event(1, Change("strategy", value="x" * limit))
        error = refused(ValueTooLarge, lambda: store.append("s", large))
        assert error.limit == limit < error.size
        fitting = "é" * (limit * 9 // 20)  # two bytes each: 90 %
        store.append("s", event(1, Change("strategy", value=fitting)))
        kept = [values(store)["strategy", ""] == fitting, events_of(store)[1].changes[0].value == fitting]
        assert kept == [True, True]  # pytest takes minutes to show the difference of such texts

    def test_an_event_that_cannot_be_recorded_is_refused_whole(self, store: EventStore, refused: Refused) -> None:
        begin(store)
        title = Change("title", value="x")
        bad = [
            NewEvent("no type", [title], event_id(1)),
            NewEvent("a.b", [], event_id(1)),
            NewEvent("a.b", [Change("nope", value="x")], event_id(1)),
            NewEvent("a.b", [Change("title", value=float("nan"))], event_id(1)),
            NewEvent("a.b", [title, Change("strategy", value={"a": object()})], event_id(1)),
            NewEvent("a.b", [Change("tag", "x\ud800", True)], event_id(1)),
            NewEvent("a.b", [title], "\ud800"),
            NewEvent("a.b", [title], ""),
            NewEvent("a.b", [title], event_id(1), actor="\ud800"),
            NewEvent("a.b", [title], event_id(1), occurred_at=datetime(2026, 1, 1)),  # noqa: DTZ001
        ]
        refused.each(InvalidInput, bad, lambda it: store.append("s", it))
        assert state_of(store)[0].version == 1

    # Creation and ownership

    def test_the_first_event_names_the_owner(self, store: EventStore, refused: Refused) -> None:
        refused(SessionNotFound, lambda: store.append("s", event(1)), "create_session")
        begin(store, user_id="ada")
        assert state_of(store)[0].user_id == "ada"

    def test_the_owner_never_changes(self, store: EventStore, refused: Refused) -> None:
        begin(store, user_id="ada")
        refused(InvalidInput, lambda: store.append("s", event(1, user_id="bob")), "owner")
        store.append("s", event(2, user_id="ada"))
        assert {it.user_id for it in events_of(store)} == {"ada"}

    def test_a_uuid7_sessions_creation_time_is_the_one_inside_its_id(self, store: EventStore, clock: SetClock) -> None:
        session_id = uuid7(START - timedelta(hours=1), 1)
        begin(store, session_id)
        clock.move(60)
        store.append(session_id, event(1))
        assert {it.created_at for it in events_of(store, session_id)} == {START - timedelta(hours=1)}
        assert state_of(store, session_id)[0].created_at == START - timedelta(hours=1)

    def test_another_session_begins_when_it_is_recorded(self, store: EventStore, clock: SetClock) -> None:
        clock.move(0.001234)
        begin(store, "chat:17/ключ é")
        assert state_of(store, "chat:17/ключ é")[0].created_at == START + timedelta(microseconds=1234)

    def test_a_creation_day_that_no_warehouse_takes_is_refused(self, store: EventStore, refused: Refused) -> None:
        days = [START + timedelta(days=days) for days in (-3660, 400)]
        refused.each(InvalidInput, days, lambda day: begin(store, uuid7(day, 1)), "warehouse")

    def test_an_id_that_cannot_be_one_is_refused_everywhere(self, store: EventStore, refused: Refused) -> None:
        bad: list[Any] = ["", " s", "s\n", "\ud800", "s" * 256, 5, None]
        refused.each(InvalidInput, bad, lambda it: begin(store, it))
        refusals(InvalidInput, bad, lambda it: store.state(it), "session_id")
        refusals(InvalidInput, bad, lambda it: store.events(it), "session_id")
        refusals(InvalidInput, bad, lambda it: store.messages(it, after=None, limit=5), "session_id")
        refusals(InvalidInput, bad, lambda it: store.version_of(it, event_id(1)), "session_id")

    def test_an_event_that_begins_a_session_is_no_second_one_of_another_owner(
        self, store: EventStore, refused: Refused
    ) -> None:
        first = event(1, Change("question", value="q"), user_id="ada")
        store.append("s", first, expected_version=0)
        assert store.append("s", first, expected_version=0).replayed
        theirs = event(1, Change("question", value="q"), user_id="eve")
        # A view of one user raises its own error for sessions created by others.
        refused(LedgerError, lambda: store.append("s", theirs, expected_version=0))

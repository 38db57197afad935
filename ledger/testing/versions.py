"""The contract of versions: they count the events of a session, and an append may expect a version."""

from __future__ import annotations

from typing import Any

from ledger import InvalidInput, WrongExpectedVersion
from ledger.stores.base import EventStore
from ledger.testing.harness import Harness, Refused, begin, events_of
from ledger.testing.streams import event


class VersionsContract(Harness):
    """Tests that versions count events, and that an append with a wrong expected version is refused.

    Only one store writes, so this must hold whatever the store's capabilities. ``ledger.testing.concurrency`` tests
    several stores on the same data.
    """

    def test_versions_count_a_sessions_events_from_one(self, store: EventStore) -> None:
        begin(store)
        assert [store.append("s", event(number)).version for number in (1, 2, 3)] == [2, 3, 4]
        assert [it.version for it in events_of(store)] == [1, 2, 3, 4]

    def test_an_append_that_expects_the_present_version_goes_through(self, store: EventStore) -> None:
        begin(store)
        assert store.append("s", event(1), expected_version=1).version == 2

    def test_an_append_that_expects_another_version_writes_nothing(self, store: EventStore, refused: Refused) -> None:
        begin(store)
        store.append("s", event(1))
        others = [0, 1, 3, 2**62]
        errors = refused.each(WrongExpectedVersion, others, lambda it: store.append("s", event(2), expected_version=it))
        assert [(it.session_id, it.expected, it.actual) for it in errors] == [("s", other, 2) for other in others]

    def test_expecting_a_version_of_a_session_that_is_not_there_is_a_wrong_version(
        self, store: EventStore, refused: Refused
    ) -> None:
        wanted = event(1, user_id="ada")
        error = refused(WrongExpectedVersion, lambda: store.append("s", wanted, expected_version=3))
        assert error.actual == 0

    def test_what_is_no_version_cannot_be_expected(self, store: EventStore, refused: Refused) -> None:
        begin(store)
        bad: list[Any] = [True, False, 1.0, "1", None, -2, 2**63, 10**5000]
        refused.each(InvalidInput, bad, lambda it: store.append("s", event(1), expected_version=it), "expected_version")

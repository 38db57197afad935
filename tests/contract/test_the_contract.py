"""The contract itself: it finds what is wrong with a store, and holds for one that can do little."""

from __future__ import annotations

import inspect
import pkgutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

import ledger.testing
from ledger import Appended, CapabilityMissing, Match, NewEvent, Page, RecordedEvent
from ledger.model.fold import State
from ledger.model.queries import SearchQuery, SessionQuery
from ledger.model.seals import Leaf, LeafCheck
from ledger.model.session import Head
from ledger.model.values import canonical
from ledger.stores.base import Capabilities, EventStore
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import OpenStore, SetClock, StoreContract, StoreMachine
from ledger.testing.harness import Harness, refusals

NOTHING = Capabilities(
    compare_and_append=False, gapless_versions=False, hash_chain=False, backup=False, commit_order=False, search=False
)
EVERYTHING = Capabilities(
    compare_and_append=True,
    gapless_versions=True,
    hash_chain=True,
    backup=True,
    commit_order=True,
    outbox=True,
    archive=True,
    purge=True,
    verify=True,
    seals=True,
)
TESTS = sorted(name for name in dir(StoreContract) if name.startswith("test_"))


# A store with no capability


class PlainStore(SqliteStore):
    """The embedded store without what others may not have; its own events show no hashes."""

    capabilities = NOTHING

    def events(self, session_id: str, *, after: int = 0, limit: int = 1000, upcast: bool = True) -> Page[RecordedEvent]:
        page = super().events(session_id, after=after, limit=limit, upcast=upcast)
        return Page([self._plain(event) if event.store_id == self.store_id else event for event in page], page.next)

    def state(self, session_id: str, **when: Any) -> tuple[Head, State] | None:
        found = super().state(session_id, **when)
        return found and (replace(found[0], event_hash=None), found[1])

    def sessions(self, query: SessionQuery, **where: Any) -> Page[tuple[Head, State]]:
        page = super().sessions(query, **where)
        return Page([(replace(head, event_hash=None), state) for head, state in page], page.next)

    def rows_after(self, seq: int, limit: int) -> Sequence[tuple[Any, ...]]:
        raise CapabilityMissing("This store has no order of commits.")

    def last_seq(self) -> int:
        raise CapabilityMissing("This store has no order of commits.")

    def search(self, query: SearchQuery, **where: Any) -> Page[Match]:
        raise CapabilityMissing("This store cannot search.")

    def backup(self, path: Path) -> None:
        raise CapabilityMissing("This store makes no backups.")

    def outbox(self, warehouse: str) -> Any:
        raise CapabilityMissing("This store is shipped nowhere.")

    def check_shippable(self, session_id: str) -> None:
        raise CapabilityMissing("This store archives nothing.")

    def purge(self, session_id: str, version: int) -> bool:
        raise CapabilityMissing("This store deletes nothing.")

    def pending_deletions(self, warehouse: str | None = None) -> Any:
        raise CapabilityMissing("This store deletes nothing.")

    def verify(self, *session_ids: Any, **options: Any) -> Any:
        raise CapabilityMissing("This store verifies nothing.")

    def seal(self) -> Any:
        raise CapabilityMissing("This store seals nothing.")

    def seals(self) -> Any:
        raise CapabilityMissing("This store seals nothing.")

    def sealed(self, seal_id: str) -> Any:
        raise CapabilityMissing("This store seals nothing.")

    def compare_sealed(self, leaves: Sequence[Leaf]) -> Any:
        raise CapabilityMissing("This store seals nothing.")

    @staticmethod
    def _plain(event: RecordedEvent) -> RecordedEvent:
        changes = tuple(replace(change, value_hash=None, value_salt=None) for change in event.changes)
        return replace(event, changes=changes, prev_hash=None, event_hash=None)


def opening(kind: type[SqliteStore], folder: Path, clock: SetClock) -> Iterator[OpenStore]:
    with ExitStack() as opened:
        yield lambda name: opened.enter_context(closing(kind(folder / f"{name}.db", clock=clock, synchronous="NORMAL")))


class TestPlainStore(StoreContract):
    capabilities = NOTHING

    @pytest.fixture
    def open_store(self, tmp_path: Path, clock: SetClock) -> Iterator[OpenStore]:
        yield from opening(PlainStore, tmp_path, clock)


# Stores with something wrong


class Careless(SqliteStore):
    """Checks no version."""

    def append(self, session_id: str, event: NewEvent, *, expected_version: int = -1) -> Appended:
        return super().append(session_id, event)


class Hasty(SqliteStore):
    """Writes, and looks afterwards whether it should have."""

    def append(self, session_id: str, event: NewEvent, *, expected_version: int = -1) -> Appended:
        super().append(session_id, event)
        return super().append(
            session_id, replace(event, event_id=f"{event.event_id}x"), expected_version=expected_version
        )


class Repeating(SqliteStore):
    """Knows no event again."""

    def append(self, session_id: str, event: NewEvent, *, expected_version: int = -1) -> Appended:
        return super().append(session_id, replace(event, check_duplicate=False), expected_version=expected_version)


class Cutting(SqliteStore):
    """Cuts its pages without a word."""

    def events(self, session_id: str, *, after: int = 0, limit: int = 1000, upcast: bool = True) -> Page[RecordedEvent]:
        return Page(list(super().events(session_id, after=after, limit=limit, upcast=upcast)))

    def sessions(self, query: SessionQuery, **where: Any) -> Page[tuple[Head, State]]:
        return Page(list(super().sessions(query, **where)))


class Overlooking(SqliteStore):
    """Takes no notice of one criterion."""

    def sessions(self, query: SessionQuery, **where: Any) -> Page[tuple[Head, State]]:
        return super().sessions(replace(query, attributes={}), **where)


class Unmoved(SqliteStore):
    """Lists by creation, whatever the order."""

    def sessions(self, query: SessionQuery, **where: Any) -> Page[tuple[Head, State]]:
        return super().sessions(replace(query, order_by="created"), **where)


class Counting(SqliteStore):
    """Counts the sessions of the pages before instead of remembering the last one."""

    def sessions(self, query: SessionQuery, *, after: str | None = None, limit: int = 50) -> Page[tuple[Head, State]]:
        begin = int(after or 0)
        every = super().sessions(query, limit=10_000)
        rest = every[begin + limit :]
        return Page(every[begin : begin + limit], str(begin + limit) if rest else None)


class Literal(SqliteStore):
    """Compares the texts of attributes instead of their values."""

    def sessions(self, query: SessionQuery, **where: Any) -> Page[tuple[Head, State]]:
        wanted = {("attribute", name): canonical(value) for name, value in query.attributes.items()}
        page = super().sessions(query, **where)
        same = [each for each in page if all(each[1][slot].text == text for slot, text in wanted.items())]
        return Page(same, page.next)


class Stale(SqliteStore):
    """Finds what it was given, whatever became of it."""

    def search(self, query: SearchQuery, **where: Any) -> Page[Match]:
        page = super().search(query, **where)
        kept: list[Match] = self.__dict__.setdefault("kept", [])
        kept += [match for match in page if match not in kept]
        return Page(list(kept), page.next)


class Prying(SqliteStore):
    """Takes no notice of who may see what."""

    def search(self, query: SearchQuery, **where: Any) -> Page[Match]:
        return super().search(replace(query, visible_to=None), **where)


class Piecemeal(SqliteStore):
    """Takes over what it can."""

    def ingest(self, events: Iterable[RecordedEvent]) -> int:
        return sum(super(Piecemeal, self).ingest([event]) for event in events)


class Trusting(SqliteStore):
    """Takes over what was tampered with."""

    def ingest(self, events: Iterable[RecordedEvent]) -> int:
        return super().ingest([PlainStore._plain(event) for event in events])


class Forgiving(SqliteStore):
    """Archives what a warehouse refused."""

    def check_shippable(self, session_id: str) -> None:
        pass


class Forgetful(SqliteStore):
    """Deletes sessions for good that went on meanwhile."""

    def purge(self, session_id: str, version: int) -> bool:
        found = self.state(session_id)
        return found is not None and super().purge(session_id, found[0].version)


class Credulous(SqliteStore):
    """Finds that every session is what was sealed."""

    def compare_sealed(self, leaves: Sequence[Leaf]) -> list[LeafCheck]:
        return [LeafCheck(leaf, "same", leaf.version) for leaf in leaves]


class Modest(SqliteStore):
    """Can do more than it says."""

    capabilities = NOTHING


class Boastful(PlainStore):
    """Says more than it can do."""

    capabilities = EVERYTHING


class Generous(SqliteStore):
    """Names a limit that it does not keep."""

    capabilities = replace(EVERYTHING, max_changes=900, max_event_bytes=1_000_000)


FOUND = [
    (Careless, "test_an_append_that_expects_another_version_writes_nothing"),
    (Careless, "test_of_threads_that_expect_one_version_one_wins"),
    (Careless, "test_of_two_stores_that_expect_one_version_one_wins_or_both_are_kept"),
    (Hasty, "test_expecting_a_version_of_a_session_that_is_not_there_is_a_wrong_version"),
    (Repeating, "test_the_same_event_again_is_replayed"),
    (Repeating, "test_of_threads_that_send_one_event_one_records_it"),
    (Cutting, "test_pages_of_events_join_to_the_whole"),
    (Cutting, "test_sessions_are_listed_by_every_criterion_newest_first"),
    (Overlooking, "test_sessions_are_listed_by_every_criterion_newest_first"),
    (Literal, "test_attributes_are_compared_as_values"),
    (Unmoved, "test_sessions_are_listed_by_their_last_events"),
    (Unmoved, "test_a_cursor_is_of_one_order"),
    (Counting, "test_what_is_updated_between_pages_costs_no_other_session_its_place"),
    (Stale, "test_only_what_stands_now_is_found"),
    (Prying, "test_a_user_finds_their_own_and_what_is_shared_with_them"),
    (Piecemeal, "test_of_several_sessions_all_are_taken_or_none"),
    (Trusting, "test_hashes_are_taken_over_by_a_store_that_makes_none_too"),
    (Trusting, "test_an_event_that_was_tampered_with_is_refused"),
    (Modest, "test_what_was_appended_verifies"),
    (Modest, "test_an_event_that_was_tampered_with_is_refused"),
    (Modest, "test_rows_follow_a_row"),
    (Modest, "test_a_backup_is_a_store_of_its_own"),
    (Modest, "test_an_outbox_has_the_rows_of_the_store_and_what_a_warehouse_refused"),
    (Modest, "test_a_session_that_no_warehouse_refused_is_shippable"),
    (Modest, "test_a_session_is_purged_at_the_version_that_it_has"),
    (Forgiving, "test_an_outbox_has_the_rows_of_the_store_and_what_a_warehouse_refused"),
    (Forgetful, "test_a_session_is_purged_at_the_version_that_it_has"),
    (Modest, "test_a_seal_covers_the_head_of_every_session"),
    (Credulous, "test_later_events_leave_a_sealed_session_the_same"),
    (Credulous, "test_a_purged_session_is_no_missing_one"),
    (Credulous, "test_what_differs_from_a_leaf_is_told_apart"),
    (Boastful, "test_what_was_appended_verifies"),
    (Generous, "test_an_event_of_as_many_changes_as_declared_is_recorded_whole"),
    (Generous, "test_an_event_of_nearly_the_declared_size_is_recorded_and_a_larger_one_refused"),
    (Generous, "test_an_event_that_no_append_would_take_is_refused"),
]


class TestWhatIsWrongIsFound(Harness):
    @pytest.fixture
    def open_store(self, kind: type[SqliteStore], tmp_path: Path, clock: SetClock) -> Iterator[OpenStore]:
        yield from opening(kind, tmp_path, clock)

    @pytest.mark.parametrize(("kind", "name"), FOUND, ids=[f"{kind.__name__}-{name}" for kind, name in FOUND])
    def test_a_store_with_something_wrong_fails(
        self, kind: type[SqliteStore], name: str, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        with closing(kind(tmp_path / "declaring.db")) as declaring:
            contract = type("Declared", (StoreContract,), {"capabilities": declaring.capabilities})()
        test = getattr(contract, name)
        given = {fixture: request.getfixturevalue(fixture) for fixture in inspect.signature(test).parameters}
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            test(**given)

    def test_a_store_that_declares_something_else_fails(self, tmp_path: Path) -> None:
        contract = type("Expected", (StoreContract,), {"capabilities": NOTHING})()
        with closing(SqliteStore(tmp_path / "l.db")) as store, pytest.raises(AssertionError):
            contract.test_the_capabilities_are_those_expected(store)

    @pytest.mark.parametrize("kind", [Careless, Repeating])
    def test_the_machine_finds_it_too(self, kind: type[SqliteStore], tmp_path: Path) -> None:
        numbers = count()

        class Machine(StoreMachine):
            def __init__(self) -> None:
                super().__init__()
                self.path = tmp_path / f"{next(numbers)}.db"

            def open(self, clock: SetClock) -> EventStore:
                return kind(self.path, clock=clock, synchronous="NORMAL")

        once = settings(max_examples=100, phases=[Phase.generate], database=None, deadline=None)
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            run_state_machine_as_test(Machine, settings=once)


# What it is made of


def test_no_part_hides_a_test_of_another() -> None:
    names = Counter(name for part in StoreContract.__mro__ for name in vars(part) if name.startswith("test_"))
    assert sorted(names) == TESTS
    assert {name for name, times in names.items() if times > 1} == set()


def test_failures_show_what_was_compared() -> None:
    parts = [f"ledger.testing.{it.name}" for it in pkgutil.iter_modules(ledger.testing.__path__)]
    assert {type(sys.modules[part].__loader__).__name__ for part in parts} == {"AssertionRewritingHook"}


def test_of_several_bad_values_the_one_that_goes_through_is_named() -> None:
    def attempt(value: int) -> None:
        if value != 10**5000:
            raise CapabilityMissing("no")

    with pytest.raises(pytest.fail.Exception) as failed:
        refusals(CapabilityMissing, [1, 2, 10**5000], attempt)
    assert failed.value.__notes__ == ["The value was: an integer of 16,610 bits"]


@pytest.mark.parametrize("package", ["pytest", "hypothesis"])
def test_without_its_extra_it_says_how_to_install_it(package: str) -> None:
    program = f"""
import sys
sys.modules["{package}"] = None
import ledger
try:
    import ledger.testing
except ledger.MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert package in done.stdout
    assert 'in the checkout: pip install ".[testing]"' in done.stdout

"""One user's view of a store keeps the contract; where it goes beyond one user, that is not there or denied."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import settings

from ledger import Change, InvalidInput, PermissionDenied, SessionNotFound
from ledger.model.queries import SessionQuery
from ledger.stores.base import Capabilities, EventStore
from ledger.stores.sqlite.store import SqliteStore
from ledger.stores.user_view import UserView
from ledger.testing import START, CountedIds, OpenStore, SetClock, StoreContract, StoreMachine, event, recorded, uuid7
from ledger.testing.harness import Refused, begin, events_of, listed
from ledger.testing.search import hits
from ledger.testing.sessions import CRITERIA, fill
from ledger.tiers.store import TwoTierStore
from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse
from support.bigquery_stores import Datasets


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DuckDB warehouse without rows."""
    path = tmp_path_factory.mktemp("warehouse") / "empty.duckdb"
    DuckDBWarehouse(path).create()
    return path


class OfOneUser(StoreContract):
    """The contract from the side of its user ada; three tests have another user as well, and end differently."""

    capabilities = Capabilities(
        compare_and_append=True,
        gapless_versions=True,
        hash_chain=True,
        backup=False,
        commit_order=True,
        archive=True,
        max_changes=1000,
        max_event_bytes=8_000_000,
    )
    #: Of the store that the view is of.
    behind = replace(capabilities, backup=True, outbox=True, purge=True, verify=True, seals=True)

    @pytest.fixture
    def opened(self) -> Iterator[ExitStack]:
        with ExitStack() as opened:
            yield opened

    def lacks(self, capability: str, use: Callable[[], object]) -> bool:
        """What a view is without is denied where the store behind has it, for whoever may see everybody's sessions."""
        if getattr(self.behind, capability) and not getattr(self.capabilities, capability):
            with pytest.raises(PermissionDenied):
                use()
            return True
        return super().lacks(capability, use)

    def test_the_owner_never_changes(self, store: EventStore, refused: Refused) -> None:
        begin(store, user_id="ada")
        refused(PermissionDenied, lambda: store.append("s", event(1, user_id="bob")), "only create their own")
        refused(PermissionDenied, lambda: begin(store, "other", user_id="bob"), "only create their own")
        store.append("s", event(2, user_id="ada"))
        assert {it.user_id for it in events_of(store)} == {"ada"}

    def test_owner_and_creation_time_are_one_for_a_session(self, store: EventStore, refused: Refused) -> None:
        first, second = recorded(1, 1, [Change("title", value="a")]), [Change("title", value="b")]
        refused(PermissionDenied, lambda: store.ingest([first, recorded(2, 2, second, user_id="bob")]), "their own")
        later = recorded(2, 2, second, created_at=START + timedelta(days=1))
        refused(InvalidInput, lambda: store.ingest([first, later]), "never change")
        assert store.ingest([first]) == 1

    def test_sessions_are_listed_by_every_criterion_newest_first(self, store: UserView, clock: SetClock) -> None:
        ids = fill(store._store, clock, 12)  # six are bob's
        for criteria, numbers, limits in CRITERIA:
            expected = [ids[number] for number in reversed(list(numbers)) if number < 6]
            for limit in limits:
                assert listed(store, SessionQuery(**criteria), limit) == expected, f"{criteria} at limit {limit}"

    def test_a_user_finds_their_own_and_what_is_shared_with_them(self, store: UserView) -> None:
        begin(store, "own", Change("title", value="needle"))
        for session_id, access in [("read", "read"), ("write", "write"), ("hers", None)]:
            grants = [Change("grant", "ada", access)] if access else []
            begin(store._store, session_id, Change("title", value="needle"), *grants, user_id="bob")
        assert set(hits(store, "needle")) == set(hits(store, "needle", visible_to="bob")) == {"own", "read", "write"}
        assert hits(store, "needle", user_id="bob", session_id="hers") == []
        store._store.append("read", event(9, Change("grant", "ada", removed=True)))
        assert set(hits(store, "needle", user_id="bob")) == {"write"}


class TestUserView(OfOneUser):
    @pytest.fixture
    def open_store(self, tmp_path: Path, clock: SetClock, opened: ExitStack) -> OpenStore:
        def open_store(name: str) -> EventStore:
            ids = CountedIds(sum(name.encode()) * 1000)
            store = SqliteStore(tmp_path / f"{name}.db", clock=clock, ids=ids, synchronous="NORMAL")
            return UserView(opened.enter_context(closing(store)), "ada")

        return open_store


class TestUserViewOverTwoTiers(OfOneUser):
    capabilities = replace(OfOneUser.capabilities, tiered=True)
    behind = replace(OfOneUser.behind, tiered=True)

    @pytest.fixture
    def open_store(self, tmp_path: Path, clock: SetClock, opened: ExitStack, empty: Path) -> OpenStore:
        def open_store(name: str) -> EventStore:
            ids = CountedIds(sum(name.encode()) * 1000)
            local = SqliteStore(tmp_path / f"{name}.db", clock=clock, ids=ids, synchronous="NORMAL")
            return UserView(opened.enter_context(closing(TwoTierStore(local, lambda: DuckDBWarehouse(empty)))), "ada")

        return open_store


class UserMachine(StoreMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.behind: SqliteStore | None = None

    def open(self, clock: SetClock) -> EventStore:
        if self.behind is None:
            self.behind = SqliteStore(Path(self.folder.name) / "l.db", clock=clock, synchronous="NORMAL")
        return UserView(self.behind, "ada")

    def teardown(self) -> None:
        super().teardown()
        if self.behind is not None:
            self.behind.close()
        self.folder.cleanup()


TestUserMachine = UserMachine.TestCase
TestUserMachine.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)


@pytest.mark.emulator
@pytest.mark.slow
@pytest.mark.parametrize(
    ("strict", "ids"),
    [(False, (uuid7(START, 1), uuid7(START, 2))), (True, ("s", "nowhere"))],
    ids=["lenient", "strict"],
)
def test_views_of_a_ledger_in_bigquery_are_as_those_of_a_file(
    datasets: Datasets, strict: bool, ids: tuple[str, str]
) -> None:
    with datasets.stores(SetClock(), strict=strict) as open_store:
        store = open_store("main")
        ada, bob, eve = (UserView(store, user_id) for user_id in ("ada", "bob", "eve"))
        begin(ada, ids[0], Change("grant", "bob", "read"))
        with pytest.raises(PermissionDenied):
            bob.append(ids[0], event(2))
        ada.append(ids[0], event(3, Change("grant", "bob", "write")))
        assert bob.append(ids[0], event(4)).version == 3
        with pytest.raises(PermissionDenied):
            bob.append(ids[0], event(5, Change("grant", "eve", "write")))
        assert [it.actor for it in events_of(bob, ids[0])] == [None, None, "bob"]
        with pytest.raises(SessionNotFound, match="cannot be created"):
            begin(eve, ids[0], user_id="eve")
        assert listed(bob, SessionQuery(granted_to="bob")) == listed(ada) == [ids[0]]
        assert (listed(bob), listed(eve, SessionQuery(granted_to="eve"))) == ([], [])
        for session_id in ids:
            assert (eve.state(session_id), eve.state(session_id, version=1)) == (None, None)
            assert list(eve.events(session_id)) == []
            with pytest.raises(SessionNotFound, match=f"There is no session {session_id}; nothing was written"):
                eve.append(session_id, event(1))

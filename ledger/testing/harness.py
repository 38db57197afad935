"""The base of the contract tests: a new store for each test, functions to fill and read it, and checks for errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, ClassVar, TypeVar

import pytest

from ledger import CapabilityMissing, Change, LedgerError, RecordedEvent
from ledger.model.fold import State
from ledger.model.queries import SessionQuery
from ledger.model.session import Head
from ledger.stores.base import Capabilities, EventStore
from ledger.testing.streams import SetClock, event

E = TypeVar("E", bound=LedgerError)
OpenStore = Callable[[str], EventStore]
ALL = SessionQuery()
#: Capabilities whose methods are in protocols other than ``EventStore``.
BESIDE = frozenset({"outbox", "archive", "purge", "tiered", "verify", "warehouse", "seals"})


class Harness:
    """Base class with the fixtures of every test. ``StoreContract`` lists the fixtures that a subclass must add."""

    capabilities: ClassVar[Capabilities]

    @pytest.fixture
    def clock(self) -> SetClock:
        """Fixture: the clock that all stores of the test use."""
        return SetClock()

    @pytest.fixture
    def store(self, open_store: OpenStore) -> EventStore:
        """Fixture: a new, empty store."""
        return open_store("main")

    @pytest.fixture
    def refused(self, store: EventStore) -> Refused:
        """Fixture: a function that checks that ``store`` refuses an operation and writes nothing; see ``Refused``."""
        return Refused(store)

    def lacks(self, capability: str, use: Callable[[], object]) -> bool:
        """Return True if the store lacks a capability. In that case, also assert that the capability cannot be used.

        ``use`` is a function that uses the capability. If the store lacks it, ``use`` is called and must raise
        CapabilityMissing. If the method that ``use`` calls is not in ``EventStore``, it may also be absent.
        """
        if getattr(self.capabilities, capability):
            return False
        with pytest.raises((CapabilityMissing, AttributeError) if capability in BESIDE else CapabilityMissing):
            use()
        return True


class Refused:
    """Callable that asserts that an attempt raises an error and leaves the store's content unchanged."""

    def __init__(self, store: EventStore) -> None:
        self.store = store

    def __call__(self, kind: type[E], attempt: Callable[[], object], match: str | None = None) -> E:
        before = everything(self.store)
        with pytest.raises(kind, match=match) as refused:
            attempt()
        assert everything(self.store) == before
        return refused.value

    def each(
        self, kind: type[E], values: Iterable[Any], attempt: Callable[[Any], object], match: str | None = None
    ) -> list[E]:
        """Check that ``attempt`` raises ``kind`` for each value and leaves the store unchanged; return the errors."""
        before = everything(self.store)
        raised = refusals(kind, values, attempt, match)
        assert everything(self.store) == before
        return raised


def refusals(
    kind: type[E], values: Iterable[Any], attempt: Callable[[Any], object], match: str | None = None
) -> list[E]:
    """Check that ``attempt`` raises ``kind`` for each value; return the errors. A failed check names the value."""
    raised = []
    for value in values:
        try:
            with pytest.raises(kind, match=match) as refused:
                attempt(value)
        except BaseException as error:
            error.add_note(f"The value was: {shown(value)}")
            raise
        raised.append(refused.value)
    return raised


def shown(value: object) -> str:
    """Return a value as text. Very large integers are described, because Python refuses to print them."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"an integer of {value.bit_length():,} bits"
    return ascii(value)[:200]


def everything(store: EventStore) -> tuple[dict[str, list[RecordedEvent]], object]:
    """Return the content of a store: the events of each session, and all rows if the store can list them."""
    listed = store.sessions(ALL, limit=10_000)
    rows = store.rows_after(0, 10_000) if store.capabilities.commit_order else ()
    return {head.session_id: list(store.events(head.session_id, limit=10_000)) for head, _ in listed}, rows


def begin(store: EventStore, session_id: str = "s", *changes: Change, user_id: str = "ada", number: int = 0) -> None:
    """Create a session by appending event ``number``. If no changes are given, it sets the status to ``active``."""
    changes = changes or (Change("status", value="active"),)
    store.append(session_id, event(number, *changes, user_id=user_id), expected_version=0)


def events_of(store: EventStore, session_id: str = "s") -> list[RecordedEvent]:
    """Return all events of a session, in order."""
    page = store.events(session_id, limit=10_000)
    assert page.next is None
    return list(page)


def state_of(
    store: EventStore,
    session_id: str = "s",
    *,
    version: int | None = None,
    at: datetime | None = None,
    with_messages: bool = False,
) -> tuple[Head, State]:
    """Return head and state of an existing session."""
    state = store.state(session_id, version=version, at=at, with_messages=with_messages)
    assert state is not None
    return state


def values(
    store: EventStore, session_id: str = "s", *, version: int | None = None, with_messages: bool = False
) -> dict[tuple[str, str], Any]:
    """Return the value of each register of an existing session."""
    _, state = state_of(store, session_id, version=version, with_messages=with_messages)
    return {register: written.value for register, written in state.items()}


def listed(store: EventStore, query: SessionQuery = ALL, limit: int = 50) -> list[str]:
    """Return the ids of all sessions that match a query, read page by page."""
    page = store.sessions(query, limit=limit)
    ids = [head.session_id for head, _ in page]
    while page.next is not None:
        assert 0 < len(page) <= limit
        page = store.sessions(query, after=page.next, limit=limit)
        ids += [head.session_id for head, _ in page]
    return ids

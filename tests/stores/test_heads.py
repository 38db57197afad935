"""Heads of sessions in the embedded store: whoever remembers an older one, the order of times, and the file's limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ledger import Change, InvalidInput, StoreUnavailable
from ledger.model.integrity import verify
from ledger.model.queries import SessionQuery
from ledger.stores.sqlite import write
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import START, CountedIds, SetClock, event, event_id, recorded

Opens = Callable[..., SqliteStore]


@pytest.fixture
def opens(tmp_path: Path, clock: SetClock) -> Iterator[Opens]:
    """Opens one and the same file."""
    with ExitStack() as stack:

        def opened(**more: object) -> SqliteStore:
            store = SqliteStore(tmp_path / "ledger.db", clock=clock, ids=CountedIds(1), **more)
            stack.callback(store.close)
            return store

        yield opened


@pytest.fixture
def store(opens: Opens) -> SqliteStore:
    return opens()


def test_whoever_remembers_a_session_at_the_same_version_as_another_under_its_id_follows_the_one_that_is_there(opens):
    one, other = opens(), opens()
    one.append("s", event(1, user_id="ada"))
    assert other.purge("s", 1)
    other.append("s", event(2, user_id="ada"))  # at the same time and of the same owner: only the hash differs
    assert one.append("s", event(3)).version == 2
    events = list(one.events("s"))
    assert [it.event_id for it in events] == [event_id(2), event_id(3)]
    assert verify(events) == 2


def test_no_more_heads_are_remembered_than_the_limit(store, monkeypatch):
    monkeypatch.setattr(write, "KNOWN_HEADS", 4)
    for number in range(20):
        store.append(f"s{number}", event(number, user_id="ada"))
        assert len(store._heads) <= 4
    assert store.append("s0", event(50)).version == 2


def test_the_time_of_the_last_event_never_goes_back(store, clock):
    clock.move(100)
    store.append("s", event(1, user_id="ada"))
    latest = clock.now
    clock.move(-50)
    store.append("s", event(2))
    store.ingest([recorded(3, 3, [Change("title", value="t")], at=START, created_at=latest)])
    assert store.state("s")[0].updated_at == latest
    assert [it.recorded_at for it in store.events("s")][:2] == [latest, latest]
    before = SessionQuery(updated_before=latest)
    assert (len(store.sessions(before)), len(store.sessions(SessionQuery()))) == (0, 1)


def test_events_of_one_version_are_in_the_order_of_their_ids_whatever_that_of_their_arrival(store):
    store.ingest([recorded(1, 1, [Change("title", value="t")])])
    tied = [recorded(2, number, [Change("summary", value=f"{number}")]) for number in (9, 7, 8)]
    store.ingest(tied)
    wanted = [event_id(number) for number in (1, 7, 8, 9)]
    assert [it.event_id for it in store.events("s")] == wanted
    assert store.state("s")[1]["summary", ""].value == "9"


def test_only_recorded_events_are_taken_in(store):
    with pytest.raises(InvalidInput, match=r"must be RecordedEvent, not ledger\.model\.events\.NewEvent"):
        store.ingest([event(1, Change("title", value="t"), user_id="ada")])


def test_a_criterion_that_no_session_could_meet_is_refused(store):
    for query in (SessionQuery(session_type=5), SessionQuery(attributes=["a"]), SessionQuery(status=5)):
        with pytest.raises(InvalidInput):
            store.sessions(query)


def test_a_full_file_takes_events_again_once_rows_are_gone(opens):
    filled = opens()
    for number in range(20):
        filled.append(
            "large", event(number, Change("context", "k", "x" * 20_000), user_id="ada" if not number else None)
        )
    filled.append("small", event(99, user_id="ada"))
    small = opens(max_bytes=300_000)
    with pytest.raises(StoreUnavailable, match="maximum of 300,000 bytes"):
        small.append("small", event(100))
    assert filled.purge("large", 20)
    assert small.append("small", event(100)).version == 2


def test_the_size_on_disk_is_that_of_the_file_and_its_log(store):
    store.append("s", event(1, Change("context", "k", "x" * 100_000), user_id="ada"))
    sizes = [path.stat().st_size for path in (store.path, store.path.with_name(f"{store.path.name}-wal"))]
    assert sizes[1] > 100_000
    assert store.outbox("memory://warehouse").status().disk_bytes == sum(sizes)

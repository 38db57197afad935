"""What the embedded store refuses to drop, to restore and to purge, whatever its caller believes of the warehouse."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest

from ledger import (
    Change,
    CorruptEvent,
    IdempotencyConflict,
    InvalidInput,
    RecordedEvent,
    SessionArchived,
    SessionEnded,
    SessionLedger,
    StoreUnavailable,
)
from ledger.model.integrity import verify
from ledger.model.upcast import Upcaster
from ledger.stores.sqlite import search_index
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import START, SetClock, chained, event, recorded

URL, OTHER = "memory://warehouse", "memory://other"
ARCHIVED = Change("status", value="archived")


def archive(store: SqliteStore, first: int = 1, session_id: str = "s") -> None:
    """A session of three events and four rows, archived."""
    store.append(session_id, event(first, Change("title", value="t"), Change("summary", value="s"), user_id="ada"))
    store.append(session_id, event(first + 1, Change("question", value="q?")))
    store.append(session_id, event(first + 2, ARCHIVED))


def ship(store: SqliteStore, url: str = URL, **more: object) -> None:
    """As a relay leaves it that has sent everything."""
    outbox = store.outbox(url)
    held = outbox.acquire("here/x/1", 60)
    outbox.save(replace(held, seq=store.last_seq(), sink_state="all of it"), **more)
    outbox.release(held)


def dropped(store: SqliteStore) -> list[RecordedEvent]:
    """The history of a session of which the store keeps nothing but the tombstone."""
    history = list(store.events("s", upcast=False))
    ship(store)
    assert store.drop(store.droppable(URL), URL) == 1
    return history


def unchained() -> list[RecordedEvent]:
    """The session as a store without a hash chain records it: nothing but the tombstone tells it from another."""
    changes = [[Change("title", value="t"), Change("summary", value="s")], [Change("question", value="q?")], [ARCHIVED]]
    return [recorded(number, number, of_event) for number, of_event in enumerate(changes, 1)]


def swapped(events: list[RecordedEvent]) -> list[RecordedEvent]:
    first, second, *rest = events
    return [replace(second, version=1), replace(first, version=2), *rest]


OTHERS: dict[str, Callable[[list[RecordedEvent]], list[RecordedEvent]]] = {
    "versions": swapped,
    "owner": lambda events: [replace(it, user_id="eve") for it in events],
    "created_at": lambda events: [replace(it, created_at=START - timedelta(days=1)) for it in events],
    "an event more": lambda events: [*events, recorded(2, 99, [Change("title", value="smuggled")])],
    "a change more": lambda events: [
        events[0],
        replace(events[1], changes=events[1].changes + recorded(2, 2, [Change("tag", "x", True)]).changes),
        events[2],
    ],
    "a change fewer": lambda events: [replace(events[0], changes=events[0].changes[:1]), *events[1:]],
    "another chain": chained,
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_history_than_was_archived_is_not_restored(store, other):
    store.ingest(unchained())
    history = dropped(store)
    with pytest.raises(CorruptEvent, match="nothing was written"):
        store.restore_history(OTHERS[other](history), URL)
    with pytest.raises(SessionArchived):
        store.state("s")
    assert store.rows_after(0, 10) == []
    assert store.restore_history(history, URL) == 3
    assert list(store.events("s", upcast=False)) == history


def test_a_history_whose_chain_was_computed_again_is_not_restored(store):
    archive(store)
    first, *rest = dropped(store)
    forged = replace(
        first, changes=recorded(1, 1, [Change("title", value="forged"), Change("summary", value="s")]).changes
    )
    with pytest.raises(CorruptEvent, match="another history than was archived here"):
        store.restore_history(chained([forged, *rest]), URL)


def test_a_history_of_two_sessions_or_of_none_is_not_restored(store):
    archive(store)
    history = dropped(store)
    for events in ([], [*history, recorded(1, 1, [ARCHIVED], session_id="other")]):
        with pytest.raises(InvalidInput, match="one session at a time"):
            store.restore_history(events, URL)


def test_a_history_is_restored_once(store):
    archive(store)
    history = dropped(store)
    assert store.restore_history(history, URL) == 3
    assert store.restore_history(history, URL) == 0
    store.append("s", event(4, Change("tag", "t", True)))
    assert store.restore_history(history, URL) == 0
    assert verify(store.events("s", upcast=False)) == 4


def test_restored_events_of_an_older_schema_are_folded_in_the_new_shape(tmp_path, clock):
    def shouted(it: RecordedEvent) -> RecordedEvent:
        changes = tuple(replace(change, text=change.text and change.text.upper()) for change in it.changes)
        return it if it.version == 3 else replace(it, changes=changes)

    old = SqliteStore(tmp_path / "old.db", clock=clock)
    archive(old)
    history = list(old.events("s", upcast=False))
    old.close()
    store = SqliteStore(tmp_path / "new.db", clock=clock, upcaster=Upcaster(2, {1: shouted}))
    assert store.restore_history(history, URL) == 3
    state = store.state("s")[1]
    assert (state["title", ""].value, state["question", ""].value) == ("T", "Q?")
    store.close()


def test_a_file_at_its_maximum_size_takes_no_history_and_takes_it_once_it_may_grow(tmp_path, clock):
    archive(store := SqliteStore(tmp_path / "l.db", clock=clock))
    history = dropped(store)
    store.close()
    small = SqliteStore(tmp_path / "l.db", clock=clock, max_bytes=1)
    with pytest.raises(StoreUnavailable, match="maximum of 1 bytes"):
        small.restore_history(history, URL)
    small.close()
    large = SqliteStore(tmp_path / "l.db", clock=clock, max_bytes=10**9)
    assert large.restore_history(history, URL) == 3
    large.close()


def test_an_archived_event_is_known_at_its_version_alone(store):
    archive(store)
    history = dropped(store)
    assert store.ingest([history[1]]) == 0
    with pytest.raises(IdempotencyConflict):
        store.ingest([replace(history[1], version=1)])


def test_a_warehouse_that_came_later_is_asked_for_every_row_that_comes_back(store):
    archive(store)
    history = dropped(store)
    archive(store, 11, "later")
    ship(store, OTHER)  # past the rows of the first session, which it has never been sent
    assert store.restore_history(history, URL) == 3
    waiting = [{row[1] for row in store.outbox(url).rows_to_redrive(10, max_bytes=10**6)} for url in (URL, OTHER)]
    assert waiting == [set(), {"s"}]
    assert len(store.outbox(OTHER).rows_to_redrive(10, max_bytes=10**6)) == 4


def test_rows_that_come_from_another_store_wait_once_and_are_no_rows_to_send_again(store, tmp_path, clock):
    archive(other := SqliteStore(tmp_path / "other.db", clock=clock))
    history = list(other.events("s", upcast=False))
    other.close()
    assert store.restore_history(history, URL) == 3
    outbox = store.outbox(URL)
    assert outbox.status().waiting_rows == 4
    assert outbox.rows_to_redrive(10, max_bytes=10**6) == []
    assert outbox.dead_letters_between(1, 4) == {1, 2, 3, 4}


# Between listing and dropping


def tag(store: SqliteStore) -> None:
    store.append("s", event(9, Change("tag", "late", True)))


def refuse(store: SqliteStore) -> None:
    ship(store, dead_letters={1: "too red"})


def ask_again(store: SqliteStore) -> None:
    store.outbox(URL).redrive({2: "it is not there"})


@pytest.mark.parametrize("meanwhile", [tag, refuse, ask_again])
def test_a_session_that_changed_since_it_was_listed_is_not_dropped(store, meanwhile):
    archive(store)
    ship(store)
    listed = store.droppable(URL)
    meanwhile(store)
    before = store.rows_after(0, 10)
    assert store.drop(listed, URL) == 0
    assert store.rows_after(0, 10) == before
    assert store.state("s") is not None


def test_a_session_that_was_continued_and_shipped_since_it_was_listed_is_not_dropped(store):
    archive(store)
    ship(store)
    listed = store.droppable(URL)
    tag(store)
    ship(store)
    assert store.drop(listed, URL) == 0
    assert store.drop([listed[0]._replace(rows=5)], URL) == 0


@pytest.mark.parametrize("later", [0, 1])
@pytest.mark.parametrize("status", ["archived", "active"])
def test_another_session_under_the_id_of_one_that_was_listed_is_not_dropped(store, clock, later, status):
    archive(store)
    ship(store)
    listed = store.droppable(URL)
    assert store.purge("s", 3)
    store.deleted(store.pending_deletions(), URL)
    clock.move(later)
    archive(store, 11)
    if status == "active":
        store.append("s", event(14, Change("status", value="active")))
        listed = [listed[0]._replace(version=4, rows=5)]
    ship(store)
    same = not later and status == "archived"  # to the microsecond the same session, and all of it has arrived
    assert store.drop(listed, URL) == same


def test_a_session_is_dropped_once(store):
    archive(store)
    ship(store)
    listed = store.droppable(URL)
    assert store.drop([listed[0]._replace(rows=3)], URL) == 0
    assert (store.drop(listed, URL), store.drop(listed, URL)) == (1, 0)


def test_nothing_is_droppable_for_a_warehouse_that_has_nothing_or_before_every_warehouse_has_it(store):
    archive(store)
    assert store.droppable(URL) == []
    ship(store)
    assert store.droppable(OTHER) == []
    listed = store.droppable(URL)
    ship(store, OTHER)
    archive(store, 11, "later")
    ship(store)
    assert [each.key.session_id for each in store.droppable(URL)] == ["s"]
    assert store.drop(listed, "memory://never") == 0
    assert store.drop(listed, URL) == 1


# Purging


@pytest.mark.parametrize("version", [2, 4])
def test_a_session_that_is_not_at_the_version_that_was_listed_is_not_purged(store, version):
    archive(store)
    assert not store.purge("s", version)
    assert not store.purge("nobody", 0)
    with pytest.raises(InvalidInput):
        store.purge("", version)
    assert len(store.events("s")) == 3


@pytest.mark.parametrize("meanwhile", [tag, refuse, ask_again])
def test_a_session_with_rows_that_must_still_be_shipped_is_not_purged(store, meanwhile):
    archive(store)
    ship(store)
    meanwhile(store)
    assert not store.purge("s", store.state("s")[0].version)
    assert store.pending_deletions() == []
    ship(store, acknowledged=[1, 2])
    assert store.purge("s", store.state("s")[0].version)
    assert [each.key.session_id for each in store.pending_deletions(URL)] == ["s"]


def test_a_session_whose_rows_are_after_the_checkpoint_is_not_purged(store):
    archive(store, 11, "earlier")
    ship(store)
    archive(store)
    assert not store.purge("s", 3)
    ship(store)
    assert store.purge("s", 3)


def test_until_the_warehouse_has_deleted_a_session_nothing_comes_under_its_id(store):
    archive(store)
    history = list(store.events("s", upcast=False))
    ship(store)
    assert store.purge("s", 3)
    for write in (
        lambda: archive(store, 11),
        lambda: store.ingest(history),
        lambda: store.restore_history(history, URL),
    ):
        with pytest.raises(StoreUnavailable, match="was purged here"):
            write()
    store.deleted(store.pending_deletions(), OTHER)
    assert len(store.pending_deletions()) == 1
    store.deleted(store.pending_deletions(), URL)
    archive(store, 11)
    assert len(store.events("s")) == 3


def test_reads_of_an_archived_session_say_that_its_rows_are_in_a_warehouse(store):
    archive(store)
    dropped(store)
    for read in (
        lambda: store.state("s"),
        lambda: store.state("s", version=2),
        lambda: store.events("s"),
        lambda: store.messages("s", after=None, limit=10),
    ):
        with pytest.raises(SessionArchived):
            read()


def test_an_archived_session_takes_no_event_without_its_rows(store):
    archive(store)
    history = dropped(store)
    for write in (
        lambda: store.append("s", event(4, Change("tag", "t", True))),
        lambda: store.ingest([recorded(4, 4, [Change("tag", "t", True)], created_at=history[0].created_at)]),
    ):
        with pytest.raises(SessionEnded, match="archived"):
            write()
    assert store.rows_after(0, 10) == []


def test_no_byte_of_a_purged_session_is_left_in_the_file_or_a_backup(tmp_path):
    words = [secrets.token_hex(8) for _ in range(200)]
    clock = SetClock(START)
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db", clock=clock) as ledger:
        for number in range(8):
            session, purged = f"kept{number}", f"purged{number}"
            ledger.create_session("ada", f"kept words {number}", session_id=session)
            ledger.create_session("ada", f"secret {words[number]}", session_id=purged)
            for at in range(number, len(words), 8):
                ledger.add_message(purged, "user", f"{words[at]} and other words")
                ledger.add_message(session, "user", f"other words {at}")
            assert [match.session_id for match in ledger.search(words[number])] == [purged] * 2
            ledger.complete_session(purged)
        clock.move(2 * 86_400)
        assert ledger.delete_old_sessions(timedelta(days=1), statuses=["completed"]) == 8
        ledger.store.backup(tmp_path / "backup.db")
        for file in tmp_path.iterdir():
            content = file.read_bytes()
            assert not [word for word in words if word.encode() in content or word[6:].encode() in content], file.name
        assert ledger.search("other")
        assert ledger.verify().clean


def test_the_words_of_purged_sessions_are_removed_in_steps_between_which_others_append(tmp_path, monkeypatch):
    monkeypatch.setattr(search_index, "MERGED_PAGES", 1)
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db") as ledger:
        for number in range(12):
            ledger.create_session("ada", " ".join(f"word{number}x{n}" for n in range(300)), session_id=f"s{number}")
            ledger.search("word")
        steps: list[bool] = []
        forget = search_index.forget

        def counted(connection, *, first):
            steps.append(first)
            return forget(connection, first=first)

        monkeypatch.setattr(search_index, "forget", counted)
        assert ledger.store.purge("s0", 1)
        ledger.store.forget_purged()
        assert steps[:3] == [True, False, False]
        assert [match.session_id for match in ledger.search("word3x7")] == ["s3"]
        assert ledger.verify().clean


def test_a_ledger_that_has_purged_thousands_of_sessions_is_searched_on(tmp_path):
    # Before SQLite 3.44 each purge added a level to the index, and from 2,001 on it could not be opened any more.
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db") as ledger:
        ledger.create_session("ada", "the first of them", session_id="kept")
        assert ledger.search("first")
        with closing(sqlite3.connect(tmp_path / "l.db", isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            for number in range(1000, 3010):
                connection.execute("INSERT INTO search_words (rowid, words) VALUES (?, ?)", (number, f"order {number}"))
                search_index.forget(connection, first=True)
                if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'search_words'").fetchone():
                    break  # the next search makes it anew
        assert [match.session_id for match in ledger.search("first")] == ["kept"]

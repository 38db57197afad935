"""Archiving without a warehouse, in views of users, with rows that were refused, and with several warehouses."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest

from ledger import (
    CapabilityMissing,
    Change,
    IdempotencyConflict,
    InvalidInput,
    PermissionDenied,
    SessionEnded,
    SessionLedger,
    SessionNotFound,
    StoreRejected,
    StoreUnavailable,
)
from ledger.model.queries import SessionQuery
from ledger.model.upcast import Upcaster
from ledger.stores.archived import LISTED, UNOWNED
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import START, CountedIds, event
from ledger.tiers.opening import outbox_of, relay_between, sink_of
from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse
from support.shipped import FROM, UNTIL

DAY = timedelta(days=1)


@pytest.fixture
def alone(tmp_path, clock):
    """A ledger without a warehouse."""
    with SessionLedger(f"sqlite:///{tmp_path / 'alone.db'}", clock=clock, ids=CountedIds(1)) as ledger:
        yield ledger


@pytest.fixture
def ledger(tmp_path, clock):
    place = f"duckdb:///{tmp_path / 'warehouse.duckdb'}"
    with SessionLedger(f"sqlite:///{tmp_path / 'ledger.db'}", warehouse=place, clock=clock) as opened:
        yield opened


def archived(ledger, session_id="mine", **fields):
    ledger.create_session("ada", "q?", session_id=session_id, fields=fields)
    ledger.add_message(session_id, "user", "hello", event_id="m1")
    ledger.archive_session(session_id)
    ledger.warehouse.sync()
    assert ledger.drop_archived() == 1
    return session_id


def types(ledger, session_id):
    return [it.event_type for it in ledger.history(session_id)]


# Without a warehouse


def test_without_a_warehouse_only_the_status_changes(alone):
    alone.create_session("ada", session_id="s", fields={"status": "waiting"})
    assert alone.archive_session("s").version == 2
    assert alone.archive_session("s") is None
    assert alone.get_session("s").status == "archived"
    assert alone.drop_archived() == 0
    assert alone.hydrate_session("s").version == 3
    assert alone.hydrate_session("s") is None
    assert alone.get_session("s").status == "waiting"
    alone.add_message("s", "user", "hello")


def test_an_append_reopens_an_archived_session_whether_or_not_a_warehouse_has_its_rows(alone, ledger):
    for each in (alone, ledger):
        each.create_session("ada", session_id="s", fields={"status": "waiting"})
        each.archive_session("s")
        assert each.add_message("s", "user", "hello").version == 4
        assert types(each, "s") == ["session.created", "session.archived", "session.hydrated", "message.added"]
        assert each.get_session("s").status == "waiting"


@pytest.mark.parametrize("end", ["complete_session", "expire_session"])
def test_what_had_ended_before_is_ended_again_after_hydrating(alone, end):
    alone.create_session("ada", session_id="s")
    getattr(alone, end)("s")
    before = alone.get_session("s").status
    alone.archive_session("s")
    alone.hydrate_session("s")
    assert alone.get_session("s").status == before


def test_a_session_without_a_status_has_none_after_hydrating(alone):
    alone.store.append("s", event(1, Change("title", value="t"), user_id="ada"))
    alone.archive_session("s")
    alone.hydrate_session("s")
    assert alone.get_session("s").status is None


def test_a_deleted_session_is_restored_before_it_is_archived(alone):
    alone.create_session("ada", session_id="s")
    alone.delete_session("s")
    with pytest.raises(SessionEnded, match="restore_session") as ended:
        alone.archive_session("s")
    assert ended.value.status == "deleted"


@pytest.mark.parametrize("call", ["archive_session", "hydrate_session"])
def test_an_unknown_session_is_not_found(alone, ledger, call):
    for each in (alone, ledger):
        with pytest.raises(SessionNotFound):
            getattr(each, call)("nobody")


@pytest.mark.parametrize("call", ["archive_session", "hydrate_session"])
def test_a_call_that_is_sent_again_is_the_same(ledger, call):
    archived(ledger)
    if call == "archive_session":
        ledger.hydrate_session("mine")
    first = getattr(ledger, call)("mine", event_id="once")
    again = getattr(ledger, call)("mine", event_id="once")
    assert (again.version, again.replayed) == (first.version, True)


# What stays here


def test_lists_show_an_archived_session_by_what_stays_of_it(ledger):
    ledger.create_session("ada", session_id="open")
    fields = {"title": "T", "session_type": "chat", "summary": "long", "context": {"a": 1}}
    archived(ledger, **fields, tag={"weekly": True}, attribute={"topic": "orders"})
    (found,) = ledger.list_sessions(status="archived")
    assert (found.title, found.question, found.session_type) == ("T", "q?", "chat")
    assert (found.tags, found.attributes, found.summary) == (("weekly",), {"topic": "orders"}, None)
    assert {field for field, _ in found._state} <= set(LISTED)
    assert found.head.store_id == UNOWNED
    assert [it.session_id for it in ledger.list_sessions(tag="weekly", attributes={"topic": "orders"})] == ["mine"]
    assert {it.session_id for it in ledger.list_sessions()} == {"mine", "open"}
    assert ledger.get_session("mine").summary == "long"


def test_an_event_of_an_archived_session_is_replayed_and_a_changed_one_refused_without_asking(ledger, monkeypatch):
    archived(ledger)
    monkeypatch.setattr(ledger.store._warehouse, "opened", lambda: pytest.fail("the warehouse was asked"))
    store = ledger.store._local
    events = {row[0]: row[1] for row in _kept(ledger)}
    again = ledger.store.append("mine", _said(ledger, "hello"))
    assert (again.replayed, again.version) == (True, 2)
    assert store.version_of("mine", again.event_id) == events[again.event_id] == 2
    assert ledger.store.version_of("mine", again.event_id) == 2
    with pytest.raises(IdempotencyConflict):
        ledger.store.append("mine", _said(ledger, "something else"))


def _said(ledger, content):
    from dataclasses import replace

    from ledger.model.ids import event_id_for

    changes = [Change("message", event_id_for("m1", "ada"), {"role": "user", "content": content})]
    return replace(
        event(1, *changes, require_open=True), event_type="message.added", event_id=event_id_for("m1", "ada")
    )


def _kept(ledger):
    sql = "SELECT event_id, version FROM archived_events"
    return ledger.store._local._read(lambda connection: connection.execute(sql).fetchall())


def test_a_ledger_opened_without_its_warehouse_says_where_the_rows_are(ledger, tmp_path):
    archived(ledger)
    with SessionLedger(f"sqlite:///{tmp_path / 'ledger.db'}") as plain:
        for read in (plain.get_session, plain.history, plain.get_messages, plain.hydrate_session):
            with pytest.raises(StoreRejected, match=r"only in duckdb:.*warehouse\.duckdb"):
                read("mine")
        with pytest.raises(StoreRejected, match="only in"):
            plain.get_session("mine", at=START)
        for said in (True, False):
            with pytest.raises(StoreRejected, match=r"only in duckdb:.*warehouse\.duckdb"):
                plain.store.append("mine", event(9, Change("title", value="x"), require_open=said))
        with pytest.raises(SessionEnded):
            plain.store.ingest([_next(ledger)])
        assert plain.store.ingest(ledger.store.events("mine", upcast=False)) == 0
        assert [it.session_id for it in plain.list_sessions()] == ["mine"]


def _next(ledger):
    from dataclasses import replace

    from ledger.model.integrity import chained

    last = list(ledger.store.events("mine", upcast=False))[-1]
    following = replace(last, event_id="019cb624-f000-7000-8000-000000000000", version=last.version + 1)
    return chained(following, last.event_hash, ["00"] * len(last.changes))


def test_with_the_warehouse_away_nothing_is_written(ledger, monkeypatch):
    archived(ledger)

    def away():
        raise StoreUnavailable("The warehouse is away.")

    monkeypatch.setattr(ledger.store._warehouse, "opened", away)
    for call in (
        lambda: ledger.get_session("mine"),
        lambda: ledger.store.append("mine", event(9, Change("title", value="x"), require_open=True)),
        lambda: ledger.store.append("mine", event(9, Change("title", value="x"))),
        lambda: ledger.hydrate_session("mine"),
    ):
        with pytest.raises(StoreUnavailable, match="away"):
            call()
    assert ledger.store.rows_after(0, 10) == []
    ledger.create_session("ada", session_id="other")
    assert ledger.archive_session("other").version == 2


# When rows may go


def test_nothing_is_dropped_before_all_of_it_has_arrived(ledger):
    ledger.create_session("ada", session_id="s")
    ledger.warehouse.sync()
    ledger.archive_session("s")
    assert ledger.drop_archived() == 0
    ledger.warehouse.sync()
    ledger.add_tags("s", "late")
    assert ledger.drop_archived() == 0
    ledger.warehouse.sync()
    assert ledger.archive_session("s") is None
    assert ledger.store.rows_after(0, 10) == []


def test_a_session_with_refused_events_is_not_archived(ledger):
    ledger.create_session("ada", session_id="s")
    ledger.warehouse.sync()
    outbox = ledger.warehouse.outbox
    checkpoint = outbox.acquire("h/1/x", 60)
    outbox.save(checkpoint, dead_letters={1: "too red"})
    outbox.release(checkpoint)
    for of in (ledger, ledger.for_user("ada")):
        with pytest.raises(StoreRejected, match="relay dead-letters"):
            of.archive_session("s")
    assert ledger.get_session("s").status == "active"
    ledger.warehouse.retry()
    ledger.archive_session("s")
    assert ledger.drop_archived() == 0
    ledger.warehouse.sync()
    assert ledger.drop_archived() == 1


def test_rows_wait_for_every_warehouse_and_come_back_to_each_once(ledger, tmp_path):
    other = DuckDBWarehouse(tmp_path / "other.duckdb")

    def ship():
        with closing(relay_between(ledger.store, other)) as relay:
            return relay.sync()

    ledger.create_session("ada", session_id="s")
    ship()
    ledger.archive_session("s")
    ledger.warehouse.sync()
    assert ledger.drop_archived() == 0
    ship()
    assert ledger.drop_archived() == 1
    ledger.add_message("s", "user", "again")
    assert (ledger.warehouse.sync(), ship()) == (3, 3)  # it is also given a title
    from ledger.relay.reconcile import reconcile
    from ledger.warehouse.row_comparison import ComparedRows

    for warehouse in (ledger.warehouse.opened, other):
        rows = warehouse.query("SELECT COUNT(*) AS n, COUNT(DISTINCT CONCAT(event_id, field)) AS d FROM session_events")
        assert rows.rows[0][0] == rows.rows[0][1]
        outbox = outbox_of(ledger.store, sink_of(warehouse).url)
        assert reconcile(outbox, ComparedRows(warehouse), FROM, UNTIL).differences == ()


def test_a_warehouse_that_was_only_tried_holds_nothing_up(ledger):
    outbox_of(ledger.store, "duckdb:////never/there.duckdb").failed("no such folder")
    archived(ledger)


# Views of users


def test_in_a_view_only_the_owner_archives_and_who_may_write_brings_back(ledger):
    ledger.create_session("ada", session_id="s")
    ledger.grant_access("s", "ben", "write")
    ledger.grant_access("s", "eve", "read")
    ada, ben, eve, stranger = (ledger.for_user(name) for name in ("ada", "ben", "eve", "mallory"))
    for view in (ben, eve):
        with pytest.raises(PermissionDenied):
            view.archive_session("s")
    with pytest.raises(SessionNotFound):
        stranger.archive_session("s")
    ada.archive_session("s")
    ledger.warehouse.sync()
    assert ada.archive_session("s") is None
    assert ledger.store.rows_after(0, 10) == []
    assert eve.get_session("s").status == "archived"
    assert stranger.get_session("s") is None
    assert [it.session_id for it in ben.list_sessions(shared=True)] == ["s"]
    with pytest.raises(PermissionDenied):
        eve.hydrate_session("s")
    with pytest.raises(SessionNotFound):
        stranger.hydrate_session("s")
    assert ledger.store.rows_after(0, 10) == []
    assert ben.hydrate_session("s") is not None
    ben.add_message("s", "user", "hi")
    for call in (ada.drop_archived, lambda: ada.delete_old_sessions(DAY), lambda: ada.maintain()):
        with pytest.raises(PermissionDenied):
            call()


def test_without_the_warehouse_a_stranger_learns_nothing_of_an_archived_session(ledger, tmp_path):
    archived(ledger)
    with SessionLedger(f"sqlite:///{tmp_path / 'ledger.db'}") as plain:
        stranger = plain.for_user("mallory")
        assert stranger.get_session("mine") is None
        with pytest.raises(SessionNotFound):
            stranger.add_message("mine", "user", "x")
        with pytest.raises(StoreRejected, match="only in"):
            plain.for_user("ada").get_session("mine")
        with pytest.raises(SessionNotFound, match="cannot be created"):
            stranger.create_session("mallory", session_id="mine")


def test_in_a_view_maintaining_is_refused_before_anything_is_done(alone, ledger, clock):
    for each in (alone, ledger):
        each.create_session("ada", session_id="s", ttl=DAY)
    clock.now = START + 10 * DAY
    for each in (alone, ledger):
        with pytest.raises(PermissionDenied, match="sessions of all users"):
            each.for_user("ada").maintain()
        assert types(each, "s") == ["session.created"]
        assert each.maintain().expired == 1


def test_a_view_is_refused_the_same_with_and_without_a_warehouse(alone, ledger):
    for each in (alone, ledger):
        each.create_session("ada", session_id="s")
        each.grant_access("s", "ben", "read")
        each.grant_access("s", "eve", "write")
        with pytest.raises(PermissionDenied, match="may read"):
            each.for_user("ben").hydrate_session("s")
        assert each.for_user("eve").hydrate_session("s") is None
        with pytest.raises(SessionNotFound):
            each.for_user("mallory").hydrate_session("s")
        ada = each.for_user("ada")
        for call in (ada.drop_archived, lambda ada=ada: ada.delete_old_sessions(DAY)):
            with pytest.raises(PermissionDenied, match="sessions of all users"):
                call()


def test_a_retention_that_a_store_cannot_keep_is_refused_before_anything_is_done(alone, clock):
    class Remote:
        capabilities = replace(alone.store.capabilities, outbox=False, archive=False, purge=False)

        def __getattr__(self, name):
            if name in ("purge", "pending_deletions", "check_shippable", "outbox", "path"):
                raise AttributeError(name)
            return getattr(store, name)

    store = alone.store
    alone.create_session("ada", session_id="s", ttl=DAY)
    clock.now = START + 10 * DAY
    alone.store = Remote()
    with pytest.raises(CapabilityMissing):
        alone.maintain(retention=DAY)
    assert types(alone, "s") == ["session.created"]
    assert alone.maintain().expired == 1


# Deleting for good


def test_without_a_warehouse_sessions_are_deleted_where_they_are(alone, clock):
    ended, late, live, done = (alone.create_session("ada", session_id=it, ttl=None) for it in "abcd")
    alone.expire_session(ended)
    alone.complete_session(done)
    clock.now = START + 10 * DAY
    alone.delete_session(late)
    assert alone.delete_old_sessions(5 * DAY) == 1
    assert {it.session_id for it in alone.list_sessions()} == {live, done}
    assert alone.get_session(late).status == "deleted"
    assert alone.delete_old_sessions(5 * DAY, statuses=("completed",)) == 1
    assert alone.create_session("ben", session_id=ended) == ended
    assert types(alone, ended) == ["session.created"]


def test_what_still_has_to_be_shipped_is_deleted_another_time(ledger, clock):
    ledger.create_session("ada", session_id="s")
    ledger.warehouse.sync()
    ledger.delete_session("s")
    clock.now = START + 10 * DAY
    assert ledger.delete_old_sessions(DAY) == 0
    ledger.warehouse.sync()
    assert ledger.delete_old_sessions(DAY) == 1


def test_nothing_is_older_than_all_time(ledger, clock):
    ledger.create_session("ada", session_id="s")
    ledger.delete_session("s")
    ledger.warehouse.sync()
    clock.now = START + 10 * DAY
    assert ledger.delete_old_sessions(timedelta.max) == 0
    assert ledger.maintain(retention=timedelta.max).deleted == 0
    assert ledger.get_session("s").status == "deleted"


def test_statuses_may_come_from_a_generator(alone, clock):
    alone.create_session("ada", session_id="s")
    alone.delete_session("s")
    clock.now = START + 10 * DAY
    assert alone.delete_old_sessions(DAY, statuses=(it for it in ("expired", "deleted"))) == 1


@pytest.mark.parametrize("statuses", [(), "expired", ("active",), ("",), (1,), 5, None, (["expired"],)])
def test_statuses_in_which_nothing_has_ended_are_refused(alone, statuses):
    with pytest.raises(InvalidInput):
        alone.delete_old_sessions(DAY, statuses=statuses)


@pytest.mark.parametrize("age", [-DAY, 24, "24", None])
def test_an_age_that_is_none_is_refused(alone, age):
    with pytest.raises(InvalidInput, match="older_than"):
        alone.delete_old_sessions(age)


@pytest.mark.parametrize("age", [-DAY, 24, "24"])
def test_a_retention_that_is_none_is_refused_before_anything_is_done(alone, clock, age):
    alone.create_session("ada", session_id="s", ttl=DAY)
    clock.now = START + 10 * DAY
    with pytest.raises(InvalidInput, match="retention"):
        alone.maintain(retention=age)
    assert types(alone, "s") == ["session.created"]


def test_a_session_that_is_deleted_with_a_head_remembered_is_begun_anew(alone, clock):
    alone.create_session("ada", session_id="s")
    alone.delete_session("s")
    clock.now = START + 10 * DAY
    assert alone.delete_old_sessions(DAY) == 1
    with pytest.raises(SessionNotFound):
        alone.store.append("s", event(9, Change("title", value="x")))
    alone.create_session("ada", session_id="s")
    assert alone.get_session("s").version == 1


def test_a_store_that_deletes_nothing_by_itself_says_so(alone):
    class Remote:
        capabilities = replace(alone.store.capabilities, purge=False)

    alone.store.close()
    alone.store = Remote()
    with pytest.raises(CapabilityMissing, match="partition expiration"):
        alone.delete_old_sessions(DAY)
    alone.store.close = lambda: None


# Others who have the file open


def test_whoever_remembers_the_session_finds_out_that_its_rows_are_gone(ledger, tmp_path):
    ledger.create_session("ada", session_id="s", fields={"summary": "S"})
    with closing(SqliteStore(tmp_path / "ledger.db")) as other:
        other.append("s", event(1, Change("title", value="t")))
        assert other.state("s")[1]["summary", ""].value == "S"
        ledger.archive_session("s")
        other.append("s", event(2, Change("tag", "t", True)))
        ledger.warehouse.sync()
        assert ledger.drop_archived() == 1
        with pytest.raises(SessionEnded):
            other.append("s", event(3, Change("tag", "u", True)))
        assert other.append("s", event(2, Change("tag", "t", True))).replayed
        with pytest.raises(StoreRejected):
            other.state("s")
        ledger.hydrate_session("s")
        assert other.append("s", event(3, Change("tag", "u", True))).version == 6


def test_a_subscriber_is_not_told_again_of_events_that_come_back(ledger):
    archived(ledger)
    seen = ledger.store.last_seq()
    ledger.hydrate_session("mine")
    rows = ledger.store.rows_after(0, 100)
    assert [row[4] for row in rows if row[0] > seen] == ["session.hydrated"]
    assert len({row[0] for row in rows}) == len(rows) == seen + 1


def test_an_archived_session_is_folded_in_the_new_shape_when_it_is_back(ledger, tmp_path):
    archived(ledger)
    with closing(SqliteStore(tmp_path / "ledger.db", upcaster=Upcaster(2, {1: lambda it: it}))) as store:
        (found,) = store.sessions(SessionQuery(status="archived"))
        assert found[1]["question", ""].value == "q?"
    assert ledger.hydrate_session("mine") is not None

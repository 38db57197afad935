"""Forks: what is copied, what is refused, and what a fork shares with the session it came from."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ledger import (
    Change,
    IdempotencyConflict,
    InvalidInput,
    PermissionDenied,
    SessionEnded,
    SessionLedger,
    SessionNotFound,
    WrongExpectedVersion,
)
from ledger.model.events import NewEvent
from ledger.model.ids import event_id_for
from ledger.testing import chained, event_id, recorded
from support.branches import everything, many, read

# Forks


@pytest.mark.parametrize("lifetimes", [{"default_ttl_hours": 24}])
def test_a_fork_has_an_owner_an_id_and_a_life_of_its_own(ledger, sid, clock):
    clock.move(3600)
    fork = ledger.fork_session(sid, user_id="bob", new_session_id="mine", ttl=timedelta(hours=2), actor="agent:7")
    session = ledger.get_session("mine")
    assert (fork, session.user_id, session.status) == ("mine", "bob", "completed")
    assert (session.created_at, session.expires_at) == (clock.now, clock.now + timedelta(hours=2))
    assert ledger.get_session(ledger.fork_session(sid)).user_id == "ada"
    assert ledger.get_session(ledger.fork_session(sid, ttl=None)).expires_at is None
    assert ledger.get_session(ledger.fork_session(sid)).expires_at == clock.now + timedelta(hours=24)
    # The second message has the lower id, so it must be in an event of its own.
    assert [it.event_type for it in ledger.history("mine")] == ["session.created", *["session.copied"] * 2]
    assert {ledger.history("mine")[0].actor, ledger.history(sid, after=9)[0].actor} == {"agent:7"}
    assert ledger.history(sid, after=9)[0].event_type == "session.forked"


@pytest.mark.parametrize("lifetimes", [{"default_ttl_hours": 24}])
def test_a_session_that_has_expired_goes_on_as_a_fork(ledger, clock):
    sid = ledger.create_session("ada", "q")
    clock.move(25 * 3600)
    fork = ledger.fork_session(sid)
    assert ledger.get_session(fork).status == "active"
    ledger.expire_old_sessions()
    assert ledger.get_session(sid).recorded_status == "expired"
    assert ledger.get_session(ledger.fork_session(sid)).status == "active"
    ledger.add_message(fork, "user", "on we go")


def test_a_deleted_session_is_not_forked(ledger, sid):
    ledger.delete_session(sid)
    rows = everything(ledger)
    for branch in (ledger.fork_session, lambda it: ledger.create_from_template(it, "ada")):
        with pytest.raises(SessionEnded, match="restore_session"):
            branch(sid)
    assert everything(ledger) == rows


def test_what_was_erased_is_not_copied_and_not_brought_back(ledger):
    sid = erased_session(ledger)
    assert [m.message_id for m in ledger.get_session(ledger.fork_session(sid), messages=True).messages] == ["m3"]
    fork = ledger.get_session(ledger.fork_session(sid))
    assert (fork.title, fork.question) == (None, "q")
    ledger.add_message(sid, "user", "anew", message_id="m1")
    ledger.update_session(sid, {"title": "anew"})
    ledger.update_session(sid, {"message": {"m3": {"role": "user", "content": "changed"}}})
    ledger.rewind(sid, 4)
    session = ledger.get_session(sid, messages=True)
    assert [(m.message_id, m.content) for m in session.messages] == [("m2", None), ("m3", "3")]
    assert session.title is None


def erased_session(ledger: SessionLedger) -> str:
    """A session whose title and first two messages were erased where it comes from."""

    def message(number: int) -> Change:
        return Change("message", f"m{number}", {"role": "user", "content": str(number)})

    first = [Change("status", value="active"), Change("question", value="q"), Change("title", value="t")]
    made = chained(
        recorded(version, version, changes)
        for version, changes in enumerate([first, [message(1)], [message(2)], [message(3)]], 1)
    )
    ledger.store.ingest(made)
    erase(ledger, "session_id = 's' AND (key IN ('m1', 'm2') OR field = 'title')")
    return "s"


def erase(ledger: SessionLedger, which: str) -> None:
    """What an erasure does to rows, and to the slots that are folded from them."""

    def work(connection: Any) -> None:
        connection.execute(f"UPDATE session_events SET value = NULL, value_salt = NULL WHERE {which}")
        connection.execute(f"UPDATE session_state SET value = NULL WHERE {which}")

    ledger.store._local._run(work)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda ledger, sid: ledger.fork_session("nope"), SessionNotFound),
        (lambda ledger, sid: ledger.fork_session("nope", at_version=1, event_id="k"), SessionNotFound),
        (lambda ledger, sid: ledger.fork_session(sid, at_version=0), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, at_version=-1), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, at_version=10), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, at_version=True), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, at_version="3"), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, user_id=""), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, user_id=7), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, new_session_id=""), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, new_session_id=sid), WrongExpectedVersion),
        (lambda ledger, sid: ledger.fork_session(sid, new_session_id=sid, event_id="k"), WrongExpectedVersion),
        (lambda ledger, sid: ledger.fork_session(sid, expected_version=8), WrongExpectedVersion),
        (lambda ledger, sid: ledger.fork_session(sid, at_version=8, expected_version=8), WrongExpectedVersion),
        (lambda ledger, sid: ledger.fork_session(sid, ttl=timedelta(0)), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, ttl=timedelta(days=400)), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, ttl=None), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, actor=""), InvalidInput),
        (lambda ledger, sid: ledger.fork_session(sid, expected_verion=9), TypeError),
        (lambda ledger, sid: ledger.create_from_template("nope", "ada"), SessionNotFound),
        (lambda ledger, sid: ledger.create_from_template(sid), InvalidInput),
        (lambda ledger, sid: ledger.create_from_template(sid, "ada", 7), InvalidInput),
        (lambda ledger, sid: ledger.create_from_template(sid, "ada", fields=[1]), InvalidInput),
        (lambda ledger, sid: ledger.create_from_template(sid, "ada", fields={"titel": "x"}), InvalidInput),
        (lambda ledger, sid: ledger.create_from_template(sid, "ada", fields={"title": 1}), InvalidInput),
        (lambda ledger, sid: ledger.create_from_template(sid, "ada", fields={"expires_at": 1}), InvalidInput),
        (lambda ledger, sid: ledger.create_from_template(sid, "ada", at_version=10), InvalidInput),
        (lambda ledger, sid: ledger.create_from_template(sid, "ada", new_session_id=sid), WrongExpectedVersion),
        (lambda ledger, sid: ledger.rewind("nope", 1), SessionNotFound),
        (lambda ledger, sid: ledger.rewind(sid, 0), InvalidInput),
        (lambda ledger, sid: ledger.rewind(sid, 10), InvalidInput),
        (lambda ledger, sid: ledger.rewind(sid, None), InvalidInput),
        (lambda ledger, sid: ledger.rewind(sid, 1.5), InvalidInput),
        (lambda ledger, sid: ledger.rewind(sid, 3, expected_version=8), WrongExpectedVersion),
        (lambda ledger, sid: ledger.rewind(sid, 9, expected_version=8), WrongExpectedVersion),
        (lambda ledger, sid: ledger.rewind(sid, 9, expected_verion=9), TypeError),
        (lambda ledger, sid: ledger.replay("nope"), SessionNotFound),
        (lambda ledger, sid: ledger.replay(sid, from_version=0), InvalidInput),
        (lambda ledger, sid: ledger.replay(sid, from_version=10), InvalidInput),
        (lambda ledger, sid: ledger.replay(sid, from_version=5, to_version=4), InvalidInput),
        (lambda ledger, sid: ledger.replay(sid, to_version=10), InvalidInput),
        (lambda ledger, sid: ledger.replay(sid, to_version="9"), InvalidInput),
        (lambda ledger, sid: ledger.compare(sid, "nope"), SessionNotFound),
        (lambda ledger, sid: ledger.compare("nope", sid), SessionNotFound),
        (lambda ledger, sid: ledger.compare(sid, sid, version=10), InvalidInput),
        (lambda ledger, sid: ledger.compare(sid, sid, other_version=-1), InvalidInput),
    ],
)
@pytest.mark.parametrize("lifetimes", [{"default_ttl_hours": 24, "max_ttl_hours": 168}])
def test_bad_input_is_refused_and_nothing_is_written(ledger, sid, call, kind):
    rows = everything(ledger)
    with pytest.raises(kind):
        call(ledger, sid)
    assert everything(ledger) == rows


def test_a_key_of_another_change_is_a_conflict(ledger, sid):
    ledger.add_score(sid, "n", 1, event_id="score")
    fork = ledger.fork_session(sid, at_version=4, event_id="fork")
    ledger.rewind(sid, 5, event_id="back")
    rows = everything(ledger)
    for call in (
        lambda: ledger.fork_session(sid, event_id="score"),
        lambda: ledger.fork_session(sid, at_version=5, event_id="fork"),
        lambda: ledger.fork_session(sid, new_session_id="other", event_id="fork"),
        lambda: ledger.create_from_template(sid, "ada", event_id="fork"),
        lambda: ledger.rewind(sid, 4, event_id="back"),
        lambda: ledger.rewind(sid, 5, event_id="fork"),
        lambda: ledger.rewind(sid, 5, event_id="score"),
    ):
        with pytest.raises(IdempotencyConflict):
            call()
    with pytest.raises(WrongExpectedVersion):
        ledger.fork_session(sid, user_id="bob", event_id="fork")
    assert everything(ledger) == rows
    assert ledger.fork_session(sid, event_id="fork") == fork


def test_one_key_begins_a_session_and_forks_others(ledger):
    first = ledger.create_session("ada", "q", event_id="job-1")
    second = ledger.create_session("ada", "q", event_id="job-2")
    made = {ledger.fork_session(it, event_id="job-3") for it in (first, second)}
    made.add(ledger.create_session("ada", "q", event_id="job-3"))
    assert len(made) == 3


def shuffled(number: int) -> str:
    """Ids that fall every third time."""
    return f"{(number % 3) * 5000 + number // 3 * 7919 % 5000:05}-{number}"


@pytest.mark.parametrize("name", ["m{:05}".format, shuffled], ids=["rising", "falling"])
def test_a_fork_of_a_long_session_is_copied_in_events_of_bounded_size(ledger, name):
    sid = many(ledger, 2500, name)
    fork = ledger.fork_session(sid)
    assert read(ledger, fork) == read(ledger, sid)
    copied = list(ledger.history(fork, limit=5000))
    assert max(len(event.changes) for event in copied) <= 1000
    assert [event.event_type for event in copied] == ["session.created", *["session.copied"] * (len(copied) - 1)]
    assert ledger.get_session(fork, version=len(copied) - 1).status == "copying"
    assert ledger.get_session(fork).status == "completed"
    if name is not shuffled:
        assert len(copied) == 4


# Comparing


def test_compare_names_what_two_sessions_differ_in(ledger, sid):
    fork = ledger.fork_session(sid)
    assert {it.field for it in ledger.compare(sid, fork)} == {"child", "grant", "lineage"}
    ledger.add_tags(fork, "mine")
    (tag,) = [it for it in ledger.compare(sid, fork) if it.field == "tag"]
    assert (tag.key, tag.before, tag.after.value) == ("mine", None, True)
    assert {it.field for it in ledger.compare(sid, sid, version=8)} == {"status", "child"}
    assert ledger.compare(sid, sid, version=4, other_version=4) == []
    assert {it.before for it in ledger.compare(sid, fork, version=0)} == {None}


def test_a_users_view_forks_what_is_shared_for_the_user(ledger, sid):
    bob = ledger.for_user("bob")
    ledger.grant_access(sid, "bob", "write")
    mine = bob.fork_session(sid, new_session_id=event_id(77))
    assert bob.get_session(mine).user_id == "bob"
    assert ledger.history(sid)[-1].actor == "bob"
    with pytest.raises(SessionNotFound):
        ledger.for_user("eve").fork_session(sid)


@pytest.mark.parametrize("kind", ["fork", "template"])
@pytest.mark.parametrize("session_id", [None, event_id(77)], ids=["new id", "own id"])
def test_a_guest_who_may_read_forks_and_nothing_is_written_to_the_source(ledger, sid, kind, session_id):
    bob, rows = ledger.for_user("bob"), everything(ledger)

    def fork(**more: Any) -> str:
        if kind == "template":
            return bob.create_from_template(sid, question="And today?", new_session_id=session_id, **more)
        return bob.fork_session(sid, new_session_id=session_id, **more)

    mine = fork(event_id="k")
    assert ledger.history(sid) == ledger.for_user("ada").history(sid)
    assert [row for row in everything(ledger) if row[1] == sid] == rows
    assert bob.get_session(mine).lineage == {"session_id": sid, "version": 9, "kind": kind}
    assert (bob.get_session(mine).user_id, bob.get_session(mine).question is not None) == ("bob", True)
    ledger.update_summary(sid, "later")
    assert fork(event_id="k") == mine
    assert len(bob.list_sessions("bob")) == 1
    if session_id is not None:
        with pytest.raises(WrongExpectedVersion, match=f"{session_id} exists already"):
            fork(event_id="other")
    else:
        assert fork(event_id="other") != mine
        assert fork() not in (mine, fork())
    bob.add_message(mine, "user", "Mine.")
    ledger.revoke_access(sid, "bob")
    with pytest.raises(SessionNotFound):
        bob.fork_session(sid)


def test_a_guest_forks_an_earlier_version_for_themselves_alone(ledger, sid):
    bob = ledger.for_user("bob")
    mine = bob.fork_session(sid, at_version=4)
    assert [it.content for it in bob.get_messages(mine)] == ["hi"]
    with pytest.raises(PermissionDenied):
        bob.fork_session(sid, user_id="carol")
    with pytest.raises(WrongExpectedVersion):
        bob.fork_session(sid, expected_version=3)
    ledger.delete_session(sid)
    with pytest.raises(SessionEnded, match="restore_session"):
        bob.fork_session(sid)


def test_a_fork_that_is_asked_for_again_is_there_also_when_its_source_is_deleted(ledger, sid):
    fork = ledger.fork_session(sid, event_id="k")
    made = ledger.create_from_template(sid, "ada", event_id="t")
    ledger.delete_session(sid)
    assert ledger.fork_session(sid, event_id="k") == fork
    assert ledger.create_from_template(sid, "ada", event_id="t") == made


def test_a_fork_that_another_call_notes_meanwhile_is_that_one(ledger, sid, monkeypatch):
    recorded_child, made = ledger._recorded_child, []

    def another_first(*args):
        found = recorded_child(*args)
        monkeypatch.setattr(ledger, "_recorded_child", recorded_child)
        made.append(ledger.fork_session(sid, event_id="k"))
        return found

    monkeypatch.setattr(ledger, "_recorded_child", another_first)
    assert ledger.fork_session(sid, event_id="k") == made[0]
    assert list(ledger.get_session(sid).children) == made


def test_a_fork_into_an_id_that_somebody_else_has_leaves_no_child(ledger):
    ledger.for_user("eve").create_session(session_id="taken")
    ada = ledger.for_user("ada")
    sid = ada.create_session()
    with pytest.raises(SessionNotFound):
        ada.fork_session(sid, new_session_id="taken")
    assert not ada.get_session(sid).children
    assert ada.get_session("taken") is None


@pytest.mark.parametrize(
    "changes",
    [
        [Change("question", "", "x")],
        [Change("child", "c", removed=True)],
        [Change("child", "c", {"version": 1, "kind": "fork"}), Change("title", "", "x")],
    ],
)
def test_an_event_that_is_no_fork_and_calls_itself_one_is_a_conflict(ledger, sid, changes):
    ledger.store.append(sid, NewEvent("session.forked", changes, event_id_for("k", "ada")))  # as 0.2 took it
    with pytest.raises(IdempotencyConflict):
        ledger.fork_session(sid, event_id="k")

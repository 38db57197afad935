"""Sessions that are shared: by grants of their owner, for as long as these stand there."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import (
    ANY_VERSION,
    Appended,
    Change,
    InvalidInput,
    LedgerError,
    NewEvent,
    PermissionDenied,
    SessionLedger,
    SessionNotFound,
    StoreUnavailable,
    WrongExpectedVersion,
)
from ledger.model.queries import SessionQuery
from ledger.stores.user_view import APPEND_ATTEMPTS, UserView
from ledger.testing import CountedIds, SetClock, event, event_id
from ledger.testing.harness import everything


@pytest.fixture
def ada(ledger: SessionLedger) -> SessionLedger:
    return ledger.for_user("ada")


@pytest.fixture
def bob(ledger: SessionLedger) -> SessionLedger:
    return ledger.for_user("bob")


@pytest.fixture
def sid(ada: SessionLedger) -> str:
    return ada.create_session(question="How many orders?")


def test_a_read_grant_shows_all_and_lets_nothing_be_changed(
    ledger: SessionLedger, ada: SessionLedger, bob: SessionLedger, sid: str
) -> None:
    ada.add_message(sid, "user", "hello")
    ada.grant_access(sid, "bob", "read")
    assert bob.get_session(sid).question == "How many orders?"
    assert bob.get_session(sid, version=1).version == 1  # from before the grant
    assert [it.content for it in bob.get_messages(sid)] == ["hello"]
    assert list(bob.history(sid)) == list(ledger.history(sid))
    assert bob.get_grants(sid) == {"bob": "read"}
    before = everything(ledger.store)
    for change in (
        lambda: bob.update_summary(sid, "x"),
        lambda: bob.update_session(sid, {"title": "x"}),
        lambda: bob.add_message(sid, "user", "x"),
        lambda: bob.grant_access(sid, "carol", "read"),
        lambda: bob.grant_access(sid, "bob", "write"),
        lambda: bob.revoke_access(sid, "bob"),
        lambda: bob.delete_session(sid),
        lambda: bob.append(sid, "a.b", [Change("title", value="x")], expected_version=77),
    ):
        with pytest.raises(PermissionDenied, match=f"User bob may read session {sid}, not change it"):
            change()
    assert everything(ledger.store) == before


def test_a_write_grant_lets_events_be_appended_under_the_users_own_name(
    ada: SessionLedger, bob: SessionLedger, sid: str
) -> None:
    ada.grant_access(sid, "bob", "write")
    bob.update_summary(sid, "by bob")
    bob.update_strategy(sid, "by bob again", actor="ada")
    bob.update_constraints(sid, {"tool_calls": ["count"]}, expected_version=4)
    ada.update_summary(sid, "by ada")
    ada.update_summary(sid, "by an agent of ada's", actor="agent")
    assert [it.actor for it in ada.history(sid)] == [None, None, "bob", "bob", "bob", None, "agent"]
    assert {it.user_id for it in ada.history(sid)} == {"ada"}
    sent = bob.add_message(sid, "user", "hi", event_id="job-1")
    assert bob.add_message(sid, "user", "hi", event_id="job-1").version == sent.version
    # The same words of two users are two keys.
    assert not ada.add_message(sid, "user", "hi", event_id="job-1").replayed


def test_who_may_write_meets_the_checks_of_a_version(ada: SessionLedger, bob: SessionLedger, sid: str) -> None:
    ada.grant_access(sid, "bob", "write")
    for expected in (0, 1, 3, 77):
        said = []
        for view in (ada, bob):
            with pytest.raises(WrongExpectedVersion) as refused:
                view.append(sid, "a.b", [Change("title", value="x")], expected_version=expected)
            said.append((str(refused.value), vars(refused.value)))
        assert said[0] == said[1]
    for expected in (True, "2", -2):
        with pytest.raises(InvalidInput, match="expected_version"):
            bob.store.append(sid, event(1), expected_version=expected)
    with pytest.raises(InvalidInput):
        bob.store.append(sid, NewEvent("a.b", 5, event_id(1)))
    made = bob.store.append(sid, NewEvent("a.b", (Change("title", value=it) for it in ("x",)), event_id(1)))
    assert made.version == 3
    assert bob.store.append(sid, event(1, Change("title", value="x"), event_type="a.b"), expected_version=77).replayed


#: For each row of the table in docs/python.md: the calls of it, each with the state that the session is in before.
RIGHTS: dict[str, list[tuple[str, Callable[[SessionLedger, str], object]]]] = {
    "read, search, `history`, `fork_session`": [
        ("", lambda view, sid: view.require_session(sid)),
        ("", lambda view, sid: view.history(sid)),
        ("", lambda view, sid: view.fork_session(sid)),
    ],
    "`add_message`, `update_session` and all other changes of fields, `rewind`": [
        ("", lambda view, sid: view.add_message(sid, "user", "hello")),
        ("", lambda view, sid: view.update_session(sid, {"title": "x"})),
        ("", lambda view, sid: view.add_tags(sid, "weekly")),
        ("", lambda view, sid: view.rewind(sid, 1)),
    ],
    "`complete_session`, `fail_session`": [
        ("", lambda view, sid: view.complete_session(sid)),
        ("", lambda view, sid: view.fail_session(sid, "no rows")),
    ],
    "`extend_session`, `expire_session`": [
        ("", lambda view, sid: view.extend_session(sid, timedelta(days=7))),
        ("", lambda view, sid: view.expire_session(sid)),
    ],
    "`restore_session` of an expired session": [("expired", lambda view, sid: view.restore_session(sid))],
    "`hydrate_session` of an archived session": [("archived", lambda view, sid: view.hydrate_session(sid))],
    "`archive_session`": [("", lambda view, sid: view.archive_session(sid))],
    "`delete_session`, `restore_session` of a deleted session": [
        ("", lambda view, sid: view.delete_session(sid)),
        ("deleted", lambda view, sid: view.restore_session(sid)),
    ],
    "`grant_access`, `revoke_access`": [
        ("", lambda view, sid: view.grant_access(sid, "carol", "read")),
        ("", lambda view, sid: view.revoke_access(sid, "bob")),
    ],
    "`drop_archived`, `delete_old_sessions`, `purge_sessions`, `maintain`": [
        ("archived", lambda view, _: view.drop_archived()),
        ("", lambda view, _: view.delete_old_sessions(timedelta(days=30))),
        ("deleted", lambda view, sid: view.purge_sessions([sid])),
        ("", lambda view, _: view.maintain()),
    ],
}
PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
ROWS = re.findall(r"^\| (.+) \| (yes|no) \| (yes|no) \| (yes|no) \|$", PAGE, re.MULTILINE)


def test_the_table_of_rights_has_each_row_that_is_tested() -> None:
    assert [calls for calls, *_ in ROWS] == list(RIGHTS)


@pytest.mark.parametrize(("calls", "answers"), [(calls, answers) for calls, *answers in ROWS])
def test_owner_and_guests_may_do_what_the_table_says(ledger: SessionLedger, calls: str, answers: list[str]) -> None:
    users = (("ada", None), ("bob", "write"), ("bob", "read"))
    for (user, right), answer in zip(users, answers, strict=True):
        for state, call in RIGHTS[calls]:
            sid = ledger.create_session("ada", "How many?", ttl=timedelta(days=1))
            ledger.update_summary(sid, "x")
            ledger.grant_access(sid, "bob", right or "read")
            if state:
                to_end = {"expired": ledger.expire_session, "archived": ledger.archive_session}
                to_end.get(state, ledger.delete_session)(sid)
            before = everything(ledger.store)
            if answer == "yes":
                call(ledger.for_user(user), sid)
            else:
                with pytest.raises(PermissionDenied):
                    call(ledger.for_user(user), sid)
                assert everything(ledger.store) == before


def test_only_its_owner_shares_deletes_and_restores_a_session(ada: SessionLedger, bob: SessionLedger, sid: str) -> None:
    ada.grant_access(sid, "bob", "write")
    only_the_owners: list[Callable[[], object]] = [
        lambda: bob.grant_access(sid, "carol", "read"),
        lambda: bob.revoke_access(sid, "bob"),
        lambda: bob.update_session(sid, {"title": "x", "grant": {"carol": "read"}}),
        lambda: bob.append(sid, "a.b", [Change("grant", "bob", removed=True)]),
        lambda: bob.append(sid, "a.b", [Change("status", value="deleted")]),
        lambda: bob.delete_session(sid),
    ]
    for attempt in only_the_owners:
        with pytest.raises(PermissionDenied, match="or restore it after a deletion"):
            attempt()
    ada.delete_session(sid)
    for attempt in (lambda: bob.restore_session(sid), lambda: bob.append(sid, "a.b", [Change("status", removed=True)])):
        with pytest.raises(LedgerError) as refused:
            attempt()
        assert refused.value.code in ("permission_denied", "session_ended")
    assert ada.get_session(sid).status == "deleted"
    ada.restore_session(sid)
    bob.complete_session(sid)
    assert ada.get_session(sid).status == "completed"


def test_a_grant_that_is_revoked_or_lowered_counts_no_more(ada: SessionLedger, bob: SessionLedger, sid: str) -> None:
    ada.grant_access(sid, "bob", "write")
    ada.grant_access(sid, "bob", "read")
    with pytest.raises(PermissionDenied):
        bob.update_summary(sid, "x")
    ada.revoke_access(sid, "bob")
    assert bob.get_session(sid) is None
    assert bob.get_session(sid, version=3) is None  # when he had one
    assert (len(bob.list_sessions()), len(bob.list_sessions(shared=True)), len(bob.list_sessions("ada"))) == (0, 0, 0)
    for ask in (lambda: bob.history(sid), lambda: bob.get_grants(sid), lambda: bob.update_summary(sid, "x")):
        with pytest.raises(SessionNotFound):
            ask()
    assert ada.get_grants(sid) == {}


def test_a_guest_who_may_write_forks_a_session_into_one_of_their_own(
    ledger: SessionLedger, ada: SessionLedger, bob: SessionLedger, sid: str
) -> None:
    ada.grant_access(sid, "bob", "read")
    bob.fork_session(sid)
    assert not ada.get_session(sid).children  # a guest who may write notes the fork in the session, this one does not
    ada.grant_access(sid, "bob", "write")
    fork = bob.fork_session(sid)
    with pytest.raises(PermissionDenied):
        bob.fork_session(sid, user_id="ada")
    assert (ledger.get_session(fork).user_id, bob.get_session(fork).question) == ("bob", "How many orders?")
    assert ada.get_session(fork) is None
    assert list(ada.get_session(sid).children) == [fork]
    assert ledger.get_session(ledger.fork_session(sid)).user_id == "ada"


def test_a_session_that_has_ended_is_shared_and_shared_no_more(
    ada: SessionLedger, bob: SessionLedger, sid: str, clock: SetClock
) -> None:
    ada.expire_session(sid)
    ada.grant_access(sid, "bob", "read")
    assert bob.get_session(sid).status == "expired"
    ada.revoke_access(sid, "bob")
    assert bob.get_session(sid) is None


def test_what_cannot_be_granted_or_revoked_is_refused(ledger: SessionLedger, ada: SessionLedger, sid: str) -> None:
    for it in (ledger, ada):
        before = everything(ledger.store)
        for access in ("own", "", None, True, ["read"]):
            with pytest.raises(InvalidInput, match="read, write"):
                it.grant_access(sid, "bob", access)
        for user_id in ("", None, 5, "\n"):
            with pytest.raises(InvalidInput, match="user_id"):
                it.grant_access(sid, user_id, "read")
            with pytest.raises(InvalidInput, match="user_id"):
                it.revoke_access(sid, user_id)
        with pytest.raises(InvalidInput, match="owns"):
            it.grant_access(sid, "ada", "read")
        with pytest.raises(InvalidInput, match=r"not shared with bob;.*Users with a grant: none"):
            it.revoke_access(sid, "bob")
        for ask in (lambda it=it: it.grant_access("nope", "bob", "read"), lambda it=it: it.get_grants("nope")):
            with pytest.raises(SessionNotFound):
                ask()
        assert everything(ledger.store) == before


def test_granting_and_revoking_can_be_sent_again(ledger: SessionLedger, sid: str) -> None:
    first = ledger.grant_access(sid, "bob", "read", event_id="share")
    gone = ledger.revoke_access(sid, "bob", event_id="unshare")
    assert ledger.grant_access(sid, "bob", "read", event_id="share") == Appended(*_of(first), replayed=True)
    assert ledger.revoke_access(sid, "bob", event_id="unshare") == Appended(*_of(gone), replayed=True)
    assert [it.event_type for it in ledger.history(sid)] == ["session.created", "access.granted", "access.revoked"]


def _of(appended: Appended) -> tuple[str, int, str]:
    return appended.session_id, appended.version, appended.event_id


# Between check and append


class Meanwhile:
    """A store in which something happens just before an append arrives."""

    def __init__(self, store: Any, happens: Callable[[], object], times: int = 1) -> None:
        self._store = store
        self._happens = happens
        self._times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append(self, *args: Any, **more: Any) -> Appended:
        if self._times > 0:
            self._times -= 1
            self._happens()
        return self._store.append(*args, **more)


def test_a_grant_revoked_between_check_and_append_lets_nothing_through(ledger: SessionLedger, sid: str) -> None:
    for access, expected in ((WrongExpectedVersion, 2), (SessionNotFound, ANY_VERSION)):
        ledger.grant_access(sid, "bob", "write", event_id=f"share {expected}")
        at = ledger.get_session(sid).version
        store = UserView(Meanwhile(ledger.store, lambda: ledger.revoke_access(sid, "bob")), "bob")
        with pytest.raises(access):
            store.append(sid, event(1), expected_version=at if expected > 0 else expected)
        assert [it.event_type for it in ledger.history(sid)][-1] == "access.revoked"


def test_a_version_that_is_expected_ahead_lets_nothing_through_once_the_grant_is_revoked(
    ledger: SessionLedger, sid: str
) -> None:
    ledger.grant_access(sid, "bob", "write")  # version 2
    store = UserView(Meanwhile(ledger.store, lambda: ledger.revoke_access(sid, "bob")), "bob")
    with pytest.raises(WrongExpectedVersion) as refused:  # the revocation is version 3
        store.append(sid, event(1), expected_version=3)
    assert refused.value.actual == 0  # as of a session that is nowhere
    assert ledger.get_session(sid).version == 3


def test_an_append_is_made_anew_where_somebody_else_appended_meanwhile(ledger: SessionLedger, sid: str) -> None:
    ledger.grant_access(sid, "bob", "write")
    store = UserView(Meanwhile(ledger.store, lambda: ledger.update_summary(sid, "meanwhile"), 3), "bob")
    assert store.append(sid, event(1)).version == 6
    ahead = UserView(Meanwhile(ledger.store, lambda: ledger.update_summary(sid, "meanwhile")), "bob")
    assert ahead.append(sid, event(2), expected_version=7).version == 8
    busy = UserView(Meanwhile(ledger.store, lambda: ledger.update_summary(sid, "meanwhile"), APPEND_ATTEMPTS), "bob")
    with pytest.raises(StoreUnavailable, match="too many concurrent writers"):
        busy.append(sid, event(3))


def test_an_id_that_somebody_else_begins_meanwhile_is_theirs(ledger: SessionLedger) -> None:
    store = UserView(Meanwhile(ledger.store, lambda: ledger.create_session("ada", session_id="chat")), "bob")
    with pytest.raises(SessionNotFound, match="Session chat cannot be created"):
        store.append("chat", event(1, user_id="bob"), expected_version=0)
    assert ledger.get_session("chat").user_id == "ada"


def test_threads_of_owner_and_guest_lose_no_event(ledger: SessionLedger, sid: str) -> None:
    ledger.grant_access(sid, "bob", "write")
    views = [ledger.for_user("ada"), ledger.for_user("bob")]
    ready = threading.Barrier(2)

    def write(view: SessionLedger) -> None:
        ready.wait(timeout=60)
        for number in range(20):
            view.add_message(sid, "user", f"{view.user_id} {number}")

    threads = [threading.Thread(target=write, args=(view,)) for view in views]
    for it in threads:
        it.start()
    for it in threads:
        it.join()
    actors = [it.actor for it in ledger.history(sid)]
    assert (len(actors), actors.count("bob")) == (42, 20)


# Lists


def test_a_list_is_of_ones_own_or_of_what_is_shared(
    ledger: SessionLedger, ada: SessionLedger, bob: SessionLedger
) -> None:
    mine = [ada.create_session(question=str(number)) for number in range(3)]
    theirs = bob.create_session(question="b")
    ada.grant_access(mine[0], "bob", "read")
    ada.grant_access(mine[1], "bob", "write")
    ada.grant_access(mine[2], "carol", "read")
    bob.grant_access(theirs, "ada", "read")

    def ids(page: Any) -> set[str]:
        return {it.session_id for it in page}

    assert ids(ada.list_sessions()) == ids(ada.list_sessions("ada")) == ids(ledger.list_sessions("ada")) == set(mine)
    assert ids(bob.list_sessions(shared=True)) == ids(ledger.list_sessions("bob", shared=True)) == set(mine[:2])
    assert ids(bob.list_sessions("ada")) == set(mine[:2])  # what she shares with him
    assert ids(ada.list_sessions("bob", shared=True)) == set(mine[:2])  # what she shares with him
    assert ids(ada.list_sessions("carol", shared=True)) == {mine[2]}
    assert ids(bob.list_sessions("carol", shared=True)) == set()
    assert ids(bob.list_sessions("nobody")) == ids(bob.list_sessions("carol")) == set()
    first = bob.list_sessions(shared=True, limit=1)
    assert ids(first) | ids(bob.list_sessions(shared=True, limit=1, after=first.next)) == set(mine[:2])
    with pytest.raises(InvalidInput, match="give their user_id"):
        ledger.list_sessions(shared=True)
    with pytest.raises(PermissionDenied):
        bob.store.sessions(SessionQuery(user_id="ada", granted_to="carol"))
    for bad in ({"user_id": ""}, {"user_id": 5}, {"granted_to": 5}, {"granted_to": ""}):
        with pytest.raises(InvalidInput):
            bob.store.sessions(SessionQuery(**bad))


USERS = ("ada", "bob", "eve")
GRANTS = st.dictionaries(st.sampled_from(USERS), st.sampled_from(["read", "write", None]))


@settings(max_examples=30, deadline=None)
@given(sessions=st.lists(st.tuples(st.sampled_from(USERS), GRANTS, GRANTS), max_size=6))
def test_what_a_view_lists_is_what_it_can_get(
    sessions: list[tuple[str, dict[str, str | None], dict[str, str | None]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("views") / "l.db"
    with SessionLedger.open(f"sqlite:///{path}?synchronous=NORMAL", ids=CountedIds(), clock=SetClock()) as ledger:
        rights: dict[str, dict[str, str]] = {}
        for owner, *rounds in sessions:
            sid = ledger.create_session(owner, "q")
            granted: dict[str, str | None] = {}
            for grants in filter(None, rounds):
                ledger.append(
                    sid, "access.changed", [Change("grant", to, right, right is None) for to, right in grants.items()]
                )
                granted |= grants
            rights[sid] = {to: right for to, right in granted.items() if right is not None} | {owner: "own"}
        for user in USERS:
            view = ledger.for_user(user)
            listed = {it.session_id for page in (view.list_sessions(), view.list_sessions(shared=True)) for it in page}
            seen = {sid for sid in rights if view.get_session(sid) is not None}
            assert listed == seen == {sid for sid, users in rights.items() if user in users}
            assert {it.session_id for it in view.list_sessions()} == {
                sid for sid, users in rights.items() if users.get(user) == "own"
            }
            changed = set()
            for sid in seen:
                with suppress(PermissionDenied):
                    changed.add(view.update_summary(sid, f"by {user}").session_id)
            assert changed == {sid for sid, users in rights.items() if users.get(user) in ("own", "write")}


def test_what_was_recorded_by_right_is_recorded_when_it_is_sent_again(
    ada: SessionLedger, bob: SessionLedger, sid: str
) -> None:
    ada.grant_access(sid, "bob", "write")
    sent = bob.complete_session(sid, event_id="k")
    ada.delete_session(sid)
    assert bob.complete_session(sid, event_id="k").event_id == sent.event_id
    ada.restore_session(sid)
    ada.grant_access(sid, "bob", "read")
    assert bob.complete_session(sid, event_id="k").replayed
    with pytest.raises(PermissionDenied):
        bob.complete_session(sid, event_id="another")

"""A user's view of a ledger: nobody else's sessions are in it, whatever is called, but those that are shared."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger import (
    ANY_VERSION,
    CapabilityMissing,
    Change,
    ConfigurationError,
    IdempotencyConflict,
    InvalidInput,
    LedgerError,
    NewEvent,
    PermissionDenied,
    SessionLedger,
    SessionNotFound,
    StoreRejected,
    StoreUnavailable,
    WrongExpectedVersion,
)
from ledger.stores.sqlite.store import SqliteStore
from ledger.stores.user_view import UserView
from ledger.testing import START, CountedIds, SetClock, event, event_id, recorded, uuid7
from ledger.testing.harness import ALL
from support.isolation import BEGINS, BY_NAME, Call, Caller, CannotCall, calls_of, kinds, methods_of, told

#: It stands in all that the foreign session holds, and nowhere else.
SECRET = "zanzibar"
ADA = f"ada-{SECRET}"
MADE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture
def ada(ledger: SessionLedger) -> SessionLedger:
    return ledger.for_user("ada")


@pytest.fixture
def bob(ledger: SessionLedger) -> SessionLedger:
    return ledger.for_user("bob")


@pytest.fixture
def sid(ada: SessionLedger) -> str:
    return ada.create_session(question="How many orders?")


def everything(ledger: SessionLedger, *, but: str = "") -> dict[str, Any]:
    """The histories of all sessions, but of one user's."""
    heads = [head for head, _ in ledger.store.sessions(ALL, limit=10_000)]
    return {head.session_id: list(ledger.store.events(head.session_id)) for head in heads if head.user_id != but}


# Every method


def secret_session(call: Callable[..., Any], ledger: Any, session_id: str) -> None:
    """A session of seven events that holds something of everything."""
    fields = {"title": SECRET, "tag": {SECRET: True}, "session_type": "chat"}
    call(ledger.create_session, ADA, SECRET, session_id=session_id, fields=fields)
    call(ledger.add_message, session_id, "user", SECRET, message_id="m1", event_id="job-1")
    plan = {"kpi": [SECRET], "tool_calls": [{"name": "count", "about": SECRET}]}
    call(ledger.update_constraints, session_id, plan)
    call(ledger.update_tool_call_status, session_id, "count", "running", {"rows": SECRET}, event_id=event_id(7))
    changes = [Change("context", SECRET, SECRET), Change("attribute", "topic", SECRET), Change("x_note", value=SECRET)]
    call(ledger.append, session_id, "plan.approved", [*changes, Change("result", "rows", SECRET)], actor=SECRET)
    call(ledger.append, session_id, "plan.approved", [Change("title", value="mine")], event_id=event_id(8))
    call(ledger.append, session_id, "access.changed", [Change("grant", f"carol-{SECRET}", "write")])


class Attack:
    """A ledger in which mallory has a session, and somebody else a secret one."""

    #: Two of each kind: one is somebody's, the other nobody's.
    PAIRS = (("chat-theirs", "chat-nobodys"), (uuid7(START, 900_001), uuid7(START, 900_002)))

    def __init__(self, kind: type[Any], path: Path, ids: tuple[str, str]) -> None:
        self.caller = Caller()
        self.url = f"sqlite:///{path}/l.db"
        self.theirs, self.nobodys = ids
        clock = SetClock()
        self.opened = self.caller.wait(kind.open(self.url, clock=clock, ids=CountedIds()))
        self.plain = SessionLedger.open(self.url, clock=clock, ids=CountedIds(5_000))
        # By the ledger that the view is of: what it remembers must not show either.
        secret_session(
            lambda method, *args, **named: self.caller.wait(method(*args, **named)), self.opened, self.theirs
        )
        self.own = self.plain.create_session("mallory", "mine")
        self.view = self.caller.wait(self.opened.for_user("mallory"))
        self.before = everything(self.plain, but="mallory")
        self.ids = {it.event_id for events in self.before.values() for it in events}

    def close(self) -> None:
        self.caller.wait(self.view.close())
        self.caller.wait(self.opened.close())
        self.plain.close()
        self.caller.close()

    def make(self, call: Call) -> list[str]:
        """What is wrong with what a call gives away or does."""
        outcomes = []
        for session_id in (self.theirs, self.nobodys):
            outcome = self.caller(lambda session_id=session_id: call.on(self.view, session_id, self.own))
            outcomes.append((outcome.kind, self.comparable(outcome.text.replace(session_id, "ID"))))
        wrong = []
        if SECRET in outcomes[0][1]:
            wrong.append(f"gave away what is in a session of somebody else: {outcomes[0][1]}")
        if BEGINS.get(call.method) == call.reaches and call.reaches is not None:
            if outcomes[0][0] == "gave":
                wrong.append("began a session whose id is somebody else's")
        elif call.reaches is not None and outcomes[0] != outcomes[1]:
            wrong.append(f"told a session of somebody else ({outcomes[0]}) from one that is nowhere ({outcomes[1]})")
        if everything(self.plain, but="mallory") != self.before:
            wrong.append("changed a session of somebody else")
        return [f"{call} {it}" for it in wrong]

    def comparable(self, text: str) -> str:
        """A text without the ids that were made for this very call, but with those of the foreign session."""
        return MADE.sub(lambda found: found[0] if found[0] in self.ids else "MADE", text)


ENVELOPES: list[dict[str, Any]] = [
    *({"expected_version": number} for number in (0, 1, 7, 99, -2, True)),
    *({"event_id": key} for key in ("job-1", event_id(7), event_id(8), "new", "")),
    {"actor": ADA, "expected_version": 7},
    {"expected_version": 7, "event_id": event_id(8)},
]
EVERY = [(kind, method) for kind in kinds() for method in methods_of(kind)]


@pytest.mark.parametrize("ids", Attack.PAIRS, ids=["own id", "made id"])
@pytest.mark.parametrize(("kind", "method"), EVERY, ids=[f"{kind.__name__}.{method}" for kind, method in EVERY])
def test_no_method_tells_a_session_of_somebody_else_from_one_that_is_nowhere(
    kind: type[Any], method: str, ids: tuple[str, str], tmp_path: Path
) -> None:
    with closing(Attack(kind, tmp_path, ids)) as attack:
        wrong = [it for call in calls_of(kind, method, ENVELOPES) for it in attack.make(call)]
    assert wrong == []


@pytest.mark.parametrize("kind", kinds())
def test_what_a_view_has_beside_its_methods_shows_nobody_else(kind: type[Any], tmp_path: Path) -> None:
    with closing(Attack(kind, tmp_path, Attack.PAIRS[0])) as attack:
        public = {name for name in (*vars(attack.view), *dir(kind)) if not name.startswith("_")}
        attributes = {name for name in public if not callable(getattr(kind, name, None))}
        assert attributes == {"store", "url", "user_id", "warehouse"}, "say here what a user sees of a new attribute"
        assert attack.view.user_id == "mallory"
        assert attack.opened.user_id is None
        with pytest.raises(PermissionDenied, match="this is the view of user"):
            _ = attack.view.warehouse
        if kind is SessionLedger:
            assert isinstance(attack.view.store, UserView)


def test_a_view_remembers_nothing_together_with_its_ledger(ledger: SessionLedger, ada: SessionLedger) -> None:
    memory = {name: it for name, it in vars(ledger).items() if isinstance(it, dict | list | set)}
    assert memory
    assert [name for name, it in memory.items() if vars(ada)[name] is it] == []


def test_a_method_that_gives_something_away_is_found(tmp_path: Path) -> None:
    class Careless(SessionLedger):
        def title_of(self, session_id: str) -> str | None:
            found = SqliteStore.state(self.store._store._local, session_id)
            return None if found is None else told(found[1])

        def exists(self, session_id: str) -> bool:
            return self.store._store.state(session_id) is not None

        def rename(self, session_id: str) -> None:
            self.store._store.append(session_id, event(1, user_id=ADA))

    with closing(Attack(Careless, tmp_path, Attack.PAIRS[0])) as attack:
        said = {name: attack.make(calls_of(Careless, name, [])[0]) for name in ("title_of", "exists", "rename")}
    assert "gave away what is in a session" in said["title_of"][0]
    assert [it.split(" told ")[1] for it in said["exists"]] == [
        "a session of somebody else (('gave', 'True')) from one that is nowhere (('gave', 'False'))"
    ]
    assert "changed a session of somebody else" in said["rename"][-1]


def test_a_method_that_cannot_be_called_says_what_to_do() -> None:
    class New(SessionLedger):
        def paint(self, session_id: str, colour: Colour) -> None: ...  # noqa: F821

    with pytest.raises(CannotCall, match=r"paint\(colour: Colour\).*Put a value for 'colour' into BY_NAME"):
        calls_of(New, "paint", [])


def test_every_argument_by_name_is_one_that_some_method_has() -> None:
    taken = {
        name
        for kind, method in EVERY
        for call in calls_of(kind, method, [])
        for name in (*dict(call.arguments), call.reaches)
    }
    assert set(BY_NAME) - taken - {"at_version"} == set()


# The store


def test_an_unknown_session_is_to_a_view_what_it_is_to_the_ledger(ledger: SessionLedger, ada: SessionLedger) -> None:
    for expected in (ANY_VERSION, 0, 3):
        said = []
        for store in (ledger.store, ada.store):
            with pytest.raises(LedgerError) as refused:
                store.append("nope", event(1), expected_version=expected)
            said.append((type(refused.value), str(refused.value), vars(refused.value)))
        assert said[0] == said[1]


def test_an_append_to_a_foreign_session_is_refused_as_one_to_no_session(
    ledger: SessionLedger, bob: SessionLedger, sid: str
) -> None:
    ledger.update_summary(sid, "x", event_id=event_id(5))
    odd = [
        event(1),
        event(5, Change("summary", value="x"), event_type="summary.updated"),
        event(5, Change("summary", value="another")),
        event(1, require_open=True),
        NewEvent("no type", [Change("title", value="x")], event_id(1)),
        NewEvent("a.b", [], event_id(1)),
        event(1, Change("strategy", value="x" * 9_000_000)),
    ]
    for number, made in enumerate(odd):
        for expected in (ANY_VERSION, 0, 1, 2, 3, 77, -2, True, "1"):
            said = []
            for session_id in (sid, sid[:-4] + "ffff"):
                with pytest.raises(LedgerError) as refused:
                    bob.store.append(session_id, made, expected_version=expected)
                text = f"{refused.value} {vars(refused.value)}".replace(session_id, "ID")
                said.append((type(refused.value), text, refused.value.__cause__, refused.value.__context__))
            assert said[0] == said[1], f"{number} {expected}"
    assert ledger.get_session(sid).version == 2


def test_an_id_that_is_taken_cannot_be_begun_and_nothing_else_is_said(
    ledger: SessionLedger, ada: SessionLedger, bob: SessionLedger
) -> None:
    ada.create_session(question="secret", session_id="chat-1")
    ada.update_summary("chat-1", "secret")
    first = ledger.history("chat-1")[0]
    same = NewEvent(first.event_type, [Change(it.field, it.key, it.value) for it in first.changes], first.event_id)
    creates_stream = [
        lambda: bob.create_session(session_id="chat-1"),
        lambda: bob.create_session(session_id="chat-1", expected_version=2),
        lambda: bob.create_session(session_id="chat-1", expected_version=ANY_VERSION),
        lambda: bob.create_session(session_id="chat-1", expected_version=7, event_id=first.event_id),
        *(
            lambda at=at: bob.store.append(
                "chat-1",
                NewEvent(same.event_type, same.changes, same.event_id, user_id="bob"),
                expected_version=at,
            )
            for at in (ANY_VERSION, 0, 2)
        ),
    ]
    said = set()
    for begin in creates_stream:
        with pytest.raises(SessionNotFound) as refused:
            begin()
        said.add((str(refused.value), str(vars(refused.value)), refused.value.__context__))
    ((text, attributes, context),) = said
    assert re.fullmatch(r"Session chat-1 cannot be created; nothing was written\. Choose another id, .*", text)
    assert (attributes, context) == ("{'session_id': 'chat-1'}", None)
    assert [it.version for it in ledger.history("chat-1")] == [1, 2]


def test_a_session_of_ones_own_begins_once_and_can_be_sent_again(ada: SessionLedger) -> None:
    first = ada.create_session(question="q", event_id="job-1")
    assert ada.create_session(question="q", event_id="job-1") == first
    with pytest.raises(IdempotencyConflict):
        ada.create_session(question="another", event_id="job-1")
    ada.create_session("ada", session_id="chat-1")
    with pytest.raises(WrongExpectedVersion):
        ada.create_session(session_id="chat-1")


def test_nobody_begins_a_session_of_somebody_else(ada: SessionLedger, ledger: SessionLedger) -> None:
    for session_id in (None, "chat-1"):
        with pytest.raises(PermissionDenied, match="cannot create sessions for other users"):
            ada.create_session("bob", session_id=session_id)
    assert len(ledger.list_sessions()) == 0
    with pytest.raises(InvalidInput, match="user_id"):
        ledger.create_session()


def test_a_view_of_nobody_or_from_a_view_of_somebody_else_is_refused(ledger: SessionLedger, ada: SessionLedger) -> None:
    for user_id in ("", " x", None, 5):
        with pytest.raises(InvalidInput, match="user_id"):
            ledger.for_user(user_id)
    with pytest.raises(PermissionDenied):
        ada.for_user("bob")
    assert ada.for_user("ada").user_id == "ada"


def test_a_closed_view_leaves_the_ledger_open(ledger: SessionLedger, sid: str) -> None:
    with ledger.for_user("ada") as view:
        assert view.get_session(sid) is not None
    with pytest.raises(StoreRejected, match="closed"):
        view.get_session(sid)
    assert ledger.get_session(sid) is not None
    other = ledger.for_user("ada")
    ledger.close()
    with pytest.raises(StoreRejected, match="closed"):
        other.get_session(sid)


def test_a_view_ships_nothing_and_closing_it_leaves_the_warehouse_attached(tmp_path: Path) -> None:
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db", warehouse=f"duckdb:///{tmp_path}/w.duckdb") as shipping:
        with shipping.for_user("ada") as view:
            view.create_session(question="q")
            with pytest.raises(PermissionDenied, match="this is the view of user"):
                _ = view.warehouse
            assert view.get_session("nope") is None
        assert shipping.warehouse.sync() > 0
    with SessionLedger.open(f"sqlite:///{tmp_path}/other.db") as plain, pytest.raises(ConfigurationError):
        _ = plain.warehouse


def test_what_shows_everybodys_rows_is_denied(ada: SessionLedger, sid: str, tmp_path: Path) -> None:
    store = ada.store
    for use in (
        lambda: store.backup(tmp_path / "copy"),
        lambda: store.outbox("duckdb:///x"),
        lambda: store.path,
    ):
        with pytest.raises(PermissionDenied, match="this is the view of user"):
            use()
    assert not (tmp_path / "copy").exists()
    assert not hasattr(store, "no_such_thing")


def test_events_are_brought_in_only_into_ones_own_sessions(ledger: SessionLedger, tmp_path: Path) -> None:
    mallory = ledger.for_user("mallory").store
    begun = [recorded(1, 1, [Change("title", value="a")], session_id="theirs")]
    ledger.store.ingest(begun)
    with pytest.raises(PermissionDenied, match="their own"):
        mallory.ingest(begun)
    before = everything(ledger)
    for forged in (
        [recorded(1, 1, [Change("title", value="a")], session_id="theirs", user_id="mallory")],
        [recorded(2, 2, [Change("title", value="b")], session_id="theirs", user_id="mallory")],
        [recorded(1, 3, [Change("title", value="b")], session_id="theirs", user_id="mallory")],
        [
            recorded(1, 1, [Change("title", value="b")], session_id="mine", user_id="mallory"),
            recorded(1, 1, [Change("title", value="b")], session_id="theirs", user_id="mallory"),
        ],
    ):
        with pytest.raises(SessionNotFound, match="Session theirs cannot be created") as refused:
            mallory.ingest(forged)
        assert refused.value.__context__ is None
        assert everything(ledger) == before
    mine = [recorded(1, 1, [Change("title", value="b")], session_id="mine", user_id="mallory")]
    assert (mallory.ingest(mine), mallory.ingest(mine), mallory.ingest([])) == (1, 0, 0)


def test_an_id_of_somebody_else_fails_as_one_that_is_nowhere_where_the_warehouse_is_away(tmp_path: Path) -> None:
    from ledger.tiers.store import TwoTierStore

    def away() -> Any:
        raise StoreUnavailable("The warehouse is out of reach.")

    with closing(TwoTierStore(SqliteStore(tmp_path / "l.db"), away)) as store:
        store.append("theirs", event(1, user_id="ada"))
        view = UserView(store, "mallory")
        for session_id in ("theirs", "nobodys"):
            for ask in (
                lambda it: view.state(it),
                lambda it: view.events(it),
                lambda it: view.append(it, event(2)),
            ):
                with pytest.raises(StoreUnavailable):
                    ask(session_id)
        assert UserView(store, "ada").append("theirs", event(2)).version == 2


def test_a_view_has_no_attribute_with_an_underscore_even_if_the_store_has_it(ledger):
    assert hasattr(ledger.store, "_read")
    with pytest.raises(AttributeError, match="has no attribute '_read'"):
        _ = ledger.for_user("ada").store._read


def test_a_view_of_a_store_that_archives_nothing_says_so(ledger):
    class Remote:
        capabilities = replace(ledger.store.capabilities, archive=False, tiered=False)

    with pytest.raises(CapabilityMissing, match="archive"):
        UserView(Remote(), "ada").check_shippable("s")
    for name, arguments in (("rehydrate", ["s"]), ("drop_archived", [["s"]]), ("purge_warehouse", [])):
        with pytest.raises(CapabilityMissing, match="tiered"):
            getattr(UserView(Remote(), "ada"), name)(*arguments)

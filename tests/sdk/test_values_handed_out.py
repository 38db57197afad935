"""What the ledger hands out can be pickled, copied, shown and turned into JSON, from every way of getting it."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

from ledger import (
    AsyncSessionLedger,
    ConfigurationError,
    InvalidInput,
    LedgerError,
    Session,
    SessionEnded,
    SessionLedger,
    SessionNotFound,
    ValueTooLarge,
    WrongExpectedVersion,
    errors,
)
from ledger.sdk.aio import asynchronous
from support.shell import Shell


@pytest.fixture
def ledger(tmp_path, clock):
    with SessionLedger(f"sqlite:///{tmp_path / 'ledger.db'}", clock=clock) as opened:
        yield opened


@pytest.fixture
def sid(ledger: SessionLedger) -> str:
    fields = {"context": {"region": "north"}, "tag": {"hot": True}, "attribute": {"n": 1}}
    sid = ledger.create_session("ada", "How many <b>orders</b>?", fields=fields)
    ledger.update_constraints(sid, {"tool_calls": [{"name": "search"}]})
    ledger.update_tool_call_status(sid, "search", "completed", result={"rows": 3})
    ledger.add_message(sid, "user", "<script>alert(1)</script>")
    return sid


WAYS: dict[str, Callable[[SessionLedger, str], Any]] = {
    "the latest": lambda ledger, sid: ledger.get_session(sid),
    "with messages": lambda ledger, sid: ledger.get_session(sid, messages=True),
    "at a version": lambda ledger, sid: ledger.get_session(sid, version=2),
    "at a time": lambda ledger, sid: ledger.get_session(sid, at=ledger.get_session(sid).updated_at),
    "listed": lambda ledger, sid: ledger.list_sessions("ada")[0],
    "a view's": lambda ledger, sid: ledger.for_user("ada").get_session(sid),
    "replayed": lambda ledger, sid: list(ledger.replay(sid))[-1][1],
    "once for a key": lambda ledger, sid: ledger.get_or_create_session("ada", "chat"),
    "a page": lambda ledger, sid: ledger.list_sessions("ada"),
    "messages": lambda ledger, sid: ledger.get_messages(sid),
    "a history": lambda ledger, sid: ledger.history(sid),
    "differences": lambda ledger, sid: ledger.diff(sid, 0),
    "calls": lambda ledger, sid: ledger.get_session(sid).calls,
}
COPIES = [copy.copy, copy.deepcopy, *(lambda it, p=p: pickle.loads(pickle.dumps(it, p)) for p in range(2, 6))]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("copied", COPIES)
def test_what_is_read_is_equal_after_pickling_and_copying(ledger: SessionLedger, sid: str, way: str, copied) -> None:
    found = WAYS[way](ledger, sid)
    made = copied(found)
    assert made == found
    assert type(made) is type(found)
    if isinstance(found, Session):
        assert made.to_dict() == found.to_dict()
        assert made.head == found.head


def failures(ledger: SessionLedger, sid: str) -> list[LedgerError]:
    ledger.expire_session(sid)
    calls: list[Callable[[], Any]] = [
        lambda: ledger.add_message("nobody", "user", "hi"),
        lambda: ledger.add_message(sid, "user", "hi"),
        lambda: ledger.create_session("ada", session_id=sid),
        lambda: ledger.create_session("ada", fields={"context": {"x": "y" * 9_000_000}}),
        lambda: ledger.create_session("ada", "q", fields={"no such field": 1}),
        lambda: ledger.warehouse,
    ]
    raised = []
    for call in calls:
        with pytest.raises(LedgerError) as caught:
            call()
        raised.append(caught.value)
    kinds = (SessionNotFound, SessionEnded, WrongExpectedVersion, ValueTooLarge, InvalidInput, ConfigurationError)
    assert [type(it) for it in raised] == list(kinds)
    return raised


@pytest.mark.parametrize("copied", COPIES)
def test_errors_are_the_same_after_pickling_and_copying(ledger: SessionLedger, sid: str, copied) -> None:
    made_up = [getattr(errors, name)("why") for name in errors.__all__]
    for error in [*made_up, *failures(ledger, sid)]:
        made = copied(error)
        assert (type(made), str(made), vars(made)) == (type(error), str(error), vars(error))


def test_errors_are_also_what_python_has_for_their_kind() -> None:
    assert issubclass(InvalidInput, ValueError)
    assert issubclass(SessionNotFound, LookupError)


@pytest.mark.parametrize("messages", [False, True])
def test_to_dict_and_to_json_give_what_show_gives(ledger: SessionLedger, sid: str, messages: bool, tmp_path) -> None:
    session = ledger.get_session(sid, messages=messages)
    shell = Shell(tmp_path / "ledger.db")
    shown = json.loads(shell.ok("show", sid, "--json", *(["--messages"] if messages else [])))
    assert json.loads(json.dumps(session.to_dict())) == json.loads(session.to_json()) == shown
    assert ("messages" in shown) == messages
    session.to_dict()["context"]["region"] = "changed"
    assert session.context == {"region": "north"}
    if messages:
        assert [it.to_dict() for it in ledger.get_messages(sid)] == shown["messages"]
    told = json.loads(shell.ok("history", sid, "--json"))["events"]
    assert [it.to_dict() for it in ledger.history(sid)] == told
    differences = json.loads(shell.ok("diff", sid, "1", "--json"))["differences"]
    assert [it.to_dict() for it in ledger.diff(sid, 1)] == differences


def test_what_a_notebook_shows_is_never_markup(ledger: SessionLedger, sid: str) -> None:
    shown = [
        ledger.get_session(sid, messages=True)._repr_html_(),
        ledger.list_sessions()._repr_html_(),
        ledger.get_messages(sid)._repr_html_(),
        ledger.history(sid)._repr_html_(),
    ]
    for html in shown:
        assert html.startswith("<table>")
        assert "<script>" not in html
        assert "<b>" not in html
    assert "&lt;b&gt;orders" in shown[0]
    assert "alert(1)" in shown[2]


def test_reprs_are_short_and_name_what_one_asks_for(ledger: SessionLedger, sid: str) -> None:
    assert repr(ledger) == f"<SessionLedger {ledger.url!r}>"
    assert repr(ledger.for_user("ada")) == f"<view of 'ada' of <SessionLedger {ledger.url!r}>>"
    event = repr(ledger.history(sid)[2])
    assert "tool_call.updated" in event
    assert '<tool_call_status[search] = "completed">' in event
    assert "hash" not in event
    assert len(repr(ledger.history(sid))) < 1500


def test_the_repr_of_an_asynchronous_ledger_has_its_url_and_user_once_it_is_open(tmp_path) -> None:
    url = f"sqlite:///{tmp_path / 'l.db'}"

    async def opened() -> list[str]:
        async with AsyncSessionLedger(url) as ledger:
            return [repr(ledger), repr(ledger.for_user("ada"))]

    own = f"<AsyncSessionLedger {url!r}>"
    assert asyncio.run(opened()) == [own, f"<view of 'ada' of {own}>"]
    assert repr(AsyncSessionLedger(url)) == f"<AsyncSessionLedger {url!r}, not open yet>"
    assert repr(AsyncSessionLedger(url).for_user("ada")) == "<AsyncSessionLedger, not open yet>"
    assert repr(AsyncSessionLedger()) == "<AsyncSessionLedger, not open yet>"


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_ledger_that_is_pickled_or_copied_says_how_another_process_opens_it(ledger, copied) -> None:
    says = "cannot be pickled or copied: .* in another process, open it again with its URL, and make views"
    other = asynchronous(ledger)
    for each in (ledger, ledger.for_user("ada"), other, other.for_user("ada"), other.store):
        with pytest.raises(TypeError, match=f"^{re.escape(repr(each))} {says}"):
            copied(each)


def test_a_column_that_is_an_attribute_says_so(ledger: SessionLedger, sid: str) -> None:
    session = ledger.get_session(sid)
    for name in ("tags", "attributes", "messages", "calls"):
        with pytest.raises(KeyError, match=f"session.{name}"):
            session[name]
    for name in ("nothing", "_value", "to_dict", 7):
        with pytest.raises(KeyError) as caught:
            session[name]
        assert "attribute" not in str(caught.value)


@pytest.mark.parametrize("kind", [SessionLedger, AsyncSessionLedger])
def test_help_shows_signatures_without_addresses(kind: type) -> None:
    import pydoc

    text = pydoc.render_doc(kind)
    assert "<object object" not in text
    assert "ttl: 'timedelta | None' = UNSET" in text

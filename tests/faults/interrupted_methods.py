"""Every public method of a ledger and of its warehouse, interrupted at any place; then the ledger must be as new.

``METHODS`` has an example call of each. A ``Stage`` makes the call on a ledger, raises an exception at one place,
and checks what users rely on, with a second ledger over the same file: reads are current, writes work, an event is
there once or not at all, nobody waits for good, a fork is quick.
"""

from __future__ import annotations

import faulthandler
import os
import random
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from faults.interruption import Interrupter, Interruption, TimeLimit, codes_below
from ledger import Change, LedgerError, ModelPrice, SessionEnded, SessionLedger, Verification
from ledger.clock import new_id, utc_now

#: Seconds after which a call that has not returned counts as one that waits for good.
PATIENCE = 30.0
#: Seconds that a fork may take.
FORK_SECONDS = 2.0
ERRORS: dict[str, type[BaseException]] = {"interrupt": Interruption, "limit": TimeLimit}


class Chat(BaseModel):
    """A profile of a type of session."""

    topic: str = ""


@dataclass
class Call:
    """What a call is made with: the ledger, a session of its own, and an envelope with an ``event_id``."""

    ledger: SessionLedger
    other: SessionLedger
    session: str
    event_id: str
    folder: Path

    @property
    def seal(self) -> Path:
        """A file of the call's own; one that exists is never written over."""
        return self.folder / f"seal-{self.event_id}.json"

    @property
    def envelope(self) -> dict[str, Any]:
        return {"event_id": self.event_id}

    def count(self) -> int:
        """How often the event is recorded."""
        return sum(event.event_id == self.event_id for event in self.other.history(self.session, limit=1000))


@dataclass(frozen=True)
class Method:
    """An example call of a method.

    Attributes:
        act: Makes the call.
        prepare: Brings the session into the state that the call is about.
        records: True if the call appends the event ``event_id`` to the session.
        check: A further check, made after the call was made again without interruption.
    """

    act: Callable[[Call], Any]
    prepare: Callable[[Call], Any] = lambda call: None
    records: bool = True
    check: Callable[[Call], Any] = lambda call: None


def _reads(
    act: Callable[[Call], Any],
    prepare: Callable[[Call], Any] = lambda call: None,
    check: Callable[[Call], Any] = lambda call: None,
) -> Method:
    return Method(act, prepare, records=False, check=check)


def _ends(call: Call, within: timedelta) -> None:
    call.other.update_session(call.session, {"expires_at": utc_now() + within})


def _ended(call: Call) -> None:
    _ends(call, _ZERO)


def _archived(call: Call) -> None:
    call.other.archive_session(call.session)
    call.other.warehouse.sync()


def _dropped(call: Call) -> None:
    _archived(call)
    call.other.drop_archived()


def _whole_copy(call: Call) -> None:
    """Check that the session has one child, which is whole."""
    (child,) = [
        change.key
        for event in call.other.history(call.session)
        for change in event.changes
        if event.event_type in ("session.forked", "template.used") and change.field == "child"
    ]
    copy = call.other.get_session(child, messages=True)
    assert copy is not None, "the copy is not there"
    assert copy.status == "active", copy.status
    assert copy.response_plan == {"insights": [1]}, "the copy is not whole"


def _sealed(call: Call) -> None:
    """Check that the file and the last seal of the ledger are the same seal, which holds."""
    verified = call.other.verify(against=call.seal)
    assert verified.clean, verified.findings
    assert verified.against.seal == call.other.seals()[-1]


def _priced(call: Call) -> None:
    """Check that all of the prices were imported, by the call or by the same call again."""
    call.other.import_model_prices(_PRICES)
    assert call.other.model_prices() == _PRICES


def _is_clean(verified: Verification) -> None:
    assert verified.clean, verified.findings


def _refused_rows(call: Call) -> Any:
    return call.ledger.warehouse.refused()


_ZERO, _SOON = timedelta(0), timedelta(minutes=30)
_PRICES = [ModelPrice(model, date(2026, 1, 1), 1, 2) for model in ("m", "n")]
METHODS: dict[str, Method] = {
    "add_message": Method(lambda c: c.ledger.add_message(c.session, "user", "hello", **c.envelope)),
    "record_model_call": Method(lambda c: c.ledger.record_model_call(c.session, "m", input_tokens=1, **c.envelope)),
    "add_query": Method(lambda c: c.ledger.add_query(c.session, "price", **c.envelope)),
    "add_score": Method(lambda c: c.ledger.add_score(c.session, "helpfulness", 1, score_id="s", **c.envelope)),
    "add_tags": Method(lambda c: c.ledger.add_tags(c.session, "weekly", **c.envelope)),
    "append": Method(lambda c: c.ledger.append(c.session, "plan.approved", [Change("x_a", "", 1)], **c.envelope)),
    "archive_session": Method(lambda c: c.ledger.archive_session(c.session, **c.envelope)),
    "compare": _reads(lambda c: c.ledger.compare(c.session, c.session, version=1)),
    "complete_session": Method(lambda c: c.ledger.complete_session(c.session, **c.envelope)),
    "count_sessions": _reads(lambda c: c.ledger.count_sessions("status", user_id="ada")),
    "create_from_template": Method(
        lambda c: c.ledger.create_from_template(c.session, "ada", "Again?", **c.envelope), check=_whole_copy
    ),
    "create_session": Method(
        lambda c: c.ledger.create_session("ada", "What?", session_id=f"n{c.event_id}", **c.envelope), records=False
    ),
    "delete_old_sessions": _reads(
        lambda c: c.ledger.delete_old_sessions(_ZERO, ("deleted",)), lambda c: c.other.delete_session(c.session)
    ),
    "purge_sessions": _reads(
        lambda c: c.ledger.purge_sessions([it.session_id for it in c.ledger.iter_sessions(status="deleted")]),
        lambda c: c.other.delete_session(c.session),
    ),
    "delete_session": Method(lambda c: c.ledger.delete_session(c.session, **c.envelope)),
    "diff": _reads(lambda c: c.ledger.diff(c.session, 1)),
    "drop_archived": _reads(lambda c: c.ledger.drop_archived(), _archived),
    "estimate_sql": _reads(lambda c: c.ledger.estimate_sql("SELECT COUNT(*) AS n FROM sessions")),
    "expire_old_sessions": _reads(lambda c: c.ledger.expire_old_sessions(), _ended),
    "expire_session": Method(lambda c: c.ledger.expire_session(c.session, **c.envelope)),
    "extend_session": Method(
        lambda c: c.ledger.extend_session(c.session, timedelta(hours=1), **c.envelope), lambda c: _ends(c, _SOON)
    ),
    "fail_session": Method(lambda c: c.ledger.fail_session(c.session, "it broke", **c.envelope)),
    "for_user": _reads(lambda c: c.ledger.for_user("ada").get_session(c.session)),
    "fork_session": Method(lambda c: c.ledger.fork_session(c.session, **c.envelope), check=_whole_copy),
    "get_grants": _reads(lambda c: c.ledger.get_grants(c.session)),
    "get_messages": _reads(lambda c: c.ledger.get_messages(c.session, last=3)),
    "get_or_create_session": _reads(lambda c: c.ledger.get_or_create_session("ada", f"k{c.event_id}")),
    "get_tool_calls": _reads(lambda c: c.ledger.get_tool_calls(c.session)),
    "get_session": _reads(lambda c: c.ledger.get_session(c.session, messages=True)),
    "grant_access": Method(lambda c: c.ledger.grant_access(c.session, "bob", "read", **c.envelope)),
    "history": _reads(lambda c: list(c.ledger.history(c.session))),
    "hydrate_session": Method(
        lambda c: c.ledger.hydrate_session(c.session, **c.envelope), lambda c: c.other.archive_session(c.session)
    ),
    "import_model_prices": _reads(lambda c: c.ledger.import_model_prices(_PRICES), check=_priced),
    "is_session_complete": _reads(lambda c: c.ledger.is_session_complete(c.session)),
    "iter_sessions": _reads(lambda c: list(islice(c.ledger.iter_sessions("ada"), 3))),
    "list_sessions": _reads(lambda c: c.ledger.list_sessions("ada", limit=3)),
    "maintain": _reads(lambda c: c.ledger.maintain(retention=_ZERO), _ended),
    "model_prices": _reads(lambda c: c.ledger.model_prices()),
    "register_profile": _reads(lambda c: c.ledger.register_profile("chat", Chat)),
    "remove_message": Method(lambda c: c.ledger.remove_message(c.session, "m1", **c.envelope)),
    "remove_tags": Method(lambda c: c.ledger.remove_tags(c.session, "daily", **c.envelope)),
    "replay": _reads(lambda c: list(c.ledger.replay(c.session, messages=True))),
    "require_session": _reads(lambda c: c.ledger.require_session(c.session, version=1)),
    "restore_session": Method(
        lambda c: c.ledger.restore_session(c.session, **c.envelope), lambda c: c.other.delete_session(c.session)
    ),
    "revoke_access": Method(lambda c: c.ledger.revoke_access(c.session, "eve", **c.envelope)),
    "rewind": Method(lambda c: c.ledger.rewind(c.session, 1, **c.envelope)),
    "schema": _reads(lambda c: c.ledger.schema("sessions")),
    "seal": _reads(lambda c: c.ledger.seal(output=c.seal), check=_sealed),
    "seals": _reads(lambda c: c.ledger.seals(), lambda c: c.other.seal()),
    "search": _reads(lambda c: c.ledger.search("zanzibar", limit=3)),
    "set_attributes": Method(lambda c: c.ledger.set_attributes(c.session, {"topic": "orders"}, **c.envelope)),
    "set_results": Method(lambda c: c.ledger.set_results(c.session, {"rows": 1}, **c.envelope)),
    "sql": _reads(lambda c: c.ledger.sql("SELECT COUNT(*) AS n FROM sessions")),
    "subscribe": _reads(lambda c: list(c.ledger.subscribe(last=2, timeout=0))),
    "update_constraints": Method(lambda c: c.ledger.update_constraints(c.session, {"kpi": ["orders"]}, **c.envelope)),
    "update_context": Method(lambda c: c.ledger.update_context(c.session, {"step": 1}, **c.envelope)),
    "update_response_plan": Method(lambda c: c.ledger.update_response_plan(c.session, {"a": []}, **c.envelope)),
    "update_session": Method(lambda c: c.ledger.update_session(c.session, {"title": "mine"}, **c.envelope)),
    "update_strategy": Method(lambda c: c.ledger.update_strategy(c.session, "mine", **c.envelope)),
    "update_summary": Method(lambda c: c.ledger.update_summary(c.session, "mine", **c.envelope)),
    "update_tool_call_status": Method(
        lambda c: c.ledger.update_tool_call_status(c.session, "count", "completed", 3, **c.envelope)
    ),
    "verify": _reads(lambda c: _is_clean(c.ledger.verify(c.session, rebuild=True))),
    # Of the warehouse, and of what a ledger does with one.
    "warehouse.close": _reads(lambda c: _closes(c, lambda ledger: ledger.warehouse.close(0.0))),
    "warehouse.dismiss": _reads(lambda c: c.ledger.warehouse.dismiss("an event that was not refused")),
    "warehouse.opened": _reads(lambda c: c.ledger.warehouse.opened.query("SELECT 1 AS n")),
    "warehouse.outbox": _reads(lambda c: c.ledger.warehouse.outbox.checkpoint()),
    "warehouse.query": _reads(lambda c: c.ledger.warehouse.query("SELECT COUNT(*) AS n FROM sessions")),
    "warehouse.refused": _reads(_refused_rows),
    "warehouse.relay": _reads(lambda c: c.ledger.warehouse.relay().close()),
    "warehouse.retry": _reads(lambda c: c.ledger.warehouse.retry()),
    "warehouse.start": _reads(lambda c: c.ledger.warehouse.start()),
    "warehouse.status": _reads(lambda c: c.ledger.warehouse.status()),
    "warehouse.sync": _reads(lambda c: c.ledger.warehouse.sync()),
    "append to a dropped session": Method(
        lambda c: c.ledger.add_message(c.session, "user", "hello", **c.envelope), _dropped
    ),
    "fork a dropped session": Method(
        lambda c: c.ledger.fork_session(c.session, **c.envelope), _dropped, check=_whole_copy
    ),
    "hydrate a dropped session": Method(lambda c: c.ledger.hydrate_session(c.session, **c.envelope), _dropped),
    "read a dropped session": _reads(lambda c: c.ledger.get_session(c.session, messages=True), _dropped),
    "maintain with a warehouse": _reads(
        lambda c: c.ledger.maintain(retention=_ZERO),
        lambda c: (c.other.delete_session(c.session), c.other.warehouse.sync()),
    ),
    # Of ledgers that open and close within the call.
    "open": _reads(lambda c: _closes(c, lambda ledger: None)),
    "close": _reads(lambda c: _closes(c, lambda ledger: (ledger.get_session(c.session), ledger.close()))),
    "close with a relay": _reads(lambda c: _closes(c, lambda ledger: ledger.close(), relay="background")),
}
#: Methods whose calls need a warehouse that has answered before.
NOT_METHODS = {"user_id", "warehouse", "store", "url"}


def _closes(call: Call, act: Callable[[SessionLedger], Any], relay: str = "off") -> None:
    """Open a ledger of its own, act on it and close it, which an interruption may have to be followed by."""
    ledger = SessionLedger.open(call.ledger.url, warehouse=call.ledger.warehouse.url, relay=relay)
    try:
        act(ledger)
    finally:
        try:
            ledger.close()
        except (Interruption, TimeLimit):
            ledger.close()
            raise


class Wrong(AssertionError):
    """What a check found after an interruption."""


class Stage:
    """A ledger that calls are interrupted on, and another over the same file.

    Args:
        folder: Where the files are made.
        forks: A trial of this many is followed by a fork, and by closing the ledger.
    """

    def __init__(self, folder: Path, forks: int = 5) -> None:
        self.url = f"sqlite:///{folder / 'ledger.db'}?synchronous=NORMAL"
        self.warehouse = folder / "warehouse.duckdb"
        self._forks = forks
        self._trials = 0
        self.other = self._open()
        self.ledger = self._open()
        self.witness = self.other.create_session("witness", "What stands?")
        self.other.warehouse.sync()
        self.other.warehouse.query("SELECT 1 AS n")

    def _open(self) -> SessionLedger:
        return SessionLedger.open(
            self.url, warehouse=f"duckdb:///{self.warehouse}", relay="off", default_ttl_hours=None
        )

    def close(self) -> None:
        """Close both ledgers."""
        self.ledger.close()
        self.other.close()

    def call_of(self, method: Method) -> Call:
        """A call of a method, with a new session."""
        other = self.other
        session = other.create_session(
            "ada", "How many?", fields={"response_plan": {"insights": [1]}, "tag": {"daily": True}}
        )
        other.add_message(session, "user", "zanzibar", message_id="m1")
        other.update_tool_call_status(session, "count", "pending")
        other.grant_access(session, "eve", "read")
        call = Call(self.ledger, other, session, new_id(utc_now()), self.warehouse.parent)
        method.prepare(call)
        return call

    def places_of(self, method: Method, interrupter: Interrupter) -> int:
        """The number of places that a call passes."""
        for _ in range(2):  # the first loads modules
            call = self.call_of(method)
            interrupter.point = sys.maxsize
            interrupter.run(lambda call=call: method.act(call))
        return interrupter.passed

    def trial(
        self, method: Method, interrupter: Interrupter, told: Callable[[str], object] = lambda place: None
    ) -> bool:
        """Interrupt a call at a place, and check what is left; returns whether the place was reached.

        Args:
            method: What to call.
            interrupter: Interrupts the call.
            told: Called with the place before the checks, which may wait for good.

        Raises:
            Wrong: Something is not as it was.
        """
        call = self.call_of(method)
        before = set(threading.enumerate())
        with patient():
            answered = False
            try:
                interrupter.run(lambda: method.act(call))
                answered = True
            except interrupter.error:
                pass
            except LedgerError as error:
                raised: BaseException | None = error
                while raised is not None and not isinstance(raised, interrupter.error):
                    raised = raised.__cause__ or raised.__context__
                if raised is None:
                    raise Wrong(f"the call failed: {type(error).__name__}: {error}") from error
            told(interrupter.place)
            self._trials += 1
            try:
                self._check(method, call, answered)
                self._check_at_rest(before)
                if self._trials % self._forks == 0:
                    self._check_fork()
                    self._check_reopening()
            except Wrong:
                raise
            except Exception as error:
                raise Wrong(f"{type(error).__name__}: {error}"[:400]) from error
        return interrupter.struck

    def finish(self) -> None:
        """Make the checks that are not made after each trial."""
        with patient():
            self._check_fork()
            self._check_reopening()

    def restart(self) -> None:
        """Close the ledgers as well as they let themselves be closed, and open others."""
        for ledger in (self.ledger, self.other):
            with suppress(Exception):
                ledger.close()
        self.ledger, self.other = self._open(), self._open()

    def _check(self, method: Method, call: Call, answered: bool) -> None:
        self._check_currency()
        if method.records:
            found = call.count()
            _expect(found == 1 if answered else found <= 1, f"the event is there {found} times")
        with suppress(SessionEnded):  # the first call may have ended the session, so that a repeated one is refused
            method.act(replace(call, ledger=self.ledger))
        if method.records:
            _expect(call.count() == 1, f"after it was sent again the event is there {call.count()} times")
        method.check(call)

    def _check_currency(self) -> None:
        """Check that reads by the ledger see what the other has just recorded, and that the ledger writes."""
        word = f"w{new_id(utc_now())}".replace("-", "")
        ledger, other, sid = self.ledger, self.other, self.witness
        version = other.update_session(sid, {"title": word}).version
        other.add_message(sid, "user", word, message_id=word)
        session = ledger.get_session(sid)
        _expect(session is not None and session.title == word, "get_session is stale")
        _expect([each.message_id for each in ledger.get_messages(sid, last=1)] == [word], "get_messages is stale")
        _expect(len(ledger.history(sid, after=version)) == 1, "history is stale")
        _expect([each.title for each in ledger.list_sessions("witness", limit=1)] == [word], "list_sessions is stale")
        _expect(len(ledger.search(word)) > 0, "search is stale")
        guest = ledger.for_user("guest")
        other.grant_access(sid, "guest", "read")
        _expect(guest.get_session(sid) is not None, "a guest is refused")
        other.revoke_access(sid, "guest")
        _expect(guest.get_session(sid) is None, "a revoked guest reads on")
        written = ledger.update_session(sid, {"summary": word}).version
        _expect(other.history(sid, after=written - 1)[0].version == written, "what the ledger writes is not there")

    def _check_at_rest(self, before: set[threading.Thread]) -> None:
        deadline = time.monotonic() + 5
        while left := {each for each in threading.enumerate() if each not in before and each.is_alive()}:
            if time.monotonic() > deadline:
                raise Wrong(f"threads are left: {', '.join(sorted(each.name for each in left))}")
            time.sleep(0.005)
        _expect(not self._holds_warehouse(), "the warehouse's file is still open")

    def _holds_warehouse(self) -> bool:
        folder = Path("/proc/self/fd")
        if not folder.is_dir():
            return False
        for each in folder.iterdir():
            with suppress(OSError):
                if each.readlink() == self.warehouse:
                    return True
        return False

    def _check_fork(self) -> None:
        """Check that a fork is quick, and that the child appends."""
        started, name = time.monotonic(), new_id(utc_now())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:
            try:
                self.ledger.add_message(self.witness, "user", "child", message_id=name)
            except BaseException as error:  # noqa: BLE001 - the parent is told
                os.write(2, f"child: {error!r}\n".encode())
                os._exit(1)
            os._exit(0)
        took = time.monotonic() - started
        _expect(took < FORK_SECONDS, f"a fork took {took:.1f} s")
        _expect(os.waitpid(child, 0)[1] == 0, "the child of a fork cannot append")
        _expect(
            self.ledger.get_messages(self.witness, last=1)[0].message_id == name, "what the child wrote is not there"
        )

    def _check_reopening(self) -> None:
        self.ledger.close()
        self.ledger = self._open()


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise Wrong(message)


@contextmanager
def patient() -> Iterator[None]:
    """End the process, with the stack of each thread, if the block waits for good."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def public_methods() -> set[str]:
    """The names of the methods that must be in the table."""
    from ledger.tiers.attached import AttachedWarehouse

    own = {name for name in dir(SessionLedger) if not name.startswith("_")}
    attached = {f"warehouse.{name}" for name in dir(AttachedWarehouse) if not name.startswith("_")}
    return (own | attached) - NOT_METHODS


def warm_up(stage: Stage, *methods: Method) -> Interrupter:
    """Make calls once, so that their modules are loaded; returns an interrupter for all code of the ledger.

    In contextlib, too: an exception may strike there between the ``yield`` of a generator and the block.
    """
    for method in methods:
        method.act(stage.call_of(method))
    return Interrupter(codes_below("ledger", "contextlib"))


def points_of(places: int, share: float, chance: random.Random) -> list[int]:
    """The places to try: all of them, or a share drawn at random, at least one."""
    wanted = max(1, round(places * share))
    return sorted(chance.sample(range(places), min(wanted, places)))

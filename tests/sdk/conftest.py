"""Fixtures of the SDK's tests: a ledger in a file, a clock that stands still, and counted ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import SessionLedger
from ledger.model import copying
from ledger.testing import CountedIds, SetClock
from support.held_store import HeldStore


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def lifetimes() -> dict[str, float]:
    """Default and maximum TTL of ``ledger``; tests about expiry override it by ``parametrize``."""
    return {}


@pytest.fixture
def ledger(tmp_path: Path, clock: SetClock, lifetimes: dict[str, float]) -> Iterator[SessionLedger]:
    """What is recorded need not outlive a power cut: the file is written to without waiting for the disk."""
    url = f"sqlite:///{tmp_path}/l.db?synchronous=NORMAL"
    with SessionLedger.open(url, clock=clock, ids=CountedIds(), **lifetimes) as opened:
        yield opened


@pytest.fixture
def sid(ledger: SessionLedger) -> str:
    """A session of nine events, with something of every kind."""
    sid = ledger.create_session("ada", "How many orders?", fields={"tag": {"weekly": True}, "title": "Orders"})
    ledger.update_constraints(sid, {"tool_calls": ["sum", {"name": "plot", "id": "a-plot"}]})
    ledger.update_tool_call_status(sid, "sum", "completed", [1217])
    ledger.add_message(sid, "user", "hi", message_id="m2")
    ledger.add_message(sid, "assistant", "hello", message_id="m1")
    ledger.update_session(sid, {"context": {"a": 1}, "attribute": {"topic": "orders"}})
    ledger.update_session(sid, {"grant": {"bob": "read"}})
    ledger.update_summary(sid, "1,217")
    ledger.complete_session(sid)
    return sid


@pytest.fixture
def small_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event takes four changes, so that a session of some messages needs several."""
    portions = copying.portions
    for module in ("branch_events", "rewinding"):
        monkeypatch.setattr(f"ledger.sdk.{module}.portions", lambda plan, _, size: portions(plan, 4, size))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/l.db"


@pytest.fixture
def plain(url: str) -> Iterator[SessionLedger]:
    with SessionLedger(url, clock=SetClock(), ids=CountedIds()) as opened:
        yield opened


@pytest.fixture
def held(plain: SessionLedger) -> Iterator[HeldStore]:
    """The store of ``plain``, whose appends wait from now on."""
    store = HeldStore(plain.store)
    plain.store = store
    yield store
    store.go.set()

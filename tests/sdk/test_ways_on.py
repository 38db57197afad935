"""Whatever refuses a session that has ended says how to go on with it, and that works."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta

import pytest

from ledger import Change, InvalidInput, LedgerError, SessionEnded, SessionLedger
from ledger.model.instants import to_text
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import event

ENDS: dict[str, Callable[[SessionLedger, str], object]] = {
    "expired": lambda ledger, sid: ledger.expire_session(sid),
    "deleted": lambda ledger, sid: ledger.delete_session(sid),
    "archived": lambda ledger, sid: ledger.archive_session(sid),
}
CALLS: dict[str, Callable[[SessionLedger, str], object]] = {
    "add_message": lambda ledger, sid: ledger.add_message(sid, "user", "hello"),
    "append": lambda ledger, sid: ledger.append(sid, "session.updated", event(1).changes),
    "archive_session": lambda ledger, sid: ledger.archive_session(sid),
    "complete_session": lambda ledger, sid: ledger.complete_session(sid),
    "expire_session": lambda ledger, sid: ledger.expire_session(sid),
    "extend_session": lambda ledger, sid: ledger.extend_session(sid, None),
    "fail_session": lambda ledger, sid: ledger.fail_session(sid, "no data"),
    "fork_session": lambda ledger, sid: ledger.fork_session(sid),
    "rewind": lambda ledger, sid: ledger.rewind(sid, 1),
    "restore_session": lambda ledger, sid: ledger.restore_session(sid),
    "update_summary": lambda ledger, sid: ledger.update_summary(sid, "x"),
    "update_tool_call_status": lambda ledger, sid: ledger.update_tool_call_status(sid, "t", "running"),
}
WAYS = {"expired": "restore_session()", "deleted": "restore_session()", "archived": "hydrate_session()"}
#: The calls that an ended session takes, by its status.
TAKEN = {
    "expired": {"archive_session", "expire_session", "fork_session", "restore_session"},
    "deleted": {"restore_session"},
    "archived": CALLS.keys() - {"expire_session", "restore_session"},
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", ENDS)
def test_a_call_that_an_ended_session_refuses_names_the_way_on(ledger, status, call):
    sid = ledger.create_session("ada", "q")
    ledger.update_summary(sid, "s")
    ENDS[status](ledger, sid)
    if call in TAKEN[status]:
        CALLS[call](ledger, sid)
        return
    with pytest.raises(LedgerError, match="nothing was written") as refused:
        CALLS[call](ledger, sid)
    assert isinstance(refused.value, SessionEnded | InvalidInput)
    assert WAYS[status] in str(refused.value)
    getattr(ledger, WAYS[status].removesuffix("()"))(sid)
    assert ledger.add_message(sid, "user", "hello")


def test_a_refusal_says_since_when_a_session_is_expired_only_if_its_end_has_passed(ledger, clock):
    early, late = (ledger.create_session("ada", "q", ttl=timedelta(days=7)) for _ in range(2))
    end = ledger.require_session(late).expires_at
    ledger.update_session(early, {"status": "expired"})
    with pytest.raises(SessionEnded, match=f"Session {early} is expired; nothing was written"):
        ledger.add_message(early, "user", "hi")
    clock.now = end
    with pytest.raises(SessionEnded, match=f"Session {late} is expired since {to_text(end)}; nothing"):
        ledger.add_message(late, "user", "hi")


@pytest.mark.parametrize("status", ENDS)
def test_a_store_by_itself_names_the_way_on_from_each_status(tmp_path, status):
    with closing(SqliteStore(tmp_path / "l.db", synchronous="NORMAL")) as store:
        store.append("s", event(1, Change("status", value=status), user_id="ada"))
        with pytest.raises(SessionEnded, match=f"Session s is {status}; nothing was written. Reopen it with ") as ended:
            store.append("s", event(2, Change("title", value="t"), require_open=True))
    assert WAYS[status] in str(ended.value)

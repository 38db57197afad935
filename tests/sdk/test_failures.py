"""Failed sessions: how long the error stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ledger import AppendResult, SessionLedger

BACK: dict[str, Callable[[SessionLedger, str], AppendResult]] = {
    "completed": lambda ledger, sid: ledger.complete_session(sid, event_id="k"),
    "active": lambda ledger, sid: ledger.update_session(sid, {"status": "active"}, event_id="k"),
}


@pytest.mark.duckdb
@pytest.mark.parametrize("status", BACK)
def test_a_session_that_goes_on_after_a_failure_has_no_error_and_its_history_has_it(
    ledger: SessionLedger, sid: str, status: str
) -> None:
    ledger.fail_session(sid, "no rows")
    BACK[status](ledger, sid)
    assert BACK[status](ledger, sid).replayed
    session = ledger.get_session(sid)
    assert (session.status, session.error) == (status, None)
    assert [change.field for change in ledger.history(sid)[-1].changes] == ["status", "error"]
    assert ledger.get_session(sid, version=session.version - 1).error == {"type": "error", "message": "no rows"}
    counted = "SELECT COUNT(*) FROM session_fields WHERE session_id = @sid AND field = 'error'"
    assert ledger.sql(counted, {"sid": sid}).rows == [(0,)]
    ledger.update_session(sid, {"error": {"type": "note", "message": "kept"}})
    ledger.complete_session(sid)
    assert ledger.get_session(sid).error == {"type": "note", "message": "kept"}


def test_a_failed_session_that_is_closed_keeps_its_error_and_a_fork_of_it_has_none(
    ledger: SessionLedger, sid: str
) -> None:
    ledger.fail_session(sid, "no rows")
    for close, reopen in (("delete_session", "restore_session"), ("archive_session", "hydrate_session")):
        getattr(ledger, close)(sid)
        assert ledger.get_session(sid).error["message"] == "no rows"
        getattr(ledger, reopen)(sid)
        assert (ledger.get_session(sid).status, ledger.get_session(sid).error["message"]) == ("failed", "no rows")
    failed = ledger.get_session(ledger.fork_session(sid))
    assert (failed.status, failed.error["message"]) == ("failed", "no rows")
    ledger.archive_session(sid)
    fork = ledger.get_session(ledger.fork_session(sid))
    assert (fork.status, fork.error) == ("active", None)

"""`ledger purge`: single sessions, or those of a user, are removed for good, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger import InvalidInput, SessionLedger, SessionNotFound
from ledger.cli.exits import USAGE
from support.shell import Shell


@pytest.fixture
def shipped(shell: Shell) -> Shell:
    """A ledger with sessions of bob, one deleted and one archived, and an archived one of carol; all rows shipped."""
    for session_id, user in (("b1", "bob"), ("b2", "bob"), ("c1", "carol")):
        shell.ok("new", f"A question of {user}", "--user", user, "--id", session_id)
    shell.ok("delete", "b1")
    shell.ok("archive", "b2")
    shell.ok("archive", "c1")
    shell.ok("sync")
    shell.ok("maintain")
    return shell


def sessions(shell: Shell) -> list[str]:
    found = shell.json("sql", "SELECT DISTINCT session_id FROM session_events ORDER BY session_id")["rows"]
    return [each["session_id"] for each in found]


def test_the_sessions_of_a_user_go_and_those_of_others_stay(shipped: Shell) -> None:
    assert shipped.json("purge", "--user", "bob") == {
        "purged": ["b1", "b2"],
        "held_up": [],
        "not_ended": [],
        "sessions": [],
    }
    assert sessions(shipped) == ["c1"]
    assert shipped.json("show", "c1")["status"] == "archived"
    assert b"question of bob" not in shipped.path.read_bytes()
    assert shipped.ok("purge", "--user", "bob") == "0 sessions purged.\n"


def test_a_session_that_is_named_goes_alone(shipped: Shell) -> None:
    assert shipped.ok("purge", "b2") == "1 session purged.\n"
    assert sessions(shipped) == ["b1", "c1"]
    assert shipped.fails("purge", "b2")[1].startswith("There is no session b2")


def test_a_session_that_has_not_ended_is_refused_and_the_others_are_kept(shipped: Shell) -> None:
    shipped.ok("new", "Still going", "--user", "bob", "--id", "b3")
    code, message = shipped.fails("purge", "b1", "b3")
    assert (code, "Session b3 is recorded as active" in message, "`ledger delete SESSION_ID`" in message) == (
        3,
        True,
        True,
    )
    assert shipped.json("list", "--status", "deleted")["sessions"][0]["session_id"] == "b1"
    result = shipped("purge", "--user", "bob")
    assert (result.exit_code, result.stdout) == (
        1,
        "2 sessions purged.\n1 session of bob not ended; run: ledger delete SESSION_ID\n  b3\n",
    )


def test_a_session_with_rows_that_wait_is_held_up_until_they_are_shipped(shipped: Shell) -> None:
    shipped.ok("new", "Still going", "--user", "bob", "--id", "b3")
    shipped.ok("delete", "b3")
    result = shipped("purge", "b3")
    assert (result.exit_code, result.stdout.startswith("0 sessions purged; 1 held up.\n")) == (1, True)
    assert "run: ledger sync --warehouse" in result.stdout
    shipped.ok("sync")
    assert shipped.ok("purge", "b3") == "1 session purged.\n"


def test_a_session_that_another_warehouse_has_too_must_be_deleted_there(shipped: Shell, tmp_path: Path) -> None:
    other = f"duckdb:///{tmp_path / 'other.duckdb'}"
    shipped.ok("sync", "--warehouse", other)
    for _ in range(2):
        result = shipped("purge", "b1", "--json")
        assert (result.exit_code, [it["warehouse"] for it in json.loads(result.stdout)["sessions"]]) == (1, [other])
    assert f"run: ledger maintain --warehouse {other}" in shipped("purge", "b1").stdout
    printed = shipped.ok("maintain", "--warehouse", other)
    assert printed == "0 expired, 0 dropped, 0 deleted; 1 session purged before, deleted in the warehouse now.\n"
    assert shipped.ok("purge", "--user", "nobody") == "0 sessions purged.\n"


def test_an_archived_session_of_which_a_lost_warehouse_had_the_rows_can_be_purged(shipped: Shell) -> None:
    file = shipped.path.with_suffix(".duckdb")
    file.unlink()
    shipped.ok("warehouse", "forget", f"duckdb:///{file}", "--yes")
    assert shipped.ok("purge", "b2") == "1 session purged.\n"
    assert [it["session_id"] for it in shipped.json("list")["sessions"]] == ["c1"]


def test_either_sessions_or_a_user_are_named(shipped: Shell) -> None:
    assert shipped.fails("purge")[0] == USAGE
    assert shipped.fails("purge", "b1", "--user", "bob")[0] == USAGE
    with SessionLedger(shipped.url) as ledger:
        with pytest.raises(InvalidInput, match="a list of ids, not str"):
            ledger.purge_sessions("b1")
        with pytest.raises(SessionNotFound, match="nothing was purged"):
            ledger.purge_sessions(["b1", "nothing"])
        assert ledger.get_session("b1") is not None

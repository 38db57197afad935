"""Every command reads archived sessions from the same default warehouse as archive, hydrate and maintain."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger import SessionArchived, SessionLedger
from support.shell import Shell

READS = [
    ["show", "s"],
    ["show", "s", "--messages"],
    ["show", "s", "--version", "1"],
    ["show", "s", "--last", "1"],
    ["history", "s"],
    ["diff", "s", "1", "2"],
    ["replay", "s"],
    ["compare", "s", "t"],
    ["export", "s"],
    ["export"],
]


def recorded(shell: Shell) -> None:
    for session_id in ("s", "t"):
        shell.ok("new", f"What of {session_id}?", "--id", session_id)
        shell.ok("message", session_id, "user", "Hello there")
    shell.ok("archive", "s")


def test_an_archived_session_reads_as_it_did_before_its_rows_were_dropped(shell: Shell) -> None:
    recorded(shell)
    before = [shell.ok(*args) for args in READS]
    shell.ok("sync")
    assert shell.json("maintain")["dropped"] == 1
    for args, said in zip(READS, before, strict=True):
        assert shell.ok(*args) == said, args
    assert "Hello there" in shell.ok("export", "s")


def test_changes_reopen_an_archived_session_and_a_fork_copies_it(shell: Shell) -> None:
    recorded(shell)
    shell.ok("sync")
    shell.ok("maintain")
    shell.ok("fork", "s", "--id", "copy")
    assert shell.json("show", "copy")["question"] == "What of s?"
    assert shell.ok("message", "s", "user", "And now?") == "s is at version 6.\n"
    assert shell.json("show", "s")["status"] == "active"


def test_a_program_reads_archived_sessions_like_the_commands(shell: Shell) -> None:
    recorded(shell)
    with SessionLedger(shell.url) as opened_before:
        shell.ok("sync")
        shell.ok("maintain")
        for ledger in (opened_before, opened_before.for_user("ada")):
            assert ledger.get_session("s", messages=True).messages[0].content == "Hello there"
            assert [event.version for event in ledger.history("s")] == [1, 2, 3]
        assert opened_before.for_user("eve").get_session("s") is None
    with SessionLedger(shell.url) as ledger:
        assert ledger.get_messages("s")[0].content == "Hello there"
        ledger.add_message("s", "user", "And now?")
        assert ledger.get_session("s").status == "active"


def test_an_archived_session_of_another_warehouse_names_that_warehouse(shell: Shell, tmp_path: Path) -> None:
    recorded(shell)
    elsewhere = f"duckdb:///{tmp_path / 'elsewhere.duckdb'}"
    shell.ok("sync", "--warehouse", elsewhere)
    shell.ok("maintain", "--warehouse", elsewhere)
    for args in (["show", "s"], ["export", "s"], ["message", "s", "user", "x"], ["hydrate", "s"]):
        code, said = shell.fails(*args)
        assert code in (14, 23)
        assert elsewhere in said or "hydrate" in said
    with SessionLedger(shell.url) as ledger, pytest.raises(SessionArchived, match=r"elsewhere\.duckdb"):
        ledger.get_session("s")
    assert shell("show", "s", LEDGER_WAREHOUSE=elsewhere).exit_code == 0
    assert not shell.path.with_suffix(".duckdb").exists()


def test_a_look_up_that_finds_nothing_does_not_open_the_default_warehouse(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(shell)
    shell.ok("sync")
    monkeypatch.setattr("ledger.warehouse.urls.open_warehouse", lambda url: pytest.fail(f"{url} was opened"))
    for args in (["show", "nowhere"], ["history", "nowhere"], ["message", "nowhere", "user", "x"]):
        assert shell.fails(*args)[0] == 4


def test_sessions_come_back_from_the_default_warehouse_if_the_ledger_was_lost(shell: Shell) -> None:
    recorded(shell)
    shell.ok("sync")
    for file in shell.path.parent.glob("*.db*"):
        file.unlink()
    shell.ok("init")
    assert shell.ok("hydrate", "t") == "t is at version 3.\n"
    assert shell.json("show", "t")["question"] == "What of t?"

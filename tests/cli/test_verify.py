"""``ledger verify``: what it prints, its exit codes, and what --rebuild mends."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger import SessionLedger
from ledger.cli.exits import FINDINGS
from support.shell import Shell
from support.tampering import tamper


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with SessionLedger.open("sqlite:///ledger.db") as ledger:
        for session_id in ("s1", "s2"):
            ledger.create_session("ada", "q", session_id=session_id)
            ledger.update_summary(session_id, "ten")
    return tmp_path / "ledger.db"


def test_a_clean_ledger_is_said_to_be_clean(file: Path, shell: Shell) -> None:
    assert shell.ok("verify") == "2 sessions and 4 events verified: nothing differs from what was recorded.\n"
    assert shell.json("verify", "s2") == {
        "clean": True,
        "sessions": 1,
        "events": 2,
        "unchained_events": 0,
        "archived_sessions": 0,
        "findings": [],
        "omitted": 0,
        "against": None,
    }


def test_what_is_derived_is_mended_and_what_was_recorded_is_not(file: Path, shell: Shell) -> None:
    tamper(file, "UPDATE session_heads SET user_id = 'eve' WHERE session_id = 's1'")
    tamper(file, "UPDATE session_events SET actor = 'eve' WHERE session_id = 's2' AND version = 2")
    found = shell("verify")
    assert found.exit_code == FINDINGS
    assert found.stdout == (
        "s1: the head has another user_id (head)\n"
        "s2, version 2: the event is not what was recorded: its hash is another (event)\n"
        "2 sessions and 4 events verified: 2 findings.\n"
        "Mend states, heads and the search index with: ledger verify --rebuild\n"
    )
    mended = shell("verify", "--rebuild")
    assert mended.exit_code == FINDINGS
    assert mended.stdout == (
        "s1: the head has another user_id (head; mended)\n"
        "s2, version 2: the event is not what was recorded: its hash is another (event)\n"
        "2 sessions and 4 events verified: 2 findings, 1 mended.\n"
    )
    assert shell.ok("verify", "s1").endswith("nothing differs from what was recorded.\n")
    document = shell("verify", "--json").stdout
    assert '"code": "event"' in document
    assert '"mended": false' in document


def test_a_session_that_is_not_there_is_an_error(file: Path, shell: Shell) -> None:
    code, message = shell.fails("verify", "nowhere")
    assert code == 4
    assert "nothing of a session nowhere" in message

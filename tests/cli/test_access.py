"""Sharing a session from the command line."""

from __future__ import annotations

import json

from ledger.cli.exits import EXIT_CODES
from ledger.errors import InvalidInput, SessionNotFound
from support.shell import Shell


def test_a_session_is_shared_and_shared_no_more(shell: Shell) -> None:
    session_id = shell.ok("new", "How many orders?", "--user", "ada").strip()
    assert shell.ok("grant", session_id, "bob", "read") == f"{session_id} is at version 2.\n"
    assert shell.json("grant", session_id, "bob", "write", "--actor", "admin")["version"] == 3
    assert shell.json("show", session_id)["grants"] == {"bob": "write"}
    assert [it["session_id"] for it in shell.json("list", "--user", "bob", "--shared")["sessions"]] == [session_id]
    shell.ok("revoke", session_id, "bob")
    assert shell.json("show", session_id)["grants"] == {}
    assert shell.json("list", "--user", "bob", "--shared")["sessions"] == []
    events = json.loads(shell.ok("history", session_id, "--json"))["events"]
    assert [(it["event_type"], it["actor"]) for it in events[1:]] == [
        ("access.granted", None),
        ("access.granted", "admin"),
        ("access.revoked", None),
    ]


def test_what_cannot_be_shared_is_one_line_and_a_code_of_its_own(shell: Shell) -> None:
    session_id = shell.ok("new", "How many orders?", "--user", "ada").strip()
    for args, code in (
        (("grant", session_id, "ada", "read"), EXIT_CODES[InvalidInput]),
        (("revoke", session_id, "bob"), EXIT_CODES[InvalidInput]),
        (("list", "--shared"), EXIT_CODES[InvalidInput]),
        (("grant", "nope", "bob", "read"), EXIT_CODES[SessionNotFound]),
        (("revoke", "nope", "bob"), EXIT_CODES[SessionNotFound]),
        (("grant", session_id, "bob", "own"), 2),
    ):
        assert shell.fails(*args)[0] == code

"""How sessions end, come back and are judged, on the command line."""

from __future__ import annotations

import json

import pytest

from ledger.testing import SetClock
from support.shell import Shell


@pytest.fixture
def sid(shell: Shell, still: SetClock) -> str:
    return shell.ok("new", "How many?", "--user", "ann", "--ttl-hours", "2", "--type", "problem").strip()


def shown(shell: Shell, session_id: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(shell.ok("show", session_id, "--json"))
    return found


def test_a_session_is_ended_and_opened_again(shell: Shell, sid: str, still: SetClock) -> None:
    assert shell.ok("extend", sid, "--ttl-hours", "5") == f"{sid} is at version 2.\n"
    assert shell.ok("expire", sid) == f"{sid} is at version 3.\n"
    assert shell.ok("expire", sid) == f"Session {sid} is already expired.\n"
    refused = shell("message", sid, "user", "hello")
    assert (refused.exit_code, "session_ended" in refused.stderr) == (14, True)
    assert shell.ok("restore", sid, "--ttl-hours", "none") == f"{sid} is at version 4.\n"
    assert (shown(shell, sid)["status"], shown(shell, sid)["expires_at"]) == ("active", None)
    assert shell.ok("delete", sid) == f"{sid} is at version 5.\n"
    assert json.loads(shell.ok("delete", sid, "--json"))["replayed"] is True
    assert sid not in shell.ok("list")
    still.move(60)
    shell.ok("restore", sid)
    assert sid in shell.ok("list")


@pytest.mark.parametrize(
    "args", [("set", "summary", "s"), ("message", "user", "hello"), ("tool", "plot", "completed")], ids=lambda it: it[0]
)
@pytest.mark.parametrize("ending", ["expire", "delete", None])
def test_a_session_that_has_ended_says_with_which_command_it_is_reopened(
    shell: Shell, sid: str, still: SetClock, ending: str | None, args: tuple[str, ...]
) -> None:
    shell.ok("set", sid, "constraints", '{"tool_calls": ["plot"]}')
    if ending is None:
        still.move(2 * 3600)
    else:
        shell.ok(ending, sid)
    name, *rest = args
    code, message = shell.fails(name, sid, *rest)
    assert (code, f"Reopen it with `ledger restore {sid}`. (session_ended)" in message) == (14, True), message
    shell.ok("restore", sid)
    shell.ok(name, sid, *rest)


def test_a_session_is_completed_or_fails_with_its_error(shell: Shell, sid: str) -> None:
    shell.ok("complete", sid)
    assert shown(shell, sid)["status"] == "completed"
    shell.ok("fail", sid, "no answer", "--type", "Timeout")
    page = shell.ok("show", sid)
    assert "failed" in page
    assert '"type": "Timeout"' in page


def test_tags_scores_and_messages_are_given_and_taken(shell: Shell, sid: str) -> None:
    shell.ok("message", sid, "user", "hello", "--id", "m1")
    shell.ok("tag", sid, "weekly", "hot")
    shell.ok("tag", sid, "hot", "--remove")
    shell.ok("score", sid, "helpful", "0.9", "--source", "ann")
    shell.ok("score", sid, "tone", "kind words")
    shell.ok("remove-message", sid, "m1")
    page = shell.ok("show", sid, "--json")
    assert json.loads(page)["tags"] == ["weekly"]
    assert sorted(str(score["value"]) for score in json.loads(page)["scores"].values()) == ["0.9", "kind words"]
    assert shell("remove-message", sid, "m1").exit_code == 3


def test_sessions_are_counted(shell: Shell, sid: str) -> None:
    shell.ok("new", "Another?", "--user", "ben", "--attribute", "topic=arrays")
    assert shell.ok("count", "status") == "2  active\n"
    assert shell.ok("count", "topic", "--user", "ben") == "1  arrays\n"
    assert json.loads(shell.ok("count", "session_type", "--json")) == [
        {"value": "problem", "sessions": 1},
        {"value": None, "sessions": 1},
    ]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("extend", "--ttl-hours", "soon"), 2, "neither a number of hours nor none"),
        (("extend", "--ttl-hours", "900"), 3, "expires within 168 h"),
        (("extend", "--ttl-hours", "none"), 3, "expires within 168 h"),
        (("restore",), 3, "neither expired nor deleted"),
        (("tag",), 2, "TAG"),
    ],
)
def test_what_cannot_be_is_one_line_and_an_exit_code(
    shell: Shell, sid: str, args: tuple[str, ...], code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGER_SESSION_MAX_TTL_HOURS", "168")
    name, *options = args
    refused = shell(name, sid, *options)
    assert (refused.exit_code, said in refused.stderr, refused.stderr.count("\n")) == (code, True, 1)

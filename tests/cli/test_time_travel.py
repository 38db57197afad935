"""The commands of time: fork, rewind, replay, compare and tail, as people and programs see them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from ledger.cli.exits import USAGE
from ledger.testing import SetClock
from support.shell import Shell


@pytest.fixture
def sid(shell: Shell, still: SetClock) -> str:
    """A session of four events."""
    sid = shell.ok("new", "How many orders?", "--title", "Orders").strip()
    shell.ok("tool", sid, "count", "completed", "--result", '{"orders": 1217}')
    shell.ok("message", sid, "user", "hi", "--id", "m1")
    shell.ok("set", sid, "summary", "1,217 orders", "--actor", "agent:7")
    return sid


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_fork_is_made_and_its_id_printed(shell: Shell, sid: str) -> None:
    fork = shell.ok("fork", sid, "--version", "3", "--user", "bob", "--actor", "ops").strip()
    session = shell.json("show", fork, "--messages")
    assert (session["user_id"], session["summary"], session["messages"][0]["content"]) == ("bob", None, "hi")
    assert session["lineage"] == {"session_id": sid, "version": 3, "kind": "fork"}
    assert shell.json("show", sid)["children"] == {fork: {"version": 3, "kind": "fork"}}
    named = shell.json("fork", sid, "--id", "mine", "--event-id", "k")
    assert named == {"session_id": "mine", "source": sid}
    assert shell.json("fork", sid, "--event-id", "k") == named
    short = shell.json("show", shell.ok("fork", sid, "--ttl-hours", "2").strip())
    assert (session["expires_at"], short["expires_at"]) == (
        None,
        "2026-03-05T11:30:00.000000Z",
    )


def test_a_session_begins_from_a_template(shell: Shell, sid: str) -> None:
    shell.ok("set", sid, "constraints", '{"tool_calls": ["plot"]}')
    made = shell.json("show", shell.ok("fork", sid, "--template", "--question", "And now?").strip())
    assert (made["user_id"], made["question"], made["title"]) == ("ada", "And now?", None)
    assert [(it["call_id"], it["status"]) for it in made["tool_calls"]] == [("plot", "pending")]
    assert made["lineage"] == {"session_id": sid, "version": 5, "kind": "template"}


def test_a_session_is_rewound_and_says_where_it_stands(shell: Shell, sid: str) -> None:
    assert shell.ok("rewind", sid, "2") == f"{sid} is at version 5.\n"
    assert shell.json("show", sid)["summary"] is None
    assert shell.ok("rewind", sid, "2") == f"{sid} already has the state of version 2; nothing was written.\n"
    assert shell.json("rewind", sid, "2") == {"session_id": sid, "version": None, "event_id": None, "replayed": False}
    again = shell.json("rewind", sid, "4", "--event-id", "k")
    assert (again["version"], again["replayed"]) == (6, False)
    assert shell.json("rewind", sid, "4", "--event-id", "k") == {**again, "replayed": True}


def test_a_replay_shows_what_each_event_changed(shell: Shell, sid: str) -> None:
    shell.ok("set", sid, "summary", "none", "--event-id", "job-42")
    assert shell.ok("replay", sid, "--from", "3") == (
        "3  message.added  2026-03-05 09:30:00 UTC\n"
        "  message[m1]\n"
        '    + {"content":"hi","role":"user"}\n'
        "4  session.updated by agent:7  2026-03-05 09:30:00 UTC\n"
        "  summary\n"
        "    + 1,217 orders\n"
        "5  session.updated  2026-03-05 09:30:00 UTC  idempotency key job-42\n"
        "  summary\n"
        "    - 1,217 orders\n"
        "    + none\n"
    )
    events = shell.json("history", sid)["events"]
    assert [it["idempotency_key"] for it in events] == [None, None, None, None, "job-42"]


def test_a_replay_gives_programs_a_line_for_each_event(shell: Shell, sid: str) -> None:
    found = lines(shell.ok("replay", sid, "--to", "3", "--json", "--messages"))
    assert [it["event"]["event_type"] for it in found] == ["session.created", "tool_call.updated", "message.added"]
    for number, it in enumerate(found, 1):
        assert it["session"] == shell.json("show", sid, "--version", str(number), "--messages")
    assert "messages" not in lines(shell.ok("replay", sid, "--json"))[0]["session"]


def test_two_sessions_are_compared(shell: Shell, sid: str) -> None:
    other = shell.ok("fork", sid, "--version", "3").strip()
    shown = shell.ok("compare", sid, other, "--version", "4")
    assert shown.startswith("lineage\n  + {\n")
    assert shown.endswith("summary\n  - 1,217 orders\n")
    found = shell.json("compare", sid, other, "--version", "3", "--other-version", "1")
    assert [it["field"] for it in found.pop("differences")] == ["lineage"]
    assert found == {"session_id": sid, "other_session_id": other, "version": 3, "other_version": 1}
    assert shell.ok("compare", sid, sid) == "No differences.\n"


def test_the_newest_events_are_shown_a_line_each(shell: Shell, sid: str) -> None:
    assert shell.ok("tail", "--last", "2").splitlines() == [
        f"       7  2026-03-05 09:30:00.000  {sid} 3  message.added  message[m1]",
        f"       8  2026-03-05 09:30:00.000  {sid} 4  session.updated by agent:7  summary",
    ]
    assert len(shell.ok("tail").splitlines()) == 4
    for number in range(9):
        shell.ok("new", str(number))
    assert len(shell.ok("tail").splitlines()) == 10
    assert len(shell.ok("tail", "--after", "0").splitlines()) == 13


def test_programs_go_on_behind_the_last_line(shell: Shell, sid: str) -> None:
    found = lines(shell.ok("tail", "--after", "0", "--json"))
    assert [(it["version"], it["session_id"], it["user_id"]) for it in found] == [(n, sid, "ada") for n in range(1, 5)]
    assert lines(shell.ok("tail", "--after", str(found[1]["seq"]), "--json")) == found[2:]
    assert shell.ok("tail", "--after", str(found[-1]["seq"]), "--json") == ""
    history = shell.json("history", sid)["events"]
    assert [{**it, "seq": 0, "session_id": sid, "user_id": "ada"} for it in history] == [
        {**it, "seq": 0} for it in found
    ]


def test_events_are_filtered(shell: Shell, sid: str) -> None:
    shell.ok("new", "q", "--user", "bob", "--id", "other")
    assert [it["session_id"] for it in lines(shell.ok("tail", "--user", "bob", "--json"))] == ["other"]
    assert [it["version"] for it in lines(shell.ok("tail", "--session", sid, "--last", "1", "--json"))] == [4]
    types = [it["event_type"] for it in lines(shell.ok("tail", "--type", "message", "--type", "tool_", "--json"))]
    assert types == ["tool_call.updated", "message.added"]


def test_what_comes_is_followed_until_nothing_comes_for_the_timeout(shell: Shell) -> None:
    shell.ok("init")
    program = "from ledger.cli import main; main()"
    command = [sys.executable, "-c", program, "--url", shell.url, "tail", "--follow", "--after", "0", "--json"]
    with subprocess.Popen([*command, "--timeout", "15"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        for number in range(3):
            sid = shell.ok("new", str(number)).strip()
            assert json.loads(following.stdout.readline())["session_id"] == sid
        following.stdout.close()
        shell.ok("new", "one more")  # a reader that has seen enough ends it quietly
        assert following.stderr.read() == b""
    assert shell.ok("tail", "--follow", "--timeout", "0").count("\n") == 4


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["fork", "nope"], 4),
        (["fork", "nope", "--template"], 4),
        (["fork", "SESSION", "--version", "5"], 3),
        (["fork", "SESSION", "--version", "0"], USAGE),
        (["fork", "SESSION", "--id", "SESSION"], 6),
        (["fork", "SESSION", "--question", "q"], USAGE),
        (["fork", "SESSION", "--user", ""], 3),
        (["fork", "SESSION", "--template", "--user", ""], 3),
        (["fork", "SESSION", "--expected-version", "3"], 6),
        (["rewind", "nope", "1"], 4),
        (["rewind", "SESSION", "5"], 3),
        (["rewind", "SESSION", "0"], USAGE),
        (["rewind", "SESSION"], USAGE),
        (["rewind", "SESSION", "2", "--expected-version", "3"], 6),
        (["replay", "nope"], 4),
        (["replay", "nope", "--from", "2"], 4),
        (["replay", "SESSION", "--from", "5"], 3),
        (["replay", "SESSION", "--from", "9"], 3),
        (["replay", "SESSION", "--from", "3", "--to", "2"], 3),
        (["compare", "SESSION", "nope"], 4),
        (["compare", "SESSION"], USAGE),
        (["compare", "SESSION", "SESSION", "--version", "9"], 3),
        (["tail", "--after", "2"], 3),
        (["tail", "--after", "99"], 3),
        (["tail", "--after", "0", "--last", "2"], USAGE),
        (["tail", "--timeout", "1"], USAGE),
        (["tail", "--follow", "--timeout", "nan"], USAGE),
        (["tail", "--user", ""], 3),
    ],
    ids=str,
)
def test_bad_input_is_one_line_and_writes_nothing(shell: Shell, sid: str, args: list[str], code: int) -> None:
    assert shell.fails(*[sid if arg == "SESSION" else arg for arg in args])[0] == code
    assert len(shell.json("list")["sessions"]) == 1
    assert shell.json("show", sid)["version"] == 4


@pytest.mark.parametrize(
    "args", [["fork", "x"], ["rewind", "x", "1"], ["replay", "x"], ["compare", "x", "y"], ["tail"]]
)
def test_a_missing_file_is_refused_and_none_is_made(shell: Shell, args: list[str]) -> None:
    assert shell.fails(*args)[0] == 12
    assert not list(shell.path.parent.iterdir())


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("args", ["replay SESSION", "compare SESSION other", "tail", "fork SESSION"])
def test_nothing_that_agents_wrote_reaches_the_terminal_raw(shell: Shell, args: str, as_json: bool) -> None:
    evil = "[bold red]x[/] \x1b[31mred\x1b[0m \u202eabc"
    sid = shell.ok("new", evil, "--title", evil).strip()
    shell.ok("new", "q", "--id", "other")
    shell.ok("set", sid, "context", evil, "--key", "[red]k[/red]", "--actor", "[blink]me")
    shown = shell.ok(*[sid if arg == "SESSION" else arg for arg in args.split()], *(["--json"] if as_json else []))
    assert not [char for char in shown if char != "\n" and not char.isprintable()]

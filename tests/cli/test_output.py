"""What tables look like on a terminal and in a pipe, in which encodings, and how a closed pipe ends a command."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from ledger import SessionLedger
from ledger.cli.exits import USAGE
from support.shell import Shell

COMMAND = [sys.executable, "-c", "from ledger.cli import main; main()"]
LONG = "What were the total orders for CFC1 in the last week, and how do they compare with the week before? " * 4
CONSTRAINTS = {"kpi": ["orders", "revenue"], "range": {"from": "2026-11-01", "to": "2026-11-08"}, "tables": ["a.b.c"]}


@pytest.fixture
def recorded(shell: Shell) -> str:
    """The id of a session with long texts in each of its fields."""
    with SessionLedger(shell.url) as ledger:
        session_id = ledger.create_session("somebody.with.a.long.name@example.com", LONG.strip())
        ledger.update_session(session_id, {"constraints": CONSTRAINTS})
        ledger.add_message(session_id, "user", f"Hello\n{LONG}", message_id="a-message-id-that-is-long-but-whole")
        ledger.update_tool_call_status(session_id, "Orders Trend for CFC-1", "completed", result={"text": LONG})
    return session_id


def environment(shell: Shell, **settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "PYTHONIOENCODING")}
    return {**kept, "LEDGER_URL": shell.url, "TERM": "dumb", "LEDGER_USER": "ada", **settings}


def piped(shell: Shell, *args: str, **settings: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose stdout is a pipe."""
    return subprocess.run(
        [*COMMAND, *args], env=environment(shell, **settings), capture_output=True, check=False, timeout=60
    )


def on_terminal(shell: Shell, *args: str, columns: int = 80) -> list[str]:
    """Run a command on a terminal, and return the lines that it shows."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, True)
    process = subprocess.Popen(
        [*COMMAND, *args],
        env=environment(shell, COLUMNS=str(columns)),
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # the last writer has closed its side
        pass
    os.close(ours)
    assert process.wait(60) == 0
    return [line.rstrip() for line in shown.decode().replace("\r", "").splitlines()]


def test_a_table_in_a_pipe_has_one_whole_line_per_row(shell: Shell, recorded: str) -> None:
    statement = "SELECT session_id, user_id, question, constraints, tool_call_results, strategy FROM sessions"
    header, row, footer = piped(shell, "sql", statement).stdout.decode().splitlines()
    assert header.split() == ["session_id", "user_id", "question", "constraints", "tool_call_results", "strategy"]
    assert footer == "1 row"
    for whole in (recorded, "somebody.with.a.long.name@example.com", LONG.strip(), json.dumps(LONG)[1:-1]):
        assert whole in row
    _, listed = piped(shell, "list").stdout.decode().splitlines()
    assert listed.startswith(f"{recorded}  somebody.with.a.long.name@example.com  active")
    assert listed.endswith(LONG.strip())
    history = piped(shell, "history", recorded).stdout.decode()
    assert "message[a-message-id-that-is-long-but-whole] = user: Hello What were" in history
    assert "…" not in history
    _, *matches = piped(shell, "search", "orders").stdout.decode().splitlines()
    assert [line.split()[:1] for line in matches] == [[recorded], [recorded]]


def test_a_line_break_within_a_value_does_not_begin_a_row(shell: Shell, recorded: str) -> None:
    _, row, _ = piped(shell, "sql", "SELECT role, content FROM messages").stdout.decode().splitlines()
    assert row.startswith("user  Hello\\nWhat were")


def test_on_a_terminal_ids_are_whole_and_json_is_cut_to_its_line(shell: Shell, recorded: str) -> None:
    shown = on_terminal(shell, "sql", "SELECT session_id, constraints FROM sessions")
    row = next(line for line in shown if line.startswith(recorded))
    assert (row.endswith("…"), len(row), row[38:46]) == (True, 80, '{"kpi":[')
    shown = on_terminal(shell, "sql", "SELECT session_id, user_id, status, question, constraints FROM sessions")
    assert f"session_id   {recorded}" in shown  # too narrow for a table
    assert [line for line in shown if line.startswith("constraints") and line.endswith("…")]
    for columns in (80, 50):
        assert any(line.startswith(f"{recorded} ") for line in on_terminal(shell, "list", columns=columns))


def test_matches_can_be_read_at_80_columns(shell: Shell, recorded: str) -> None:
    shown = on_terminal(shell, "search", "orders")
    assert f"{recorded}  somebody.with…  question, v1" in shown
    assert f"{recorded}  somebody.with…  message by user, v3" in shown
    assert "  What were the total orders for CFC1 in the last week, and how do they compare" in shown
    assert max(map(len, shown)) <= 80


def test_a_search_for_a_role_finds_messages_of_that_role(shell: Shell, recorded: str) -> None:
    found = shell.json("search", "orders", "--role", "user")["matches"]
    assert [(it["field"], it["role"]) for it in found] == [("message", "user")]
    assert shell.json("search", "orders", "--role", "tool")["matches"] == []


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "shift_jis", "ascii", "utf-16"])
def test_any_encoding_of_stdout_will_do(shell: Shell, encoding: str) -> None:
    question = "Hi 日本 👍 … é"
    with SessionLedger(shell.url) as ledger:
        session_id = ledger.create_session("ann", question)
    for args in (["show", session_id], ["show", session_id, "--json"]):
        done = piped(shell, *args, PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode("utf-8" if encoding == "ascii" else encoding)
    assert json.loads(text)["question"] == question


def test_what_an_encoding_lacks_is_written_like_a_control_character(shell: Shell) -> None:
    with SessionLedger(shell.url) as ledger:
        ledger.create_session("ann", "Hi 日本 👍 é")
    assert (
        piped(shell, "list", PYTHONIOENCODING="cp1252")
        .stdout.decode("cp1252")
        .splitlines()[1]
        .endswith("Hi \\u65e5\\u672c \\ud83d\\udc4d é")
    )
    unknown = piped(shell, "show", "日本", PYTHONIOENCODING="latin-1")
    assert (unknown.returncode, unknown.stderr.startswith(b"error: There is no session \\u65e5\\u672c")) == (4, True)


def test_a_reader_that_closes_the_pipe_ends_a_command_quietly(shell: Shell, recorded: str, tmp_path: Path) -> None:
    for args in ("export", "list", f"show --json {recorded}"):
        command = f"{sys.executable} -c 'from ledger.cli import main; main()' {args}"
        line = f"{command} 2>{tmp_path}/err | true; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(
            ["bash", "-c", line], env=environment(shell), capture_output=True, check=False, timeout=60
        )
        assert (done.stdout, (tmp_path / "err").read_text()) == (b"141\n", ""), args


def test_a_command_without_a_stdout_works_and_an_export_says_that_it_has_nowhere_to_go(
    shell: Shell, recorded: str, tmp_path: Path
) -> None:
    command = f"{sys.executable} -c 'from ledger.cli import main; main()'"
    said = "error: Stdout is closed: name a file with --output FILE. See 'ledger export --help'. (usage)\n"
    for args, code, error in (
        (f"show {recorded}", 0, ""),
        ("list --json", 0, ""),
        ("export", USAGE, said),
        (f"export --output {tmp_path}/all.jsonl", 0, None),
    ):
        line = f"{command} {args} >&- 2>{tmp_path}/err"
        done = subprocess.run(["bash", "-c", line], env=environment(shell), check=False, timeout=60)
        assert done.returncode == code, args
        assert error in (None, (tmp_path / "err").read_text()), args
    line = f"{command} show {recorded} 2>&-"
    done = subprocess.run(["bash", "-c", line], env=environment(shell), check=False, timeout=60)
    assert done.returncode == 0

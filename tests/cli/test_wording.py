"""What a message of the SDK names in Python, the command line names as its own command."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ledger
from ledger.cli.wording import WORDS, in_commands
from support.shell import Shell

PACKAGE = Path(ledger.__file__).parent
#: A call or an argument of Python in a message.
PYTHON = re.compile(r"\b[a-zA-Z_.]+\((\.\.\.)?\)|\b\w+=(\.\.\.|,)")
#: Messages that name Python and that no command prints: of programs that close a ledger, use the view of one user or
#: read what they did not ask for, and of the former stores' modules.
ELSEWHERE = (
    *("for_user()", "SessionLedger.open()", ".replace(tzinfo=", "there is no chat", "def total("),
    "was read without its messages",
)
#: Rooms whose messages are not those of the SDK.
NOT_READ = {"cli", "testing", "compat"}


def messages() -> Iterator[str]:
    """Every text in the package, whole if it is in parts, which is neither a docstring nor SQL."""
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] in NOT_READ:
            continue
        raised = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        for call in raised:
            if re.fullmatch(r"[A-Z]\w+", ast.unparse(call.func)) and call.args:
                yield "".join(
                    part.value
                    for part in ast.walk(call.args[0])
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                )


def test_every_method_that_a_message_names_has_a_command() -> None:
    named = [text for text in messages() if PYTHON.search(text) and " " in text]
    assert len(named) > 10
    left = [text for text in named if PYTHON.search(in_commands(text)) and not any(it in text for it in ELSEWHERE)]
    assert not left
    assert all(
        any(words in text for text in messages()) for words in WORDS if words.endswith(")") and "(" in words[:-2]
    )


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("set SESSION summary x", "Reopen it with `ledger restore SESSION`."),
        ("archive SESSION", "Reopen it with `ledger restore SESSION` first."),
        ("expire SESSION", "Reopen it with `ledger restore SESSION` first."),
        ("fork SESSION", "Reopen it with `ledger restore SESSION` first."),
        ("set nowhere summary x", "There is no session nowhere; create it with `ledger new QUESTION`."),
        (
            "new q --ttl-hours 1000",
            "ttl is 1000 h, but every session of this ledger expires within 168 h (LEDGER_SESSION_MAX_TTL_HOURS).",
        ),
    ],
)
def test_a_message_names_the_command_to_run(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, command: str, says: str
) -> None:
    monkeypatch.setenv("LEDGER_SESSION_MAX_TTL_HOURS", "168")
    session_id = shell.ok("new", "q").strip()
    shell.ok("delete", session_id)
    assert says.replace("SESSION`", f"{session_id}`") in shell.fails(*command.replace("SESSION", session_id).split())[1]


def test_the_session_in_a_command_is_quoted_for_the_shell() -> None:
    assert in_commands("Reopen it with restore_session().", "a b; c") == "Reopen it with `ledger restore 'a b; c'`."
    assert in_commands("Reopen it with restore_session().") == "Reopen it with `ledger restore SESSION_ID`."


@pytest.mark.parametrize(
    ("typed", "suggested"),
    [("lst", " Did you mean list?"), ("chat-hist", " Did you mean chat-history or chat-init?"), ("xyzzy", "")],
)
def test_a_command_that_does_not_exist_suggests_those_that_do(shell: Shell, typed: str, suggested: str) -> None:
    code, says = shell.fails(typed)
    assert (code, says) == (2, f"No such command '{typed}'.{suggested} See 'ledger --help'. (usage)")


def test_one_is_not_counted_as_many(shell: Shell, tmp_path: Path) -> None:
    shell.ok("new", "q")
    assert "1 session with 1 event:" in shell.ok("seal")
    export = tmp_path / "l.jsonl"
    assert shell("export", "--output", str(export)).stderr.endswith("1 event exported.\n")
    assert shell.ok("import", str(export)) == "1 session, 1 event: 0 new, 1 already recorded.\n"
    assert shell.ok("chat-init").startswith("Created session")
    assert shell.ok("chat-cleanup", "--max-age-hours", "1") == "Expired 0 sessions.\n"

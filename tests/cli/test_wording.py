"""What a message of the SDK names in Python, the command line names as its own command."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

import ledger
from ledger.cli.wording import WORDS, in_commands
from support.shell import Shell

PACKAGE = Path(ledger.__file__).parent
#: A call of Python, or one of its keyword arguments, in a message. Functions of SQL are in capitals.
PYTHON = re.compile(
    r"\b[a-zA-Z_.]*[a-z]\w*\([^()]{0,60}\)|\.\w+\([^()]*\)|\b[a-z_]+=(\.\.\.|,|True|False|None|position)"
)
#: Names of the SDK that mean nothing on a terminal.
NAMES = re.compile(
    r"(?<![-\w])(ttl|default_ttl_hours|max_ttl_hours|partition_expiration_days)(?![-\w])"
    r"|\bevent_id to\b|\bUse a new event_id\b|\bsame event_id\b|\btimezone\."
)
#: Rooms whose messages are not those of the SDK. Of the former stores' modules, only that of chats has commands.
NOT_READ = {"cli", "testing", "compat"}
#: Not for people who type commands: what the value of an argument that no command passes on must be.
NOT_TYPED = ("ttl must be a timedelta",)


def expanded(node: ast.expr) -> list[str]:
    """Every text that an expression may be, with {} for each part that is not known."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else ["{}"]
    if isinstance(node, ast.IfExp):
        return [*expanded(node.body), *expanded(node.orelse)]
    if isinstance(node, ast.JoinedStr | ast.BinOp):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node.left, node.right]
        return ["".join(each) for each in product(*map(expanded, parts))]
    if isinstance(node, ast.FormattedValue):
        return expanded(node.value)
    return ["{}"]


def texts_of(path: Path) -> Iterator[str]:
    """Every message of an error in a module, and every other text in it with a call of a method, except docstrings."""
    tree = ast.parse(path.read_text())
    documented = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and re.fullmatch(r"(errors\.)?[A-Z]\w+", ast.unparse(node.func)) and node.args:
            yield from expanded(node.args[0])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            yield from [node.value] if re.search(r"^(?!SELECT).* [a-z]+_[a-z_]+\(\)", node.value) else []


def messages() -> list[str]:
    paths = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in NOT_READ]
    return [text for path in [*paths, PACKAGE / "compat/chat_store.py"] for text in texts_of(path) if " " in text]


def test_no_message_of_the_error_tree_names_python_on_a_terminal() -> None:
    found = messages()
    assert len(found) > 400
    assert len([text for text in found if PYTHON.search(text)]) > 20
    said = [in_commands(text) for text in found if not text.startswith(NOT_TYPED)]
    assert not [text for text in said if PYTHON.search(text) or NAMES.search(text)]


def test_every_entry_of_the_table_is_in_some_message() -> None:
    found = "\n".join(messages())
    unused = [words for words in WORDS if words not in found]
    assert not unused


def test_what_a_message_quotes_is_kept() -> None:
    assert in_commands(
        "Lost. Event e1 of session s1 may or may not be recorded: append it again with the same event_id."
    ) == ("Lost. Event e1 of session s1 may or may not be recorded: run the command again with this id as --event-id.")
    assert in_commands("Read them with get_messages('s'), or with get_session('s', messages=True).", "s") == (
        "Read them with `ledger show s --messages`."
    )
    assert in_commands("There is no session {x} at (all).") == "There is no session {x} at (all)."


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("set SESSION summary x", "Reopen it with `ledger restore SESSION`."),
        ("archive SESSION", "Reopen it with `ledger restore SESSION` first."),
        ("expire SESSION", "Reopen it with `ledger restore SESSION` first."),
        ("fork SESSION", "Reopen it with `ledger restore SESSION` first."),
        ("list --shared", "--shared lists the sessions shared with a user: name the user with --user."),
        ("list --since 2026-11-21T09:00:00", "add one, for example 2026-11-21T09:00:00Z."),
        ("set nowhere summary x", "There is no session nowhere; create it with `ledger new QUESTION`."),
        (
            "new q --ttl-hours 1000",
            "--ttl-hours is 1000 h, but every session of this ledger expires within 168 h (LEDGER_SESSION_MAX_TTL",
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

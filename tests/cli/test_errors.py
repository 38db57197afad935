"""What the command line does with bad input: one line, a stable exit code, nothing that moves a terminal's cursor."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ledger import errors
from ledger.cli.exits import EXIT_CODES, FILES, PIPE_CLOSED, USAGE, OneLineErrors, exit_code_of
from ledger.cli.interrupts import INTERRUPTED
from ledger.cli.output.text import one_line, safe
from support.shell import Shell

CLASSES = [getattr(errors, name) for name in errors.__all__]
#: What an agent may have written: rich's markup, colours, a title, a hidden line, C1 controls, a turn of direction.
EVIL = "[bold red]x[/] \x1b[31mred\x1b[0m \x1b]0;title\x07 a\rb \x9b2J \x08 \u202eabc :smile:"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_of_error_has_an_exit_code(kind: type[errors.LedgerError]) -> None:
    assert kind in EXIT_CODES


def test_exit_codes_are_stable() -> None:
    assert {kind.__name__: code for kind, code in EXIT_CODES.items()} == {
        "LedgerError": 1,
        "InvalidInput": 3,
        "MessagesNotRead": 3,
        "SessionNotFound": 4,
        "PermissionDenied": 5,
        "WrongExpectedVersion": 6,
        "IdempotencyConflict": 7,
        "ValueTooLarge": 8,
        "CorruptEvent": 9,
        "UpcastMissing": 10,
        "CapabilityMissing": 11,
        "ConfigurationError": 12,
        "MissingExtra": 13,
        "SessionEnded": 14,
        "WitnessFailed": 16,
        "StoreError": 20,
        **dict.fromkeys(("StoreUnavailable", "LeaseHeld", "LeaseLost", "StreamEnded"), 21),
        "OutcomeUnknown": 22,
        **dict.fromkeys(("StoreRejected", "SessionArchived", "ArchiveLost", "RowsRefused"), 23),
        "BudgetExceeded": 24,
    }
    assert not {USAGE, FILES, INTERRUPTED, PIPE_CLOSED} & set(EXIT_CODES.values())


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_of_every_class_is_one_line_and_its_exit_code(kind: type[errors.LedgerError]) -> None:
    @click.command(cls=OneLineErrors)
    def failing() -> None:
        raise kind("It\nbroke \x1b[31m.")

    result = CliRunner().invoke(failing)
    assert result.stderr == f"error: It broke \\u001b[31m. ({kind.code})\n"
    assert result.exit_code == EXIT_CODES[kind]


def test_an_error_of_a_new_class_has_the_exit_code_of_the_class_above() -> None:
    class DiskOnFire(errors.StoreRejected):
        pass

    assert exit_code_of(DiskOnFire("hot")) == EXIT_CODES[errors.StoreRejected]


def test_an_interrupt_and_a_file_error_are_one_line() -> None:
    @click.command(cls=OneLineErrors)
    @click.argument("what")
    def failing(what: str) -> None:
        raise KeyboardInterrupt if what == "interrupt" else PermissionError(13, "Permission denied", "some.file")

    interrupted, refused = CliRunner().invoke(failing, ["interrupt"]), CliRunner().invoke(failing, ["file"])
    assert (interrupted.exit_code, interrupted.stderr) == (130, "error: Interrupted. (interrupted)\n")
    assert (refused.exit_code, refused.stderr) == (30, "error: some.file: Permission denied. (file_error)\n")


OF_A_SESSION = [["show", "x"], ["history", "x"], ["diff", "x", "0"], ["export", "x"]]
READS = [*OF_A_SESSION, ["list"], ["sql", "SELECT 1"], ["export"], ["backup", "b"]]
CHANGES = [["set", "x", "title", "t"], ["message", "x", "user", "hi"], ["tool", "x", "t", "running"]]


@pytest.mark.parametrize("args", READS + CHANGES, ids=str)
def test_commands_on_a_ledger_refuse_a_missing_file_and_make_none(shell: Shell, args: list[str]) -> None:
    code, message = shell.fails(*args)
    assert code == 12
    assert "ledger init" in message
    assert not list(shell.path.parent.iterdir())


@pytest.mark.parametrize("args", OF_A_SESSION + CHANGES, ids=str)
def test_an_unknown_session_is_session_not_found(shell: Shell, args: list[str]) -> None:
    shell.ok("init")
    code, message = shell.fails(*args)
    assert code == 4
    assert "There is no session x" in message


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("foo", "sqlite:///ledger.db"),
        ("postgres://x/y", "bigquery://PROJECT/DATASET"),
        ("sqlite://", "sqlite:///ledger.db"),
        ("sqlite:///", "sqlite:///ledger.db"),
        ("sqlite:///a.db?color=red", "synchronous"),
        ("bigquery://project", "bigquery://PROJECT/DATASET"),
        ("bigquery://my-project/d d", "dataset id"),
        ("bigquery://UP/d", "project id"),
        ("bigquery://my-project/d?color=red", "appends, transport, location"),
        ("bigquery://my-project/d?appends=maybe", "lenient or strict"),
    ],
)
def test_a_malformed_url_says_what_one_looks_like(shell: Shell, url: str, said: str) -> None:
    code, message = shell.fails("list", "--url", url)
    assert code == 12
    assert said in message


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(shell: Shell) -> None:
    shell.path.write_bytes(b"hello, I am a text\n" * 100)
    assert shell.fails("list")[0] == 12
    assert shell.path.read_bytes() == b"hello, I am a text\n" * 100
    shell.path.unlink()
    with sqlite3.connect(shell.path) as other:
        other.execute("CREATE TABLE theirs (a)")
    other.close()
    code, message = shell.fails("new", "q")
    assert code == 12
    assert "another program" in message


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["bogus"], USAGE),
        (["show"], USAGE),
        (["list", "--limit", "0"], USAGE),
        (["list", "--limit", "many"], USAGE),
        (["list", "--since", "yesterday"], USAGE),
        (["show", "SESSION", "--version", "0"], USAGE),
        (["show", "SESSION", "--version", "99"], 3),
        (["show", "SESSION", "--last", "2", "--version", "1"], USAGE),
        (["list", "--after", "nonsense"], 3),
        (["list", "--attribute", "topic"], 3),
        (["list", "--attribute", "n:={"], 3),
        (["set", "SESSION", "colour", "red"], 3),
        (["set", "SESSION", "user_id", "eve"], 3),
        (["set", "SESSION", "constraints", "kpi"], 3),
        (["set", "SESSION", "constraints", "[1]"], 3),
        (["set", "SESSION", "attribute", "1"], 3),
        (["set", "SESSION", "title", "a", "--key", "k"], 3),
        (["set", "SESSION", "title"], USAGE),
        (["set", "SESSION", "title", "a", "--remove"], USAGE),
        (["set", "SESSION", "status", "Not A Word"], 3),
        (["set", "SESSION", "title", "a", "--expected-version", "7"], 6),
        (["set", "SESSION", "title", "a", "--actor", ""], 3),
        (["message", "SESSION", "robot", "hi"], USAGE),
        (["message", "SESSION", "user", "hi", "--metadata", "x"], 3),
        (["tool", "SESSION", "t", "done"], USAGE),
        (["tool", "SESSION", "t", "completed", "--result", "{"], 3),
        (["tool", "SESSION", "t", "completed", "--result", "1", "--result-text", "1"], USAGE),
        (["new", "q", "--user", " x"], 3),
        (["new", "q", "--id", "SESSION"], 6),
        (["new", "q", "--id", "x" * 256], 3),
        (["diff", "SESSION", "9"], 3),
        (["sql", "SELEC 1"], 3),
        (["sql", "DELETE FROM session_events WHERE true"], 3),
        (["sql", "SELECT * FROM nowhere"], 3),
        (["sql", "SELECT @a", "--param", "a"], 3),
        (["import", "missing.jsonl"], USAGE),
        (["import", "-", "--user", "eve"], USAGE),
        (["export", "--json"], USAGE),
    ],
    ids=str,
)
def test_bad_input_is_one_line_and_writes_nothing(shell: Shell, args: list[str], code: int) -> None:
    session_id = shell.ok("new", "q").strip()
    args = [arg.replace("SESSION", session_id) for arg in args]
    assert shell.fails(*args)[0] == code
    assert shell.json("show", session_id)["version"] == 1
    assert len(shell.json("list")["sessions"]) == 1


def test_an_event_id_used_for_something_else_is_a_conflict(shell: Shell) -> None:
    session_id = shell.ok("new", "q").strip()
    shell.ok("set", session_id, "title", "a", "--event-id", "k")
    assert shell.fails("set", session_id, "title", "b", "--event-id", "k")[0] == 7


def test_a_value_over_the_limit_names_the_limit(shell: Shell, tmp_path: Path) -> None:
    session_id = shell.ok("new", "q").strip()
    (tmp_path / "large").write_text("x" * 8_000_001)
    code, message = shell.fails("set", session_id, "summary", "--from", str(tmp_path / "large"))
    assert code == 8
    assert "8,000,000" in message


def test_text_that_is_not_utf8_is_refused(shell: Shell) -> None:
    session_id = shell.ok("new", "q").strip()
    code, message = shell.fails("message", session_id, "user", "--from", "-", stdin=b"caf\xe9")
    assert (code, "UTF-8" in message) == (3, True)


def test_a_backup_never_overwrites(shell: Shell, tmp_path: Path) -> None:
    shell.ok("init")
    (tmp_path / "mine").write_text("mine")
    assert shell.fails("backup", str(tmp_path / "mine"))[0] == 23
    assert (tmp_path / "mine").read_text() == "mine"


def evil_session(shell: Shell) -> str:
    session_id = shell.ok("new", EVIL, "--title", EVIL, "--attribute", f"a={EVIL}").strip()
    shell.ok("message", session_id, "user", EVIL)
    shell.ok("set", session_id, "context", EVIL, "--key", "[red]k[/red]")
    shell.ok("tool", session_id, "[blink]t", "failed", "--result-text", EVIL)
    return session_id


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("args", ["show {} --messages", "history {}", "diff {} 1", "list", "sql {sql}"])
def test_nothing_that_agents_wrote_reaches_the_terminal_raw_or_as_markup(
    shell: Shell, args: str, as_json: bool
) -> None:
    session_id = evil_session(shell)
    sql = "SELECT title, session_id FROM sessions"
    parts = [part.format(session_id, sql=sql) for part in args.split()]
    shown = shell.ok(*parts, *(["--json"] if as_json else []))
    assert "[bold red]x[/] \\u001b[" in shown
    assert not [char for char in shown if char != "\n" and not char.isprintable()]
    if not as_json:
        assert "😄" not in shown


def test_json_with_escapes_still_says_exactly_what_was_recorded(shell: Shell) -> None:
    session_id = evil_session(shell)
    assert shell.json("show", session_id)["question"] == EVIL
    assert shell.json("sql", "SELECT question FROM sessions")["rows"] == [{"question": EVIL}]


def test_errors_do_not_carry_escapes_either(shell: Shell) -> None:
    shell.ok("init")
    assert "\x1b" not in shell.fails("show", "\x1b[31m")[1]


def test_text_is_made_safe_and_kept_otherwise() -> None:
    assert safe("a\tb\nc é 漢 🙂") == "a\tb\nc é 漢 🙂"
    assert (
        safe("\x00\x1b\x7f\x85\u2028\u202e\u2066\ud800") == "\\u0000\\u001b\\u007f\\u0085\\u2028\\u202e\\u2066\\ud800"
    )
    assert one_line("a\n  b\x1b", 10) == "a b\\u001b"
    assert one_line("abcdef", 4) == "abc…"
    assert one_line("abcd", 4) == "abcd"


def test_a_user_without_a_name_is_told_how_to_give_one(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise OSError("No username set in the environment")

    monkeypatch.setattr("getpass.getuser", nameless)
    code, error = shell.fails("new", "q", LEDGER_USER="")
    assert code == 12
    assert "LEDGER_USER" in error

"""Parts of ids and @ as SESSION_ID, the groups of the help, and completion by a shell."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.cli.app import COMMANDS, GROUPS
from ledger.testing import SetClock
from support.shell import Shell


@pytest.fixture
def three(shell: Shell) -> list[str]:
    """The ids of three sessions: a generated one, and two that begin alike."""
    shell.ok("new", "One", "--id", "report-anna")
    shell.ok("new", "Two", "--id", "report-bert")
    return ["report-anna", "report-bert", shell.ok("new", "Three").strip()]


def test_the_beginning_or_the_end_of_an_id_will_do(shell: Shell, three: list[str]) -> None:
    generated = three[2]
    for part in (generated[:8], generated[:20], generated[-6:], generated):
        assert shell.json("show", part)["session_id"] == generated
    assert shell.ok("message", generated[-6:], "user", "Hi") == f"{generated} is at version 2.\n"
    shell.ok("message", "report-anna", "user", "Hi")
    assert shell.json("compare", "report-a", "bert")["other_session_id"] == "report-bert"
    assert shell.json("search", "hi", "--session", "report-a")["matches"][0]["session_id"] == "report-anna"
    assert shell.ok("export", "bert", generated[-6:]).count("\n") == 3
    shell.ok("delete", generated[:13])
    assert shell.ok("restore", generated[:13]).startswith(f"{generated} is at version")


def test_a_part_that_is_too_short_is_told_so(shell: Shell, three: list[str]) -> None:
    said = "A part of a session id has at least 4 characters; type more of the id. (session_not_found)"
    for command in ("delete", "show", "export", "history"):
        assert shell.fails(command, three[2][:3]) == (4, f"There is no session {three[2][:3]}. {said}")
    assert "at least 4 characters" not in shell.fails("delete", "nobody")[1]
    assert shell.ok("new", "Short", "--id", "abc") == "abc\n"
    assert shell.json("show", "abc")["session_id"] == "abc"


def test_at_is_the_newest_session(shell: Shell, three: list[str]) -> None:
    assert shell.json("show", "@")["session_id"] == three[2]
    shell.ok("delete", "@")
    assert shell.json("show", "@")["session_id"] == "report-bert"


def test_at_in_an_empty_ledger_says_how_to_begin(shell: Shell) -> None:
    shell.ok("init")
    assert shell.fails("show", "@") == (
        4,
        'There is no session; create one with: ledger new "QUESTION" (session_not_found)',
    )


def test_a_part_of_several_ids_is_refused_with_the_candidates(shell: Shell, three: list[str]) -> None:
    assert shell.fails("show", "report") == (
        3,
        "report is part of several session ids: report-anna, report-bert. Type more of the id. (invalid_input)",
    )
    for number in range(9):
        shell.ok("new", "More", "--id", f"more-{number}")
    assert "more-0, more-1, more-2, more-3, more-4 and more." in shell.fails("show", "more")[1]
    assert [it["status"] for it in shell.json("list")["sessions"]] == ["active"] * 12


def test_an_id_that_begins_another_one_is_itself(shell: Shell) -> None:
    for session_id in ("report", "report-2", "the-report"):
        shell.ok("new", "q", "--id", session_id)
    assert shell.json("show", "report")["session_id"] == "report"


@pytest.mark.parametrize("part", ["", "a", "ert", "%%%%", "____", "nowhere", "report-anna "])
def test_what_is_no_part_or_too_short_is_not_found(shell: Shell, three: list[str], part: str) -> None:
    assert shell.fails("show", part)[0] in (3, 4)


def test_an_id_of_a_new_session_is_taken_as_it_is(shell: Shell, three: list[str]) -> None:
    assert shell.ok("new", "q", "--id", "report") == "report\n"
    assert shell.ok("fork", "report-anna", "--id", "repo") == "repo\n"


def test_without_an_index_of_ids_the_beginning_tells_the_day(
    shell: Shell, stand_still: Callable[[], SetClock], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = stand_still()
    ids = []
    for _ in range(3):
        ids.append(shell.ok("new", "q").strip())
        clock.move(3600)
    monkeypatch.setattr("ledger.stores.base.outbox_store", lambda store: None)  # as in BigQuery
    for part in (ids[1][:8], ids[1][:13], ids[1][:30]):
        assert shell.json("show", part)["session_id"] == ids[1]
    for part in (ids[1][:7], ids[1][-6:], "ffffffff", "report"):
        assert shell.fails("show", part)[0] == 4
    assert shell.json("show", "@")["session_id"] == ids[2]


def test_the_help_has_every_command_in_one_group(shell: Shell) -> None:
    shown = shell.ok("--help")
    assert [line for line in shown.splitlines() if line.rstrip(":") in GROUPS] == [f"{name}:" for name in GROUPS]
    assert sum(len(names) for names in GROUPS.values()) == len(COMMANDS)
    assert all(f"\n  {name} " in shown for name in COMMANDS)
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(("name", "says"), [("bash", "complete -o"), ("zsh", "#compdef ledger"), ("fish", "complete ")])
def test_a_shell_completes_by_a_script_that_the_command_prints(shell: Shell, name: str, says: str) -> None:
    assert says in shell.ok("completion", name)
    assert shell.json("completion", name)["script"] + "\n" == shell.ok("completion", name)
    assert shell.fails("completion", "tcsh")[0] == 2


def test_bash_completes_commands_and_values(shell: Shell, tmp_path: Path) -> None:
    program = tmp_path / "ledger"
    program.write_text(f"#!{sys.executable}\nfrom ledger.cli import main\nmain()\n")
    program.chmod(0o755)
    (tmp_path / "completion").write_text(shell.ok("completion", "bash"))
    words = (("arc", "archive"), ("message x assi", "assistant"), ("nonsense x", ""))
    for typed, completed in words:
        script = (
            f"source completion; PATH={tmp_path}:$PATH; COMP_WORDS=(ledger {typed}); "
            f"COMP_CWORD={len(typed.split())}; _ledger_completion ledger; echo ${{COMPREPLY[@]}}"
        )
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert (done.stdout.strip(), done.stderr) == (completed, "")


def test_no_part_of_an_id_of_the_callers_own_names_a_session(shell: Shell) -> None:
    for own in ("user-12", "abcd-ef01"):
        shell.ok("new", "q", "--id", own)
        for command in (
            ("message", own[:-1], "user", "hi"),
            ("grant", own[:-1], "mallory", "read"),
            ("delete", own[:-1]),
        ):
            assert "no session" in shell.fails(*command)[1].lower()
        assert shell.json("show", own)["version"] == 1


def test_a_session_whose_own_id_is_the_sign_for_the_newest_comes_first(shell: Shell) -> None:
    shell.ok("new", "first", "--id", "@")
    newest = shell.ok("new", "second").strip()
    shell.ok("delete", "@")
    assert shell.json("show", newest)["status"] == "active"
    assert shell.json("show", "@")["question"] == "first"

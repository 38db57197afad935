"""The doctor: finds what is missing, says how to mend it, changes nothing and shows no secret."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support.shell import Shell


def examined(shell: Shell, *args: str, **environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and findings by name."""
    result = shell("doctor", "--json", *args, HOME=str(shell.path.parent), **environment)
    found = json.loads(result.stdout)
    assert list(found) == ["healthy", "findings"]
    assert found["healthy"] is (result.exit_code == 0)
    return result.exit_code, {finding["what"]: finding for finding in found["findings"]}


def state_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_healthy_ledger_is_healthy_and_left_as_it_is(shell: Shell) -> None:
    shell.ok("new", "q")
    before = state_of(shell.path.parent)
    code, findings = examined(shell)
    assert code == 0
    assert findings["file"]["status"] == "ok"
    assert findings["file"]["detail"].endswith(", 1 session")
    assert findings["writable"]["status"] == findings["schema"]["status"] == "ok"
    assert findings["synchronous"]["detail"].startswith("FULL")
    assert findings["google"]["status"] == "note"
    assert state_of(shell.path.parent) == before


def test_a_ledger_without_its_id_is_a_problem_that_no_other_command_mends(shell: Shell) -> None:
    """Every command reads the id first, so neither the doctor nor an error advises to run another one."""
    shell.ok("new", "q")
    with closing(sqlite3.connect(shell.path)) as connection, connection:
        connection.execute("DELETE FROM meta WHERE name = 'store_id'")
    says = "(store_id is missing). No command can open the file without it; restore a backup."
    code, findings = examined(shell)
    assert (code, findings["file"]["status"]) == (1, "problem")
    assert says in findings["file"]["detail"]
    for command in ("verify", "list"):
        failed = shell(command)
        assert failed.exit_code == 9
        assert says in failed.stderr


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("LEDGER_RELAY", "backgruond", "'backgruond'; it must be off or background"),
        ("LEDGER_SESSION_MAX_TTL_HOURS", "a week", "'a week'; it must be hours above 0"),
        ("LEDGER_SESSION_DEFAULT_TTL_HOURS", "-1", "-1.0; it must be hours above 0"),
        ("LEDGER_SESSION_DEFAULT_TTL_HOURS", "200", "is more than max_ttl_hours"),
        ("LEDGER_WAREHOUSE", "postgres://ada:secret@host/db", "'postgres://***@host/db'; it must look like"),
    ],
)
def test_a_setting_that_no_program_could_use_is_a_problem(shell: Shell, name: str, value: str, says: str) -> None:
    shell.ok("new", "q")
    code, findings = examined(shell, **{"LEDGER_SESSION_MAX_TTL_HOURS": "168", name: value})
    assert (code, findings[name]["status"]) == (1, "problem")
    assert says in findings[name]["detail"]
    assert "secret" not in str(findings)
    assert findings[name]["remedy"] == f"correct or unset {name}"


def test_a_missing_ledger_is_a_problem_with_a_remedy_and_none_is_made(shell: Shell) -> None:
    code, findings = examined(shell)
    assert (code, findings["file"]["status"]) == (1, "problem")
    assert "ledger init" in findings["file"]["remedy"]
    assert not list(shell.path.parent.iterdir())


@pytest.mark.parametrize("url", ["nonsense", "sqlite:///x.db?color=red"])
def test_a_malformed_url_is_a_problem(shell: Shell, url: str) -> None:
    code, findings = examined(shell, "--url", url)
    assert (code, findings["url"]["status"]) == (1, "problem")


def test_a_file_that_is_no_ledger_is_a_problem(shell: Shell) -> None:
    shell.path.write_bytes(b"text " * 1000)
    assert examined(shell)[1]["file"]["status"] == "problem"
    shell.path.unlink()
    with sqlite3.connect(shell.path) as other:
        other.execute("CREATE TABLE theirs (a)")
    other.close()
    code, findings = examined(shell)
    assert (code, findings["file"]["detail"]) == (1, f"{shell.path} is a SQLite database of another program")


def test_a_schema_of_newer_code_is_a_problem_and_an_older_one_a_note(shell: Shell) -> None:
    shell.ok("init")
    for version, status in ((99, "problem"), (1, "note")):
        with sqlite3.connect(shell.path) as connection:
            connection.execute(f"PRAGMA user_version = {version}")
        connection.close()
        assert examined(shell)[1]["schema"]["status"] == status


def test_faster_appends_are_noted_and_unknown_durability_is_a_problem(shell: Shell) -> None:
    shell.ok("init")
    assert examined(shell, "--url", f"{shell.url}?synchronous=NORMAL")[1]["synchronous"]["status"] == "note"
    assert examined(shell, "--url", f"{shell.url}?synchronous=OFF")[1]["synchronous"]["status"] == "problem"


def test_secrets_are_never_shown_only_that_they_are_there(shell: Shell, tmp_path: Path) -> None:
    shell.ok("init")
    key = tmp_path / "key.json"
    key.write_text('{"private_key": "s3cret"}')
    settings = {"LEDGER_TOKEN": "s3cret", "GOOGLE_APPLICATION_CREDENTIALS": str(key)}
    code, findings = examined(shell, **settings)
    assert code == 0
    assert findings["LEDGER_TOKEN"]["detail"] == "set"
    assert findings["google"]["detail"] == "credentials are configured"
    assert "s3cret" not in json.dumps(findings)


def test_credentials_that_are_not_where_they_are_said_to_be_are_a_problem(shell: Shell) -> None:
    shell.ok("init")
    assert examined(shell, GOOGLE_APPLICATION_CREDENTIALS="/nowhere/key.json")[1]["google"]["status"] == "problem"


def test_an_emulator_needs_no_credentials(shell: Shell) -> None:
    shell.ok("init")
    _, findings = examined(shell, BIGQUERY_EMULATOR_HOST="http://localhost:9050")
    assert findings["BIGQUERY_EMULATOR_HOST"]["detail"] == "http://localhost:9050"
    assert findings["google"]["status"] == "ok"


def test_people_see_marks_and_remedies(shell: Shell) -> None:
    shown = shell("doctor", HOME=str(shell.path.parent)).stdout
    assert "✗  file" in shown
    assert "-> create it with `ledger init`, or check LEDGER_URL" in shown

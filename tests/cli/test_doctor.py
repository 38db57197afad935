"""The doctor: finds what is missing, says how to mend it, changes nothing and shows no secret."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ledger.cli.doctor import sqlite
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
    assert findings["append"]["status"] == findings["schema"]["status"] == "ok"
    assert findings["synchronous"]["detail"].startswith("FULL")
    assert findings["google"]["status"] == "note"
    assert state_of(shell.path.parent) == before


def test_a_folder_of_credentials_that_cannot_be_examined_is_one_line(shell: Shell) -> None:
    shell.ok("new", "q")
    code, findings = examined(shell, CLOUDSDK_CONFIG="/" + "x" * 5000)
    assert (code, findings["file"]["status"], findings["google"]["status"]) == (0, "ok", "note")


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
        ("LEDGER_SESSION_DEFAULT_TTL_HOURS", "soon", "'soon'; it must be hours above 0"),
        ("LEDGER_RELAY", "background", "no warehouse is named"),
        ("LEDGER_USER", " ada", "LEDGER_USER"),
        ("LEDGER_SESSION_RETENTION_DAYS", "-1", "session_retention_days"),
        ("SESSION_MAX_QUERIES_PER_SESSION", "many", "session_max_queries_per_session"),
        ("LEDGER_SESSION_ENABLE_ANALYTICS", "perhaps", "session_enable_analytics"),
        ("SESSION_MAX_TTL_HOURS", "12", "is more than session_max_ttl_hours"),
        ("POSTGRES_PORT", "5432/tcp", "must be a whole number above 0"),
        ("COLUMNS", "-80", "must be a whole number above 0"),
        ("DEBUG_SESSION_STATES", "ja", "must be one of 0, 1, true"),
        ("BIGQUERY_EMULATOR_HOST", "9050", "BIGQUERY_EMULATOR_HOST"),
        ("BIGQUERY_EMULATOR_GRPC_HOST", "localhost", "BIGQUERY_EMULATOR_GRPC_HOST"),
        ("GOOGLE_CLOUD_PROJECT", "My Project", "is not a project id"),
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


def test_settings_that_contradict_each_other_are_a_problem_and_good_ones_are_none(shell: Shell) -> None:
    shell.ok("new", "q")
    hours = {"LEDGER_SESSION_DEFAULT_TTL_HOURS": "200", "LEDGER_SESSION_MAX_TTL_HOURS": "168"}
    code, findings = examined(shell, **hours)
    assert code == 1
    found = findings["LEDGER_SESSION_DEFAULT_TTL_HOURS"]["detail"]
    assert found.startswith("The default TTL is more than the maximum TTL; check")
    good = {
        "LEDGER_SESSION_DEFAULT_TTL_HOURS": "none",
        "SESSION_DEFAULT_TTL_HOURS": "200",
        "SESSION_MAX_TTL_HOURS": "300",
        "LEDGER_SESSION_ENABLE_ANALYTICS": "false",
        "LEDGER_USER": "ada",
        "COLUMNS": "100",
        "DEBUG_SESSION_STATES": "1",
        "GOOGLE_CLOUD_PROJECT": "my-project",
        "BIGQUERY_EMULATOR_HOST": "localhost:9050",
        "BIGQUERY_EMULATOR_GRPC_HOST": "[::1]:9060",
    }
    assert examined(shell, **good)[0] == 0


def test_a_misspelt_setting_is_noted_with_the_right_name(shell: Shell) -> None:
    shell.ok("new", "q")
    code, findings = examined(shell, LEDGER_WAREHUSE="duckdb:///w.duckdb")
    assert (code, findings["LEDGER_WAREHUSE"]["status"]) == (0, "note")
    assert findings["LEDGER_WAREHUSE"]["remedy"] == "did you mean LEDGER_WAREHOUSE?"


def test_appends_are_tried_and_nothing_of_the_trial_stays(shell: Shell) -> None:
    shell.ok("new", "q")
    code, findings = examined(shell)
    assert (code, findings["append"]["detail"]) == (0, "a trial append succeeded, and was rolled back")
    assert len(shell.json("list")["sessions"]) == 1
    assert not shell.json("verify")["findings"]
    with closing(sqlite3.connect(shell.path)) as connection, connection:
        connection.execute("CREATE TRIGGER theirs BEFORE INSERT ON session_events BEGIN SELECT RAISE(FAIL, 'no'); END")
    code, findings = examined(shell)
    assert (code, findings["append"]["status"]) == (1, "problem")
    assert "no" in findings["append"]["detail"]


def test_a_ledger_that_another_process_holds_is_found_to_take_no_appends(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.ok("new", "q")
    monkeypatch.setattr(sqlite, "SECONDS", 0.05)
    with closing(sqlite3.connect(shell.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        code, findings = examined(shell)
    assert (code, findings["append"]["status"]) == (1, "problem")
    assert "is locked by another process" in findings["append"]["detail"]


def test_the_maximum_size_is_compared_with_the_size_of_the_file(shell: Shell) -> None:
    shell.ok("new", "q")
    size = shell.path.stat().st_size
    assert examined(shell, "--url", f"{shell.url}?max_bytes={size * 10}")[1]["max_bytes"]["status"] == "ok"
    code, findings = examined(shell, "--url", f"{shell.url}?max_bytes={size + 1}")
    assert (code, findings["max_bytes"]["status"]) == (0, "note")
    assert findings["max_bytes"]["detail"].endswith("of which 100% are used")
    code, findings = examined(shell, "--url", f"{shell.url}?max_bytes=1000")
    assert (code, findings["append"]["status"]) == (1, "problem")
    assert findings["max_bytes"]["detail"] == "1,000 bytes, of which more than 100% are used"
    assert "has reached its maximum of 1,000 bytes" in findings["append"]["detail"]


def test_pages_that_were_freed_do_not_count_for_the_maximum_size(shell: Shell) -> None:
    shell.ok("new", "x" * 300_000, "--id", "large")
    shell.ok("delete", "large")
    url = f"{shell.url}?max_bytes={shell.path.stat().st_size}"
    assert examined(shell, "--url", url)[1]["max_bytes"]["status"] == "note"
    shell.ok("purge", "large")
    assert examined(shell, "--url", url)[1]["max_bytes"]["status"] == "ok"


def test_a_ledger_that_is_opened_to_be_read_needs_no_append(shell: Shell) -> None:
    shell.ok("new", "q")
    code, findings = examined(shell, "--url", f"{shell.url}?mode=ro")
    assert (code, findings["append"]["status"]) == (0, "note")
    assert findings["append"]["detail"] == "not tried: the ledger is read-only: its URL says mode=ro"


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
    assert findings["LEDGER_TOKEN"]["detail"] == "set, but the ledger reads no variable of this name"
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

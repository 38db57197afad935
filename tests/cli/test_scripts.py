"""The scripts, run as people run them: ``python scripts/x.py`` from a checkout."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"


class Scripts:
    """Runs a script in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, *args: str) -> subprocess.CompletedProcess[str]:
        outer = ("LEDGER_", "BIGQUERY_", "GOOGLE_", "CLOUDSDK_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(outer)}
        # Nobody's credentials are found, nor asked for at a machine of Google's.
        environment |= {"HOME": str(self.folder / "home"), "NO_GCE_CHECK": "true"}
        return subprocess.run(
            [sys.executable, str(SCRIPTS / name), *args],
            cwd=self.folder,
            env=environment | {"COLUMNS": "100", "LEDGER_USER": "ada", "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    def ok(self, name: str, *args: str) -> str:
        done = self(name, *args)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def run(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


@pytest.mark.parametrize("name", ["test_session_v2.py", "test_enhanced_session.py"])
def test_the_two_checks_pass_and_leave_nothing_behind(run: Scripts, name: str) -> None:
    shown = run.ok(name).splitlines()
    assert len(shown) > 8
    assert all(line.startswith("ok    ") for line in shown[:-1])
    assert shown[-1] == f"{len(shown) - 1} of {len(shown) - 1} checks passed."
    assert not list(run.folder.iterdir())


def test_a_check_that_fails_says_so_and_ends_with_1() -> None:
    program = (
        "from ledger.cli.scripts.checks import script\n"
        "def check(manager, checks):\n"
        "    'Check.'\n"
        "    checks.equal('one is two', 1, 2)\n"
        "    checks.equal('one is one', 1, 1)\n"
        "script(check)()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "FAIL  one is two: 1, not 2\nok    one is one\n1 of 2 checks passed.\n"
    assert done.returncode == 1


def test_pytest_does_not_collect_the_scripts(pytestconfig: pytest.Config) -> None:
    """Some of them are named as its test modules are; it looks where it is told to, which is elsewhere."""
    assert list(SCRIPTS.glob("test_*.py"))
    folders = [pytestconfig.rootpath / name for name in pytestconfig.getini("testpaths")]
    assert folders == [ROOT / "tests"]


def test_users_import_the_manager_under_the_name_they_know(run: Scripts) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from session_manager_v2 import SessionManagerV2\n"
        "manager = SessionManagerV2()\n"
        "session_id = manager.create_session(user_id='user123', question='What?')\n"
        "print(manager.get_session(session_id)['question'])\n"
        "manager.close()"
    )
    command = [sys.executable, "-c", program, str(SCRIPTS)]
    done = subprocess.run(command, cwd=run.folder, capture_output=True, text=True, check=True)
    assert done.stdout == "What?\n"
    assert (run.folder / "ledger.db").exists()


def test_sessions_are_created_and_queried(run: Scripts) -> None:
    ids = [run.ok("create_test_session.py", f"Question {number}?").strip() for number in range(12)]
    listed = run.ok("query_sessions.py").splitlines()
    assert [line.split()[0] for line in listed[1:]] == ids[:1:-1], "ten by default, the newest first"
    assert len(run.ok("query_sessions.py", "--limit", "5").splitlines()) == 6
    by_update = run.ok("query_sessions.py", "--order-by", "updated", "--limit", "12").splitlines()
    assert [line.split()[0] for line in by_update[1:]] == ids[::-1], "no session has a second event"
    assert "Question 3?" in run.ok("query_sessions.py", ids[3])
    details = run.ok("query_sessions.py", "--details", "--limit", "2")
    assert details.count("question  ") == 2
    (found,) = json.loads(run.ok("query_sessions.py", ids[0], "--format", "json"))
    assert run.ok("query_sessions.py", ids[0], "--json") == run.ok("query_sessions.py", ids[0], "--format", "json")
    assert (found["session_id"], found["question"], found["user_id"]) == (ids[0], "Question 0?", "ada")
    rows = list(csv.DictReader(io.StringIO(run.ok("query_sessions.py", "--format", "csv", "--limit", "2"))))
    assert [row["question"] for row in rows] == ["Question 11?", "Question 10?"]
    assert list(json.loads(run.ok("create_test_session.py", "q", "--json"))) == ["session_id"]


def test_an_unknown_session_and_a_missing_ledger_are_one_line(run: Scripts) -> None:
    missing = run("query_sessions.py")
    assert (missing.returncode, missing.stderr.count("\n")) == (12, 1)
    run.ok("create_test_session.py", "q")
    unknown = run("query_sessions.py", "nobody")
    assert (unknown.returncode, unknown.stdout) == (4, "")
    assert unknown.stderr.startswith("error: There is no session nobody.")


def test_the_dry_run_prints_every_statement_bound_to_project_and_dataset(run: Scripts) -> None:
    place = ("--project", "my-project", "--dataset", "sessions", "--location", "EU")
    lifetimes = ("--partition-expiration-days", "400", "--max-ttl-hours", "168")
    shown = run.ok("create_sessions_table.py", *place, *lifetimes, "--dry-run")
    assert shown.startswith("CREATE SCHEMA IF NOT EXISTS `my-project.sessions` OPTIONS (location = 'EU', labels = [('")
    for path in sorted((ROOT / "sql").rglob("*.sql")):
        if path.parent.name in ("tables", "views", "functions"):
            assert f"`my-project.sessions.{path.stem}`" in shown
    assert "${" not in shown
    assert "ALTER TABLE `my-project.sessions.session_events` SET OPTIONS (partition_expiration_days = 400);" in shown
    assert not list(run.folder.iterdir())


def test_the_dry_run_needs_no_credentials_and_takes_the_dataset_of_a_url_as_well(run: Scripts) -> None:
    url = ("--url", "bigquery://my-project/sessions?location=EU")
    options = ("--require-partition-filter", "--label", "team=a", "--kms-key", "projects/p/cryptoKeys/k")
    found = json.loads(run.ok("create_sessions_table.py", *url, *options, "--dry-run", "--json"))
    assert "CREATE SCHEMA IF NOT EXISTS `my-project.sessions` OPTIONS (location = 'EU'" in found["statements"][0]
    assert found["statements"][-1].startswith("ALTER TABLE `my-project.sessions.")
    settings = "(require_partition_filter = TRUE, kms_key_name = 'projects/p/cryptoKeys/k', labels = [('team', 'a')])"
    assert f"ALTER TABLE `my-project.sessions.session_events` SET OPTIONS {settings};\n" in found["statements"]


def test_without_a_project_the_tables_are_made_here(run: Scripts) -> None:
    assert run.ok("create_sessions_table.py").startswith("The ledger sqlite:///")
    assert list(json.loads(run.ok("create_sessions_table.py", "--json"))) == ["url", "store_id", "warehouse"]
    assert {"ledger.db", "ledger.duckdb"} <= {path.name for path in run.folder.iterdir()}


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--project", "my-project", "--dataset", "d"], 12),
        (["--project", "my-project", "--dataset", "d", "--url", "sqlite:///x.db"], 2),
        (["--project", "my-project", "--dataset", "d", "--partition-expiration-days", "7"], 12),
        (
            ["--project", "my-project", "--dataset", "d", "--partition-expiration-days", "7", "--max-ttl-hours", "168"],
            12,
        ),
        (["--project", "my-project", "--dataset", "d", "--kms-key", "key"], 12),
        (["--project", "my-project", "--dataset", "d", "--label", "Team=a"], 12),
        (["--project", "my-project"], 2),
        (["--project", "x`; DROP", "--dataset", "d", "--dry-run"], 12),
        (["--project", "my-project", "--dataset", "d d", "--dry-run"], 12),
        (["--project", "my-project", "--dataset", "d", "--location", "E'U", "--dry-run"], 12),
        (["--project", "my-project", "--dataset", "d", "--max-ttl-hours", "720"], 2),
        (["--partition-expiration-days", "0"], 2),
        (["--partition-expiration-days", "30"], 2),
        (["--label", "team=a"], 2),
        (["--url", "bigquery://my-project"], 12),
    ],
    ids=str,
)
def test_what_cannot_be_created_is_refused_in_one_line(run: Scripts, args: list[str], code: int) -> None:
    done = run("create_sessions_table.py", *args)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert not list(run.folder.iterdir())

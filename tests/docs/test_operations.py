"""The commands of docs/restoring.md and the cron lines of docs/seals.md run, in a home of their own."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from support.consoles import blocks_of, check_commands

DOCS = Path(__file__).parents[2] / "docs"


def test_a_lost_ledger_is_restored_as_the_page_says(tmp_path: Path) -> None:
    blocks = blocks_of(DOCS / "restoring.md")
    assert {kind for kind, _ in blocks} == {"console"}
    check_commands([text for _, text in blocks], tmp_path, place="/srv/app")


def test_the_cron_lines_verify_and_seal_and_mail_what_differs(tmp_path: Path) -> None:
    """Run as cron runs them: by sh, in the home, with their own variables only."""
    page = (DOCS / "seals.md").read_text("utf-8")
    witness, ledger = tmp_path / "worm", tmp_path / "ledger.db"
    (first,) = re.findall(r"`(ledger seal --output \S+-first\.seal)`", page)
    (lines,) = (text for kind, text in blocks_of(DOCS / "seals.md") if "* * *" in text)
    own = {"/mnt/worm": str(witness), "/srv/app/ledger.db": str(ledger), "/srv/app/.venv/bin": _commands()}
    for documented, here in own.items():
        assert documented in lines, documented
        lines, first = lines.replace(documented, here), first.replace(documented, here)
    settings = dict(line.split("=", 1) for line in lines.splitlines() if re.match(r"[A-Z]+_?[A-Z]*=", line))
    (entry,) = (line.split(None, 5)[5].replace(r"\%", "%") for line in lines.splitlines() if line.startswith("5 "))
    home = tmp_path / "home"
    for folder in (witness, home):
        folder.mkdir()

    def run(command: str) -> subprocess.CompletedProcess[str]:
        few = {"HOME": str(home), "LOGNAME": "ada", "SHELL": "/bin/sh", **settings}
        return subprocess.run(
            ["/bin/sh", "-c", command], cwd=home, env=few, capture_output=True, text=True, check=False
        )

    assert run('ledger new "q" --user ada').returncode == 0
    assert run(first).returncode == 0
    hourly = run(entry)
    assert (hourly.returncode, hourly.stdout, hourly.stderr) == (0, "", "")
    assert len(list(witness.iterdir())) == 2
    with closing(sqlite3.connect(ledger)) as connection, connection:
        for table in ("session_events", "session_heads", "session_state"):
            connection.execute(f"DELETE FROM {table}")
    mailed = run(entry)
    assert mailed.returncode == 1
    assert "sealed_missing" in mailed.stdout
    assert len(list(witness.iterdir())) == 2


def _commands() -> str:
    return str(Path(sys.executable).parent)

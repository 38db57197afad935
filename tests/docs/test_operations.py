"""The commands, the service and the cron lines of docs/operations.md and docs/seals.md run, in a home of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from ledger import SessionLedger
from support.consoles import blocks_of, check_commands

DOCS = Path(__file__).parents[2] / "docs"


PAGE = DOCS / "operations.md"


def test_a_lost_ledger_is_restored_as_the_page_says(tmp_path: Path) -> None:
    blocks = blocks_of(PAGE)
    assert [kind for kind, _ in blocks if kind != "console"] == ["sh", "ini", "text"]
    check_commands([text for kind, text in blocks if kind == "console"], tmp_path, place="/srv/app")


def test_a_ledger_is_shared_in_a_group_as_the_page_says(tmp_path: Path) -> None:
    (recipe,) = (text for kind, text in blocks_of(PAGE) if kind == "sh")
    folder = tmp_path / "data"
    folder.mkdir()
    SessionLedger(folder / "shop.db").close()
    with SessionLedger(folder / "shop.db") as ledger:
        ledger.create_session("ada", question="q")
    names = {each.name for each in folder.iterdir()}
    assert names == {"shop.db", "shop.db-turn", "shop.db-turn-queue"}
    recipe = recipe.replace("agents", str(os.getgid()))
    subprocess.run(["/bin/sh", "-ec", recipe], cwd=tmp_path, check=True, timeout=60)
    with SessionLedger(folder / "shop.db") as ledger:
        ledger.create_session("ada", question="q")
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()}
    assert set(modes) == names | {"shop.db-wal", "shop.db-shm"}
    assert set(modes.values()) == {0o660}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o2770


def test_the_service_ships_and_ends_in_order(tmp_path: Path) -> None:
    (text,) = (text for kind, text in blocks_of(PAGE) if kind == "ini")
    service: dict[str, list[str]] = {}
    for line in _here(text, tmp_path).splitlines():
        name, _, value = line.partition("=")
        service.setdefault(name, []).append(value)
    settings = dict(each.split("=", 1) for each in service["Environment"])
    home = {"HOME": str(tmp_path), "LOGNAME": "ada", **settings}
    subprocess.run([f"{_commands()}/ledger", "new", "q"], env=home, check=True, capture_output=True)
    doctor = subprocess.run(service["ExecStartPre"][0].lstrip("-").split(), env=home, check=False, capture_output=True)
    assert (doctor.returncode, doctor.stderr) == (0, b"")
    with subprocess.Popen(service["ExecStart"][0].split(), env=home, stderr=subprocess.PIPE, text=True) as relay:
        assert relay.stderr is not None
        assert json.loads(relay.stderr.readline())["message"].startswith("Shipping sqlite:///")
        relay.send_signal(signal.SIGTERM)
        last = relay.stderr.read().splitlines()[-1]
    assert (relay.returncode, json.loads(last)["message"]) == (0, "Stopped: 0 rows waiting.")


def test_the_cron_lines_of_the_page_say_nothing_while_all_is_well(tmp_path: Path) -> None:
    (text,) = (text for kind, text in blocks_of(PAGE) if kind == "text")
    lines = _here(text, tmp_path).splitlines()
    settings = dict(line.split("=", 1) for line in lines if re.match("[A-Z_]+=", line))
    entries = [line.split(None, 5)[5].replace(r"\%", "%") for line in lines if re.match(r"[*\d]", line)]
    assert len(entries) == 4
    home = tmp_path / "home"
    for folder in (home, tmp_path / "backups"):
        folder.mkdir()
    few = {"HOME": str(home), "LOGNAME": "ada", "SHELL": "/bin/sh", **settings}

    def run(command: str) -> str:
        ran = subprocess.run(["/bin/sh", "-c", command], cwd=home, env=few, capture_output=True, text=True, check=False)
        return ran.stdout + ran.stderr

    run('ledger new "q"')
    assert [run(each) for each in entries] == [""] * 4
    assert len(list((tmp_path / "backups").iterdir())) == 1
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        connection.execute("VACUUM")
    assert run(entries[2]) == "", "a ledger that was shrunk is what was recorded"
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection, connection:
        connection.execute("DELETE FROM session_heads")
    assert "1 session" in run(entries[2])


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


def _here(text: str, folder: Path) -> str:
    """Return a text of the page with the folder of this test in place of the page's."""
    return text.replace("/srv/app/.venv/bin", _commands()).replace("/srv/app", str(folder))


def _commands() -> str:
    return str(Path(sys.executable).parent)

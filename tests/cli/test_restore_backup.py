"""`ledger restore-backup`: the file is replaced whole or not at all, the former one is kept, the warehouse mends it."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ledger import SessionLedger, files
from ledger.stores.sqlite import replacing
from ledger.stores.sqlite.schema import migrate
from ledger.testing import START
from support.shell import Shell

#: Opens the ledger in argv[1] as a service does, says so, and closes it when its standard input ends.
SERVICE = """
import sys
from ledger import SessionLedger

with SessionLedger(sys.argv[1]) as ledger:
    ledger.list_sessions("ada")
    print("open", flush=True)
    sys.stdin.read()
"""
#: Opens it as the sqlite3 shell does.
READER = """
import sqlite3, sys

connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("SELECT COUNT(*) FROM session_heads").fetchall()
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def backup(shell: Shell) -> Path:
    """A backup of a ledger with one session of two events."""
    session_id = shell.ok("new", "How many orders?").strip()
    shell.ok("message", session_id, "user", "a week")
    file = shell.path.with_name("monday.db")
    shell.ok("backup", str(file))
    return file


def session_of(shell: Shell) -> str:
    (session,) = shell.json("list")["sessions"]
    return str(session["session_id"])


def former(shell: Shell) -> list[Path]:
    return sorted(shell.path.parent.glob("ledger.db.replaced-*"))


@contextmanager
def in_use(path: Path, program: str = SERVICE) -> Iterator[None]:
    """Another process has the ledger open."""
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield


def test_a_view_of_the_users_own_stays_in_a_backup_that_is_restored(shell: Shell, backup: Path) -> None:
    with closing(sqlite3.connect(shell.path)) as connection:
        connection.execute("CREATE VIEW mine AS SELECT COUNT(*) AS events FROM session_history")
    shell.ok("verify")
    file = shell.path.with_name("tuesday.db")
    shell.ok("backup", str(file))
    shell.ok("restore-backup", str(file))
    with closing(sqlite3.connect(shell.path)) as connection:
        assert connection.execute("SELECT events FROM mine").fetchone()[0] > 0


def test_a_backup_takes_the_place_of_the_ledger_and_the_former_file_is_kept(shell: Shell, backup: Path) -> None:
    session_id = session_of(shell)
    shell.ok("message", session_id, "assistant", "1,217.")
    shell.path.chmod(0o640)
    printed = shell.ok("restore-backup", str(backup))
    (kept,) = former(shell)
    assert printed.startswith(f"{shell.path} is {backup}: 1 session and 2 events verified, the last recorded at ")
    assert f"The former file is {kept}." in printed.replace("\n", " ")
    assert "There is no warehouse to bring back events from" in printed.replace("\n", " ")
    assert shell.json("show", session_id)["version"] == 2
    assert shell.path.stat().st_mode & 0o777 == 0o640
    assert shell.path.stat().st_nlink == kept.stat().st_nlink == 1
    with SessionLedger(kept) as ledger:
        assert ledger.get_session(session_id).version == 3
    assert "verified: nothing differs" in shell.ok("verify")
    shell.ok("message", session_id, "assistant", "1,218.")
    assert backup.exists()
    again = shell.json("restore-backup", str(backup))
    assert (again["events"], again["reconciled"], len(former(shell))) == (2, [], 2)


def test_a_command_that_was_killed_before_the_renaming_can_be_run_again(shell: Shell, backup: Path) -> None:
    session_id = session_of(shell)
    shell.path.with_name("ledger.db.replaced-20261130T081500Z").hardlink_to(shell.path)
    assert "has 2 names (hard links)" in shell.fails("list")[1]
    shell.ok("restore-backup", str(backup))
    assert shell.json("show", session_id)["version"] == 2
    assert shell.path.stat().st_nlink == 1


@pytest.mark.parametrize("content", [b"", b"text " * 1000, None])
def test_a_ledger_that_is_damaged_empty_or_gone_is_replaced_with_its_log(
    shell: Shell, backup: Path, content: bytes | None
) -> None:
    session_id = session_of(shell)
    shell.path.unlink()
    if content is not None:
        shell.path.write_bytes(content)
    log = shell.path.with_name("ledger.db-wal")
    log.write_bytes(b"of the lost file")
    shell.ok("restore-backup", str(backup))
    assert shell.json("show", session_id)["version"] == 2
    assert "verified: nothing differs" in shell.ok("verify")
    kept = {each.name.rpartition("Z")[2]: each.read_bytes() for each in former(shell)}
    assert kept["-wal"] == b"of the lost file"
    assert kept.get("") == content


def test_a_ledger_that_a_program_has_open_is_left_alone(shell: Shell, backup: Path) -> None:
    with in_use(shell.path):
        code, message = shell.fails("restore-backup", str(backup))
        assert code == 21
        assert f"A program has the ledger {shell.path} open" in message
        assert "Stop every program that uses it, relays above all" in message
    assert not former(shell)
    shell.ok("message", session_of(shell), "user", "still here")


def test_a_damaged_ledger_that_a_program_has_open_is_left_alone_too(shell: Shell, backup: Path) -> None:
    with in_use(shell.path):
        content = shell.path.read_bytes()
        with open(shell.path, "r+b") as file:
            file.write(b"x" * 100)
        assert shell.fails("restore-backup", str(backup))[0] == 21
        shell.path.write_bytes(content)


@pytest.mark.parametrize("has_links", [True, False])
@pytest.mark.parametrize("when", ["copied", "claimed", "linked", "named"])
def test_a_program_that_comes_while_the_file_is_replaced_keeps_the_former_one(
    shell: Shell, backup: Path, monkeypatch: pytest.MonkeyPatch, when: str, has_links: bool
) -> None:
    """With plain SQLite, as a ledger that finds the file under two names refuses to open it."""
    session_id = session_of(shell)
    shell.ok("message", session_id, "assistant", "1,217.")
    program, sync, set_aside = in_use(shell.path, READER), replacing._sync, replacing._set_aside
    put_in_place, linked = files._put_in_place, replacing._linked

    def copied(part: Path) -> None:
        if when == "copied":
            program.__enter__()
        sync(part)

    def claimed(path: Path, aside: Path) -> None:
        if when == "claimed":
            program.__enter__()
        set_aside(path, aside)

    def link(path: Path, aside: Path) -> bool:
        is_linked = linked(path, aside)
        if when == "linked":
            program.__enter__()
        return is_linked

    def named(part: Path, path: Path, replace: bool) -> None:
        # Without hard links the former file has no other name then; a program has opened it, but not yet locked it.
        (aside,) = former(shell)
        if not has_links:
            aside.replace(path)
        program.__enter__()
        if not has_links:
            path.replace(aside)
        put_in_place(part, path, replace)

    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", without_links)
    if when == "named":
        monkeypatch.setattr(files, "_put_in_place", named)
    monkeypatch.setattr(replacing, "_linked", link)
    monkeypatch.setattr(replacing, "_sync", copied)
    monkeypatch.setattr(replacing, "_set_aside", claimed)
    try:
        code, message = shell.fails("restore-backup", str(backup))
    finally:
        program.__exit__(None, None, None)
    assert (code, "nothing was changed" in message) == (21, True)
    assert shell.json("show", session_id)["version"] == 3
    assert not former(shell)


def without_links(path: Path, target: Path) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.fixture
def log(shell: Shell, backup: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A third event is in the ledger's log alone, and the log cannot be folded into the file."""
    own = [shell.path, shell.path.with_name("ledger.db-wal")]
    with SessionLedger(shell.path) as ledger:
        ledger.add_message(session_of(shell), "assistant", "1,217.")
        copies = [each.read_bytes() for each in own]
    for each, content in zip(own, copies, strict=True):
        each.write_bytes(content)
    monkeypatch.setattr(replacing, "_claim", lambda path: None)
    return copies[1]


@pytest.mark.parametrize("has_links", [True, False])
@pytest.mark.parametrize("failing", ["rename of the copy", "rename of the log", "name for the moment"])
def test_a_log_that_cannot_be_folded_is_back_if_the_file_is_not_replaced(
    shell: Shell, backup: Path, log: bytes, monkeypatch: pytest.MonkeyPatch, failing: str, has_links: bool
) -> None:
    rename, create = os.rename, os.open

    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def rename_log(source: Path, target: Path) -> None:
        if failing == "rename of the log" and str(source) == f"{shell.path}-journal":
            full()
        rename(source, target)

    def create_file(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if failing == "name for the moment" and path == shell.path and flags & os.O_EXCL:
            full()
        return create(path, flags, mode)

    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", without_links)
    shell.path.with_name("ledger.db-shm").write_bytes(b"")
    with monkeypatch.context() as faults:
        faults.setattr(os, "rename", rename_log)
        faults.setattr(os, "open", create_file)
        if failing == "rename of the copy" or (failing == "name for the moment" and has_links):
            faults.setattr(files, "_put_in_place", full)
        code, message = shell.fails("restore-backup", str(backup))
    assert (code, "The disk is full" in message) == (21, True), message
    assert shell.path.with_name("ledger.db-wal").read_bytes() == log
    assert not former(shell)
    assert shell.path.stat().st_nlink == 1
    assert shell.json("show", session_of(shell))["version"] == 3


@pytest.mark.parametrize("has_links", [True, False])
def test_a_log_that_cannot_be_folded_is_kept_beside_the_former_file(
    shell: Shell, backup: Path, log: bytes, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", without_links)
    shell.ok("restore-backup", str(backup))
    session_id = session_of(shell)
    assert shell.json("show", session_id)["version"] == 2
    kept = next(each for each in former(shell) if each.name.endswith("Z"))
    assert kept.with_name(f"{kept.name}-wal").read_bytes() == log
    with SessionLedger(kept) as ledger:
        assert ledger.get_session(session_id).version == 3


def test_what_is_no_backup_of_this_ledger_changes_nothing(shell: Shell, backup: Path, tmp_path: Path) -> None:
    before = shell.path.read_bytes()
    damaged = tmp_path / "damaged.db"
    shutil.copyfile(backup, damaged)
    with closing(sqlite3.connect(damaged)) as connection, connection:
        connection.execute("UPDATE session_events SET value = '\"other\"' WHERE version = 1 AND field = 'question'")
    other = tmp_path / "other.db"
    with SessionLedger(other) as ledger:
        ledger.create_session("ada", "Another")
    newer = tmp_path / "newer.db"
    shutil.copyfile(backup, newer)
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute("PRAGMA user_version = 99")
    (tmp_path / "text.db").write_bytes(b"text " * 1000)
    (tmp_path / "empty.db").touch()
    for file, words in {
        "none.db": "There is no backup",
        "damaged.db": "is damaged (",
        "other.db": "is a backup of another ledger than",
        "newer.db": "newer than the",
        "text.db": "is not a SQLite database",
        "empty.db": "holds nothing",
        "ledger.db": "is a file of the ledger itself",
    }.items():
        assert words in shell.fails("restore-backup", str(tmp_path / file))[1], file
    assert "its URL without that" in shell.fails("--url", f"{shell.url}?mode=ro", "restore-backup", str(backup))[1]
    assert "has no backups" in shell.fails("--url", "bigquery://my-project/d", "restore-backup", str(backup))[1]
    assert shell.path.read_bytes() == before
    assert not former(shell)
    assert not list(tmp_path.glob(".*part*"))
    with closing(sqlite3.connect(shell.path)) as connection, connection:
        for table in ("session_events", "session_heads", "session_state"):
            connection.execute(f"DELETE FROM {table}")
    shell.ok("restore-backup", str(other))  # nothing is lost with a ledger that has no session


def test_an_older_backup_is_brought_to_the_present_schema(shell: Shell, tmp_path: Path) -> None:
    older = tmp_path / "older.db"
    with closing(sqlite3.connect(older, isolation_level=None)) as connection:
        migrate(connection, "older.db", new_store_id="store-1", now=START, upto=7)
    content = older.read_bytes()
    shell.ok("restore-backup", str(older))
    assert older.read_bytes() == content
    assert "0 sessions and 0 events verified" in shell.ok("verify")


def test_what_was_shipped_after_the_backup_comes_back_from_every_warehouse_that_it_names(
    shell: Shell, tmp_path: Path
) -> None:
    session_id = shell.ok("new", "How many orders?").strip()
    other = f"duckdb:///{tmp_path}/other.duckdb"
    for warehouse in ((), ("--warehouse", other)):
        shell.ok("sync", *warehouse)
    backup = tmp_path / "monday.db"
    with SessionLedger(shell.path) as ledger:  # backed up while a relay holds the lease
        ledger.store.outbox(f"duckdb:///{tmp_path}/ledger.duckdb").acquire("elsewhere/1/x", 60)
        ledger.store.backup(backup)
        ledger.store.outbox(f"duckdb:///{tmp_path}/ledger.duckdb").acquire("elsewhere/1/x", 0.001)
    shell.ok("message", session_id, "assistant", "1,217.")
    later = shell.ok("new", "And this year?").strip()
    shell.ok("sync", "--warehouse", other)
    restored = shell.json("restore-backup", str(backup))
    assert [each["warehouse"].rpartition("/")[2] for each in restored["reconciled"]] == [
        "ledger.duckdb",
        "other.duckdb",
    ]
    assert restored["reconciled"][1]["repaired"]["events"] == 2
    assert shell.json("show", session_id)["version"] == 2
    assert shell.json("show", later)["version"] == 1
    shell.ok("message", session_id, "user", "Thanks")
    shell.ok("sync", "--warehouse", other)
    assert "nothing differs" in shell.ok("reconcile", "--warehouse", other)


def test_a_warehouse_that_is_not_there_leaves_the_backup_in_place_and_says_what_to_type(
    shell: Shell, backup: Path, tmp_path: Path
) -> None:
    session_id = session_of(shell)
    shell.ok("message", session_id, "assistant", "1,217.")
    (tmp_path / "w.duckdb").write_bytes(b"text " * 1000)
    warehouse = f"duckdb:///{tmp_path}/w.duckdb"
    failed = shell("restore-backup", str(backup), "--warehouse", warehouse)
    assert failed.exit_code == 21
    message = failed.stderr
    assert "The backup is in place, but is not reconciled with" in message
    assert "type: ledger reconcile --repair --from 20" in message
    assert shell.json("show", session_id)["version"] == 2
    assert "Not reconciled" not in shell.ok("restore-backup", str(backup), "--no-reconcile")

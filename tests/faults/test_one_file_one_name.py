"""One file, one name: hard links, files that go away or are replaced, a deleted log; who may lock and read what."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from ledger import SessionLedger, StoreError, StoreRejected
from ledger.cli.app import ledger as command

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="inodes, links and modes of POSIX")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    with SessionLedger.open(f"sqlite:///{tmp_path}/data/l.db") as ledger:
        ledger.create_session("ada", "q", session_id="s")
    return tmp_path / "data" / "l.db"


def opened(path: Path) -> SessionLedger:
    return SessionLedger.open(f"sqlite:///{path}")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Hard links


def test_a_file_with_a_second_name_is_not_opened(path, tmp_path):
    (tmp_path / "other.db").hardlink_to(path)
    for name in (path, tmp_path / "other.db"):
        with pytest.raises(StoreRejected, match=r"2 names \(hard links\).*ledger backup"):
            opened(name)
    (tmp_path / "other.db").unlink()
    opened(path).close()


def test_no_commit_is_made_once_a_file_has_a_second_name(path, tmp_path):
    with opened(path) as ledger:
        (tmp_path / "other.db").hardlink_to(path)
        with pytest.raises(StoreRejected, match="Remove the other names"):
            ledger.update_summary("s", "lost")
        assert ledger.get_session("s").version == 1, "reading is safe"
        (tmp_path / "other.db").unlink()
        assert ledger.update_summary("s", "kept").version == 2


BY_NAME = """
import sys
from ledger import LedgerError, SessionLedger
try:
    with SessionLedger.open(sys.argv[1]) as ledger:
        for number in range(30):
            print(ledger.add_message("s", "user", str(number)).version, flush=True)
except LedgerError as error:
    print(error, file=sys.stderr)
"""


def test_processes_that_use_two_names_lose_no_acknowledged_event(path, tmp_path):
    other = tmp_path / "other.db"
    with opened(path) as ledger:  # keeps the log open while the second name appears
        other.hardlink_to(path)
        urls = [f"sqlite:///{each}" for each in (path, other)]
        running = [subprocess.Popen([sys.executable, "-c", BY_NAME, url], stdout=subprocess.PIPE) for url in urls]
        acknowledged = sum(len(each.communicate(timeout=60)[0].split()) for each in running)
        other.unlink()
        assert ledger.get_session("s").version == 1 + acknowledged


def test_the_name_that_a_killed_creation_left_is_removed(path):
    """It is killed between giving the file its name and taking the temporary one away."""
    left = path.with_name(".l.db.0123456789abcdef.part")
    left.hardlink_to(path)
    opened(path).close()
    assert not left.exists()


def test_the_doctor_names_hard_links(path, tmp_path):
    (tmp_path / "other.db").hardlink_to(path)
    done = CliRunner().invoke(command, ["-u", f"sqlite:///{path}", "doctor"])
    assert done.exit_code == 1
    assert "2 hard links" in " ".join(done.output.split())


# The file goes away


READS = {
    "state": lambda ledger: ledger.get_session("s"),
    "list": lambda ledger: ledger.list_sessions(),
    "history": lambda ledger: ledger.history("s"),
    "search": lambda ledger: ledger.search("q"),
    "version": lambda ledger: ledger.get_session("s", version=1),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_reads_say_that_the_file_vanished_and_create_none(path, read):
    with opened(path) as ledger:
        read(ledger)
        for file in path.parent.iterdir():
            file.unlink()
        with pytest.raises(StoreRejected, match="deleted, moved or replaced"):
            read(ledger)
        assert list(path.parent.iterdir()) == []
    assert list(path.parent.iterdir()) == []


def test_reads_say_that_the_file_was_replaced(path, tmp_path):
    with opened(path) as ledger:
        ledger.store.backup(tmp_path / "copy.db")
        assert ledger.get_session("s") is not None
        (tmp_path / "copy.db").replace(path)
        with pytest.raises(StoreRejected, match="replaced"):
            ledger.get_session("s")
        with pytest.raises(StoreRejected, match="replaced"):
            ledger.store.backup(tmp_path / "again.db")
        assert not (tmp_path / "again.db").exists()


def test_a_file_that_is_put_back_goes_on(path, tmp_path):
    with opened(path) as ledger:
        path.rename(tmp_path / "away.db")
        with pytest.raises(StoreRejected):
            ledger.get_session("s")
        (tmp_path / "away.db").rename(path)
        assert ledger.update_summary("s", "x").version == 2


def test_a_deleted_log_is_said_before_anything_is_acknowledged_and_closing_saves_what_it_held(path):
    with opened(path) as ledger:
        ledger.update_summary("s", "kept")
        path.with_name("l.db-wal").unlink()
        with pytest.raises(StoreRejected, match=r"write-ahead log .* was deleted"):
            ledger.update_summary("s", "lost")
    with opened(path) as ledger:
        assert ledger.get_session("s").summary == "kept"


# Who may read, and who may lock


def test_new_files_are_their_owners_alone(tmp_path):
    before = os.umask(0)
    try:
        with opened(tmp_path / "l.db") as ledger:
            ledger.create_session("ada", "q")
            modes = {each.name: mode(each) for each in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("l.db", "l.db-wal", "l.db-shm", "l.db-turn", "l.db-turn-queue"), 0o600)


@pytest.mark.parametrize(("database", "locks"), [(0o660, 0o660), (0o644, 0o600), (0o664, 0o660), (0o640, 0o600)])
def test_the_mode_of_an_existing_file_is_kept_and_those_who_may_write_it_may_lock_it(path, database, locks):
    path.chmod(database)
    for name in ("l.db-turn", "l.db-turn-queue"):
        path.with_name(name).chmod(0o644)  # as earlier releases left them
    before = os.umask(0o077)
    try:
        with opened(path) as ledger:
            ledger.update_summary("s", "x")
            assert mode(path) == mode(path.with_name("l.db-wal")) == database
            assert {mode(path.with_name(f"l.db-turn{suffix}")) for suffix in ("", "-queue")} == {locks}
    finally:
        os.umask(before)


HOLD = """
import fcntl, os, sys
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    file = open(sys.argv[1], "rb")
except PermissionError:
    print("refused", flush=True)
else:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def public() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_another_user_who_may_read_the_file_cannot_hold_up_writers(public):
    with opened(public / "l.db") as ledger:
        ledger.create_session("ada", "q", session_id="s")
        (public / "l.db").chmod(0o644)
        program = [shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable, "-c", HOLD]
        held = subprocess.Popen(
            [*program, public / "l.db-turn"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert held.stdout.readline() == "refused\n"
        assert ledger.update_summary("s", "x").version == 2
        held.communicate()


def test_an_append_after_a_fork_finds_its_log(path):
    """A fork closes the log and opens it anew; the check must follow."""
    with opened(path) as ledger:
        ledger.update_summary("s", "before")
        child = os.fork()
        if not child:
            code = 1
            try:
                ledger.update_summary("s", "child")
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        ledger.update_summary("s", "parent")
        assert ledger.get_session("s").version == 4


def test_a_store_error_is_raised_when_the_folder_goes_away(path):
    with opened(path) as ledger:
        shutil.rmtree(path.parent)
        with pytest.raises(StoreError):
            ledger.update_summary("s", "x")
        with pytest.raises(StoreError):
            ledger.get_session("s")

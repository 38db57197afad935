"""Files that people keep are written whole: ledgers, backups, exports. Killed anywhere, they are the old or the new."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from faults.interruption import interrupters
from ledger import ConfigurationError, InvalidInput, SessionLedger, StoreRejected, files
from ledger.cli.app import ledger as command
from ledger.files import whole_file, whole_path
from ledger.stores.sqlite import database_file, store, writer_lock
from ledger.stores.sqlite.store import SqliteStore

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="modes, links and pipes of POSIX")
HERE = Path(__file__).parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    with SessionLedger.open(f"sqlite:///{tmp_path}/data/l.db") as ledger:
        ledger.create_session("ada", "q", session_id="s")
    return tmp_path / "data" / "l.db"


@pytest.fixture
def quick() -> Iterator[Path]:
    """A folder in which syncing costs nothing, if this machine has one."""
    memory = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="ledger-test-") as folder:
        yield Path(folder)


def cli(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["-u", f"sqlite:///{path}", *arguments])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


# Killed, or interrupted, at every line


@POSIX
@pytest.mark.parametrize("what", ["create", "backup", "export", "parquet"])
def test_a_write_that_ends_at_any_line_leaves_the_old_file_or_the_new_one(quick, what):
    program = [sys.executable, HERE / "line_kills.py", what, quick]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "killed at" in done.stdout


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a finalizer closes the connection
@pytest.mark.parametrize("what", ["read", "append", "backup", "create"])
def test_a_time_limit_of_a_signal_handler_is_no_error_of_the_file_system(quick, what):
    def act() -> None:
        if what == "read":
            ledger.get_session("s")
        elif what == "append":
            ledger.update_summary("s", "x")
        elif what == "backup":
            ledger.store.backup(quick / "backup.db")
        else:
            SessionLedger.open(f"sqlite:///{quick}/new.db").close()

    with SessionLedger.open(f"sqlite:///{quick}/l.db") as ledger:
        ledger.create_session("ada", "q", session_id="s")
        for interrupter in interrupters(database_file, files, store, writer_lock, error=TimeoutError):
            for each in quick.glob("backup.db*"):
                each.unlink()
            for each in quick.glob("new.db*"):
                each.unlink()
            (quick / f".backup.db.{'0' * 16}.part").touch()  # of a killed process
            try:
                interrupter.run(act)
            except TimeoutError:
                continue
            else:
                assert not interrupter.struck, f"at {interrupter.place} the time limit was lost"
        assert ledger.store._local._file._wal is not None
        assert ledger.verify().clean


# Creation

TOGETHER = """
import sys, time
from ledger import SessionLedger
time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
with SessionLedger.open(sys.argv[1]) as ledger:
    print(ledger.store.store_id)
    for number in range(5):
        ledger.create_session("ada", "q")
"""


def test_processes_that_create_a_ledger_at_once_share_one(tmp_path):
    import time

    program = [sys.executable, "-c", TOGETHER, f"sqlite:///{tmp_path}/l.db", str(time.time() + 1)]
    started = [subprocess.Popen(program, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    said = [process.communicate(timeout=60)[0] for process in started]
    assert all(process.returncode == 0 for process in started)
    assert len(set(said)) == 1
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db", create=False) as ledger:
        assert len(ledger.list_sessions(limit=100)) == 30
    assert not [name for name in names(tmp_path) if name.endswith(".part")]


@pytest.mark.parametrize("create", [True, False])
def test_a_file_that_was_never_finished_is_refused_and_left_alone(tmp_path, create):
    (tmp_path / "l.db").touch()
    with pytest.raises(ConfigurationError, match="did not finish"):
        SessionLedger.open(f"sqlite:///{tmp_path}/l.db", create=create)
    assert (tmp_path / "l.db").read_bytes() == b""
    assert names(tmp_path) <= {"l.db", "l.db-turn", "l.db-turn-queue"}
    (tmp_path / "l.db").unlink()
    SessionLedger.open(f"sqlite:///{tmp_path}/l.db").close()


def test_the_first_creation_of_an_earlier_release_that_was_killed_is_refused(tmp_path):
    """It switched to WAL before it created its tables."""
    import sqlite3

    connection = sqlite3.connect(tmp_path / "l.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    with pytest.raises(ConfigurationError, match="did not finish"):
        SessionLedger.open(f"sqlite:///{tmp_path}/l.db")


def test_the_doctor_says_that_a_file_was_never_finished(tmp_path):
    (tmp_path / "l.db").touch()
    assert "did not finish" in " ".join(cli(tmp_path / "l.db", "doctor").output.split())


@POSIX
def test_a_link_to_nowhere_is_followed_when_a_ledger_is_created(tmp_path):
    (tmp_path / "l.db").symlink_to(tmp_path / "real.db")
    SessionLedger.open(f"sqlite:///{tmp_path}/l.db").close()
    assert (tmp_path / "l.db").is_symlink()
    assert (tmp_path / "real.db").stat().st_size > 0


def test_a_path_may_hold_what_means_something_in_a_url(tmp_path):
    store = SqliteStore(tmp_path / "50% of #1?x=y .db")
    store.backup(tmp_path / "a%20b?mode=ro#c.db")
    store.close()
    assert {"50% of #1?x=y .db", "a%20b?mode=ro#c.db"} <= names(tmp_path)


# Backups


def test_a_backup_overwrites_no_file_that_appears_meanwhile(path, tmp_path, monkeypatch):
    copy = tmp_path / "copy.db"
    store = SqliteStore(path)
    reads = store._read  # the copy is written by a read

    def read(work):
        copy.write_text("mine")
        return reads(work)

    store.own_files()
    monkeypatch.setattr(store, "own_files", list)
    monkeypatch.setattr(store, "_read", read)
    with pytest.raises(StoreRejected, match="exists"):
        store.backup(copy)
    monkeypatch.undo()
    store.close()
    assert copy.read_text() == "mine"
    assert not [name for name in names(tmp_path) if name.endswith(".part")]


@POSIX
def test_a_backup_belongs_to_its_owner_alone(path, tmp_path):
    assert cli(path, "backup", str(tmp_path / "copy.db")).exit_code == 0
    again = cli(path, "backup", str(tmp_path / "copy.db"))
    assert again.exit_code == 23
    assert "copy.db exists, and a backup never replaces a file; nothing was written. Choose another" in again.stderr
    assert mode(tmp_path / "copy.db") == 0o600


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal", "-turn", "-turn-queue"])
def test_a_backup_onto_a_file_of_the_ledger_is_refused(path, suffix):
    with SessionLedger.open(f"sqlite:///{path}") as ledger, pytest.raises((InvalidInput, StoreRejected)):
        ledger.store.backup(path.with_name(path.name + suffix))


@pytest.mark.parametrize("name", ["w.duckdb", "w.duckdb.wal", "data/l.duckdb", "data/l.duckdb.wal"])
def test_a_backup_onto_a_place_of_the_warehouse_is_refused_also_if_nothing_is_there(path, tmp_path, name, monkeypatch):
    url = f"duckdb:///{tmp_path}/w.duckdb"
    with SessionLedger.open(f"sqlite:///{path}", warehouse=url) as ledger:
        with pytest.raises(InvalidInput, match="of its warehouse"):
            ledger.store.backup(tmp_path / name)
        with pytest.raises(InvalidInput, match="cannot be the path"):
            ledger.store.backup(tmp_path / "a\0b")
    monkeypatch.setenv("LEDGER_WAREHOUSE", url)
    for command_name in ("backup", "export -o", "seal --output"):
        assert cli(path, *command_name.split(), str(tmp_path / name)).exit_code == 3, command_name
    assert not (tmp_path / name).exists()


# Exports


def test_an_export_that_fails_leaves_the_former_one(path, tmp_path):
    output = tmp_path / "nightly.jsonl"
    assert cli(path, "export", "-o", str(output)).exit_code == 0
    before = output.read_bytes()
    assert before
    assert cli(path, "export", "no-such-id", "-o", str(output)).exit_code == 4
    assert output.read_bytes() == before
    assert names(tmp_path) == {"nightly.jsonl", "data"}


@POSIX
@pytest.mark.parametrize("suffix", ["", "-wal", "-turn"])
@pytest.mark.parametrize("how", ["path", "symlink", "dots"])
def test_an_export_onto_a_file_of_the_ledger_is_refused_and_nothing_is_touched(path, tmp_path, suffix, how):
    own = path.with_name(path.name + suffix)
    given = {"path": own, "symlink": tmp_path / "link", "dots": path.parent / ".." / "data" / own.name}[how]
    if how == "symlink":
        given.symlink_to(own)
    before = path.read_bytes()
    done = cli(path, "export", "-o", str(given))
    assert done.exit_code == 3
    assert "a file of the ledger itself" in done.output
    assert path.read_bytes() == before
    assert cli(path, "count", "status").exit_code == 0


@POSIX
@pytest.mark.duckdb
def test_an_export_onto_a_warehouse_of_the_ledger_is_refused(path, tmp_path, monkeypatch):
    place = tmp_path / "w.duckdb"
    with SessionLedger.open(f"sqlite:///{path}", warehouse=f"duckdb:///{place}") as ledger:
        ledger.warehouse.sync()
    (tmp_path / "hard").hardlink_to(place)
    before = place.read_bytes()
    for output in (place, tmp_path / "hard"):
        assert cli(path, "export", "-o", str(output)).exit_code == 3
    assert place.read_bytes() == before
    attached = tmp_path / "attached.duckdb"  # nothing was shipped to it yet
    monkeypatch.setenv("LEDGER_WAREHOUSE", f"duckdb:///{attached}")
    assert cli(path, "export", "-o", str(attached)).exit_code == 3
    assert cli(path, "export", "-o", str(path.with_suffix(".duckdb"))).exit_code == 3, "that of `ledger sql`"


@POSIX
def test_what_holds_sessions_is_its_owners_alone_and_an_export_keeps_the_mode_of_the_file_it_replaces(path, tmp_path):
    before = os.umask(0)
    try:
        cli(path, "export", "-o", str(tmp_path / "new.jsonl"))
        cli(path, "seal", "--output", str(tmp_path / "new.seal"))
        cli(path, "backup", str(tmp_path / "new.db"))
        (tmp_path / "old.jsonl").touch(0o640)
        cli(path, "export", "-o", str(tmp_path / "old.jsonl"))
    finally:
        os.umask(before)
    assert {mode(tmp_path / name) for name in ("new.jsonl", "new.seal", "new.db")} == {0o600}
    assert mode(tmp_path / "old.jsonl") == 0o640


def test_a_missing_directory_is_named_and_not_made(path, tmp_path):
    missing = tmp_path / "typo"
    seal = cli(path, "seal", "--output", str(missing / "in" / "l.seal"))
    for result, code in (
        (cli(path, "backup", str(missing / "in" / "l.db")), 23),
        (cli(path, "export", "--output", str(missing / "in" / "l.jsonl")), 30),
        (seal, 16),
        (cli(missing / "in" / "l.db", "new", "q"), 12),
        (cli(missing / "in" / "l.db", "init"), 12),
    ):
        assert result.exit_code == code, result.stderr
        assert str(missing / "in") in result.stderr
    assert "there is no" in seal.stderr
    assert not missing.exists()


@POSIX
def test_an_export_goes_to_stdout_pipes_and_devices(path, tmp_path):
    plain = cli(path, "export").stdout
    assert cli(path, "export", "-o", "-").stdout == plain
    assert not (Path.cwd() / "-").exists()
    assert cli(path, "export", "-o", "/dev/null").exit_code == 0
    assert Path("/dev/null").is_char_device()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    assert cli(path, "export", "-o", str(pipe)).exit_code == 0
    reader.join()
    assert read == [plain]
    assert pipe.is_fifo()


@POSIX
def test_an_export_follows_a_link_and_keeps_it(path, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real.jsonl")
    assert cli(path, "export", "-o", str(tmp_path / "link")).exit_code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real.jsonl").read_text().count("\n") == 1


def test_an_export_to_where_no_file_can_be_is_an_error_with_the_path(path, tmp_path):
    done = cli(path, "export", "-o", str(tmp_path / "nowhere" / "x.jsonl"))
    assert done.exit_code == 30
    assert "nowhere" in done.output


# The context manager itself


@POSIX
def test_leftovers_of_killed_processes_go_and_those_of_living_ones_stay(tmp_path):
    abandoned = tmp_path / ".x.0123456789abcdef.part"
    abandoned.touch()
    (tmp_path / ".x.notes.part").touch()
    with whole_path(tmp_path / "x") as living:
        with whole_file(tmp_path / "x") as file:
            assert not abandoned.exists()
            assert living.exists()
            file.write(b"second")
        living.write_bytes(b"first")
    assert (tmp_path / "x").read_bytes() == b"first", "the last to end wins"
    assert names(tmp_path) == {"x", ".x.notes.part"}


@POSIX
def test_without_hard_links_a_new_file_still_overwrites_nothing(tmp_path, monkeypatch):
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(self))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with whole_path(tmp_path / "x", replace=False) as part:
        part.write_bytes(b"whole")
    assert (tmp_path / "x").read_bytes() == b"whole"
    with pytest.raises(FileExistsError), whole_path(tmp_path / "y", replace=False) as part:
        (tmp_path / "y").write_bytes(b"mine")
    assert (tmp_path / "y").read_bytes() == b"mine"
    assert names(tmp_path) == {"x", "y"}


def test_a_name_of_the_greatest_length_can_be_written(tmp_path):
    name = "n" * 255
    with whole_file(tmp_path / name) as file:
        file.write(b"x")
    assert names(tmp_path) == {name}

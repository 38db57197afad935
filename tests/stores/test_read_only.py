"""A ledger in a file that may not be written, or shall not be: it is read, and nothing in its folder changes."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ledger import ConfigurationError, SessionLedger, StoreRejected, StoreUnavailable
from ledger.stores.sqlite import read
from ledger.stores.sqlite.migrations import MIGRATIONS
from ledger.stores.sqlite.read_only import ReadOnlyStore
from support.shell import Shell

#: Reads the ledger in argv[1] as a user who owns nothing and is not root. Before that it reads the one in argv[2], so
#: that all modules are loaded while the installation can be read. Prints what it found, and the refusal of an append.
READER = """
import os, sys
from ledger import LedgerError, SessionLedger

def read(path):
    with SessionLedger(path) as ledger:
        session = ledger.list_sessions("ada")[0]
        texts = [each.content for each in ledger.get_messages(session.session_id)]
        try:
            ledger.add_message(session.session_id, "user", "more")
        except LedgerError as error:
            return f"{texts} {type(error).__name__}: {error}"
        return f"{texts} and one more"

def tried(path):
    try:
        return read(path)
    except LedgerError as error:
        return f"{type(error).__name__}: {error}"

tried(sys.argv[2])
tried(sys.argv[2] + "?")
if os.getuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
print(tried(sys.argv[1]))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may read; tmp_path is its owner's alone."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    made.chmod(0o755)
    shutil.rmtree(made)


def recorded(path: Path, *contents: str) -> str:
    with SessionLedger(path) as ledger:
        session_id = ledger.create_session("ada", "How many orders?")
        for content in contents:
            ledger.add_message(session_id, "user", content)
    return session_id


def as_another(path: Path, *, beside: Path) -> str:
    """What READER prints for a ledger; a copy of another one warms it up."""
    recorded(beside / "own.db", "warm")
    shutil.copyfile(beside / "own.db", beside / "copy.db")
    (beside / "copy.db").chmod(0o400)
    command = [sys.executable, "-W", "error", "-c", READER, str(path), str(beside / "copy.db")]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_a_ledger_that_is_opened_to_be_read_leaves_its_folder_as_it_was(tmp_path: Path) -> None:
    session_id = recorded(tmp_path / "l.db", "10 percent")
    with SessionLedger(tmp_path / "l.db") as ledger:
        assert ledger.search("percent")
    found = {each.name: each.stat().st_mtime_ns for each in tmp_path.iterdir()}
    with SessionLedger(f"sqlite:///{tmp_path}/l.db?mode=ro") as ledger:
        assert ledger.get_session(session_id)["question"] == "How many orders?"
        assert [each.content for each in ledger.get_messages(session_id)] == ["10 percent"]
        assert len(ledger.history(session_id)) == 2
        assert [each.session_id for each in ledger.list_sessions("ada")] == [session_id]
        assert [each.session_id for each in ledger.search("percent")] == [session_id]
        assert not ledger.verify().findings
        assert {each.name: each.stat().st_mtime_ns for each in tmp_path.iterdir()} == found
        for change in (
            lambda: ledger.add_message(session_id, "user", "more"),
            lambda: ledger.create_session("ada", "?"),
            lambda: ledger.seal(),
            lambda: ledger.delete_session(session_id),
        ):
            with pytest.raises(StoreRejected, match="read-only: its URL says mode=ro; nothing was written"):
                change()
        ledger.store.backup(tmp_path / "copy.db")
    assert {each.name for each in tmp_path.iterdir()} == {*found, "copy.db"}
    with SessionLedger(tmp_path / "copy.db") as copy:
        copy.add_message(session_id, "user", "more")
    with pytest.raises(StoreRejected, match="is closed"):
        ledger.get_session(session_id)


@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "why"), [(0o444, 0o755, "the file"), (0o666, 0o555, "its folder")]
)
def test_a_file_that_a_user_may_not_write_can_be_read(
    folder: Path, tmp_path: Path, file_mode: int, folder_mode: int, why: str
) -> None:
    recorded(folder / "l.db", "one", "two")
    (folder / "l.db").chmod(file_mode)
    folder.chmod(folder_mode)
    found = sorted(each.name for each in folder.iterdir())
    printed = as_another(folder / "l.db", beside=tmp_path)
    assert printed.startswith("['one', 'two'] StoreRejected: The ledger ")
    assert f"is read-only: this user may not write {why}; nothing was written." in printed
    assert sorted(each.name for each in folder.iterdir()) == found


def test_a_lock_file_that_a_user_may_not_write_is_named_with_its_owner_and_mode(folder: Path, tmp_path: Path) -> None:
    recorded(folder / "l.db", "one")
    folder.chmod(0o777)
    (folder / "l.db").chmod(0o666)
    lock = folder / "l.db-turn"
    lock.chmod(0o400)
    printed = as_another(folder / "l.db", beside=tmp_path)
    owned = f"whose owner is {lock.owner()}, group {lock.group()}, mode 0400"
    assert f"Cannot open the lock file {lock}, {owned}; all who append must be able to write it" in printed
    assert "it needs the group and mode of the ledger: Permission denied." in printed


def test_a_reader_who_may_not_write_sees_what_a_running_writer_commits(folder: Path, tmp_path: Path) -> None:
    session_id = recorded(folder / "l.db", "one")
    (folder / "l.db").chmod(0o644)
    with SessionLedger(folder / "l.db") as writer:
        writer.add_message(session_id, "user", "two")
        folder.chmod(0o555)
        assert as_another(folder / "l.db", beside=tmp_path).startswith("['one', 'two'] StoreRejected")
        folder.chmod(0o755)


def test_a_write_that_was_not_finished_is_not_read(tmp_path: Path) -> None:
    """Of a program in another journal mode that was killed: its pages are in the file, and the former in a journal."""
    session_id = recorded(tmp_path / "l.db", "one")
    (tmp_path / "snapshot").mkdir()
    snapshot = tmp_path / "snapshot" / "l.db"
    with closing(sqlite3.connect(tmp_path / "l.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN")
        connection.execute("UPDATE session_heads SET version = 9")
        connection.execute("CREATE TABLE many AS SELECT zeroblob(100000) AS zeros")  # more than the cache has room for
        for suffix in ("", "-journal"):
            shutil.copyfile(tmp_path / f"l.db{suffix}", f"{snapshot}{suffix}")
        connection.execute("ROLLBACK")
    with pytest.raises(StoreRejected, match=r"has a journal, l\.db-journal, of a write"):
        SessionLedger(f"sqlite:///{snapshot}?mode=ro")
    assert snapshot.with_name("l.db-journal").exists()
    with SessionLedger(snapshot) as ledger:
        assert ledger.get_session(session_id).version == 2
    snapshot.with_name("l.db-journal").write_bytes(bytes(512))  # as SQLite leaves it in the mode PERSIST
    found = sorted(snapshot.parent.iterdir())
    with SessionLedger(f"sqlite:///{snapshot}?mode=ro") as ledger:
        assert ledger.get_session(session_id).version == 2
    assert sorted(snapshot.parent.iterdir()) == found


def test_a_snapshot_with_a_log_is_read_where_its_index_is_there_too_or_can_be_made(
    folder: Path, tmp_path: Path
) -> None:
    session_id = recorded(folder / "l.db", "one")
    snapshot = folder / "snapshot"
    snapshot.mkdir()
    with SessionLedger(folder / "l.db") as writer:
        writer.add_message(session_id, "user", "two")
        for suffix in ("", "-wal", "-shm"):
            shutil.copyfile(folder / f"l.db{suffix}", snapshot / f"l.db{suffix}")
    for each in snapshot.iterdir():
        each.chmod(0o444)
    snapshot.chmod(0o555)
    assert as_another(snapshot / "l.db", beside=tmp_path).startswith("['one', 'two'] StoreRejected")
    snapshot.chmod(0o755)
    (snapshot / "l.db-shm").unlink()
    snapshot.chmod(0o555)
    printed = as_another(snapshot / "l.db", beside=tmp_path)
    assert "has a write-ahead log, l.db-wal, for which SQLite needs a file beside it" in printed
    assert "Copy the ledger with its log to a folder of yours" in printed
    snapshot.chmod(0o755)


def test_a_reader_follows_writers_that_come_and_go(tmp_path: Path) -> None:
    session_id = recorded(tmp_path / "l.db", "one")
    with SessionLedger(f"sqlite:///{tmp_path}/l.db?mode=ro") as reader:
        assert reader.get_session(session_id).version == 2
        with SessionLedger(tmp_path / "l.db") as writer:
            writer.add_message(session_id, "user", "two")
            assert reader.get_session(session_id).version == 3
        assert reader.get_session(session_id).version == 3
        assert not (tmp_path / "l.db-wal").exists()
        with SessionLedger(tmp_path / "l.db") as writer:
            writer.add_message(session_id, "user", "three")
        assert reader.get_session(session_id).version == 4
        (tmp_path / "l.db").rename(tmp_path / "moved.db")
        with pytest.raises(StoreRejected, match="was deleted, moved or replaced"):
            reader.get_session(session_id)


@pytest.mark.parametrize("always", [False, True])
def test_a_read_during_which_a_writer_changed_the_file_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, always: bool
) -> None:
    session_id = recorded(tmp_path / "l.db", "one")
    events, calls = read.events, []

    def disturbed(connection: sqlite3.Connection, *arguments: Any, **settings: Any) -> Any:
        found = events(connection, *arguments, **settings)
        calls.append(len(found))
        if always or len(calls) == 1:
            with SessionLedger(tmp_path / "l.db") as writer:
                writer.add_message(session_id, "user", "more")
        return found

    with closing(ReadOnlyStore(tmp_path / "l.db")) as store:
        monkeypatch.setattr(read, "events", disturbed)
        if always:
            with pytest.raises(StoreUnavailable, match="was changed 5 times while it was read; try again"):
                store.events(session_id)
        else:
            assert len(store.events(session_id)) == 3
            assert calls == [2, 3]


def test_what_would_have_to_be_written_first_is_said(tmp_path: Path) -> None:
    recorded(tmp_path / "l.db", "10 percent")
    url = f"sqlite:///{tmp_path}/l.db?mode=ro"
    with SessionLedger(url) as ledger, pytest.raises(StoreRejected, match="a search indexes them first"):
        ledger.search("percent")
    with closing(sqlite3.connect(tmp_path / "l.db")) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) - 1}")
    with pytest.raises(
        ConfigurationError, match=f"has schema {len(MIGRATIONS) - 1}, older .* cannot be upgraded, since"
    ):
        SessionLedger(url)
    with pytest.raises(ConfigurationError, match="There is no ledger at"):
        SessionLedger(f"sqlite:///{tmp_path}/none.db?mode=ro")
    assert sorted(each.name for each in tmp_path.iterdir() if "turn" not in each.name) == ["l.db"]


def test_a_ledger_that_is_read_only_can_be_used_after_a_fork(tmp_path: Path) -> None:
    session_id = recorded(tmp_path / "l.db", "one")
    with SessionLedger(f"sqlite:///{tmp_path}/l.db?mode=ro") as ledger:
        assert ledger.get_session(session_id).version == 2
        child = os.fork()
        if child == 0:
            os._exit(ledger.get_session(session_id).version)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
        assert ledger.get_session(session_id).version == 2


def test_a_ledger_that_is_read_only_has_no_relay_and_says_what_sql_takes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session_id = recorded(tmp_path / "l.db", "one")
    warehouse = f"duckdb:///{tmp_path}/w.duckdb"
    with SessionLedger(f"sqlite:///{tmp_path}/l.db?mode=ro", warehouse=warehouse, relay="background") as ledger:
        assert ledger.get_session(session_id).version == 2
        assert ledger.warehouse.status().waiting_rows == 3
        with pytest.raises(StoreRejected, match="Make a copy with `ledger backup FILE`"):
            ledger.sql("SELECT 1 AS one")
    with SessionLedger(f"sqlite:///{tmp_path}/l.db?mode=ro") as ledger, pytest.raises(StoreRejected, match="read-only"):
        ledger.sql("SELECT 1 AS one")
    assert "wait in the ledger" not in caplog.text
    assert list(tmp_path.glob("*.duckdb")) == []


def test_commands_read_a_ledger_that_is_read_only(shell: Shell) -> None:
    session_id = shell.ok("new", "How many orders?").strip()
    shell.url += "?mode=ro"
    assert session_id in shell.ok("export")
    assert shell.json("show", session_id)["question"] == "How many orders?"
    assert "1 session" in shell.ok("verify")
    code, error = shell.fails("message", session_id, "user", "more")
    assert code != 0
    assert "is read-only: its URL says mode=ro; nothing was written" in error

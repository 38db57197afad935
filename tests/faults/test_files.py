"""The file itself: full, read-only, gone, foreign, newer, older."""

from __future__ import annotations

import os
import pwd
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from ledger import Change, ConfigurationError, LedgerError, SessionLedger, StoreError, StoreRejected
from ledger.model.fold import fold
from ledger.model.instants import to_micros
from ledger.model.integrity import verify
from ledger.stores.sqlite.migrations import MIGRATIONS
from ledger.stores.sqlite.schema import migrate
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import CountedIds, SetClock, event
from ledger.testing.streams import START
from support.older_files import copy_sessions


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    with SessionLedger.open(f"sqlite:///{folder}/l.db") as ledger:
        ledger.create_session("ada", "q", session_id="s")
    return folder / "l.db"


def files(folder: Path) -> dict[str, bytes]:
    return {it.name: it.read_bytes() for it in folder.iterdir()}


# No ledger, another's ledger, a newer ledger


@pytest.mark.parametrize(
    "content", [b"hello, I am a text file\n" * 100, b"\x00" * 4096, b"SQLite format 3\x00" + b"\xff" * 4080]
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, content):
    (tmp_path / "l.db").write_bytes(content)
    with pytest.raises((ConfigurationError, StoreRejected)):
        SessionLedger.open(f"sqlite:///{tmp_path}/l.db")
    assert (tmp_path / "l.db").read_bytes() == content


def test_another_programs_database_is_refused_and_left_alone(tmp_path):
    other = sqlite3.connect(tmp_path / "l.db")
    other.execute("CREATE TABLE notes (text)")
    other.commit()
    other.close()
    before = files(tmp_path)
    with pytest.raises(ConfigurationError, match="another program"):
        SessionLedger.open(f"sqlite:///{tmp_path}/l.db")
    assert files(tmp_path) == before


def test_a_newer_schema_is_refused_and_left_alone(path):
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    before = files(path.parent)
    with pytest.raises(ConfigurationError, match=r"schema 99, newer than the .*; upgrade session-ledger"):
        SessionLedger.open(f"sqlite:///{path}")
    assert files(path.parent) == before


def test_a_folder_is_no_ledger(tmp_path):
    with pytest.raises(StoreRejected, match="file you may read and write"):
        SessionLedger.open(f"sqlite:///{tmp_path}")
    (tmp_path / "file").touch()
    with pytest.raises(StoreRejected):
        SessionLedger.open(f"sqlite:///{tmp_path}/file/l.db")


def test_a_damaged_database_is_an_error_with_a_way_out(path):
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40_000)

    def use() -> None:
        with SessionLedger.open(f"sqlite:///{path}") as ledger:
            ledger.get_session("s")
            ledger.update_summary("s", "x")

    with pytest.raises(StoreRejected, match="Restore a backup"):
        use()


# Upgrades


@pytest.mark.parametrize("schema", range(1, len(MIGRATIONS) + 1))
def test_a_ledger_of_every_older_schema_is_brought_up_and_keeps_what_it_holds(tmp_path, schema):
    connection = sqlite3.connect(tmp_path / "l.db", isolation_level=None)
    migrate(connection, "l.db", new_store_id="store-1", now=START, upto=schema)
    connection.close()
    # A row as that schema's code wrote it: taken from a ledger of today, whose tables of schema 1 are the same.
    made = SqliteStore(tmp_path / "made.db", clock=SetClock(), ids=CountedIds())
    made.append("s", event(1, Change("title", value="old"), Change("tag", "t", True), user_id="ada"))
    made.append("s", event(2, Change("message", "m", {"role": "user", "content": "hi"})))
    made.close()
    connection = sqlite3.connect(tmp_path / "l.db", isolation_level=None)
    copy_sessions(tmp_path / "made.db", connection)
    connection.close()
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db") as ledger:
        assert ledger.store.store_id == "store-1"
        assert ledger.get_session("s").title == "old"
        assert [m.content for m in ledger.get_messages("s")] == ["hi"]
        assert [s.session_id for s in ledger.list_sessions(tag="t")] == ["s"]
        assert ledger.update_summary("s", "new", event_id="job-3").version == 3
        assert verify(ledger.history("s")) == 3
        assert [it.idempotency_key for it in ledger.history("s")] == [None, None, "job-3"]
    place = f"duckdb:///{tmp_path}/w.duckdb"
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db", warehouse=place) as ledger:
        ledger.archive_session("s")
        ledger.warehouse.sync()
        assert ledger.drop_archived() == 1
        assert ledger.hydrate_session("s").version == 5
        assert verify(ledger.history("s")) == 5
        assert [it.idempotency_key for it in ledger.history("s")] == [None, None, "job-3", None, None]


@pytest.mark.parametrize("schema", range(1, len(MIGRATIONS) + 1))
def test_migrations_say_when_they_were_applied(tmp_path, schema):
    """Of those that an older release applied nobody knows when; a second opening changes nothing."""
    noted = 7  # the migration that brought the table of them
    with closing(sqlite3.connect(tmp_path / "l.db", isolation_level=None)) as connection:
        migrate(connection, "l.db", new_store_id="store-1", now=START, upto=schema)
    first, later = to_micros(START), to_micros(START + timedelta(days=1))
    SqliteStore(tmp_path / "l.db", clock=SetClock(START + timedelta(days=1))).close()
    SqliteStore(tmp_path / "l.db", clock=SetClock(START + timedelta(days=2))).close()
    with closing(sqlite3.connect(tmp_path / "l.db")) as connection:
        applied = connection.execute("SELECT name, applied_at FROM migrations ORDER BY name").fetchall()
    unknown = None if schema < noted else first
    assert applied == [
        (migration.name, unknown if number <= schema else later) for number, migration in enumerate(MIGRATIONS, 1)
    ]
    assert [name[:4] for name, _ in applied] == [f"{number:03d}_" for number in range(1, len(MIGRATIONS) + 1)]


def test_dead_letters_of_an_older_schema_are_kept_and_can_be_dismissed(tmp_path):
    warehouse = "duckdb:///w.duckdb"
    with closing(sqlite3.connect(tmp_path / "l.db", isolation_level=None)) as connection:
        migrate(connection, "l.db", new_store_id="store-1", now=START, upto=11)
    with closing(SqliteStore(tmp_path / "made.db", clock=SetClock(), ids=CountedIds())) as made:
        for number in (1, 2):
            made.append("s", event(number, Change("title", value=f"t{number}"), user_id="ada"))
    with closing(sqlite3.connect(tmp_path / "l.db", isolation_level=None)) as connection:
        copy_sessions(tmp_path / "made.db", connection)
        connection.execute("INSERT INTO relays (warehouse, checkpoint) VALUES (?, 2)", (warehouse,))
        letters = [(warehouse, 1, "unfit", 0, "refused"), (warehouse, 2, "lacking", 0, "asked")]
        connection.executemany("INSERT INTO relay_aside VALUES (?, ?, ?, ?, ?)", letters)
    with closing(SqliteStore(tmp_path / "l.db", clock=SetClock(), ids=CountedIds())) as store:
        outbox = store.outbox(warehouse)
        letters = outbox.refused()
        assert [(it.reason, it.redriving, it.dismissed) for it in letters] == [
            ("unfit", False, False),
            ("lacking", True, False),
        ]
        assert [outbox.dismiss(it.event_id) for it in letters] == [True, False]
        assert not store.purge("s", 2), "what is requeued may still arrive"


def test_a_file_with_views_and_triggers_of_its_user_is_upgraded_and_keeps_its_dead_letters(tmp_path):
    with closing(sqlite3.connect(tmp_path / "l.db", isolation_level=None)) as connection:
        migrate(connection, "l.db", new_store_id="store-1", now=START, upto=11)
        connection.execute("INSERT INTO relay_aside VALUES ('w', 1, 'unfit', 0, 'refused'), ('w', 2, 'b', 3, 'asked')")
        letters = connection.execute("SELECT * FROM relay_aside").fetchall()
        connection.execute("CREATE VIEW mine AS SELECT seq, reason FROM relay_aside")
        connection.execute("CREATE VIEW broken AS SELECT missing FROM gone")
        connection.execute("CREATE TABLE dead_letters (note TEXT)")
        connection.execute(
            "CREATE TRIGGER noted AFTER INSERT ON dead_letters BEGIN DELETE FROM relay_aside WHERE gone = 1; END"
        )
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db") as ledger:
        differing = {each.message.split(" is ")[0] for each in ledger.verify().findings if each.code == "schema"}
    assert differing == {"the table dead_letters", "the trigger noted on dead_letters"}
    with closing(sqlite3.connect(tmp_path / "l.db")) as connection:
        assert connection.execute("SELECT * FROM relay_aside").fetchall() == letters
        assert connection.execute("SELECT * FROM mine").fetchall() == [(1, "unfit"), (2, "b")]


def test_an_upgrade_that_fails_leaves_the_file_as_it_was(tmp_path):
    connection = sqlite3.connect(tmp_path / "l.db", isolation_level=None)
    migrate(connection, "l.db", new_store_id="store-1", now=START, upto=1)
    connection.execute("CREATE INDEX session_state_lookups ON meta (name)")  # in the way of migration 2
    connection.close()
    with pytest.raises(StoreRejected, match="index session_state_lookups already exists"):
        SessionLedger.open(f"sqlite:///{tmp_path}/l.db")
    connection = sqlite3.connect(tmp_path / "l.db")
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()


@pytest.mark.parametrize("name", ["sessions", "relay_aside_before_015"])
def test_a_table_of_the_user_in_the_way_of_an_upgrade_is_named_and_kept(tmp_path, name):
    with closing(sqlite3.connect(tmp_path / "l.db", isolation_level=None)) as connection:
        migrate(connection, "l.db", new_store_id="store-1", now=START, upto=11)
        connection.execute(f"CREATE TABLE {name} AS SELECT 1 AS one")
    with pytest.raises(StoreRejected, match=f"table {name} already exists, and .* your own, give it another name"):
        SessionLedger.open(f"sqlite:///{tmp_path}/l.db")
    with closing(sqlite3.connect(tmp_path / "l.db", isolation_level=None)) as connection:
        connection.execute(f"ALTER TABLE {name} RENAME TO mine")
    SessionLedger.open(f"sqlite:///{tmp_path}/l.db").close()
    with closing(sqlite3.connect(tmp_path / "l.db")) as connection:
        assert connection.execute("SELECT one FROM mine").fetchone() == (1,)


# The disk is full

FILL = """
import sys
from ledger import LedgerError, SessionLedger
if sys.argv[2] != "0":
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
ledger = SessionLedger.open(f"sqlite:///{sys.argv[1]}")
for step in range(10_000):
    try:
        done = ledger.update_session("s", {"context": {f"k{step % 7}": str(step) * 500}})
    except LedgerError as error:
        print(type(error).__name__, error, flush=True)
        break
    print(done.version, flush=True)
assert ledger.get_session("s").version >= step  # what is there can still be read
ledger.close()
"""


def fill(path: Path, limit: int) -> tuple[int, str]:
    """Append until the disk is full; the last version acknowledged and the error."""
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(path), str(limit)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    *versions, error = done.stdout.splitlines()
    assert versions, error
    return int(versions[-1]), error


def check_whole(path: Path, acknowledged: int) -> None:
    with SessionLedger.open(f"sqlite:///{path}") as ledger:
        events = ledger.history("s", limit=10_000)
        assert len(events) >= acknowledged
        assert len(events) <= acknowledged + 1, "more than the one whose answer was an error"
        assert verify(events) == len(events)
        assert ledger.store.state("s")[1] == fold(events)
        assert ledger.update_summary("s", "there is room again").version == len(events) + 1


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits")
def test_on_a_full_disk_what_was_acknowledged_stays_and_nothing_is_half_written(path):
    acknowledged, error = fill(path, 600_000)
    assert error.split()[0] in ("StoreUnavailable", "OutcomeUnknown")
    check_whole(path, acknowledged)


MOUNTED = """
import subprocess, sys
from pathlib import Path
from ledger import SessionLedger
sys.path.insert(0, sys.argv[2])
from faults.test_files import check_whole, fill
small = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(small)], check=True)
with SessionLedger.open(f"sqlite:///{small}/l.db") as ledger:
    ledger.create_session("ada", "q", session_id="s")
acknowledged, error = fill(small / "l.db", 0)
print(error)
subprocess.run(["mount", "-o", "remount,size=5m", str(small)], check=True)
check_whole(small / "l.db", acknowledged)
print("whole")
"""


def test_on_a_full_file_system_what_was_acknowledged_stays(tmp_path, unshared):
    command = [*unshared, sys.executable, "-c", MOUNTED, str(tmp_path), str(Path(__file__).parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    error, last = done.stdout.splitlines()
    assert error.startswith("StoreUnavailable")
    assert "full. Free some space" in error
    assert last == "whole"


# Permissions

UNOWNED = 65534
AS_NOBODY = """
import os, sys
from ledger import LedgerError, SessionLedger
import ledger.stores.sqlite.store
if os.geteuid() == 0:  # only now, as the installation may not be for everybody to read
    os.setgid({nobody}); os.setuid({nobody})
try:
    ledger = SessionLedger.open(f"sqlite:///{{sys.argv[1]}}")
    {use}
except LedgerError as error:
    print(type(error).__name__, error)
else:
    print("went through")
"""


#: What `ledger doctor` finds of the file.
EXAMINED = """
import os, sys
from ledger.cli.doctor.sqlite import examine_file
from ledger.stores.urls import parse_url
import ledger.stores.sqlite.first_rows, ledger.stores.sqlite.read_only
os.setgid({nobody}); os.setuid({nobody})
for each in examine_file(parse_url(sys.argv[1])):
    print(each)
"""


@pytest.fixture
def anybodys() -> Iterator[Path]:
    """A ledger in a folder that anybody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        path = Path(folder) / "data" / "l.db"
        path.parent.mkdir()
        with SessionLedger.open(f"sqlite:///{path}") as ledger:
            ledger.create_session("ada", "q", session_id="s")
        yield path
        path.parent.chmod(0o755)


def as_nobody(path: Path, use: str, *, program: str = AS_NOBODY) -> str:
    source = program.format(nobody=UNOWNED, use=use)
    done = subprocess.run([sys.executable, "-c", source, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="permissions")
def test_a_read_only_file_is_refused_to_writers_with_a_way_out(anybodys):
    anybodys.chmod(0o444)
    anybodys.parent.chmod(0o777)
    for file in anybodys.parent.glob("l.db-*"):
        file.chmod(0o666)
    said = as_nobody(anybodys, "ledger.update_summary('s', 'x')")
    assert said.startswith("StoreRejected")
    assert "permissions" in said
    with SessionLedger.open(f"sqlite:///{anybodys}") as ledger:
        assert ledger.get_session("s").version == 1


@pytest.mark.skipif(sys.platform == "win32", reason="permissions")
def test_a_read_only_folder_is_refused_with_a_way_out(anybodys):
    anybodys.chmod(0o666)
    anybodys.parent.chmod(0o555)
    said = as_nobody(anybodys, "ledger.update_summary('s', 'x')")
    assert said.startswith("StoreRejected")


@pytest.mark.skipif(sys.platform == "win32", reason="permissions")
def test_lock_files_that_belong_to_somebody_else_are_an_error_of_the_ledger(anybodys):
    anybodys.chmod(0o666)
    anybodys.parent.chmod(0o777)
    for file in anybodys.parent.glob("l.db-turn*"):
        file.chmod(0o600)
    if os.geteuid() != 0:
        pytest.skip("one's own files cannot be made somebody else's")
    said = as_nobody(anybodys, "ledger.update_summary('s', 'x')")
    assert said.startswith("StoreRejected")
    assert "turn" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_ledger_that_another_user_has_closed_says_whose_it_is_and_the_doctor_asks_for_no_backup(anybodys):
    anybodys.chmod(0o600)
    owner = f"{pwd.getpwuid(anybodys.stat().st_uid).pw_name}, group "
    said = as_nobody(anybodys, "ledger.get_session('s')")
    assert said.startswith(f"StoreRejected The ledger {anybodys} may not be read by this user: its owner is {owner}")
    assert "Run the command as its owner, or have the owner open it to all who use it" in said
    told = as_nobody(anybodys, "", program=EXAMINED)
    assert f"its owner is {owner}" in told
    assert ("remedy='run the command as its owner" in told, "restore a backup" in told) == (True, False)


# The file goes away


def test_an_append_to_a_file_that_was_deleted_is_not_acknowledged(path):
    ledger = SessionLedger.open(f"sqlite:///{path}")
    ledger.update_summary("s", "kept")
    for file in path.parent.iterdir():
        file.unlink()
    with pytest.raises(StoreError, match=str(path)):
        ledger.update_summary("s", "lost")
    ledger.close()


def test_an_append_to_a_file_that_was_replaced_is_not_acknowledged(path, tmp_path):
    ledger = SessionLedger.open(f"sqlite:///{path}")
    ledger.store.backup(tmp_path / "copy.db")
    ledger.update_summary("s", "kept")
    (tmp_path / "copy.db").replace(path)
    with pytest.raises(StoreError):
        ledger.update_summary("s", "lost")
    ledger.close()


# Large


def test_very_long_messages_and_a_thousand_changes_come_back(path):
    text = "é😀" * 600_000
    with SessionLedger.open(f"sqlite:///{path}") as ledger:
        ledger.add_message("s", "user", text)
        ledger.append("s", "a.b", [Change("attribute", f"{n}", {"n": n}) for n in range(1000)])
        assert ledger.get_messages("s")[0].content == text
        assert ledger.get_session("s").attributes == {str(n): {"n": n} for n in range(1000)}
        assert verify(ledger.history("s")) == 3
        ledger.store.backup(path.parent / "copy.db")
    with SessionLedger.open(f"sqlite:///{path.parent}/copy.db") as copy:
        assert copy.get_messages("s")[0].content == text


def test_a_backup_holds_what_was_acknowledged_while_others_append(path, tmp_path):
    ledger = SessionLedger.open(f"sqlite:///{path}")
    writer = subprocess.Popen([sys.executable, "-c", FILL, str(path), "0"], stdout=subprocess.PIPE, text=True)
    for number in range(5):
        for _ in range(20):
            acknowledged = int(writer.stdout.readline())
        copy = tmp_path / f"{number}.db"
        ledger.store.backup(copy)
        with SessionLedger.open(f"sqlite:///{copy}") as kept:
            events = kept.history("s", limit=10_000)
            assert len(events) >= acknowledged
            assert verify(events) == len(events)
    writer.kill()
    writer.communicate()
    ledger.close()


def test_a_ledger_is_a_file_of_its_own_after_closing(path):
    with SessionLedger.open(f"sqlite:///{path}") as ledger:
        ledger.update_summary("s", "x")
    assert not [it.name for it in path.parent.iterdir() if it.name.endswith(("-wal", "-shm"))]
    moved = path.with_name("moved.db")
    path.rename(moved)
    with SessionLedger.open(f"sqlite:///{moved}") as ledger:
        assert ledger.get_session("s").summary == "x"


def test_errors_name_the_file(path):
    path.write_bytes(b"nothing" * 1000)
    with pytest.raises(LedgerError, match=str(path)):
        SessionLedger.open(f"sqlite:///{path}")

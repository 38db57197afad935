"""A short torture run, and what it is made of: that its faults strike, and that its checks see what is wrong."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from faults.strikes import Interruption, Target, TimeLimit

if sys.platform == "win32":
    pytest.skip("signals and fork", allow_module_level=True)

from faults.disk_faults import OF_SQLITE, DiskFaults
from faults.torture_board import Board
from faults.torture_checks import Checks
from faults.torture_journal import Journal, read
from ledger import SessionLedger

TESTS = Path(__file__).parent.parent


def test_a_run_with_faults_at_once_loses_and_doubles_nothing_and_is_never_stale_or_stuck(tmp_path: Path) -> None:
    minutes = os.environ.get("LEDGER_TEST_TORTURE_MINUTES", "0.2")
    arguments = ["--seed", "7", "--minutes", minutes, "--kill-every", "3", "--folder", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-m", "faults.torture", *arguments],
        cwd=TESTS,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-10_000:]
    assert "nothing lost, nothing stale" in done.stdout


# Disk faults


@pytest.mark.parametrize("kind", OF_SQLITE)
def test_a_disk_fault_strikes_sqlite_and_leaves_the_file_whole(tmp_path: Path, kind: str) -> None:
    struck: Counter[str] = Counter()
    faults = DiskFaults(random.Random(1), lambda what: struck.update([what]))
    if kind not in faults.kinds:
        assert not hasattr(sqlite3, "__file__"), "SQLite's symbols are hidden, so only size limits are played"
        return
    failed: list[str] = []
    done = 0
    with closing(sqlite3.connect(tmp_path / "l.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x)")
        try:
            faults.play(kind)
            for number in range(30):
                try:
                    connection.execute("INSERT INTO t VALUES (?)", (str(number) * 3000,))
                    done += 1
                except sqlite3.OperationalError as error:
                    failed.append(error.sqlite_errorname)
        finally:
            faults.stop()
        connection.execute("INSERT INTO t VALUES ('last')")
        assert struck[kind] > 3
        expected = {"disk_full": {"SQLITE_FULL"}, "io_error": {"SQLITE_IOERR_WRITE"}, "short_write": set()}
        assert set(failed) == expected[kind]
        assert connection.execute("SELECT COUNT(*) FROM t").fetchone() == (done + 1,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_size_limit_strikes_every_file_and_ends(tmp_path: Path) -> None:
    faults = DiskFaults(random.Random(1), lambda what: None)
    path = tmp_path / "file"
    with open(path, "wb", buffering=0) as file:
        try:
            faults.play("size_limit", size=1000)
            assert file.write(b"x" * 1500) == 1000
            with pytest.raises(OSError, match="too large"):
                file.write(b"x")
        finally:
            faults.stop()
        assert file.write(b"x" * 500) == 500


# Exceptions


def endless() -> None:
    while True:
        time.sleep(0)


@pytest.mark.parametrize("error", [TimeLimit, Interruption])
def test_an_exception_strikes_a_call_of_the_main_thread_and_nothing_after_it(error: type[BaseException]) -> None:
    by: list[str] = []
    target = Target(by.append)
    with pytest.raises(error):
        target.call(endless, 0.01, error)
    assert by == ["signal"]
    assert target.call(lambda: 5, 30.0, error) == 5
    assert target.call(lambda: 6, None, error) == 6


def test_an_exception_strikes_a_call_of_another_thread_and_nothing_after_it() -> None:
    by: list[str] = []
    outcomes: list[Any] = []
    targets: list[Target] = []

    def work() -> None:
        target = Target(by.append)
        targets.append(target)
        for _ in range(20):
            try:
                target.call(endless, 0.001, TimeLimit)
            except TimeLimit:
                outcomes.append("struck")
            outcomes.append(target.call(lambda: "done", 30.0, TimeLimit))

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        for target in targets:
            target.strike_if_due()
    assert outcomes == ["struck", "done"] * 20
    assert by == ["thread"] * 20


# Checks


def test_a_version_that_was_acknowledged_is_seen_by_every_process_until_the_next_generation(tmp_path: Path) -> None:
    mine, other = Board(tmp_path / "board"), Board(tmp_path / "board")
    mine.acknowledge(3, 2, 1, 7)
    other.acknowledge(4, 2, 1, 5)
    assert (mine.floor(2, 1), other.floor(2, 1), other.floor(2, 2), other.floor(1, 1)) == (7, 7, 0, 0)
    other.acknowledge(3, 2, 2, 1)
    assert (mine.floor(2, 1), mine.floor(2, 2)) == (5, 1)
    mine.begin(3, "sync")
    assert other.overdue(3, 0.0) == "sync"
    assert not other.overdue(3, 60.0)
    mine.count(3, "kill")
    assert other.counted()["kill"] == 1


@pytest.fixture
def checks(tmp_path: Path) -> Checks:
    """A run that has ended well: a session, its events acknowledged, one refused, another session deleted."""
    found, journal = Checks(tmp_path), Journal(tmp_path / "a.journal")
    with SessionLedger.open(found.url, warehouse=found.warehouse) as ledger:
        ledger.create_session("ada", "q", session_id="s")
        ledger.create_session("ada", "q", session_id="gone")
        journal.write("created", "s")
        journal.write("created", "gone")
        journal.write("doomed", "gone")
        ledger.delete_session("gone")
        journal.write("deleted", "gone")
        for number in range(3):
            done = ledger.add_message("s", "user", f"hello {number}")
            journal.write("acknowledged", "s", done.event_id, done.version)
        ledger.archive_session("s")
        ledger.warehouse.sync()
    journal.write("refused", "s", "no such event", "StoreUnavailable: nothing was written")
    journal.close()
    return found


def kinds(checks: Checks) -> set[str]:
    return {kind for kind, _ in [*checks.violations, *checks.account.violations]}


def tamper(checks: Checks, sql: str) -> None:
    with closing(sqlite3.connect(checks.folder / "ledger.db", isolation_level=None)) as connection:
        connection.execute(sql)


def told(checks: Checks, kind: str, *what: Any) -> None:
    journal = Journal(checks.folder / "b.journal")
    journal.write(kind, *what)
    journal.close()


def test_a_run_that_ended_well_passes(checks: Checks) -> None:
    checks.at_rest()
    checks.at_end()
    assert checks.violations == []
    assert checks.figures == {"acknowledged": 3, "sessions": 1, "events": 6, "deleted for good": 1, "rows compared": 7}


def test_an_acknowledged_event_or_session_that_is_not_there_is_found(checks: Checks) -> None:
    told(checks, "acknowledged", "s", "never", 9)
    told(checks, "created", "nowhere")
    checks.at_rest()
    assert kinds(checks) == {"acknowledged event lost", "acknowledged session lost"}


def test_an_event_acknowledged_at_two_versions_is_found(checks: Checks) -> None:
    for version in (8, 9):
        told(checks, "acknowledged", "s", "e", version)
    assert [kind for kind, _ in read(checks.folder).violations] == ["two versions"]


def test_an_event_that_is_there_although_it_was_refused_is_found(checks: Checks) -> None:
    with SessionLedger.open(checks.url, create=False) as ledger:
        made = ledger.create_session("ada", "q")
        (event,) = ledger.history(made)
    told(checks, "refused", made, event.event_id, "StoreUnavailable")
    checks.at_end()
    assert kinds(checks) == {"written although refused"}


def test_a_session_deleted_for_good_that_is_still_there_is_found(checks: Checks) -> None:
    told(checks, "deleted", "s")
    checks.at_end()
    assert kinds(checks) == {"not deleted"}


def test_a_row_that_the_warehouse_has_otherwise_is_found(checks: Checks) -> None:
    checks.at_end()
    tamper(checks, "UPDATE session_events SET actor = 'eve' WHERE version = 3")
    checks.violations.clear()
    checks.at_end()
    assert {"not whole", "verify", "warehouse differs"} < kinds(checks)


def test_a_state_that_is_not_the_fold_of_the_events_is_found(checks: Checks) -> None:
    checks.at_end()
    tamper(checks, "UPDATE session_state SET value = '\"other\"' WHERE field = 'question'")
    checks.violations.clear()
    checks.at_end()
    assert kinds(checks) >= {"not whole", "verify"}


def test_a_message_that_is_there_twice_is_found(checks: Checks) -> None:
    with SessionLedger.open(checks.url, create=False, warehouse=checks.warehouse) as ledger:
        ledger.hydrate_session("s")
        for _ in range(2):
            ledger.add_message("s", "user", "said once", message_id="m")
    checks.at_end()
    assert kinds(checks) == {"doubled"}


@pytest.mark.parametrize("lacking", [{"s": 99}, {"nowhere": 1}])
def test_backups_and_exports_that_lack_what_was_acknowledged_before_are_found(
    checks: Checks, lacking: dict[str, int]
) -> None:
    with SessionLedger.open(checks.url, create=False, warehouse=checks.warehouse) as ledger:
        ledger.hydrate_session("s")
        ledger.store.backup(checks.folder / "a.backup")
    told(checks, "backups", "a.backup", {"s": 6})
    told(checks, "exports", "a.export", {"s": 6})
    (checks.folder / "a.export").touch()
    checks.at_rest()
    assert kinds(checks) == {"export lacks events"}
    with SessionLedger.open(checks.url, create=False) as ledger:
        ledger.store.backup(checks.folder / "a.backup")
    told(checks, "backups", "a.backup", lacking)
    checks.at_rest()
    assert "backup lacks events" in kinds(checks)

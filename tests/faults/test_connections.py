"""Reads that an exception strikes anywhere: later reads are current, nothing stays open, and a fork is clean."""

from __future__ import annotations

import gc
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.interruption import Interruption, TimeLimit, interrupters
from ledger import Change, NewEvent, SessionLedger, StoreRejected, StoreUnavailable
from ledger.clock import new_id, utc_now
from ledger.model.queries import SessionQuery
from ledger.stores.sqlite import commit_jobs, connections, group_commit, outbox, read, rows, store
from ledger.stores.sqlite.store import SqliteStore

# An exception that strikes in a finalizer is printed; the connection is closed all the same.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
monitored = pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db") as ledger:
        for n in range(3):
            ledger.create_session("ada", f"question {n}", session_id=f"s{n}")
            ledger.add_message(f"s{n}", "user", "hello there")
    return tmp_path / "l.db"


@pytest.fixture
def opened(path: Path) -> Iterator[SqliteStore]:
    it = SqliteStore(path, synchronous="NORMAL")
    yield it
    it.close()


def append(it: SqliteStore, session_id: str = "s0") -> int:
    return it.append(session_id, NewEvent("a.b", [Change("title", value="t")], new_id(utc_now()))).version


READS: dict[str, Callable[[SqliteStore], Any]] = {
    "state": lambda it: it.state("s0"),
    "state at a version": lambda it: it.state("s0", version=1),
    "events": lambda it: it.events("nobody"),
    "messages": lambda it: it.messages("s0", after=None, limit=1),
    "sessions": lambda it: it.sessions(SessionQuery(user_id="ada")),
    "rows": lambda it: it.rows_after(0, 2),
    "outbox": lambda it: it.outbox("duckdb:///w").status(),
}
MODULES = (connections, read, rows, store, outbox)


@monitored
@pytest.mark.parametrize("error", [Interruption, sqlite3.OperationalError])
@pytest.mark.parametrize("name", READS)
def test_a_read_interrupted_anywhere_leaves_later_reads_current_and_no_connection_open(opened, name, error):
    kept: list[BaseException] = []  # as a notebook keeps the last exception, and so its frames
    for interrupter in interrupters(*MODULES, error=error):
        try:
            interrupter.run(lambda: READS[name](opened))
        except BaseException as struck:  # noqa: BLE001 - it is kept
            kept.append(struck)
        version = append(opened)
        assert opened.state("s0")[0].version == version
        assert opened.events("s0", after=version - 1)[0].version == version
        assert [head.version for head, _ in opened.sessions(SessionQuery()) if head.session_id == "s0"] == [version]
        opened._connections._close_idle()
        assert opened._connections._all_open() == [opened._writer], kept[-1:]
    assert kept


@monitored
@pytest.mark.parametrize("error", [Interruption, TimeLimit])
def test_a_fork_prepared_beside_an_exception_anywhere_lets_the_ledger_go_on(opened, error):
    def hooks() -> None:
        opened.before_fork(time.monotonic() + 5)
        opened.after_fork_in_parent()

    for interrupter in interrupters(connections, store, group_commit, commit_jobs, error=error):
        opened.state("s0")
        try:
            interrupter.run(hooks)
        except error:
            opened.after_fork_in_parent()  # as the registry does
        version = append(opened)
        assert opened.state("s0")[0].version == version


@monitored
def test_closing_is_interrupted_anywhere_and_done_again(path):
    for interrupter in interrupters(connections, store, group_commit, commit_jobs):
        it = SqliteStore(path)
        it.state("s0")
        try:
            interrupter.run(it.close)
        except Interruption:
            it.close()
        with pytest.raises(StoreRejected, match="closed"):
            it.state("s0")
        assert not path.with_name("l.db-wal").exists()


@monitored
def test_opening_is_interrupted_anywhere_and_done_again(path):
    for interrupter in interrupters(connections, store, group_commit, commit_jobs):
        opened: list[SqliteStore] = []
        try:
            opened.append(interrupter.run(lambda: SqliteStore(path)))
        except Interruption:
            opened.append(SqliteStore(path))
        assert opened[0].before_fork(time.monotonic() + 5)
        opened[0].after_fork_in_parent()
        append(opened[0])
        opened[0].close()


def test_a_cursor_that_a_traceback_keeps_alive_does_not_keep_the_file_open(opened):
    kept: list[sqlite3.Cursor] = []

    def work(connection: sqlite3.Connection) -> None:
        kept.append(connection.execute("SELECT 1 UNION ALL SELECT 2"))
        kept[0].fetchone()
        raise Interruption

    with pytest.raises(Interruption):
        opened._read(work)
    assert opened._connections._all_open() == [opened._writer]
    with pytest.raises(sqlite3.ProgrammingError):
        kept[0].fetchone()


def test_a_connection_that_is_lost_between_two_lines_is_closed(opened):
    opened.state("s0")
    opened._connections._idle.clear()
    gc.collect()
    assert opened._connections._all_open() == [opened._writer]


@forks
def test_a_read_that_a_fork_interrupts_runs_again_and_one_that_is_interrupted_too_often_says_so(opened):
    runs: list[int] = []

    def interrupted(times: int) -> int:
        def work(connection: sqlite3.Connection) -> int:
            runs.append(1)
            if len(runs) <= times:
                connection.is_interrupted = True  # type: ignore[attr-defined]
                raise sqlite3.OperationalError("interrupted")
            return len(runs)

        return opened._read(work)

    assert interrupted(2) == 3
    runs.clear()
    with pytest.raises(StoreUnavailable, match="interrupted a read"):
        interrupted(100)


@forks
def test_a_long_query_does_not_hold_up_a_fork_and_has_its_answer_afterwards(opened):
    begun = threading.Event()
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
    runs: list[int] = []

    def work(connection: sqlite3.Connection) -> str:
        runs.append(1)
        begun.set()
        if len(runs) == 1:
            connection.execute(endless).fetchone()
        return "answer"

    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(opened._read(work)))
    thread.start()
    begun.wait(10)
    assert opened.before_fork(time.monotonic() + 30)
    assert opened._connections._all_open() == []
    assert not answers, "a read begins only after the fork"
    opened.after_fork_in_parent()
    thread.join(30)
    assert (answers, len(runs)) == (["answer"], 2)


def test_a_hook_that_calls_the_ledger_while_its_thread_forks_is_told_so(opened):
    assert opened.before_fork(time.monotonic() + 5)
    with pytest.raises(StoreUnavailable, match="This thread is forking"):
        opened.state("s0")
    with pytest.raises(StoreRejected, match="recording already"):
        append(opened)
    opened.after_fork_in_parent()
    assert opened.state("s0")[0].version == append(opened) - 1

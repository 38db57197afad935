"""A group of threads that commit together, one of them interrupted at every place where a signal can strike."""

from __future__ import annotations

import random
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.disk_faults import DiskFaults
from faults.interruption import Interrupter, Interruption, TimeLimit, interrupters
from ledger import OutcomeUnknown, SessionLedger, StoreRejected, StoreUnavailable
from ledger.cli.wording import in_commands
from ledger.stores.sqlite import commit_jobs, group_commit, writer_lock
from ledger.stores.sqlite.commit_jobs import Job
from ledger.stores.sqlite.errors import translate
from ledger.stores.sqlite.group_commit import CommitGroup
from ledger.stores.sqlite.writer_lock import FairFileLock


def opened(path: Path) -> FairFileLock:
    """A lock that was taken and given back."""
    lock = FairFileLock(path, path)
    lock.acquire(0)
    lock.release()
    return lock


class Notes:
    """A table of names, written through a group."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notes.db"
        self.connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = OFF")
        self.connection.execute("CREATE TABLE note (name)")
        self.lock = opened(folder / "turn")
        self.group = CommitGroup(
            self.connection, self.lock, 5.0, lambda error: translate(error, self.path), lambda: None
        )

    def write(self, name: str) -> str:
        def work(connection: sqlite3.Connection) -> str:
            connection.execute("INSERT INTO note VALUES (?)", (name,))
            return name

        return self.group.run(work)

    def names(self) -> list[str]:
        return [name for (name,) in self.connection.execute("SELECT name FROM note ORDER BY rowid")]

    def is_at_rest(self) -> bool:
        return not self.group._queue and not self.group._inside and not self.group._mutex.locked()

    def close(self) -> None:
        self.connection.close()
        self.lock.close()


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Notes]:
    notes = Notes(tmp_path)
    yield notes
    notes.close()


class Writer(threading.Thread):
    """A thread that writes one name; ``answer`` is what it got back or what was raised."""

    def __init__(self, notes: Notes, name: str, interrupter: Interrupter | None = None) -> None:
        super().__init__(daemon=True)
        self.notes, self.note, self.interrupter, self.answer = notes, name, interrupter, None

    def run(self) -> None:
        def act() -> str:
            return self.notes.write(self.note)

        try:
            self.answer = self.interrupter.run(act) if self.interrupter else act()
        except BaseException as error:  # noqa: BLE001 - it is the answer
            self.answer = error


def together(notes: Notes, writers: list[Writer]) -> None:
    """Let writers queue in order, then go: the first leads the others."""
    assert notes.group.pause(5.0)
    for writer in writers:
        writer.start()
        # Not the length of the queue, as another writer may be interrupted meanwhile, and leave it.
        while writer.is_alive() and all(job.thread != writer.ident for job in notes.group._queue.copy()):
            time.sleep(0)
    notes.group.resume()
    for writer in writers:
        writer.join(10)
        assert not writer.is_alive(), "a thread sleeps for good"


monitored = pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring")


@monitored
@pytest.mark.parametrize("error", [Interruption, TimeLimit])
@pytest.mark.parametrize(("size", "struck"), [(1, 0), (3, 0), (3, 1), (3, 2)])
def test_a_thread_interrupted_anywhere_in_a_group_stops_nobody_and_loses_nothing(notes, size, struck, error):
    for point, interrupter in enumerate(interrupters(group_commit, commit_jobs, writer_lock, error=error)):
        writers = [Writer(notes, f"{point}-{n}", interrupter if n == struck else None) for n in range(size)]
        together(notes, writers)
        recorded = [name for name in notes.names() if name.startswith(f"{point}-")]
        for number, writer in enumerate(writers):
            interrupted = isinstance(writer.answer, error)
            assert writer.answer == writer.note or (number == struck and interrupted), (point, writer.answer)
            assert recorded.count(writer.note) == 1 or (interrupted and recorded.count(writer.note) == 0)
        assert interrupter.struck == isinstance(writers[struck].answer, error), "it is raised"
        assert notes.is_at_rest(), point
    assert notes.write("after") == "after"


@monitored
def test_a_thread_interrupted_anywhere_alone_writes_whole_or_not_at_all(notes):
    for point, interrupter in enumerate(interrupters(group_commit, commit_jobs, writer_lock)):
        try:
            interrupter.run(lambda point=point: notes.write(f"{point}"))
        except Interruption:
            assert notes.names().count(f"{point}") <= 1
        assert notes.is_at_rest(), point
        opened(notes.path.parent / "turn").close()


@monitored
def test_stopping_is_interrupted_anywhere_and_done_again(tmp_path):
    for point, interrupter in enumerate(interrupters(group_commit, commit_jobs)):
        folder = tmp_path / f"{point}"
        folder.mkdir()
        notes = Notes(folder)
        try:
            interrupter.run(notes.group.stop)
        except Interruption:
            notes.group.stop()
        with pytest.raises(StoreRejected):
            notes.write("late")
        assert notes.is_at_rest(), point
        notes.close()


@monitored
def test_a_pause_is_interrupted_anywhere_and_ended_by_resume(notes):
    def act() -> None:
        assert notes.group.pause(5.0)
        notes.group.resume()

    for point, interrupter in enumerate(interrupters(group_commit, commit_jobs)):
        try:
            interrupter.run(act)
        except Interruption:
            notes.group.resume()
        assert notes.is_at_rest(), point
        assert notes.write(f"{point}") == f"{point}"


@monitored
def test_waiting_for_the_file_lock_is_interrupted_anywhere_and_holds_up_nobody(tmp_path):
    holder, waiter, third = (opened(tmp_path / "turn") for _ in range(3))
    for point, interrupter in enumerate(interrupters(writer_lock)):
        holder.acquire(1)
        with pytest.raises((Interruption, StoreUnavailable)):
            interrupter.run(lambda: waiter.acquire(0.0))
        waiter.release()
        with pytest.raises(StoreUnavailable, match="did not release"):
            third.acquire(0.0)
        holder.release()
        third.acquire(0.0)
        assert third._has_waiter[0] == 0, point
        third.release()
    for lock in (holder, waiter, third):
        lock.close()


def test_work_that_breaks_and_work_that_is_refused_are_nobody_elses_matter(notes):
    def breaks(_: sqlite3.Connection) -> str:
        raise ZeroDivisionError

    def refused(_: sqlite3.Connection) -> str:
        raise StoreRejected("no")

    writers = [Writer(notes, f"{n}") for n in range(5)]
    for place, work in ((1, breaks), (3, refused)):
        writers[place].run = lambda writer=writers[place], work=work: _answer(writer, work)  # type: ignore[method-assign]
    together(notes, writers)
    assert notes.names() == ["0", "2", "4"]
    kinds = [type(writer.answer).__name__ for writer in writers]
    assert kinds == ["str", "ZeroDivisionError", "str", "StoreRejected", "str"]


def _answer(writer: Writer, work: Callable[[sqlite3.Connection], str]) -> None:
    try:
        writer.answer = writer.notes.group.run(work)
    except Exception as error:  # noqa: BLE001 - it is the answer
        writer.answer = error


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("act", ["write", "stop"])
def test_a_signal_handler_that_uses_the_group_within_an_append_is_refused(notes, act):
    refusals: list[str] = []

    def handler(*_: Any) -> None:
        with pytest.raises(StoreRejected, match="signal handler") as refused:
            notes.write("from the handler") if act == "write" else notes.group.stop()
        refusals.append(str(refused.value))

    def work(connection: sqlite3.Connection) -> str:
        signal.raise_signal(signal.SIGUSR1)
        connection.execute("INSERT INTO note VALUES ('outer')")
        return "outer"

    old = signal.signal(signal.SIGUSR1, handler)
    try:
        assert notes.group.run(work) == "outer"
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert len(refusals) == 1
    assert notes.write("later") == "later"
    assert notes.names() == ["outer", "later"]


def test_an_error_of_the_ledger_in_the_midst_of_work_leaves_nothing_of_it(notes):
    def work(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO note VALUES ('half')")
        raise StoreRejected("from a signal handler")

    writers = [Writer(notes, f"{n}") for n in range(3)]
    writers[1].run = lambda: _answer(writers[1], work)  # type: ignore[method-assign]
    together(notes, writers)
    assert notes.names() == ["0", "2"]
    assert isinstance(writers[1].answer, StoreRejected)


def test_a_pause_that_does_not_come_in_time_is_given_up(tmp_path):
    notes = Notes(tmp_path)
    begun, go = threading.Event(), threading.Event()

    def work(_: sqlite3.Connection) -> None:
        begun.set()
        go.wait(10)

    thread = threading.Thread(target=notes.group.run, args=(work,))
    thread.start()
    begun.wait(10)
    assert not notes.group.pause(0.05)
    notes.group.resume()
    go.set()
    thread.join(10)
    assert notes.write("later") == "later"
    assert notes.is_at_rest()
    notes.close()


class Holding:
    """Work that has begun once ``begun`` is set, and goes on once ``go`` is set."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, _: sqlite3.Connection) -> str:
        self.begun.set()
        assert self.go.wait(10)
        return "held"


def test_stopping_that_does_not_come_in_time_closes_nothing_and_is_done_again(notes):
    work, closed = Holding(), []
    thread = threading.Thread(target=notes.group.run, args=(work,))
    thread.start()
    assert work.begun.wait(10)
    notes.group._patience = 0.05
    try:
        with pytest.raises(StoreUnavailable, match="close the ledger again"):
            notes.group.stop(lambda: closed.append("early"))
        assert closed == []
    finally:
        work.go.set()
        thread.join(10)
    notes.group.stop(lambda: closed.append("now"))
    assert closed == ["now"]


def test_who_waits_too_long_for_a_leader_that_has_taken_its_work_does_not_know_the_outcome(notes):
    work, answers = Holding(), []
    notes.group._patience = 2.0
    assert notes.group.pause(5.0)
    leader = threading.Thread(target=lambda: answers.append(notes.group.run(work)))
    leader.start()
    while len(notes.group._queue) < 2:
        time.sleep(0)
    waiter = Writer(notes, "taken")
    waiter.start()
    while len(notes.group._queue) < 3:
        time.sleep(0)
    notes.group.resume()
    assert work.begun.wait(10)
    waiter.join(10)
    assert isinstance(waiter.answer, OutcomeUnknown)
    work.go.set()
    leader.join(10)
    assert answers == ["held"]
    assert notes.names() == ["taken"]
    assert notes.write("later") == "later"
    assert notes.is_at_rest()


def test_work_that_is_done_when_its_thread_gives_up_is_done(notes):
    job: Job[None] = Job(None, threading.get_ident())
    job.is_taken = job.done = True
    notes.group._give_up(job)


class Always(random.Random):
    """Strikes at every chance, and leaves nothing written."""

    def random(self) -> float:
        return 1.0


@pytest.mark.parametrize(("kind", "error"), [("io_error", OutcomeUnknown), ("disk_full", StoreUnavailable)])
def test_a_commit_that_the_disk_refuses_is_acknowledged_to_no_thread_of_its_group(notes, kind, error):
    faults = DiskFaults(Always(), lambda what: None)
    if kind not in faults.kinds:
        assert not hasattr(sqlite3, "__file__"), "SQLite's symbols are hidden, so only size limits are played"
        return
    writers = [Writer(notes, name) for name in ("first", "second", "third")]
    faults.play(kind)
    try:
        together(notes, writers)
    finally:
        faults.stop()
    assert [type(writer.answer) for writer in writers] == [error] * 3
    assert notes.names() == []
    assert notes.write("after") == "after"
    assert notes.is_at_rest()


def test_an_append_of_which_the_disk_leaves_the_outcome_open_names_its_event_and_how_to_repeat_it(tmp_path):
    faults = DiskFaults(Always(), lambda what: None)
    if "io_error" not in faults.kinds:
        assert not hasattr(sqlite3, "__file__"), "SQLite's symbols are hidden, so only size limits are played"
        return
    with SessionLedger(tmp_path / "ledger.db") as ledger:
        session_id = ledger.create_session("ada", "How many?")
        faults.play("io_error")
        try:
            with pytest.raises(OutcomeUnknown) as told:
                ledger.add_message(session_id, "user", "a week")
        finally:
            faults.stop()
        assert f"Event {told.value.event_id} of session {session_id} may or may not be recorded" in str(told.value)
        assert "run the command again with this id as --event-id" in in_commands(str(told.value), session_id)
        ledger.add_message(session_id, "user", "a week", event_id=told.value.event_id)
        assert ledger.get_session(session_id).version == 2

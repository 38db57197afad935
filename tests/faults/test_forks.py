"""Forks beside threads that read and write without pause: nothing acknowledged is lost, and every child is told."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger import SessionLedger

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fork")

BUSY = """
import os, random, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")
from ledger import SessionLedger, StoreError, StoreUnavailable

path, seed = sys.argv[1], int(sys.argv[2])
ledger = SessionLedger.open(f"sqlite:///{path}?synchronous=NORMAL", default_ttl_hours=None)
enough = threading.Event()
failures, acknowledged, slowest = [], [], [0.0]

def loop(act):
    def run():
        while not enough.is_set():
            try:
                act()
            except StoreUnavailable:
                pass  # it may be tried again
            except BaseException as error:
                failures.append(repr(error))
                return
    return threading.Thread(target=run)

def write():
    ledger.add_message("s", "user", "parent", message_id=(key := f"p{random.random()}"))
    acknowledged.append(key)

def child(way, number):
    status, kept = 0, []
    try:
        for step in range(4):
            ledger.add_message("s", "user", "child", message_id=(key := f"c{os.getpid()}-{step}"))
            os.write(said, f"{key}\\n".encode())
    except StoreError as error:
        os.write(said, f"refused {error}\\n".encode())
    if way == "return":
        sys.exit(0)
    if way == "exec":
        os.execv(sys.executable, [sys.executable, "-c", "pass"])
    if way == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(0)

def forks(seed):
    rng = random.Random(seed)
    for number in range(6):
        way = rng.choice(["return", "_exit", "exec", "kill"])
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            try:
                child(way, number)
            finally:
                os._exit(0)
        slowest[0] = max(slowest[0], time.monotonic() - began)
        os.waitpid(pid, 0)
        time.sleep(rng.random() * 0.02)

heard, said = os.pipe()
threads = [loop(act) for act in (
    write, write, lambda: ledger.search("hello", limit=1000), ledger.list_sessions, lambda: ledger.get_session("s"))]
for thread in threads:
    thread.start()
forkers = [threading.Thread(target=forks, args=(seed + n,)) for n in range(2)]
for thread in forkers:
    thread.start()
for thread in forkers:
    thread.join(60)
enough.set()
for thread in threads:
    thread.join(30)
assert not any(thread.is_alive() for thread in threads + forkers), "a thread waits for ever"
os.close(said)
lines = open(heard).read().split("\\n")
assert not failures, failures
ledger.close()
print("slowest", slowest[0])
print(*acknowledged, *lines, sep="\\n")
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_forks_beside_busy_threads_lose_nothing_however_the_children_end(tmp_path, seed):
    path = tmp_path / "l.db"
    with SessionLedger.open(f"sqlite:///{path}", default_ttl_hours=None) as ledger:
        ledger.create_session("ada", "q", session_id="s")
        for n in range(300):
            ledger.add_message("s", "user", f"hello {n}")
    done = subprocess.run(
        [sys.executable, "-c", BUSY, str(path), str(seed)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    slowest, *said = filter(None, done.stdout.split("\n"))
    assert float(slowest.split()[1]) < 3.0
    keys = {line for line in said if not line.startswith("refused")}
    refused = [line for line in said if line.startswith("refused")]
    assert all("was forked" in line for line in refused)
    assert any(key.startswith("c") for key in keys), "some children recorded"
    connection = sqlite3.connect(path)
    recorded = {key for (key,) in connection.execute("SELECT key FROM session_state WHERE field = 'message'")}
    whole = connection.execute("PRAGMA integrity_check").fetchall()
    connection.close()
    assert keys <= recorded
    assert whole == [("ok",)]


def uses(ledger: SessionLedger) -> list[Callable[[], object]]:
    """Ways to use the ledger, and to open its file again."""
    return [
        lambda: ledger.add_message("s", "user", "child").version,
        lambda: ledger.get_session("s").version,
        lambda: SessionLedger.open(f"sqlite:///{ledger.store.path}").get_session("s").version,
    ]


def forked_in_a_handler(ledger: SessionLedger, within: str, acts: list[Callable[[], object]]) -> list[str]:
    """Fork in a signal handler that strikes within a call of this thread; what the child's acts returned or raised."""
    reader, writer = os.pipe()
    pids: list[int] = []

    def handler(*_: object) -> None:
        pids.append(os.fork())
        if pids[-1] == 0:
            said = []
            for act in acts:
                try:
                    said.append(str(act()))
                except Exception as error:  # noqa: BLE001 - it is what is said
                    said.append(f"{type(error).__name__}: {error}")
            os.write(writer, "\n".join(said).encode())
            os._exit(0)

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("SELECT 1").fetchone()
        if not pids:
            signal.raise_signal(signal.SIGUSR1)
        connection.execute("SELECT 1").fetchone()

    old = signal.signal(signal.SIGUSR1, handler)
    try:
        getattr(ledger.store._local, within)(work)
    finally:
        signal.signal(signal.SIGUSR1, old)
    os.close(writer)
    with open(reader) as pipe:
        said = pipe.read().split("\n")
    os.waitpid(pids[0], 0)
    return said


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SessionLedger]:
    it = SessionLedger.open(f"sqlite:///{tmp_path}/l.db")
    it.create_session("ada", "q", session_id="s")
    yield it
    it.close()


def test_a_child_forked_within_an_append_of_its_thread_may_not_use_the_file_by_any_name(ledger):
    said = forked_in_a_handler(ledger, "_run", uses(ledger))
    assert len(said) == 3
    assert all(each.startswith("StoreRejected: This process was forked while") for each in said)
    assert ledger.add_message("s", "user", "parent").version == 2
    assert ledger.get_session("s").version == 2


def test_a_child_that_may_not_use_the_file_closes_its_ledger_without_an_error(tmp_path):
    url = f"sqlite:///{tmp_path}/l.db"
    with SessionLedger.open(url, warehouse=f"duckdb:///{tmp_path}/w.duckdb", relay="background") as ledger:
        ledger.create_session("ada", "q", session_id="s")
        used, *closed = forked_in_a_handler(ledger, "_run", [*uses(ledger)[:1], ledger.close, ledger.close])
        assert used.startswith("StoreRejected: This process was forked while")
        assert closed == ["0", "0"]
        ledger.add_message("s", "user", "parent")
        assert ledger.close(drain=30) == 0


def test_a_child_forked_within_a_read_of_its_thread_reads_and_writes_and_the_read_goes_on(ledger):
    assert forked_in_a_handler(ledger, "_read", uses(ledger)) == ["2", "2", "2"]
    assert ledger.add_message("s", "user", "parent").version == 3


def test_a_child_that_returns_from_the_handler_into_the_append_writes_nothing_with_the_parents_connection(ledger):
    def handler(*_: object) -> None:
        pids.append(os.fork())

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO meta VALUES ('probe', '1')")
        signal.raise_signal(signal.SIGUSR1)
        connection.execute("INSERT INTO meta VALUES ('probe 2', '1')")

    pids: list[int] = []
    old = signal.signal(signal.SIGUSR1, handler)
    try:
        ledger.store._local._run(work)
        said = "recorded"
    except Exception as error:  # noqa: BLE001 - it is what the child says
        said = str(error)
    finally:
        signal.signal(signal.SIGUSR1, old)
    if pids[0] == 0:
        os._exit(0 if "was forked while" in said else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 0
    assert said == "recorded"
    rows = ledger.store._local._read(lambda it: it.execute("SELECT name FROM meta WHERE name LIKE 'probe%'").fetchall())
    assert len(rows) == 2

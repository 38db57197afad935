"""One process of a torture run: threads that use one ledger, and trouble of its own making.

The run forks it, with nothing open, so that what takes seconds to load is loaded once. What its own children execute is
``python -m faults.torture_worker FOLDER SEED PROCESS START TOKEN``. SIGUSR1 writes every thread's stack to its log.
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from faults.disk_faults import OF_ALL_FILES, OF_SQLITE, DiskFaults
from faults.strikes import Target
from faults.torture_actions import Actions, Seen
from faults.torture_board import ACTIONS, CHILDREN, END, PROCESSES, RUN, THREADS, Board
from faults.torture_journal import Journal
from ledger import SessionLedger

#: Seconds between two actions of a thread, on average.
PACE = 0.03
#: Clock jumps: up to so many seconds, forwards and back, from the true time.
JUMPS = {"seconds": 30.0, "hours": 20 * 3600.0, "days": 20 * 86400.0}
#: Seconds after which a forked child that still runs has hung.
CHILD_LIMIT = 60.0
_PR_SET_PDEATHSIG = 1


class Process:
    """The threads of one process.

    Args:
        folder, seed: The run's.
        number: Which process this is.
        start: How often it was started.
    """

    def __init__(self, folder: Path, seed: int, number: int, start: int) -> None:
        self.folder = folder
        self.name = f"{seed}-{number}-{start}"
        self.number = number
        self.board = Board(folder / "board")
        self.ended = threading.Event()
        self.chance = random.Random(f"trouble of {self.name}")
        self.ledger = self.open(background=number == 0)
        self.targets: list[Target] = []
        self.disk = DiskFaults(self.chance, lambda kind: self.board.count(self.row(0), kind))

    def open(self, *, background: bool = False) -> SessionLedger:
        """Open the ledger with the clock of this process."""
        has_warehouse = self.board.has("warehouse")
        return SessionLedger.open(
            f"sqlite:///{self.folder}/ledger.db",
            warehouse=f"duckdb:///{self.folder}/warehouse.duckdb" if has_warehouse else None,
            relay="background" if background and has_warehouse else "off",
            default_ttl_hours=None,
            clock=lambda: datetime.now(UTC) + timedelta(microseconds=self.board.clock[self.number]),
        )

    def row(self, thread: int) -> int:
        """The row of a thread on the board."""
        return self.number * THREADS + thread

    def run(self) -> None:
        """Work in all threads, this one among them, until told to end."""
        threads = [threading.Thread(target=self._work, args=(thread,)) for thread in range(1, THREADS)]
        threads.append(threading.Thread(target=self._make_trouble, daemon=True))
        for each in threads:
            each.start()
        self._work(0)
        self.ended.set()
        for each in threads:
            each.join()
        self.board.begin(self.row(0), "close")
        self.ledger.close()
        self.board.end(self.row(0))
        self._reap(0)

    def _work(self, thread: int) -> None:
        journal = Journal(self.folder / f"{self.name}-{thread}.journal")
        target = Target(
            lambda by: self.board.count(self.row(thread), f"struck by {by}"), lambda: not self.disk.may_be_called
        )
        self.targets.append(target)
        actions = Actions(self.ledger, self.board, self.row(thread), journal, target, self.folder)
        chance, number = random.Random(f"{self.name}-{thread}"), 0
        names, weights = [*ACTIONS], [*ACTIONS.values()]
        while self.board.phase[0] != END and not self.board.ending[self.number]:
            if self.board.phase[0] != RUN:
                self.board.parked[actions.row] = 1
                time.sleep(0.01)
                continue
            self.board.parked[actions.row] = 0
            number += 1
            action = chance.choices(names, weights)[0]
            token = f"{self.name}-{thread}-{number}"
            self._one(actions, action, token)
            time.sleep(chance.uniform(0, 2 * PACE))

    def _one(self, actions: Actions, action: str, token: str) -> None:
        """Do one action, and write down what is wrong."""
        row = actions.row
        self.board.begin(row, action)
        try:
            if action == "fork" and self.board.has("forks"):
                self._fork(actions, token)
                return
            outcome = actions.one({"import": "import_", "fork": "read"}.get(action, action), token)
            self.board.count(row, f"{action} {outcome}")
        except Seen as seen:
            actions.journal.write("violation", seen.args[0], f"{action} {token}: {seen.args[1]}")
        except Exception:  # noqa: BLE001 - an error that is not of the tree breaks a promise
            actions.journal.write("violation", "foreign error", f"{action} {token}: {traceback.format_exc()[-2500:]}")
        finally:
            self.board.end(row)

    # -- forks --------------------------------------------------------------------------------------------------------

    def _fork(self, actions: Actions, token: str) -> None:
        chance = random.Random(token)
        ending = chance.choice(["return", "os._exit", "exec", "kill"])
        began = time.monotonic()
        child = os.fork()
        if child:
            actions.journal.write("forks", time.monotonic() - began)
            self.board.count(actions.row, f"fork: {ending}")
            self.board.count(actions.row, "fork done")
            return
        try:
            faulthandler.dump_traceback_later(CHILD_LIMIT, exit=True)
            self.disk.stop()
            self.child(token, ending, self.ledger)
        except BaseException:  # noqa: BLE001 - it never goes on as a second worker
            failed = Journal(self.folder / f"{token}-{ending}-failed.journal")
            failed.write("violation", "a child failed", f"{token} {ending}: {traceback.format_exc()[-2500:]}")
        finally:
            os._exit(1)

    def child(self, token: str, ending: str, ledger: SessionLedger) -> None:
        """Be a child: append and read, and end in one of four ways, or return where the ending is another."""
        row = PROCESSES * THREADS + self.number * CHILDREN + os.getpid() % CHILDREN
        journal = Journal(self.folder / f"{token}-{ending}.journal")
        mine = Actions(ledger, self.board, row, journal, None, self.folder)
        chance = random.Random(f"{token} {ending}")
        for number in range(chance.randrange(1, 12)):
            try:
                action = chance.choice(["message", "message", "fields", "read", "history"])
                if mine.one(action, f"{token}-{ending}-{number}") == "done":
                    self.board.count(row, "events of children")
                if chance.random() < 0.2:
                    time.sleep(chance.uniform(0, 0.3))
            except Seen as seen:
                journal.write("violation", seen.args[0], f"child {token} {ending}: {seen.args[1]}")
            except Exception:  # noqa: BLE001 - as in _one
                journal.write("violation", "foreign error", f"child {token} {ending}: {traceback.format_exc()[-2500:]}")
        if ending == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif ending == "exec":
            arguments = ["-m", "faults.torture_worker", str(self.folder), *self.name.split("-"), token]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            os.execve(sys.executable, [sys.executable, *arguments], environment)  # noqa: S606 - as applications do
        elif ending == "os._exit":
            os._exit(0)
        elif ending == "return":
            if chance.random() < 0.5:
                ledger.close()
            leave(0)

    def _reap(self, options: int = os.WNOHANG) -> None:
        """Wait for children; one that failed by itself breaks a promise."""
        while True:
            try:
                child, status = os.waitpid(-1, options)
            except ChildProcessError:
                return
            if not child:
                return
            code = os.waitstatus_to_exitcode(status)
            if code not in (0, -signal.SIGKILL):
                self._journal.write("violation", "a child ended by itself", f"{child} of {self.name}: {code}")

    # -- trouble ------------------------------------------------------------------------------------------------------

    def _make_trouble(self) -> None:
        """Strike threads, play disk faults, and have the clock jump."""
        self._journal = Journal(self.folder / f"{self.name}-trouble.journal")
        disk_at, clock_at, disk_until, kind = time.monotonic() + 1, time.monotonic() + 1, 0.0, ""
        while not self.ended.is_set():
            time.sleep(0.002)
            now = time.monotonic()
            for target in self.targets[:]:
                target.strike_if_due()
            if disk_until and (now > disk_until or self.board.phase[0] != RUN):
                self.disk.stop()
                disk_until, disk_at, kind = 0.0, now + self.chance.uniform(0.5, 6), ""
            if self.board.phase[0] != RUN:
                continue
            if now > disk_at and not disk_until and self.board.has("disk"):
                kind = kind or self.chance.choice(self.disk.kinds)
                if kind in OF_SQLITE and any(target.on_its_way for target in self.targets[:]):
                    continue  # until it has struck
                size = self._some_size() if kind in OF_ALL_FILES else 0
                self.disk.play(kind, size=size)
                disk_until = now + self.chance.uniform(0.02, 0.4)
            if now > clock_at and self.board.has("clocks"):
                self._jump()
                clock_at = now + self.chance.uniform(0.5, 5)
            self._reap()
        self.disk.stop()

    def _some_size(self) -> int:
        """A size at which a write to the ledger's files strikes soon, at any byte.

        Not within the DuckDB file: DuckDB rewrites the block of its metadata in place, so that a part of that write
        leaves a file that cannot be opened. No limit and no full disk does that to bytes that a file has already.
        """
        sizes = [path.stat().st_size for path in self.folder.glob("ledger.db*") if path.suffix != ".db-turn"]
        warehouse = self.folder / "warehouse.duckdb"
        least = warehouse.stat().st_size if warehouse.exists() else 4096
        return max(least, self.chance.choice(sizes) + self.chance.randrange(-5000, 20_000))

    def _jump(self) -> None:
        kind = self.chance.choice([*JUMPS, ""])
        far = JUMPS.get(kind, 0.0)
        self.board.clock[self.number] = int(self.chance.uniform(-far, far) * 1e6)
        if kind:
            self.board.count(self.row(0), f"clock: {kind}")


def load_all() -> None:
    """Load every module that calls load on first use: an exception that strikes an import can leave Python's own lock
    of the module held."""
    with (
        tempfile.TemporaryDirectory() as folder,
        SessionLedger.open(f"sqlite:///{folder}/l.db", warehouse=f"duckdb:///{folder}/w.duckdb") as ledger,
    ):
        name = ledger.create_session("ada", "q")
        ledger.fork_session(name)
        ledger.rewind(name, 1)
        ledger.search("q")
        ledger.warehouse.sync()
        ledger.archive_session(name)
        ledger.warehouse.sync()
        ledger.maintain()
        ledger.get_session(name, version=1)
        ledger.hydrate_session(name)
        ledger.delete_session(name)
        ledger.maintain(retention=timedelta(0))
        ledger.warehouse.query("SELECT COUNT(*) AS n FROM sessions")


def leave(code: int) -> None:
    """End this forked process as ``multiprocessing`` does: with its threads joined and its exit functions called.

    A child that was forked in another than the main thread, and in which that thread just returns, crashes in DuckDB's
    own destructors once DuckDB is loaded.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    os._exit(code)


class Worker:
    """A process that was forked to run ``act``, with a process group of its own and its output in a file."""

    def __init__(self, act: Callable[[], object], output: Path) -> None:
        self.code: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        try:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            os.setsid()
            for number in (1, 2):
                os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
            faulthandler.enable()
            faulthandler.register(signal.SIGUSR1)
            act()
            leave(0)
        except BaseException:  # noqa: BLE001 - it never goes on as a second run
            traceback.print_exc()
        finally:
            os._exit(1)

    def poll(self) -> int | None:
        """How it ended; None if it has not."""
        if self.code is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if found else None
        return self.code

    def kill(self) -> None:
        """SIGKILL, and wait until it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def main() -> None:
    """Be what a forked child executes: open the ledger anew, append, and end."""
    folder, seed, number, start, token = sys.argv[1:]
    faulthandler.dump_traceback_later(CHILD_LIMIT, exit=True)
    process = Process(Path(folder), int(seed), int(number), int(start))
    with process.ledger as ledger:
        process.child(token, "after exec", ledger)


if __name__ == "__main__":
    main()

"""One run in which everything goes wrong at once, and nothing may be lost, doubled, stale or stuck.

Four processes with four threads each use one ledger file: they append, read, search, copy, rewind, archive, hydrate,
delete, back up, export, import, ship to a DuckDB warehouse, and fork. Meanwhile processes are killed, exceptions strike
calls, disks fail, and clocks jump. From the folder ``tests``: ``python -m faults.torture --seed 7 --minutes 60``;
``make torture`` does that. The seed decides which actions each thread does; how they interleave differs.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from faults.torture_actions import USER
from faults.torture_board import ACTIONS, END, FAULTS, OUTCOMES, PAUSE, PLACES, PROCESSES, RUN, THREADS, TROUBLE, Board
from faults.torture_checks import Checks
from faults.torture_worker import CHILD_LIMIT, Process, Worker, load_all
from ledger import SessionLedger

#: Seconds after which a call has hung, and how many times longer what waits for a lease may take.
LIMIT, LONGER = 40.0, 2.5
LONG = ("sync", "archive", "hydrate", "maintain", "delete", "close")
#: Seconds that a fork may take on a machine with other work.
FORK_LIMIT = 5.0
#: Share of processes that end in order and not by SIGKILL.
ENDED = 0.4
#: The run is checked so often at most, beside the end.
CHECKPOINTS = 5
#: Characters of a violation that are printed; the whole is in the file ``violations`` of the run's folder.
SHOWN = 2000
_PR_SET_CHILD_SUBREAPER = 36


class Torture:
    """One run.

    Args:
        folder: Empty; for the ledger and all that is made.
        seed: Of the actions, the kills and the faults.
        seconds: How long to go on before the last check.
        kill_every: Seconds between two kills, on average.
        limit: Seconds after which a call has hung; see ``LIMIT``.
        without: Those of ``TROUBLE`` to leave out.
        say: Told how far it is.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        seconds: float,
        *,
        kill_every: float = 6.0,
        limit: float = LIMIT,
        without: Sequence[str] = (),
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.folder = folder
        self.seed = seed
        self.seconds = seconds
        self.kill_every = kill_every
        self.limit = limit
        self.say = say
        self.chance = random.Random(seed)
        self.board = Board(folder / "board")
        for trouble in without:
            self.board.off[TROUBLE.index(trouble)] = 1
        self.checks = Checks(folder)
        self.processes: dict[int, Worker] = {}
        self.starts: Counter[int] = Counter()
        self.groups: set[int] = set()
        self.hangs = 0
        self.began = time.monotonic()

    def run(self) -> list[tuple[str, str]]:
        """Run to the end; return the violations, each as its kind and what was seen."""
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # children of the killed are this process's
        load_all()
        with SessionLedger.open(self.checks.url, warehouse=self.checks.warehouse, default_ttl_hours=None) as ledger:
            for place in range(PLACES):
                name = f"place {place} generation 1"
                ledger.create_session(USER, "q", session_id=name, event_id=f"begin {name}")
            ledger.warehouse.sync()
        try:
            for number in range(PROCESSES):
                self._start(number)
            self.began = time.monotonic()
            checkpoints = max(1, min(CHECKPOINTS, int(self.seconds / 120)))
            kill_at, check_at = self._next_kill(), self.seconds / (checkpoints + 1)
            while (now := time.monotonic() - self.began) < self.seconds:
                time.sleep(0.05)
                self._look()
                if now > kill_at and self.board.has("kills"):
                    self._kill()
                    kill_at = self._next_kill()
                if now > check_at:
                    self._checkpoint()
                    check_at += self.seconds / (checkpoints + 1)
            self._end()
        finally:
            for process in self.processes.values():
                process.kill()
            for group in self.groups:
                self._signal(group, signal.SIGKILL)
        self.checks.at_end()
        self.checks.violations[:0] = self.checks.account.violations
        for took in self.checks.account.forks:
            if took > FORK_LIMIT:
                self.checks.see("slow fork", f"{took:.1f} s")
        return self.checks.violations

    def _next_kill(self) -> float:
        return time.monotonic() - self.began + self.chance.uniform(0.2, 1.8) * self.kill_every

    def _start(self, number: int) -> None:
        for row in self._rows(number):
            self.board.end(row)
            self.board.parked[row] = 0
        self.board.ending[number] = 0
        self.starts[number] += 1
        start = self.starts[number]
        self.processes[number] = Worker(lambda: Process(self.folder, self.seed, number, start).run(), self._log(number))
        self.groups.add(self.processes[number].pid)

    def _log(self, number: int) -> Path:
        return self.folder / f"process-{number}-{self.starts[number]}.log"

    def _rows(self, number: int) -> range:
        return range(number * THREADS, (number + 1) * THREADS)

    def _kill(self) -> None:
        """Kill a process, wherever it is, or have it close the ledger; its forked children go on. Another starts."""
        number = self.chance.randrange(PROCESSES)
        if self.chance.random() < ENDED:
            self.board.ending[number] = 1
            return
        self.processes[number].kill()
        self.board.count(number * THREADS, "kill")
        self._start(number)

    def _look(self) -> None:
        """Look for processes that have ended by themselves, and for calls that do not end."""
        for number, process in [*self.processes.items()]:
            if process.poll() == 0 and self.board.ending[number]:
                self.board.count(number * THREADS, "end in order")
                self._start(number)
                continue
            if process.poll() is not None:
                tail = self._log(number).read_text(errors="replace")[-3000:]
                self.checks.see("a process ended by itself", f"{self._log(number).name}: {process.code}\n{tail}")
                self._start(number)
                continue
            for row in self._rows(number):
                action = self.board.overdue(row, self.limit)
                if action and (action not in LONG or self.board.overdue(row, self.limit * LONGER)):
                    self._hang(number, f"{action} in thread {row % THREADS}")
                    self._start(number)
                    break
        self._reap()

    def _hang(self, number: int, what: str) -> None:
        """Have a process write down what its threads are at, and kill it."""
        process = self.processes[number]
        self.hangs += 1
        if process.poll() is None:
            os.kill(process.pid, signal.SIGUSR1)
            time.sleep(2)
        process.kill()
        stacks = "\n".join(
            line
            for line in self._log(number).read_text(errors="replace").splitlines()
            if "/ledger/" in line or not line
        )
        self.checks.see("hang", f"{what} of {self._log(number).name} does not end:\n{stacks}")

    def _reap(self) -> None:
        """Wait for children whose process was killed."""
        running = {process.pid for process in self.processes.values()}
        for group in [*self.groups - running]:
            try:
                while True:
                    child, status = os.waitpid(-group, os.WNOHANG)
                    if not child:
                        break
                    code = os.waitstatus_to_exitcode(status)
                    if code not in (0, -signal.SIGKILL):
                        self.checks.see("a child ended by itself", f"{child} of group {group}: {code}")
            except ChildProcessError:
                self.groups.discard(group)

    def _rest(self, done: Callable[[], bool], deadline: float) -> bool:
        """Wait until a condition holds; False if it does not by the deadline."""
        while not done():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
            self._reap()
        return True

    def _checkpoint(self) -> None:
        """Have all threads rest, check, and let them go on."""
        self.board.phase[0] = PAUSE
        deadline = time.monotonic() + self.limit * LONGER
        for number in range(PROCESSES):
            if not self._rest(lambda number=number: self._is_at_rest(number), deadline):
                self._hang(number, "an action before a checkpoint")
                self._start(number)
        self.checks.at_rest()
        self.say(self.progress())
        self.board.phase[0] = RUN

    def _is_at_rest(self, number: int) -> bool:
        return all(self.board.parked[row] for row in self._rows(number)) or self.processes[number].poll() is not None

    def _end(self) -> None:
        """Have all processes come to their end in order, and their children too."""
        self.board.phase[0] = END
        deadline = time.monotonic() + self.limit * LONGER
        for number, process in self.processes.items():
            if not self._rest(lambda process=process: process.poll() is not None, deadline):
                self._hang(number, "the last action or close()")
            elif process.code:
                tail = self._log(number).read_text(errors="replace")[-3000:]
                self.checks.see("a process ended by itself", f"{self._log(number).name}: {process.code}\n{tail}")
        self.processes.clear()
        if not self._rest(lambda: not self.groups, max(deadline, time.monotonic() + CHILD_LIMIT)):
            self.checks.see("hang", f"children of {self.groups} do not end")
            for group in [*self.groups]:
                self._signal(group, signal.SIGKILL)

    def _signal(self, group: int, number: signal.Signals) -> None:
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            self.groups = self.groups - {group}

    def progress(self) -> str:
        """How far the run is, in one line."""
        counted = self.board.counted()
        seen = Counter(kind for kind, _ in self.checks.violations)
        return (
            f"{time.monotonic() - self.began:6.0f} s  {counted['events acknowledged']:,} events acknowledged, "
            f"{counted['kill']} kills, {self.checks.figures}, violations {dict(seen)}"
        )

    def table(self) -> str:
        """Counts of faults, actions and what was checked."""
        counted = self.board.counted()
        lines = [f"{'fault':24s} {'count':>9s}", *(f"{name:24s} {counted[name]:9,}" for name in FAULTS)]
        lines += ["", f"{'action':24s}" + "".join(f"{outcome:>10s}" for outcome in OUTCOMES)]
        lines += [
            f"{action:24s}" + "".join(f"{counted[f'{action} {outcome}']:10,}" for outcome in OUTCOMES)
            for action in ACTIONS
        ]
        account = self.checks.account
        forks = sorted(account.forks) or [0.0]
        lines += ["", "refused: " + ", ".join(f"{number} {name}" for name, number in account.refusals.most_common(25))]
        lines += [
            f"forks: {len(account.forks)}, {sum(took > 1 for took in forks)} over a second, longest {forks[-1]:.2f} s",
            f"opened: {self.checks.opened['backups']} backups, {self.checks.opened['exports']} exports",
            "at the end: " + ", ".join(f"{number:,} {name}" for name, number in self.checks.figures.items()),
        ]
        return "\n".join(lines)

    def result(self) -> str:
        """What was checked and how it ended, as a table, and the first violations of each kind."""
        kinds = Counter(kind for kind, _ in self.checks.violations)
        lines = [f"{kind:32s} {number:6,}" for kind, number in kinds.most_common()]
        for kind in kinds:
            shown = [what for found, what in self.checks.violations if found == kind]
            lines += ["", f"-- {kind}", *(what if len(what) < SHOWN else f"{what[:SHOWN]} ..." for what in shown[:3])]
        return "\n".join(lines) or "lost 0, doubled 0, stale 0, hangs 0, every chain and state whole, every row equal"


def main(arguments: list[str] | None = None) -> int:
    """Run once; print counts and the result. The folder is kept if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--kill-every", type=float, default=6.0, help="seconds between two kills, on average")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds after which a call has hung")
    parser.add_argument("--without", action="append", default=[], choices=TROUBLE, help="leave out; may be repeated")
    parser.add_argument("--folder", type=Path, help="an empty folder; a temporary one if not given")
    wanted = parser.parse_args(arguments)
    folder = wanted.folder or Path(tempfile.mkdtemp(prefix="ledger-torture-"))
    folder.mkdir(exist_ok=True)
    torture = Torture(
        folder,
        wanted.seed,
        wanted.minutes * 60,
        kill_every=wanted.kill_every,
        limit=wanted.limit,
        without=wanted.without,
        say=lambda line: print(line, flush=True),
    )
    violations = torture.run()
    print(f"\n{torture.table()}\n\n{torture.result()}")
    if violations:
        (folder / "violations").write_text("\n\n".join(f"{kind}: {what}" for kind, what in violations))
        print(f"\nseed {wanted.seed}: {len(violations)} violations; see {folder}")
        return 1
    print(f"\nseed {wanted.seed}: nothing lost, nothing stale")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a soak is made of: a ledger, its relays and appenders in processes of their own, and how they are killed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from faults.soak_figures import Figures
from faults.soak_processes import Worker, Workers, until
from faults.soak_sides import Sides, Told
from faults.trouble import Trap, Trouble
from ledger.clock import new_id, utc_now
from support.emulator import Emulator

#: Seconds for which a relay that says nothing keeps others off.
LEASE = 1.0
#: Seconds in which a request comes that a kill waits for.
COMING = 15.0
#: Whoever may have a batch under way when killed.
SHIPPING = {"relay", "appender with a relay", "ledger sync", "ledger relay", "reconcile"}
#: Sessions that are appended to.
SESSIONS = 40


class Stage:
    """A run's processes, and what may be done to them.

    Args:
        emulator: With the ledger's tables in the dataset, empty.
        dataset: Its name.
        folder: Empty, for the ledger, its backups, and what processes write to standard error.
        seed: Of what is done, and of the faults.
        rate: The share of requests to strike.
        pace: Seconds between two appends of a thread, but in bursts.
        say: Told what is done.
    """

    workers: Workers

    def __init__(
        self,
        emulator: Emulator,
        dataset: str,
        folder: Path,
        *,
        seed: int,
        rate: float = 0.18,
        pace: float = 0.08,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.chance = random.Random(seed)
        self.seed = seed
        self.sides = Sides(folder / "ledger.db", emulator, dataset)
        self.folder = folder
        self.pace = pace
        self._say = say
        self.trouble = Trouble(seed, rate, delay=0.1)
        self.told = Told()
        self.sessions: list[str] = []
        self.backups: list[Path] = []
        self.appender: Worker | None = None
        self.relays: list[Worker] = []
        self.began = time.monotonic()
        self.log: list[str] = []
        self.figures = Figures(milliseconds=self.told.milliseconds)

    def append(self, *, warehouse: bool = False) -> Worker:
        """The appender, which is started where there is none."""
        if self.appender is None:
            if len(self.sessions) < SESSIONS:
                number = len(self.sessions)
                self.sessions += [f"own session {number} of seed {self.seed}", new_id(utc_now())]
            orders = {"worker": len(self.workers.all), "sessions": self.sessions, "resend": self.told.unanswered()}
            place = f"{self.sides.warehouse}?patience=5" if warehouse else None
            self.appender = self.workers.take().obey(
                "appender",
                self.told.hear,
                do="append",
                url=self.sides.url,
                warehouse=place,
                pace=self.pace,
                each=None,
                drain=0,
                **orders,
            )
            before = len(self.told.acknowledged)
            until(lambda: len(self.told.acknowledged) > before or self.failed(), f"{self.appender.name} appends")
        self.told.shipping = warehouse or bool(self.relays)
        return self.appender

    def ship(self, *, batch_rows: int | None = None) -> Worker:
        """A relay, which is started where there is none."""
        return self.relays[-1] if self.relays else self.new_relay(batch_rows)

    def new_relay(self, batch_rows: int | None = None) -> Worker:
        """One more relay."""
        relay = self.workers.take().obey(
            "relay",
            do="relay",
            url=self.sides.url,
            warehouse=f"{self.sides.warehouse}?patience=5",
            lease=LEASE,
            age=0.05,
            batch_rows=batch_rows or self.chance.choice([20, 100, 1000]),
        )
        self.relays.append(relay)
        self.told.shipping = True
        return relay

    def command(self, name: str, *options: str) -> Worker:
        """A command of the ledger's, which ends by itself."""
        place = f"{self.sides.warehouse}?patience=5"
        arguments = [name, "--url", self.sides.url, "--warehouse", place, *options]
        return self.workers.take().obey(f"ledger {name}", do="command", arguments=arguments)

    def kill_at(self, name: str, worker: Worker, trap: Trap | None = None) -> None:
        """Kill a process at a request on its way, of rows where no other was waited for."""
        trap = trap or self.trap("AppendRows", self.chance.randrange(1, 4))
        self.wait_for(trap)
        self.kill(name, worker, trap)

    def trap(self, request: str, nth: int = 1) -> Trap:
        """Wait for the nth such request from now on; most often it is held up."""
        return self.trouble.trap(request, nth, holds=self.chance.random() < 0.7)

    def wait_for(self, trap: Trap) -> None:
        """Wait for the request, which need not come: a fault may have the relay go another way."""
        deadline = time.monotonic() + COMING
        until(lambda: trap.caught.is_set() or time.monotonic() > deadline or self.failed(), "a request")
        if not trap.holds:
            time.sleep(self.chance.uniform(0, 0.03))  # somewhere on its way

    def let_go(self, trap: Trap) -> str:
        """Decide what becomes of a request that was held up."""
        lost = self.chance.random() < 0.3
        lag = self.chance.choice([0.0, 0.0, self.chance.uniform(0, 3)])
        trap.release(lost=lost, lag=lag)
        what = f"{trap.request}{'' if trap.caught.is_set() else ' that did not come'}"
        return f"{what}, {'lost' if lost else f'let go after {lag:.1f} s'}" if trap.holds else what

    def kill(self, name: str, worker: Worker, trap: Trap | None = None) -> None:
        """Kill a process, and let go of its request."""
        self.expect_alive(worker)
        worker.kill()
        self.figures.kills[name] += 1
        batch = name in SHIPPING and self.sides.checkpoint()[0].batch is not None
        self.figures.amid += batch
        fate = f" at {self.let_go(trap)}" if trap is not None else ""
        self.note(f"killed {worker.name}{fate}{', a batch under way' if batch else ''}")
        self.forget(worker)

    def end(self, worker: Worker) -> None:
        """Have a process come to its end in order."""
        self.expect_alive(worker)
        code = worker.end()
        assert code == 0, f"{worker.name} ended with {code}: {worker.errors()}"
        self.note(f"ended {worker.name}")
        self.forget(worker)

    def end_all(self) -> None:
        """Have all of them come to their end."""
        for worker in [*self.relays, *([] if self.appender is None else [self.appender])]:
            self.end(worker)

    def forget(self, worker: Worker) -> None:
        """Take note that a process is no more."""
        if worker is self.appender:
            self.appender = None
        self.relays = [relay for relay in self.relays if relay is not worker]
        self.told.shipping = bool(self.relays)

    def expect_alive(self, worker: Worker) -> None:
        """Fail where a process has ended that nobody ended."""
        assert worker.code is None, f"{worker.name} ended by itself with {worker.code}: {worker.errors()}"

    def failed(self) -> str:
        """Why the run has failed; empty where it has not."""
        dead = [worker for worker in [*self.relays, self.appender] if worker is not None and worker.code is not None]
        return "\n".join([*self.told.errors, *(f"{it.name} ended by itself: {it.errors()}" for it in dead)])

    def note(self, what: str) -> None:
        """Keep what was done, for whoever looks for the cause of a failure."""
        line = f"{time.monotonic() - self.began:7.1f} s  {what}"
        self.log.append(line)
        self._say(f"{line}  [{self.figures.kills.total()} kills, {len(self.trouble.log)} faults]")

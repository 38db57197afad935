"""A relay that is killed, stopped, cut off and given an older store, over and over; and then both sides compared.

Processes append to a SQLite ledger, others ship it to BigQuery's emulator through a proxy that injects faults, and
behind it the layer that is as strict as the service (`service.layer`). When so many were killed and so many faults
injected, what waits is shipped, and the raw table must have every row of the store once, and the store every event that
was acknowledged. By hand, in an emulator of its own, from the folder ``tests``:
``python -m faults.soak --kills 200 --faults 500 --seed 1``; ``make soak`` does that. What is done when follows from the
seed, what it hits does not.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from faults.proxy import proxy
from faults.soak_figures import Figures
from faults.soak_processes import Worker, Workers, until
from faults.soak_stage import Stage
from faults.trouble import Trap
from ledger import SessionLedger
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from support.emulator import Emulator

#: What is done and how often, in an order that the seed makes; then again.
DECK: Mapping[str, int] = {
    "kill_relay": 7,
    "kill_relay_that_begins": 3,
    "kill_appender": 3,
    "kill_both": 2,
    "grow_backlog": 4,
    "take_over": 2,
    "kill_one_that_does_both": 2,
    "kill_sync": 1,
    "kill_command": 1,
    "end_relay": 1,
    "outage": 1,
    "reconcile": 1,
    "lose_rows": 1,
    "back_up": 3,
    "restore": 2,
}
#: Seconds for which a relay is stopped at most where nothing can be appended: a store gives up on a process that keeps
#: its turn for ten.
STOPPED = 4.0
#: Seconds in which a repair is done: it asks for each session that lost events by itself.
REPAIRED = 900.0
#: How a command ends that could not reach the warehouse, or found another at work.
UNAVAILABLE = 21


class Soak(Stage):
    """One run; see ``Stage`` for the arguments."""

    def run(self, *, kills: int, faults: int, deck: Mapping[str, int] = DECK) -> Figures:
        """Go on until there were so many of both, then compare.

        Args:
            deck: What is done how often, until then.

        Raises:
            AssertionError: A promise was broken; it tells the seed and what was done.
        """
        emulator = self.sides.emulator
        try:
            with proxy(emulator.rest, emulator.grpc, self.trouble) as between:
                addresses = {"BIGQUERY_EMULATOR_HOST": between.rest, "BIGQUERY_EMULATOR_GRPC_HOST": between.grpc}
                with Workers(self.folder, addresses) as self.workers:
                    try:
                        self._until(kills, faults, deck)
                        self._finish()
                    finally:
                        self.trouble.end()
        except AssertionError as error:
            log = "\n".join(self.log)
            raise AssertionError(f"{error}\nseed {self.seed}, {self.folder}:\n{log}") from error
        self.figures.faults.update(fault.kind for fault in self.trouble.log)
        self.figures.requests.update(fault.method for fault in self.trouble.log)
        self.figures.turned_away = self.trouble.turned_away.total()
        self.figures.seconds = time.monotonic() - self.began
        return self.figures

    # -- what is done -------------------------------------------------------------------------------------------------

    def kill_relay(self) -> None:
        """Kill the relay at a request that it makes."""
        self.append()
        self.kill_at("relay", self.ship())

    def kill_relay_that_begins(self) -> None:
        """Kill a relay before it has sent anything."""
        self.append()
        self.kill_relays()
        trap = self.trap_beginning()
        self.kill_at("relay", self.new_relay(), trap)

    def kill_appender(self) -> None:
        """Kill the appender some appends later, while the relay goes on."""
        appender = self.append()
        self.ship()
        before, more = len(self.told.acknowledged), self.chance.randrange(150)
        until(lambda: len(self.told.acknowledged) >= before + more or self.failed(), f"{more} more appends")
        self.kill("appender", appender)

    def kill_both(self) -> None:
        """Kill both at once, at a request of the relay's."""
        appender, relay = self.append(), self.ship()
        trap = self.trap("AppendRows")
        self.wait_for(trap)
        self.kill("appender", appender)
        self.kill("relay", relay, trap)

    def grow_backlog(self) -> None:
        """Let more than a batch wait, and kill the relay that ships it within or between batches."""
        self.append()
        self.kill_relays()
        rows = self.chance.choice([30, 200, 600])
        until(lambda: self.sides.waiting() >= rows or self.failed(), f"{rows} rows that wait")
        relay = self.ship(batch_rows=self.chance.choice([10, 30, 100]))
        self.kill_at("relay", relay, self.trap("AppendRows", self.chance.randrange(1, 6)))

    def take_over(self) -> None:
        """Stop the relay past its lease while another takes over, and let it go on."""
        self.append()
        self.workers.warm()
        if self.chance.random() < 0.4:
            self.kill_relays()
            trap = self.trap_beginning()
        else:
            trap = self.trap("AppendRows", self.chance.randrange(1, 3))
        first = self.ship()
        self.wait_for(trap)
        first.send(signal.SIGSTOP)
        self.figures.stops += 1
        before = self.sides.checkpoint()[0]
        second = self.new_relay()
        appends, since = self.told.appends, time.monotonic()

        def is_taken() -> bool:
            now = self.sides.checkpoint()[0]
            return now.epoch > before.epoch and now.seq > before.seq

        def is_stuck() -> bool:
            """Whether it was stopped in its turn at the store, so that nobody else gets one."""
            nonlocal appends, since
            if self.told.appends != appends:
                appends, since = self.told.appends, time.monotonic()
            return time.monotonic() - since > STOPPED

        until(lambda: is_taken() or is_stuck() or self.failed(), "a relay that takes over")
        taken = is_taken()
        self.figures.taken_over += taken
        self.let_go(trap)
        victim, name = self.chance.choice([(first, "stopped relay"), (second, "relay")])
        if self.chance.random() < 0.7:
            first.send(signal.SIGCONT)
            self.note(f"stopped {first.name}, {second.name} {'took over' if taken else 'did not take over'}")
            self.kill_at(name, victim)
        else:
            self.note(f"stopped {first.name} for good")
            self.kill("stopped relay", first)

    def kill_one_that_does_both(self) -> None:
        """Kill a process that appends and has a relay in the background."""
        self.end_all()
        both = self.append(warehouse=True)
        self.kill_at("appender with a relay", both)

    def kill_sync(self) -> None:
        """Kill ``ledger sync``; it may be done before."""
        self._kill_command("sync")

    def kill_command(self) -> None:
        """Kill ``ledger relay``."""
        self._kill_command("relay", "--age", "0.05")

    def end_relay(self) -> None:
        """End the relay in order."""
        self.append()
        self.end(self.ship())

    def outage(self) -> None:
        """Let the warehouse be away until so many requests were turned away."""
        self.append()
        self.ship()
        requests = self.chance.randrange(3, 20)
        before = self.trouble.turned_away.total()
        self.trouble.away = True
        try:
            until(lambda: self.trouble.turned_away.total() >= before + requests, f"{requests} requests in an outage")
        finally:
            self.trouble.away = False
        self.figures.outages += 1
        self.note(f"outage of {requests} requests")

    def reconcile(self) -> None:
        """Compare while all goes on: what is on its way is no difference."""
        self.append()
        self.ship()
        worker = self.command("reconcile", "--json")
        assert worker.wait() in (0, UNAVAILABLE), f"{worker.name}: {worker.code} {worker.lines()} {worker.errors()}"
        self.note(f"{worker.name} ended with {worker.code}")

    def lose_rows(self) -> None:
        """Have somebody delete rows in the warehouse, which are sent again while all goes on, and kills go on too."""
        self.append()
        relay = self.ship()
        until(lambda: self.sides.checkpoint()[0].seq or self.failed(), "rows in the warehouse")
        self.kill_at("relay", relay)
        lost = self.sides.delete_there(self.chance)
        self.note(f"deleted {lost} rows in the warehouse")
        self.ship(batch_rows=self.chance.choice([10, 30]))
        self._repair(self.chance.choice(["AppendRows", "POST query"]))

    def back_up(self) -> None:
        """Make a backup while all goes on; the last two are kept."""
        path = self.folder / f"backup-{len(self.log)}.db"
        with SessionLedger.open(self.sides.url) as ledger:
            ledger.store.backup(path)
        self.backups.append(path)
        for old in self.backups[:-2]:
            old.unlink()
        self.backups = self.backups[-2:]
        self.note(f"backup {path.name}")

    def restore(self) -> None:
        """Put a backup in the store's place, and do what an operator does then."""
        self.append()
        relay = self.ship()
        number = self.chance.randrange(len(self.backups) + 1)
        if number == len(self.backups):  # one more, while rows are on their way
            trap = self.trap("AppendRows", self.chance.randrange(1, 3))
            self.wait_for(trap)
            self.back_up()
            self.let_go(trap)
        self.kill_at("relay", relay)
        self.end_all()
        self.sides.land()
        there = self.sides.events_there()
        # Those made since are of a file that is no more: what it had and had not shipped is given up.
        self.backups, later = self.backups[: number + 1], self.backups[number + 1 :]
        for path in later:
            path.unlink()
        kept = self.sides.events_here(self.backups[-1])
        lost = self.told.lose(kept.keys() | there.keys())
        self.told.last.clear()
        for suffix in ("-wal", "-shm"):
            Path(f"{self.sides.path}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(self.backups[-1], self.sides.path)
        self.note(
            f"restored {self.backups[-1].name}: {len(kept)} events, {len(there)} in the warehouse, {lost} given up"
        )
        self.figures.restores += 1
        self._repair("POST query")
        here = self.sides.events_here()
        assert here == kept | there, f"after the repair: {len(here)} events, {len(kept | there)} expected"

    def kill_relays(self) -> None:
        """Kill those that are there, wherever they are."""
        for relay in [*self.relays]:
            self.kill("relay", relay)

    def trap_beginning(self) -> Trap:
        """Wait for a request that relays make as they begin."""
        requests = ["GET table", "POST query", "POST query", "CreateWriteStream"]
        if self.sides.checkpoint()[0].sink_state:  # there is a stream to be ended
            requests.append("FinalizeWriteStream")
        request = self.chance.choice(requests)
        return self.trap(request, self.chance.randrange(1, 3) if request == "POST query" else 1)

    def _until(self, kills: int, faults: int, deck: Mapping[str, int]) -> None:
        while self.figures.kills.total() < kills or len(self.trouble.log) < faults:
            cards = [name for name, number in deck.items() for _ in range(number)]
            self.chance.shuffle(cards)
            for name in cards:
                getattr(self, name)()
                assert not self.failed(), self.failed()
                if self.figures.kills.total() >= kills and len(self.trouble.log) >= faults:
                    break

    def _finish(self) -> None:
        """No more faults; ship what waits, and compare."""
        self.note("no more faults")
        self.trouble.end()
        self.workers.wanted = 0  # two are left, for two commands
        self.end_all()
        assert not self.failed(), self.failed()
        for name in ("sync", "reconcile"):
            worker = self.command(name, "--json")
            assert worker.wait() == 0, f"{worker.name}: {worker.code} {worker.lines()} {worker.errors()}"
        self.figures.compared = self.sides.compare(self.told)

    def _kill_command(self, name: str, *options: str) -> None:
        """Kill a command that ships at a request that it makes, if it has not ended."""
        for relay in [*self.relays]:
            self.end(relay)
        self.append()
        trap = self.trap("AppendRows", self.chance.randrange(1, 4))
        worker = self.command(name, *options)
        if not self._is_killed(f"ledger {name}", worker, trap):
            assert worker.wait() in (0, UNAVAILABLE), f"{worker.name}: {worker.code} {worker.errors()}"
            self.note(f"{worker.name} had ended with {worker.code}")

    def _repair(self, request: str) -> None:
        """``ledger reconcile --repair`` until nothing is left; some are killed at a request, or a relay is."""
        for _ in range(20):
            trap = self.trap(request, self.chance.randrange(1, 12)) if self.chance.random() < 0.4 else None
            worker = self.command("reconcile", "--repair", "--json")
            self.figures.repairs += 1
            if trap is not None and self._is_killed("reconcile", worker, trap):
                for relay in [*self.relays]:
                    self.kill("relay", relay)
                continue
            code = worker.wait(REPAIRED)
            self.note(f"{worker.name} ended with {code}")
            if code == 0:
                return
            assert code in (1, UNAVAILABLE), f"reconcile ended with {code}: {worker.errors()}"
        raise AssertionError(f"reconcile --repair leaves differences: {worker.lines()}")

    def _is_killed(self, name: str, worker: Worker, trap: Trap) -> bool:
        """Kill a command at a request, its own or another's; False where it has ended before."""
        until(lambda: trap.caught.is_set() or worker.code is not None, f"{trap.request} of {worker.name}")
        if worker.code is None:
            self.kill(name, worker, trap)
            return True
        trap.release()
        return False


def prepare(emulator: Emulator, dataset: str) -> None:
    """Make a dataset with the ledger's tables."""
    addresses = {"BIGQUERY_EMULATOR_HOST": emulator.rest, "BIGQUERY_EMULATOR_GRPC_HOST": emulator.grpc}
    warehouse = BigQueryWarehouse(Dataset(emulator.project, dataset), environment=addresses)
    warehouse.create()
    warehouse.close()


def main(arguments: list[str] | None = None) -> None:
    """Run once, and print figures; where that fails, the folder is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.18, help="share of requests that a fault strikes")
    parser.add_argument("--quiet", action="store_true", help="say only the figures")
    wanted = parser.parse_args(arguments)
    from support.emulator import emulator

    folder = Path(tempfile.mkdtemp(prefix="ledger-soak-"))
    with tempfile.TemporaryDirectory() as beside, emulator(Path(beside)) as stricter:
        prepare(stricter, "soak")
        say = (lambda line: None) if wanted.quiet else (lambda line: print(line, flush=True))
        soak = Soak(stricter, "soak", folder, seed=wanted.seed, rate=wanted.rate, say=say)
        figures = soak.run(kills=wanted.kills, faults=wanted.faults)
    shutil.rmtree(folder)
    print(f"seed {wanted.seed}: both sides are the same, row by row\n{figures}")


if __name__ == "__main__":
    sys.exit(main())

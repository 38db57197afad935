"""Appends before and while the warehouse is away, and that all of them are there once when it is back.

A process appends at a steady pace, and its relay in the background ships to BigQuery's emulator through a proxy. Then
the proxy is gone, so that connections are refused, and by turns answers with errors. By hand, in an emulator of its
own, from the folder ``tests``: ``python -m faults.outage``; ``make outage`` does that. Times mean little where the
machine does other work.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from faults.proxy import proxy
from faults.soak import prepare
from faults.soak_figures import percentile, spread
from faults.soak_processes import Workers, until
from faults.soak_sides import Sides, Told
from faults.trouble import Trouble
from ledger.clock import new_id, utc_now
from support.emulator import Emulator, connect

#: Threads of the process that append.
THREADS = 2
#: Of a session before the outage. An update reads the state that it changes: were it a few sessions that grow all the
#: while, the second half would be slower than the first without any outage.
EVENTS = 12


@dataclass(frozen=True)
class Outcome:
    """How it went: milliseconds of each append, and seconds until nothing waited when the warehouse was back."""

    before: list[float]
    during: list[float]
    recovery: float
    turned_away: int
    compared: Mapping[str, int]

    def __str__(self) -> str:
        ratios = [percentile(self.during, part) / percentile(self.before, part) for part in (0.5, 0.99)]
        return "\n".join(
            [
                f"appends before the outage: {spread(self.before)}",
                f"appends during the outage: {spread(self.during)}",
                f"during / before: p50 {ratios[0]:.2f}, p99 {ratios[1]:.2f}",
                f"requests that were answered with an error: {self.turned_away}, besides connections that were refused",
                f"nothing waited {self.recovery:.1f} s after the warehouse was back",
                "compared: {rows} rows of {events} events, {acknowledged} of them acknowledged".format(**self.compared),
            ]
        )


def run(
    emulator: Emulator,
    dataset: str,
    folder: Path,
    *,
    events: int,
    seconds: float,
    turn: float,
    retry_timeout: float = 60,
) -> Outcome:
    """Append so many events in so many seconds, twice: before an outage and during it; then compare.

    Args:
        dataset: With the ledger's tables, empty.
        folder: Empty.
        turn: Seconds for which connections are refused, and then as many in which errors are answered.
        patience: Of the ledger's, in seconds, with one request.

    Raises:
        AssertionError: An append failed, or the two sides differ.
    """
    told, sides, trouble = Told(), Sides(folder / "ledger.db", emulator, dataset), Trouble(1, 0.0)

    def heard(number: int) -> bool:
        assert not told.errors, told.errors
        return told.appends >= number

    with contextlib.ExitStack() as running:
        serving = running.enter_context(contextlib.ExitStack())
        first = serving.enter_context(proxy(emulator.rest, emulator.grpc, trouble))
        addresses = {"BIGQUERY_EMULATOR_HOST": first.rest, "BIGQUERY_EMULATOR_GRPC_HOST": first.grpc}
        worker = running.enter_context(Workers(folder, addresses, spare=1)).take()
        half = max(4, events // EVENTS // 2)
        sessions = [f"session {number}" for number in range(half)] + [new_id(utc_now()) for _ in range(half)]
        told.shipping = True
        worker.obey(
            "appender",
            told.hear,
            do="append",
            url=sides.url,
            warehouse=f"{sides.warehouse}?patience={retry_timeout:g}",
            worker=1,
            sessions=sessions,
            pace=seconds * THREADS / events,
            each=events // THREADS * 2,
            resend=[],
            drain=60,
        )
        until(lambda: heard(len(sessions) + events), f"{events} appends", 3 * seconds + 60)
        told.shipping, trouble.away = False, True
        deadline = time.monotonic() + 3 * seconds + 60
        every = len(sessions) + events // THREADS * THREADS * 2
        while not heard(every):
            assert time.monotonic() < deadline, "the appends come to an end"
            serving.close()
            _wait_for(lambda: heard(every), turn)
            serving.enter_context(proxy(emulator.rest, emulator.grpc, trouble, again=first))
            _wait_for(lambda: heard(every), turn)
        trouble.away = False
        back = time.monotonic()
        until(lambda: not sides.waiting(), "nothing that waits")
        recovery = time.monotonic() - back
        code = worker.end()
        assert code == 0, f"the appender ended with {code}: {worker.errors()}"
    assert not told.errors, told.errors
    times = told.milliseconds
    return Outcome(times["alive"], times["dead"], recovery, trouble.turned_away.total(), sides.compare(told))


def _wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for it at most so long."""
    deadline = time.monotonic() + seconds
    until(lambda: condition() or time.monotonic() > deadline, "the end of a turn")


def main(arguments: list[str] | None = None) -> None:
    """Run once, and print figures; where that fails, the folder is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=5_000, help="before the outage, and as many during it")
    parser.add_argument("--seconds", type=float, default=60.0, help="in which they are appended")
    wanted = parser.parse_args(arguments)
    from ledger.cli.demo import emulator

    folder = Path(tempfile.mkdtemp(prefix="ledger-outage-"))
    with emulator.running() as found, connect(found.rest, found.grpc) as direct:
        prepare(direct, "outage")
        outcome = run(direct, "outage", folder, events=wanted.events, seconds=wanted.seconds, turn=5.0)
    shutil.rmtree(folder)
    print(outcome)


if __name__ == "__main__":
    sys.exit(main())

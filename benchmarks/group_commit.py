"""Group commit compared with two simpler designs, to see what waking in a chain gains and a writer thread costs.

``SqliteStore`` runs on three designs alternately, block by block:

* group commit as implemented: a thread that appends becomes the leader of a group or waits for a leader;
* group commit without the chain: the leader itself wakes all waiting threads of its group;
* a writer thread, which has the connection and reads appends from a ``queue.SimpleQueue``.

``python benchmarks/group_commit.py [ROUNDS]`` prints, for synchronous=FULL and NORMAL and for one thread and eight, the
median duration of an append in microseconds, and its ratio to the implemented design (the median over rounds). It exits
with 1 if another design is faster: if the geometric mean of its four ratios is below 0.95.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from typing import Any

from ledger import SessionLedger
from ledger.stores.sqlite import store
from ledger.stores.sqlite.commit_jobs import Job, open_gate
from ledger.stores.sqlite.group_commit import LINGER, MAX_GROUP, CommitGroup

APPENDS = 200
VALUE = {"kpi": ["orders"], "time_filter": {"start_date": "2025-02-09", "end_date": "2025-03-11"}, "cfc": ["CFC-1"]}


class WakesAll(CommitGroup):
    """Group commit without the chain: the leader opens the gates of all threads of its group."""

    def _finish(self, group: Sequence[Any]) -> None:
        with self._mutex:
            self._remove(list(group))
            if self._queue:
                open_gate(self._queue[0].gate)
        for job in group:
            open_gate(job.gate)


class WriterThread(CommitGroup):
    """A minimal writer thread, which supports neither interruptions, forks nor pauses."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._jobs: SimpleQueue[Any] = SimpleQueue()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def run(self, work: Callable[[Any], Any]) -> Any:
        job = Job(work, threading.get_ident())
        job.gate = threading.Lock()
        job.gate.acquire()
        self._jobs.put(job)
        job.gate.acquire()
        if job.error is not None:
            raise job.error
        return job.result

    def stop(self, then: Callable[[], object] = lambda: None) -> None:
        self._jobs.put(None)
        self._thread.join()
        then()

    def _write(self) -> None:
        last = 1
        while (job := self._jobs.get()) is not None:
            group = [job, *self._others(last)]
            last = len(group)
            self._commit(group)
            for job in group:
                job.gate.release()

    def _others(self, last: int) -> list[Any]:
        """Return the waiting jobs. While the group is smaller than the previous one, wait a moment for more."""
        others: list[Any] = []
        end = time.monotonic() + LINGER
        while len(others) < MAX_GROUP - 1:
            remaining = end - time.monotonic() if len(others) + 1 < last else 0.0
            try:
                job = self._jobs.get(remaining > 0, remaining if remaining > 0 else None)
            except Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            others.append(job)
        return others


DESIGNS = {"group commit": CommitGroup, "wakes all": WakesAll, "writer thread": WriterThread}


def opened(design: type[CommitGroup], url: str) -> SessionLedger:
    """Open a ledger that commits with a design."""
    store.CommitGroup = design  # type: ignore[misc]
    try:
        return SessionLedger(url)
    finally:
        store.CommitGroup = CommitGroup  # type: ignore[misc]


def alone(ledger: SessionLedger) -> float:
    """Return the median duration of an append by one thread, in microseconds."""
    session_id = ledger.create_session("user123", "q")
    spent = []
    for _ in range(APPENDS):
        begun = time.perf_counter()
        ledger.update_strategy(session_id, VALUE)
        spent.append(time.perf_counter() - begun)
    return statistics.median(spent) * 1e6


def by_eight(ledger: SessionLedger) -> float:
    """Return the mean time per append of eight threads, in microseconds."""

    def work(session_id: str) -> None:
        for _ in range(APPENDS // 4):
            ledger.update_strategy(session_id, VALUE)

    threads = [threading.Thread(target=work, args=(ledger.create_session("user123", "q"),)) for _ in range(8)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - begun) / (8 * (APPENDS // 4)) * 1e6


def main(rounds: int = 25) -> int:
    """Print every figure; return 1 if another design is faster than the implemented one by the bound."""
    ratios: dict[str, list[float]] = {name: [] for name in DESIGNS}
    for synchronous in ("FULL", "NORMAL"):
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            ledgers = {
                name: stack.enter_context(opened(design, f"sqlite:///{folder}/{number}.db?synchronous={synchronous}"))
                for number, (name, design) in enumerate(DESIGNS.items())
            }
            for what, measure in (("1 thread", alone), ("8 threads", by_eight)):
                taken = [{name: measure(ledger) for name, ledger in ledgers.items()} for _ in range(rounds)]
                for name in DESIGNS:
                    median = statistics.median(times[name] for times in taken)
                    ratio = statistics.median(times[name] / times["group commit"] for times in taken)
                    ratios[name].append(ratio)
                    print(f"{synchronous:<7} {what:<10} {name:<14} {median:8.1f} us  {ratio:5.2f}x", flush=True)
    return 0 if all(statistics.geometric_mean(each) >= 0.95 for each in ratios.values()) else 1


if __name__ == "__main__":
    sys.exit(main(*(int(argument) for argument in sys.argv[1:])))

"""Fairness and correctness of several processes that append to one file.

``python benchmarks/processes.py [PROCESSES] [SECONDS]`` prints the appends of each process and the longest wait, then
reopens the file and compares it with the acknowledged appends. It exits with 1 if a session's versions have a gap, if
an acknowledged append is missing, if the slowest process made less than half as many appends as the fastest, or if one
append took over 1 s.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from multiprocessing.queues import Queue
from pathlib import Path

from ledger import SessionLedger


def work(url: str, shared: str, seconds: float, results: Queue[tuple[int, int, float, list[int]]]) -> None:
    """Append alternately to a private session and to the shared one; report the acknowledged versions."""
    with SessionLedger(url) as ledger:
        own = ledger.create_session("user123", "q")
        longest, versions, mine = 0.0, [], 1
        end = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            if len(versions) * 2 < mine:
                versions.append(ledger.update_summary(shared, f"summary {begun}").version)
            else:
                mine = ledger.update_summary(own, f"summary {begun}").version
            longest = max(longest, time.perf_counter() - begun)
        history = [event.version for event in _all(ledger, own)]
        assert history == list(range(1, mine + 1)), f"session {own}: {len(history)} events, acknowledged {mine}"
        results.put((len(versions) + mine, mine, longest, versions))


def _all(ledger: SessionLedger, session_id: str) -> list:  # type: ignore[type-arg]
    events, after = [], 0
    while page := ledger.history(session_id, after=after, limit=10_000):
        events.extend(page)
        if page.next is None:
            break
        after = int(page.next)
    return events


def main(processes: int = 4, seconds: float = 10.0) -> int:
    """Print every figure with its bound; return 1 if one is missed."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'ledger.db'}"
        with SessionLedger(url) as ledger:
            shared = ledger.create_session("user123", "shared by all")
        results: Queue[tuple[int, int, float, list[int]]] = context.Queue()
        running = [context.Process(target=work, args=(url, shared, seconds, results)) for _ in range(processes)]
        for process in running:
            process.start()
        reports = [results.get(timeout=seconds * 3 + 60) for _ in running]
        for process in running:
            process.join()
        acknowledged = sorted(version for report in reports for version in report[3])
        with SessionLedger(url) as ledger:
            recorded = [event.version for event in _all(ledger, shared)]
    counts = sorted(report[0] for report in reports)
    longest = max(report[2] for report in reports)
    whole = recorded == list(range(1, len(recorded) + 1)) and acknowledged == recorded[1:]
    print(f"appends by process: {counts}; slowest/fastest {counts[0] / counts[-1]:.2f} (>= 0.5)")
    print(f"longest wait of a single append: {longest * 1000:.1f} ms (<= 1000 ms)")
    print(f"shared session: {len(recorded)} versions without a gap, with every acknowledged one: {whole}")
    codes = [process.exitcode for process in running]
    return 0 if whole and counts[0] * 2 >= counts[-1] and longest <= 1 and not any(codes) else 1


if __name__ == "__main__":
    sys.exit(main(*(int(argument) for argument in sys.argv[1:])))

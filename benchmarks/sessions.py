"""What a session's length and the sweep of ended sessions cost those who work beside them.

The last 10 messages of 10,000 are read beside the last 10 of 100, and beside the same SELECT through stdlib ``sqlite3``
with its values decoded by orjson, which is the floor. They take turns, round by round; each figure is the median over
rounds of the median call.

Then 10,000 sessions that have expired are swept, once by a thread beside the one that appends and once by another
process, while the appends go on at a steady pace. How long the slowest append took is printed beside the slowest of as
many without a sweep: the difference is what the sweep held it up. The time of a sweep is that of all sessions.

Run it with ``python benchmarks/sessions.py``; it exits with 1 where a figure misses its target.
"""

from __future__ import annotations

import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from ledger import SessionLedger

ROUNDS, CALLS = 9, 300
FEW, MANY, LAST = 100, 10_000, 10
MOST_FOR_LENGTH, MOST_OVER_FLOOR = 1.5, 3.0
SWEPT, LEAST_A_MINUTE, MOST_HELD_MS = 10_000, 10_000, 50.0
#: Seconds between two appends beside a sweep.
PACE = 0.002
TEXT = "What were the total orders for CFC1 in the last week? " * 4
#: As the store reads them.
SELECT = (
    "SELECT s.key, s.version, COALESCE(s.value, e.value) "
    "FROM session_state AS s JOIN session_events AS e ON e.seq = s.event_seq "
    "WHERE s.session_id = ? AND s.field = 'message' ORDER BY s.version DESC, s.key DESC LIMIT ?"
)
SWEEP = """
import sys
from ledger import SessionLedger
with SessionLedger(sys.argv[1]) as ledger:
    print(ledger.expire_old_sessions())
"""


def median_us(call: Callable[[], object]) -> float:
    """Median duration of a call in microseconds."""
    spent = []
    for _ in range(CALLS):
        begun = time.perf_counter_ns()
        call()
        spent.append(time.perf_counter_ns() - begun)
    return statistics.median(spent) / 1000


def report(line: str, figure: float, bound: float, *, at_least: bool = False) -> bool:
    """Print a figure beside its target; whether it is met."""
    met = figure >= bound if at_least else figure <= bound
    print(f"{line}  ({'at least' if at_least else 'at most'} {bound:,}: {'met' if met else 'MISSED'})", flush=True)
    return met


def messages(folder: Path) -> list[bool]:
    """The last ten of a long and of a short conversation, and of the long one by hand."""
    path = folder / "messages.db"
    with SessionLedger(f"sqlite:///{path}?synchronous=NORMAL") as ledger:
        short, long = (talk(ledger, count) for count in (FEW, MANY))
        with closing(sqlite3.connect(path)) as connection:  # both copies are the standard library's: no lock is dropped

            def by_hand() -> list[Any]:
                rows = connection.execute(SELECT, (long, LAST)).fetchall()
                return [(key, version, orjson.loads(text)) for key, version, text in reversed(rows)]

            def latest(session_id: str) -> list[Any]:
                return list(ledger.get_messages(session_id, last=LAST))

            assert [m.message_id for m in latest(long)] == [key for key, _, _ in by_hand()]
            rounds = [
                (median_us(lambda: latest(short)), median_us(lambda: latest(long)), median_us(by_hand))
                for _ in range(ROUNDS + 1)
            ]
    few, many, floor = (statistics.median(column[1:]) for column in zip(*rounds, strict=True))
    shown = f"last {LAST} of {MANY:,} messages {many:7.1f} us"
    return [
        report(f"{shown}, of {FEW} {few:7.1f} us: {many / few:5.2f}x", many / few, MOST_FOR_LENGTH),
        report(f"{shown}, by hand {floor:4.1f} us: {many / floor:5.2f}x", many / floor, MOST_OVER_FLOOR),
    ]


def talk(ledger: SessionLedger, count: int) -> str:
    """A session of so many messages."""
    session_id = ledger.create_session("user123", "q")
    for number in range(count):
        ledger.add_message(session_id, "user" if number % 2 else "assistant", f"{number}: {TEXT}", token_count=40)
    return session_id


def sweep(folder: Path, name: str, sweeping: Callable[[str], AbstractContextManager[Callable[[], bool]]]) -> list[bool]:
    """Sessions swept a minute, and what that held an append up."""
    url = f"sqlite:///{folder}/{name.replace(' ', '-')}.db"
    ended(url)
    with SessionLedger(url) as ledger:
        session_id = ledger.create_session("user123", "q")

        def append(number: int) -> float:
            begun = time.perf_counter()
            ledger.update_strategy(session_id, f"{number}: {TEXT}")
            return (time.perf_counter() - begun) * 1000

        beside, begun = [], time.perf_counter()
        with sweeping(url) as running:
            while running():
                beside.append(append(len(beside)))
                time.sleep(PACE)
        rate = SWEPT / (time.perf_counter() - begun) * 60
        alone = []
        for number in range(len(beside)):
            alone.append(append(number))
            time.sleep(PACE)
        left = ledger.expire_old_sessions()
        assert left == 0, f"{left} sessions were not swept"
    shown = f"appends beside it: p50 {statistics.median(beside):.1f} ms, slowest {max(beside):.1f} ms"
    print(f"sweep by {name}: {len(beside):,} {shown}; alone {statistics.median(alone):.1f} and {max(alone):.1f} ms")
    return [
        report(f"sweep by {name}: {rate:,.0f} sessions a minute", rate, LEAST_A_MINUTE, at_least=True),
        report(f"sweep by {name}: the slowest append took {max(beside):.1f} ms", max(beside), MOST_HELD_MS),
    ]


def ended(url: str) -> None:
    """A ledger of sessions that expired yesterday."""
    moments = iter(datetime.now(UTC) - timedelta(days=3) + timedelta(milliseconds=n) for n in range(100 * SWEPT))
    with SessionLedger(url + "?synchronous=NORMAL", clock=lambda: next(moments)) as ledger:
        for number in range(SWEPT):
            session_id = ledger.create_session(f"user{number % 500}", "How many orders?", ttl=timedelta(hours=24))
            ledger.add_message(session_id, "user", TEXT)


@contextmanager
def by_a_thread(url: str) -> Iterator[Callable[[], bool]]:
    """A thread with a ledger of its own sweeps."""

    def work() -> None:
        with SessionLedger(url) as ledger:
            assert ledger.expire_old_sessions() == SWEPT

    thread = threading.Thread(target=work)
    thread.start()
    yield thread.is_alive
    thread.join()


@contextmanager
def by_a_process(url: str) -> Iterator[Callable[[], bool]]:
    """Another process sweeps."""
    process = subprocess.Popen([sys.executable, "-c", SWEEP, url], stdout=subprocess.PIPE, text=True)
    yield lambda: process.poll() is None
    assert process.communicate()[0].strip() == str(SWEPT)


def main() -> int:
    """Print every figure with its target; 1 where one is missed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        met = messages(folder)
        met += sweep(folder, "a thread", by_a_thread)
        met += sweep(folder, "a process", by_a_process)
    return int(not all(met))


if __name__ == "__main__":
    sys.exit(main())

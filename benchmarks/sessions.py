"""What long sessions cost readers, and what the sweep of expired sessions costs writers.

Reading the last 10 of 10,000 messages is compared with reading the last 10 of 100, and with a floor, which is the same
SELECT through stdlib ``sqlite3``, decoded by orjson. The three alternate, round by round. In each round the median of
the calls is taken; each figure is the median of the rounds.

Then 10,000 expired sessions are swept, once by a thread of the appending process and once by another process, while
appends continue at a steady pace. The slowest append is printed, and for comparison the slowest of as many appends
without a sweep. The rate of the sweep covers all 10,000 sessions.

Run it with ``python benchmarks/sessions.py``; it exits with 1 if a figure misses its target.
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
#: Pause between two appends during a sweep, in seconds.
PACE = 0.002
TEXT = "What were the total orders for CFC1 in the last week? " * 4
#: The statement by which the store reads the last messages.
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
    """Return the median duration of a call, in microseconds."""
    spent = []
    for _ in range(CALLS):
        begun = time.perf_counter_ns()
        call()
        spent.append(time.perf_counter_ns() - begun)
    return statistics.median(spent) / 1000


def report(line: str, figure: float, bound: float, *, at_least: bool = False) -> bool:
    """Print a figure with its target; return True if it meets the target."""
    met = figure >= bound if at_least else figure <= bound
    print(f"{line}  ({'at least' if at_least else 'at most'} {bound:,}: {'met' if met else 'MISSED'})", flush=True)
    return met


def messages(folder: Path) -> list[bool]:
    """Measure reads of the last messages of a short and a long session; return for each target whether it is met."""
    path = folder / "messages.db"
    with SessionLedger(f"sqlite:///{path}?synchronous=NORMAL") as ledger:
        short, long = (talk(ledger, count) for count in (FEW, MANY))
        # A second connection in this process is safe: both use the same SQLite library, so no file lock is dropped.
        with closing(sqlite3.connect(path)) as connection:

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
    """Create a session of ``count`` messages."""
    session_id = ledger.create_session("user123", "q")
    for number in range(count):
        ledger.add_message(session_id, "user" if number % 2 else "assistant", f"{number}: {TEXT}", token_count=40)
    return session_id


def sweep(folder: Path, name: str, sweeping: Callable[[str], AbstractContextManager[Callable[[], bool]]]) -> list[bool]:
    """Measure sessions swept per minute, and appends during the sweep; return for each whether its target is met."""
    url = f"sqlite:///{folder}/{name.replace(' ', '-')}.db"
    ended(url)
    with SessionLedger(url) as ledger:
        session_id = ledger.create_session("user123", "q")

        def append(number: int) -> float:
            begun = time.perf_counter()
            ledger.update_strategy(session_id, f"{number}: {TEXT}")
            return (time.perf_counter() - begun) * 1000

        during, begun = [], time.perf_counter()
        with sweeping(url) as running:
            while running():
                during.append(append(len(during)))
                time.sleep(PACE)
        rate = SWEPT / (time.perf_counter() - begun) * 60
        alone = []
        for number in range(len(during)):
            alone.append(append(number))
            time.sleep(PACE)
        unswept = ledger.expire_old_sessions()
        assert unswept == 0, f"{unswept} sessions were not swept"
    shown = f"appends during it: p50 {statistics.median(during):.1f} ms, slowest {max(during):.1f} ms"
    print(f"sweep by {name}: {len(during):,} {shown}; alone {statistics.median(alone):.1f} and {max(alone):.1f} ms")
    return [
        report(f"sweep by {name}: {rate:,.0f} sessions a minute", rate, LEAST_A_MINUTE, at_least=True),
        report(f"sweep by {name}: the slowest append took {max(during):.1f} ms", max(during), MOST_HELD_MS),
    ]


def ended(url: str) -> None:
    """Fill a ledger with ``SWEPT`` expired sessions."""
    moments = iter(datetime.now(UTC) - timedelta(days=3) + timedelta(milliseconds=n) for n in range(100 * SWEPT))
    with SessionLedger(url + "?synchronous=NORMAL", clock=lambda: next(moments)) as ledger:
        for number in range(SWEPT):
            session_id = ledger.create_session(f"user{number % 500}", "How many orders?", ttl=timedelta(hours=24))
            ledger.add_message(session_id, "user", TEXT)


@contextmanager
def by_a_thread(url: str) -> Iterator[Callable[[], bool]]:
    """Sweep in a thread with its own ledger; yield a function that returns True while it runs."""

    def work() -> None:
        with SessionLedger(url) as ledger:
            assert ledger.expire_old_sessions() == SWEPT

    thread = threading.Thread(target=work)
    thread.start()
    yield thread.is_alive
    thread.join()


@contextmanager
def by_a_process(url: str) -> Iterator[Callable[[], bool]]:
    """Sweep in another process; yield a function that returns True while it runs."""
    process = subprocess.Popen([sys.executable, "-c", SWEEP, url], stdout=subprocess.PIPE, text=True)
    yield lambda: process.poll() is None
    assert process.communicate()[0].strip() == str(SWEPT)


def main() -> int:
    """Print every figure with its target; return 1 if one is missed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        met = messages(folder)
        met += sweep(folder, "a thread", by_a_thread)
        met += sweep(folder, "a process", by_a_process)
    return int(not all(met))


if __name__ == "__main__":
    sys.exit(main())

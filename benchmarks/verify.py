"""Speed of ``verify`` relative to a floor, which reads the same rows and hashes them.

The floor is a bare loop: stdlib ``sqlite3`` reads the rows of all sessions in order, and ``hashlib`` hashes each value
with its salt, and the columns of each event as JSON. It compares nothing, and reads neither states nor heads nor the
search index. Ledger and floor alternate, round by round; each figure is the median of the rounds. SQLite's own check of
the file, which ``verify`` begins with, is timed by itself.

Run it with ``python benchmarks/verify.py [EVENTS]``; 1,000,000 events take some minutes. It exits with 1 if a ratio
misses its target.
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import orjson

from ledger import Change, RecordedChange, RecordedEvent, SessionLedger
from ledger.clock import new_id, utc_now
from ledger.model.integrity import chained
from ledger.model.values import canonical

#: Number of events by default, of events in a session, and of rounds.
EVENTS, LENGTH, ROUNDS = 100_000, 50, 3
#: Maximum ratio of the time of ``verify`` to that of the floor, without and with a search index.
TARGET, TARGET_SEARCHED = 6.0, 15.0
MESSAGE = "What were the total orders for CFC1 in the last week? "
_ROWS = (
    "SELECT session_id, version, event_id, event_type, user_id, actor, occurred_at, recorded_at, created_at, "
    "schema_version, prev_hash, value, value_salt, value_hash, event_hash FROM session_events "
    "INDEXED BY session_events_by_version ORDER BY session_id, version, seq"
)


def session(number: int, store_id: str) -> Iterator[RecordedEvent]:
    """Yield the events of a session, with their hashes: messages, and a summary that each tenth event replaces."""
    created, user_id = utc_now() - timedelta(hours=1), f"user{number % 100}"
    session_id, previous = new_id(created), None
    created = created.replace(microsecond=created.microsecond // 1000 * 1000)
    for version in range(1, LENGTH + 1):
        message = {"role": "user", "content": f"{MESSAGE * 3}{version}"}
        change = Change("message", str(version), message) if version % 10 else Change("summary", "", MESSAGE)
        recorded = RecordedChange(change.field, change.key, canonical(change.value), removed=False)
        at = created + timedelta(seconds=version)
        event = RecordedEvent(
            *(session_id, version, new_id(at), "message.added", (recorded,), user_id, None, at, at, created, 1),
            store_id=store_id,
        )
        event = chained(event, previous, ["0123456789abcdef" * 2])
        previous = event.event_hash
        yield event


def fill(ledger: SessionLedger, events: int) -> None:
    """Record sessions until there are so many events."""
    for first in range(0, events // LENGTH, 100):
        last = min(first + 100, events // LENGTH)
        ledger.store.ingest([it for number in range(first, last) for it in session(number, ledger.store.store_id)])


def floor(path: Path) -> None:
    """Read all rows in order, and hash each."""
    with closing(sqlite3.connect(path)) as connection:
        for row in connection.execute(_ROWS):
            sha256((row[12] + row[11]).encode()).hexdigest()
            sha256(orjson.dumps(row[:11])).hexdigest()


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def check(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def measure(ledger: SessionLedger, path: Path, events: int, what: str, target: float) -> bool:
    """Print the figures of one state of the file; return True if the ratio is at most the target."""
    floors, checks, verified = [], [], []
    for _ in range(ROUNDS):
        floors.append(timed(lambda: floor(path)))
        checks.append(timed(lambda: check(path)))
        verified.append(timed(ledger.verify))
    least, sqlite, all_of_it = map(statistics.median, (floors, checks, verified))
    ratio = (all_of_it - sqlite) / least
    print(
        f"{what}: {events:,} events in {all_of_it:.1f} s, {events / all_of_it:,.0f} a second; the check of the file "
        f"takes {sqlite:.1f} s of it, the rest {ratio:.1f} times the floor ({least:.1f} s; target: {target:g})"
    )
    return ratio <= target


def main() -> int:
    events = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        with SessionLedger.open(f"sqlite:///{path}?synchronous=NORMAL", default_ttl_hours=None) as ledger:
            fill(ledger, events)
            result = ledger.verify()
            assert (result.clean, result.events) == (True, events)
            met = [measure(ledger, path, events, "Without a search index", TARGET)]
            ledger.search("orders")
            met.append(measure(ledger, path, events, "With a search index", TARGET_SEARCHED))
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())

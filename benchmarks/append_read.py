"""Cost of the SDK relative to a floor, which is the least program that does the same work.

The floor uses stdlib ``sqlite3`` on the same tables with the same durability (WAL, synchronous=FULL). It takes the same
Python value, encodes it as sorted JSON with the standard library, creates an id and a time, inserts the same rows and
updates state and head in one commit. It validates and hashes nothing: its hashes are constants of the same length. It
reads with one SELECT and decodes with orjson. Ledger and floor alternate, round by round. In each round the median of
the calls is taken; each figure is the median of the rounds.

Run it with ``python benchmarks/append_read.py``; it exits with 1 if a ratio misses its target.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from ledger import Change, SessionLedger
from ledger.clock import new_id, utc_now
from ledger.outbox.columns import NAMES, position, sql_list
from ledger.stores.sqlite.schema import migrate

ROUNDS, CALLS = 9, 300
VALUE = {"kpi": ["orders"], "time_filter": {"start_date": "2025-02-09", "end_date": "2025-03-11"}, "cfc": ["CFC-1"]}
MESSAGE = {"role": "user", "content": "What were the total orders for CFC1 in the last week? " * 4}
INSERT = f"INSERT INTO session_events ({sql_list()}) VALUES ({sql_list('?' * len(NAMES))})"  # noqa: S608
SESSION, VERSION, EVENT, USER = map(position, ("session_id", "version", "event_id", "user_id"))
FIELD, KEY, VALUE_TEXT = map(position, ("field", "key", "value"))
RECORDED, CREATED, STORE, HASH = map(position, ("recorded_at", "created_at", "store_id", "event_hash"))
UPSERT = (
    "INSERT INTO session_state (session_id, field, key, version, event_id, event_seq, value) VALUES (?,?,?,?,?,?,?) "
    "ON CONFLICT DO UPDATE SET version=excluded.version, event_id=excluded.event_id, event_seq=excluded.event_seq, "
    "value=excluded.value"
)


class Floor:
    """The floor: it executes statements without validating its input."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = FULL")
        migrate(self.db, str(path), new_store_id=new_id(utc_now()), now=utc_now())

    @staticmethod
    def row(session_id: str, version: int, event_id: str, field: str, key: str, value: Any) -> tuple[Any, ...]:
        digest = "0" * 64
        moment = time.time_ns() // 1000
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        return (
            *(session_id, version, event_id, "field.updated", field, key, text, 0, "user123", None),
            *(moment, moment, moment, 1, "0190163d-8694-739b-aea5-966c26f8ad91", digest, "0" * 32, digest, digest),
            None,
        )

    def append(self, rows: list[tuple[Any, ...]], *, create: bool = False) -> None:
        execute = self.db.execute
        execute("BEGIN IMMEDIATE")
        for row in rows:
            seq = execute(INSERT, row).lastrowid
            value = None if row[FIELD] == "message" else row[VALUE_TEXT]
            execute(UPSERT, (row[SESSION], row[FIELD], row[KEY], row[VERSION], row[EVENT], seq, value))
        if create:
            execute(
                "INSERT INTO session_heads VALUES (?,?,?,?,?,?,?)",
                (row[SESSION], row[USER], row[CREATED], row[VERSION], row[RECORDED], row[HASH], row[STORE]),
            )
        else:
            execute(
                "UPDATE session_heads SET version=?, updated_at=?, event_hash=? WHERE session_id=?",
                (row[VERSION], row[RECORDED], row[HASH], row[SESSION]),
            )
        execute("COMMIT")

    def create(self) -> str:
        """Create a session as the ledger does, with question and status."""
        session_id, event_id = fresh(), fresh()
        content = (("question", "q"), ("status", "active"))
        self.append([self.row(session_id, 1, event_id, field, "", value) for field, value in content], create=True)
        return session_id

    def state(self, session_id: str) -> dict[tuple[str, str], Any]:
        head = self.db.execute("SELECT * FROM session_heads WHERE session_id = ?", (session_id,)).fetchone()
        slots = self.db.execute(
            "SELECT field, key, value FROM session_state WHERE session_id = ? AND field <> 'message'", (session_id,)
        )
        return {("head", ""): head, **{(field, key): orjson.loads(value) for field, key, value in slots}}

    def history(self, session_id: str) -> list[tuple[Any, ...]]:
        rows = self.db.execute(
            f"SELECT {sql_list()} FROM session_events WHERE session_id = ? ORDER BY version, seq",  # noqa: S608
            (session_id,),
        ).fetchall()
        return [(*row[:VALUE_TEXT], orjson.loads(row[VALUE_TEXT]), *row[VALUE_TEXT + 1 :]) for row in rows]

    def last_messages(self, session_id: str, count: int) -> list[Any]:
        rows = self.db.execute(
            "SELECT s.key, e.value, e.actor, e.occurred_at, e.recorded_at "
            "FROM session_state s JOIN session_events e ON e.seq = s.event_seq "
            "WHERE s.session_id = ? AND s.field = 'message' ORDER BY s.version DESC, s.key DESC LIMIT ?",
            (session_id, count),
        ).fetchall()
        return [(key, orjson.loads(value), *origin) for key, value, *origin in reversed(rows)]


def median_us(call: Callable[[int], object], calls: int = CALLS) -> float:
    """Return the median duration of ``call(i)``, in microseconds."""
    spent = []
    for index in range(calls):
        begun = time.perf_counter_ns()
        call(index)
        spent.append(time.perf_counter_ns() - begun)
    return statistics.median(spent) / 1000


def compare(name: str, ours: Callable[[int], object], floor: Callable[[int], object], target: float) -> bool:
    """Time the ledger and the floor alternately and print their ratio; return True if the ratio meets its target."""
    ours(0), floor(0)
    rounds = [(median_us(ours), median_us(floor)) for _ in range(ROUNDS)]
    mine, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
    return report(f"{name:<34} {mine:9.1f} us  floor {theirs:9.1f} us", mine / theirs, target)


def report(line: str, ratio: float, target: float, *, at_least: bool = False) -> bool:
    """Print a ratio with its target; return True if it meets the target."""
    met = ratio >= target if at_least else ratio <= target
    print(f"{line}  {ratio:5.2f}x  ({'>=' if at_least else '<='} {target}x: {'met' if met else 'MISSED'})", flush=True)
    return met


def seeded(ledger: SessionLedger, floor: Floor) -> tuple[str, str]:
    """Create the same session in ledger and floor: an agent's run of 200 events, 180 of them messages."""
    ours = ledger.create_session("user123", "What were the total orders for CFC1 in the last week?")
    theirs = floor.create()
    contents = [("constraints", "", VALUE), ("strategy", "", "## Plan\n" * 20), ("response_plan", "", VALUE)]
    contents += [("tool_call", f"call-{n}", {"name": f"Orders {n}"}) for n in range(4)]
    contents += [("tool_call_status", f"call-{n}", "completed") for n in range(4)]
    contents += [("tool_call_result", f"call-{n}", {"data": [VALUE]}) for n in range(4)]
    contents += [("summary", "", "Orders peaked in the week of February 16."), ("title", "", "Orders")]
    contents += [("session_type", "", "analysis"), ("attribute", "topic", "orders")]
    contents += [("message", f"m{n:03d}", MESSAGE) for n in range(199 - len(contents))]
    for version, (field, key, value) in enumerate(contents, 2):
        ledger.append(ours, "field.updated", [Change(field, key, value)])
        floor.append([floor.row(theirs, version, fresh(), field, key, value)])
    return ours, theirs


def talk(ledger: SessionLedger, floor: Floor, count: int) -> tuple[str, str]:
    """Create a session of ``count`` messages in the ledger and in the floor; return both ids."""
    ours, theirs = ledger.create_session("user123", "q"), floor.create()
    for number in range(count):
        ledger.append(ours, "message.added", [Change("message", f"m{number:03d}", MESSAGE)])
        floor.append([floor.row(theirs, number + 2, fresh(), "message", f"m{number:03d}", MESSAGE)])
    return ours, theirs


def writes(ledger: SessionLedger, floor: Floor) -> list[bool]:
    """Measure appends and creations of sessions; return for each whether it meets its target."""
    ours, theirs = ledger.create_session("user123", "q"), floor.create()
    version = iter(range(2, 1_000_000))

    return [
        compare(
            "durable append",
            lambda _: ledger.update_strategy(ours, VALUE),
            lambda _: floor.append([floor.row(theirs, next(version), fresh(), "strategy", "", VALUE)]),
            1.3,
        ),
        compare("create", lambda _: ledger.create_session("user123", "q"), lambda _: floor.create(), 1.5),
    ]


def fresh() -> str:
    """Return a new id."""
    return new_id(utc_now())


def threads(ledger: SessionLedger, floor: Floor) -> bool:
    """Measure appends per second of 8 SDK threads; return True if the target is met.

    The floor is one thread that appends to 8 sessions in turn, with a commit for each event. Both fill sessions of 50
    events; recorded runs of agents have about 30.
    """

    def one_by_one() -> float:
        begun = time.perf_counter()
        for _ in range(3):
            sessions = [floor.create() for _ in range(8)]
            for version in range(2, 51):
                for session_id in sessions:
                    floor.append([floor.row(session_id, version, fresh(), "strategy", "", VALUE)])
        return 3 * 8 * 50 / (time.perf_counter() - begun)

    def work() -> None:
        for _ in range(8):
            session_id = ledger.create_session("user123", "q")
            for _ in range(49):
                ledger.update_strategy(session_id, VALUE)

    def together() -> float:
        running = [threading.Thread(target=work) for _ in range(8)]
        begun = time.perf_counter()
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        return 8 * 8 * 50 / (time.perf_counter() - begun)

    rates = [(together(), one_by_one()) for _ in range(ROUNDS)]
    mine, single = (statistics.median(column) for column in zip(*rates, strict=True))
    line = f"{'8 threads, appends a second':<34} {mine:9.0f}     floor {single:9.0f}   "
    return report(line, mine / single, 2.0, at_least=True)


def reads(ledger: SessionLedger, floor: Floor) -> list[bool]:
    """Measure reads of state, history and messages; return for each whether it meets its target."""
    ours, theirs = seeded(ledger, floor)
    our_talk, their_talk = talk(ledger, floor, 200)
    cache = ledger.store._local._cache  # type: ignore[attr-defined]

    def uncached(_: int) -> None:
        cache.clear()
        dict(ledger.get_session(ours))  # type: ignore[arg-type]

    cached = statistics.median(median_us(lambda _: use(ledger.get_session(ours))) for _ in range(ROUNDS))
    whole = statistics.median(median_us(lambda _: dict(ledger.get_session(ours))) for _ in range(ROUNDS))  # type: ignore[arg-type]
    print(f"{'state read, cached':<34} {cached:9.1f} us  (<= 15 us: {'met' if cached <= 15 else 'MISSED'})", end="")
    print(f"; with all 17 columns decoded {whole:.1f} us")
    return [
        cached <= 15,
        compare("state read, uncached, all columns", uncached, lambda _: floor.state(theirs), 2.0),
        compare(
            "200-event history as objects", lambda _: list(ledger.history(ours)), lambda _: floor.history(theirs), 2.5
        ),
        compare(
            "last 10 of 200 messages",
            lambda _: ledger.get_messages(our_talk, last=10),
            lambda _: floor.last_messages(their_talk, 10),
            3.0,
        ),
    ]


def use(session: Any) -> None:
    """Read the attributes that an agent's loop reads."""
    if not (session.status == "active" and session.question and session.version):
        raise AssertionError(session)


def crowd(folder: Path) -> bool:
    """Compare uncached state reads in files of 10,000 and of 100 sessions; return True if the target is met."""
    medians: list[list[float]] = [[], []]
    with SessionLedger(f"sqlite:///{folder}/few.db") as few, SessionLedger(f"sqlite:///{folder}/many.db") as many:
        ids = [fill(few, 100), fill(many, 10_000)]
        for _ in range(ROUNDS):
            for ledger, sessions, figures in zip((few, many), ids, medians, strict=True):

                def uncached(index: int, ledger: SessionLedger = ledger, sessions: list[str] = sessions) -> None:
                    ledger.store._local._cache.clear()  # type: ignore[attr-defined]
                    dict(ledger.get_session(sessions[index * 7919 % len(sessions)]))  # type: ignore[arg-type]

                figures.append(median_us(uncached))
    small, large = (statistics.median(column) for column in medians)
    line = f"{'state read, 10,000 sessions':<34} {large:9.1f} us  in 100 {small:8.1f} us"
    return report(line, large / small, 1.2)


def fill(ledger: SessionLedger, sessions: int) -> list[str]:
    """Create sessions from 8 threads and return their ids."""
    plan = {"constraints": VALUE, "title": "Orders", "attribute": {"topic": "orders"}, "strategy": "## Plan\n" * 20}
    ids = [""] * sessions

    def work(first: int) -> None:
        for index in range(first, sessions, 8):
            ids[index] = ledger.create_session("user123", "How many orders?", fields=plan)

    running = [threading.Thread(target=work, args=(first,)) for first in range(8)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return ids


def main() -> int:
    """Print every figure with its target; return 1 if one is missed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        floor = Floor(folder / "floor.db")
        with SessionLedger(f"sqlite:///{folder}/ledger.db") as ledger:
            met = [*writes(ledger, floor), threads(ledger, floor), *reads(ledger, floor)]
        floor.db.close()
        met.append(crowd(folder))
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())

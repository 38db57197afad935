"""Appends to BigQuery while every request may fail, and compares what is there with what was acknowledged.

Threads work through sessions, lenient and strict ones in turn, by a proxy that refuses requests, breaks connections
and loses answers, until so many faults were injected. By hand, in an emulator of its own:
``python tests/faults/bigquery_faults.py --faults 300 --seed 1``.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.proxy import Plan, proxy
from ledger import Change, InvalidInput, NewEvent, OutcomeUnknown, StoreUnavailable, ValueTooLarge
from ledger.clock import new_id, utc_now
from ledger.stores.base import EventStore
from ledger.stores.bigquery.store import BigQueryStore
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

#: Seconds between two tries: the faults are drawn, so that waiting makes none of them go away.
SHORT = 0.01
#: Of the appends, those that are given up soon.
IMPATIENT = 0.2


@dataclass
class Told:
    """What callers were told of their events, by (session_id, event_id)."""

    appended: dict[tuple[str, str], int] = field(default_factory=dict)
    unknown: set[tuple[str, str]] = field(default_factory=set)
    not_written: set[tuple[str, str]] = field(default_factory=set)
    invalid: set[tuple[str, str]] = field(default_factory=set)
    faults: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self.faults.items()))
        return (
            f"{sum(self.faults.values())} faults ({kinds}): {len(self.appended)} appended, {len(self.unknown)} of "
            f"unknown outcome, {len(self.not_written)} not written, {len(self.invalid)} invalid"
        )


def run(rest: str, grpc: str, dataset: Dataset, *, faults: int, seed: int, threads: int = 4) -> Told:
    """Append until so many faults were injected; then check each promise, and return what was promised.

    Args:
        rest, grpc: The emulator's addresses.
        dataset: Holds the ledger's tables, empty.
    """
    told = Told()
    plan = Plan(seed, 0.3, delay=0.005)
    with proxy(rest, grpc, plan) as between:
        environment = {"BIGQUERY_EMULATOR_HOST": between.rest, "BIGQUERY_EMULATOR_GRPC_HOST": between.grpc}
        stores = {
            (strict, retry_timeout): BigQueryStore(
                Dataset(dataset.project, dataset.name, strict=strict, retry_timeout=retry_timeout),
                environment=environment,
                sleep=lambda seconds: time.sleep(min(seconds, SHORT)),
            )
            for strict in (False, True)
            for retry_timeout in (60, IMPATIENT)
        }

        def work(number: int) -> None:
            chance = random.Random(f"{seed} {number}")
            turn = 0
            while len(plan.log) < faults:
                turn += 1
                # Strict appends of one process wait for each other, so most sessions are lenient.
                both = [stores[number == 0, retry_timeout] for retry_timeout in (60, 60, IMPATIENT)]
                _one_session(both, chance, told, f"{number}-{turn}")

        try:
            with ThreadPoolExecutor(threads) as pool:
                for done in [pool.submit(work, number) for number in range(threads)]:
                    done.result()
            plan.off()
            told.faults.update(fault.kind for fault in plan.log)
            for strict in (False, True):
                check(stores[strict, 60], told)
        finally:
            plan.off()
            for store in stores.values():
                store.close()
    return told


def _one_session(stores: Sequence[EventStore], chance: random.Random, told: Told, name: str) -> None:
    """Begin a session and append to it; every fourth event cannot be recorded, every fifth is sent twice."""
    session_id = name if chance.random() < 0.3 else new_id(utc_now())
    for step in range(8):
        change = Change("context", f"k{step}", chance.random()) if step else Change("question", value=name)
        event = NewEvent("test.made", [change], new_id(utc_now()), user_id="ada")
        if step % 4 == 3:
            bad = chance.choice(
                [Change("nope", value=1), Change("title", value="x" * 9_000_000), Change("tag", "", True)]
            )
            event = NewEvent("test.made", [bad], event.event_id)
        for _ in range(2 if step % 5 == 4 else 1):
            _tell(chance.choice(stores), session_id, event, told)


def _tell(store: EventStore, session_id: str, event: NewEvent, told: Told) -> None:
    key = (session_id, event.event_id)
    try:
        done = store.append(session_id, event)
    except (InvalidInput, ValueTooLarge):
        told.invalid.add(key)
    except OutcomeUnknown as error:
        told.unknown.add((error.session_id, error.event_id))
    except StoreUnavailable:
        told.not_written.add(key)
    else:
        assert told.appended.setdefault(key, done.version) == done.version


def check(store: EventStore, told: Told) -> None:
    """Every event that was acknowledged is there once, at its version; none that was refused is there."""
    sessions = {session_id for session_id, _ in (*told.appended, *told.unknown, *told.not_written, *told.invalid)}
    for session_id in sessions:
        events = list(store.events(session_id, limit=10_000))
        there = Counter(event.event_id for event in events)
        assert not {event_id for event_id, times in there.items() if times != 1}, session_id
        versions = {event.event_id: event.version for event in events}
        acknowledged = {event_id: version for (of, event_id), version in told.appended.items() if of == session_id}
        assert {event_id: versions.get(event_id) for event_id in acknowledged} == acknowledged
        possible = {event_id for of, event_id in told.unknown if of == session_id}
        assert there.keys() <= acknowledged.keys() | possible
        found = store.state(session_id)
        assert (found is None) == (not events)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args(arguments)
    from ledger.cli.demo import emulator

    with tempfile.TemporaryDirectory() as folder, emulator.serve(Path(folder)) as (rest, grpc):
        place = Dataset("ledger", "faults")
        environment: dict[str, Any] = {"BIGQUERY_EMULATOR_HOST": rest, "BIGQUERY_EMULATOR_GRPC_HOST": grpc}
        warehouse = BigQueryWarehouse(place, environment=environment)
        warehouse.create()
        warehouse.close()
        began = time.monotonic()
        told = run(rest, grpc, place, faults=wanted.faults, seed=wanted.seed)
        print(f"{told}; each promise was kept ({time.monotonic() - began:.0f} s)")


if __name__ == "__main__":
    main()

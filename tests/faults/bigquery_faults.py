"""Appends to BigQuery while every request may fail, and compares what is there with what callers were told.

Threads work through sessions by each road: ledgers in BigQuery (lenient and strict, by streams and by insertAll) and a
ledger in a file whose relay ships to BigQuery. Their requests go through a proxy that refuses them, breaks connections
and loses answers, and behind it through the layer that is as strict as the service (`service.layer`). What became of
the events is read past both. By hand, in an emulator of its own, from the folder ``tests``:
``python -m faults.bigquery_faults --faults 300 --seed 1``; ``make bigquery-faults`` does it with three seeds. Which
requests fail, and how, follows from the seed; which events they carry does not.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from faults.bigquery_truth import Told, check
from faults.proxy import Plan, proxy
from faults.soak_sides import Sides
from ledger import (
    ANY_VERSION,
    Change,
    InvalidInput,
    NewEvent,
    OutcomeUnknown,
    SessionLedger,
    StoreUnavailable,
    ValueTooLarge,
    WrongExpectedVersion,
)
from ledger.clock import new_id, utc_now
from ledger.relay.loop import Relay
from ledger.stores.base import EventStore
from ledger.stores.bigquery.store import BigQueryStore
from ledger.tiers.opening import outbox_of, relay_between
from ledger.warehouse.bigquery.settings import Dataset, parse
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from support.emulator import Emulator

#: Seconds between two tries: the faults are drawn, so that waiting makes none of them go away.
SHORT = 0.01
#: Seconds between two sessions of the file.
PAUSE = 0.5
#: Seconds for which appends are retried: a minute, or so short that some outcomes stay unknown.
PATIENT, IMPATIENT = 60, 0.2
#: The roads of appends straight to BigQuery, by the options of their URLs.
OPTIONS = {
    "lenient": "transport=storage",
    "lenient, insertAll": "transport=insertall",
    "strict": "appends=strict",
    "strict, insertAll": "appends=strict&transport=insertall",
}
FILE = "file and relay"
#: Doubles whose shortest spelling exact parsing refuses, and other values that are easily changed on the way.
DELICATE = [67.174118, 1687473876.057356, 5e-324, -0.0, 1.0, 2**64 - 1, -(2**63), None, "", "\0", {"a": [1.5, {}]}]


def run(emulator: Emulator, dataset: Dataset, folder: Path, *, faults: int, seed: int) -> Told:
    """Append by each road until so many faults were injected; then check each promise, and return what was promised.

    Args:
        emulator: Behind its layer.
        dataset: Holds the ledger's tables, empty.
        folder: Empty; for the ledger in a file.
    """
    told = Told()
    plan = Plan(seed, 0.3, delay=0.005)
    sides = Sides(folder / "ledger.db", emulator, dataset.name)
    with proxy(emulator.rest, emulator.grpc, plan) as between, contextlib.ExitStack() as opened:
        opened.callback(plan.off)
        through = {"BIGQUERY_EMULATOR_HOST": between.rest, "BIGQUERY_EMULATOR_GRPC_HOST": between.grpc}
        roads = {
            name: [
                _store(opened, dataset, f"{options}&retry_timeout={seconds}", through)
                for seconds in (PATIENT, IMPATIENT)
            ]
            for name, options in OPTIONS.items()
        }
        ledger = opened.enter_context(SessionLedger.open(sides.url))

        def is_over() -> bool:
            return len(plan.log) >= faults

        def work(name: str, stores: Sequence[EventStore]) -> None:
            chance, turn = random.Random(f"{seed} {name}"), 0
            while not is_over():
                turn += 1
                _one_session(stores, chance, told, f"{name} {turn}", name)
                if name == FILE:  # whose appends wait for no request
                    time.sleep(PAUSE)

        def ship() -> None:
            chance = random.Random(f"{seed} relay")
            while not is_over():
                relay = _relay(ledger, dataset, through)
                with contextlib.closing(relay):
                    while not is_over() and _sync(relay, told) and chance.random() < 0.8:
                        time.sleep(SHORT)

        with ThreadPoolExecutor(len(roads) + 2) as pool:
            tasks = [pool.submit(work, name, [stores[0], *stores]) for name, stores in roads.items()]
            for done in [*tasks, pool.submit(work, FILE, [ledger.store]), pool.submit(ship)]:
                done.result()
        plan.off()
        told.faults.update(fault.kind for fault in plan.log)
        told.requests.update(fault.method for fault in plan.log)
        with contextlib.closing(_relay(ledger, dataset, through)) as relay:
            relay.sync()
        status = outbox_of(ledger.store, dataset.url).status()
        assert (status.waiting_rows, status.refused_events) == (0, 0), status
        straight = BigQueryStore(dataset, environment=_addresses(emulator.behind()))
        with contextlib.closing(straight):
            check(told, sides, straight, in_file={session for session, _ in sides.events_here()})
    return told


def _store(opened: contextlib.ExitStack, dataset: Dataset, options: str, environment: dict[str, str]) -> BigQueryStore:
    place = parse(f"{dataset.project}/{dataset.name}?{options}")
    made = BigQueryStore(place, environment=environment, sleep=_shortly)
    return opened.enter_context(contextlib.closing(made))


def _relay(ledger: SessionLedger, dataset: Dataset, environment: dict[str, str]) -> Relay:
    place = parse(f"{dataset.project}/{dataset.name}?retry_timeout=5")
    return relay_between(ledger.store, BigQueryWarehouse(place, environment=environment, sleep=_shortly))


def _sync(relay: Relay, told: Told) -> bool:
    """Ship what waits; False if the warehouse could not be reached."""
    try:
        told.shipped += relay.sync()
    except StoreUnavailable:
        told.interrupted += 1
        return False
    return True


def _shortly(seconds: float) -> None:
    time.sleep(min(seconds, SHORT))


def _addresses(emulator: Emulator) -> dict[str, str]:
    return {"BIGQUERY_EMULATOR_HOST": emulator.rest, "BIGQUERY_EMULATOR_GRPC_HOST": emulator.grpc}


def _one_session(stores: Sequence[EventStore], chance: random.Random, told: Told, name: str, road: str) -> None:
    """Begin a session and append to it; every fourth event cannot be recorded, every fifth is sent twice."""
    session_id = name if chance.random() < 0.3 else new_id(utc_now())
    for step in range(6 if road.startswith("strict") else 18):  # a transaction takes long
        change = Change("context", f"k{step}", _value(chance)) if step else Change("question", value=name)
        begins = not step and session_id != name
        # As the SDK does with ids that it has just made: the first time, nothing need be looked up.
        event = NewEvent(
            "test.made", [change], new_id(utc_now()), user_id="ada", creates_stream=begins, check_duplicate=False
        )
        of, expected = session_id, ANY_VERSION
        if step % 4 == 3:
            of, expected, event = chance.choice(_REFUSED)(session_id, event)
        for _ in range(2 if step % 5 == 4 else 1):
            _append(chance.choice(stores), of, event, expected, told, road)
            event = replace(event, creates_stream=False, check_duplicate=True)
    _read(chance.choice(stores), session_id, told)


def _value(chance: random.Random) -> Any:
    return chance.choice(DELICATE) if chance.random() < 0.5 else [chance.random(), chance.uniform(-1e9, 1e9)]


def _bad(*changes: Change) -> Callable[[str, NewEvent], tuple[str, int, NewEvent]]:
    return lambda session_id, event: (session_id, ANY_VERSION, NewEvent("test.made", list(changes), event.event_id))


#: What makes an event one that must not be recorded: the session, the version that is expected, and the event.
_REFUSED: list[Callable[[str, NewEvent], tuple[str, int, NewEvent]]] = [
    _bad(Change("nope", value=1)),
    _bad(Change("title", value="x" * 9_000_000)),
    _bad(Change("tag", "", True)),
    _bad(Change("context", "a", float("nan"))),
    _bad(Change("context", "a", 2**64)),
    _bad(Change("title", value="a"), Change("title", value="b")),
    lambda session_id, event: (new_id(datetime(2001, 1, 1, tzinfo=UTC)), ANY_VERSION, event),
    lambda session_id, event: (session_id, 1_000, event),
]


def _append(store: EventStore, session_id: str, event: NewEvent, expected: int, told: Told, road: str) -> None:
    """Append an event, and note what its caller is told."""
    key = (session_id, event.event_id)
    told.roads[road] += 1
    try:
        done = store.append(session_id, event, expected_version=expected)
    except (InvalidInput, ValueTooLarge):
        told.invalid.add(key)
    except WrongExpectedVersion:
        told.conflicting.add(key)
    except OutcomeUnknown as error:
        told.unknown.add((error.session_id, error.event_id))
    except StoreUnavailable:
        told.not_written.add(key)
    else:
        told.returned += 1
        told.contents[key] = {(change.field, change.key): change.value for change in event.changes}
        assert told.appended.setdefault(key, done.version) == done.version


def _read(store: EventStore, session_id: str, told: Told) -> None:
    """Read the session amid the faults: what was acknowledged is in the answer, if there is one."""
    acknowledged = {event_id for of, event_id in told.appended.copy() if of == session_id}
    with contextlib.suppress(StoreUnavailable):
        assert acknowledged <= {event.event_id for event in store.events(session_id)}
        told.reads += 1


def main(arguments: list[str] | None = None) -> None:
    """Run once for each seed, and print figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    wanted = parser.parse_args(arguments)
    from support.emulator import emulator

    for name in ("ledger", "sqlglot"):  # each retry is a warning
        logging.getLogger(name).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as parent, emulator(Path(parent)) as running:
        for seed in wanted.seed:
            folder = Path(parent) / f"seed-{seed}"
            folder.mkdir()
            place = Dataset(running.project, f"faults_{seed}")
            with contextlib.closing(BigQueryWarehouse(place, environment=_addresses(running))) as warehouse:
                warehouse.create()
            began = time.monotonic()
            told = run(running, place, folder, faults=wanted.faults, seed=seed)
            print(f"seed {seed}, {time.monotonic() - began:.0f} s: {told}; each promise was kept", flush=True)


if __name__ == "__main__":
    sys.exit(main())

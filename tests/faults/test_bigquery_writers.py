"""Several processes append to one session in BigQuery: strict ones win each version once, lenient lose nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faults import bigquery_faults
from ledger import Change, NewEvent
from ledger.clock import new_id, utc_now
from ledger.stores.bigquery.store import BigQueryStore
from support.bigquery_stores import Datasets, environment

pytestmark = [pytest.mark.emulator, pytest.mark.slow]

WRITERS = 8
#: Appends as often as it wins (strict), or so many times (lenient), then says what it was told.
WRITER = """
import json, logging, sys
from ledger import Change, NewEvent, WrongExpectedVersion
from ledger.clock import new_id, utc_now
from ledger.stores.urls import open_store

url, name, kind, until = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
aborted = []
handler = logging.Handler()
handler.emit = lambda record: aborted.append(record.getMessage())
logging.getLogger("ledger.bigquery").addHandler(handler)
store = open_store(url, create=False, clock=utc_now, ids=new_id)
print("ready", flush=True)
sys.stdin.readline()
won, lost, version = {}, 0, 1
while version < until if kind == "strict" else len(won) < until:
    event = NewEvent("test.made", [Change("context", name, version)], new_id(utc_now()), check_duplicate=False)
    try:
        done = store.append("shared", event, **({"expected_version": version} if kind == "strict" else {}))
        won[event.event_id] = version = done.version
    except WrongExpectedVersion as error:
        lost, version = lost + 1, error.actual
print(json.dumps({"won": won, "lost": lost, "aborted": len(aborted)}), flush=True)
store.close()
"""


@pytest.fixture(autouse=True)
def empty(datasets: Datasets) -> Iterator[None]:
    with datasets.emptied("main"):
        yield


def race(emulator: Any, store: BigQueryStore, kind: str, until: int) -> list[dict[str, Any]]:
    """What each of the writers was told, all of which began at one moment."""
    begin = NewEvent("test.begun", [Change("status", value="active")], new_id(utc_now()), user_id="ada")
    store.append("shared", begin, expected_version=0)
    url = f"{store.dataset.url}?appends={kind}&retry_timeout=120"
    command = [sys.executable, "-W", "error", "-c", WRITER, url]
    processes = [
        subprocess.Popen(
            [*command, f"w{number}", kind, str(until)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment(emulator),
        )
        for number in range(WRITERS)
    ]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        return [json.loads(process.communicate(timeout=300)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_of_eight_strict_writers_exactly_one_wins_each_version(emulator: Any, datasets: Datasets) -> None:
    store = BigQueryStore(datasets.place("main", strict=True), environment=environment(emulator))
    told = race(emulator, store, "strict", until=6)
    events = list(store.events("shared"))
    store.close()
    assert [event.version for event in events] == list(range(1, len(events) + 1))
    won = {event_id: version for each in told for event_id, version in each["won"].items()}
    assert won == {event.event_id: event.version for event in events[1:]}
    assert sum(each["lost"] for each in told) > 0
    # The emulator, like the service, aborts transactions that meet; they are made again, and then lose or win.
    assert sum(each["aborted"] for each in told) > 0


def test_of_eight_lenient_writers_every_event_is_kept_and_conflicts_are_listed(
    emulator: Any, datasets: Datasets
) -> None:
    store = BigQueryStore(datasets.place("main"), environment=environment(emulator))
    told = race(emulator, store, "lenient", until=6)
    events = list(store.events("shared"))
    conflicts = store.warehouse.query("SELECT version, events FROM conflicts WHERE session_id = 'shared'").rows
    store.close()
    won = {event_id: version for each in told for event_id, version in each["won"].items()}
    assert len(won) == WRITERS * 6
    assert won == {event.event_id: event.version for event in events[1:]}
    for each in told:  # each writer's own events are in order
        assert list(each["won"].values()) == sorted(set(each["won"].values()))
    shared = {version: times for version, times in Counter(won.values()).items() if times > 1}
    assert dict(conflicts) == shared
    assert shared


def test_whatever_fails_each_append_is_there_once_or_the_caller_was_told(
    emulator: Any, datasets: Datasets, tmp_path: Path
) -> None:
    told = bigquery_faults.run(emulator, datasets.place("main"), tmp_path, faults=40, seed=3)
    assert told.faults.total() >= 40
    assert told.appended
    assert told.invalid
    assert told.roads.keys() == {*bigquery_faults.OPTIONS, bigquery_faults.FILE}

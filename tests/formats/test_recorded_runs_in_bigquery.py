"""Recorded runs are in BigQuery what they are in SQLite, and go there in a handful of queries."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from faults.proxy import proxy
from ledger import Change, NewEvent, SessionLedger, WrongExpectedVersion
from ledger.cli.scripts.commands import query_sessions
from ledger.formats.events import Imported
from ledger.formats.openai_chat import import_runs, read_runs
from ledger.formats.sessions_table import import_rows
from ledger.model.integrity import verify
from ledger.model.queries import SessionQuery
from ledger.stores.base import EventStore
from ledger.stores.bigquery.store import BigQueryStore
from ledger.testing import START, SetClock
from ledger.warehouse.bigquery.settings import Dataset
from support.bigquery_stores import Datasets, environment
from support.recorded_runs import REAL, check_counts

if TYPE_CHECKING:
    from support.emulator import Emulator

pytestmark = pytest.mark.emulator

#: Looking for the first session, finding creation times, a staging table, the transaction, and dropping the table.
QUERIES = 5


@pytest.fixture(params=["lenient"])
def place(datasets: Datasets, request: pytest.FixtureRequest) -> Iterator[Dataset]:
    """An empty dataset with the ledger's tables.

    Both kinds of ledger take events over by one road; the strict one chains their hashes as well.
    """
    with datasets.stores(SetClock()):
        yield datasets.place("main", strict=request.param == "strict")


@pytest.fixture
def counted(emulator: Emulator, place: Dataset) -> Iterator[Callable[[Callable[[EventStore], Imported]], Any]]:
    """Imports into the dataset; gives how many events were new, and how many queries it took."""
    with proxy(emulator.rest, emulator.grpc) as between:
        addresses = environment(replace(emulator, rest=between.rest, grpc=between.grpc))
        store = BigQueryStore(place, environment=addresses)

        def run(work: Callable[[EventStore], Imported]) -> tuple[int, int]:
            before = between.counts
            done = work(store)
            return done.new, (between.counts - before)["POST query"]

        yield run
        store.close()


@pytest.fixture
def store(emulator: Emulator, place: Dataset) -> Iterator[BigQueryStore]:
    opened = BigQueryStore(place, environment=environment(emulator))
    yield opened
    opened.close()


def said(*contents: str) -> list[bytes]:
    """A run of one message for each text."""
    return [json.dumps([{"role": "user", "content": content}]).encode() for content in contents]


def shown(url: str, *args: str) -> str:
    result = CliRunner().invoke(query_sessions, [*args, "--details", "--format", "json", "--url", url])
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.mark.skipif(not REAL.is_file(), reason="the recorded runs are not beside this checkout")
@pytest.mark.parametrize(
    ("place", "count"),
    [("strict", 25), pytest.param("lenient", None, marks=pytest.mark.slow)],
    ids=["some", "all"],
    indirect=["place"],
)
def test_the_real_runs_are_the_same_bytes_in_sqlite_and_in_bigquery(
    emulator: Emulator,
    place: Dataset,
    counted: Any,
    count: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment(emulator).items():
        monkeypatch.setenv(name, value)
    runs = REAL.read_bytes().splitlines(keepends=True)[:count]
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with SessionLedger.open(url) as ledger:
        events = import_runs(ledger.store, runs, clock=lambda: START).new

    new, queries = counted(lambda store: import_runs(store, runs, clock=lambda: START))
    assert new == events
    # An emulator that takes no more than gRPC's 4 MB at once refuses the whole file, which then goes there in halves.
    assert QUERIES <= queries <= (QUERIES if count else 3 * QUERIES - 1)

    expected = shown(url, "--limit", "1000")
    assert shown(place.url, "--limit", "1000") == expected
    session_ids = [session["session_id"] for session in json.loads(expected)]
    assert len(session_ids) == len(runs)
    for session_id in session_ids[:5]:
        assert shown(place.url, session_id) == shown(url, session_id)
    with SessionLedger.open(place.url) as there:
        check_counts(there, runs)

    if count:
        # Each session is found by its id and read, the first of them twice.
        assert counted(lambda store: import_runs(store, runs)) == (0, 2 * len(runs) + 2)
        assert shown(place.url, "--limit", "1000") == expected


def test_a_longer_file_takes_its_new_runs_there_together(store: BigQueryStore, counted: Any) -> None:
    assert counted(lambda store: import_runs(store, said("one", "two"))) == (6, QUERIES)
    new, queries = counted(lambda store: import_runs(store, said("one", "two", "three", "four")))
    # The two that are here take two queries each and one more for the first, the new ones one each.
    assert (new, queries) == (6, 2 + 2 * 2 + 2 + QUERIES - 1)
    # A new run in front hides that others are here until they are refused.
    assert counted(lambda store: import_runs(store, said("zero", "one")))[0] == 3
    assert Counter(head.version for head, _ in _all(store)) == {3: 5}


@pytest.mark.parametrize("place", ["lenient", "strict"], indirect=True)
def test_an_import_there_goes_on_behind_what_came_in_between(store: BigQueryStore, place: Dataset) -> None:
    (run,) = read_runs(said("hello"))
    for event in run.events[:2]:
        same = [Change(change.field, change.key, change.value) for change in event.changes]
        store.append(run.session_id, NewEvent(event.event_type, same, event.event_id, event.actor, user_id="imported"))
    store.append(run.session_id, NewEvent("summary.updated", [Change("summary", value="mine")], "later"))
    before = list(store.events(run.session_id))
    assert [import_runs(store, said("hello"), clock=lambda: START).new for _ in range(2)] == [1, 0]
    history = list(store.events(run.session_id))
    assert history[:3] == before
    assert (history[3].event_type, history[3].recorded_at) == ("session.completed", before[2].recorded_at)
    assert verify(history) == (4 if place.strict else 0)


def test_a_table_there_takes_further_rows_and_refuses_those_that_come_late(store: BigQueryStore, counted: Any) -> None:
    def rows(*days: int) -> list[dict[str, Any]]:
        return [
            {
                "session_id": session_id,
                "user_id": "ada",
                "question": "How many?",
                "status": "active",
                "summary": f"day {day}",
                "created_at": START,
                "updated_at": START.replace(day=day),
            }
            for session_id in ("a", "b")
            for day in days
        ]

    days = START.day, START.day + 1, START.day + 2, START.day + 3
    assert counted(lambda store: import_rows(store, rows(days[0], days[2]))) == (4, QUERIES)
    assert counted(lambda store: import_rows(store, rows(days[0], days[2], days[3])))[0] == 2
    assert counted(lambda store: import_rows(store, rows(*days[2:])))[0] == 0
    with pytest.raises(WrongExpectedVersion, match=r"^Row 1: session a: the change of .* would follow version 1"):
        import_rows(store, rows(*days))
    assert {head.session_id: head.version for head, _ in _all(store)} == {"a": 3, "b": 3}


def _all(store: EventStore) -> Any:
    return list(store.sessions(SessionQuery(), limit=1000))

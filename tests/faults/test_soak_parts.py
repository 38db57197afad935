"""What the soak is made of: that its comparison sees what is wrong, and that its trouble is what it says."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions as api

from faults.proxy import proxy
from faults.soak_sides import Sides, Told, compared
from faults.trouble import Trouble
from ledger import Change, SessionLedger
from ledger.outbox.columns import NAMES
from support.bigquery_stores import environment
from support.emulator import connect


def test_both_sides_are_read_as_the_same_rows(
    emulator: Any, bigquery_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(emulator).items():
        monkeypatch.setenv(name, value)
    sides, told = Sides(tmp_path / "ledger.db", emulator, bigquery_dataset), Told()
    with SessionLedger.open(sides.url, warehouse=sides.warehouse) as ledger:
        session_id = ledger.create_session("ada", "q")
        for value in ({"b": [1, 2.5, None], "a": "ä\n"}, None):
            changes = [Change("attribute", "a", value), Change("title", removed=True)]
            done = ledger.append(session_id, "test.made", changes, actor="eve")
            told.hear({"token": "", "event": [done.session_id, done.event_id, done.version], "ms": 1.0})
        assert ledger.warehouse.sync() > 4
    assert sides.events_here() == sides.events_there()
    found = sides.compare(told)
    assert (found["events"], found["acknowledged"], found["lost"]) == (3, 2, 0)
    assert sides.waiting() == 0


SLOT = {"session_id", "event_id", "field", "key"}
ROWS = [
    tuple({"session_id": "s", "version": n, "event_id": f"e{n}"}.get(name, name) for name in NAMES) for n in (1, 2, 3)
]


def changed(row: tuple[Any, ...], **columns: Any) -> tuple[Any, ...]:
    return tuple(columns.get(name, value) for name, value in zip(NAMES, row, strict=True))


def told_of(*events: tuple[str, str, int]) -> Told:
    told = Told()
    for event in events:
        told.hear({"token": "", "event": event, "ms": 1.0})
    return told


def test_the_same_rows_in_another_order_are_the_same() -> None:
    told = told_of(("s", "e2", 2), ("s", "e3", 3), ("s", "given up", 4))
    assert told.lose([("s", "e2"), ("s", "e3")]) == 1
    expected = {"rows": 3, "events": 3, "acknowledged": 2, "lost": 1}
    assert compared(ROWS, ROWS[::-1], told) == expected


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ([*ROWS, ROWS[1]], "1 rows that are there more than once"),
        (ROWS[:2], "1 rows that the warehouse lacks"),
        ([*ROWS, changed(ROWS[0], field="tag")], "1 rows that the store does not know"),
        *(
            ([*ROWS[:2], changed(ROWS[2], **{name: "other"})], "1 rows that differ")
            for name in NAMES
            if name not in SLOT
        ),
    ],
)
def test_a_row_that_is_not_there_as_it_is_here_is_found(there: list[tuple[Any, ...]], found: str) -> None:
    with pytest.raises(AssertionError, match=found):
        compared(ROWS, there, Told())


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([ROWS[0], ROWS[2]], "1 sessions with a gap"),
        ([*ROWS, changed(ROWS[0], event_id="e4")], "two events have one version"),
        ([*ROWS, ROWS[0]], "twice"),
    ],
)
def test_a_session_whose_versions_do_not_count_its_events_is_found(rows: list[tuple[Any, ...]], found: str) -> None:
    with pytest.raises(AssertionError, match=found):
        compared(rows, rows, Told())


@pytest.mark.parametrize("event", [("s", "gone", 4), ("s", "e2", 3)])
def test_what_was_acknowledged_and_is_not_there_is_found(event: tuple[str, str, int]) -> None:
    with pytest.raises(AssertionError, match="1 acknowledged events"):
        compared(ROWS, ROWS, told_of(("s", "e1", 1), event))


def test_an_event_that_is_acknowledged_at_two_versions_is_an_error() -> None:
    told = Told()
    told.hear({"token": "1-2-0-7", "event": ["s", "e", 4], "ms": 1.0})
    told.hear({"token": "1-2-0-7", "event": ["s", "e", 5], "ms": 1.0})
    assert told.errors == ["s e was acknowledged at 4, and then at 5"]
    assert told.unanswered() == ["1-2-0-8"]


def test_a_request_that_is_held_up_goes_on_when_let_go_or_is_lost(emulator: Any) -> None:
    trouble = Trouble(1, 0.0)
    with (
        proxy(emulator.rest, emulator.grpc, trouble) as between,
        connect(between.rest, between.grpc) as through,
        ThreadPoolExecutor(1) as thread,
    ):
        for lost in (False, True):
            trap = trouble.trap("GET datasets", holds=True)
            asked = thread.submit(lambda: list(through.client.list_datasets(retry=None)))
            assert trap.caught.wait(60)
            assert not asked.done()
            trap.release(lost=lost)
            if lost:
                with pytest.raises(Exception, match=r"[Cc]onnection"):
                    asked.result(60)
            else:
                asked.result(60)
        trouble.end()


def test_while_the_warehouse_is_away_every_request_fails_and_afterwards_none(emulator: Any) -> None:
    trouble = Trouble(1, 0.0)
    with proxy(emulator.rest, emulator.grpc, trouble) as between, connect(between.rest, between.grpc) as through:
        trouble.away = True
        for _ in range(2):
            with pytest.raises(Exception, match=r"[Cc]onnection|503"):
                list(through.client.list_datasets(retry=None))
        assert trouble.turned_away.total() == 2
        assert trouble.log == []
        trouble.away = False
        list(through.client.list_datasets(retry=None))


def test_a_proxy_that_was_left_refuses_connections_until_another_takes_its_ports(emulator: Any) -> None:
    with proxy(emulator.rest, emulator.grpc) as between, connect(between.rest, between.grpc) as through:
        list(through.client.list_datasets(retry=None))
    with connect(between.rest, between.grpc) as through:
        with pytest.raises(Exception, match=r"refused"):
            list(through.client.list_datasets(retry=None))
        with proxy(emulator.rest, emulator.grpc, again=between):
            list(through.client.list_datasets(retry=None))
            with pytest.raises(api.InvalidArgument):
                through.write.finalize_write_stream(
                    name=f"projects/{emulator.project}/datasets/none/tables/none/streams/none", timeout=60
                )

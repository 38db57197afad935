"""Rows into BigQuery on the emulator: what the two transports write and refuse, and what faults leave behind."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from ledger.errors import ConfigurationError, StoreRejected, StoreUnavailable, ValueTooLarge
from ledger.model.events import MAX_EVENT_BYTES
from ledger.warehouse.bigquery import appends
from ledger.warehouse.bigquery.errors import OutcomeLost
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from support.bigquery_stores import environment
from support.bigquery_warehouses import batch, count, through
from support.emulator import Emulator
from support.histories import event

NOON = datetime(2026, 3, 4, 12, 0, 0, 123456, tzinfo=UTC)


@contextlib.contextmanager
def by(transport: Any, emulator: Emulator, place: Dataset) -> Iterator[BigQueryWarehouse]:
    settings = environment(emulator)
    with contextlib.closing(BigQueryWarehouse(replace(place, transport=transport), environment=settings)) as opened:
        yield opened


VALUES = {
    "text": 'ü "quoted" \\ \u2028 \U0001f600',
    "integers": [0, -(2**63), 2**64 - 1],
    "floats": [0.1, -1.5, 1e300, 5e-324, 1.0],
    "nested": {"b": {"a": [None, True, {}]}, "": []},
    "null": None,
}


def test_both_transports_write_the_same_rows_byte_by_byte(emulator, place, direct):
    recorded = [
        replace(
            event(1, *(("context", name, value) for name, value in VALUES.items()), session="transports"),
            actor="robot",
            occurred_at=NOON,
            prev_hash="p",
        )
    ]
    written = {}
    for transport in ("storage", "insertall"):
        with by(transport, emulator, place) as it:
            it.append("session_events", batch(*(replace(each, store_id=transport) for each in recorded)))
        sql = """
            WITH events AS (
              SELECT * EXCEPT (store_id) FROM session_events WHERE session_id = 'transports' AND store_id = @by
            )
            SELECT TO_JSON_STRING(events) AS text FROM events ORDER BY events.key
        """
        written[transport] = direct.query(sql, {"by": transport}).rows
    assert len(written["storage"]) == len(VALUES)
    assert written["storage"] == written["insertall"]
    found = direct.query("SELECT key, value FROM session_fields WHERE session_id = 'transports'").rows
    assert dict(found) == VALUES


@pytest.mark.parametrize("transport", ["storage", "insertall"])
def test_rows_can_be_queried_as_soon_as_they_are_acknowledged(emulator, place, direct, transport):
    with by(transport, emulator, place) as it:
        for version in range(1, 4):
            it.append("session_events", batch(event(version, ("title", "", "t"), session=f"soon-{transport}")))
            assert count(direct, f"soon-{transport}") == version


def test_many_appends_and_threads_share_one_connection(emulator, place):
    with through(emulator, place) as (running, it):
        it.append("session_events", batch(event(1, ("title", "", "t"), session="shared")))
        with ThreadPoolExecutor(8) as pool:
            list(
                pool.map(
                    lambda version: it.append(
                        "session_events", batch(event(version, ("title", "", "t"), session="shared"))
                    ),
                    range(2, 41),
                )
            )
        assert running.counts == {"AppendRows connection": 1, "AppendRows": 40}
        assert it.query("SELECT COUNT(DISTINCT version) AS n FROM session_events WHERE session_id = 'shared'").rows == [
            (40,)
        ]


def unfit(session: str, column: str, value: Any) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Two rows that fit, and the same with a value that does not in the second."""
    good = batch(event(1, ("title", "", "good"), ("summary", "", "bad"), session=session))
    index = good.schema.get_field_index(column)
    values = pa.array([good.column(column)[0].as_py(), value])
    return good, good.set_column(index, good.schema.field(column), values)


@pytest.mark.parametrize("transport", ["storage", "insertall"])
@pytest.mark.parametrize(("column", "value", "cause"), [("user_id", None, "user_id"), ("value", "{", "JSON")])
def test_a_row_that_does_not_fit_is_refused_with_its_cause(emulator, place, transport, column, value, cause):
    _, bad = unfit(f"unfit-{transport}-{column}", column, value)
    with by(transport, emulator, place) as it, pytest.raises(StoreRejected, match=cause) as refused:
        it.append("session_events", bad)
    assert not refused.value.retryable
    assert "create_sessions_table.py" in str(refused.value)


@pytest.mark.parametrize("transport", ["storage", "insertall"])
def test_of_rows_that_are_refused_none_is_written_and_the_next_are_taken(emulator, place, transport):
    good, bad = unfit(f"next-{transport}", "user_id", None)
    with by(transport, emulator, place) as it:
        for _ in range(2):
            with pytest.raises(StoreRejected):
                it.append("session_events", bad)
        assert count(it, f"next-{transport}") == 0
        it.append("session_events", good)
        assert count(it, f"next-{transport}") == 2


@pytest.mark.parametrize("transport", ["storage", "insertall"])
def test_a_table_that_is_not_there_is_a_matter_of_settings(emulator, place, transport):
    with by(transport, emulator, place) as it, pytest.raises(ConfigurationError, match=r"create_sessions_table\.py"):
        it.append("no_such_table", batch(event(1, ("title", "", "t"))))


def test_a_closed_warehouse_refuses_everything(emulator, place):
    it = BigQueryWarehouse(place, environment=environment(emulator))
    it.append("session_events", batch(event(1, ("title", "", "t"), session="closed")))
    it.close()
    it.close()
    for ask in (
        lambda: it.query("SELECT 1 AS a"),
        lambda: it.append("session_events", batch(event(2, ("title", "", "t"), session="closed"))),
        it.create,
    ):
        with pytest.raises(StoreRejected, match="is closed; open it again"):
            ask()
    with by("insertall", emulator, place) as other:
        other.close()
        with pytest.raises(StoreRejected, match="is closed; open it again"):
            other.append("session_events", batch(event(2, ("title", "", "t"), session="closed")))


# Faults of an append


def test_a_connection_that_the_server_closed_is_opened_again_and_nobody_notices(emulator, place):
    with through(emulator, place, {"AppendRows": {2: "close", 4: "close"}}) as (running, it):
        for version in range(1, 4):
            it.append("session_events", batch(event(version, ("title", "", "t"), session="idle")))
        assert running.counts["AppendRows connection"] == 3
        assert count(it, "idle") == 3


@pytest.mark.parametrize(("transport", "request_name"), [("storage", "AppendRows"), ("insertall", "POST insertAll")])
def test_rows_whose_acknowledgement_was_lost_are_in_every_view_once(emulator, place, transport, request_name):
    session = f"lost-{transport}"
    with through(emulator, replace(place, transport=transport), {request_name: {1: "lost_answer"}}) as (running, it):
        it.append("session_events", batch(event(1, ("title", "", "t"), ("summary", "", "s"), session=session)))
        assert running.counts[request_name] == 2
        for view in ("session_fields", "session_history"):
            assert count(it, session, view) == 2
        assert count(it, session, "sessions") == 1
        assert count(it, session) in (2, 4)  # the table itself may hold them twice


def test_rows_that_turn_out_to_be_there_are_not_sent_again(emulator, place):
    with through(emulator, place, {"AppendRows": {1: "lost_answer"}}) as (running, it):
        rows = batch(event(1, ("title", "", "t"), session="landed"))
        it.append("session_events", rows, is_committed=lambda: count(it, "landed") > 0)
        assert running.counts["AppendRows"] == 1
        assert count(it, "landed") == 1


@pytest.mark.parametrize(
    "kind",
    ["unavailable", "quota", "internal", "reset_before", "error_in_response", "quota_in_response", "close"],
)
@pytest.mark.parametrize("nth", [1, 2])
def test_an_append_is_made_again_until_it_is_acknowledged(emulator, place, kind, nth):
    session = f"again-{kind}-{nth}"
    with through(emulator, place, {"AppendRows": {nth: kind, nth + 1: kind}}) as (running, it):
        for version in range(1, nth + 2):
            it.append("session_events", batch(event(version, ("title", "", "t"), session=session)))
        assert running.counts["AppendRows"] == nth + 3
        assert count(it, session) == nth + 1  # none of these was written before it was refused


@pytest.mark.parametrize(("kind", "error"), [("lost_answer", OutcomeLost), ("quota_403", StoreUnavailable)])
def test_when_patience_ends_it_is_said_whether_the_rows_may_be_there(emulator, place, kind, error):
    impatient = replace(place, retry_timeout=1e-6, transport="insertall")
    with through(emulator, impatient, {"POST insertAll": dict.fromkeys(range(1, 99), kind)}) as (_, it):
        with pytest.raises(StoreUnavailable) as raised:
            it.append("session_events", batch(event(1, ("title", "", "t"), session=f"late-{kind}")))
        assert type(raised.value) is error


# Requests


def test_nine_megabytes_and_more_go_in_several_requests(emulator, place):
    filler = "x" * 1_000_000
    events = [event(v, ("context", "a", filler), ("context", "b", filler), session="large") for v in range(1, 8)]
    with through(emulator, place) as (running, it):
        it.append("session_events", batch(event(1, ("title", "", "t"), session="small")))
        before = running.counts["AppendRows"]
        it.append("session_events", batch(*events))
        assert running.counts["AppendRows"] - before == 2
        counts = "COUNT(*) AS n, COUNT(DISTINCT version) AS v, SUM(LENGTH(STRING(value))) AS bytes"
        assert it.query(f"SELECT {counts} FROM session_events WHERE session_id = 'large'").rows == [(14, 7, 14_000_000)]


def test_a_request_that_the_server_finds_too_large_is_not_sent_again(emulator, place):
    with through(emulator, place) as (running, it):
        with pytest.raises(ValueTooLarge, match="larger than max"):
            it.append("session_events", batch(event(1, ("context", "a", "x" * 11_000_000), session="too-large")))
        assert running.counts["AppendRows"] == 1
        assert count(it, "too-large") == 0


@pytest.mark.parametrize("seed", range(20))
def test_a_batch_is_split_between_events_and_never_inside_one(seed):
    chance = random.Random(seed)
    limit = 6_000
    events = [
        event(
            version,
            *(("context", str(place), "x" * chance.randrange(1, 900)) for place in range(chance.randrange(1, 9))),
            session=chance.choice("ab"),
        )
        for version in range(1, chance.randrange(2, 40))
    ]
    whole = batch(*events)
    parts = list(appends.requests_of(whole, limit))
    assert pa.Table.from_batches(parts).to_pylist() == whole.to_pylist()
    ids = [{(row["session_id"], row["event_id"]) for row in part.to_pylist()} for part in parts]
    assert sum(map(len, ids)) == len(set().union(*ids)) == len(events)
    for part, of_part in zip(parts, ids, strict=True):
        assert part.nbytes <= limit or len(of_part) == 1
        assert part.serialize().size <= part.nbytes * 1.5 + 5_000  # a part is sent without the rest


def test_the_largest_event_fits_a_request():
    rows = batch(event(1, ("context", "a", "x" * (MAX_EVENT_BYTES - 1_000)), ("title", "", "t")))
    (only,) = appends.requests_of(rows)
    assert only.serialize().size < 10_000_000

"""BigQuery as a relay's sink, on the emulator: rows arrive once, or are refused with their cause."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from ledger.errors import ConfigurationError, CorruptEvent, RowsRefused, StreamEnded
from ledger.outbox.contract import Recovery, RelayCheckpoint
from ledger.outbox.rows import Row, row_key
from ledger.warehouse.bigquery.sink import BigQuerySink
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from support.bigquery_relays import Store
from support.bigquery_stores import environment
from support.bigquery_warehouses import count, through
from support.histories import DAY, event


@pytest.fixture
def store() -> Store:
    return Store()


# Sending


def test_rows_that_were_sent_are_there_once(sink, store, direct):
    assert store.recover(sink) == Recovery(store.checkpoint.sink_state)
    first = store.rows(event(1, ("title", "", "a"), ("summary", "", "b"), session=store.session))
    store.send(sink, first)
    store.send(sink, store.row(2))
    assert count(direct, store.session) == 3
    found = direct.query(
        "SELECT title, summary, version FROM sessions WHERE session_id = @id AND created_at >= @day",
        {"id": store.session, "day": DAY},
    )
    assert found.rows == [("t2", "b", 2)]
    assert store.place["rows"] == 3


@pytest.mark.parametrize(
    ("kind", "nth"),
    [
        ("lost_answer", 1),
        ("lost_answer", 2),
        ("unavailable", 1),
        ("quota", 2),
        ("internal", 1),
        ("reset_before", 2),
        ("close", 1),
        ("error_in_response", 2),
        ("quota_in_response", 1),
    ],
)
def test_a_batch_whose_answer_is_lost_or_delayed_is_there_once(emulator, place, store, direct, kind, nth):
    with through(emulator, place, {"AppendRows": {nth: kind, nth + 1: kind}}) as (running, it):
        sink = BigQuerySink(it)
        store.recover(sink)
        for version in range(1, nth + 2):
            store.send(sink, store.row(version))
            assert count(direct, store.session) == version
        assert running.plan.log
        assert store.place["rows"] == nth + 1


def test_batches_share_one_connection_and_closing_twice_is_closing_once(emulator, place, store):
    with through(emulator, place) as (running, it):
        sink = BigQuerySink(it)
        store.recover(sink)
        with sink:
            for version in range(1, 4):
                store.send(sink, store.row(version))
        assert running.counts["AppendRows connection"] == 2  # the first was made before the new stream was found
        sink.close()
        sink.close()
        assert count(it, store.session) == 3  # the warehouse is not the sink's own


def test_the_url_names_project_and_dataset_and_nothing_else(emulator, place):
    settings = {**environment(emulator), "GOOGLE_CLOUD_PROJECT": place.project}
    for given in (place, replace(place, project="", strict=True, retry_timeout=1)):
        with contextlib.closing(BigQueryWarehouse(given, environment=settings)) as it:
            assert BigQuerySink(it).url == f"bigquery://{place.project}/{place.name}"


def test_without_the_storage_write_api_there_is_no_relay(emulator, place):
    it = BigQueryWarehouse(replace(place, transport="insertall"), environment=environment(emulator))
    with pytest.raises(ConfigurationError, match="needs the Storage Write API"):
        BigQuerySink(it)


def test_a_position_without_a_beginning_takes_no_rows(sink, store):
    for place in ("", "null", "{", '{"fence": 1}'):
        store.checkpoint = RelayCheckpoint(1, sink_state=place)
        with pytest.raises(StreamEnded):
            store.hand_over(sink, store.row(1))


# What is refused


def test_a_row_that_does_not_fit_is_named_and_nothing_of_its_batch_is_there(sink, store, direct):
    store.recover(sink)
    rows = [*store.row(1), *store.row(2), *store.row(3)]
    unfit = (*rows[1][:9], None, *rows[1][10:])
    with pytest.raises(RowsRefused) as refused:
        store.hand_over(sink, [rows[0], unfit, rows[2]])
    assert list(refused.value.reasons) == [1]
    assert "user_id" in refused.value.reasons[1]
    assert refused.value.certain
    assert count(direct, store.session) == 0
    store.send(sink, [rows[0], rows[2]])
    assert count(direct, store.session) == 2
    assert store.place["rows"] == 2


def test_what_is_refused_again_on_a_new_stream_is_about_the_rows(emulator, place, store):
    with through(emulator, place, {"AppendRows": dict.fromkeys((1, 2, 3), "refused_in_response")}) as (_, it):
        sink = BigQuerySink(it)
        rows = store.row(1)
        for error in (StreamEnded, RowsRefused):
            assert store.recover(sink).in_doubt_after is None
            with pytest.raises(error, match="The rows cannot be read") as raised:
                store.hand_over(sink, rows)
        assert isinstance(raised.value, RowsRefused)
        assert not raised.value.certain
        assert not raised.value.reasons
        with pytest.raises(RowsRefused):
            store.hand_over(sink, rows)
        store.send(sink, rows)
        assert count(it, store.session) == 1


def test_a_stream_that_has_taken_rows_is_no_new_stream(emulator, place, store):
    with through(emulator, place, {"AppendRows": dict.fromkeys((3, 4, 5), "refused_in_response")}) as (_, it):
        sink = BigQuerySink(it)
        store.recover(sink)
        store.send(sink, store.row(1))  # the second time: at first the new stream is not found
        rows = store.row(2)
        for error in (StreamEnded, StreamEnded, RowsRefused):
            with pytest.raises(error, match="The rows cannot be read"):
                store.hand_over(sink, rows)
            store.recover(sink)
        store.send(sink, rows)
        assert count(it, store.session) == 2


def test_what_is_refused_since_another_relay_began_is_not_about_the_rows(emulator, place, sinks, store):
    with through(emulator, place, {"AppendRows": {1: "refused_in_response", 2: "refused_in_response"}}) as (_, it):
        sink = BigQuerySink(it)
        rows = store.row(1)
        store.recover(sink)
        with pytest.raises(StreamEnded):
            store.hand_over(sink, rows)
        store.recover(sink)
        replace(store).recover(sinks())
        with pytest.raises(StreamEnded):
            store.hand_over(sink, rows)


def test_a_row_that_is_not_as_recorded_is_a_corrupt_event(sink, store):
    rows = store.row(1)
    for unfit in (rows[0][:-1], (*rows[0][:2], "one", *rows[0][3:])):
        with pytest.raises(CorruptEvent, match=r"Rows 1 to 1 .* wrong columns or types"):
            sink.pack([unfit])


def test_large_rows_are_packed_by_whole_events_that_fit_a_request(sink, store, direct):
    store.recover(sink)
    filler = "x" * 1_000_000
    events = [
        event(v, ("context", "a", filler), ("context", "b", filler), session=store.session, event_id=f"e{v}")
        for v in range(1, 8)
    ]
    rows, sent = store.rows(*events), 0
    while rows:
        number, content = sink.pack(rows)
        assert content.events.nbytes <= 9_000_000
        assert number % 2 == 0
        store.send(sink, rows[:number])
        rows, sent = rows[number:], sent + 1
    assert sent == 2
    assert count(direct, store.session) == 14


@pytest.mark.parametrize(("sizes", "certain"), [((11_000_000,), True), ((5_900_000, 5_900_000), False)])
def test_what_is_larger_than_a_request_is_refused_and_surely_so_where_it_is_one_event(
    sink, store, direct, monkeypatch, sizes, certain
):
    monkeypatch.setattr("ledger.warehouse.bigquery.sink.REQUEST_BYTES", 20_000_000)
    store.recover(sink)
    rows = store.rows(
        *(
            event(version, ("context", "a", "x" * size), session=store.session)
            for version, size in enumerate(sizes, start=1)
        )
    )
    with pytest.raises(RowsRefused, match="larger than") as refused:
        store.hand_over(sink, rows)
    assert refused.value.certain == certain
    store.send(sink, store.row(3))
    assert count(direct, store.session) == 1


def test_what_the_service_finds_too_large_is_refused_at_once(emulator, place, store, direct):
    with through(emulator, place, {"AppendRows": {1: "too_large"}}) as (running, it):
        sink = BigQuerySink(it)
        store.recover(sink)
        with pytest.raises(RowsRefused, match="exceeds the limit") as refused:
            store.hand_over(sink, store.row(1))
        assert refused.value.certain
        assert running.counts["AppendRows"] == 1
    assert count(direct, store.session) == 0


def test_a_connection_that_has_ended_is_made_anew_without_a_failure(emulator, place, store, caplog):
    with through(emulator, place) as (running, it):
        sink = BigQuerySink(it)
        store.recover(sink)
        store.send(sink, store.row(1))
        caplog.clear()
        before = running.counts
        sink._stream._connection.close()  # as when the service ends a call on which nothing was sent for a while
        store.send(sink, store.row(2))
        sent = running.counts - before
        assert (sent["AppendRows connection"], sent["AppendRows"]) == (1, 1)
        assert count(it, store.session) == 2
    assert caplog.records == []


# What stands beside the rows


def test_sessions_whose_ids_do_not_say_when_they_began_are_indexed(sink, store, direct):
    mine, older = f"of-{store.id}", f"older-{store.id}"
    begun = store.rows(event(1, ("title", "", "t"), ("tag", "a", True), session=mine, day=2))
    later = store.rows(*(event(2, ("title", "", "u"), session=session, day=2) for session in (mine, older)))
    store.recover(sink)
    store.send(sink, [*begun, *later, *store.row(1)])
    store.hand_over(sink, begun)  # as when an answer was lost
    found = direct.query(
        "SELECT DISTINCT session_id, created_at, user_id FROM session_index WHERE session_id IN UNNEST(@ids)",
        {"ids": [mine, older, store.session]},
    )
    assert found.rows == [(mine, DAY + timedelta(days=2), "ann")]


def test_exactly_the_rows_that_are_there_are_known(sink, store):
    store.recover(sink)
    first = store.rows(event(1, ("title", "", "t"), ("context", "a", 1), ("context", "b", 2), session=store.session))
    other = store.rows(event(1, ("title", "", "t"), session=Store().session, day=3))
    store.send(sink, [first[0], first[2]])
    assert sink.existing([*first, *other]) == {row_key(first[0]), row_key(first[2])}
    assert sink.existing(other) == set()
    store.send(sink, other)
    assert sink.existing([*first, *other]) == {row_key(row) for row in (first[0], first[2], *other)}
    assert sink.existing([first[1], *other]) == {row_key(other[0])}
    assert sink.existing([]) == set()


def test_many_long_ids_are_asked_for_in_parts(emulator, place, store):
    longest = "\N{GRINNING FACE}" * 250
    with through(emulator, place) as (running, it):
        sink = BigQuerySink(it)
        store.recover(sink)
        rows = store.rows(*(event(1, ("title", "", "t"), session=f"{longest}{number}") for number in range(700)))
        store.send(sink, rows[::2])
        before = running.counts["POST query"]
        assert sink.existing(rows) == {row_key(row) for row in rows[::2]}
        assert running.counts["POST query"] - before == 3


def test_rows_are_packed_and_looked_up_while_others_are_sent(sink, store):
    store.recover(sink)
    batches = [store.row(version) for version in range(1, 9)]

    def read_ahead(rows: list[Row]) -> int:
        sink.existing(rows)
        return sink.pack(rows)[0]

    with ThreadPoolExecutor(1) as pool:
        ahead = [pool.submit(read_ahead, rows) for rows in batches]
        for rows in batches:
            store.send(sink, rows)
        assert [each.result() for each in ahead] == [1] * 8
    assert len(sink.existing([row for rows in batches for row in rows])) == 8

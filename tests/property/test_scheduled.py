"""Scheduled statements make of the tables, on DuckDB and on BigQuery, what the Python model makes, however they run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger.model.events import RecordedEvent
from ledger.testing import scheduled as model
from support import histories as h
from support.sql_targets import OnDuckDB, OnEmulator, Target, comparable

#: The times of the runs; the histories record from June 2025 to June 2026, in sessions created on 4 to 6 March 2026.
TIMES = st.datetimes(datetime(2025, 5, 30), datetime(2026, 6, 3), timezones=st.just(UTC))  # noqa: DTZ001
DAYS = st.sampled_from([1, 3, 40, 400])
Histories = list[tuple[RecordedEvent, ...]]
TABLES = ("session_events", "session_index", "session_heads", "sessions_latest")


@pytest.fixture(scope="module")
def on_duckdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnDuckDB]:
    target = OnDuckDB(tmp_path_factory.mktemp("scheduled"))
    with target.kept_open():
        yield target


@pytest.fixture(scope="module")
def on_emulator(emulator: Any) -> Iterator[OnEmulator]:
    target = OnEmulator(emulator, "scheduled")
    yield target
    target.close()
    emulator.client.delete_dataset("scheduled", delete_contents=True)


def of_store(histories: list[h.History]) -> Histories:
    """The events of each session; those of the second session are of a store with a relay."""
    stores = ["store", "relay", "store"]
    return [
        tuple(replace(event, store_id=stores[number]) for event in item.events) for number, item in enumerate(histories)
    ]


def in_two_parts(histories: Histories, share: float) -> tuple[Histories, list[RecordedEvent]]:
    """What is there of each session at first, and the events that come later."""
    early: Histories = []
    late: list[RecordedEvent] = []
    for number, events in enumerate(histories):
        ids = sorted({event.event_id for event in events})
        first = set(ids[: round(len(ids) * share) if number else len(ids)])
        early.append(tuple(event for event in events if event.event_id in first))
        late += [event for event in events if event.event_id not in first]
    return [events for events in early if events], late


def rows(events: Sequence[RecordedEvent], after: int = 0) -> list[tuple[Any, ...]]:
    return [(after + seq, *row) for seq, row in enumerate(h.rows_of(events), 1)]


def table(target: Target, name: str) -> list[tuple[str, ...]]:
    return comparable(target.query(f"SELECT * FROM `${{project}}.${{dataset}}.{name}`").rows)


def expected(target: Target, name: str, made: Sequence[Any]) -> list[tuple[str, ...]]:
    columns = target.query(f"SELECT * FROM `${{project}}.${{dataset}}.{name}` LIMIT 0").columns
    return comparable([tuple(row[column] for column in columns) for row in made])


def check_tables(target: Target, found: Histories, share: float, times: list[datetime], days: int, back: int) -> None:
    """A run over a part of the events, later ones over all of them, each twice; then a full refresh."""
    early, late = in_two_parts(found, share)
    first = rows([event for events in early for event in events])
    target.load(first)
    rollup: Any = {}
    latest: Any = {}
    for number, (there, time) in enumerate(zip((early, found), times, strict=True)):
        if number and late:
            target.add(rows(late, len(first)))
        rollup = model.rollup_after(rollup, there, time, days, back)
        latest = model.latest_after(latest, there, time, back)
        for _ in range(2):
            target.run_scheduled("daily_rollup", {"run_time": time, "days": days, "lookback_days": back})
            target.run_scheduled("sessions_latest", {"run_time": time, "lookback_days": back})
            assert table(target, "daily_rollup") == expected(target, "daily_rollup", list(rollup.values()))
            assert table(target, "sessions_latest") == expected(target, "sessions_latest", list(latest.values()))
    # Whatever runs were missed: a run that goes far enough back ends where one over an empty table does.
    end = max(times)
    target.run_scheduled("daily_rollup", {"run_time": end, "days": 999, "lookback_days": back})
    target.run_scheduled("sessions_latest", {"run_time": end, "lookback_days": 999})
    caught_up = table(target, "daily_rollup"), table(target, "sessions_latest")
    target.change_rows("DELETE FROM `${project}.${dataset}.daily_rollup` WHERE TRUE")
    target.run_scheduled("daily_rollup", {"run_time": end, "days": days, "lookback_days": back})
    target.run_scheduled("sessions_latest_full", {})
    assert (table(target, "daily_rollup"), table(target, "sessions_latest")) == caught_up
    assert caught_up[1] == expected(target, "sessions_latest", [model.latest_row(events) for events in found])


def check_sessions(target: Target, found: Histories, time: datetime, back: int) -> None:
    """Sessions expire once, and old ones are deleted from every table, if no store with a relay has them."""
    target.load(rows([event for events in found for event in events]))
    strict = found[2][0]
    target.change_rows(
        "INSERT INTO `${project}.${dataset}.relay_leases` (store_id, fence, stream, holder, moved_at) "
        "VALUES ('relay', 1, '', '', TIMESTAMP '2026-01-01 00:00:00+00')"
    )
    for session in (strict, found[0][0]):
        target.change_rows(
            "INSERT INTO `${project}.${dataset}.session_heads` (session_id, user_id, created_at, version, updated_at, "
            f"store_id) SELECT '{session.session_id.replace(chr(39), chr(92) + chr(39))}', 'u', TIMESTAMP "
            f"'{session.created_at.isoformat()}', 1, TIMESTAMP '2026-01-01 00:00:00+00', 'store' "
            f"FROM UNNEST([1]) AS one WHERE {session is strict}"
        )
    key = strict.session_id, strict.created_at
    made = model.expirations(found, time, back, strict=[key], relays=["relay"])
    for _ in range(2):
        target.run_scheduled("expire_sessions", {"run_time": time, "lookback_days": back})
        columns = ("session_id", "version", "event_id", "user_id", "recorded_at", "created_at", "store_id")
        recorded = target.query(
            f"SELECT {', '.join(columns)}, occurred_at, field, key, value, removed, actor, schema_version "
            "FROM `${project}.${dataset}.session_events` WHERE event_type = 'session.expired'"
        )
        assert comparable(recorded.rows) == comparable(
            [
                (
                    *(getattr(event, column) for column in columns),
                    *(event.occurred_at, "status", "", "expired", False, None, event.schema_version),
                )
                for event in made
            ]
        )
    now = [
        (*events, *(event for event in made if event.session_id == events[0].session_id)) for events in found if events
    ]
    target.run_scheduled("sessions_latest_full", {})
    kept = model.kept_sessions(now, time, back, relays=["relay"])
    for _ in range(2):
        target.run_scheduled("delete_old_sessions", {"run_time": time, "retention_days": back})
        for name in TABLES:
            answer = target.query(f"SELECT DISTINCT session_id, created_at FROM `${{project}}.${{dataset}}.{name}`")
            assert set(answer.rows) == (kept & {key} if name == "session_heads" else kept), name


#: Without shrinking, which takes minutes where each example runs a dozen statements.
quick = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
shares, two_times = st.sampled_from([0.0, 0.5, 1.0]), st.lists(TIMES, min_size=2, max_size=2)


@pytest.mark.duckdb
@settings(quick, max_examples=8)
@given(found=h.histories(items=True), share=shares, times=two_times, days=DAYS, back=DAYS)
def test_tables_are_brought_up_to_date_on_duckdb(
    on_duckdb: OnDuckDB, found: list[h.History], share: float, times: list[datetime], days: int, back: int
) -> None:
    check_tables(on_duckdb, of_store(found), share, times, days, back)


@pytest.mark.emulator
@settings(quick, max_examples=2)
@given(found=h.histories(items=True), share=shares, times=two_times, days=DAYS, back=DAYS)
def test_tables_are_brought_up_to_date_on_bigquery(
    on_emulator: OnEmulator, found: list[h.History], share: float, times: list[datetime], days: int, back: int
) -> None:
    check_tables(on_emulator, of_store(found), share, times, days, back)


@pytest.mark.duckdb
@settings(quick, max_examples=8)
@given(found=h.histories(), time=TIMES, back=DAYS)
def test_sessions_expire_and_old_ones_are_deleted_on_duckdb(
    on_duckdb: OnDuckDB, found: list[h.History], time: datetime, back: int
) -> None:
    check_sessions(on_duckdb, of_store(found), time, back)


@pytest.mark.emulator
@settings(quick, max_examples=2)
@given(found=h.histories(), time=TIMES, back=DAYS)
def test_sessions_expire_and_old_ones_are_deleted_on_bigquery(
    on_emulator: OnEmulator, found: list[h.History], time: datetime, back: int
) -> None:
    check_sessions(on_emulator, of_store(found), time, back)

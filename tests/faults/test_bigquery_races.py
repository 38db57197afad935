"""Two at once on BigQuery, brought about step by step: nobody's acknowledged event is hidden or doubled."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from faults.proxy import Script, proxy
from ledger import Change, ConfigurationError, InvalidInput, LedgerError, OutcomeUnknown
from ledger.model.integrity import verify
from ledger.stores.bigquery.store import BigQueryStore
from ledger.testing import START, SetClock, event, event_id, recorded
from ledger.warehouse.projection import Projection
from support.bigquery_stores import Datasets, environment

pytestmark = [pytest.mark.emulator, pytest.mark.slow]


def store_of(emulator: Any, place: Any, clock: SetClock | None = None, **settings: Any) -> BigQueryStore:
    return BigQueryStore(place, clock=clock or SetClock(), environment=environment(emulator), **settings)


def test_writers_that_begin_one_session_at_once_agree_on_when_it_began(emulator: Any, datasets: Datasets) -> None:
    with datasets.emptied("main") as place:
        clocks = [SetClock() for _ in range(4)]
        for number, clock in enumerate(clocks):
            clock.move(number * 25_000)  # across a midnight, and less than a day: older claims count as left behind
        stores = [store_of(emulator, place, clock) for clock in clocks]
        ready = threading.Barrier(4)

        def begin(number: int) -> str:
            ready.wait(timeout=60)
            return stores[number].append("shared", event(number, user_id="ada")).event_id

        with ThreadPoolExecutor(4) as threads:
            acknowledged = set(threads.map(begin, range(4)))
        for store in stores:
            events = list(store.events("shared"))
            assert {it.event_id for it in events} == acknowledged
            assert len({it.created_at for it in events}) == 1
            assert len(store.sessions(_all())) == 1
        for store in stores:
            store.close()


def test_an_id_that_retention_left_in_the_index_begins_anew(emulator: Any, datasets: Datasets) -> None:
    with datasets.emptied("main") as place:
        store = store_of(emulator, place)
        store.append("chat", event(1, user_id="ada"))
        store.warehouse.run("retention", "DELETE FROM `${project}.${dataset}.session_events` WHERE TRUE")
        store.close()
        later = SetClock()
        later.move(400 * 86_400)
        store = store_of(emulator, place, later)
        store.append("chat", event(2, user_id="ada"))
        assert store.state("chat")[0].created_at == START + timedelta(days=400)
        store.close()


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
def test_an_answer_lost_and_then_a_refusal_is_an_unknown_outcome(
    emulator: Any, datasets: Datasets, strict: bool
) -> None:
    with datasets.emptied("main") as place:
        plain = store_of(emulator, replace(place, strict=strict))
        plain.append("s", event(0, user_id="ada"))
        request = "POST query" if strict else "AppendRows"
        with proxy(emulator.rest, emulator.grpc, Script({request: {3 if strict else 1: "lost_answer"}})) as between:
            settings = {"BIGQUERY_EMULATOR_HOST": between.rest, "BIGQUERY_EMULATOR_GRPC_HOST": between.grpc}
            store = BigQueryStore(replace(place, strict=strict), clock=SetClock(), environment=settings)
            run = store.warehouse.run
            asked: list[str] = []

            def refused_afterwards(operation: str, *arguments: Any, **named: Any) -> Any:
                asked.append(operation)
                if operation == "find_lost_event" or asked.count("append_checked") > 1:
                    raise ConfigurationError("permission was taken away")
                return run(operation, *arguments, **named)

            store.warehouse.run = refused_afterwards  # type: ignore[method-assign]
            with pytest.raises(OutcomeUnknown) as told:
                store.append("s", event(1))
            assert told.value.event_id == event_id(1)
            store.warehouse.run = run  # type: ignore[method-assign]
            assert store.append("s", event(1)).version == 2
            assert len(store.events("s")) == 2
            store.close()
        plain.close()


def test_rows_that_arrive_after_they_were_sent_again_are_the_same_rows(
    emulator: Any, datasets: Datasets, monkeypatch: pytest.MonkeyPatch
) -> None:
    with datasets.emptied("main") as place:
        store = store_of(emulator, replace(place, retry_timeout=0.01))
        other = store_of(emulator, place)
        store.append("s", event(0, user_id="ada"))
        sent: list[Any] = []
        transport = store.warehouse._row_transport()
        send = transport.send

        def lose(table: str, rows: Any) -> None:
            from ledger.warehouse.bigquery.errors import OutcomeLost

            sent.append(rows)
            raise OutcomeLost("no answer")

        monkeypatch.setattr(transport, "send", lose)
        with pytest.raises(OutcomeUnknown):
            store.append("s", event(1))
        monkeypatch.setattr(transport, "send", send)
        other.append("s", event(2))
        assert store.append("s", event(1)).version == 2
        send("session_events", sent[0])  # the first request lands now
        events = list(store.events("s"))
        assert [(it.version, it.event_id) for it in events] == [(1, event_id(0)), (2, event_id(1)), (2, event_id(2))]
        store.close()
        other.close()


def test_without_the_row_of_the_lock_nothing_is_checked_and_nothing_written(emulator: Any, datasets: Datasets) -> None:
    with datasets.emptied("main") as place:
        store = store_of(emulator, replace(place, strict=True))
        store.warehouse.run("break", "DELETE FROM `${project}.${dataset}.session_locks` WHERE TRUE")
        with pytest.raises(ConfigurationError, match="session_locks"):
            store.append("s", event(0, user_id="ada"))
        with pytest.raises(ConfigurationError, match="session_locks"):
            store.ingest([recorded(1, 1, [Change("title", value="a")])])
        assert store.state("s") is None
        store.warehouse.create()
        assert store.append("s", event(0, user_id="ada")).version == 1
        store.close()


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
def test_an_ingested_session_is_appended_to_as_the_sessions_that_begin_here(
    emulator: Any, datasets: Datasets, strict: bool
) -> None:
    with datasets.emptied("main") as place:
        store = store_of(emulator, replace(place, strict=strict))
        store.ingest([recorded(1, 1, [Change("title", value="a")])])
        head = Projection(store.warehouse).standing("s", START)
        assert head is not None
        assert head.strict is strict
        store.close()


def test_a_session_that_another_took_the_place_of_at_its_version_is_read_before_an_append(
    emulator: Any, datasets: Datasets
) -> None:
    with datasets.emptied("main") as place:
        strict = replace(place, strict=True)
        one, other = store_of(emulator, strict), store_of(emulator, strict)
        one.append("s", event(1, user_id="ada"))
        for table in ("session_events", "session_heads", "session_index"):
            other.warehouse.run("delete", f"DELETE FROM `${{project}}.${{dataset}}.{table}` WHERE TRUE")
        other.append("s", event(2, user_id="ada"))  # at the same time and version
        assert one.append("s", event(3)).version == 2
        events = list(other.events("s"))
        assert [it.event_id for it in events] == [event_id(2), event_id(3)]
        assert verify(events) == 2
        one.close()
        other.close()


def test_ingesting_leaves_no_connection_behind(emulator: Any, datasets: Datasets) -> None:
    with datasets.emptied("main") as place:
        store = store_of(emulator, place)
        before = None
        for number in range(8):  # a connection that stays open keeps at least one thread
            store.ingest([recorded(1, 1, [Change("title", value="a")], session_id=f"s{number}")])
            before = before or threading.active_count()
        assert threading.active_count() <= before + 2
        store.close()


def test_an_ingested_session_does_not_take_over_one_that_begins_here(emulator: Any, datasets: Datasets) -> None:
    with datasets.emptied("main") as place:
        store = store_of(emulator, place)
        store.append("s", event(1, user_id="ada"))
        elsewhere = recorded(1, 7, [Change("title", value="a")], created_at=START - timedelta(hours=1))
        with pytest.raises(LedgerError) as refused:
            store.ingest([elsewhere])
        assert isinstance(refused.value, InvalidInput) or refused.value.code == "wrong_expected_version"
        assert [it.event_id for it in store.events("s")] == [event_id(1)]
        store.close()


def _all() -> Any:
    from ledger.model.queries import SessionQuery

    return SessionQuery()

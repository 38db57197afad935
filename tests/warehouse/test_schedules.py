"""Scheduled queries by Google's real client over gRPC: what the plan says is done, and only to what the ledger made."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from ledger.errors import ConfigurationError, InvalidInput, LedgerError, StoreUnavailable
from ledger.warehouse.bigquery.clients import Clients
from ledger.warehouse.bigquery.schedules import Marks, ScheduleChange, Schedules
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from ledger.warehouse.scheduled import SCHEDULED, numbers_of
from support.transfers import Refusal, TransferService, served

PARENT = "projects/my-project/locations/eu"
WANTED = {"sessions_latest": {"lookback_days": 8}, "delete_old_sessions": {"retention_days": 400}}
MARKS = Marks("my-project", "agents")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[TransferService]:
    service = TransferService()
    with served(service) as connect:

        @contextmanager
        def transfers(clients: Clients) -> Iterator[Any]:
            with connect() as client:
                yield client

        monkeypatch.setattr(Clients, "transfers", transfers)
        yield service


@pytest.fixture
def warehouse() -> Iterator[BigQueryWarehouse]:
    found = BigQueryWarehouse(Dataset("my-project", "agents"), environment={})
    yield found
    found.close()


@pytest.fixture
def schedules(service: TransferService, warehouse: BigQueryWarehouse) -> Schedules:
    return Schedules(warehouse)


def deploy(schedules: Schedules, wanted: Any = WANTED) -> list[tuple[str, str]]:
    changes = schedules.plan(wanted, "EU")
    schedules.execute(changes, "EU")
    return said(changes)


def said(changes: list[ScheduleChange]) -> list[tuple[str, str]]:
    return [(change.statement, change.done) for change in changes]


def test_schedules_are_created_once_with_their_numbers_in_the_query(service, schedules):
    assert deploy(schedules) == [("sessions_latest", "created"), ("delete_old_sessions", "created")]
    assert deploy(schedules) == [("sessions_latest", "unchanged"), ("delete_old_sessions", "unchanged")]
    latest, deletion = service.configs.values()
    assert latest.name.startswith(f"{PARENT}/")
    assert latest.data_source_id == "scheduled_query"
    assert latest.display_name == "Session ledger agents: sessions_latest"
    assert (latest.schedule, deletion.schedule) == ("every day 01:23", "every day 03:19")
    query = deletion.params["query"]
    assert query.startswith("-- Made by `ledger deploy` for my-project.agents: delete_old_sessions.")
    assert "INTERVAL 400 DAY" in query
    assert "`my-project.agents.session_events`" in query
    assert set(re.findall(r"@(\w+)", query)) == {"run_time"}


def test_a_plan_changes_nothing(service, schedules):
    assert said(schedules.plan(WANTED, "EU")) == [("sessions_latest", "created"), ("delete_old_sessions", "created")]
    assert service.asked == ["ListTransferConfigs"]


def test_another_number_is_an_update_that_leaves_the_time_and_a_pause_as_they_are(service, schedules):
    deploy(schedules)
    config = next(it for it in service.configs.values() if "delete" in it.display_name)
    config.schedule, config.disabled = "every monday 05:15", True
    changes = schedules.plan({**WANTED, "delete_old_sessions": {"retention_days": 30}}, "EU")
    assert changes[1].detail == "every monday 05:15, paused, retention_days 30"
    schedules.execute(changes, "EU")
    assert said(changes) == [("sessions_latest", "unchanged"), ("delete_old_sessions", "updated")]
    assert "INTERVAL 30 DAY" in config.params["query"]
    assert (config.schedule, config.disabled) == ("every monday 05:15", True)


def test_what_is_not_wanted_any_more_and_doubles_are_removed(service, schedules):
    deploy(schedules)
    first = next(it for it in service.configs.values() if "latest" in it.display_name)
    service.add(PARENT, display_name=first.display_name, params=dict(first.params), schedule="every day 01:23")
    wanted = {"sessions_latest": WANTED["sessions_latest"]}
    assert deploy(schedules, wanted) == [
        ("sessions_latest", "unchanged"),
        ("sessions_latest", "removed"),
        ("delete_old_sessions", "removed"),
    ]
    assert list(service.configs) == [first.name], "of two, the older one is kept"


def test_what_the_ledger_did_not_make_is_left_alone(service, schedules):
    line = MARKS.first_line("sessions_latest")
    others = [
        {"display_name": "Session ledger agents: sessions_latest", "params": {"query": "SELECT 1"}},
        {"display_name": "Copy of Session ledger agents: sessions_latest", "params": {"query": f"{line}SELECT 1"}},
        {"display_name": "Session ledger agents: mine", "params": {"query": f"{line}SELECT 1"}},
        {
            "display_name": "Session ledger agents2: sessions_latest",
            "params": {"query": Marks("my-project", "agents2").first_line("sessions_latest")},
        },
        {"display_name": "Session ledger agents: sessions_latest", "data_source_id": "amazon_s3"},
    ]
    names = [service.add(PARENT, schedule="every day 09:30", **parts) for parts in others]
    elsewhere = service.add("projects/my-project/locations/us", display_name=MARKS.name("x"))
    before = {name: str(service.configs[name]) for name in (*names, elsewhere)}
    assert deploy(schedules, {}) == []
    assert deploy(schedules)[0] == ("sessions_latest", "created")
    deploy(schedules, {})
    assert {name: str(config) for name, config in service.configs.items()} == before


def test_a_schedule_that_somebody_removes_meanwhile_is_no_error(service, schedules):
    deploy(schedules)
    changes = schedules.plan({}, "EU")
    service.configs.clear()
    schedules.execute(changes, "EU")
    assert service.asked.count("DeleteTransferConfig") == 2


def test_after_a_failure_the_next_plan_has_the_rest(service, schedules):
    def refuse_second(method: str) -> None:
        if method == "CreateTransferConfig" and service.configs:
            raise Refusal(grpc.StatusCode.PERMISSION_DENIED, "bigquery.transfers.update denied")

    service.failing = refuse_second
    with pytest.raises(ConfigurationError, match="Creating the schedule delete_old_sessions"):
        deploy(schedules)
    service.failing = lambda method: None
    assert deploy(schedules) == [("sessions_latest", "unchanged"), ("delete_old_sessions", "created")]


def test_a_service_that_cannot_be_reached_is_named(service, schedules):
    def unavailable(method: str) -> None:
        raise Refusal(grpc.StatusCode.UNAVAILABLE, "try later")

    service.failing = unavailable
    with pytest.raises(StoreUnavailable, match="Listing scheduled queries failed"):
        schedules.plan(WANTED, "EU")


def test_new_and_changed_schedules_run_as_the_account_that_is_named(service, schedules, warehouse):
    deploy(schedules)
    assert set(service.accounts.values()) == {""}
    account = "ledger@my-project.iam.gserviceaccount.com"
    changes = deploy(Schedules(warehouse, account), {**WANTED, "daily_rollup": {"days": 3, "lookback_days": 8}})
    assert [done for _, done in changes] == ["updated", "created", "updated"]
    assert set(service.accounts.values()) == {account}


def test_an_emulator_has_no_schedules() -> None:
    found = BigQueryWarehouse(Dataset("my-project", "agents"), environment={"BIGQUERY_EMULATOR_HOST": "127.0.0.1:1"})
    with pytest.raises(ConfigurationError, match="ledger refresh"):
        Schedules(found).plan(WANTED, "EU")
    found.close()


def test_schedules_fire_off_the_hour_and_what_deletes_has_no_default():
    minutes = [int(item.schedule.rpartition(":")[2]) for item in SCHEDULED]
    assert [minute for minute in minutes if minute % 15 == 0] == []
    assert len(set(minutes)) == len(minutes)
    by_name = {item.name: item for item in SCHEDULED}
    assert numbers_of(by_name["delete_old_sessions"], {}) is None
    assert numbers_of(by_name["daily_rollup"], {"days": None, "retention_days": 3}) == {"days": 3, "lookback_days": 8}


@pytest.mark.parametrize("number", [0, -1, 36_526, 1.5, "8", True])
def test_a_number_that_is_no_number_of_days_is_refused(number):
    (item,) = (it for it in SCHEDULED if it.name == "delete_old_sessions")
    with pytest.raises(InvalidInput, match="retention_days must be a whole number of 1 to 36,525 days, not"):
        numbers_of(item, {"retention_days": number})


def test_every_error_of_the_service_is_the_ledgers(service, schedules):
    for code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAUTHENTICATED):

        def fail(method: str, code: grpc.StatusCode = code) -> None:
            raise Refusal(code, "no")

        service.failing = fail
        with pytest.raises(LedgerError):
            schedules.plan(WANTED, "EU")

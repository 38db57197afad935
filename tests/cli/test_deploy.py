"""``ledger deploy`` prints a plan, makes it so, and then finds nothing to do; a dry run makes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ledger.warehouse import catalog
from ledger.warehouse.bigquery.clients import Clients
from support.shell import Shell
from support.transfers import TransferService, served

if TYPE_CHECKING:
    from support.emulator import Emulator

pytestmark = [pytest.mark.emulator, pytest.mark.slow, pytest.mark.usefixtures("emulator_settings")]


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
def dataset(emulator: Emulator, shell: Shell) -> Iterator[str]:
    """The name of a dataset that does not exist, which is the ledger of ``shell``."""
    name = f"deploy_{uuid.uuid4().hex[:8]}"
    shell.url = f"bigquery://{emulator.project}/{name}"
    yield name
    emulator.client.delete_dataset(name, delete_contents=True, not_found_ok=True)


def test_a_plan_is_printed_made_and_then_done(
    emulator: Emulator, shell: Shell, dataset: str, service: TransferService
) -> None:
    objects = len(catalog.objects())
    said = shell.ok("deploy", "--dry-run")
    assert said.splitlines()[0].split() == ["what", "name", "to", "do", "detail"]
    assert (
        said.splitlines()[-1] == f"{objects + 4} to create, 0 to update, 0 to remove, 0 unchanged. Nothing was changed."
    )
    assert not service.configs
    assert dataset not in [it.dataset_id for it in emulator.client.list_datasets()]

    said = shell.ok("deploy", "--retention-days", "400", "--expire")
    assert "sessions in which nothing was recorded for 400 days are deleted for good" in said
    assert said.splitlines()[-1] == f"{objects + 6} created, 0 updated, 0 removed, 0 unchanged."
    assert [config.display_name.rpartition(" ")[2] for config in service.configs.values()] == [
        *("expire_sessions", "sessions_latest", "daily_rollup", "delete_old_sessions", "sessions_latest_full")
    ]
    again = shell.ok("deploy", "--retention-days", "400", "--expire").splitlines()
    assert again[-1] == "Nothing to change."

    found = shell.json("deploy", "--lookback-days", "20", "--dry-run")
    changed = {it["name"]: it["done"] for it in found["changes"] if it["done"] != "unchanged"}
    assert changed == {
        "sessions_latest": "updated",
        "daily_rollup": "updated",
        "expire_sessions": "removed",
        "delete_old_sessions": "removed",
    }
    assert (found["dry_run"], found["updated"], found["removed"]) == (True, 2, 2)
    assert len(service.configs) == 5


def test_what_is_scheduled_runs_on_the_dataset(
    emulator: Emulator, shell: Shell, dataset: str, service: TransferService
) -> None:
    from google.cloud import bigquery

    def run(name: str, run_time: datetime) -> list[dict[str, Any]]:
        (query,) = (it.params["query"] for it in service.configs.values() if it.display_name.endswith(f": {name}"))
        parameters = [bigquery.ScalarQueryParameter("run_time", "TIMESTAMP", run_time)] if "@run_time" in query else []
        options = bigquery.QueryJobConfig(query_parameters=parameters)
        return [dict(row) for row in emulator.client.query_and_wait(query, job_config=options)]

    shell.ok("deploy", "--retention-days", "400", "--expire")
    session_id = shell.ok("new", "How many?", "--user", "ann", "--ttl-hours", "1").strip()
    now = datetime.now(UTC)
    for _ in range(2):  # a schedule may fire twice
        run("expire_sessions", now + timedelta(hours=2))
        run("sessions_latest", now + timedelta(hours=2))
        run("daily_rollup", now + timedelta(days=1))
    events = shell.json("history", session_id)
    assert [event["event_type"] for event in events["events"]] == ["session.created", "session.expired"]
    assert shell.json("show", session_id)["status"] == "expired"
    row = {"session_id": session_id, "status": "expired", "question": "How many?", "event_count": 2}
    statement = "SELECT session_id, status, question, event_count FROM sessions_latest"
    assert shell.json("sql", statement)["rows"] == [row]
    shell.ok("restore", session_id)
    assert shell.json("show", session_id)["status"] == "active"
    run("sessions_latest_full", now)
    assert shell.json("sql", statement)["rows"] == [row | {"status": "active", "event_count": 3}]
    later = now + timedelta(days=500)
    assert [run("delete_old_sessions", later)[0]["deleted_sessions"] for _ in range(2)] == [1, 0]
    assert shell.json("sql", statement)["rows"] == []
    assert shell.json("refresh", "--full") == {"sessions": 0, "days": 0, "last_day": None}

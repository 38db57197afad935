"""Each behaviour of rows bites; what the ledger does about it is in `test_expiration` and `test_big_sessions`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest

from faults.proxy_rest import Answer
from service.layer import Layer, service
from service.rows import ExpiredPartitions, RowLimit
from support.emulator import Emulator, connect

pytestmark = pytest.mark.emulator

NOW = datetime(2026, 3, 12, 1, tzinfo=UTC)


class Clock:
    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(emulator: Emulator, clock: Clock) -> Iterator[Any]:
    """A client of a dataset with a table `t`, over both behaviours, with a limit of 1 kB."""
    layers = [RowLimit(1000), ExpiredPartitions(clock)]
    with service(*emulator.bare, layers) as layer, connect(layer.rest, layer.grpc) as opened:
        name = f"rows_{uuid.uuid4().hex}"
        opened.client.create_dataset(name)
        opened.client.t = f"{opened.project}.{name}.t"
        ask(opened.client, "CREATE TABLE {t} (a STRING, created_at TIMESTAMP) PARTITION BY DATE(created_at)")
        yield opened.client
        opened.client.delete_dataset(name, delete_contents=True)


def ask(client: Any, sql: str) -> list[Any]:
    return [row[0] for row in client.query_and_wait(sql.format(t=f"`{client.t}`"))]


def insert(client: Any, *days: str) -> None:
    rows = ", ".join(f"('{day}', TIMESTAMP '2026-03-{day} 23:59:59+00')" for day in days)
    ask(client, f"INSERT INTO {{t}} VALUES {rows}")


def test_the_rows_of_an_expired_day_go_and_so_do_rows_that_come_later(client, clock):
    insert(client, "01", "02", "03")
    assert ask(client, "SELECT a FROM {t} ORDER BY a") == ["01", "02", "03"]
    ask(client, "ALTER TABLE {t} SET OPTIONS (description = 'a', partition_expiration_days = 9)")
    assert ask(client, "SELECT a FROM {t} ORDER BY a") == ["03"], "the 2nd ended 9 days and an hour ago"
    insert(client, "01", "12")
    assert ask(client, "SELECT a FROM {t} ORDER BY a") == ["03", "12"]
    clock.now += timedelta(hours=22)
    assert ask(client, "SELECT a FROM {t} ORDER BY a") == ["03", "12"]
    clock.now += timedelta(hours=1)
    assert ask(client, "SELECT a FROM {t} ORDER BY a") == ["12"]


def test_the_expiration_is_described_and_may_be_set_by_a_description_and_taken_back(client):
    assert client.get_table(client.t).time_partitioning.expiration_ms is None
    ask(client, "ALTER TABLE {t} SET OPTIONS (partition_expiration_days = 9)")
    table = client.get_table(client.t)
    assert table.time_partitioning.expiration_ms == 9 * 86_400_000
    ask(client, "ALTER TABLE {t} SET OPTIONS (partition_expiration_days = NULL)")
    insert(client, "01")
    assert ask(client, "SELECT a FROM {t}") == ["01"]
    partitioning = table.time_partitioning
    partitioning.expiration_ms = 86_400_000
    table.time_partitioning = partitioning
    client.update_table(table, ["time_partitioning"])
    assert client.get_table(client.t).time_partitioning.expiration_ms == 86_400_000
    assert ask(client, "SELECT a FROM {t}") == []


def test_a_table_that_was_dropped_has_no_expiration(client):
    ask(client, "ALTER TABLE {t} SET OPTIONS (partition_expiration_days = 1)")
    ask(client, "DROP TABLE {t}")
    ask(client, "CREATE TABLE {t} (a STRING, created_at TIMESTAMP) PARTITION BY DATE(created_at)")
    insert(client, "01")
    assert ask(client, "SELECT a FROM {t}") == ["01"]


def test_a_row_that_is_too_large_fails_its_statement_and_many_small_ones_do_not(client):
    assert len(ask(client, "SELECT REPEAT('x', 900) FROM UNNEST([1, 2, 3])")) == 3
    with pytest.raises(BadRequest, match="Row size limit"):
        ask(client, "SELECT REPEAT('x', 1000)")
    with pytest.raises(BadRequest, match="Row size limit"):
        ask(client, "SELECT STRING_AGG(REPEAT('x', 900)) FROM UNNEST([1, 2, 3])")


def test_the_pages_of_an_answer_are_limited_too():
    large: Answer = (200, [], json.dumps({"rows": [{"f": [{"v": "x" * 1000}]}]}).encode())
    layer = Layer([RowLimit(1000)])
    assert layer.rest("GET", "/bigquery/v2/projects/p/queries/j", b"", lambda _: large)[0] == 400
    assert layer.rest("GET", "/bigquery/v2/projects/p/datasets/d", b"", lambda _: large)[0] == 200

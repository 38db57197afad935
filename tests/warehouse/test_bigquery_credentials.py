"""What is said when Google's client has no credentials."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from google.auth.exceptions import DefaultCredentialsError

from ledger.errors import ConfigurationError
from ledger.warehouse.bigquery import streams
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

ROWS = pa.RecordBatch.from_pylist([{"session_id": "s", "event_id": "e"}])
CALLS: dict[str, Callable[[BigQueryWarehouse], Any]] = {
    "query": lambda it: it.query("SELECT 1 AS n"),
    "estimate": lambda it: it.estimate("test", "SELECT 1 AS n"),
    "look-up": lambda it: it.table("session_events"),
    "append": lambda it: it.append("session_events", ROWS),
    "create a stream": lambda it: streams.create(it, "session_events"),
    "finalize a stream": lambda it: streams.finalize(it, "projects/p/datasets/d/tables/t/streams/s"),
}


@pytest.mark.parametrize("transport", ["storage", "insertall"])
@pytest.mark.parametrize("name", CALLS)
def test_where_credentials_are_missing_the_cause_is_googles_error(monkeypatch, tmp_path, name, transport):
    for variable in ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    place = Dataset("my-project", "agents", transport=transport)
    with (
        contextlib.closing(BigQueryWarehouse(place, environment={})) as it,
        pytest.raises(ConfigurationError) as raised,
    ):
        CALLS[name](it)
    assert isinstance(raised.value.__cause__, DefaultCredentialsError)

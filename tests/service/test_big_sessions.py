"""A session that is too large for one row is listed and read, over a layer with a small limit of a row."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ledger import Change, LedgerError, NewEvent
from ledger.clock import new_id, utc_now
from ledger.model.queries import SessionQuery
from ledger.stores.bigquery.store import BigQueryStore
from ledger.warehouse.bigquery.settings import Dataset
from service.layer import service
from service.rows import RowLimit
from service.stand_in import behaviours
from support.bigquery_stores import environment
from support.emulator import Emulator

pytestmark = pytest.mark.emulator

#: Each result fits a row, and three of them do not.
RESULT = "x" * 1_900_000
CALLS = ["a", "b", "c"]


@pytest.fixture
def store(emulator: Emulator) -> Iterator[BigQueryStore]:
    others = [it for it in behaviours() if not isinstance(it, RowLimit)]
    with service(*emulator.bare, [*others, RowLimit(5_000_000)]) as layer:
        place = Dataset(emulator.project, f"big_{uuid.uuid4().hex}", retry_timeout=20)
        settings = environment(replace(emulator, rest=layer.rest, grpc=layer.grpc))
        with contextlib.closing(BigQueryStore(place, environment=settings)) as opened:
            opened.warehouse.create()
            yield opened
    emulator.client.delete_dataset(place.name, delete_contents=True)


def test_a_session_too_large_for_one_row_is_listed_and_read_and_its_calls_one_by_one(store: BigQueryStore) -> None:
    session = new_id(utc_now())
    for number, call in enumerate(CALLS):
        changes = [Change("tool_call", call, {"name": call}), Change("tool_call_result", call, RESULT)]
        user_id = "ada" if number == 0 else None
        store.append(session, NewEvent("test.made", changes, new_id(utc_now()), user_id=user_id))
    ask = store.warehouse.query
    with pytest.raises(LedgerError, match="Row size limit"):
        ask("SELECT STRING_AGG(JSON_VALUE(value)) AS text FROM session_fields WHERE field = 'tool_call_result'")

    assert [head.session_id for head, _ in store.sessions(SessionQuery())] == [session]
    _, state = store.state(session)
    assert [state["tool_call_result", call].value for call in CALLS] == [RESULT] * 3
    for view in ("sessions", "session_versions"):
        (row,) = ask(f"SELECT * FROM {view} WHERE session_id = @id AND version = 3", {"id": session})
        assert (row["tool_calls"], row["tool_call_results"], row["tool_call_results_omitted"]) == (CALLS, None, True)
    for call in CALLS:
        found = ask(
            "SELECT result FROM tool_calls WHERE session_id = @id AND call_id = @call", {"id": session, "call": call}
        )
        assert found.rows == [(RESULT,)]

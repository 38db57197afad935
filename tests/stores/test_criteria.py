"""Criteria of the embedded store: attributes are looked up in an index, whatever their value."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ledger import Change
from ledger.model.queries import SessionQuery
from ledger.stores.sqlite.criteria import conditions_of
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import event
from ledger.testing.harness import listed

VALUES = [1, 2.5, "x", None, True, [1, 2.0], {"a": 1}, ["x"], {"a": "x"}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with closing(SqliteStore(tmp_path / "ledger.db", synchronous="NORMAL")) as store:
        for number, value in enumerate(VALUES):
            store.append(f"s{number}", event(number, Change("attribute", "v", value), user_id="ada"))
    return tmp_path / "ledger.db"


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_an_attribute_is_looked_up_by_name_and_value_in_the_index(path, value):
    plans = []
    with closing(sqlite3.connect(path)) as connection:
        connection.set_trace_callback(plans.append)
        conditions, parameters = conditions_of(connection, SessionQuery(attributes={"v": value}))
        connection.set_trace_callback(None)
        lookup = f"SELECT session_id FROM session_heads WHERE {' AND '.join(conditions)}"
        for statement, values in [(lookup, parameters), *((each, []) for each in plans)]:
            steps = [row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
            states = [step for step in steps if "session_state" in step]
            assert ["COVERING INDEX session_state_lookups (field=? AND key=? AND value" in step for step in states] == [
                True
            ]


def test_a_text_that_is_no_json_equals_nothing(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE session_state SET value = '[1, 2' WHERE session_id = 's5'")
        connection.commit()
    with closing(SqliteStore(path)) as store:
        assert listed(store, SessionQuery(attributes={"v": [1, 2]})) == []
        assert listed(store, SessionQuery(attributes={"v": {"a": 1.0}})) == ["s6"]

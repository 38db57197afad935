"""Analytics finds the sessions with an attribute that lists of sessions find."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ledger import InvalidInput, SessionLedger
from ledger.analytics import Analytics
from support.bigquery_stores import Datasets, environment

if TYPE_CHECKING:
    from support.emulator import Emulator

VALUES = (
    *(0, 1, 2, 0.5, -0.0, 1.0, 1e22, 2**53, 2**53 + 1, 2.0**53, 2**64 - 1),
    *("1", "1.0", "true", "yes", "", '"', True, False),
)


@pytest.fixture
def on_file(tmp_path: Path) -> Iterator[SessionLedger]:
    with SessionLedger.open(f"sqlite:///{tmp_path / 'l.db'}", relay="off") as opened:
        yield opened


@pytest.fixture
def on_bigquery(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[SessionLedger]:
    for name, value in environment(emulator).items():
        monkeypatch.setenv(name, value)
    with Datasets(emulator, "attributes").emptied("main") as place, SessionLedger.open(place.url) as opened:
        yield opened


def check(ledger: SessionLedger) -> None:
    for number, value in enumerate(VALUES):
        ledger.create_session("ada", session_id=f"s{number}", fields={"attribute": {"n": value}})
    ledger.create_session("ada", session_id="list", fields={"attribute": {"n": [1]}})
    for value in VALUES:
        listed = {each.session_id for each in ledger.list_sessions(attributes={"n": value})}
        found = {row["session_id"] for row in Analytics(ledger).sessions(attributes={"n": value})}
        assert listed
        assert found == listed, value


@pytest.mark.duckdb
def test_an_attribute_has_the_value_that_a_list_asks_for_on_duckdb(on_file):
    check(on_file)
    with pytest.raises(InvalidInput, match="attribute n"):
        Analytics(on_file).sessions(attributes={"n": float("nan")})


def test_an_attribute_has_the_value_that_a_list_asks_for_on_bigquery(on_bigquery):
    check(on_bigquery)

"""Some rounds of the soak with a fixed seed, and a short outage; ``make soak`` and ``make outage`` take longer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from faults import outage
from faults.soak import Soak
from support.bigquery_stores import Datasets

pytestmark = [pytest.mark.emulator, pytest.mark.skipif(sys.platform == "win32", reason="signals")]

#: Each of what is done, once or twice.
DECK = {
    "kill_relay": 2,
    "kill_relay_that_begins": 1,
    "kill_appender": 1,
    "grow_backlog": 1,
    "take_over": 1,
    "kill_one_that_does_both": 1,
    "kill_sync": 1,
    "outage": 1,
    "back_up": 1,
    "restore": 1,
}


def test_a_relay_killed_stopped_cut_off_and_restored_over_ships_every_row_once(
    emulator: Any, datasets: Datasets, tmp_path: Path
) -> None:
    with datasets.emptied("main") as place:
        soak = Soak(emulator, place.name, tmp_path, seed=4, rate=0.3, pace=0.06)
        figures = soak.run(kills=10, faults=25, deck=DECK)
    assert figures.kills.total() >= 10
    assert figures.faults.total() >= 25
    assert figures.restores
    assert figures.compared["acknowledged"] > 0


def test_what_is_appended_while_the_warehouse_is_away_is_there_once_when_it_is_back(
    emulator: Any, datasets: Datasets, tmp_path: Path
) -> None:
    with datasets.emptied("main") as place:
        outcome = outage.run(emulator, place.name, tmp_path, events=60, seconds=0.5, turn=0.3, retry_timeout=1)
    assert outcome.compared["acknowledged"] > 120

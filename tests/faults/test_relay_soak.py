"""Some rounds of the soak, with a fixed seed; ``make soak`` runs hundreds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.soak import Soak, prepare

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


@pytest.fixture
def dataset(emulator: Any) -> Iterator[str]:
    prepare(emulator, "soak")
    yield "soak"
    emulator.client.delete_dataset("soak", delete_contents=True)


def test_a_relay_killed_stopped_cut_off_and_restored_over_ships_every_row_once(
    emulator: Any, dataset: str, tmp_path: Path
) -> None:
    soak = Soak(emulator, dataset, tmp_path, seed=4, rate=0.2, pace=0.06)
    figures = soak.run(kills=10, faults=25, deck=DECK)
    assert figures.kills.total() >= 10
    assert figures.faults.total() >= 25
    assert figures.restores
    assert figures.compared["acknowledged"] > 0

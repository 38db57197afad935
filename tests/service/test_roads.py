"""Some doubles and two runs by each road; ``make doubles`` carries many, and recorded runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from service.roads import RELAY, STRAIGHT, Roads, doubles, floats_of
from support.bigquery_stores import Datasets, environment

pytestmark = pytest.mark.emulator

#: Doubles at the edges, and some whose shortest spelling exact parsing refuses.
EDGES = [0.0, -0.0, 1.0, 1e16, 1e22, 1e23, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 67.174118]
#: Two runs: a call of a tool with an answer, and plain talk.
CALL = {"id": "c1", "type": "function", "function": {"name": "price", "arguments": '{"day": 1, "rate": 67.174118}'}}
RUNS = [
    {
        "traj": [
            {"role": "user", "content": "How much?"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "name": "price", "content": '{"amount": 50.0007544437}'},
        ],
        "reward": 1.0,
        "info": {"cost": 1687473876.057356},
    },
    {"messages": [{"role": "user", "content": "Ünïcode \0 \U0001f600"}], "reward": 0.0},
]


@pytest.fixture
def roads(emulator: Any, datasets: Datasets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Roads]:
    for name, value in environment(emulator).items():
        monkeypatch.setenv(name, value)
    with datasets.emptied("main") as place:
        yield Roads(emulator, place.name, tmp_path)


@pytest.mark.parametrize("road", [*STRAIGHT, RELAY])
def test_doubles_come_back_with_the_same_bits_by_each_road(roads: Roads, road: str) -> None:
    numbers = [*EDGES, *islice(doubles(13), 390)]
    carried = roads.carry_doubles(road, numbers, each=200)
    assert carried.doubles == len(numbers)


def test_recorded_runs_have_the_same_rows_by_each_road_as_in_the_file(roads: Roads) -> None:
    carried = roads.carry_runs([json.dumps(run).encode() for run in RUNS])
    assert {road: each.runs for road, each in carried.items()} == dict.fromkeys([*STRAIGHT, RELAY], 2)
    assert {each.rows for each in carried.values()} == {17}
    assert (carried["stream"].verified, carried[RELAY].verified) == (0, 8)


def test_floats_are_found_in_texts_too() -> None:
    assert list(floats_of(RUNS)) == [67.174118, 50.0007544437, 1.0, 1687473876.057356, 0.0]

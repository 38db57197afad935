"""Criteria of lists and counts take the values that attributes are recorded from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from pydantic import BaseModel

from ledger import AsyncSessionLedger, InvalidInput, SessionLedger


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


@dataclass
class Order:
    number: int
    day: date


class Filter(BaseModel):
    since: date


VALUES: dict[str, Any] = {
    "datetime": datetime(2026, 11, 21, 9, 30, tzinfo=UTC),
    "date": date(2026, 11, 21),
    "timedelta": timedelta(hours=3),
    "UUID": UUID(int=5),
    "Decimal": Decimal("1.10"),
    "Enum": Colour.RED,
    "IntEnum": Level.LOW,
    "path": Path("/data/a.csv"),
    "bytes": b"text",
    "set": {3, 1, "x"},
    "tuple": (1, date(2026, 11, 21)),
    "numpy scalar": np.int64(3),
    "numpy array": np.array([1.0, np.nan]),
    "dataclass": Order(7, date(2026, 11, 21)),
    "pydantic model": Filter(since=date(2026, 11, 21)),
    "exception": ValueError("no rows"),
    "list of dates": [date(2026, 11, 21)],
    "object of UUIDs": {"id": UUID(int=5)},
}


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[SessionLedger]:
    with SessionLedger(f"sqlite:///{tmp_path / 'strict.db'}", strict_values=True) as opened:
        yield opened


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_an_attribute_is_found_by_the_object_that_it_was_recorded_from(ledger, value):
    sid = ledger.create_session("ada", fields={"attribute": {"v": value}})
    ledger.create_session("ada", fields={"attribute": {"v": "other"}})
    assert [it.session_id for it in ledger.list_sessions(attributes={"v": value})] == [sid]
    assert [it.session_id for it in ledger.iter_sessions("ada", attributes={"v": value})] == [sid]
    assert [it.session_id for it in ledger.for_user("ada").list_sessions(attributes={"v": value})] == [sid]
    assert ledger.count_sessions("status", attributes={"v": value}) == {"active": 1}
    recorded = ledger.get_session(sid).attributes["v"]
    assert [it.session_id for it in ledger.list_sessions(attributes={"v": recorded})] == [sid]


async def found_by(ledger: SessionLedger, value: Any) -> list[str]:
    async with AsyncSessionLedger(ledger.url) as opened:
        return [it.session_id async for it in opened.iter_sessions(attributes={"v": value})]


def test_an_async_list_finds_it_too(ledger):
    import asyncio

    sid = ledger.create_session("ada", fields={"attribute": {"v": UUID(int=5)}})
    assert asyncio.run(found_by(ledger, UUID(int=5))) == [sid]


def test_an_open_profile_leaves_the_other_attributes_to_the_ledger(ledger):
    class Report(BaseModel, extra="allow"):
        day: date

    ledger.register_profile("report", Report)
    attributes = {"day": "2026-11-21", "at": datetime(2026, 11, 21, tzinfo=UTC)}
    sid = ledger.create_session("ada", fields={"session_type": "report", "attribute": attributes})
    asked = {"day": date(2026, 11, 21), "at": datetime(2026, 11, 21, tzinfo=UTC)}
    assert [it.session_id for it in ledger.list_sessions(session_type="report", attributes=asked)] == [sid]


def test_criteria_that_no_attribute_can_have_are_refused_by_name_and_type(ledger, strict):
    with pytest.raises(InvalidInput, match=r"attribute\['v'\] is of type object"):
        ledger.list_sessions(attributes={"v": object()})
    with pytest.raises(InvalidInput, match=r"attribute\['v'\] is of type datetime.date, which is no JSON value"):
        strict.list_sessions(attributes={"v": date(2026, 11, 21)})
    with pytest.raises(InvalidInput, match="attributes must be an object of name to value, not list"):
        ledger.list_sessions(attributes=["v"])


@pytest.mark.parametrize("status", ["Completed", "in progress", ""])
def test_a_status_that_no_session_can_have_is_refused_by_lists_and_counts(ledger, status):
    ada = ledger.for_user("ada")
    for call in (
        *(ledger.list_sessions, partial(ledger.count_sessions, "day"), lambda **it: list(ledger.iter_sessions(**it))),
        *(ada.list_sessions, partial(ada.count_sessions, "day"), lambda **it: list(ada.iter_sessions(**it))),
    ):
        with pytest.raises(InvalidInput, match=r"must be a lower-case word such as active, completed or failed"):
            call(status=status)


def test_a_role_that_no_message_can_have_is_refused_by_searches(ledger):
    for each in (ledger, ledger.for_user("ada")):
        with pytest.raises(InvalidInput, match=r"role must be one of system, developer, user, .*, not 'human'"):
            each.search("zzz", role="human")

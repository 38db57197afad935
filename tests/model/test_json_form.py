"""Values that are no JSON values are recorded in the form that docs/python.md says, wherever they stand."""

from __future__ import annotations

import json
import re
from collections import Counter, deque, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from ipaddress import IPv4Address
from pathlib import Path, PurePosixPath
from types import MappingProxyType, SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import BaseModel

from ledger import InvalidInput, SessionLedger
from ledger.model.json_form import json_form

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


Point = namedtuple("Point", "x y")


@dataclass
class Order:
    number: int
    day: date


class Filter(BaseModel):
    since: date
    limit: int = 10


NAMES: dict[str, Any] = {
    **{
        it.__name__: it for it in (datetime, date, time, timedelta, timezone, Decimal, UUID, PurePosixPath, IPv4Address)
    },
    **{it.__name__: it for it in (Colour, Level, Point, Order, Filter, deque, Counter)},
    "MappingProxyType": MappingProxyType,
    "UTC": UTC,
    "np": np,
    "pd": pd,
    "pa": pa,
}
ROWS = re.findall(r"^\| `(.+?)`(?:[,:] [^|]*)? \| `(.+)` \|$", PAGE.read_text(), re.MULTILINE)


def test_the_table_has_sixty_kinds() -> None:
    assert len(ROWS) >= 60


@pytest.mark.parametrize(("source", "recorded"), ROWS)
def test_a_value_comes_back_in_the_form_of_the_table(ledger: SessionLedger, source: str, recorded: str) -> None:
    value, expected = eval(source, NAMES), json.loads(recorded)  # noqa: S307 - the page's own examples
    sid = ledger.create_session("ada", fields={"context": {"made": value}})
    ledger.update_constraints(sid, {"deep": [{"in": value}]})
    ledger.update_tool_call_status(sid, "search", "completed", result=value)
    ledger.set_attributes(sid, {"found": {"it": value}})
    ledger.add_message(sid, "user", [value], payload=value)
    session = ledger.get_session(sid, messages=True)
    got = [
        session.context.get("made"),
        session.constraints["deep"][0]["in"],
        session.tool_call_results["search"],
        session.attributes["found"]["it"],
        session.messages[0].content[0],
        session.messages[0].payload,
    ]
    assert got == [expected] * 6
    assert [type(it) for it in got] == [type(expected)] * 6
    assert not ledger.verify().findings


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("values") / "ledger.db"
    with SessionLedger(f"sqlite:///{path}?synchronous=NORMAL") as opened:
        yield opened


class Odd:
    pass


REFUSED: list[tuple[Any, str]] = [
    (Odd(), r"value\.at\[0\] is of type .*\.Odd"),
    (float("nan"), r"value\.at\[0\] is nan"),
    (Decimal, "of type type"),
    (iter([1]), "list_iterator"),
    (range(3), "of type range"),
    (1j, "of type complex"),
    (np.complex128(1), r"numpy\.complex128"),
    (np.array([1j]), r"numpy\.ndarray"),
    (lambda: 0, "of type function"),
    (SimpleNamespace(a=1), "SimpleNamespace"),
    ({(1, 2): 3}, r"value\.at\[0\] has the key \(1, 2\) of type tuple"),
    ({None: 1}, "key None of type NoneType"),
    ({1.5: 1}, "key 1.5 of type float"),
    ({1: 1, "1": 2}, "two keys"),
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns of one name"),
    (pd.DataFrame({"a": [1]}, index=pd.Index([1], name="a")), "index cannot be a column"),
    (pa.table([[1], [2]], names=["a", "a"]), "two columns of one name"),
    (Order(7, Odd()), r"value\.at\[0\]\.day is of type"),  # type: ignore[arg-type]
    (Filter.model_construct(since=Odd()), "model that cannot be dumped"),
    ({"deep": {1, Odd}}, r"value\.at\[0\]\.deep item"),
    (2**70, "2\\*\\*64"),
    ("\ud800", "lone surrogate"),
]


@pytest.mark.parametrize(("value", "says"), REFUSED, ids=[says[:40] for _, says in REFUSED])
def test_what_has_no_usual_form_is_refused_and_named(ledger: SessionLedger, value: Any, says: str) -> None:
    sid = ledger.create_session("ada")
    with pytest.raises(InvalidInput, match=says.replace("value", "strategy", 1)):
        ledger.update_strategy(sid, {"at": [value]})
    with pytest.raises(InvalidInput, match=r"context\['when'\]"):
        ledger.update_context(sid, {"fine": 1, "when": [value]})
    assert ledger.get_session(sid).version == 1


def test_a_value_that_contains_itself_is_refused() -> None:
    inner: list[Any] = [date(2026, 1, 1)]
    inner.append(inner)
    odd = np.empty((), dtype=object)
    odd[()] = odd
    for value in (inner, odd):
        with pytest.raises(InvalidInput, match="contains itself"):
            json_form(value)


@pytest.mark.parametrize("value", [date(2026, 1, 1), {1}, b"x", {1: 2}, np.float64(1), Order(1, date(2026, 1, 1))])
def test_strict_values_refuses_what_is_no_json_value(tmp_path: Path, value: Any) -> None:
    with SessionLedger(f"sqlite:///{tmp_path / 'ledger.db'}", strict_values=True) as ledger:
        sid = ledger.create_session("ada")
        with pytest.raises(InvalidInput, match=r"strategy|JSON"):
            ledger.update_strategy(sid, {"at": value})
        assert ledger.get_session(sid).version == 1


def test_what_is_sent_again_is_the_same_although_it_was_converted(ledger: SessionLedger) -> None:
    sid = ledger.create_session("ada")
    first = ledger.update_strategy(sid, {"days": {date(2026, 1, 1), date(2026, 1, 2)}}, event_id="once")
    again = ledger.update_strategy(sid, {"days": {date(2026, 1, 2), date(2026, 1, 1)}}, event_id="once")
    assert (again.version, again.replayed) == (first.version, True)


def test_a_plan_of_models_and_dataclasses_plans_its_calls(ledger: SessionLedger) -> None:
    class Call(BaseModel):
        name: str
        id: str | None = None

    class Plan(BaseModel):
        tool_calls: list[Call]

    for constraints in (
        Plan(tool_calls=[Call(name="a"), Call(name="b", id="7")]),
        {"tool_calls": [Call(name="a"), "b"]},
    ):
        sid = ledger.create_session("ada", fields={"constraints": constraints})
        assert len(ledger.get_session(sid).tool_calls) == 2
        sid = ledger.create_session("ada")
        ledger.update_constraints(sid, constraints)  # type: ignore[arg-type]
        assert len(ledger.get_session(sid).tool_calls) == 2

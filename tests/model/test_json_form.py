"""Values that are no JSON values are recorded in the form that docs/python.md says, wherever they stand."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
from collections import Counter, deque, namedtuple
from collections.abc import Callable, Mapping
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

from ledger import InvalidInput, SessionLedger, ValueTooLarge
from ledger.model.events import Change, text_of
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
    (Decimal("NaN"), r"value\.at\[0\] is the decimal NaN"),
    (Decimal("sNaN"), r"value\.at\[0\] is the decimal sNaN"),
    (Order(7, Decimal("-Infinity")), r"value\.at\[0\]\.day is the decimal -Infinity"),  # type: ignore[arg-type]
    (Decimal, "of type type"),
    (iter([1]), "list_iterator"),
    (range(3), "of type range"),
    (1j, "of type complex"),
    (np.complex128(1), r"numpy\.complex128"),
    (np.array([1j]), r"numpy\.ndarray"),
    (np.timedelta64(1, "M"), r"value\.at\[0\] is a numpy\.timedelta64 in months"),
    (np.array([1], dtype="m8[Y]"), r"value\.at\[0\]\[0\] is a numpy\.timedelta64 in years"),
    (np.array([1], dtype="i8").view("m8"), r"value\.at\[0\]\[0\] is a numpy\.timedelta64 without unit"),
    (np.array([(1,)], dtype=[("a", "m8[M]")]), r"value\.at\[0\]\[0\]\.a is a numpy\.timedelta64 in months"),
    (np.timedelta64(1, "ps"), r"value\.at\[0\] is a numpy\.timedelta64 finer than a nanosecond"),
    (np.timedelta64(10**18, "s"), r"value\.at\[0\] cannot be converted: OverflowError"),
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


@pytest.mark.parametrize("beside", [{}, {"day": date(2026, 1, 1)}])
def test_the_error_of_a_value_that_contains_itself_has_the_beginning_of_its_path_alone(beside: dict[str, Any]) -> None:
    value: dict[str, Any] = dict(beside)
    value["d"] = value
    with pytest.raises(InvalidInput, match=r"^context\['c'\](\.d){14}… is nested deeper than") as refused:
        text_of(Change("context", "c", value))
    assert len(str(refused.value)) < 120


@pytest.mark.parametrize("value", [date(2026, 1, 1), {1}, b"x", {1: 2}, np.float64(1), Order(1, date(2026, 1, 1))])
def test_strict_values_refuses_what_is_no_json_value(tmp_path: Path, value: Any) -> None:
    with SessionLedger(f"sqlite:///{tmp_path / 'ledger.db'}", strict_values=True) as ledger:
        sid = ledger.create_session("ada")
        with pytest.raises(InvalidInput, match=r"strategy|JSON"):
            ledger.update_strategy(sid, {"at": value})
        assert ledger.get_session(sid).version == 1


def test_strict_values_takes_of_the_table_what_the_page_says() -> None:
    said = re.search(r"Of the table it takes (.+?)\.\n", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert said is not None
    taken = []
    for source, _ in ROWS:
        with contextlib.suppress(InvalidInput):
            text_of(Change("strategy", "", [eval(source, NAMES)]), strict=True)  # noqa: S307 - the page's own examples
            taken.append(source)
    assert taken == re.findall(r"`(.+?)`", said[1])


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


CRASHES = {
    "the time zone of a datetime": """
class Zone(tzinfo):
    def utcoffset(self, moment):
        raise KeyError("no such zone")
    dst = tzname = utcoffset
odd = datetime(2026, 1, 1, tzinfo=Zone())
""",
    "the value of an enum": """
class Odd(Enum):
    A = 1
    @property
    def value(self):
        raise KeyError("no such zone")
odd = Odd.A
""",
    "the value of an enum that is a number": """
class Odd(IntEnum):
    A = 1
    @property
    def value(self):
        raise KeyError("no such zone")
odd = Odd.A
""",
}


@pytest.mark.parametrize("source", CRASHES.values(), ids=CRASHES)
def test_a_value_whose_own_code_raises_does_not_end_the_process(source: str) -> None:
    program = f"""
from datetime import datetime, tzinfo
from enum import Enum, IntEnum
from ledger import InvalidInput
from ledger.model.events import Change, text_of
{source}
for value in (odd, {{"at": [odd]}}):
    for strict in (True, False):
        try:
            text_of(Change("strategy", "", value), strict=strict)
        except InvalidInput as error:
            print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    strict, loose, strict_within, loose_within = done.stdout.splitlines()
    assert all(it.startswith("strategy") for it in (strict, strict_within))
    assert loose.startswith("strategy cannot be converted: KeyError: 'no such zone'")
    assert loose_within.startswith("strategy.at[0] cannot be converted: KeyError: 'no such zone'")


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "loud"


class Half(int):
    def __int__(self) -> int:
        return 0

    def __str__(self) -> str:
        return "half"


class Rounded(float):
    def __float__(self) -> float:
        return 0.0


class Shown(dict):
    def items(self) -> Any:
        return [("shown", 1)]


class Reversed(list):
    def __iter__(self) -> Any:
        return reversed(self)


@pytest.mark.parametrize(
    ("value", "recorded"),
    [(Loud("quiet"), "quiet"), (Half(7), 7), (Rounded(1.5), 1.5), (Shown(a=1), {"a": 1}), (Reversed([1, 2]), [1, 2])],
    ids=["str", "int", "float", "dict", "list"],
)
def test_what_is_recorded_does_not_depend_on_the_values_beside_it(
    ledger: SessionLedger, value: Any, recorded: Any
) -> None:
    sid = ledger.create_session("ada")
    for beside in (1, date(2026, 1, 1)):
        ledger.update_constraints(sid, {"it": value, "beside": beside})
        found = ledger.get_session(sid).constraints["it"]
        assert (type(found), found) == (type(recorded), recorded)


class Posing:
    def __init__(self, kind: type) -> None:
        self.kind = kind

    @property
    def __class__(self) -> Any:
        return self.kind


class Failing(Mapping):
    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act

    def __getitem__(self, key: str) -> Any:
        return self.act()

    def __iter__(self) -> Any:
        return self.act()

    def __len__(self) -> int:
        return 1


class Unshown:
    def __repr__(self) -> str:
        raise KeyError("unshown")


class Growing(dict):
    """Adds a key to the dict while an item of it is converted."""

    def __init__(self) -> None:
        super().__init__(at=Failing(lambda: self.update(more=1) or iter(())), day=date(2026, 1, 1))


def fail() -> Any:
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Failing(fail), r"strategy\[0\] cannot be converted: KeyError: 'lost'"),
        ({"a": {Failing(fail).__class__: 1}}, r"strategy\[0\]\.a"),
        ({Unshown(): 1}, r"strategy\[0\] key is of type .*Unshown"),
        (Growing(), r"strategy\[0\] cannot be converted: RuntimeError: dictionary changed size"),
        ({frozenset({(1, Unshown())})}, r"strategy\[0\] item item\[1\] is of type .*Unshown"),
        *((Posing(kind), r"strategy\[0\]") for kind in (str, int, float, dict, list, tuple, set, date, bytes, Decimal)),
        *(
            (Posing(kind), r"strategy\[0\]")
            for kind in (Colour, Order, Filter, np.ndarray, np.int64, pd.DataFrame, Path)
        ),
    ],
    ids=lambda it: it[:40] if type(it) is str else type(it).__name__,
)
def test_what_the_code_of_a_value_raises_is_an_invalid_input_with_its_path(value: Any, says: str) -> None:
    for strict in (False, True):
        with pytest.raises(InvalidInput, match="strategy" if strict else says):
            text_of(Change("strategy", "", [value]), strict=strict)


def test_what_a_signal_handler_raises_during_a_conversion_arrives_at_the_caller() -> None:
    def limit(*_: Any) -> None:
        raise ArithmeticError("time is up")

    before = signal.signal(signal.SIGALRM, limit)
    try:
        with pytest.raises(ArithmeticError, match="time is up"):
            json_form([Failing(lambda: signal.raise_signal(signal.SIGALRM))])
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("value", "recorded"),
    [
        (np.timedelta64(0, "ns"), "PT0S"),
        (np.timedelta64(1_000, "ps"), "PT0.000000001S"),
        (np.timedelta64(1_500, "ns"), "PT0.0000015S"),
        (np.timedelta64(2, "W"), "P14D"),
        (np.timedelta64(3, "25s"), "PT1M15S"),
        (np.timedelta64(86_400 * 10**9 + 1, "ns"), "P1DT0.000000001S"),
        (np.timedelta64(-(2**63) + 1, "ns"), "-P292Y171DT23H47M16.854775807S"),
        (np.array([[(1, [2, 3])]], dtype=[("a", "i4"), ("b", "f8", (2,))]), [[{"a": 1, "b": [2.0, 3.0]}]]),
        (np.array((1, "NaT"), dtype=[("a", "i4"), ("b", "M8[ns]")]), {"a": 1, "b": None}),
        (np.array([((7,),)], dtype=[("a", [("b", "m8[s]")])])[0], {"a": {"b": "PT7S"}}),
        (np.rec.array([(1, "x")], names=["a", "b"]), [{"a": 1, "b": "x"}]),
        (np.rec.array([(1, "x")], names=["a", "b"])[0], {"a": 1, "b": "x"}),
        (np.ma.array([(1, 2)], mask=[(False, True)], dtype=[("a", "i4"), ("b", "m8[s]")]), [{"a": 1, "b": None}]),
        (np.array([(1, [date(2026, 1, 1)])], dtype=[("a", "i4"), ("b", "O")]), [{"a": 1, "b": ["2026-01-01"]}]),
        (np.array([np.longdouble("inf")]), [None]),
        (np.array([Decimal("NaN"), Decimal("Infinity")], dtype=object), [None, None]),
        (pd.DataFrame({"p": [Decimal("1.1"), Decimal("NaN")]}), [{"p": "1.1"}, {"p": None}]),
        (pd.Series(pd.to_timedelta([1, None], unit="ns")), ["PT0.000000001S", None]),
    ],
    ids=repr,
)
def test_times_and_records_of_numpy_keep_their_digits_and_names(value: Any, recorded: Any) -> None:
    assert json_form(value) == recorded


@pytest.mark.skipif(np.finfo(np.longdouble).maxexp <= 1024, reason="a long double is a double here")
def test_a_long_double_beyond_floats_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"value\[0\] is the numpy\.longdouble 1e\+400, which no float can hold"):
        json_form(np.array(["1e400"], dtype=np.longdouble))


def shared(leaf: Any, kind: Callable[[list[Any]], Any] = list) -> Any:
    """Return a value that has 2**40 items, in 40 containers."""
    for _ in range(40):
        leaf = kind([leaf, leaf])
    return leaf


MANY: dict[str, Any] = {
    "lists": shared(1),
    "tuples": shared("a", tuple),
    "objects": shared(None, lambda pair: {"a": pair[0], "b": pair[1]}),
    "lists of empty lists": shared([]),
    "lists of dates": shared(date(2026, 1, 1)),
    "an array": np.broadcast_to(np.float64(1), (10**9,)),
    "records": np.broadcast_to(np.zeros(1, dtype=[("a", "i4")]), (10**9,)),
    "an array of times": np.broadcast_to(np.timedelta64(1, "s"), (10**5, 10**5)),
    "a data frame": pd.DataFrame(np.broadcast_to(np.float64(1), (10**6, 10)), copy=False),
    "an index": pd.RangeIndex(10**9),
    "an Arrow array": pa.nulls(10**9),
    "an Arrow table": pa.table({"a": pa.nulls(10**7)}),
}


@pytest.mark.parametrize("value", MANY.values(), ids=MANY)
def test_a_value_of_very_many_items_is_refused_before_it_is_converted(value: Any) -> None:
    with pytest.raises(ValueTooLarge, match=r"strategy(\.at)? has more than 8,000,000 items"):
        text_of(Change("strategy", "", {"at": value}))


def test_items_are_counted_over_all_parts_of_a_value_that_is_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.model.json_form.MAX_ITEMS", 10_000)
    for value in (shared(date(2026, 1, 1), deque), [np.zeros(4_000)] * 3, shared(Order(1, date(2026, 1, 1)), deque)):
        with pytest.raises(ValueTooLarge, match=r"value.* has more than"):
            json_form(value)
    assert len(json_form([np.zeros(4_000)] * 2)) == 2


def test_a_long_value_of_many_shared_parts_is_recorded() -> None:
    row = ["a", [1, None]]
    text = text_of(Change("strategy", "", [row] * 100_000))
    assert text is not None
    assert text.count("a") == 100_000

"""Profiles: a pydantic model checks, filters and counts the attributes of sessions of one type."""

import os
import subprocess
import sys
from abc import ABC, abstractmethod
from datetime import date, timedelta
from enum import Enum
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    ValidationInfo,
    computed_field,
    create_model,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from ledger import Change, ConfigurationError, InvalidInput, SessionLedger
from ledger.model.profiles import Profile
from ledger.testing import CountedIds, SetClock


class Problem(BaseModel):
    topic: str
    difficulty: Literal["easy", "medium", "hard"]
    tests_passed: bool = False
    code_attempts: Annotated[int, Field(ge=0)] = 0
    tags: list[str] = []


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    size: int = 0


@pytest.fixture
def ledger(tmp_path):
    with SessionLedger(f"sqlite:///{tmp_path / 'ledger.db'}", clock=SetClock(), ids=CountedIds(1)) as opened:
        opened.register_profile("problem", Problem)
        opened.register_profile("open", Open)
        yield opened


def begun(ledger, kind="problem", **attributes):
    return ledger.create_session("ada", fields={"session_type": kind, "attribute": attributes})


def test_attributes_are_kept_as_the_model_has_them(ledger):
    sid = begun(ledger, topic="arrays", code_attempts="3")
    ledger.set_attributes(sid, {"tests_passed": "yes"})
    ledger.update_session(sid, {"attribute": {"difficulty": "easy"}})
    expected = {"topic": "arrays", "code_attempts": 3, "tests_passed": True, "difficulty": "easy"}
    assert ledger.get_session(sid).attributes == expected


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"difficulty": "extreme"}, "difficulty of problem"),
        ({"code_attempts": -1}, "code_attempts of problem"),
        ({"color": "red"}, "no attribute 'color'. They have topic"),
        ({"topic": 7}, "topic of problem"),
    ],
)
def test_what_the_model_does_not_have_is_refused_and_nothing_is_written(ledger, attributes, said):
    sid = begun(ledger, topic="arrays")
    for write in (
        lambda: ledger.set_attributes(sid, attributes),
        lambda: ledger.update_session(sid, {"attribute": attributes}),
        lambda: begun(ledger, **attributes),
        lambda: ledger.list_sessions(session_type="problem", attributes=attributes),
    ):
        with pytest.raises(InvalidInput, match=said):
            write()
    assert ledger.get_session(sid).version == 1
    assert len(ledger.list_sessions()) == 1


def test_sessions_of_other_types_have_any_attributes(ledger):
    assert ledger.get_session(begun(ledger, "free", color="red")).attributes == {"color": "red"}
    assert ledger.get_session(begun(ledger, "open", color="red", size="7")).attributes == {"color": "red", "size": 7}
    untyped = ledger.create_session("ada", fields={"attribute": {"topic": 7}})
    assert ledger.get_session(untyped).attributes == {"topic": 7}


def test_sessions_are_found_and_counted_by_attributes(ledger):
    for topic, passed in (("arrays", True), ("arrays", False), ("strings", True)):
        begun(ledger, topic=topic, tests_passed=passed, tags=["a"])
    begun(ledger, "free", topic="arrays")
    assert len(ledger.list_sessions(session_type="problem", attributes={"tests_passed": "true"})) == 2
    assert ledger.count_sessions("topic", session_type="problem") == {"arrays": 2, "strings": 1}
    assert ledger.count_sessions("topic", session_type="problem", attributes={"tests_passed": True}) == {
        "arrays": 1,
        "strings": 1,
    }
    assert ledger.count_sessions("session_type") == {"problem": 3, "free": 1}
    assert list(ledger.count_sessions("tests_passed").items()) == [("true", 2), ("false", 1), (None, 1)]
    assert ledger.count_sessions("tags", session_type="problem") == {'["a"]': 3}
    assert ledger.count_sessions("status") == {"active": 4}
    for value in ({"a": 1, "b": 2.0}, {"b": 2, "a": 1.0}):
        begun(ledger, "open", pair=value)
    assert ledger.count_sessions("pair", session_type="open") == {'{"a":1,"b":2}': 2}
    assert sum(ledger.count_sessions("day").values()) == 6
    with pytest.raises(InvalidInput, match="no attribute 'color'"):
        ledger.count_sessions("color", session_type="problem")


def test_a_view_counts_its_users_sessions_only(ledger):
    begun(ledger, topic="arrays")
    assert ledger.for_user("ben").count_sessions("status") == {}
    assert ledger.for_user("ada").count_sessions("status") == {"active": 1}


def test_true_and_false_are_counted_apart_from_numbers(ledger):
    for flag in (True, 1, 1.0, False, 0, "yes"):
        begun(ledger, "free", flag=flag)
    assert ledger.count_sessions("flag") == {1: 2, "true": 1, "false": 1, 0: 1, "yes": 1}


def test_a_profile_is_a_model(ledger):
    for unfit in (dict, Problem(topic="a", difficulty="easy"), None, RootModel[list[str]], BaseModel):
        with pytest.raises(ConfigurationError, match="pydantic model"):
            ledger.register_profile("x", unfit)


# What the model says of a field


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, str_max_length=5, str_strip_whitespace=True, ser_json_timedelta="float")
    name: str = ""
    count: int = 0
    took: timedelta = timedelta(0)


class Checked(BaseModel):
    topic: str = ""
    even: int = 0
    day: date = date(2026, 1, 1)

    @field_validator("topic", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @field_validator("topic")
    @classmethod
    def _lower(cls, value: str, info: ValidationInfo) -> str:
        return f"{value.lower()}:{info.field_name}:{info.data}"

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("it is odd")
        return value

    @field_serializer("day")
    def _day(self, value: date) -> str:
        return f"{value:%d.%m.%Y}"


def test_the_configuration_of_the_model_holds():
    profile = Profile("strict", Strict)
    assert profile.value("name", " ada ") == "ada"
    assert profile.value("took", timedelta(seconds=90)) == 90
    for name, value in (("name", "abcdef"), ("count", "3")):
        with pytest.raises(InvalidInput, match=f"attribute {name} of strict sessions: "):
            profile.value(name, value)


def test_the_validators_and_serializers_of_a_field_are_asked(ledger):
    ledger.register_profile("checked", Checked)
    sid = begun(ledger, "checked", topic="ARRAYS", even=4, day="2026-03-05")
    assert ledger.get_session(sid).attributes == {"topic": "arrays:topic:{}", "even": 4, "day": "05.03.2026"}
    with pytest.raises(InvalidInput, match="attribute even of checked sessions: Value error, it is odd"):
        ledger.set_attributes(sid, {"even": 3})
    assert Profile("checked", Checked).value("topic", 7) == "7:topic:{}"
    assert len(ledger.list_sessions(session_type="checked", attributes={"day": date(2026, 3, 5)})) == 1


class Trip(BaseModel):
    """A model with everything that is about more than the value of one field."""

    model_config = ConfigDict(frozen=True)
    kinds: ClassVar[list[type]] = []
    begin: int = Field(alias="from", exclude=True, frozen=True)
    end: int = Field(default_factory=lambda: 1 // 0)
    stops: "list[Trip]" = []
    _seen: int = 0

    def __init_subclass__(cls, *, kind: str) -> None:
        cls.kinds.append(cls)

    def model_post_init(self, context: Any) -> None:
        raise AssertionError("it is not there as a whole")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def length(self) -> int:
        return self.end - self.begin

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, given: Any) -> Any:
        return {**given, "end": given["end"] + 1}

    @model_validator(mode="after")
    def _forwards(self) -> "Trip":
        if self.end < self.begin:
            raise ValueError("it ends before it begins")
        return self

    @model_serializer
    def _text(self) -> str:
        return f"{self.begin} to {self.end}"


def test_what_the_model_says_of_several_fields_makes_none_of_them_impossible(ledger):
    ledger.register_profile("trip", Trip)
    sid = begun(ledger, "trip", end="3", stops=[])
    ledger.set_attributes(sid, {"begin": 5})
    assert ledger.get_session(sid).attributes == {"begin": 5, "end": 3, "stops": []}
    with pytest.raises(InvalidInput, match="attribute begin of trip sessions: Input should be a valid integer"):
        ledger.set_attributes(sid, {"begin": "soon"})
    with pytest.raises(InvalidInput, match="They have begin, end, stops"):
        ledger.set_attributes(sid, {"length": 2})
    assert Trip.kinds == []


def test_a_validator_that_breaks_is_bad_input():
    class Wanting(BaseModel):
        begin: int = 0
        end: int = 0

        @field_validator("end")
        @classmethod
        def _later(cls, value: int, info: ValidationInfo) -> int:
            return value - int(info.data["begin"])

    with pytest.raises(InvalidInput, match="attribute end of trip sessions: KeyError: 'begin'"):
        Profile("trip", Wanting).value("end", 3)


class Color(Enum):
    RED, BLUE = "red", "blue"


class Part(BaseModel):
    labels: frozenset[str]


class Sets(BaseModel):
    topics: set[str] = set()
    sizes: set[float] = set()
    colors: frozenset[Color] = frozenset()
    pairs: set[tuple[int, frozenset[str]]] = set()
    nested: dict[str, list[set[str]]] = {}
    part: Part | None = None
    anything: Any = None
    reverse: set[str] = set()
    most: Annotated[set[int], PlainSerializer(lambda value: sorted(value, reverse=True))] = set()

    @field_serializer("reverse")
    def _reverse(self, value: set[str]) -> list[str]:
        return sorted(value, reverse=True)


LETTERS = "qwertyuiop"
SORTED = sorted(LETTERS)


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("topics", list(LETTERS), SORTED),
        ("topics", set(LETTERS), SORTED),
        ("sizes", {10, 9, 2.5, 100}, [2.5, 9, 10, 100]),
        ("colors", {"red", Color.BLUE}, ["blue", "red"]),
        ("pairs", {(2, frozenset("ba")), (1, frozenset("zyx"))}, [[1, ["x", "y", "z"]], [2, ["a", "b"]]]),
        ("nested", {"a": [set(LETTERS), ["b", "a"]], "b": []}, {"a": [SORTED, ["a", "b"]], "b": []}),
        ("part", {"labels": set(LETTERS)}, {"labels": SORTED}),
        ("anything", {"deep": ({"b", "a", "c"}, ["b", "a"])}, {"deep": [["a", "b", "c"], ["b", "a"]]}),
        ("anything", {"a", 3, 20, None}, [3, 20, "a", None]),
        ("reverse", set(LETTERS), SORTED[::-1]),
        ("most", {1, 3, 2}, [3, 2, 1]),
    ],
)
def test_a_set_is_kept_as_a_sorted_list_unless_a_serializer_orders_it(name, given, kept):
    assert Profile("sets", Sets).value(name, given) == kept


def test_a_set_is_the_same_in_every_process(tmp_path):
    program = f"""
from pydantic import BaseModel
from ledger import SessionLedger

class Chat(BaseModel):
    topics: set[str]

with SessionLedger("sqlite:///{tmp_path}/l.db") as ledger:
    ledger.register_profile("chat", Chat)
    given = {{"session_type": "chat", "attribute": {{"topics": set({LETTERS!r})}}}}
    ledger.create_session("ada", fields=given, session_id="s", event_id="begin", ttl=None)
    assert len(ledger.list_sessions(session_type="chat", attributes=given["attribute"])) == 1
    assert len(ledger.history("s")) == 1
"""
    for seed in ("1", "2", "3"):
        subprocess.run(
            [sys.executable, "-c", program], check=True, timeout=60, env={**os.environ, "PYTHONHASHSEED": seed}
        )


# What cannot be kept, and what is no profile


class Loose(BaseModel):
    anything: Any = None
    raw: bytes = b""


@pytest.mark.parametrize(("name", "value"), [("anything", object()), ("raw", b"\xff"), ("anything", {"a": {object()}})])
def test_what_has_no_json_is_bad_input(ledger, name, value):
    ledger.register_profile("loose", Loose)
    sid = begun(ledger, "loose")
    for use in (
        lambda: ledger.set_attributes(sid, {name: value}),
        lambda: ledger.list_sessions(session_type="loose", attributes={name: value}),
    ):
        with pytest.raises(InvalidInput, match=f"attribute {name} of loose sessions"):
            use()
    assert ledger.get_session(sid).version == 1


@pytest.mark.parametrize("name", [["x"], {}, 7, None, ""], ids=str)
def test_a_name_that_is_no_text_is_bad_input(ledger, name):
    for kind in ("problem", "open"):
        sid = begun(ledger, kind)
        with pytest.raises(InvalidInput, match="key of attribute"):
            ledger.append(sid, "a.b", [Change("attribute", name, 1)])
        with pytest.raises(InvalidInput):
            ledger.count_sessions(name, session_type=kind)
        assert ledger.get_session(sid).version == 1


def test_a_model_that_cannot_be_completed_is_no_profile(ledger):
    unknown = create_model("Unknown", later=("Later", ...))

    class Abstract(BaseModel, ABC):
        topic: str = ""

        @abstractmethod
        def length(self) -> int: ...

    with pytest.raises(ConfigurationError, match=r"Unknown cannot be the profile of x sessions: .*Later.* Complete"):
        ledger.register_profile("x", unknown)
    with pytest.raises(ConfigurationError, match="abstract"):
        ledger.register_profile("x", Abstract)
    assert ledger.get_session(begun(ledger, "x", topic=7)).attributes == {"topic": 7}


def test_a_model_may_be_built_late_and_have_no_fields(ledger):
    class Late(BaseModel):
        model_config = ConfigDict(defer_build=True)
        size: int = 0

    ledger.register_profile("late", Late)
    assert ledger.get_session(begun(ledger, "late", size="7")).attributes == {"size": 7}
    ledger.register_profile("none", create_model("Nothing"))
    with pytest.raises(InvalidInput, match="They have none"):
        begun(ledger, "none", size=7)


def test_an_event_that_is_sent_again_is_measured_by_the_profile_of_its_time(ledger):
    class Counted(BaseModel):
        n: int

    ledger.register_profile("counted", Counted)
    session_id = ledger.create_session("ada", fields={"session_type": "counted"})
    ledger.set_attributes(session_id, {"n": "5"}, event_id="k")
    ledger.update_session(session_id, {"session_type": "other"})
    assert ledger.set_attributes(session_id, {"n": "5"}, event_id="k").replayed
    assert ledger.get_session(session_id).attributes == {"n": 5}

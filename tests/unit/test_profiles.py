"""Profiles: a pydantic model checks, filters and counts the attributes of sessions of one type."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from ledger import ConfigurationError, InvalidInput, SessionLedger
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
        ({"color": "red"}, "no attribute 'color'; they have topic"),
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
    assert ledger.count_sessions("tests_passed") == {True: 2, False: 1, None: 1}
    assert ledger.count_sessions("tags", session_type="problem") == {'["a"]': 3}
    assert ledger.count_sessions("status") == {"active": 4}
    assert sum(ledger.count_sessions("day").values()) == 4
    with pytest.raises(InvalidInput, match="no attribute 'color'"):
        ledger.count_sessions("color", session_type="problem")


def test_a_view_counts_its_users_sessions_only(ledger):
    begun(ledger, topic="arrays")
    assert ledger.for_user("ben").count_sessions("status") == {}
    assert ledger.for_user("ada").count_sessions("status") == {"active": 1}


def test_a_profile_is_a_model(ledger):
    for unfit in (dict, Problem(topic="a", difficulty="easy"), None):
        with pytest.raises(ConfigurationError, match="pydantic model"):
            ledger.register_profile("x", unfit)

"""What cannot be recorded is refused where it is: by its path, its key and the full name of its type."""

from __future__ import annotations

import datetime
import re
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ledger import Change, InvalidInput, SessionLedger

Point = namedtuple("Point", "x y")
Key = type("Key", (str,), {})


class Odd:
    class Inner:
        pass


@pytest.fixture(params=[False, True], ids=["usual forms", "strict"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SessionLedger]:
    with SessionLedger.open(f"sqlite:///{tmp_path}/l.db?synchronous=NORMAL", strict_values=request.param) as opened:
        yield opened


Call = Callable[[SessionLedger, str, Any], object]
#: Each call, and the place of the value that it is given.
CALLS: dict[str, tuple[Call, str]] = {
    "tool result": (
        lambda ledger, sid, odd: ledger.update_tool_call_status(sid, "sum", "completed", {"rows": [1, odd]}),
        "tool_call_result['sum'].rows[1]",
    ),
    "tool results": (
        lambda ledger, sid, odd: ledger.update_session(sid, {"tool_call_results": {"a b": {"x": (odd,)}}}),
        "tool_call_result['a b'].x[0]",
    ),
    "context": (
        lambda ledger, sid, odd: ledger.update_context(sid, {f"k{n}": n for n in range(50)} | {"when": odd}),
        "context['when']",
    ),
    "attributes": (lambda ledger, sid, odd: ledger.set_attributes(sid, {"a": 1, "b": [odd]}), "attribute['b'][0]"),
    "results": (lambda ledger, sid, odd: ledger.set_results(sid, {"it's": {"b": odd}}), 'result["it\'s"].b'),
    "constraints": (
        lambda ledger, sid, odd: ledger.update_constraints(sid, {"tool_calls": [{"name": "t", "arguments": odd}]}),
        "constraints.tool_calls[0].arguments",
    ),
    "response plan": (
        lambda ledger, sid, odd: ledger.update_response_plan(sid, {"a": {"b": odd}}),
        "response_plan.a.b",
    ),
    "strategy": (lambda ledger, sid, odd: ledger.update_strategy(sid, odd), "strategy"),
    "own field": (lambda ledger, sid, odd: ledger.update_session(sid, {"x_my": {"a": [[odd]]}}), "x_my.a[0][0]"),
    "created": (
        lambda ledger, sid, odd: ledger.create_session("ada", fields={"context": {"a": 1, "b": odd}}),
        "context['b']",
    ),
    "message": (lambda ledger, sid, odd: ledger.add_message(sid, "user", odd, message_id="m"), "message['m'].content"),
    "metadata": (
        lambda ledger, sid, odd: ledger.add_message(sid, "user", "hi", message_id="m", metadata={"a": odd}),
        "message['m'].metadata.a",
    ),
    "query": (
        lambda ledger, sid, odd: ledger.add_query(sid, "sql", parameters={"day": odd}, query_id="q"),
        "query['q'].parameters.day",
    ),
    "score": (lambda ledger, sid, odd: ledger.add_score(sid, "rating", odd, score_id="s"), "score['s'].value"),
    "change": (
        lambda ledger, sid, odd: ledger.append(sid, "plan.made", [Change("x_plan", "a", {"b": odd})]),
        "x_plan['a'].b",
    ),
    "criteria": (lambda ledger, sid, odd: ledger.list_sessions(attributes={"topic": [odd]}), "attribute['topic'][0]"),
}
ODD: list[tuple[Any, str]] = [
    (Odd(), f"is of type {Odd.__module__}.Odd,"),
    (Odd.Inner(), f"is of type {Odd.__module__}.Odd.Inner,"),
    (threading.Lock(), "is of type _thread.lock,"),
    (np.complex128(1), "is of type numpy.complex128,"),
    (float("nan"), "is nan,"),
    (2**70, "is the integer 1180591620717411303424,"),
    ("\ud800", "holds a lone surrogate"),
    ({"day": {(1, 2): 3}}, ".day has the key (1, 2) of type tuple"),
    ([{None: 3}], "[0] has the key None of type NoneType"),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_refusal_names_the_path_the_key_and_the_full_type(ledger: SessionLedger, call: str) -> None:
    act, place = CALLS[call]
    sid = ledger.create_session("ada")
    for odd, says in ODD:
        joint = "" if says[0] in ".[" else " "
        with pytest.raises(InvalidInput, match=f"^{re.escape(place + joint + says)}"):
            act(ledger, sid, odd)
    assert ledger.get_session(sid).version == 1


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"mean": np.array([1.0, 2.0]).mean()}, ".mean is of type numpy.float64,"),
        ({"at": Point(1, 2)}, f".at is of type {Point.__module__}.Point,"),
        ({"rows": [{Key("week"): 1}]}, f".rows[0] has the key 'week' of type {Key.__module__}.Key;"),
        ({"ok": np.bool_(True)}, ".ok is of type numpy.bool,"),
        ({"day": datetime.date(2026, 1, 1)}, ".day is of type datetime.date,"),
        ({"orders": np.int64(7)}, ".orders is of type numpy.int64,"),
    ],
)
def test_a_value_with_a_usual_form_is_recorded_or_named(ledger: SessionLedger, value: Any, says: str) -> None:
    sid = ledger.create_session("ada")
    if ledger._strict_values:
        with pytest.raises(InvalidInput, match=f"^{re.escape('strategy' + says)}"):
            ledger.update_strategy(sid, value)
    else:
        ledger.update_strategy(sid, value)
        assert ledger.get_session(sid).strategy is not None


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda ledger, sid: ledger.update_tool_call_status(sid, Odd(), "completed"), "tool_name must be text, not {}"),
        (lambda ledger, sid: ledger.update_context(sid, Odd()), "context must be an object of name to value, not {}"),
        (lambda ledger, sid: ledger.update_session(sid, Odd()), "Updates must be an object of field to value, not {}"),
        (lambda ledger, sid: ledger.update_session(sid, {"context": Odd()}), "context is keyed: give .*, not {}"),
        (lambda ledger, sid: ledger.create_session(Odd()), "user_id must be text, not {}"),
        (lambda ledger, sid: ledger.create_session("ada", ttl=Odd()), "ttl must be a timedelta, .*, not {}"),
        (lambda ledger, sid: ledger.get_session(sid, at=Odd()), "at must be a datetime with a time zone, not {}"),
        (lambda ledger, sid: ledger.search(Odd()), "The search text must be text, not {}"),
    ],
)
def test_an_argument_of_a_wrong_type_is_named_with_its_full_type(
    ledger: SessionLedger, call: Callable[[SessionLedger, str], object], says: str
) -> None:
    sid = ledger.create_session("ada")
    with pytest.raises(InvalidInput, match=says.format(re.escape(f"{Odd.__module__}.Odd"))):
        call(ledger, sid)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sumary", "There is no field 'sumary'. Did you mean summary?"),
        ("response plan", "There is no field 'response plan'. Did you mean response_plan"),
        ("tags", "There is no field 'tags'. Did you mean tag?"),
        ("children", "There is no field 'children'. Did you mean child?"),
        ("colour", "There is no field 'colour'. The fields are question, title, "),
        ("version", "version is set by the ledger and cannot be changed."),
    ],
)
def test_the_refusal_of_a_misspelt_field_suggests_the_one_that_was_meant(
    ledger: SessionLedger, name: str, says: str
) -> None:
    sid = ledger.create_session("ada")
    with pytest.raises(InvalidInput, match=f"^{re.escape(says)}"):
        ledger.update_session(sid, {name: "x"})


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda ledger, sid: ledger.update_summary(sid, "x", expected_versoin=3),
            "update_summary() got an unexpected keyword argument 'expected_versoin'. Did you mean expected_version?",
        ),
        (
            lambda ledger, sid: ledger.for_user("ada").add_message(sid, "user", "x", token_cuont=3),
            "add_message() got an unexpected keyword argument 'token_cuont'. Did you mean token_count?",
        ),
        (
            lambda ledger, sid: ledger.create_session("ada", title="x"),
            "create_session() got an unexpected keyword argument 'title'. It is a field: give it in fields={'title': ",
        ),
        (
            lambda ledger, sid: ledger.complete_session(sid, note="x"),
            "complete_session() got an unexpected keyword argument 'note'. Changes take expected_version, event_id, ",
        ),
        (
            lambda ledger, _: ledger.list_sessions(user="ada"),
            "list_sessions() got an unexpected keyword argument 'user'. Did you mean user_id?",
        ),
        (
            lambda ledger, _: ledger.for_user("ada").iter_sessions(state="active"),
            "iter_sessions() got an unexpected keyword argument 'state'. Did you mean status?",
        ),
        (
            lambda ledger, _: ledger.count_sessions("day", title="x"),
            "count_sessions() got an unexpected keyword argument 'title'. There are: by, user_id, status, session_type",
        ),
        (
            lambda ledger, _: ledger.search("x", user="ada"),
            "search() got an unexpected keyword argument 'user'. Did you mean user_id?",
        ),
    ],
)
def test_the_refusal_of_an_argument_names_the_method_and_suggests_the_one_that_was_meant(
    ledger: SessionLedger, call: Callable[[SessionLedger, str], object], says: str
) -> None:
    sid = ledger.create_session("ada")
    with pytest.raises(TypeError, match=f"^{re.escape(says)}"):
        call(ledger, sid)
    assert ledger.require_session(sid).version == 1


def test_none_for_a_field_of_many_values_is_refused_with_how_to_remove_one(ledger: SessionLedger) -> None:
    sid = ledger.create_session("ada", fields={"context": {"a": 1, "b": 2}})
    with pytest.raises(InvalidInput, match=r"context is keyed: give an object of .*, in which None removes a key, not"):
        ledger.update_session(sid, {"context": None})
    ledger.update_session(sid, {"context": {"a": None}})
    assert ledger.require_session(sid).context == {"b": 2}

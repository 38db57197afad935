"""Every public method of a ledger, called with every argument that could reach a session: what tests of isolation use.

A method is found by reflection, so a new one is called without anybody thinking of it. What to hand in for an argument
stands in ``BY_NAME``, else in ``BY_TYPE``; where neither has it, ``CannotCall`` says so.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from pydantic import BaseModel

from ledger import Change, LedgerError, Session, SessionLedger
from ledger.testing import START


class Chat(BaseModel):
    """A profile of a type of session."""

    topic: str = ""


#: What to hand in, by the name of the parameter. What a foreign session holds is among it, as if it had been guessed.
BY_NAME: dict[str, Any] = {
    "access": "read",
    "after": 1,
    "at": START + timedelta(days=300),
    "at_version": 1,
    "attributes": {"topic": "orders"},
    "before": 1,
    "by": "topic",
    "changes": [Change("title", value="mine")],
    "constraints": {"kpi": ["orders"], "tool_calls": ["count"]},
    "content": "hello",
    "context": {"step": 1},
    "error": "it broke",
    "event_type": "plan.approved",
    "fields": {"title": "mine"},
    "key": "default",
    "last": 3,
    "limit": 5,
    "max_age": timedelta(0),
    "message_id": "m1",
    "messages": True,
    "model": Chat,
    "name": "helpfulness",
    "query_type": "price",
    "response_plan": {"insights": []},
    "result": {"rows": 1},
    "results": {"rows": 1},
    "role": "user",
    "shared": True,
    "session_type": "chat",
    "statement": "SELECT * FROM sessions",
    "status": "completed",
    "strategy": "mine",
    "summary": "mine",
    "tags": "weekly",
    "text": "zanzibar",
    "to_version": 1,
    "tool_name": "count",
    "ttl": timedelta(hours=1),
    "updates": {"title": "mine", "tag": {"weekly": True}, "grant": {"mallory": "write"}},
    "user_id": "mallory",
    "value": 1,
    "version": 1,
}
#: And by what the annotation begins with, for names that are not there.
BY_TYPE: dict[str, Any] = {
    "str": "mine",
    "int": 1,
    "float": 1.0,
    "bool": True,
    "datetime": START,
    "timedelta": timedelta(hours=1),
    "Mapping": {},
    "Sequence": [],
    "Iterable": [],
}
#: What no call takes, or only at times: the refusal must not depend on whether the session is there.
ODD: dict[str, list[Any]] = {
    "version": [0, 99, "1"],
    "at": [datetime(2026, 1, 1)],  # noqa: DTZ001
    "at_version": [0, 99, "1"],
    "after": [-1, "nonsense"],
    "before": [0, 99, -1],
    "by": ["status", "user_id", "day", ""],
    "to_version": [0, 99],
    "from_version": [0, 99],
    "other_version": [99],
    "limit": [0],
    "text": ["", "?!", "zanzibar " * 1000],
    "status": ["No Status"],
    "role": ["nobody"],
    "access": ["own"],
    "changes": [[], [Change("nope", value=1)], [Change("grant", "mallory", "write")], [Change("status", value="x")]],
    "updates": [{"nope": 1}, {"status": "deleted"}],
    "user_id": ["", "ada"],
}
#: What is given to every call that takes it, or the call would wait for ever.
ALWAYS: dict[str, Any] = {"timeout": 0}
#: Of a connection and not of sessions.
NOT_CALLED = {"open", "close"}
#: Parameters that are the id of a session which the call begins: that an id is taken cannot be hidden, all else can.
BEGINS = {"create_session": "session_id", "fork_session": "new_session_id", "create_from_template": "new_session_id"}
WHAT_TO_DO = (
    "{method}({parameter}: {annotation}) cannot be called by the test of isolation, which calls every public method "
    "with a session of somebody else. Put a value for {parameter!r} into BY_NAME in tests/support/isolation.py; a name "
    "that ends with session_id is handed the foreign id."
)


class CannotCall(AssertionError):
    """A public method has a parameter that nobody has said what to hand in for."""


def kinds() -> list[type[Any]]:
    """The classes of ledgers that there are."""
    found: list[type[Any]] = [SessionLedger]
    if importlib.util.find_spec("ledger.sdk.aio") is not None:
        from ledger.sdk.aio import AsyncSessionLedger

        found.append(AsyncSessionLedger)
    return found


@dataclass(frozen=True)
class Call:
    """One call of a method; ``reaches`` is the parameter that is handed the id of a session, if it has one."""

    method: str
    reaches: str | None
    arguments: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        told = ", ".join(f"{name}={value!r}"[:60] for name, value in self.arguments)
        return f"{self.method}({self.reaches or '-'}: {told})"

    def on(self, ledger: Any, session_id: str, own_id: str) -> Any:
        """Make it, with ``session_id`` for what it reaches and ``own_id`` for other sessions."""
        method = getattr(ledger, self.method)
        parameters = inspect.signature(method).parameters
        given = {name: own_id if value is OWN else value for name, value in self.arguments}
        if self.reaches is not None:
            given[self.reaches] = session_id
        several = [name for name, it in parameters.items() if it.kind is inspect.Parameter.VAR_POSITIONAL]
        if not any(name in given for name in several):
            return method(**given)
        before = [given.pop(name) for name, it in parameters.items() if name in given and _by_place(it)]
        return method(*before, *(given.pop(name) for name in several if name in given), **given)


OWN = object()


def methods_of(kind: type[Any]) -> list[str]:
    """Its public methods, inherited ones as well."""
    public = (name for name in dir(kind) if not name.startswith("_"))
    return [name for name in public if callable(getattr(kind, name)) and name not in NOT_CALLED]


def calls_of(kind: type[Any], method: str, envelopes: list[dict[str, Any]]) -> list[Call]:
    """A method with what it must be given, then with each other argument too, and with each odd one.

    Raises:
        CannotCall: Nobody has said what to hand in.
    """
    parameters = list(inspect.signature(getattr(kind, method)).parameters.values())
    if not inspect.ismethod(getattr(kind, method)):
        parameters = parameters[1:]
    sessions = [it.name for it in parameters if it.name.endswith("session_id")]
    made: list[Call] = []
    for reaches in sessions or [None]:
        rest = [it for it in parameters if it.name != reaches and it.kind is not inspect.Parameter.VAR_KEYWORD]
        needed = {
            it.name: OWN if it.name in sessions else ALWAYS[it.name] if it.name in ALWAYS else _argument(method, it)
            for it in rest
            if it.default is it.empty or it.kind is inspect.Parameter.VAR_POSITIONAL or it.name in ALWAYS
        }
        variants = [needed]
        for it in rest:
            if it.name not in needed and it.name not in sessions and it.name in BY_NAME:
                variants.append({**needed, it.name: BY_NAME[it.name]})
            variants += [{**needed, it.name: odd} for odd in ODD.get(it.name, [])]
        if any(it.kind is inspect.Parameter.VAR_KEYWORD for it in parameters):
            variants += [{**needed, **envelope} for envelope in envelopes]
        made += [Call(method, reaches, tuple(variant.items())) for variant in variants]
    return made


def _by_place(parameter: inspect.Parameter) -> bool:
    return parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD


def _argument(method: str, parameter: inspect.Parameter) -> Any:
    annotation = str(parameter.annotation)
    if parameter.name in BY_NAME:
        return BY_NAME[parameter.name]
    for begins, value in BY_TYPE.items():
        if annotation.startswith(begins):
            return value
    raise CannotCall(WHAT_TO_DO.format(method=method, parameter=parameter.name, annotation=annotation))


@dataclass(frozen=True)
class Outcome:
    """What came of a call, so far as the caller can tell."""

    kind: str
    text: str


class Caller:
    """Makes calls, of coroutines as well, and tells what came of them."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def close(self) -> None:
        """End the loop that coroutines ran in."""
        self._runner.close()

    def wait(self, value: Any) -> Any:
        """What a call gives in the end: of a coroutine its result, of an iterator its first thousand."""
        if inspect.isawaitable(value):
            value = self._runner.run(_of(value))
        if isinstance(value, AsyncIterator):
            value = self._runner.run(_listed(value))
        if isinstance(value, Iterator):
            value = list(islice(value, 1000))
        return value

    def __call__(self, call: Callable[[], Any]) -> Outcome:
        """Make a call; errors that are no LedgerError fail the test."""
        try:
            return Outcome("gave", told(self.wait(call())))
        except LedgerError as error:
            return Outcome(type(error).__name__, _errors(error))


async def _of(value: Any) -> Any:
    return await value


async def _listed(value: AsyncIterator[Any]) -> list[Any]:
    return [it async for it in value]


def told(value: Any) -> str:
    """All that a result holds, as text."""
    if isinstance(value, Session):
        return f"Session({told(value.head)}, {told(dict(value._state))}, {told(value.messages)})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{told(key)}: {told(it)}" for key, it in value.items()) + "}"
    if is_dataclass(value) and not isinstance(value, type):
        inner = ", ".join(f"{it.name}={told(getattr(value, it.name))}" for it in fields(value))
        return f"{type(value).__name__}({inner})"
    if isinstance(value, str | bytes | int | float | None | datetime):
        return repr(value)
    if hasattr(value, "__iter__"):
        return f"{type(value).__name__}[{', '.join(told(it) for it in value)}]"
    return f"{type(value).__name__}"


def _errors(error: BaseException | None) -> str:
    """An error and what it came from, with all that they carry."""
    found = []
    while error is not None:
        found.append(f"{type(error).__name__}: {error} {vars(error)}")
        error = error.__cause__ or error.__context__
    return " <- ".join(found)

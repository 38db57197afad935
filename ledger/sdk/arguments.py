"""Keyword arguments that a method of the SDK lacks: what the caller may have meant."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import wraps
from typing import ParamSpec, TypeVar

from ledger.model.events import Envelope
from ledger.model.fields import FIELDS
from ledger.model.names import did_you_mean

P = ParamSpec("P")
T = TypeVar("T")


def criteria(method: Callable[P, T]) -> Callable[P, T]:
    """Return a method of named criteria that suggests the criterion that a misspelt keyword argument may have meant."""
    known = [name for name in inspect.signature(method).parameters if name != "self"]
    allowed = frozenset(known)

    @wraps(method)
    def checked(*args: P.args, **named: P.kwargs) -> T:
        if not named.keys() <= allowed:
            name = min(named.keys() - allowed)
            hint = did_you_mean(name, known, f"There are: {', '.join(known)}.")
            raise _unexpected(method.__name__, name, hint)
        return method(*args, **named)

    return checked


def unknown_argument(ledger: object, names: Collection[str]) -> TypeError:
    """Return the error for keyword arguments that a method with an ``Envelope`` lacks, of which Python knows nothing.

    Args:
        ledger: The object whose method was called.
        names: The names of the arguments.
    """
    method, parameters = _called(ledger)
    name = min(names)
    if name in FIELDS and "fields" in parameters:
        hint = f"It is a field: give it in fields={{{name!r}: ...}}."
    else:
        known = [*parameters, *Envelope.__annotations__]
        hint = did_you_mean(name, known, f"Changes take {', '.join(Envelope.__annotations__)}.")
    return _unexpected(method, name, hint)


def _unexpected(method: str, name: str, hint: str) -> TypeError:
    return TypeError(f"{method}() got an unexpected keyword argument {name!r}. {hint}")


def _called(ledger: object) -> tuple[str, list[str]]:
    """Return the name of the public method of ``ledger`` that is being called, and its parameters without envelope."""
    frame = inspect.currentframe()
    while frame is not None:
        name = frame.f_code.co_name
        method = getattr(type(ledger), name, None)
        if not name.startswith("_") and inspect.isfunction(method) and method.__code__ is frame.f_code:
            parameters = inspect.signature(method).parameters
            return name, [each for each in parameters if each not in ("self", "envelope")]
        frame = frame.f_back
    return "A change", []

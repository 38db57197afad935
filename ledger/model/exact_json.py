"""Decoding of JSON that is evidence: nothing is lost in silence, neither digits of a number nor a repeated key.

A number is exact if the double that is nearest to it is written with the same digits: 0.1 is, 0.123456789012345678 and
100000000000000000.05 are not. Of a repeated key, JSON decoders keep the last value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from ledger.errors import InvalidInput
from ledger.model.values import canonical


class _Digits(float):
    """A number that its double does not represent exactly, with its text."""

    text: str


class _Pairs(dict[str, Any]):
    """An object in which a key is repeated, with all its pairs."""

    pairs: list[tuple[str, Any]]


def decode(text: str | bytes) -> Any:
    """Return the value of a JSON text. What is not exact in it is marked; ``plain`` removes the marks.

    Raises:
        ValueError, RecursionError: The text is not JSON, or nested too deeply.
    """
    return json.loads(text, parse_float=_number, object_pairs_hook=_object)


def value_or_text(content: Any) -> Any:
    """Return the value of JSON text if a store can represent it exactly, or else the text.

    Args:
        content: Text, or another value that ``decode`` returned: then the result is its ``exact_form``.
    """
    if not isinstance(content, str):
        return exact_form(content)
    try:
        value = decode(content)
        canonical(value)
    except (ValueError, RecursionError, InvalidInput):
        return content
    return content if _is_inexact(value) else value


def exact_form(value: Any) -> Any:
    """Return a decoded value, or its JSON text if the value would lose digits or keys."""
    return "".join(_written(value)) if _is_inexact(value) else value


def plain(value: Any) -> Any:
    """Return a decoded value as ordinary JSON, with the nearest doubles, and the last value of a repeated key."""
    if not _is_inexact(value):
        return value
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return float(value)


def repeated_key(value: Any, apart: frozenset[str] = frozenset()) -> str | None:
    """Return the path of a repeated key in a decoded value, for example ``messages[2].content``; None if there is none.

    Args:
        value: A value that ``decode`` returned.
        apart: Keys whose objects are not examined.
    """
    if isinstance(value, _Pairs):
        names = [name for name, _ in value.pairs]
        return next(name for name in names if names.count(name) > 1)
    entries: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        entries = ((name, item) for name, item in value.items() if not (name in apart and isinstance(item, dict)))
    elif isinstance(value, list):
        entries = ((f"[{index}]", item) for index, item in enumerate(value))
    for name, item in entries:
        if isinstance(item, dict | list) and (inner := repeated_key(item, apart)) is not None:
            return name + ("" if inner.startswith("[") else ".") + inner
    return None


def _number(text: str) -> float:
    nearest = float(text)
    try:
        exact = math.isfinite(nearest) and Decimal(text) == Decimal(repr(nearest))
    except InvalidOperation:  # an exponent of more than 18 digits
        exact = False
    if exact:
        return nearest
    number = _Digits(nearest)
    number.text = text
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeated = _Pairs(found)
    repeated.pairs = pairs
    return repeated


def _is_inexact(value: Any) -> bool:
    if isinstance(value, dict):
        return isinstance(value, _Pairs) or any(_is_inexact(item) for item in value.values())
    if isinstance(value, list):
        return any(_is_inexact(item) for item in value)
    return isinstance(value, _Digits)


def _written(value: Any) -> Iterator[str]:
    """Yield the parts of a value's JSON text, with every digit and every pair that was decoded."""
    if isinstance(value, dict):
        for index, (name, item) in enumerate(value.pairs if isinstance(value, _Pairs) else value.items()):
            yield ("{" if index == 0 else ", ") + json.dumps(name, ensure_ascii=False) + ": "
            yield from _written(item)
        yield "}" if value else "{}"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield "[" if index == 0 else ", "
            yield from _written(item)
        yield "]" if value else "[]"
    else:
        yield value.text if isinstance(value, _Digits) else json.dumps(value, ensure_ascii=False)

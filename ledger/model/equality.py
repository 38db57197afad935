"""Equality of JSON values in criteria: when a session has the value that a list or a count asks for.

Two values are equal if they are of the same JSON type and

- numbers are the same mathematical number: 1, 1.0 and 1e0 are equal, and so are 0 and -0.0; 9007199254740993 and
  9007199254740992.0 are not, although they are the same double. No number equals a boolean.
- strings have the same code points; they are not normalized.
- arrays have equal elements in the same order.
- objects have the same keys with equal values, in any order.

null equals only null. Every store compares by this definition, whatever text it keeps of a value.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ledger.errors import CorruptEvent, InvalidInput
from ledger.model.values import canonical, decode

_SMALLEST, _BEYOND = -(2**63), 2**64


def comparison_text(value: Any, where: str = "value") -> str:
    """Return a text that two JSON values have in common if, and only if, they are equal.

    It is the canonical text of the value after whole numbers within the range of integers were made integers. Compare
    it only within one process: releases of orjson write the exponents of large floats differently.

    Args:
        value: Any JSON value.
        where: The name of the value in messages.

    Raises:
        InvalidInput: The value cannot be recorded as JSON.
    """
    return canonical(_simplest(decode(canonical(value, where))))


def equal_texts(value: Any, texts: Iterable[str]) -> list[str]:
    """Return those of some JSON texts whose values equal ``value``. A text that is not JSON equals nothing.

    Raises:
        InvalidInput: ``value`` cannot be recorded as JSON.
    """
    wanted = comparison_text(value)
    return [text for text in texts if _text_of(text) == wanted]


def canonical_texts(value: Any, where: str = "value") -> list[str] | None:
    """Return every canonical text of the values that equal ``value``, or None if there may be many.

    There may be many if the value is an array or object that contains a number.

    Raises:
        InvalidInput: The value cannot be recorded as JSON.
    """
    text = canonical(value, where)
    plain = decode(text)
    if is_number(plain):
        return _texts_of_number(plain)
    return None if isinstance(plain, dict | list) and _has_number(plain) else [text]


def whole_and_float(number: float) -> tuple[int | None, float | None]:
    """Return a number as an integer and as a float, each None if no value of that kind equals the number."""
    simplest = _simplest(number)
    if isinstance(simplest, float):
        return None, simplest
    return simplest, float(simplest) if float(simplest) == simplest else None


def is_number(value: Any) -> bool:
    """Return True if a JSON value is a number; a boolean is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _simplest(value: Any) -> Any:
    """Return an equal value in which every whole number within the range of integers is an integer."""
    if isinstance(value, dict):
        return {key: _simplest(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_simplest(item) for item in value]
    if isinstance(value, float) and value.is_integer() and _SMALLEST <= value < _BEYOND:
        return int(value)
    return value


def _text_of(text: str) -> str | None:
    try:
        return comparison_text(decode(text))
    except (CorruptEvent, InvalidInput):  # damaged, or no value that the ledger records
        return None


def _texts_of_number(number: float) -> list[str]:
    whole, real = whole_and_float(number)
    texts = [] if whole is None else [str(whole)]
    if real is not None:
        text = canonical(real)
        if "e" in text and "e-" not in text:  # releases of orjson write the exponent 16 as 16 or +16
            unsigned = text.replace("e+", "e")
            texts += [unsigned, unsigned.replace("e", "e+")]
        else:
            texts += [text] if real else ["0.0", "-0.0"]
    return texts


def _has_number(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(_has_number(item) for item in (value.values() if isinstance(value, dict) else value))
    return is_number(value)

r"""Values as ``sql/statements/list_sessions.sql`` compares them: as texts that do not depend on the stored JSON text.

BigQuery promises neither an order of keys nor a spelling of numbers, so the statement makes a text of each value:

- a string is ``"`` and its characters, a boolean ``true`` or ``false``, null is ``null``.
- an integer is its digits; a float has 17 significant digits and an exponent, such as ``1.0000000000000000e+00``.
- an array or object is the JSON text that the warehouse returns. Which of these texts equal a value is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ledger.model.equality import equal_texts, is_number, whole_and_float
from ledger.model.values import canonical, decode

#: A (field, key, value) that a session must have.
Wanted = tuple[str, str, Any]


def wanted_texts(
    wanted: Iterable[Wanted], stored: Callable[[Sequence[str]], Mapping[str, Sequence[str]]]
) -> list[str] | None:
    r"""Return the parameter ``wanted`` of ``list_sessions``, or None if no session can have one of the values.

    Args:
        wanted: The values. A grant may have any value.
        stored: Function that returns the stored texts of arrays and objects of some attributes, by name.
    """
    compared = {(field, key): None if field == "grant" else decode(canonical(value)) for field, key, value in wanted}
    composite = [key for (_, key), value in compared.items() if isinstance(value, dict | list)]
    texts_of = stored(composite) if composite else {}
    found: list[str] = []
    for (field, key), value in compared.items():
        if field == "grant":
            texts = [""]
        elif isinstance(value, dict | list):
            texts = equal_texts(value, texts_of.get(key, ()))
        else:
            texts = scalar_texts(value)
        if not texts:
            return None
        found += [f"{field}\n{key}\n{text}" for text in texts]
    return found


def scalar_texts(value: Any) -> list[str]:
    """Return the texts of every stored value that equals a string, a number, a boolean or null."""
    if isinstance(value, str):
        return [f'"{value}']
    if not is_number(value):
        return [canonical(value)]
    whole, real = whole_and_float(value)
    texts = [] if whole is None else [str(whole)]
    if real is not None:
        texts += [f"{sign:.16e}" for sign in ([real] if real else [0.0, -0.0])]
    return texts

"""JSON values: the check of a value that is to be recorded, and its canonical text.

All stores keep these values exactly: integers in [-2**63, 2**64), finite floats, strings without lone surrogates,
objects with string keys, nested at most 250 levels deep.
"""

from __future__ import annotations

import math
import re
from enum import Enum
from typing import Any

import orjson

from ledger.errors import CorruptEvent, InvalidInput, ValueTooLarge

MAX_DEPTH = 250
#: Maximum number of items and members of a value, at all levels. An event of 8 MB has at most half as many. A list that
#: contains another one twice, which does the same, and so on, has billions of them in a few bytes of memory.
MAX_ITEMS = 8_000_000
_SMALLEST, _BEYOND = -(2**63), 2**64
_EXACT = (str, bool, type(None))
_CONTAINERS = (dict, list, tuple)
_PLAIN = frozenset((str, int, float, bool, type(None)))
_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
#: Number of items from which they are counted, which takes memory.
_MANY = 100_000
_TOO_MANY = f"has more than {MAX_ITEMS:,} items, more than an event takes; record where the content is instead"
#: Maximum number of characters of the path to a part that is too deep, in the error.
_SHOWN = 40
_TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels, or contains itself"


#: Characters refused in ids and keys: control characters, line and paragraph separators, lone surrogates.
_REFUSED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def canonical(value: Any, where: str = "value", key: str = "") -> str:
    """Return the canonical JSON text of a value: keys sorted, no white space, UTF-8.

    The text differs from that of RFC 8785 (JCS). A program that verifies a hash of the text must write numbers and
    sort keys as follows:

    - Keys are sorted by UTF-8 bytes, that is, by code points; RFC 8785 sorts by UTF-16 code units. The results differ
      only between a key with a character above U+FFFF and one with a character from U+E000 to U+FFFF.
    - Integers are written in full; RFC 8785 treats numbers as doubles, which are exact up to 2**53.
    - Floats keep the decimal point, as in ``1.0`` and ``-0.0``; RFC 8785 writes ``1`` and ``0``. An exponent is used
      from 1e16 up and below 1e-5; in RFC 8785, from 1e21 up and below 1e-6. The digits are the same: the fewest that
      read back as an equal float. Large exponents are written as orjson does: ``1e16`` in release 3.10, ``1e+16`` in
      3.13.

    Strings are escaped as in RFC 8785.

    Args:
        value: Any JSON value; tuples are written as arrays.
        where: The name of the value in messages, for example ``constraints``.
        key: The key of the value in messages, for example that of a context value; empty for none.

    Returns:
        Text that ``decode`` converts to an equal value.

    Raises:
        InvalidInput: The value, or a part of it, cannot be recorded as JSON; the message names its path.
        ValueTooLarge: The value has more than ``MAX_ITEMS`` items.
    """
    try:
        # orjson has no depth limit for tuples: some thousand nested ones overrun its buffer and crash the process. It
        # also crashes where the value of an enum, or the time zone of a datetime, raises an exception.
        if type(value) not in _PLAIN and (reason := _unsafe(value)):
            where = named(where, key)
            if reason is _TOO_MANY:
                raise too_many(where)
            _explain(value, where)
            raise InvalidInput(f"{where} {reason}.")
        text = orjson.dumps(value, option=_OPTIONS)
        # orjson writes NaN as null, so the value is read back and compared. That runs in C; the slow walk happens only
        # for values that are refused or contain tuples.
        if not isinstance(value, _EXACT) and orjson.loads(text) != value:
            _refuse(value, named(where, key), 0)
    except InvalidInput:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        where = named(where, key)
        _explain(value, where)
        raise InvalidInput(f"{where} is no JSON value: {error}.") from error
    return text.decode()


def named(field: str, key: str) -> str:
    """Return the name of a register in messages, such as ``context['region']``."""
    return f"{field}[{key!r}]" if key else field


def full_name(value: Any) -> str:
    """Return the name of a value's type with its module, such as ``numpy.float64``, or ``set`` for a builtin type."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def too_many(where: str) -> ValueTooLarge:
    """Return the error for a value with more than ``MAX_ITEMS`` items."""
    return ValueTooLarge(f"{where[:200]} {_TOO_MANY}.")


def too_deep(where: str) -> InvalidInput:
    """Return the error for a part of a value below ``MAX_DEPTH`` levels; of its path, the beginning says enough."""
    return InvalidInput(f"{where if len(where) <= _SHOWN else f'{where[:_SHOWN]}…'} {_TOO_DEEP}.")


def wrong_key(where: str, key: Any) -> InvalidInput:
    """Return the error for an object's key that is no text."""
    try:
        shown = f" {key!r:.70}" if not isinstance(key, int) or abs(key) < 10**40 else ""
    except Exception:  # noqa: BLE001 - the key's own code may raise anything
        shown = ""
    return InvalidInput(f"{where} has the key{shown} of type {full_name(key)}; JSON keys are text.")


def decode(text: str | bytes) -> Any:
    """Return the value of a stored JSON text; each call returns new objects.

    Raises:
        CorruptEvent: The text is not JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise CorruptEvent(
            f"A stored value is not the JSON that was recorded ({error}). `ledger verify` says what is damaged."
        ) from error


def check_text(text: Any, name: str, *, at_most: int = 255) -> str:
    """Return ``text`` if it is valid as an id or key.

    A valid text has 1 to ``at_most`` characters, and no control characters, line separators, lone surrogates or outer
    white space.

    Raises:
        InvalidInput: ``text`` is not valid; the message says why and names ``name``.
    """
    if type(text) is str and 0 < len(text) <= at_most and text.isprintable() and text[0] != " " != text[-1]:
        return text
    if not isinstance(text, str):
        raise InvalidInput(f"{name} must be text, not {full_name(text)}.")
    if not text:
        raise InvalidInput(f"{name} is empty; give 1 to {at_most} characters.")
    if len(text) > at_most:
        raise InvalidInput(f"{name} has {len(text)} characters; at most {at_most} are allowed.")
    if _REFUSED.search(text) or text != text.strip():
        raise InvalidInput(f"{name} {text[:40]!r} has control characters, lone surrogates or outer white space.")
    return str.__str__(text)


def check_session_id(session_id: str) -> str:
    """Return ``session_id`` if it is valid: 1 to 255 characters without control characters or outer white space.

    Raises:
        InvalidInput: ``session_id`` is not valid; the message says why.
    """
    return check_text(session_id, "session_id")


def check_whole(number: Any, name: str, *, at_least: int = 0, at_most: int = 2**63 - 1) -> int:
    """Return ``number`` if it is an int within bounds; True and 1.0 are refused.

    Raises:
        InvalidInput: ``number`` is not an int within bounds; the message names ``name``.
    """
    if type(number) is not int:
        raise InvalidInput(f"{name} must be a whole number from {at_least:,} up, not {str(number)[:70]!r}.")
    if not at_least <= number <= at_most:
        shown = number if abs(number) < 10**40 else f"a number of {number.bit_length()} bits"
        raise InvalidInput(f"{name} must be a whole number from {at_least:,} to {at_most:,}, not {shown}.")
    return number


def count_items(value: Any) -> int:
    """Return the number of items of lists, tuples and dicts within a value, at the levels that may be recorded.

    A container that occurs several times is counted each time, but visited once.
    """
    return _count(value, 1, {})


def _count(value: Any, depth: int, counted: dict[int, int]) -> int:
    kind = type(value)
    if not issubclass(kind, _CONTAINERS) or depth > MAX_DEPTH:
        return 0
    if id(value) in counted:
        return counted[id(value)]
    counted[id(value)] = 0  # for one that contains itself
    total = 0
    items = (
        dict.values(value)
        if issubclass(kind, dict)
        else list.__iter__(value)
        if issubclass(kind, list)
        else tuple.__iter__(value)
    )
    for item in items:
        total += 1 if type(item) in _PLAIN else 1 + _count(item, depth + 1, counted)
    counted[id(value)] = total
    return total


def _unsafe(value: Any) -> str:
    """Return why orjson must not see a value that is of no plain type, or an empty text."""
    if not issubclass(type(value), _CONTAINERS):
        return _unsafe_leaf(value)
    reason = _unsafe_within(value, 1, [_MANY])
    if reason is _TOO_MANY and count_items(value) <= MAX_ITEMS:
        return _unsafe_within(value, 1, [MAX_ITEMS])
    return reason


def _unsafe_within(container: Any, depth: int, left: list[int]) -> str:
    if depth > MAX_DEPTH:
        return _TOO_DEEP
    kind = type(container)
    # Exact types first, for speed: this runs in every append, and most items are text and numbers.
    if kind is dict:
        left[0] -= len(container)
        container = container.values()
    elif kind is list or kind is tuple:
        left[0] -= len(container)
    elif issubclass(kind, dict):
        left[0] -= dict.__len__(container)
        container = dict.values(container)
    elif issubclass(kind, list):
        left[0] -= list.__len__(container)
        container = list.__iter__(container)
    else:
        left[0] -= tuple.__len__(container)
        container = tuple.__iter__(container)
    if left[0] < 0:
        return _TOO_MANY
    for item in container:
        kind = type(item)
        if kind not in _PLAIN and (
            reason := _unsafe_within(item, depth + 1, left) if issubclass(kind, _CONTAINERS) else _unsafe_leaf(item)
        ):
            return reason
    return ""


def _unsafe_leaf(value: Any) -> str:
    kind = type(value)
    if not issubclass(kind, str | int | float):
        return "has a part that is no JSON value"
    if issubclass(kind, Enum):  # orjson reads the attribute ``value``, also where the enum is a number or text
        try:
            plain = type(value.value) in _PLAIN
        except Exception:  # noqa: BLE001 - a property may raise anything
            plain = False
        return "" if plain else "has an enum without plain value"
    return ""


def _explain(value: Any, where: str) -> None:
    """Raise InvalidInput for the first part of a value that orjson refuses, if it can be told which that is."""
    try:
        _refuse(value, where, 0)
        _refuse_subclass(value, where)
    except InvalidInput:
        raise
    except (TypeError, ValueError, RuntimeError, AttributeError):  # of a value that is not what it says it is
        return


def _refuse(value: Any, where: str, depth: int) -> None:
    """Raise InvalidInput if a part of a value cannot be recorded. The message names the first such part."""
    if depth > MAX_DEPTH:
        raise too_deep(where)
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidInput(f"{where} holds a lone surrogate, which no JSON text can carry.") from None
    elif isinstance(value, int):
        if not _SMALLEST <= value < _BEYOND:
            digits = value if abs(value) < 10**40 else f"of {value.bit_length()} bits"
            raise InvalidInput(f"{where} is the integer {digits}, outside [-2**63, 2**64); record it as text.")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInput(f"{where} is {value}, which JSON cannot carry; record None or text.")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse(item, f"{where}[{index}]", depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise wrong_key(where, key)
            _refuse(key, f"{where} key", depth + 1)
            _refuse(item, f"{where}.{key}", depth + 1)
    else:
        raise InvalidInput(
            f"{where} is of type {full_name(value)}, which is no JSON value; convert it first, for example to text."
        )


def _refuse_subclass(value: Any, where: str) -> None:
    """Raise InvalidInput for the first float, tuple or key whose type is derived from float, tuple or str.

    orjson writes instances of subclasses of the other types, but not of these.
    """
    if isinstance(value, float | tuple) and type(value) not in (float, tuple):
        kind = "float" if isinstance(value, float) else "list"
        raise InvalidInput(
            f"{where} is of type {full_name(value)}, which is no JSON value; convert it first, for example by {kind}()."
        )
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_subclass(item, f"{where}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                raise wrong_key(where, key)
            _refuse_subclass(item, f"{where}.{key}")

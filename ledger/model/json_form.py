"""The usual JSON form of Python values that are no JSON values: dates, decimals, dataclasses, arrays, data frames.

Only values that ``canonical`` refuses come here, so plain JSON values cost nothing. docs/python.md has a table of the
forms; a test compares it with this module. numpy, pandas and pyarrow are not imported: a value of theirs can only
exist if the program has imported them.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Set
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import PurePath
from typing import Any
from uuid import UUID

from ledger.errors import InvalidInput, ValueTooLarge
from ledger.model.values import MAX_DEPTH, MAX_ITEMS, canonical, count_items, full_name, too_deep, too_many, wrong_key

#: Types of which pydantic's JSON form is text. A datetime is a date.
_TEXT = (date, time, timedelta, Decimal, UUID, IPv4Address, IPv6Address, IPv4Network, IPv6Network)
_BYTES = (bytes, bytearray, memoryview)
#: The units of numpy's durations that have one length.
_ATTOSECONDS = {
    "W": 604_800 * 10**18,
    "D": 86_400 * 10**18,
    "h": 3_600 * 10**18,
    "m": 60 * 10**18,
    "s": 10**18,
    "ms": 10**15,
    "us": 10**12,
    "ns": 10**9,
    "ps": 10**6,
    "fs": 1_000,
    "as": 1,
}
#: How an instance of a subclass becomes the value that orjson writes of it, whatever its own ``__str__`` returns.
_EXACT: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
)


def json_form(value: Any, where: str = "value") -> Any:
    """Return the usual JSON form of a value: new lists and dicts, in which every part has its JSON form.

    Dates, times, durations, decimals, UUIDs, paths and bytes become what pydantic's JSON mode makes of them.

    Args:
        value: Any object.
        where: The name of the value in messages, for example ``constraints``.

    Raises:
        InvalidInput: The value, or a part of it, has no usual JSON form; the message names its path and full type.
        ValueTooLarge: The value has more than ``MAX_ITEMS`` items.
    """
    if count_items(value) > MAX_ITEMS:
        raise too_many(where)
    return _Form([MAX_ITEMS], nulls=False).of(value, where, 0)


class _Form:
    """Conversion of one value.

    Args:
        left: The number of items that the value may still have; all conversions of parts of one value share it.
        nulls: True within arrays and frames, where NaN and infinity stand for a missing value.
    """

    def __init__(self, left: list[int], *, nulls: bool) -> None:
        self._left, self._nulls = left, nulls

    def of(self, value: Any, path: str, depth: int) -> Any:
        """Return the JSON form of a part of the value."""
        if depth > MAX_DEPTH:
            raise too_deep(path)
        self._left[0] -= 1
        if self._left[0] < 0:
            raise too_many(path)
        try:
            return self._of(value, path, depth)
        except (InvalidInput, ValueTooLarge):
            raise
        except Exception as error:  # the value's own code may raise anything
            if _by_signal_handler(error):
                raise
            raise _failure(path, error) from error

    def _of(self, value: Any, path: str, depth: int) -> Any:
        kind = type(value)
        if value is None or kind in (str, int, bool):
            return value
        if kind is float:
            return None if self._nulls and not math.isfinite(value) else value
        found = of_library(value, path, self._left[0])
        if found is not None:
            return _Form(self._left, nulls=True).of(found[0], path, depth + 1)
        if isinstance(value, Enum):
            return self.of(value.value, path, depth + 1)
        for plain, exact in _EXACT:  # a subclass, as of numpy or of a library of quantities
            if isinstance(value, plain):
                return self.of(exact(value), path, depth + 1)
        if isinstance(value, Mapping):
            return self._object(dict.items(value) if isinstance(value, dict) else value.items(), path, depth)
        if isinstance(value, list | tuple | deque):
            items = list.__iter__(value) if isinstance(value, list) else value
            return [self.of(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(items)]
        if isinstance(value, Set):
            return sorted((self.of(item, f"{path} item", depth + 1) for item in value), key=rank)
        if isinstance(value, type):
            raise _refusal(path, value)
        return self._of_object(value, path, depth)

    def _of_object(self, value: Any, path: str, depth: int) -> Any:
        """Return the JSON form of a value that is neither a number, text nor a container."""
        kind = type(value)  # not what the value says it is, as a mock does: it would be recorded as its repr
        if issubclass(kind, PurePath):
            return str(value)
        if issubclass(kind, Decimal) and not value.is_finite():
            if self._nulls:
                return None
            raise InvalidInput(f"{path} is the decimal {value}, which JSON cannot carry; record None or text.")
        if issubclass(kind, _TEXT):
            return _by_pydantic(value, path)
        if issubclass(kind, _BYTES):
            return _of_bytes(bytes(value))
        if isinstance(value, BaseException):
            return form_of_error(value)
        dump = getattr(value, "model_dump", None)
        if callable(dump) and hasattr(type(value), "model_fields"):
            return self.of(_dumped(dump, path), path, depth + 1)
        if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)]
        elif hasattr(type(value), "__attrs_attrs__"):
            names = [attribute.name for attribute in type(value).__attrs_attrs__]
        else:
            raise _refusal(path, value)
        return self._object([(name, getattr(value, name, None)) for name in names], path, depth)

    def _object(self, items: Iterable[tuple[Any, Any]], path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in items:
            name = self._key(key, path)
            if name in found:
                raise InvalidInput(f"{path} has two keys that are {name!r} as JSON text; rename one.")
            found[name] = self.of(item, f"{path}.{name}", depth + 1)
        return found

    def _key(self, key: Any, path: str) -> str:
        """Return an object's key as text, as JSON has it."""
        if type(key) is str:
            return key
        form = None if isinstance(key, tuple | Set) else self.of(key, f"{path} key", 0)
        if isinstance(form, bool) or not isinstance(form, str | int):
            raise wrong_key(path, key)
        return str(form)


def of_library(value: Any, path: str, left: int = MAX_ITEMS) -> tuple[Any] | None:
    """Return, in a tuple, a value of numpy, pandas or pyarrow as Python's values; None if it is no such value.

    The values in a list may again be of a library. Times that no datetime can hold are text.

    Args:
        value: Any object.
        path: The name of the value in messages.
        left: Greatest number of items.

    Raises:
        InvalidInput: The value has no usual form.
        ValueTooLarge: The value has more than ``left`` items.
    """
    for convert in (_of_numpy, _of_pandas, _of_arrow):
        found = convert(value, path, left)
        if found is not None:
            return found
    return None


def imported(library: str) -> Any:
    """Return a library if the program has imported it whole, else None."""
    module = sys.modules.get(library)
    return None if getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def _of_numpy(value: Any, path: str, left: int) -> tuple[Any] | None:
    """Return, in a tuple, a numpy value as Python's values; None if it is none of numpy's."""
    numpy = imported("numpy")
    if numpy is None or not isinstance(value, numpy.generic | numpy.ndarray):
        return None
    if value.size > left:
        raise too_many(path)
    kind = value.dtype.kind
    if kind == "c":
        raise _refusal(path, value)
    if kind in "Mm" and isinstance(value, numpy.generic):
        return (None if numpy.isnat(value) else _of_numpy_time(value, path),)
    if value.dtype.names is not None:  # records: their fields are values of numpy, as those of an array are not
        return (list(value) if value.ndim else {name: value[name] for name in value.dtype.names},)
    if kind in "Mmg":  # times; a long double stays one in a list
        return (list(value) if value.ndim else value[()],)
    plain = value.tolist()
    return (_of_long_double(plain, path) if isinstance(plain, numpy.generic) else plain,)


def _of_long_double(value: Any, path: str) -> float:
    number = float(value)
    if math.isinf(number) and not sys.modules["numpy"].isinf(value):
        raise InvalidInput(f"{path} is the {full_name(value)} {value!s}, which no float can hold; record it as text.")
    return number


def _of_numpy_time(value: Any, path: str) -> timedelta | str:
    """Return a time or a duration of numpy, with all its digits."""
    unit, count = sys.modules["numpy"].datetime_data(value.dtype)
    if value.dtype.kind == "M" and unit != "generic":
        return str(value)
    if unit not in _ATTOSECONDS:
        why = {"Y": "in years, which differ in length", "M": "in months, which differ in length"}.get(
            unit, "without unit"
        )
        raise InvalidInput(f"{path} is a {full_name(value)} {why}; convert it first, for example to days.")
    length = int(value.astype("int64")) * count * _ATTOSECONDS[unit]
    nanoseconds, finer = divmod(abs(length), _ATTOSECONDS["ns"])
    if finer:
        raise InvalidInput(f"{path} is a {full_name(value)} finer than a nanosecond; round it, or record it as text.")
    if nanoseconds % 1000 == 0:
        return timedelta(microseconds=nanoseconds // 1000) * (1 if length > 0 else -1)
    # As pydantic writes durations, with more digits.
    seconds, fraction = divmod(nanoseconds, 10**9)
    text = _by_pydantic(timedelta(seconds=seconds), path)
    head = text[:-1] if text.endswith("S") else f"{text}0" if "T" in text else f"{text}T0"
    return f"{'-' if length < 0 else ''}{head}.{fraction:09}".rstrip("0") + "S"


def _of_pandas(value: Any, path: str, left: int) -> tuple[Any] | None:
    """Return, in a tuple, a value of pandas as Python's values; None if it is none of pandas'."""
    pandas = imported("pandas")
    if pandas is None:
        return None
    if value is pandas.NaT or value is pandas.NA:
        return (None,)
    if isinstance(value, pandas.Timestamp):
        return (value.isoformat().replace("+00:00", "Z") if value.nanosecond else value.to_pydatetime(),)
    if isinstance(value, pandas.Timedelta):
        return (value.to_timedelta64(),)
    listed = (pandas.DataFrame, pandas.Series, pandas.Index, pandas.api.extensions.ExtensionArray)
    if isinstance(value, listed) and value.size > left:
        raise too_many(path)
    if isinstance(value, pandas.DataFrame):
        return (_records(value, path),)
    if isinstance(value, pandas.Series):
        return (list(value) if _has_default_index(value) else _records(value.to_frame(value.name or "value"), path),)
    if isinstance(value, pandas.Index | pandas.api.extensions.ExtensionArray):
        return (list(value),)
    if isinstance(value, pandas.Period | pandas.Interval):
        return (str(value),)
    return None


def _records(frame: Any, path: str) -> list[dict[str, Any]]:
    """Return the rows of a data frame as objects. An index that is more than the numbers of the rows is a column."""
    if not _has_default_index(frame):
        try:
            frame = frame.reset_index()
        except ValueError as error:
            raise InvalidInput(f"{path} is a data frame whose index cannot be a column: {error}.") from error
    names = [".".join(map(str, it)) if isinstance(it, tuple) else str(it) for it in frame.columns]
    if len(set(names)) < len(names):
        raise InvalidInput(f"{path} is a data frame with two columns of one name; rename one.")
    columns = [frame.iloc[:, number] for number in range(len(names))]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _has_default_index(frame: Any) -> bool:
    index = frame.index
    return type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1 and index.name is None


def _of_arrow(value: Any, path: str, left: int) -> tuple[Any] | None:
    """Return, in a tuple, a value of Arrow as Python's values; None if it is none of Arrow's."""
    arrow = imported("pyarrow")
    if arrow is None:
        return None
    if isinstance(value, arrow.Table | arrow.RecordBatch):
        if len(set(value.schema.names)) < len(value.schema.names):
            raise InvalidInput(f"{path} is a table with two columns of one name; rename one.")
        if value.num_rows * value.num_columns > left:
            raise too_many(path)
        return (value.to_pylist(),)
    if isinstance(value, arrow.Array | arrow.ChunkedArray):
        if len(value) > left:
            raise too_many(path)
        return (value.to_pylist(),)
    return (value.as_py(),) if isinstance(value, arrow.Scalar) else None


def _by_pydantic(value: Any, path: str) -> str:
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        return str(to_jsonable_python(value))
    except (PydanticSerializationError, ValueError, OverflowError) as error:
        raise InvalidInput(f"{path} is a {full_name(value)} without JSON form: {error}.") from error


def _of_bytes(value: bytes) -> str:
    """Return bytes as UTF-8, or in URL-safe base64 if they are no UTF-8."""
    import base64

    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.urlsafe_b64encode(value).decode()


def _dumped(dump: Callable[..., Any], path: str) -> Any:
    try:
        return dump(mode="json")
    except Exception as error:  # a model's serializers may raise anything
        if _by_signal_handler(error):
            raise
        raise InvalidInput(f"{path} is a model that cannot be dumped: {error}") from error


def error_value(error: BaseException | Mapping[str, Any] | str) -> dict[str, Any]:
    """Return the object that is recorded of an error: an exception, an object, or its message.

    Raises:
        InvalidInput: ``error`` is none of these.
    """
    if isinstance(error, BaseException):
        return form_of_error(error)
    if isinstance(error, str):
        return {"type": "error", "message": error}
    if isinstance(error, Mapping):
        return dict(error)
    raise InvalidInput(f"error must be an exception, an object or text, not {full_name(error)}; nothing was written.")


def form_of_error(error: BaseException) -> dict[str, Any]:
    """Return the name of an exception's class and its message."""
    try:
        message = str(error)
    except Exception as failure:  # noqa: BLE001 - what failed must be recorded nevertheless
        message = f"The message cannot be rendered: {type(failure).__name__}."
    return {"type": type(error).__name__, "message": message}


def rank(item: Any) -> tuple[bool, float, str]:
    """Return a sort key: numbers first, by size, then other items by their canonical text."""
    number = isinstance(item, int | float)
    return not number, item if number else 0, canonical(item)


def _by_signal_handler(error: Exception) -> bool:
    """Return whether a signal handler raised an error, such as a time limit: the caller waits for that one."""
    handlers = {getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()} - {None}
    at = error.__traceback__
    while at is not None and at.tb_frame.f_code not in handlers:
        at = at.tb_next
    return at is not None


def _failure(path: str, error: Exception) -> InvalidInput:
    found = form_of_error(error)
    return InvalidInput(f"{path[:200]} cannot be converted: {found['type']}: {found['message'][:200]}.")


def _refusal(path: str, value: Any) -> InvalidInput:
    return InvalidInput(
        f"{path} is of type {full_name(value)}, which has no usual JSON form; convert it first, for example to text."
    )

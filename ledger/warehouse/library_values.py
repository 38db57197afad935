"""Values of numpy, pandas and pyarrow as parameters of statements.

What json_form does with them for appends is the base; a parameter's times stay times, and a Series is the list of its
values.
"""

from __future__ import annotations

from typing import Any

from ledger.errors import InvalidInput
from ledger.model.json_form import imported, of_library
from ledger.model.values import full_name


def plain_value(value: Any, name: str) -> Any:
    """Return a value of numpy, pandas or pyarrow as Python's value or list of values; any other value as it is.

    NaT and NA are None. What can be no parameter, such as a duration, stays as it is.

    Args:
        value: Any object.
        name: The name of the value in messages.

    Raises:
        InvalidInput: The value has several dimensions, or is a time finer than a microsecond.
        ValueTooLarge: It has too many values.
    """
    numpy, pandas, arrow = (imported(library) for library in ("numpy", "pandas", "pyarrow"))
    if numpy is not None:
        if isinstance(value, numpy.datetime64) and not numpy.isnat(value):
            exact = value.astype("datetime64[us]")
            if exact != value:
                raise _too_fine(value, name)
            moment = (value if numpy.datetime_data(value)[0] == "D" else exact).item()
            if isinstance(moment, int):  # as numpy gives what no datetime can hold
                raise InvalidInput(f"{name}, {value!s}, is outside the years 1 to 9999, which a TIMESTAMP can hold.")
            return moment
        if isinstance(value, numpy.timedelta64) and not numpy.isnat(value):
            return value  # for an append it is text; no parameter is a duration
        if isinstance(value, numpy.ndarray) and value.ndim > 1:
            raise _shape(value, name)
    if pandas is not None:
        if isinstance(value, pandas.Timestamp):  # NaT is none
            if value.nanosecond:
                raise _too_fine(value, name)
            return value.to_pydatetime()
        if isinstance(value, pandas.Timedelta | pandas.Period | pandas.Interval):
            return value
        if isinstance(value, pandas.DataFrame | pandas.MultiIndex):
            raise _shape(value, name)
        if isinstance(value, pandas.Series):
            value = value.array
    if arrow is not None and isinstance(value, arrow.Table | arrow.RecordBatch):
        raise _shape(value, name)
    found = of_library(value, name)
    if found is None:
        return value
    (plain,) = found
    return [plain_value(item, name) for item in plain] if isinstance(plain, list) else plain_value(plain, name)


def _too_fine(value: Any, name: str) -> InvalidInput:
    return InvalidInput(
        f"{name}, {value!s}, is a {full_name(value)} finer than a microsecond, which no TIMESTAMP has; round it first."
    )


def _shape(value: Any, name: str) -> InvalidInput:
    return InvalidInput(f"{name} is a {full_name(value)}; pass one column of it, or a list.")

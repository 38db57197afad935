"""Days, names and numbers as charts and their tables show them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

Row = Mapping[str, Any]
#: Maximum number of characters of a name in a chart.
LABEL = 32


class Days(NamedTuple):
    """A range of days in UTC, both ends included."""

    first: date
    last: date

    @property
    def length(self) -> int:
        """Number of days."""
        return (self.last - self.first).days + 1

    @property
    def text(self) -> str:
        """The range in words: ``2026-11-01 to 2026-11-30``, or the day if there is one."""
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"

    @property
    def before(self) -> Days:
        """As many days, immediately before the first one."""
        return Days(self.first - timedelta(days=self.length), self.first - timedelta(days=1))

    def all(self) -> list[date]:
        """Return each day."""
        return [self.first + timedelta(days=number) for number in range(self.length)]


def number(value: Any) -> float:
    """Return a number of an answer, or 0 if it is NULL or not finite, which no chart can show."""
    return known(value) or 0


def known(value: Any) -> float | None:
    """Return a number of an answer, or None if it is NULL or not finite."""
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def ratio(part: float, whole: float) -> float | None:
    """Return a share, or None if there is nothing to have a share in."""
    return part / whole if whole else None


def label(name: Any) -> str:
    """Return a name on one line, cut to ``LABEL`` characters. Control characters become question marks."""
    text = "(none)" if name is None else str(name)
    shown = "".join(each if each.isprintable() else "?" for each in text) or '""'
    return shown if len(shown) <= LABEL else f"{shown[: LABEL - 1]}…"


def labels(texts: Mapping[Any, Any]) -> dict[Any, str]:
    """Map things to labels that no other one has: texts that are alike once they are cut are numbered.

    Args:
        texts: The whole text of each thing.
    """
    found: dict[Any, str] = {}
    taken: set[str] = set()
    for thing, text in texts.items():
        shown, count = label(text), 1
        while shown in taken:
            count += 1
            shown = f"{label(text)} ({count})"
        taken.add(shown)
        found[thing] = shown
    return found


class Drawn(NamedTuple):
    """What a chart function returns."""

    #: Names of the columns of ``rows``, with units.
    columns: tuple[str, ...]
    #: The numbers of the chart as a table.
    rows: list[tuple[Any, ...]]
    #: The chart, as an Altair object without title; None if there is no data.
    body: Any = None
    #: What one must know to read the chart, beside its title.
    note: str = ""


class Ranked(NamedTuple):
    """The largest of many things, and the others as one."""

    #: Label of each thing; the others have the label ``others``.
    labels: dict[Any, str]
    #: The labels that are shown, the largest first and the others last.
    order: list[str]
    #: Number of the others.
    rest: int


def ranked(sizes: Mapping[Any, float], limit: int, text: Callable[[Any], Any] = lambda thing: thing) -> Ranked:
    """Rank things by size. If there are more than ``limit``, the smaller ones share a label.

    Args:
        sizes: The size of each thing.
        limit: Maximum number of labels, with that of the others.
        text: Returns the text of a thing.
    """
    things = sorted(sizes, key=lambda thing: (-sizes[thing], str(thing)))
    shown = things if len(things) <= limit else things[: limit - 1]
    found = labels({thing: text(thing) for thing in shown})
    order, rest = list(found.values()), len(things) - len(shown)
    if rest:
        order.append(f"{rest:,} others")
        found |= dict.fromkeys(things[limit - 1 :], order[-1])
    return Ranked(found, order, rest)


def summed(rows: Iterable[Row], keys: Sequence[str], columns: Sequence[str]) -> dict[Any, dict[str, Any]]:
    """Sum columns by the values of other columns. A sum is None if none of its numbers is known.

    Args:
        rows: The rows.
        keys: The columns to sum by. A single one is the key of its sums, and several are a tuple.
        columns: The columns to sum.
    """
    found: dict[Any, dict[str, Any]] = {}
    for row in rows:
        key = row[keys[0]] if len(keys) == 1 else tuple(row[each] for each in keys)
        sums = found.setdefault(key, dict.fromkeys(columns))
        for column in columns:
            value = known(row[column])
            if value is not None:
                sums[column] = (sums[column] or 0) + value
    return found

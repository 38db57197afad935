"""Numbers as people read them: counts, tokens, durations, prices, ratios and changes. What is not known is ``-``."""

from __future__ import annotations

import math
from typing import TypeGuard

#: What stands for a number that is not known.
UNKNOWN = "-"
_LARGE = ((1e12, "T"), (1e9, "B"), (1e6, "M"))
_BLOCKS = "▁▂▃▄▅▆▇█"


def count_text(number: float | None) -> str:
    """Return a count: ``1,217``, and from a million on in short: ``1.2M``."""
    if not _is_known(number):
        return UNKNOWN
    for size, letter in _LARGE:
        if abs(number) >= size * 0.9995:
            short = number / size
            return f"{short:,.0f}{letter}" if abs(short) >= 1000 else f"{short:.3g}{letter}"
    return f"{number:,.0f}"


def ratio_text(ratio: float | None) -> str:
    """Return a ratio as percent: ``87%``, ``0.4%``. Only 0 is ``0%``, and only 1 is ``100%``."""
    if not _is_known(ratio):
        return UNKNOWN
    percent = ratio * 100
    if 0 < percent < 0.1:
        return "<0.1%"
    if 99.9 < percent < 100:
        return ">99.9%"
    whole = round(percent)
    return f"{percent:.1f}%" if 0 < percent < 10 or (whole >= 100 > percent) else f"{whole}%"


def duration_text(milliseconds: float | None) -> str:
    """Return a duration with a unit that suits it: ``850 ms``, ``2.1 s``, ``3.5 min``, ``7 h``, ``2 d``."""
    if not _is_known(milliseconds):
        return UNKNOWN
    if milliseconds < 9.95:
        return f"{milliseconds:.2g} ms"
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    for unit, size, limit in (("s", 1e3, 59_950), ("min", 6e4, 3_597_000), ("h", 3.6e6, 172_000_000)):
        if milliseconds < limit:
            return f"{max(milliseconds / size, 1):.3g} {unit}"  # 59.96 s are 1 min
    return f"{milliseconds / 8.64e7:,.0f} d"


def dollars_text(dollars: float | None) -> str:
    """Return a price: ``$12.30``, ``$1,217``, and below a cent with two digits that count: ``$0.00042``."""
    if not _is_known(dollars):
        return UNKNOWN
    sign, amount = "-" if dollars < 0 else "", abs(dollars)
    if amount == 0 or 0.00995 <= amount < 999.995:
        return f"{sign}${amount:.2f}"
    if amount >= 999.995:
        return f"{sign}${count_text(amount)}"
    digits = min(1 - math.floor(math.log10(amount)), 12)
    return f"{sign}${amount:.{digits}f}"


def change_text(now: float | None, before: float | None) -> str:
    """Return how much a number grew: ``+12%``, ``-40%``, ``3.5x``; unknown if it was 0 or is not known."""
    if not _is_known(now) or not _is_known(before) or before <= 0:
        return UNKNOWN
    change = now / before - 1
    if change >= 2:
        return f"{now / before:,.3g}x" if now / before < 1000 else ">999x"
    percent = round(change * 100)
    if percent:
        return f"{percent:+d}%"
    return "0%" if now == before else "<+1%" if change > 0 else "<-1%"


def points_text(now: float | None, before: float | None) -> str:
    """Return by how many percentage points a ratio changed: ``+2.5 pts``."""
    if not _is_known(now) or not _is_known(before):
        return UNKNOWN
    points = round((now - before) * 100, 1)
    return f"{points:+.3g} pts" if points else "0 pts"


def sparkline(numbers: list[float | None], blocks: str = _BLOCKS) -> str:
    """Return a character for each number, the taller the larger. 0 is the lowest one, and what is not known a space.

    Args:
        numbers: The numbers, at least 0.
        blocks: The characters, from the lowest to the tallest.
    """
    largest = max((number for number in numbers if _is_known(number)), default=0)
    steps = len(blocks) - 1
    return "".join(
        " " if not _is_known(number) else blocks[math.ceil(number / largest * steps) if largest > 0 else 0]
        for number in numbers
    )


def _is_known(number: float | None) -> TypeGuard[float]:
    return number is not None and math.isfinite(number)

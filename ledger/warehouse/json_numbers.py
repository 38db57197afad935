"""Spell the doubles of JSON texts so that BigQuery's exact parsing accepts them.

BigQuery parses a number exactly only if the number, written again by BigQuery, has the same digits. BigQuery writes
doubles with Grisu2, which for about one double in a thousand does not find the shortest digits: 67.174118 is written
6717411800000001e-14, which is the same double, so ``67.174118`` is refused and ``6717411800000001e-14`` is accepted.

Source: ``CheckNumberRoundtrip`` of github.com/google/zetasql (public/json_value.cc), and "Printing Floating-Point
Numbers Quickly and Accurately with Integers" (Loitsch 2010), figure 6, with the constants of nlohmann's JSON library,
which zetasql writes doubles with. ``tools/json_doubles.py`` compares this module with Google's analyzer.
"""

from __future__ import annotations

import re
import struct
from decimal import Decimal
from functools import lru_cache

#: A string, which is skipped, or a number with a fraction or an exponent.
_TOKENS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9]+(?:\.[0-9]+(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)')
_MAYBE_DOUBLE = re.compile(r"[0-9][.eE]")
#: Bounds of the binary exponent of a scaled double, as nlohmann's library has them; cached powers of ten are 8 apart.
_ALPHA, _FIRST_POWER, _POWER_STEP = -60, -300, 8


def exactly_parsable(text: str) -> str:
    """Return a JSON text with the same values, in which exact parsing accepts every double.

    Args:
        text: JSON text whose doubles are written with the fewest digits, as ``ledger.model.values.canonical`` does.
    """
    return _TOKENS.sub(_respelled, text) if _MAYBE_DOUBLE.search(text) else text


def _respelled(token: re.Match[str]) -> str:
    number = token[0]
    if number[0] == '"':
        return number
    spelling = bigquery_spelling(float(number))
    return number if Decimal(spelling) == Decimal(number) else spelling


@lru_cache(maxsize=4096)
def bigquery_spelling(number: float) -> str:
    """Return the digits with which BigQuery writes a finite double, as an integer with an exponent of ten."""
    bits = int.from_bytes(struct.pack(">d", abs(number)))
    if not bits:
        return "-0.0" if struct.pack(">d", number)[0] else "0.0"
    digits, exponent = _grisu2(bits >> 52, bits & (2**52 - 1))
    return f"{'-' if number < 0 else ''}{digits}e{exponent}"


def _grisu2(biased: int, fraction: int) -> tuple[str, int]:
    """Return digits and a decimal exponent for a positive double, given its biased exponent and its fraction."""
    significand, exponent = (fraction + 2**52, biased - 1075) if biased else (fraction, -1074)
    # The boundaries of the interval of numbers that read back as this double.
    upper, upper_exponent = 2 * significand + 1, exponent - 1
    lower, lower_exponent = 2 * significand - 1, exponent - 1
    if fraction == 0 and biased > 1:  # the next lower double is half as far away
        lower, lower_exponent = 4 * significand - 1, exponent - 2
    shift = 64 - upper.bit_length()
    upper, upper_exponent = upper << shift, upper_exponent - shift
    lower <<= lower_exponent - upper_exponent
    significand <<= 64 - significand.bit_length()

    power, power_exponent, decimal_exponent = _scale_for(upper_exponent)
    high = _times(upper, power) - 1  # inside of the interval, whatever was lost by rounding
    low = _times(lower, power) + 1
    middle = _times(significand, power)
    fraction_bits = -(upper_exponent + power_exponent + 64)
    digits, dropped, step, rest, distance, width = _digits_of(high, high - middle, high - low, fraction_bits)
    return _closest(digits, step, rest, distance, width), dropped - decimal_exponent


def _digits_of(high: int, distance: int, width: int, fraction_bits: int) -> tuple[str, int, int, int, int, int]:
    """Generate the fewest digits of ``high`` whose rest is less than the width of the interval.

    Returns:
        The digits, the decimal exponent of the last one, the value of one in the last digit, the rest below it, and the
        distance and the width at the same scale.
    """
    whole, part = divmod(high, 1 << fraction_bits)
    text = str(whole)
    for count in range(1, len(text) + 1):
        left = len(text) - count
        unit = 10**left << fraction_bits
        rest = high % unit
        if rest <= width:
            return text[:count], left, unit, rest, distance, width
    exponent = 0
    while part > width or not exponent:
        part, width, distance, exponent = part * 10, width * 10, distance * 10, exponent - 1
        digit, part = divmod(part, 1 << fraction_bits)
        text += str(digit)
    return text, exponent, 1 << fraction_bits, part, distance, width


def _closest(digits: str, step: int, rest: int, distance: int, width: int) -> str:
    """Lower the last digit while that brings the number closer to the double and leaves it inside of the interval."""
    last = int(digits[-1])
    while (
        rest < distance
        and width - rest >= step
        and (rest + step < distance or distance - rest > rest + step - distance)
    ):
        last, rest = last - 1, rest + step
    return digits[:-1] + str(last)


def _times(left: int, right: int) -> int:
    """Return the upper 64 bits of a product of two 64-bit numbers, rounded."""
    return (left * right + 2**63) >> 64


@lru_cache(maxsize=128)
def _scale_for(exponent: int) -> tuple[int, int, int]:
    """Return a power of ten that scales a number with this binary exponent into the range of digit generation.

    Returns:
        The power's 64-bit significand and binary exponent, and its decimal exponent.
    """
    wanted = _ALPHA - exponent - 1
    product = wanted * 78913  # 78913 / 2**18 is log10(2); C++ divides towards zero
    least = abs(product) // 2**18 * (1 if product >= 0 else -1) + (wanted > 0)
    decimal = _FIRST_POWER + _POWER_STEP * ((least - _FIRST_POWER + _POWER_STEP - 1) // _POWER_STEP)
    if decimal >= 0:
        return *_normalized(10**decimal, 1), decimal
    return *_normalized(1, 10**-decimal), decimal


def _normalized(numerator: int, denominator: int) -> tuple[int, int]:
    """Return a fraction as a 64-bit significand, rounded, and a binary exponent."""
    exponent = numerator.bit_length() - denominator.bit_length() - 64
    while True:
        above, below = numerator << max(-exponent, 0), denominator << max(exponent, 0)
        significand = (2 * above + below) // (2 * below)
        if significand >= 2**64:
            exponent += 1
        elif significand < 2**63:
            exponent -= 1
        else:
            return significand, exponent

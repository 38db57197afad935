"""Numbers as people read them, and a mark for what is not known."""

from __future__ import annotations

import pytest

from ledger.analytics.quantities import (
    change_text,
    count_text,
    dollars_text,
    duration_text,
    points_text,
    ratio_text,
    sparkline,
)

NAN = float("nan")


@pytest.mark.parametrize(
    ("text", "number", "expected"),
    [
        (count_text, 0, "0"),
        (count_text, 1217, "1,217"),
        (count_text, 999_499, "999,499"),
        (count_text, 1_234_567, "1.23M"),
        (count_text, 999_900_000, "1B"),
        (count_text, -5, "-5"),
        (count_text, 2.5e15, "2,500T"),
        (ratio_text, 0, "0%"),
        (ratio_text, 0.0004, "<0.1%"),
        (ratio_text, 0.054, "5.4%"),
        (ratio_text, 0.873, "87%"),
        (ratio_text, 0.9995, ">99.9%"),
        (ratio_text, 0.996, "99.6%"),
        (ratio_text, 1, "100%"),
        (duration_text, 0, "0 ms"),
        (duration_text, 0.25, "0.25 ms"),
        (duration_text, 850, "850 ms"),
        (duration_text, 999.7, "1 s"),
        (duration_text, 2100, "2.1 s"),
        (duration_text, 59_960, "1 min"),
        (duration_text, 210_000, "3.5 min"),
        (duration_text, 7 * 3.6e6, "7 h"),
        (duration_text, 50 * 3.6e6, "2 d"),
        (dollars_text, 0, "$0.00"),
        (dollars_text, 12.3, "$12.30"),
        (dollars_text, 1217, "$1,217"),
        (dollars_text, 0.00042, "$0.00042"),
        (dollars_text, 1e-15, "$0.000000000000"),
        (dollars_text, -2, "-$2.00"),
    ],
)
def test_a_number_is_short(text, number, expected):
    assert text(number) == expected


@pytest.mark.parametrize("text", [count_text, ratio_text, duration_text, dollars_text])
@pytest.mark.parametrize("number", [None, NAN, float("inf")])
def test_what_is_not_known_is_never_0(text, number):
    assert text(number) == "-"


@pytest.mark.parametrize(
    ("now", "before", "expected"),
    [
        (12, 10, "+20%"),
        (6, 10, "-40%"),
        (10, 10, "0%"),
        (1001, 1000, "<+1%"),
        (999, 1000, "<-1%"),
        (35, 10, "3.5x"),
        (1e9, 1, ">999x"),
        (0, 10, "-100%"),
        (5, 0, "-"),
        (0, 0, "-"),
        (None, 5, "-"),
        (5, None, "-"),
        (5, -5, "-"),
    ],
)
def test_a_change_is_relative_to_what_was_known_before(now, before, expected):
    assert change_text(now, before) == expected


def test_a_ratio_changes_by_points():
    assert points_text(0.79, 0.901) == "-11.1 pts"
    assert points_text(0.5, 0.5) == "0 pts"
    assert points_text(None, 0.5) == "-"


def test_a_sparkline_shows_0_as_the_lowest_and_the_unknown_as_nothing():
    assert sparkline([0, 1, None, 7, 3.5]) == "▁▂ █▅"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([None]) == " "
    assert sparkline([]) == ""
    assert sparkline([0, 2], "_#") == "_#"

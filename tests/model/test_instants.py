"""Instants: three forms, one meaning."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import InvalidInput
from ledger.model.instants import from_micros, from_text, to_micros, to_text

zones = st.builds(timezone, st.integers(-1439, 1439).map(lambda minutes: timedelta(minutes=minutes)))
instants = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=zones)  # noqa: DTZ001 - zoned by zones


@given(instants)
def test_an_instant_comes_back_from_micros_and_text(instant):
    assert from_micros(to_micros(instant)) == instant
    assert from_text(to_text(instant)) == instant
    assert from_micros(to_micros(instant)).utcoffset() == timedelta(0)


@given(instants, instants)
def test_the_text_of_instants_sorts_as_they_do(one, other):
    assert (to_text(one) < to_text(other)) == (one < other)


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (datetime(2026, 11, 21, 5, tzinfo=UTC), "2026-11-21T05:00:00.000000Z"),
        (datetime(2026, 11, 21, 5, tzinfo=timezone(timedelta(hours=2))), "2026-11-21T03:00:00.000000Z"),
        (datetime(999, 1, 1, tzinfo=UTC), "0999-01-01T00:00:00.000000Z"),
        (datetime(1, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), "0001-01-01T00:00:00.000000Z"),
        (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "9999-12-31T23:59:59.999999Z"),
        (
            datetime(9999, 12, 31, 22, 59, 59, 999999, tzinfo=timezone(-timedelta(hours=1))),
            "9999-12-31T23:59:59.999999Z",
        ),
    ],
)
def test_text_is_rfc_3339_in_utc_with_six_decimals(instant, text):
    assert to_text(instant) == text


def test_micros_count_from_1970():
    assert to_micros(datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC)) == 1_000_005
    assert to_micros(datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)) == -1


def test_a_naive_datetime_is_refused_with_the_way_to_mend_it():
    with pytest.raises(InvalidInput, match=r"at 2026-01-01T00:00:00 has no time zone; add one, .*timezone\.utc"):
        to_micros(datetime(2026, 1, 1), "at")  # noqa: DTZ001


@pytest.mark.parametrize("instant", ["2026-01-01", 5, None])
def test_what_is_no_datetime_is_refused(instant):
    with pytest.raises(InvalidInput, match="datetime with a time zone"):
        to_micros(instant)


@pytest.mark.parametrize(
    "instant",
    [
        datetime(9999, 12, 31, 23, 59, tzinfo=timezone(-timedelta(hours=5))),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))),
    ],
)
def test_an_instant_that_utc_cannot_express_is_refused(instant):
    with pytest.raises(InvalidInput, match="years 1 to 9999"):
        to_micros(instant)
    with pytest.raises(InvalidInput, match="years 1 to 9999"):
        from_text(instant.isoformat())


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00", 5, None])
def test_text_that_is_no_instant_is_refused(text):
    with pytest.raises(InvalidInput):
        from_text(text)

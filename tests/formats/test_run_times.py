"""Times of recorded runs: the forms that are read, and the refusal of what looks like a time and is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import InvalidInput, SessionLedger
from ledger.formats.openai_chat import import_runs

NOW = datetime(2026, 11, 30, tzinfo=UTC)
THEN = datetime(2026, 11, 20, 10, tzinfo=UTC)
SECONDS = 1_795_168_800


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SessionLedger]:
    with SessionLedger.open(f"sqlite:///{tmp_path / 'ledger.db'}?synchronous=NORMAL") as opened:
        yield opened


def times(ledger: SessionLedger, run: dict[str, Any], *messages: dict[str, Any]) -> list[datetime]:
    given = [{"role": "user", "content": "hi", **keys} for keys in messages or ({},)]
    import_runs(ledger.store, [json.dumps({**run, "id": "r", "messages": given}).encode()], clock=lambda: NOW)
    return [event.occurred_at for event in ledger.history("r")]


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-20T10:00:00Z",
        "2026-11-20T12:00:00.000+02:00",
        "2026-11-20 10:00",
        " 2026-11-20 10:00:00 UTC",
        "2026-11-20 10:00:00.000000 UTC",
        "2026-11-20 10:00:00 +0000 UTC",
        "2026-11-20 12:00:00 +0200",
        "Fri, 20 Nov 2026 10:00:00 GMT",
        "20 Nov 2026 12:00:00 +0200",
        *(SECONDS * 1000**power for power in range(4)),
        *(str(SECONDS * 1000**power) for power in range(4)),
        float(SECONDS),
        "1.7951688E9",
    ],
)
def test_a_time_is_read_in_each_form_that_other_programs_write(ledger: SessionLedger, value: Any) -> None:
    assert times(ledger, {}, {"created_at": value}) == [THEN] * 3


def test_parts_of_a_second_are_kept(ledger: SessionLedger) -> None:
    given = [{"timestamp": value} for value in ("2026-11-20 10:00:00.25 UTC", SECONDS + 0.5, f"{SECONDS}.75")]
    assert times(ledger, {}, *given)[1:4] == [THEN + timedelta(seconds=part / 4) for part in (1, 2, 3)]


def test_a_date_is_its_first_moment_in_utc(ledger: SessionLedger) -> None:
    assert times(ledger, {"created": "2026-11-20", "completed_at": "20261121"}) == [
        *[datetime(2026, 11, 20, tzinfo=UTC)] * 2,
        datetime(2026, 11, 21, tzinfo=UTC),
    ]


@pytest.mark.parametrize(
    "value",
    ["11/20/2026 10:00", "bad", "yesterday", "10:42", "2026", "12", "20261120100000", "32 Nov 2026", 12, -1, 1e30],
)
def test_what_cannot_be_read_as_a_time_is_refused_with_its_line_and_key(ledger: SessionLedger, value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^Line 1: created_at .* is (not a time such as 2026-|in the future)"):
        times(ledger, {"created_at": value})
    with pytest.raises(InvalidInput, match=r"^Line 1: messages\.1\.create_time .* is (not a time|in the future)"):
        times(ledger, {}, {}, {"create_time": value})
    assert not ledger.list_sessions()


@pytest.mark.parametrize("value", ["2026-12-01T00:00:00Z", "2199-01-01 00:00:00 UTC", 4_102_444_800])
def test_a_time_in_the_future_is_refused(ledger: SessionLedger, value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^Line 1: updated_at .* is in the future: it is 2026-11-30T00:00:00"):
        times(ledger, {"updated_at": value})


def test_a_clock_that_is_a_few_minutes_ahead_is_no_reason_to_refuse(ledger: SessionLedger) -> None:
    assert times(ledger, {"created_at": "2026-11-30T00:04:00Z"}) == [NOW] * 3


@pytest.mark.parametrize("value", ["2016-11-20T10:00:00Z", "1815-06-18", 1_000_000_000])
def test_a_time_of_more_than_ten_years_ago_is_refused(ledger: SessionLedger, value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^Line 1: created_at .* is more than ten years ago"):
        times(ledger, {"created_at": value})


@pytest.mark.parametrize("value", [None, "", " ", 0, "0", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00+00:00"])
def test_a_time_that_is_not_set_is_no_time(ledger: SessionLedger, value: Any) -> None:
    assert times(ledger, {"created_at": value, "started_at": "2026-11-20T10:00:00Z"}) == [THEN] * 3


@pytest.mark.parametrize("value", [True, [0.0, 3.2], {"offset": 3}, 3.2, 17, -1])
@pytest.mark.parametrize("name", ["timestamp", "created"])
def test_a_value_that_is_no_time_may_have_a_name_that_times_have(ledger: SessionLedger, name: str, value: Any) -> None:
    assert times(ledger, {"created_at": SECONDS}, {name: value}) == [THEN] * 3
    (message,) = ledger.get_messages("r")
    assert message.metadata == {name: value}

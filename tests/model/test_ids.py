"""Ids: the day inside an id, ids of the caller's own, idempotency keys."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest

from ledger import InvalidInput
from ledger.clock import new_id, utc_now
from ledger.model.ids import check_created_at, created_at_for, created_at_of, creation_day, event_id_for
from ledger.model.values import check_text
from ledger.testing import START, uuid7


def test_the_creation_time_is_inside_the_id_to_the_millisecond():
    now = datetime(2026, 3, 5, 23, 59, 59, 999_999, tzinfo=UTC)
    assert created_at_of(uuid7(now, 1)) == now.replace(microsecond=999_000)
    assert created_at_for(uuid7(now, 1), now) == now.replace(microsecond=999_000)


def test_new_ids_carry_the_instant_they_were_made_for_and_sort_by_its_microsecond():
    moments = [START + timedelta(microseconds=it) for it in range(2000)]
    ids = [new_id(moment) for moment in moments]
    assert ids == sorted(ids)
    assert [created_at_of(it) for it in ids] == [START + timedelta(milliseconds=it // 1000) for it in range(2000)]
    assert len({new_id(START) for _ in range(2000)}) == 2000


def test_the_clock_is_aware_and_in_utc():
    assert utc_now().utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "foreign",
    [
        "chat-17",
        "",
        str(uuid.UUID(int=4 << 76 | 2 << 62)),
        uuid7(START, 1).upper(),
        uuid7(START, 1) + "\n",
        uuid7(START, 1)[:-1],
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
        uuid7(START, 1).replace("-", ""),
    ],
    ids=repr,
)
def test_other_ids_have_no_day_inside(foreign):
    assert created_at_of(foreign) is None


def test_the_bounds_of_a_uuid7s_time():
    assert created_at_of("00000000-0000-7000-8000-000000000000") == datetime(1970, 1, 1, tzinfo=UTC)
    assert created_at_of("e677ccf9-7fff-7000-8000-000000000000") == datetime(
        9999, 12, 30, 23, 59, 59, 999000, tzinfo=UTC
    )
    assert created_at_of("e677ccf9-8000-7000-8000-000000000000") is None  # there is no day after it
    assert created_at_of("e677d21f-dc00-7000-8000-000000000000") is None


def test_a_session_with_an_id_of_the_callers_own_begins_now():
    now = START.astimezone(timezone(timedelta(hours=9)))
    assert created_at_for("chat-17", now) == START
    assert created_at_for("chat-17", now).utcoffset() == timedelta(0)


@pytest.mark.parametrize("days", [-3651, 366])
def test_a_day_that_no_warehouse_takes_is_refused(days):
    with pytest.raises(InvalidInput, match="ten years in the past or one year in the future"):
        created_at_for(uuid7(START + timedelta(days=days), 1), START)


@pytest.mark.parametrize(("days", "beyond"), [(-3650, -1), (365, 1)])
def test_the_last_days_that_a_warehouse_takes(days, beyond):
    last = START + timedelta(days=days)
    assert check_created_at(last, START) is None
    with pytest.raises(InvalidInput, match="ten years in the past"):
        check_created_at(last + timedelta(microseconds=beyond), START)


def test_a_day_is_a_day_in_utc():
    late = datetime(2026, 3, 5, 23, 30, tzinfo=timezone(timedelta(hours=-5)))
    assert creation_day(late) == (datetime(2026, 3, 6, tzinfo=UTC), datetime(2026, 3, 7, tzinfo=UTC))


def test_a_uuid_stands_for_itself_as_idempotency_key():
    key = uuid7(START, 7)
    assert event_id_for(key, "ada") == event_id_for(key.upper(), "bob") == key


def test_another_key_maps_to_one_uuid_for_each_user():
    ada = event_id_for("order-17", "ada")
    assert ada == event_id_for("order-17", "ada")
    assert uuid.UUID(ada).version == 5
    assert len({ada, event_id_for("order-17", "bob"), event_id_for("order-18", "ada")}) == 3


def test_user_and_key_cannot_run_into_each_other():
    assert event_id_for("b:c", "a") != event_id_for("c", "a:b")
    assert event_id_for("2:k", "1") != event_id_for("k", "1:2")


@pytest.mark.parametrize("key", ["", " k", "k\n", "\ud800", "k" * 1025, 5, b"k", ["k"]], ids=ascii)
def test_a_key_that_cannot_be_one_is_refused(key):
    with pytest.raises(InvalidInput, match="event_id"):
        event_id_for(key, "ada")


def test_a_long_key_is_taken():
    assert event_id_for("k" * 1024, "ada") != event_id_for("k" * 1023, "ada")


def test_thirty_two_hex_digits_are_a_key_of_their_user_and_no_uuid():
    key = "0123456789abcdef0123456789abcdef"
    assert event_id_for(key, "ada") != event_id_for(key, "bob")


@pytest.mark.parametrize("name", ["Orders 👩\u200d💻", "注文\u3000推移", "Orders\u00a0Trend"])
def test_joined_emoji_and_wide_spaces_may_stand_in_ids_and_keys(name):
    assert check_text(name, "key") == name

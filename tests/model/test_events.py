"""Events before they are recorded: checked whole, and nothing of the caller's kept."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from datetime import datetime

import pytest

from ledger import Change, InvalidInput, ValueTooLarge
from ledger.model.events import MAX_CHANGES, MAX_EVENT_BYTES, ROW_BYTES, prepare
from ledger.testing import event, recorded

GOOD = event(1, Change("title", value="x"))


@pytest.mark.parametrize(
    "event_type",
    ["", "created", "Session.created", "session.", ".created", "session created", "a.b\n", "a." + "b" * 254, 5, None],
)
def test_an_event_type_names_a_thing_and_what_happened(event_type):
    with pytest.raises(InvalidInput, match="event_type"):
        prepare(replace(GOOD, event_type=event_type))


def test_an_event_type_may_have_several_parts():
    assert prepare(replace(GOOD, event_type="a." + "b" * 253))
    assert prepare(replace(GOOD, event_type="agent2.plan_step.was_approved"))


@pytest.mark.parametrize("part", ["event_id", "actor", "user_id"])
@pytest.mark.parametrize("text", ["", " a", "\ud800", "a" * 256, 5], ids=ascii)
def test_ids_and_actors_are_checked(part, text):
    with pytest.raises(InvalidInput, match=part):
        prepare(replace(GOOD, **{part: text}))


def test_a_naive_time_is_refused():
    with pytest.raises(InvalidInput, match="occurred_at"):
        prepare(replace(GOOD, occurred_at=datetime(2026, 1, 1)))  # noqa: DTZ001


@pytest.mark.parametrize("changes", [[], [Change("context", str(n), n) for n in range(MAX_CHANGES + 1)]], ids=len)
def test_an_event_holds_one_to_a_thousand_changes(changes):
    with pytest.raises(InvalidInput, match="1 to 1,000 changes" if changes else "changes nothing"):
        prepare(replace(GOOD, changes=changes))


def test_a_thousand_changes_fit():
    made = prepare(replace(GOOD, changes=[Change("context", str(n), n) for n in range(MAX_CHANGES)]))
    assert len(made.changes) == MAX_CHANGES


@pytest.mark.parametrize(
    "changes",
    [
        None,
        5,
        Change("title", value="x"),
        [("title", "", "x")],
        [{"field": "title"}],
        "title",
        [None],
        [Change("title", removed="yes")],
        [Change("title", value="x", removed=None)],
    ],
    ids=repr,
)
def test_what_is_no_change_is_refused(changes):
    with pytest.raises(InvalidInput, match="Change"):
        prepare(replace(GOOD, changes=changes))


def test_a_slot_is_written_once_in_an_event():
    with pytest.raises(InvalidInput, match="title '' twice"):
        prepare(replace(GOOD, changes=[Change("title", value="a"), Change("title", removed=True)]))
    assert prepare(replace(GOOD, changes=[Change("tag", "a", True), Change("tag", "b", True)]))


def test_an_event_over_the_limit_is_refused_with_size_and_limit():
    with pytest.raises(ValueTooLarge, match="8,000,000") as refused:
        prepare(replace(GOOD, changes=[Change("strategy", value="é" * (MAX_EVENT_BYTES // 2))]))
    assert (refused.value.size, refused.value.limit) == (MAX_EVENT_BYTES + 2 + ROW_BYTES, MAX_EVENT_BYTES)


def test_the_limit_counts_bytes_of_all_values_keys_and_rows_together():
    halves = [Change("context", key, "x" * (MAX_EVENT_BYTES // 2 - 3 - ROW_BYTES)) for key in "ab"]
    assert prepare(replace(GOOD, changes=halves))
    with pytest.raises(ValueTooLarge):
        prepare(replace(GOOD, changes=[*halves, Change("title", value="")]))


def test_the_limit_counts_the_idempotency_key_once_for_each_row():
    key, rows = "é" * 1000, 4
    rest = MAX_EVENT_BYTES // rows - 3 - ROW_BYTES - 2000
    changes = [Change("context", name, "x" * rest) for name in "abcd"]
    assert prepare(replace(GOOD, changes=changes, idempotency_key=key)).idempotency_key == key
    with pytest.raises(ValueTooLarge) as refused:
        prepare(replace(GOOD, changes=changes, idempotency_key=f"{key}x"))
    assert refused.value.size == MAX_EVENT_BYTES + rows


@pytest.mark.parametrize("key", ["", " job", "a\nb", "\ud800", "x" * 1025, 5], ids=ascii)
def test_a_key_that_no_caller_may_give_is_refused(key):
    assert prepare(replace(GOOD, idempotency_key="x" * 1024))
    with pytest.raises(InvalidInput, match="idempotency_key"):
        prepare(replace(GOOD, idempotency_key=key))


def test_a_prepared_event_does_not_see_later_changes_of_the_callers_value():
    value = {"steps": [1]}
    made = prepare(replace(GOOD, changes=[Change("strategy", value=value)]))
    value["steps"].append(2)
    assert made.changes[0].text == '{"steps":[1]}'


def test_changes_may_come_from_a_generator():
    assert len(prepare(replace(GOOD, changes=(Change("tag", key, True) for key in "abc"))).changes) == 3


def test_what_is_recorded_cannot_be_changed():
    event = recorded(1, 1, [Change("strategy", value={"steps": [1]})])
    for thing, name in ((event, "version"), (event.changes[0], "text"), (GOOD, "event_id"), (GOOD.changes[0], "value")):
        with pytest.raises((FrozenInstanceError, AttributeError)):
            setattr(thing, name, None)
    event.changes[0].value["steps"].append(2)
    assert event.changes[0].value == {"steps": [1]}

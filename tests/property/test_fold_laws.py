"""The fold's laws, on histories with removals, duplicates, disorder and equal versions."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from ledger import Change, Interval, RecordedEvent, Written
from ledger.model.fold import diff, fold
from ledger.testing import START, event_id, recorded
from ledger.testing.reference import history, recorded_by
from support.streams import histories


def in_force(intervals: list[Interval], version: int) -> dict[tuple[str, str], Written]:
    """The state at a version, as a filter on history."""
    held = [
        (it.field, it.key, Written(it.text, it.version, it.event_id))
        for it in intervals
        if it.version <= version and (it.superseded_by is None or it.superseded_by > version) and not it.removed
    ]
    state = {(field, key): written for field, key, written in held}
    assert len(state) == len(held), "two values in force in one slot"
    return state


@given(histories(), st.data())
def test_duplicates_and_disorder_change_no_state(events, data):
    again = data.draw(st.lists(st.sampled_from(events), max_size=10)) if events else []
    assert fold(data.draw(st.permutations(events + again))) == fold(events)


@given(histories(), st.data())
def test_duplicates_and_disorder_change_no_history(events, data):
    again = data.draw(st.lists(st.sampled_from(events), max_size=10)) if events else []
    assert history(data.draw(st.permutations(events + again))) == history(events)


@given(histories(), st.data())
def test_batches_do_not_matter(events, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=3)))
    batches = [events[a:b] for a, b in zip([0, *cuts], [*cuts, len(events)], strict=True)]
    shuffled = data.draw(st.permutations(batches))
    assert fold(event for batch in shuffled for event in batch) == fold(events)


@given(histories(), st.integers(0, 12))
def test_the_state_at_a_version_is_the_fold_of_the_prefix(events, version):
    assert fold(events, at_version=version) == fold([event for event in events if event.version <= version])


@given(histories(), st.integers(0, 12))
def test_the_state_at_a_version_is_a_filter_on_history(events, version):
    assert in_force(history(events), version) == fold(events, at_version=version)


@given(histories())
def test_history_holds_every_write_once(events):
    writes = {(c.field, c.key, e.version, e.event_id) for e in events for c in e.changes}
    intervals = history(events)
    assert {(it.field, it.key, it.version, it.event_id) for it in intervals} == writes
    assert len(intervals) == len(writes)


@given(histories(), st.permutations([21, 22, 23]))
def test_of_one_version_the_highest_event_id_stands(events, tied):
    events = [*events, *(recorded(12, number, [Change("title", value=str(number))]) for number in tied)]
    state = fold(events)
    assert (state["title", ""].value, state["title", ""].event_id) == ("23", event_id(23))
    for slot, written in state.items():
        writers = [e.position for e in events for c in e.changes if (c.field, c.key) == slot]
        assert (written.version, written.event_id) == max(writers)


@given(histories(), st.integers(0, 25))
def test_where_times_rise_with_versions_a_time_means_the_last_version_recorded_by_then(events, seconds):
    by_then = recorded_by(events, START + timedelta(seconds=seconds))
    assert fold(by_then) == fold(events, at_version=max((event.version for event in by_then), default=0))


@given(histories(), histories())
def test_a_difference_turns_one_state_into_the_other(one, other):
    before, after = fold(one), fold(other)
    changed = {slot: written.text for slot, written in before.items()}
    for difference in diff(before, after):
        slot = (difference.field, difference.key)
        assert difference.before == before.get(slot)
        assert difference.after == after.get(slot)
        assert difference.before is None or difference.after is None or difference.before.text != difference.after.text
        if difference.after is None:
            del changed[slot]
        else:
            changed[slot] = difference.after.text
    assert changed == {slot: written.text for slot, written in after.items()}


@given(histories())
def test_a_state_does_not_differ_from_itself(events):
    assert diff(fold(events), fold(events)) == []


def test_a_removal_of_what_never_was_leaves_nothing():
    assert fold([]) == {}
    assert history([]) == []
    assert RecordedEvent.__dataclass_params__.frozen

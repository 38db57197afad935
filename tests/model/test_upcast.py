"""Upcasting by an example: schema 2 calls ``x_note`` ``x_remark``, schema 3 wraps a message's content in parts."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given

from ledger import Change, RecordedEvent, UpcastMissing
from ledger.model.events import NewEvent
from ledger.model.fold import fold
from ledger.model.integrity import verify
from ledger.model.upcast import STEPS, Upcaster
from ledger.model.values import canonical
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import event, recorded
from support.streams import histories


def rename_note(event: RecordedEvent) -> RecordedEvent:
    changes = tuple(replace(it, field="x_remark") if it.field == "x_note" else it for it in event.changes)
    return replace(event, changes=changes)


def wrap_content(event: RecordedEvent) -> RecordedEvent:
    def wrapped(it):
        parts = {**it.value, "content": [{"type": "text", "text": it.value["content"]}]}
        return replace(it, text=canonical(parts))

    return replace(
        event, changes=tuple(wrapped(it) if it.field == "message" and it.text else it for it in event.changes)
    )


TO_2 = Upcaster(2, {1: rename_note})
TO_3 = Upcaster(3, {1: rename_note, 2: wrap_content})


def in_new_shape(events: list[RecordedEvent]) -> list[RecordedEvent]:
    """The same history, as code of schema 2 would have written it."""
    return [replace(rename_note(event), schema_version=2) for event in events]


@given(histories())
def test_upcast_then_fold_is_the_fold_of_the_new_shape(events):
    assert fold(map(TO_2, events)) == fold(in_new_shape(events))


def test_steps_are_taken_one_after_the_other():
    old = recorded(1, 1, [Change("x_note", value="n"), Change("message", "m", {"role": "user", "content": "hi"})])
    new = TO_3(old)
    assert new.schema_version == 3
    assert new.changes[0].field == "x_remark"
    assert new.changes[1].value["content"] == [{"type": "text", "text": "hi"}]
    assert old.schema_version == 1


def test_an_event_of_the_present_shape_is_left_alone():
    event = recorded(1, 1, [Change("x_note", value="n")], schema_version=2)
    assert TO_2(event) is event


def test_a_missing_step_is_named():
    with pytest.raises(UpcastMissing, match="from schema 1"):
        Upcaster(3, {2: wrap_content})(recorded(1, 1, [Change("title", value="x")]))


def test_an_event_of_newer_code_is_refused_with_the_way_out():
    with pytest.raises(UpcastMissing, match="Upgrade session-ledger"):
        Upcaster()(recorded(1, 1, [Change("title", value="x")], schema_version=2))


def test_the_first_schema_needs_no_steps():
    assert STEPS == {}
    assert Upcaster().current == 1


@pytest.fixture
def path(tmp_path):
    store = SqliteStore(tmp_path / "l.db")
    store.append("b", event(1, Change("x_note", value="old"), Change("title", value="t"), user_id="ada"))
    store.append("b", event(2, Change("message", "m1", {"role": "user", "content": "hi"})))
    store.close()
    return tmp_path / "l.db"


def values(store: SqliteStore, session_id: str, **at: object) -> dict[str, object]:
    _, state = store.state(session_id, **at)
    return {field: written.value for (field, _), written in state.items()}


def test_a_store_opened_by_newer_code_answers_in_the_new_shape(path):
    store = SqliteStore(path, upcaster=TO_3)
    assert values(store, "b") == {"x_remark": "old", "title": "t"}
    assert values(store, "b", version=1) == {"x_remark": "old", "title": "t"}
    assert [m.content for m in store.messages("b", after=None, limit=5)] == [[{"type": "text", "text": "hi"}]]
    assert values(store, "b", with_messages=True)["message"]["content"] == [{"type": "text", "text": "hi"}]
    assert [e.schema_version for e in store.events("b")] == [3, 3]
    store.close()


def test_old_and_new_events_of_a_session_fold_together(path):
    store = SqliteStore(path, upcaster=TO_2)
    store.append("b", event(3, Change("x_remark", value="new")))
    assert values(store, "b") == {"x_remark": "new", "title": "t"}
    store.append("b", event(4, Change("x_remark", removed=True)))
    assert values(store, "b") == {"title": "t"}
    store.close()


def test_the_rows_of_old_events_stay_as_they_were_written(path):
    before = SqliteStore(path)
    rows = before.rows_after(0, 100)
    before.close()
    after = SqliteStore(path, upcaster=TO_3)
    assert after.rows_after(0, 100) == rows
    after.close()


def test_events_of_an_older_shape_that_are_brought_in_are_folded_in_the_new_one(path, tmp_path):
    old = SqliteStore(path)
    new = SqliteStore(tmp_path / "new.db", upcaster=TO_2)
    assert new.ingest(old.events("b")) == 2
    assert values(new, "b") == {"x_remark": "old", "title": "t"}
    for store in (old, new):
        store.close()


def test_a_step_that_is_missing_is_an_error_and_leaves_every_session_as_it_was(path):
    older = SqliteStore(path, upcaster=TO_2)
    older.append("a", event(1, Change("message", "m", {"role": "user", "content": "hi"}), user_id="ada"))
    older.close()
    with pytest.raises(UpcastMissing):
        SqliteStore(path, upcaster=Upcaster(3, {2: wrap_content}))
    again = SqliteStore(path, upcaster=TO_2)
    assert [m.content for m in again.messages("a", after=None, limit=5)] == ["hi"]
    again.close()


def test_code_that_is_too_old_for_an_event_says_so_and_changes_nothing(path):
    newer = SqliteStore(path, upcaster=TO_2)
    newer.append("b", event(3, Change("x_remark", value="new")))
    newer.close()
    with pytest.raises(UpcastMissing, match="Upgrade"):
        SqliteStore(path)
    again = SqliteStore(path, upcaster=TO_2)
    assert values(again, "b") == {"x_remark": "new", "title": "t"}
    again.close()


def test_events_can_be_read_as_they_were_recorded_and_their_hashes_hold(tmp_path):
    with closing(SqliteStore(tmp_path / "old.db")) as store:
        store.append("s", NewEvent("session.created", [Change("x_note", value="n")], "e1", user_id="u"))
    with closing(SqliteStore(tmp_path / "old.db", upcaster=TO_2)) as store:
        assert [event.changes[0].field for event in store.events("s")] == ["x_remark"]
        as_recorded = store.events("s", upcast=False)
        assert [event.changes[0].field for event in as_recorded] == ["x_note"]
        assert verify(as_recorded) == 1

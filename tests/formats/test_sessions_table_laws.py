"""Laws of importing a table with one row per update, over random tables."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import Session, SessionLedger
from ledger.formats.recording import SessionEvents
from ledger.formats.sessions_table import events_of_rows, import_rows, rows_of_lines
from ledger.model.fields import TOOL_STATUSES
from ledger.model.fold import fold
from ledger.model.session import Head
from support.sessions_table import START, Row, clock, columns_of, exported, names, said_by
from support.streams import json_values, texts

objects = st.dictionaries(texts, json_values, max_size=3)


@st.composite
def wide_rows(draw: st.DrawFn, *, ties: bool = False) -> list[Row]:
    """Rows of up to two sessions, oldest first; without ties, no two have one time."""
    rows: list[Row] = []
    at = START
    for _ in range(draw(st.integers(1, 8))):
        at += timedelta(microseconds=draw(st.integers(0 if ties else 1, 3)))
        calls = draw(st.lists(names, max_size=3, unique=True))
        session_id = draw(st.sampled_from(["s1", "s2"]))
        rows.append(
            {
                "session_id": session_id,
                "user_id": f"owner of {session_id}",
                "question": draw(st.sampled_from(["one", "two"])),
                "constraints": draw(st.none() | objects),
                "response_plan": draw(st.none() | objects),
                # Text that happens to be JSON is taken for JSON; "# " makes it Markdown.
                "strategy": draw(st.none() | texts.map(lambda text: f"# {text}") | objects | st.lists(json_values)),
                "summary": draw(st.none() | texts),
                "status": draw(st.sampled_from(["active", "completed"])),
                "tool_calls": calls,
                "tool_call_status": [draw(st.sampled_from(TOOL_STATUSES)) for _ in calls],
                "tool_call_results": draw(st.none() | st.dictionaries(names, json_values, max_size=2)),
                "created_at": START + timedelta(seconds=draw(st.integers(0, 3))),
                "updated_at": at,
            }
        )
    return rows


def by_session(rows: list[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["session_id"], []).append(row)
    return found


def rows_that_change(rows: list[Row]) -> list[Row]:
    """Rows without those that say what the row before them said, as JSON: 1 is not true."""
    said = [json.dumps(said_by(row), sort_keys=True) for row in rows]
    return [row for index, row in enumerate(rows) if index == 0 or said[index] != said[index - 1]]


def session_at(each: SessionEvents, version: int) -> Session:
    event = each.events[version - 1]
    head = Head(each.session_id, event.user_id, event.created_at, version, event.recorded_at, None, "")
    return Session(head, fold(each.events, at_version=version))


def events(rows: Any) -> dict[str, Any]:
    return {each.session_id: each.events for each in events_of_rows(rows)}


@given(wide_rows())
def test_the_state_after_each_event_is_the_row_that_made_it(rows: list[Row]) -> None:
    expected = by_session(rows)
    found = list(events_of_rows(rows))
    assert {each.session_id for each in found} == set(expected)
    for each in found:
        of_session = expected[each.session_id]
        changing = rows_that_change(of_session)
        assert [event.version for event in each.events] == list(range(1, len(changing) + 1))
        for version, row in enumerate(changing, 1):
            session = session_at(each, version)
            assert columns_of(session) == said_by(row)
            assert session.updated_at == row["updated_at"]
            assert session.created_at == min(row["created_at"] for row in of_session)


@given(wide_rows(ties=True), st.data())
def test_order_and_repetition_of_rows_change_no_event(rows: list[Row], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(rows), max_size=4))
    mixed = data.draw(st.permutations(rows + again))
    assert [(each.session_id, each.events) for each in events_of_rows(mixed)] == [
        (each.session_id, each.events) for each in events_of_rows(rows)
    ]


@given(wide_rows(ties=True))
def test_the_form_of_an_export_changes_no_event(rows: list[Row]) -> None:
    expected = events(rows)
    assert events(rows_of_lines([exported(row) for row in rows])) == expected
    assert events(rows_of_lines([exported(row, as_text=True) for row in rows])) == expected


@given(wide_rows(), st.integers(1, 8))
def test_further_rows_leave_the_events_before_them_as_they_are(rows: list[Row], cut: int) -> None:
    # When a session was created is all that further rows can say otherwise; the import goes by what is recorded.
    rows = [{**row, "created_at": START} for row in rows]
    whole = events(rows)
    for session_id, before in events(rows[:cut]).items():
        assert whole[session_id][: len(before)] == before


@settings(max_examples=30, deadline=None)
@given(wide_rows(), st.integers(1, 8), st.randoms(use_true_random=False))
def test_an_import_in_two_steps_is_the_import_of_all_rows_and_a_third_adds_nothing(
    tmp_path_factory: Any, rows: list[Row], cut: int, chance: Any
) -> None:
    folder = tmp_path_factory.mktemp("wide")
    with SessionLedger.open(f"sqlite:///{folder / 'ledger.db'}", clock=clock) as ledger:
        first = import_rows(ledger.store, chance.sample(rows[:cut], len(rows[:cut])))
        second = import_rows(ledger.store, chance.sample(rows, len(rows)))
        assert first.new == first.events
        assert second.new == second.events - first.events
        assert import_rows(ledger.store, rows).new == 0
        for session_id, of_session in by_session(rows).items():
            for version, row in enumerate(rows_that_change(of_session), 1):
                session = ledger.get_session(session_id, version=version)
                assert session is not None
                assert columns_of(session) == said_by(row)
            latest = ledger.get_session(session_id)
            assert latest is not None
            assert columns_of(latest) == said_by(of_session[-1])

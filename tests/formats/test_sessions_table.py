"""A table with one full row per update becomes sessions whose versions are its rows."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from ledger import SessionLedger, WrongExpectedVersion
from ledger.cli.demo.scenario import CONSTRAINTS, TOOL, USER
from ledger.formats.events import Imported
from ledger.formats.sessions_table import events_of_rows, import_rows
from ledger.model.integrity import verify
from ledger.testing import uuid7
from support.sessions_table import START, AppendOnlyManager, Row, columns_of, get, row, said_by, scenario


def types(ledger: SessionLedger, session_id: str = "s") -> list[str]:
    return [event.event_type for event in ledger.history(session_id)]


def total(done: Imported) -> tuple[int, int, int]:
    return done.sessions, done.events, done.new


def test_every_version_of_an_imported_session_is_a_row_of_the_table(ledger: SessionLedger) -> None:
    manager = AppendOnlyManager()
    session_id = scenario(manager)
    assert total(import_rows(ledger.store, manager.rows)) == (1, 8, 8)
    for version, wide in enumerate(manager.rows, 1):
        session = get(ledger, session_id, version)
        assert columns_of(session) == said_by(wide)
        assert (session.user_id, session.created_at, session.updated_at) == (USER, START, wide["updated_at"])
    latest, wide = get(ledger, session_id), manager.get_session(session_id)
    assert {name: latest[name] for name in wide} == wide
    assert latest.complete


def test_the_session_at_a_time_is_the_row_that_held_then(ledger: SessionLedger) -> None:
    manager = AppendOnlyManager()
    session_id = scenario(manager)
    import_rows(ledger.store, manager.rows)
    then = ledger.get_session(session_id, at=manager.rows[3]["updated_at"] + timedelta(microseconds=1))
    assert then is not None
    assert (then.version, columns_of(then)) == (4, said_by(manager.rows[3]))
    assert ledger.get_session(session_id, at=START - timedelta(seconds=1)) is None


def test_events_are_named_as_the_methods_that_make_them(ledger: SessionLedger) -> None:
    manager = AppendOnlyManager()
    session_id = scenario(manager)
    manager.update_session(session_id, {"summary": None, "question": "And spokes?"})
    manager.update_session(session_id, {"tool_calls": [], "tool_call_status": [], "tool_call_results": None})
    import_rows(ledger.store, manager.rows)
    assert types(ledger, session_id) == [
        *("session.created", "constraints.updated", "strategy.updated", "response_plan.updated"),
        *("tool_call.updated", "tool_call.updated", "summary.updated", "session.updated", "session.updated"),
        "tool_call.updated",
    ]


def test_each_event_holds_what_its_row_changed_and_nothing_else(ledger: SessionLedger) -> None:
    manager = AppendOnlyManager()
    session_id = scenario(manager)
    import_rows(ledger.store, manager.rows)
    changes = [[(it.field, it.key) for it in event.changes] for event in ledger.history(session_id)]
    assert changes == [
        [("question", ""), ("status", "")],
        [("constraints", ""), ("tool_call", TOOL), ("tool_call_status", TOOL)],
        *([("strategy", "")], [("response_plan", "")], [("tool_call_status", TOOL)]),
        [("tool_call_result", TOOL), ("tool_call_status", TOOL)],
        *([("summary", "")], [("status", "")]),
    ]


def test_a_call_takes_along_what_the_constraints_say_of_it(ledger: SessionLedger) -> None:
    manager = AppendOnlyManager()
    session_id = scenario(manager)
    import_rows(ledger.store, manager.rows)
    assert get(ledger, session_id).calls[0].definition == CONSTRAINTS["tool_calls"][0]


def test_what_vanishes_from_a_row_is_removed(ledger: SessionLedger) -> None:
    full = row(
        constraints={"kpi": []},
        summary="",
        tool_calls=["a", "b"],
        tool_call_status=["completed", "pending"],
        tool_call_results={"a": 1, "b": None},
    )
    import_rows(ledger.store, [full, row(1, tool_calls=["b"], tool_call_status=["running"])])
    assert columns_of(get(ledger, version=1)) == said_by(full)
    session = get(ledger)
    assert (session.constraints, session.summary, session.tool_call_results) == (None, None, None)
    assert (session.tool_calls, session.tool_call_status) == (["b"], ["running"])
    assert {(it.field, it.key) for it in ledger.history("s")[1].changes if it.removed} == {
        *(("constraints", ""), ("summary", "")),
        *(("tool_call", "a"), ("tool_call_status", "a"), ("tool_call_result", "a"), ("tool_call_result", "b")),
    }


def test_rows_that_change_nothing_and_repeated_rows_are_no_events(ledger: SessionLedger) -> None:
    rows = [row(), row(), row(1), row(2, summary="x"), row(2, summary="x"), row(3, summary="x"), row(4)]
    assert total(import_rows(ledger.store, rows)) == (1, 3, 3)
    assert [get(ledger, version=version).summary for version in (1, 2, 3)] == [None, "x", None]


def test_of_rows_with_one_time_the_one_that_holds_more_or_got_further_comes_later() -> None:
    called = {"tool_calls": ["a"], "tool_call_status": ["pending"]}
    rows = [
        row(),
        row(summary="x"),
        row(summary="x", **called),
        row(summary="x", **called | {"tool_call_status": ["running"]}),
        row(summary="x", **called | {"tool_call_status": ["completed"]}),
        row(summary="x", status="completed", **called | {"tool_call_status": ["completed"]}),
    ]
    expected = list(events_of_rows(rows))
    assert [event.event_type for event in expected[0].events] == [
        *("session.created", "summary.updated", "tool_call.updated", "tool_call.updated", "tool_call.updated"),
        "session.updated",
    ]
    for seed in range(10):
        mixed = random.Random(seed).sample(rows, len(rows))
        assert [each.events for each in events_of_rows(mixed)] == [each.events for each in expected]


@pytest.mark.parametrize("keeps_created_at", [True, False])
@pytest.mark.parametrize("session_id", ["plain", uuid7(START - timedelta(milliseconds=3), 1)], ids=["plain", "uuid7"])
def test_a_session_was_created_at_the_earliest_time_of_its_rows_or_at_that_in_its_id(
    ledger: SessionLedger, keeps_created_at: bool, session_id: str
) -> None:
    manager = AppendOnlyManager(keeps_created_at=keeps_created_at)
    scenario(manager, session_id)
    import_rows(ledger.store, reversed(manager.rows))
    expected = START if session_id == "plain" else START - timedelta(milliseconds=3)
    assert {event.created_at for event in ledger.history(session_id)} == {expected}


def test_importing_again_adds_nothing_and_leaves_later_changes(ledger: SessionLedger) -> None:
    manager = AppendOnlyManager()
    session_id = scenario(manager)
    import_rows(ledger.store, manager.rows)
    ledger.update_summary(session_id, "mine")
    assert total(import_rows(ledger.store, manager.rows)) == (1, 8, 0)
    assert (get(ledger, session_id).summary, get(ledger, session_id).version) == ("mine", 9)


def test_a_longer_export_adds_only_what_came_after(ledger: SessionLedger) -> None:
    manager = AppendOnlyManager(keeps_created_at=False)
    first, second = manager.create_session("ada", "one"), manager.create_session("bob", "two")
    manager.update_summary(first, "x")
    assert total(import_rows(ledger.store, manager.rows)) == (2, 3, 3)
    before = ledger.history(first)[:]
    manager.update_summary(first, "y")
    third = manager.create_session("cyd", "three")
    assert total(import_rows(ledger.store, manager.rows)) == (3, 5, 2)
    assert ledger.history(first)[:2] == before
    assert [get(ledger, each).version for each in (first, second, third)] == [3, 1, 1]
    assert verify(ledger.history(first)) == 3
    assert columns_of(get(ledger, first)) == said_by(manager.get_session(first))


def test_a_later_row_with_an_earlier_created_at_leaves_the_session_where_it_is(ledger: SessionLedger) -> None:
    import_rows(ledger.store, [row()])
    import_rows(ledger.store, [row(), row(1, summary="x", created_at=START - timedelta(days=1))])
    assert (get(ledger).created_at, get(ledger).version) == (START, 2)


def test_an_export_of_the_last_rows_only_goes_on_from_a_row_that_is_here(ledger: SessionLedger) -> None:
    rows = [row(minute, summary=str(minute)) for minute in range(5)]
    import_rows(ledger.store, rows[:3])
    assert import_rows(ledger.store, rows[2:]).new == 2
    assert [get(ledger, version=version).summary for version in range(1, 6)] == list("01234")


def test_imported_events_carry_a_hash_chain_that_later_changes_go_on_with(ledger: SessionLedger) -> None:
    manager = AppendOnlyManager()
    session_id = scenario(manager)
    import_rows(ledger.store, manager.rows)
    ledger.update_summary(session_id, "mine")
    history = ledger.history(session_id)
    assert verify(history) == len(history) == 9
    assert {event.store_id for event in history} == {ledger.store.store_id}


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([row(), row(1, summary="late"), row(2, summary="x")], "late"),
        ([row(1), row(2, summary="x"), row(3, summary="y")], "the first is another one"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_rows_that_do_not_follow_what_is_here_are_refused(ledger: SessionLedger, rows: list[Row], why: str) -> None:
    import_rows(ledger.store, [row(), row(2, summary="x")])
    before = ledger.history("s")[:]
    with pytest.raises(WrongExpectedVersion, match=r"^Row 1: session s: the change of 2026-.*all files of an export"):
        import_rows(ledger.store, rows)
    assert ledger.history("s")[:] == before, why


def test_a_session_that_went_on_in_the_ledger_takes_no_further_rows(ledger: SessionLedger) -> None:
    import_rows(ledger.store, [row()])
    ledger.update_summary("s", "mine")
    with pytest.raises(WrongExpectedVersion, match=r"session s: .*Another writer appended"):
        import_rows(ledger.store, [row(session_id="r"), row(), row(1, summary="theirs"), row(session_id="t")])
    assert (get(ledger).summary, get(ledger).version) == ("mine", 2)
    assert get(ledger, "r").version == 1  # it came before


def test_an_import_that_another_process_overtook_finds_its_rows_there(
    ledger: SessionLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = ledger.store.ingest
    rows = [row(), row(1, summary="x")]

    def overtaken(events: Any) -> int:
        monkeypatch.setattr(ledger.store, "ingest", ingest)
        import_rows(ledger.store, rows)
        return ingest(events)

    monkeypatch.setattr(ledger.store, "ingest", overtaken)
    assert total(import_rows(ledger.store, rows)) == (1, 2, 0)
    assert get(ledger).version == 2

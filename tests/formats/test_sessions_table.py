"""A table with one full row per update becomes sessions whose versions are its rows."""

from __future__ import annotations

import copy
import json
import random
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from google.cloud.bigquery.table import Row as BigQueryRow
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import InvalidInput, Session, SessionLedger, ValueTooLarge, WrongExpectedVersion
from ledger.cli.demo.scenario import CONSTRAINTS, QUESTION, RESPONSE_PLAN, RESULT, STRATEGY, SUMMARY, TOOL, USER
from ledger.errors import LedgerError
from ledger.formats.events import Imported
from ledger.formats.recording import SessionEvents
from ledger.formats.sessions_table import events_of_rows, import_rows, rows_of_lines
from ledger.model.fields import TOOL_STATUSES
from ledger.model.fold import fold
from ledger.model.integrity import verify
from ledger.model.session import Head
from ledger.testing import uuid7
from support.shell import Shell
from support.streams import json_values, texts

Row = dict[str, Any]
START = datetime(2026, 3, 5, 9, 30, tzinfo=UTC)

NEVER = object()


class AppendOnlyManager:
    """The manager's own append-only pattern: read the latest row, change it, insert it anew.

    Args:
        keeps_created_at: Whether a new row says when the session began; some managers write the time of the row.
    """

    def __init__(self, *, keeps_created_at: bool = True, now: datetime = START) -> None:
        self.rows: list[Row] = []
        self.now = now
        self._keeps_created_at = keeps_created_at

    def create_session(self, user_id: str, question: str, session_id: str | None = None) -> str:
        session_id = session_id or str(uuid.uuid4())
        self._insert(
            {
                "session_id": session_id,
                "user_id": user_id,
                "question": question,
                **dict.fromkeys(("constraints", "response_plan", "strategy", "summary")),
                "status": "active",
                "tool_calls": [],
                "tool_call_status": [],
                "tool_call_results": None,
                "created_at": self.now,
            }
        )
        return session_id

    def get_session(self, session_id: str) -> Row:
        found = [row for row in self.rows if row["session_id"] == session_id]
        return max(found, key=lambda row: row["updated_at"])

    def update_session(self, session_id: str, updates: Mapping[str, Any]) -> None:
        row = copy.deepcopy({**self.get_session(session_id), **updates})
        if not self._keeps_created_at:
            row["created_at"] = self.now
        self._insert(row)

    def update_constraints(self, session_id: str, constraints: Mapping[str, Any]) -> None:
        names = [call["name"] for call in constraints.get("tool_calls", ())]
        statuses = ["pending"] * len(names)
        self.update_session(session_id, {"constraints": constraints, "tool_calls": names, "tool_call_status": statuses})

    def update_strategy(self, session_id: str, strategy: Any) -> None:
        self.update_session(session_id, {"strategy": strategy})

    def update_response_plan(self, session_id: str, response_plan: Mapping[str, Any]) -> None:
        self.update_session(session_id, {"response_plan": response_plan})

    def update_summary(self, session_id: str, summary: str) -> None:
        self.update_session(session_id, {"summary": summary})

    def update_tool_call_status(self, session_id: str, tool_name: str, status: str, result: Any = None) -> None:
        row = self.get_session(session_id)
        statuses = list(row["tool_call_status"])
        statuses[row["tool_calls"].index(tool_name)] = status
        updates: Row = {"tool_call_status": statuses}
        if result is not None:
            updates["tool_call_results"] = {**(row["tool_call_results"] or {}), tool_name: result}
        self.update_session(session_id, updates)

    def _insert(self, row: Row) -> None:
        self.rows.append({**row, "updated_at": self.now})
        self.now += timedelta(seconds=1, microseconds=7)


def exported(row: Row, *, as_text: bool = False) -> bytes:
    """A row as BigQuery's export to JSON Lines: NULLs left out, times with UTC, JSON nested or as JSON text."""
    line = {name: value for name, value in row.items() if value is not None}
    for name in ("created_at", "updated_at"):
        line[name] = f"{row[name]:%Y-%m-%d %H:%M:%S.%f} UTC"
    for name in ("constraints", "response_plan", "strategy", "tool_call_results"):
        if as_text and name in line:
            line[name] = json.dumps(line[name])
    return json.dumps(line).encode() + b"\n"


def said_by(row: Mapping[str, Any]) -> Row:
    """What a row says: the table's columns but for the order of tool calls, and none for no results."""
    return {
        **{name: row[name] for name in ("question", "status", "summary", "constraints", "response_plan", "strategy")},
        "calls": dict(zip(row["tool_calls"], row["tool_call_status"], strict=True)),
        "results": row["tool_call_results"] or None,
    }


def columns_of(session: Session) -> Row:
    """What a session says, in the same form; as a mapping it has the columns of the table."""
    return said_by(session)


def clock() -> datetime:
    """Two days after the first row."""
    return START + timedelta(days=2)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SessionLedger]:
    with SessionLedger.open(f"sqlite:///{tmp_path / 'ledger.db'}", clock=clock) as opened:
        yield opened


def scenario(manager: AppendOnlyManager, session_id: str | None = None) -> str:
    """The whole session of the manager's documentation: eight rows."""
    session_id = manager.create_session(USER, QUESTION, session_id)
    manager.update_constraints(session_id, CONSTRAINTS)
    manager.update_strategy(session_id, STRATEGY)
    manager.update_response_plan(session_id, RESPONSE_PLAN)
    manager.update_tool_call_status(session_id, TOOL, "running")
    manager.update_tool_call_status(session_id, TOOL, "completed", RESULT)
    manager.update_summary(session_id, SUMMARY)
    manager.update_session(session_id, {"status": "completed"})
    return session_id


def row(minute: int = 0, **columns: Any) -> Row:
    """A row of the session ``s``; a column that is NEVER is not there."""
    made = {
        "session_id": "s",
        "user_id": "ada",
        "question": "How many?",
        "status": "active",
        **dict.fromkeys(("constraints", "response_plan", "strategy", "summary", "tool_call_results")),
        "tool_calls": [],
        "tool_call_status": [],
        "created_at": START,
        "updated_at": START + timedelta(minutes=minute),
    } | columns
    return {name: value for name, value in made.items() if value is not NEVER}


def get(ledger: SessionLedger, session_id: str = "s", version: int | None = None) -> Session:
    session = ledger.get_session(session_id, version=version)
    assert session is not None
    return session


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


def test_the_rows_of_a_query_and_of_every_form_of_export_are_the_same_events() -> None:
    manager = AppendOnlyManager()
    scenario(manager)
    names = list(manager.rows[0])
    queried = [
        BigQueryRow([wide[name] for name in names], {name: index for index, name in enumerate(names)})
        for wide in manager.rows
    ]
    expected = [each.events for each in events_of_rows(manager.rows)]
    for rows in (
        queried,
        rows_of_lines([exported(wide) for wide in manager.rows]),
        rows_of_lines([exported(wide, as_text=True) for wide in manager.rows]),
    ):
        assert [each.events for each in events_of_rows(rows)] == expected


def test_the_order_of_columns_and_keys_changes_no_event() -> None:
    one = row(tool_call_results={"a": 1, "b": 2}, region="eu", cost=1.5)
    other = dict(reversed(one.items())) | {"tool_call_results": {"b": 2, "a": 1}}
    assert next(events_of_rows([one])).events == next(events_of_rows([other])).events


@pytest.mark.parametrize(
    "text",
    [
        *("2026-03-05 09:30:00 UTC", "2026-03-05 09:30:00.000000 UTC", "2026-03-05T09:30:00Z"),
        *("2026-03-05T10:30:00.0+01:00", "2026-03-05 09:30:00+00"),
    ],
)
def test_times_are_read_as_bigquery_and_rfc_3339_write_them(text: str) -> None:
    (session,) = events_of_rows([row(updated_at=text)])
    assert session.events == next(iter(events_of_rows([row()]))).events


def test_a_time_in_another_zone_is_the_same_time() -> None:
    (session,) = events_of_rows([row(updated_at=START.astimezone(timezone(timedelta(hours=5))))])
    assert session.events[0].recorded_at == START


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("## Plan\n* Sum", "## Plan\n* Sum"),
        ('"## Plan"', "## Plan"),
        ('{"steps": [1]}', {"steps": [1]}),
        ('"{\\"steps\\": [1]}"', {"steps": [1]}),
        ({"steps": [1]}, {"steps": [1]}),
        (["a"], ["a"]),
        ("5", "5"),
        (5, 5),
        ("[123456789012345678901234567890]", "[123456789012345678901234567890]"),
        ("", ""),
        ("null", None),
        (None, None),
    ],
)
def test_a_strategy_is_json_or_markdown(ledger: SessionLedger, given: Any, kept: Any) -> None:
    import_rows(ledger.store, [row(strategy=given)])
    assert get(ledger).strategy == kept


@pytest.mark.parametrize(
    ("word", "status"),
    [
        *(("pending", "pending"), ("running", "running"), ("completed", "completed"), ("failed", "failed")),
        *(("complete", "completed"), ("Done", "completed"), ("SUCCESS", "completed"), ("error", "failed")),
        *(("in_progress", "running"), ("In Progress", "running"), ("in-progress", "running"), ("queued", "pending")),
    ],
)
def test_usual_words_for_the_status_of_a_call_are_understood(ledger: SessionLedger, word: str, status: str) -> None:
    import_rows(ledger.store, [row(tool_calls=["a"], tool_call_status=[word])])
    assert get(ledger).tool_call_status == [status]


def test_the_status_of_a_session_is_its_own_word_in_the_ledgers_spelling(ledger: SessionLedger) -> None:
    import_rows(ledger.store, [row(status="Awaiting-Data source"), row(1, status="done")])
    assert [get(ledger, version=version).status for version in (1, 2)] == ["awaiting_data_source", "done"]


def test_calls_without_any_status_are_pending(ledger: SessionLedger) -> None:
    import_rows(ledger.store, [row(tool_calls=["b", "a"], tool_call_status=NEVER)])
    assert (get(ledger).tool_calls, get(ledger).tool_call_status) == (["a", "b"], ["pending", "pending"])


def test_a_name_that_a_row_has_twice_is_two_calls(ledger: SessionLedger) -> None:
    names, statuses = ["q", "q", "q#2", "q"], ["completed", "pending", "running", "failed"]
    import_rows(ledger.store, [row(tool_calls=names, tool_call_status=statuses)])
    assert {call.call_id: (call.name, call.status) for call in get(ledger).calls} == {
        "q": ("q", "completed"),
        "q#3": ("q", "pending"),
        "q#2": ("q#2", "running"),
        "q#4": ("q", "failed"),
    }


def test_other_columns_are_kept_as_attributes(ledger: SessionLedger) -> None:
    import_rows(ledger.store, [row(region="eu", cost=1.5, empty=None, day=datetime(2026, 3, 5, tzinfo=UTC).date())])
    assert get(ledger).attributes == {"region": "eu", "cost": 1.5, "day": "2026-03-05"}


def test_columns_that_may_be_null_may_be_missing(ledger: SessionLedger) -> None:
    names = ("session_id", "user_id", "question", "status", "created_at", "updated_at")
    import_rows(ledger.store, [{name: row()[name] for name in names}])
    assert columns_of(get(ledger)) == said_by(row())


BAD: dict[str, tuple[Row, str]] = {
    "no session": (row(session_id=NEVER), "no session_id"),
    "several columns missing": (row(user_id=None, updated_at=NEVER), "no user_id, updated_at"),
    "another table": ({"id": 1}, "no session_id, user_id, question"),
    "an empty id": (row(session_id=""), "session_id is empty"),
    "an id that is a number": (row(session_id=5), "session_id must be text"),
    "an owner that is a number": (row(user_id=5), "session s: user_id must be text"),
    "a question that is a number": (row(question=5), "session s: question must be text"),
    "a summary that is an object": (row(summary={}), "session s: summary must be text"),
    "an impossible status": (row(status="fertig!"), "session s: status 'fertig!'"),
    "constraints that are an array": (row(constraints=[1]), "session s: constraints must be an object"),
    "constraints as text of an array": (row(constraints="[1]"), "session s: constraints must be an object"),
    "constraints that are no JSON": (row(constraints="{"), "session s: constraints is not valid JSON text"),
    "a plan nested without end": (row(response_plan="[" * 100_000), "session s: response_plan is not valid JSON text"),
    "results that are an array": (row(tool_call_results=[]), "session s: tool_call_results must be an object"),
    "a number that no store keeps": (row(strategy=10**30), "session s: strategy is the integer"),
    "calls that are text": (row(tool_calls="a"), "session s: tool_calls must be an array"),
    "a call that is an object": (
        row(tool_calls=[{}], tool_call_status=["done"]),
        r"session s: tool_calls\[0\] must be",
    ),
    "arrays that are not parallel": (
        row(tool_calls=["a", "b"], tool_call_status=["done"]),
        "session s: tool_calls has 2 entries and tool_call_status has 1",
    ),
    "statuses without calls": (row(tool_call_status=["done"]), "session s: tool_calls has 0 entries"),
    "an unknown status of a call": (
        row(tool_calls=["a"], tool_call_status=["exploded"]),
        "session s: the tool call 'a' has the status 'exploded'",
    ),
    "a status of a call that is null": (row(tool_calls=["a"], tool_call_status=[None]), "session s: the tool call 'a'"),
    "a time that is none": (row(updated_at="yesterday"), "session s: updated_at 'yesterday' is not a time"),
    "a time that is a number": (row(created_at=1741687200.1), "session s: created_at must be a time"),
    "a time without a zone": (row(created_at="2026-03-05 09:30:00"), "session s: created_at .* has no time zone"),
    "another owner": (row(1, user_id="bob"), "session s: it belongs to 'bob' here and to 'ada' on line 1"),
    "a column with an impossible name": (row(**{"": 1}), "session s: key of attribute is empty"),
}


def line_of(bad: Row) -> bytes:
    return json.dumps(bad, default=lambda at: at.isoformat()).encode()


@pytest.mark.parametrize("bad", BAD)
def test_a_row_that_cannot_be_read_is_named_and_nothing_is_written(ledger: SessionLedger, bad: str) -> None:
    spoilt, why = BAD[bad]
    lines = [line_of(row()), line_of(row(session_id="before")), b" \n", line_of(spoilt), line_of(row(2))]
    with pytest.raises(InvalidInput, match=f"^Line 4: .*{why}"):
        import_rows(ledger.store, rows_of_lines(lines))
    assert not ledger.list_sessions()


@pytest.mark.parametrize("bad", [b"{", b"5", b"[]", b'"\xff"', b"[" * 100_000, b"\x00"])
def test_a_line_that_is_no_object_is_named_and_nothing_is_written(ledger: SessionLedger, bad: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"^Line 2: "):
        import_rows(ledger.store, rows_of_lines([line_of(row()), bad]))
    assert not ledger.list_sessions()


@pytest.mark.parametrize(
    "bad", [5, "text", None, row(created_at=START.replace(tzinfo=None)), row(strategy=START)], ids=str
)
def test_what_a_query_gives_is_named_by_its_row(ledger: SessionLedger, bad: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^Row 2: "):
        import_rows(ledger.store, [row(), bad])
    assert not ledger.list_sessions()


def too_many() -> Row:
    return row(session_id="t", tool_call_results=dict.fromkeys(map(str, range(1001))))


REFUSED: dict[str, tuple[Callable[[], Row], type[LedgerError]]] = {
    "too large": (lambda: row(session_id="t", summary="x" * 8_000_000), ValueTooLarge),
    "too many changes": (too_many, InvalidInput),
    "too old for a warehouse": (lambda: row(session_id="t", created_at="1999-01-01 00:00:00 UTC"), InvalidInput),
}


@pytest.mark.parametrize("bad", REFUSED)
def test_a_session_that_cannot_be_recorded_is_named_and_left_out(ledger: SessionLedger, bad: str) -> None:
    make, kind = REFUSED[bad]
    with pytest.raises(kind, match=r"^Row 2: session t: "):
        import_rows(ledger.store, [row(), make()])
    assert ledger.get_session("t") is None
    assert import_rows(ledger.store, [row()]).sessions == 1


def test_a_session_of_another_owner_here_is_refused(ledger: SessionLedger) -> None:
    import_rows(ledger.store, [row()])
    with pytest.raises(LedgerError, match=r"^Row 1: session s: "):
        import_rows(ledger.store, [row(user_id="bob"), row(1, user_id="bob", summary="x")])
    assert (get(ledger).user_id, get(ledger).version) == ("ada", 1)


def test_the_callers_rows_stay_as_they_are(ledger: SessionLedger) -> None:
    manager, same = AppendOnlyManager(), AppendOnlyManager()
    for each in (manager, same):
        scenario(each, "s")
    import_rows(ledger.store, manager.rows)
    assert manager.rows == same.rows


def test_the_command_line_imports_a_table(shell: Shell, tmp_path: Path) -> None:
    manager = AppendOnlyManager()
    session_id = scenario(manager)
    file = tmp_path / "sessions.json"
    file.write_bytes(b"".join(exported(wide) for wide in manager.rows[:5]))
    args = ("import", "--format", "sessions-table", str(file))
    assert shell.json(*args) == {"sessions": 1, "events": 5, "new_events": 5}
    file.write_bytes(b"".join(exported(wide) for wide in manager.rows))
    assert shell.json(*args) == {"sessions": 1, "events": 8, "new_events": 3}
    assert shell.ok(*args) == "1 sessions, 8 events: 0 new, 8 already recorded.\n"

    wide = manager.get_session(session_id)
    names = ("question", "constraints", "response_plan", "strategy", "summary", "status", "tool_calls")
    (session,) = shell.json("sql", "SELECT * FROM sessions")["rows"]
    for name in (*names, "session_id", "user_id", "tool_call_status", "tool_call_results"):
        assert session[name] == wide[name]
    versions = shell.json("sql", "SELECT * FROM session_versions ORDER BY version")["rows"]
    assert [[version[name] for name in names] for version in versions] == [
        [wide[name] for name in names] for wide in manager.rows
    ]


def test_the_command_line_names_the_line_that_it_refuses(shell: Shell) -> None:
    code, message = shell.fails("import", "--format", "sessions-table", "-", stdin="\n{}\n")
    assert code == 3
    assert message.startswith("Line 2: the row has no session_id")
    code, _ = shell.fails("import", "--format", "sessions-table", "--user", "ada", "-", stdin="")
    assert code == 2


objects = st.dictionaries(texts, json_values, max_size=3)
names = st.sampled_from(["a", "b", "Orders Trend", "é#2"])


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

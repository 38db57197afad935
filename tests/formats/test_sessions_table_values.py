"""What the columns of a table with one row per update are read as, and which rows are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from google.cloud.bigquery.table import Row as BigQueryRow

from ledger import InvalidInput, SessionLedger, ValueTooLarge
from ledger.errors import LedgerError
from ledger.formats.sessions_table import events_of_rows, import_rows, rows_of_lines
from support.sessions_table import (
    NEVER,
    START,
    AppendOnlyManager,
    Row,
    columns_of,
    exported,
    get,
    row,
    said_by,
    scenario,
)
from support.shell import Shell


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
        *("2026-03-05T10:30:00.0+01:00", "2026-03-05 09:30:00+00", "Thu, 05 Mar 2026 09:30:00 GMT"),
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
    assert shell.ok(*args) == "1 session, 8 events: 0 new, 8 already recorded.\n"

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

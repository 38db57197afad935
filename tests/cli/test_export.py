"""`ledger export`: rows of views as CSV and Parquet, and options that exclude each other."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ledger import SessionLedger
from ledger.analytics import Analytics
from ledger.analytics.questions import VIEWS
from ledger.cli.commands.export import DAY_VIEWS, SESSION_VIEWS
from ledger.testing import START, CountedIds, SetClock
from ledger.warehouse.schema import schema
from support.shell import Shell

DAYS = ("--since", "2026-03-05", "--until", "2026-03-07")


@pytest.fixture
def filled(shell: Shell) -> Shell:
    """A ledger with a session on each of three days, the first by Bob; a message is a formula."""
    clock = SetClock()
    with SessionLedger.open(shell.url, clock=clock, ids=CountedIds()) as ledger:
        for number in range(3):
            ledger.create_session("bob" if number == 0 else "ada", "q", session_id=f"s{number}")
            ledger.add_message(f"s{number}", "user", '=1+1\n\x1b[31m, "red"', message_id="m")
            clock.move(timedelta(days=1).total_seconds())
    return shell


def test_the_views_are_those_of_analytics() -> None:
    assert set(SESSION_VIEWS) == set(VIEWS)
    assert all(callable(getattr(Analytics, name)) for name in DAY_VIEWS)
    public = {name for name in vars(Analytics) if not name.startswith("_")}
    assert set(DAY_VIEWS) == public - {"view", "sessions", "days", "summary", "unpriced_models"}


def test_the_rows_of_a_view_are_csv_with_the_days_and_the_user_that_were_named(filled: Shell, tmp_path: Path) -> None:
    out = tmp_path / "sessions.csv"
    result = filled("export", "--view", "session_metrics", *DAYS, "-o", str(out))
    assert result.stderr == "2 rows exported.\n"
    rows = list(csv.DictReader(io.StringIO(out.read_text("utf-8"))))
    assert [(row["session_id"], row["day"], row["user_id"]) for row in rows] == [
        ("s0", "2026-03-05", "bob"),
        ("s1", "2026-03-06", "ada"),
    ]
    assert out.stat().st_mode & 0o077 == 0
    assert filled.json("export", "--view", "session_metrics", *DAYS, "--user", "ada", "-o", str(out)) == {
        "view": "session_metrics",
        "rows": 1,
    }
    with SessionLedger.open(filled.url) as ledger:
        answer = Analytics(ledger).view("session_metrics", "2026-03-06", "2026-03-06")
    assert out.read_text("utf-8").splitlines()[0] == ",".join(answer.columns)


def test_csv_escapes_control_characters_and_formulas_if_asked(filled: Shell) -> None:
    plain = filled.ok("export", "--view", "messages", *DAYS)
    assert plain == filled.ok(
        "sql", "SELECT * FROM messages WHERE created_at < '2026-03-07' ORDER BY created_at", "--format", "csv"
    )
    assert "\x1b" not in plain
    (first, _) = csv.DictReader(io.StringIO(filled.ok("export", "--view", "messages", *DAYS, "--csv-safe")))
    assert first["content"] == '\'=1+1\n\\u001b[31m, "red"'


def test_a_view_has_a_file_with_its_columns_for_days_without_sessions_too(filled: Shell, tmp_path: Path) -> None:
    out = tmp_path / "rows.parquet"
    for view in ("session_items", "messages", "daily_activity", "outcomes", "top_assets", "cohorts"):
        days = ("--since", "2025-01-01", "--until", "2025-01-02")
        filled.ok("export", "--view", view, "--format", "parquet", *days, "-o", str(out))
        assert pq.read_schema(out).names == [column.name for column in schema(view)[0].columns]


def test_the_types_of_a_view_are_those_of_its_columns(filled: Shell, tmp_path: Path) -> None:
    out = tmp_path / "rows.parquet"
    filled.ok("export", "--view", "session_metrics", "--format", "parquet", *DAYS, "-o", str(out))
    table = pq.read_table(out)
    kinds = {name: str(table.schema.field(name).type) for name in ("day", "created_at", "turn_count", "is_success")}
    assert kinds == {
        "day": "date32[day]",
        "created_at": "timestamp[us, tz=UTC]",
        "turn_count": "int64",
        "is_success": "bool",
    }
    assert table["created_at"].to_pylist() == [START, START + timedelta(days=1)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--format csv", "--format csv requires --view VIEW."),
        ("--view messages --format events", "--view requires --format csv or --format parquet."),
        ("--view messages s1", "--view takes no SESSION_ID; choose days with --since and --until."),
        ("--view nothing", "'nothing' is not one of"),
        ("--view cohorts --user ada", "--user requires one of the views session_metrics,"),
        ("--view messages --since 2026-03-05T10:00:00Z", "With --view, --since is a day, such as 2026-11-21."),
        ("--view messages --since 2026-03-06 --until 2026-03-05", "first_day 2026-03-06 is after last_day 2026-03-04"),
        ("--status completed", "--status requires --format openai-chat."),
        ("--format parquet --min-score q=1 -o x", "--min-score requires --format openai-chat."),
        ("--format parquet", "--format parquet requires --output FOLDER."),
        ("--format parquet --view messages", "--format parquet requires --output FILE."),
        ("--format openai-chat s1 --status completed", "Give either a SESSION_ID or --status."),
        ("s1 --user ada", "Give either a SESSION_ID or --user."),
        ("--format openai-chat --min-score q=high", "q must be at least a number, not 'high'"),
        ("--format openai-chat --min-score q=nan", "q must be at least a number, not 'nan'"),
        ("--csv-safe", "--csv-safe requires --format csv."),
        ("--view messages --json", "--json requires --output."),
        ("-o {folder}", "is a directory."),
        ("--view messages -o {folder}", "is a directory."),
        ("--format openai-chat -o {folder}", "is a directory."),
        ("-o {folder}/missing/x", "No such file or directory"),
        ("--format parquet -o {folder}/missing/x", "No such file or directory"),
        ("--format parquet -o {folder}/ledger.db", "is a file of the ledger itself"),
    ],
)
def test_options_that_do_not_fit_are_refused(filled: Shell, tmp_path: Path, arguments: str, says: str) -> None:
    assert says in filled.fails("export", *arguments.format(folder=tmp_path).split())[1]


def test_events_can_be_chosen_by_user_and_days(filled: Shell) -> None:
    assert filled.ok("export", "--user", "ada").count("\n") == 4
    assert filled.ok("export", "--since", "2026-03-06", "--until", "2026-03-07") == filled.ok("export", "s1")
    assert filled.ok("export", "--user", "nobody") == ""

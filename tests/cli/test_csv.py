"""CSV of `ledger sql` and query_sessions.py: control characters are escaped, and formulas neutralised by choice."""

from __future__ import annotations

import csv
import io

import pytest
from click.testing import CliRunner, Result

from ledger import SessionLedger
from ledger.cli.app import ledger as command
from ledger.cli.scripts.commands import query_sessions

TITLES = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "plain", "a\x1b[2Jb", "two\nlines", "'quoted", '=a,"b"']


@pytest.fixture
def url(tmp_path) -> str:
    made = f"sqlite:///{tmp_path}/l.db"
    with SessionLedger.open(made) as ledger:
        for number, title in enumerate(TITLES):
            ledger.create_session("ada", "q", session_id=f"s{number:02}", fields={"title": title})
    return made


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["-u", url, *arguments])


def cells(output: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(output)))


@pytest.mark.duckdb
def test_control_characters_are_escaped_wherever_csv_goes(url):
    done = run(url, "sql", "SELECT title FROM sessions ORDER BY session_id", "--format", "csv")
    assert "\x1b" not in done.stdout
    shown = [title for (title,) in cells(done.stdout)[1:]]
    assert shown == [title.replace("\x1b", "\\u001b").replace("\r", "\\u000d") for title in TITLES]


@pytest.mark.duckdb
def test_csv_safe_puts_an_apostrophe_before_formulas_and_leaves_numbers(url):
    statement = "SELECT title, -5 AS less, -0.5 AS part FROM sessions ORDER BY session_id"
    header, *rows = cells(run(url, "sql", statement, "--format", "csv", "--csv-safe").stdout)
    assert header == ["title", "less", "part"]
    titles = [title for title, _, _ in rows]
    assert titles[:7] == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\tx", "'\\u000dx", "plain"]
    assert titles[8:] == ["two\nlines", "'quoted", '\'=a,"b"']
    assert {tuple(rest) for _, *rest in rows} == {("-5", "-0.5")}


def test_csv_safe_is_for_csv(url):
    done = run(url, "sql", "SELECT 1", "--csv-safe")
    assert done.exit_code == 2
    assert "--csv-safe requires --format csv" in done.output


def test_the_script_writes_the_same_csv(url):
    arguments = ["--url", url, "--limit", "50", "--format", "csv"]
    plain = CliRunner().invoke(query_sessions, arguments)
    assert "\x1b" not in plain.stdout
    safe = CliRunner().invoke(query_sessions, [*arguments, "--csv-safe"])
    titles = [row["title"] for row in csv.DictReader(io.StringIO(safe.stdout))]
    assert "'=1+1" in titles
    assert "plain" in titles


@pytest.mark.duckdb
@pytest.mark.parametrize("tail", ["; -- the end", ";\n/* the\nend */\n", "; # the end", ";;", " -- no semicolon"])
def test_a_comment_may_follow_the_last_semicolon(url, tail):
    done = run(url, "sql", f"SELECT 1 AS one{tail}", "--format", "csv")
    assert done.stdout == "one\n1\n", done.output
    assert run(url, "sql", f"SELECT 1 AS one; SELECT 2{tail}").exit_code == 3

"""``ledger chart`` and ``ledger report``: what they write, and what they refuse."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ledger import SessionLedger
from ledger.analytics.charts import CHARTS
from ledger.cli.exits import USAGE
from ledger.testing import START, CountedIds, SetClock
from support.pages import Page
from support.shell import Shell

pytestmark = pytest.mark.duckdb
DAYS = ("--until", (START + timedelta(days=1)).date().isoformat())
INVALID = 3


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    shell = Shell(tmp_path_factory.mktemp("charts") / "l.db")
    with SessionLedger.open(shell.url, clock=SetClock(), ids=CountedIds(), relay="off") as ledger:
        sid = ledger.create_session("ada", "q", fields={"attribute": {"topic": "stock"}})
        ledger.add_message(sid, "user", "hi")
    return shell


def test_the_charts_are_listed_with_what_they_show(recorded):
    lines = recorded.ok("chart").splitlines()
    assert [line.split()[0] for line in lines] == ["chart", *CHARTS]
    listed = recorded.json("chart")["charts"]
    assert {each["name"]: each["title"] for each in listed} == {name: chart.title for name, chart in CHARTS.items()}


def test_a_chart_is_written_in_the_format_of_the_file(recorded, tmp_path):
    for suffix in ("png", "svg", "html", "JSON"):
        result = recorded("chart", "daily_activity", "--out", str(tmp_path / f"c.{suffix}"), *DAYS)
        assert result.exit_code == 0, result.stderr
        assert result.stdout == ""
        assert f"2026-02-27 to {START.date()}; 1 row." in result.stderr
    assert (tmp_path / "c.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert ElementTree.fromstring((tmp_path / "c.svg").read_bytes()).tag.endswith("svg")  # noqa: S314 - our own
    Page((tmp_path / "c.html").read_text()).check_alone()
    assert json.loads((tmp_path / "c.JSON").read_text())["title"]["text"] == CHARTS["daily_activity"].title
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.JSON", "c.html", "c.png", "c.svg"]


def test_the_numbers_of_a_chart_are_json(recorded):
    told = recorded.json("chart", "outcomes", "--attribute", "topic", "--days", "2", *DAYS)
    assert (told["first_day"], told["last_day"], told["file"]) == ("2026-03-04", "2026-03-05", None)
    assert dict(zip(told["columns"], told["rows"][0], strict=True))["value"] == "stock"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("chart", "daily_activity"), USAGE, "Name a file with --out: .png, .svg, .html or .json."),
        (("chart", "daily_activity", "--out", "a.gif"), USAGE, "--out 'a.gif' ends with none of .png, .svg"),
        (("chart", "--out", "a.png"), USAGE, "--out needs the NAME of a chart"),
        (("chart", "dayly_activity", "--out", "a.png"), INVALID, "Did you mean daily_activity"),
        (("chart", "scores", "--attribute", "topic", "--json"), INVALID, "The chart scores has no attribute"),
        (("chart", "scores", "--json", "--since", "2026-03-01", "--days", "3"), USAGE, "Give --since or --days, not"),
        (("chart", "scores", "--json", "--since", "yesterday"), USAGE, "A day looks like 2026-11-30, not like 'yes"),
        (("chart", "scores", "--json", "--since", "2026-03-02", "--until", "2026-03-02"), USAGE, "must be before"),
        (("chart", "scores", "--json", "--until", "0001-01-05"), INVALID, "before the year 1"),
        (("export", "--view", "outcomes", "--until", "0001-01-01"), USAGE, "after the year 1 began"),
        (("prices", "missing", "--to", "9999-12-31"), INVALID, "the last day of the calendar"),
        (("report",), USAGE, "Missing option"),
        (("report", "--out", "r.html", "--days", "0"), USAGE, "0 is not in the range"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(recorded, arguments, code, message):
    found = recorded.fails(*arguments)
    assert found[0] == code
    assert message in found[1]


@pytest.mark.parametrize("command", [("chart", "cohorts"), ("report",)])
def test_a_file_of_the_ledger_is_not_overwritten(recorded, command, tmp_path):
    link = tmp_path / "l.html"
    link.symlink_to(recorded.path)
    before = recorded.path.read_bytes()
    assert recorded.fails(*command, "--out", str(link))[0] == INVALID
    assert recorded.path.read_bytes() == before


def test_a_report_is_a_page_and_replaces_the_former_one(recorded, tmp_path):
    out = tmp_path / "report.html"
    out.write_text("former")
    result = recorded("report", "--out", str(out), *DAYS, "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["file"], told["last_day"], told["bytes"]) == (str(out), "2026-03-05", out.stat().st_size)
    Page(out.read_text()).check_alone()
    assert list(tmp_path.iterdir()) == [out]


def test_a_report_that_cannot_be_written_leaves_the_former_one(recorded, tmp_path, monkeypatch):
    out = tmp_path / "report.html"
    out.write_text("former")
    monkeypatch.setattr("ledger.analytics.report.report_page", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        recorded("report", "--out", str(out), *DAYS)
    assert out.read_text() == "former"
    assert list(Path(tmp_path).iterdir()) == [out]

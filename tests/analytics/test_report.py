"""The report of a period: one page that loads nothing, with a table for each chart."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest

from ledger import InvalidInput, MissingExtra, SessionLedger
from ledger.analytics import Analytics
from ledger.analytics.charts import CHARTS
from ledger.analytics.charts.catalogue import draw
from ledger.analytics.charts.inline import chart_page
from ledger.analytics.pages import ROWS, cell, table
from ledger.analytics.report import report_page
from ledger.testing import START, CountedIds, SetClock
from support.pages import Page

pytestmark = pytest.mark.duckdb
MARKUP = "</td></svg><script>x()</script>"
FIRST, LAST = START.date(), START.date() + timedelta(days=1)


@pytest.fixture(scope="module")
def analytics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Analytics]:
    """A session before the period and two in it; what users and agents name is markup."""
    clock = SetClock()
    with SessionLedger.open(
        f"sqlite:///{tmp_path_factory.mktemp('report')}/l.db", clock=clock, ids=CountedIds()
    ) as led:
        for day in (-1, 0, 1):
            clock.now = START + timedelta(days=day)
            sid = led.create_session(MARKUP, fields={"attribute": {MARKUP: MARKUP}})
            led.update_session(sid, {"tool_calls": [{"name": MARKUP, "tables": [MARKUP]}]})
            led.update_tool_call_status(sid, MARKUP, "failed", {"type": MARKUP, "message": MARKUP})
            led.record_model_call(sid, MARKUP, provider=MARKUP, cost_usd=0.5)
            led.add_message(sid, "user", MARKUP)
            led.add_query(sid, MARKUP)
            led.add_score(sid, MARKUP, 1)
        yield Analytics(led)


@pytest.fixture(scope="module")
def text(analytics: Analytics) -> str:
    return report_page(analytics, FIRST, LAST, made_at=START)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_a_report_loads_and_runs_nothing_whatever_was_recorded(page):
    page.check_alone()


def test_what_was_recorded_is_text_of_the_page(page, text):
    assert "<script" not in text
    assert page.texts.count(MARKUP) > 5


def test_each_chart_has_a_heading_a_title_a_description_and_a_table(page):
    pictures = page.named("svg")
    assert [picture["role"] for picture in pictures] == ["img"] * len(CHARTS)
    named = [str(picture["aria-labelledby"]).split() for picture in pictures]
    assert named == [[f"{name}-title", f"{name}-desc"] for name in CHARTS]
    assert len(page.named("table")) == len(page.named("caption")) == len(CHARTS)
    assert {attributes["scope"] for attributes in page.named("th")} == {"col"}
    ids = page.ids()
    assert len(ids) == len(set(ids))
    assert {each for pair in named for each in pair} <= set(ids)
    assert {str(link["href"])[1:] for link in page.named("a")} == set(CHARTS)
    assert [heading["id"] for heading in page.named("h2")] == [
        "numbers-heading",
        *(f"{name}-heading" for name in CHARTS),
    ]


def test_key_numbers_stand_beside_those_of_the_period_before(page):
    at = page.texts.index("Sessions")
    assert page.texts[at : at + 3] == ["Sessions", "2", "+100%, 1 before"]
    assert f"Beside those of the period before, {START.date() - timedelta(days=2)} to " in "".join(page.texts)
    assert "$1.00" in page.texts
    at = page.texts.index("Input tokens")
    assert page.texts[at : at + 3] == ["Input tokens", "-", "not known before"]


def test_a_report_says_once_that_its_days_are_in_utc_and_when_it_was_made(page):
    said = "".join(page.texts[page.style_at() + 1 :])
    assert said.count("Days and times are in UTC.") == 1
    assert f"Made on {START:%Y-%m-%d} at {START:%H:%M}." in said


def test_a_report_of_an_empty_ledger_says_that_there_is_no_data(tmp_path):
    with SessionLedger.open(f"sqlite:///{tmp_path / 'l.db'}") as ledger:
        page = Page(report_page(Analytics(ledger), "2026-11-30", "2026-11-30"))
    page.check_alone()
    assert page.texts.count("No data on 2026-11-30") == len(CHARTS)


def test_a_chart_is_a_page_of_its_own(analytics):
    page = Page(chart_page(draw("tool_usage", analytics, FIRST, LAST)))
    page.check_alone()
    assert len(page.named("svg")) == len(page.named("table")) == 1


def test_text_and_lines_of_charts_have_the_colours_of_the_page(page):
    classes = {attributes.get("class") for name, attributes in page.elements if name in ("text", "line")}
    assert {"ink", "muted", "line"} <= classes
    assert "#1f2328" in {attributes.get("fill") for attributes in page.named("text")}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (1234567, "1,234,567"),
        (0.123456, "0.1235"),
        (12345.678, "12,346"),
        (2.0, "2"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (True, "True"),
        (FIRST, "2026-03-05"),
        (START, "2026-03-05 09:30"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("x" * 400, "x" * 300 + "…"),
    ],
)
def test_values_of_a_table_are_short_and_escaped(value, shown):
    assert cell(value) == shown


def test_a_long_table_is_folded_and_cut():
    text = table("<i>", ("name", "count"), [("a", number) for number in range(ROWS + 1)])
    assert "<details><summary>Table: 1,001 rows, the first 1,000 shown</summary>" in text
    assert "&lt;i&gt;" in text
    assert text.count("<tr>") == ROWS + 1
    assert text.count('class="number"') == ROWS + 1


def test_days_in_the_wrong_order_are_refused(analytics):
    with pytest.raises(InvalidInput, match="is after last_day"):
        report_page(analytics, LAST, FIRST)


def test_a_report_without_the_extra_names_it(analytics, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(MissingExtra, match=r"Not installed: vl-convert-python\."):
        report_page(analytics)

"""Charts: what each shows, for answers of a ledger and for answers with strange values."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from xml.etree import ElementTree

import pytest

from ledger import InvalidInput, MissingExtra, SessionLedger
from ledger.analytics import Analytics
from ledger.analytics.charts import CHARTS, Days, Picture, draw
from ledger.testing import START, CountedIds, SetClock
from ledger.warehouse.answer import Answer

pytestmark = pytest.mark.duckdb
MARKUP = "<script>x</script>"
FIRST, LAST = START.date(), START.date() + timedelta(days=2)
DAYS = Days(FIRST, LAST)
#: What a tool and a model did on one day, with everything unknown that may be.
TOOL = {
    "day": FIRST,
    "tool": "sql",
    "call_count": 4,
    "completed_count": 2,
    "failed_count": 1,
    **dict.fromkeys(("retry_count", "attempt_failure_count", "latency_p50_ms", "latency_p95_ms")),
}
_UNKNOWN = (
    *("provider", "input_token_count", "output_token_count", "cached_input_token_count", "reasoning_token_count"),
    *("cost_usd", "duration_p50_ms", "duration_p95_ms"),
)
MODEL = {
    "day": FIRST,
    "model": "small",
    "call_count": 1,
    "failed_count": 0,
    "unpriced_count": 1,
    **dict.fromkeys(_UNKNOWN),
}
SESSION = {"day": FIRST, "outcome": "completed", "is_success": True, "duration_ms": 1500.0}


@pytest.fixture(scope="module")
def analytics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Analytics]:
    """Two sessions on each of three days, in which a tool whose name is markup fails."""
    folder, clock = tmp_path_factory.mktemp("charts"), SetClock()
    with SessionLedger.open(f"sqlite:///{folder}/l.db", clock=clock, ids=CountedIds()) as ledger:
        for number in range(6):
            clock.now = START + timedelta(days=number // 2)
            fields = {"attribute": {"topic": MARKUP if number else "stock"}}
            sid = ledger.create_session(f"user{number}", fields=fields)
            ledger.update_session(sid, {"tool_calls": [{"name": MARKUP, "tables": [MARKUP]}]})
            ledger.update_tool_call_status(sid, MARKUP, "running")
            clock.now += timedelta(seconds=2)
            ledger.update_tool_call_status(sid, MARKUP, "failed", {"type": MARKUP, "message": "late"})
            ledger.record_model_call(sid, MARKUP, cost_usd=0.5, input_tokens=10, output_tokens=3, duration_ms=900)
            ledger.add_message(sid, "user", "hi")
            ledger.add_query(sid, MARKUP)
            ledger.add_score(sid, MARKUP, number)
            ledger.update_session(sid, {"status": "completed"})
        yield Analytics(ledger)


@pytest.fixture(scope="module")
def pictures(analytics: Analytics) -> dict[str, Picture]:
    return {name: draw(name, analytics, FIRST, LAST) for name in CHARTS}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Analytics]:
    with SessionLedger.open(f"sqlite:///{tmp_path_factory.mktemp('empty')}/l.db") as ledger:
        yield Analytics(ledger)


def drawn(name, *rows, days=DAYS):
    columns = tuple(rows[0]) if rows else ()
    return CHARTS[name].draw(Answer(columns, [tuple(row.values()) for row in rows]), days)


def values(picture):
    """All rows of data in a chart."""

    def inside(part):
        if isinstance(part, dict) and isinstance(part.get("data"), dict):
            yield from part["data"]["values"]
        for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from inside(each)

    return list(inside(picture.chart.to_dict()))


def texts(picture):
    """All texts of the SVG of a chart, whose markup must be well formed."""
    return {text for text in ElementTree.fromstring(picture.to_svg()).itertext() if text.strip()}  # noqa: S314 - our own


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_has_its_title_its_days_in_utc_once_and_its_data_and_loads_nothing(pictures, name):
    spec = json.loads(pictures[name].to_json())
    assert spec == pictures[name].chart.to_dict()
    assert spec["title"]["text"] == CHARTS[name].title
    assert spec["title"]["subtitle"].startswith(f"{FIRST} to {LAST} (UTC)")
    text = json.dumps(spec)
    assert text.count("UTC") == 1
    assert re.findall(r"https?://[^\"]*", text) == [spec["$schema"]]
    assert '"url"' not in text
    assert values(pictures[name])


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_has_its_numbers_as_a_table(pictures, name):
    picture = pictures[name]
    assert len(picture.rows) > 0
    assert {len(row) for row in picture.rows} == {len(picture.columns)}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_an_svg_that_a_parser_reads_and_whose_data_is_no_markup(pictures, name):
    svg = pictures[name].to_svg()
    found = set(ElementTree.fromstring(svg).itertext())  # noqa: S314 - our own
    assert CHARTS[name].title in found
    assert "<script" not in svg
    named = {"tool_usage", "tool_latency", "outcomes", "errors", "top_assets", "queries", "model_usage", "scores"}
    assert any(MARKUP in text for text in found) or name not in named


def test_a_chart_is_a_png_in_the_resolution_that_is_asked_for(pictures):
    small, large = (pictures["cohorts"].to_png(scale) for scale in (0.5, 1))
    assert small[:8] == large[:8] == b"\x89PNG\r\n\x1a\n"
    widths = [int.from_bytes(png[16:20], "big") for png in (small, large)]
    assert abs(widths[1] - 2 * widths[0]) <= 1


@pytest.mark.parametrize("name", CHARTS)
def test_an_empty_ledger_gives_a_picture_that_says_so(empty, name):
    picture = draw(name, empty, "2026-11-01", "2026-11-30")
    assert picture.rows == []
    assert values(picture) == [{"text": "No data from 2026-11-01 to 2026-11-30"}]


def test_a_day_without_data_is_named_alone(empty):
    assert "No data on 2026-11-30" in texts(draw("cohorts", empty, "2026-11-30", "2026-11-30"))


def test_a_thousand_tools_are_twenty_bars_and_a_table_of_all():
    picture = drawn("tool_usage", *({**TOOL, "tool": f"tool {number}", "call_count": number} for number in range(1000)))
    names = {row["name"] for row in values(picture)}
    assert len(names) == 20
    assert {"tool 999", "981 others"} <= names
    assert len(picture.rows) == 1000
    assert picture.rows[0][:2] == ("tool 999", 999)
    shown = [row for row in values(picture) if row["name"] == "981 others" and row.get("series") == "failed"]
    assert [row["value"] for row in shown] == [981]


def test_long_and_unprintable_names_are_cut_and_stay_apart():
    names = ["x" * 300, "x" * 301, "a\nb\x00", None, "", "日本語"]
    picture = drawn("tool_usage", *({**TOOL, "tool": name} for name in names))
    shown = {row["name"] for row in values(picture)}
    assert shown == {f"{'x' * 31}…", f"{'x' * 31}… (2)", "a?b?", "(none)", '""', "日本語"}
    assert shown - {"日本語"} <= texts(picture)


@pytest.mark.parametrize("latency", [None, -5.0, 0.0, float("nan"), float("inf"), 1e15])
def test_latencies_that_are_no_durations_are_drawn_at_the_least_or_not_at_all(latency):
    row = {**TOOL, "latency_p50_ms": latency, "latency_p95_ms": latency}
    for name in ("tool_usage", "tool_latency"):
        picture = drawn(name, row)
        assert picture.to_svg()
        found = [each["value"] for each in values(picture) if each.get("series") == "median"]
        assert found == ([max(1, latency)] if latency in (-5.0, 0.0, 1e15) else [])


def test_bars_of_a_tool_that_never_finished_have_no_failure_ratio():
    picture = drawn("tool_usage", {**TOOL, "completed_count": 0, "failed_count": 0})
    assert picture.rows[0][4] is None
    assert [row["series"] for row in values(picture)] == ["not finished"]


def test_models_without_tokens_and_prices_have_calls_alone():
    picture = drawn("model_usage", MODEL, {**MODEL, "provider": "here"})
    assert len(picture.chart.to_dict()["vconcat"]) == 1
    assert {row["series"] for row in values(picture)} == {"small", "small (here)"}
    assert "2 calls have no price" in picture.subtitle
    assert picture.rows[1] == (None, "small", 1, 0, None, None, None, None, None, 1)


def test_many_models_share_six_colours_and_the_last_is_grey():
    picture = drawn("model_usage", *({**MODEL, "model": f"m{number}", "call_count": number} for number in range(1, 50)))
    scale = picture.chart.to_dict()["vconcat"][0]["encoding"]["color"]["scale"]
    assert scale["domain"] == ["m49", "m48", "m47", "m46", "m45", "44 others"]
    assert len(set(scale["range"])) == 6


def test_sessions_without_a_duration_have_a_bar_of_their_own():
    times = (None, -1.0, 1500.0, 7 * 86_400_000.0)
    picture = drawn("session_durations", *({**SESSION, "duration_ms": time} for time in times))
    assert [row[:2] for row in picture.rows if row[1]] == [("1-10 s", 1), ("a day or more", 1), ("not known", 2)]
    assert "median" in picture.subtitle


def test_a_day_of_open_sessions_has_no_success_ratio():
    picture = drawn("session_outcomes", {**SESSION, "outcome": "open", "is_success": None})
    assert picture.rows == [(FIRST, 1, 0, 0, 0, 1, 0, None)]
    assert [row["value"] for row in values(picture)] == [1]


def test_a_completed_session_of_which_success_is_unknown_is_in_no_success_ratio():
    unknown = {**SESSION, "is_success": None}
    picture = drawn("session_outcomes", SESSION, unknown)
    assert picture.rows == [(FIRST, 2, 2, 0, 0, 0, 1, 1.0)]


def test_weeks_without_users_who_came_back_are_zero_and_later_weeks_are_not_drawn():
    row = {"user_count": 4, "active_user_count": 4, "session_count": 4, "retention_ratio": 1.0, "week_number": 0}
    weeks = [date(2026, 3, 2), date(2026, 3, 9)]
    picture = drawn(
        *("cohorts", *({"cohort_week": week, **row} for week in weeks)), days=Days(weeks[0], date(2026, 3, 22))
    )
    cells = {(row["name"], row["later"]): row["value"] for row in values(picture)}
    of = [f"{week} (4 users)" for week in weeks]
    assert cells == {(of[0], 0): 1.0, (of[0], 1): 0, (of[0], 2): 0, (of[1], 0): 1.0, (of[1], 1): 0}


@pytest.mark.parametrize(
    ("numbers", "bins"),
    [
        ([1, 1, 4], [("1", 2), ("2", 0), ("3", 0), ("4", 1)]),
        ([0.25, 0.5], [("0.25", 1), ("0.5", 1)]),
        ([0.1 * step for step in range(10)], [(f"{step / 10:g}", 1) for step in range(10)]),
        ([1e308, -1e308, 0, 1, 2, 3, 0.5], [("-1e+308", 1), ("0", 5), ("1e+308", 1)]),
        ([0.0] * 3, [("0", 3)]),
    ],
)
def test_scores_have_a_bar_for_each_value_or_for_ranges_of_round_numbers(numbers, bins):
    given = [("helpful", float(number)) for number in numbers] + [("helpful", None), ("said", None)]
    picture = drawn("scores", *({"name": name, "score": score, "is_copy": False} for name, score in given))
    found = [(row["bin"], row["value"]) for row in values(picture)]
    assert [each for each in found if each[1]] == [each for each in bins if each[1]]
    assert [row[-1] for row in picture.rows] == [1, 1]


@pytest.mark.parametrize("name", ["scores", "queries"])
def test_what_a_fork_copied_is_counted_once(name):
    row = {"name": "helpful", "score": 1.0, "query_type": "sql", "is_cache_hit": None, "execution_time_ms": None}
    counted = [drawn(name, row | {"is_copy": False}, *copies).rows for copies in ([], [row | {"is_copy": True}] * 2)]
    assert counted[0] == counted[1] != []


def test_attributes_that_differ_in_each_session_come_last():
    row = {"session_count": 1, "user_count": 1, "session_ratio": 0.1}
    rows = [{"name": "order", "value": str(number), **row} for number in range(50)]
    rows += [{"name": "topic", "value": value, **row, "session_count": 20} for value in ("stock", "orders")]
    picture = drawn("attribute_distribution", *rows)
    panels = picture.chart.to_dict()["vconcat"]
    assert [panel["layer"][0]["encoding"]["y"]["axis"]["title"] for panel in panels] == ["topic", "order"]
    assert [row["name"] for row in values(picture) if row["value"] == 43] == ["43 others"]


def test_errors_after_the_last_day_are_said():
    row = {"item_type": "error", "name": None, "error_type": None, "is_copy": False}
    late = {**row, "day": LAST + timedelta(days=1)}
    picture = drawn("errors", {**row, "day": FIRST}, late, {**late, "is_copy": True})
    assert "1 later one" in picture.subtitle
    assert picture.rows == [("session", None, None, 2)]


def test_an_attribute_limits_charts_of_attributes_alone(analytics):
    picture = draw("outcomes", analytics, FIRST, LAST, attribute="topic")
    assert {row[0] for row in picture.rows} == {"topic"}
    with pytest.raises(InvalidInput, match="The chart scores has no attribute; those of attributes are outcomes and"):
        draw("scores", analytics, attribute="topic")


@pytest.mark.parametrize(
    ("name", "hint"), [("tool_usge", "Did you mean tool_usage"), ("x" * 99, "There are daily_act")]
)
def test_a_chart_that_does_not_exist_is_refused(analytics, name, hint):
    with pytest.raises(InvalidInput, match=hint):
        draw(name, analytics)


@pytest.mark.parametrize(("module", "package"), [("altair", "altair"), ("vl_convert", "vl-convert-python")])
def test_a_missing_package_is_named_with_the_extra(analytics, pictures, monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf'Not installed: {package}. Type .*"\.\[charts\]"'):
        draw("cohorts", analytics, FIRST, LAST) if module == "altair" else pictures["cohorts"].to_png()

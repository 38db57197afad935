"""A period as a page: key numbers beside those of the period before, charts, and their numbers as tables."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from html import escape

from ledger.analytics.charts.catalogue import CHARTS
from ledger.analytics.charts.values import Days
from ledger.analytics.pages import numbers, page
from ledger.analytics.quantities import (
    UNKNOWN,
    change_text,
    count_text,
    dollars_text,
    duration_text,
    points_text,
    ratio_text,
)
from ledger.analytics.questions import Analytics, Day
from ledger.analytics.summary import Summary
from ledger.extras import require_extra
from ledger.warehouse.answer import Answer


def report_page(
    analytics: Analytics,
    first_day: Day | None = None,
    last_day: Day | None = None,
    *,
    made_at: datetime | None = None,
) -> str:
    """Return a report of these days as one HTML page, which loads nothing from elsewhere and runs no script.

    It has numbers beside those of as many days before, every chart as inline SVG, and the numbers of each as a table.
    All that was recorded is escaped. It is light or dark as the reader's system is, and can be printed.

    Args:
        analytics: The views and functions of a ledger.
        first_day, last_day: The days, as everywhere in ``Analytics``.
        made_at: Time of the report, in UTC, which its last line tells.

    Raises:
        InvalidInput: A day cannot be read.
        MissingExtra: altair or vl-convert is not installed.
    """
    require_extra("charts")
    from ledger.analytics.charts.inline import section

    days = Days(*analytics.days(first_day, last_day))
    answers: dict[str, Answer] = {}
    sections = []
    for chart in CHARTS.values():
        if chart.source not in answers:
            answers[chart.source] = chart.ask(analytics, days)
        sections.append(section(chart.draw(answers[chart.source], days)))
    summary = analytics.summary(*days)
    links = "".join(f'<li><a href="#{name}">{escape(chart.title)}</a></li>' for name, chart in CHARTS.items())
    before = days.before
    made = "" if made_at is None else f"<p>Made on {made_at:%Y-%m-%d} at {made_at:%H:%M}.</p>\n"
    body = [
        f"<header>\n<h1>Sessions, {escape(days.text)}</h1>\n<p class='note'>Days and times are in UTC.</p>\n</header>",
        '<section id="numbers" aria-labelledby="numbers-heading">',
        '<h2 id="numbers-heading">Key numbers</h2>',
        f'<p class="note">Beside those of the period before, {escape(before.text)}.</p>',
        numbers(_facts(summary)),
        "</section>",
        f'<nav aria-label="Charts"><ul>{links}</ul></nav>',
        *sections,
        f"<footer>\n{made}<p>{_MEANINGS}</p>\n</footer>",
    ]
    return page(f"Sessions, {days.text}", "\n".join(body))


_MEANINGS = (
    "- is a number that is not known, such as the price of calls that told none. A session succeeded if it was "
    "completed and its attribute reward, if it has one, is at least 1. It is abandoned if it was neither completed nor "
    "failed, and it expired, was archived or deleted, or nothing was recorded in it for 24 hours."
)


def _facts(summary: Summary) -> Iterator[tuple[str, str, str]]:
    """Yield the name, the value and the note of each key number."""
    now, then = summary.current, summary.before
    for name, value, before in (
        ("Sessions", now.session_count, then.session_count),
        ("Users", now.user_count, then.user_count),
        ("Messages", now.message_count, then.message_count),
        ("Tool calls", now.tool_call_count, then.tool_call_count),
        ("Model calls", now.model_call_count, then.model_call_count),
        ("Input tokens", now.input_token_count, then.input_token_count),
        ("Output tokens", now.output_token_count, then.output_token_count),
        ("Errors", now.error_count, then.error_count),
    ):
        yield name, count_text(value), _note(change_text(value, before), count_text(before))
    cost, cost_before = now.cost_usd, then.cost_usd
    yield "Cost", dollars_text(cost), _note(change_text(cost, cost_before), dollars_text(cost_before))
    for name, ratio, ratio_before in (
        ("Success ratio", now.success_ratio, then.success_ratio),
        ("Failed tool calls", now.tool_failure_ratio, then.tool_failure_ratio),
    ):
        yield name, ratio_text(ratio), _note(points_text(ratio, ratio_before), ratio_text(ratio_before))
    for name, time, time_before in (
        ("Session, median", now.session_duration_p50_ms, then.session_duration_p50_ms),
        ("Tool call, median", now.tool_latency_p50_ms, then.tool_latency_p50_ms),
        ("Model call, median", now.model_duration_p50_ms, then.model_duration_p50_ms),
    ):
        yield name, duration_text(time), _note(change_text(time, time_before), duration_text(time_before))


def _note(change: str, before: str) -> str:
    """Return how a number changed, and what it was before."""
    if before == UNKNOWN:
        return "not known before"
    return f"{before} before" if change == UNKNOWN else f"{change}, {before} before"

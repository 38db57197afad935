"""The charts by name: what each shows, which question it draws the answer of, and the function that draws it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ledger.analytics.charts.picture import Picture
from ledger.analytics.charts.values import Days, Drawn
from ledger.analytics.questions import VIEWS, Analytics, Day
from ledger.errors import InvalidInput
from ledger.extras import require_extra
from ledger.model.names import did_you_mean
from ledger.warehouse.answer import Answer


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart that can be drawn.

    Attributes:
        name: Its name.
        title: What it shows.
        source: The view, or the method of ``Analytics``, whose answer it draws.
        module: The module of ``ledger.analytics.charts`` with the function of this name that draws it.
        by_attribute: True if it can be limited to one attribute.
    """

    name: str
    title: str
    source: str
    module: str
    by_attribute: bool = False

    def check(self, attribute: str | None) -> None:
        """Raise InvalidInput if an attribute is given and the chart is not one of attributes."""
        if attribute is not None and not self.by_attribute:
            others = " and ".join(name for name, chart in CHARTS.items() if chart.by_attribute)
            raise InvalidInput(f"The chart {self.name} has no attribute; those of attributes are {others}.")

    def ask(self, analytics: Analytics, days: Days, attribute: str | None = None) -> Answer:
        """Return the answer that the chart draws.

        Args:
            analytics: The views and functions of a ledger.
            days: The days.
            attribute: Only this attribute.
        """
        self.check(attribute)
        if self.source in VIEWS:
            return analytics.view(self.source, *days)
        method: Callable[..., Answer] = getattr(analytics, self.source)
        return method(*days) if attribute is None else method(*days, attribute=attribute)

    def draw(self, answer: Answer, days: Days) -> Picture:
        """Return the picture of an answer.

        Args:
            answer: An answer of the chart's source.
            days: The days that were asked about.

        Raises:
            MissingExtra: altair is not installed.
        """
        require_extra("charts", "altair")
        from ledger.analytics.charts.style import empty

        function: Callable[[list[dict[str, Any]], Days], Drawn] = getattr(
            import_module(f"ledger.analytics.charts.{self.module}"), self.name
        )
        drawn = function(list(answer), days)
        body = empty(days) if drawn.body is None else drawn.body
        return Picture(self.name, self.title, days, drawn.note, body, drawn.columns, drawn.rows)


_ALL = (
    Chart("daily_activity", "Sessions, users, messages, calls and errors by day", "daily_activity", "activity"),
    Chart("session_outcomes", "How sessions ended, by day", "session_metrics", "sessions"),
    Chart("session_durations", "How long sessions took", "session_metrics", "sessions"),
    Chart("outcomes", "How sessions ended, by attribute", "outcomes", "sessions", by_attribute=True),
    Chart("attribute_distribution", "Sessions by attribute", "attribute_distribution", "sessions", by_attribute=True),
    Chart("tool_usage", "Calls of tools, their failures and latencies", "tool_usage", "calls"),
    Chart("tool_latency", "Latency of tools by day", "tool_usage", "latency"),
    Chart("model_usage", "Calls, tokens and cost of models by day", "model_usage", "calls"),
    Chart("model_latency", "Duration of model calls by day", "model_usage", "latency"),
    Chart("errors", "Errors by day, by type and by what failed", "errors", "findings"),
    Chart("scores", "How often each score has each value", "scores", "findings"),
    Chart("queries", "Queries by type, and answers from a cache", "queries", "findings"),
    Chart("user_activity", "Messages by user and day", "user_activity", "activity"),
    Chart("cohorts", "Users who come back, by the week of their first session", "cohorts", "findings"),
    Chart("top_assets", "Tables that tool calls use", "top_assets", "findings"),
    Chart("storage_growth", "Growth of the recorded data", "storage_growth", "activity"),
)
#: The charts by name.
CHARTS: Mapping[str, Chart] = {chart.name: chart for chart in _ALL}


def draw(
    name: str,
    analytics: Analytics,
    first_day: Day | None = None,
    last_day: Day | None = None,
    *,
    attribute: str | None = None,
) -> Picture:
    """Ask what a chart shows, and return its picture.

    Args:
        name: A name of ``CHARTS``.
        analytics: The views and functions of a ledger.
        first_day, last_day: The days, as everywhere in ``Analytics``.
        attribute: Only this attribute, in a chart of attributes.

    Raises:
        InvalidInput: There is no such chart, or a day cannot be read.
        MissingExtra: altair is not installed.
    """
    chart = chart_named(name)
    require_extra("charts", "altair")
    days = Days(*analytics.days(first_day, last_day))
    return chart.draw(chart.ask(analytics, days, attribute), days)


def chart_named(name: str) -> Chart:
    """Return the chart of this name.

    Raises:
        InvalidInput: There is no such chart.
    """
    if name not in CHARTS:
        hint = did_you_mean(str(name), CHARTS, f"There are {', '.join(CHARTS)}.")
        raise InvalidInput(f"There is no chart {str(name)[:70]!r}. {hint}")
    return CHARTS[name]

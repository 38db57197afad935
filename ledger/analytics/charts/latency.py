"""Charts of how long the calls of tools and models take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt

from ledger.analytics.charts.style import (
    BLUE,
    ORANGE,
    DayAxis,
    Panel,
    colours,
    data,
)
from ledger.analytics.charts.values import (
    Days,
    Drawn,
    known,
    labels,
    number,
)

Row = dict[str, Any]
#: Colours of the quantiles that the views have.
QUANTILES = {"median": BLUE, "95th percentile": ORANGE}
#: Maximum number of small charts.
_SMALL = 6
#: Values that a logarithmic axis of milliseconds labels, and their labels as an expression of Vega.
_MARKS: list[float] = [1, 10, 100, 1_000, 10_000, 60_000, 600_000, 3_600_000, 36_000_000, 360_000_000, 3_600_000_000]
_DURATION = (
    "datum.value < 1000 ? datum.value + ' ms' : datum.value < 60000 ? datum.value / 1000 + ' s' : "
    "datum.value < 3600000 ? datum.value / 60000 + ' min' : datum.value / 3600000 + ' h'"
)


def duration_axis(channel: Any, values: Sequence[float], title: str) -> Any:
    """Return a logarithmic channel of milliseconds around these values, labelled in ms, s, min and h."""
    low = max([mark for mark in _MARKS if mark <= min(values)] or _MARKS[:1])
    high = min([mark for mark in _MARKS if mark >= max(values) and mark > low] or [max(values)])
    axis = alt.Axis(
        title=title,
        values=[mark for mark in _MARKS if low <= mark <= high],
        labelExpr=_DURATION,
        grid=True,
    )
    if channel is alt.Y:
        axis.minExtent = 40
    return channel("value:Q", scale=alt.Scale(type="log", domain=[low, high], nice=False, clamp=True), axis=axis)


def model_name(model: tuple[Any, Any]) -> str:
    """Return the text of a pair of provider and model: the model, with its provider if somebody said so."""
    provider, name = model
    return str(name) if provider is None else f"{name} ({provider})"


def tool_latency(rows: list[Row], days: Days) -> Drawn:
    """Draw the median and the 95th percentile of the latencies of the most used tools by day."""
    columns = {
        "day": "day",
        "tool": "tool",
        "call_count": "calls",
        "latency_p50_ms": "median, ms",
        "latency_p95_ms": "95th percentile, ms",
    }
    of_tools = [(row["tool"], row) for row in rows]
    return _quantiles_by_day(of_tools, days, columns, str)


def model_latency(rows: list[Row], days: Days) -> Drawn:
    """Draw the median and the 95th percentile of the durations of the most used models by day."""
    columns = {
        "day": "day",
        "provider": "provider",
        "model": "model",
        "call_count": "calls",
        "duration_p50_ms": "median, ms",
        "duration_p95_ms": "95th percentile, ms",
    }
    of_models = [((row["provider"], row["model"]), row) for row in rows]
    return _quantiles_by_day(of_models, days, columns, model_name)


def _quantiles_by_day(
    rows: Sequence[tuple[Any, Row]],
    days: Days,
    columns: Mapping[str, str],
    text: Callable[[Any], str],
) -> Drawn:
    """Return small charts of the tools or models with most calls.

    Args:
        rows: The rows, each with its tool or model.
        days: The days.
        columns: Columns of the rows, with their names in the table. The last two are the median and the percentile.
        text: Returns the text of a tool or model.
    """
    table = [tuple(row[column] for column in columns) for _, row in rows]
    middle, high = list(columns)[-2:]
    axis = DayAxis(days, width=230, most=4)
    timed = [(thing, row) for thing, row in rows if axis.has(row["day"]) and known(row[middle]) is not None]
    if not timed:
        return Drawn(tuple(columns.values()), table)
    calls: Counter[Any] = Counter()
    for thing, row in timed:
        calls[thing] += int(number(row["call_count"]))
    order = sorted(calls, key=lambda thing: (-calls[thing], str(thing)))
    panels = []
    for thing, shown in labels({thing: text(thing) for thing in order[:_SMALL]}).items():
        points = [
            {**axis.at(row["day"]), "series": series, "value": max(1, value)}
            for each, row in timed
            if each == thing
            for series, column in zip(QUANTILES, (middle, high), strict=True)
            if (value := known(row[column])) is not None
        ]
        panels.append(_lines(axis, points, shown))
    body = alt.concat(*panels, columns=2, spacing=20).resolve_scale(y="independent", color="shared")
    cut = f"the {_SMALL} with most calls, of {len(order):,}; " if len(order) > _SMALL else ""
    return Drawn(tuple(columns.values()), table, body, f"{cut}logarithmic")


def _lines(axis: DayAxis, points: list[Row], title: str) -> Panel:
    return (
        alt.Chart(data(points), width=axis.width, height=110)
        .properties(title=alt.TitleParams(text=title, fontSize=12, fontWeight="normal", offset=6, frame="group"))
        .mark_line(strokeWidth=1.5, point=alt.OverlayMarkDef(size=22, filled=True, opacity=1))
        .encode(
            x=axis.x(title=None),
            y=duration_axis(alt.Y, [point["value"] for point in points], ""),
            color=alt.Color("series:N", scale=colours(QUANTILES), legend=alt.Legend(title=None, symbolType="circle")),
        )
    )

"""Charts of how often tools and models are called, how often the calls fail, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from ledger.analytics.charts.latency import QUANTILES, duration_axis, model_name
from ledger.analytics.charts.style import (
    RED,
    STATUSES,
    STEP,
    DayAxis,
    Panel,
    colours,
    counts,
    data,
    day_bars,
    name_axis,
    name_bars,
    ratio_bars,
    stacked,
    used_colours,
)
from ledger.analytics.charts.values import (
    Days,
    Drawn,
    known,
    number,
    ranked,
    ratio,
    summed,
)

Row = dict[str, Any]
#: Maximum number of bars, and of colours, with the others.
_BARS, _SERIES = 20, 6


def tool_usage(rows: list[Row], days: Days) -> Drawn:
    """Draw the calls of each tool, the share of them that failed, and the latencies of its days."""
    sums = ("call_count", "completed_count", "failed_count", "retry_count", "attempt_failure_count")
    tools = summed(rows, ["tool"], sums)
    columns = ("tool", "calls", "completed", "failed", "failed of finished calls", "retries", "failed attempts")
    order = sorted(tools, key=lambda tool: (-tools[tool]["call_count"], str(tool)))
    table = [
        (tool, *(of[name] for name in sums[:3]), _failed(of), *(of[name] for name in sums[3:]))
        for tool, of in ((each, tools[each]) for each in order)
    ]
    if not tools:
        return Drawn(columns, table)
    rank = ranked({tool: of["call_count"] for tool, of in tools.items()}, _BARS)
    bars = statuses(rows, rank.labels, "tool")
    shown = summed(({**row, "name": rank.labels[row["tool"]]} for row in rows), ["name"], sums)
    ratios = [{"name": name, "value": _failed(of)} for name, of in shown.items() if _failed(of) is not None]
    others = rank.order[-1] if rank.rest else None
    latencies = [
        {"name": name, "value": max(1, value), "series": series, "day": str(row["day"])}
        for row in rows
        if (name := rank.labels[row["tool"]]) != others
        for series, column in _QUANTILES
        if (value := known(row[column])) is not None
    ]
    longest = max([share["value"] for share in ratios] or [0]) or 1
    panels: list[Any] = [
        name_bars(bars, rank.order, "Tool", "Calls", used_colours(STATUSES, bars), width=240),
        ratio_bars(ratios, rank.order, "Failed of finished", RED, width=110, longest=longest),
    ]
    if latencies:
        panels.append(_latency_ticks(latencies, rank.order))
    body = alt.hconcat(*panels, spacing=16).resolve_scale(color="independent")
    note = "each line of the latencies is the value of one day" if latencies else ""
    return Drawn(columns, table, body, note)


_QUANTILES = (("median", "latency_p50_ms"), ("95th percentile", "latency_p95_ms"))


def _failed(sums: dict[str, float]) -> float | None:
    return ratio(sums["failed_count"], sums["failed_count"] + sums["completed_count"])


def statuses(rows: list[Row], names: dict[Any, str], key: str) -> list[Row]:
    """Return the number of completed, failed and unfinished calls of each name, as parts of bars."""
    parts: dict[tuple[str, str], float] = {}
    for row in rows:
        completed, failed = number(row["completed_count"]), number(row["failed_count"])
        rest = number(row["call_count"]) - completed - failed
        for status, value in (("completed", completed), ("failed", failed), ("not finished", rest)):
            part = names[row[key]], status
            parts[part] = parts.get(part, 0) + value
    return [{"name": name, "series": status, "value": value} for (name, status), value in parts.items() if value]


def _latency_ticks(rows: list[Row], order: Sequence[str]) -> Panel:
    scale = colours(QUANTILES)
    return (
        alt.Chart(data(rows), width=200, height=STEP * len(order))
        .mark_tick(thickness=2, height=STEP - 6, opacity=0.55)
        .encode(
            x=duration_axis(alt.X, [row["value"] for row in rows], "Latency, logarithmic"),
            y=name_axis(order, "", visible=False),
            color=alt.Color("series:N", scale=scale, legend=alt.Legend(title=None, orient="top")),
        )
    )


def model_usage(rows: list[Row], days: Days) -> Drawn:
    """Draw the calls, tokens and prices of each model by day."""
    names = (
        *("call_count", "failed_count", "input_token_count", "cached_input_token_count", "output_token_count"),
        *("reasoning_token_count", "cost_usd", "unpriced_count"),
    )
    columns = (
        *("provider", "model", "calls", "failed", "input tokens", "of these cached", "output tokens"),
        *("of these reasoning", "cost, USD", "calls without a price"),
    )
    models = summed(rows, ["provider", "model"], names)
    order = sorted(models, key=lambda model: (-models[model]["call_count"], str(model)))
    table = [(*model, *(models[model][name] for name in names)) for model in order]
    axis = DayAxis(days)
    shown = [row for row in rows if axis.has(row["day"])]
    if not shown:
        return Drawn(columns, table)
    rank = ranked({model: of["call_count"] for model, of in models.items()}, _SERIES, model_name)
    scale = colours(rank.order, rest=rank.rest)
    panels = [
        ("Calls", "call_count", counts("Calls")),
        ("Input tokens", "input_token_count", counts("Input tokens")),
        ("Output tokens", "output_token_count", counts("Output tokens")),
        ("Cost, USD", "cost_usd", alt.Axis(title="Cost, USD", format="~g", tickCount=4, minExtent=40)),
    ]
    used = [panel for panel in panels if any(number(row[panel[1]]) for row in shown)]
    drawn = []
    for position, (_, column, y) in enumerate(used):
        sums: dict[tuple[Any, str], float] = {}
        for row in shown:
            key = row["day"], rank.labels[row["provider"], row["model"]]
            sums[key] = sums.get(key, 0) + number(row[column])
        parts = [{**axis.at(day), "series": model, "value": value} for (day, model), value in sums.items()]
        drawn.append(day_bars(axis, parts, y, scale, last=position == len(used) - 1))
    without = sum(of["unpriced_count"] for of in models.values())
    note = f"{without:,} calls have no price" if without else ""
    return Drawn(columns, table, stacked(drawn, shared=True), note)

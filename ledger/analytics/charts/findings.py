"""Charts of errors, scores, queries, tables and returning users."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import altair as alt

from ledger.analytics.charts.calls import statuses
from ledger.analytics.charts.style import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    SKY,
    STATUSES,
    WIDTH,
    DayAxis,
    Panel,
    colours,
    counts,
    data,
    day_bars,
    name_axis,
    name_bars,
    used_colours,
)
from ledger.analytics.charts.values import (
    Days,
    Drawn,
    known,
    label,
    number,
    ranked,
    ratio,
)

Row = dict[str, Any]
_BARS, _SERIES, _SCORES = 20, 6, 6
#: Scores get a bar for each value if they are whole numbers of such a range, or so few; else bars of so many ranges.
_WHOLE, _FEW, _BINS = 20, 5, 10
#: A range that is too small to be divided.
_TINY = 1e-300
#: Maximum number of weeks of cohorts, and of weeks whose shares are written into their cells.
_COHORTS, _WRITTEN = 26, 14
_BEGAN = "in sessions that began on these days"
_WEEKS = alt.Axis(title="Weeks later", labelAngle=0)


def top_assets(rows: list[Row], days: Days) -> Drawn:
    """Draw the tables that tool calls use most."""
    columns = ("table", "calls", "completed", "failed", "sessions", "users", "last call")
    names = (
        *("asset", "call_count", "completed_count", "failed_count", "session_count", "user_count"),
        "last_planned_at",
    )
    table = [tuple(row[name] for name in names) for row in rows]
    if not rows:
        return Drawn(columns, table)
    rank = ranked({row["asset"]: number(row["call_count"]) for row in rows}, _BARS)
    parts = statuses(rows, rank.labels, "asset")
    body = name_bars(parts, rank.order, "Table", "Tool calls", used_colours(STATUSES, parts), width=WIDTH - 60)
    return Drawn(columns, table, body, _BEGAN)


def cohorts(rows: list[Row], days: Days) -> Drawn:
    """Draw the share of users that come back, by the week of their first session, as a heat map."""
    columns = ("first week", "weeks later", "users", "of these active", "sessions", "retention")
    names = ("cohort_week", "week_number", "user_count", "active_user_count", "session_count", "retention_ratio")
    table = [tuple(row[name] for name in names) for row in rows]
    if not rows:
        return Drawn(columns, table)
    sizes = {row["cohort_week"]: number(row["user_count"]) for row in rows}
    shown = sorted(sizes)[-_COHORTS:]
    names_of = {week: f"{week} ({sizes[week]:,.0f} user{'' if sizes[week] == 1 else 's'})" for week in shown}
    found = {(row["cohort_week"], row["week_number"]): number(row["retention_ratio"]) for row in rows}
    # A week in which nobody came back has no row; weeks after the last day are not 0 but unknown.
    cells: list[Row] = [
        {"name": name, "later": later, "value": found.get((week, later), 0)}
        for week, name in names_of.items()
        for later in range((days.last - week).days // 7 + 1)
    ]
    weeks = 1 + max(cell["later"] for cell in cells)
    channels: dict[str, Any] = {
        "x": alt.X("later:O", scale=alt.Scale(domain=list(range(weeks))), axis=_WEEKS),
        "y": name_axis(list(names_of.values()), "First week, from Monday"),
    }

    def chart(part: list[Row]) -> Panel:
        size = {"width": max(120, min(WIDTH - 60, 46 * weeks)), "height": 24 * len(shown)}
        return alt.Chart(data(part), **size).encode(**channels)

    key = alt.Legend(title="Active users", format=".0%", symbolType="square", symbolFillColor=BLUE)
    opacity = alt.Opacity("value:Q", scale=alt.Scale(domain=[0, 1], range=[0.06, 1]), legend=key)
    layers = [chart(cells).mark_rect(color=BLUE, stroke="white", strokeWidth=1).encode(opacity=opacity)]
    if weeks <= _WRITTEN:
        for colour, is_dark in (("white", True), (INK, False)):
            part = [{**cell, "text": f"{cell['value']:.0%}"} for cell in cells if (cell["value"] > 0.5) is is_dark]
            layers.append(chart(part).mark_text(color=colour, fontSize=10).encode(text="text:N"))
    note = f"the last {_COHORTS} weeks, of {len(sizes):,}" if len(sizes) > _COHORTS else ""
    return Drawn(columns, table, alt.layer(*layers), note)


def errors(rows: list[Row], days: Days) -> Drawn:
    """Draw what failed, by type of error and by day."""
    own = _own(rows)
    kinds = Counter((row["item_type"], row["name"], row["error_type"]) for row in own)
    columns = ("what failed", "name", "type of error", "errors")
    table = [
        ("session" if kind == "error" else str(kind).replace("_", " "), name, error, count)
        for (kind, name, error), count in sorted(kinds.items(), key=lambda item: (-item[1], str(item[0])))
    ]
    axis = DayAxis(days)
    # A session of these days may fail after the last of them.
    shown = [row for row in own if axis.has(row["day"])]
    later = len(own) - len(shown)
    if not own:
        return Drawn(columns, table)
    types = Counter(row["error_type"] for row in own)
    rank = ranked(dict(types), _SERIES)
    scale = colours(rank.order, rest=rank.rest)
    by_day = Counter((row["day"], rank.labels[row["error_type"]]) for row in shown)
    parts = [{**axis.at(day), "series": kind, "value": count} for (day, kind), count in by_day.items()]
    bars = day_bars(axis, parts, counts("Errors"), scale, last=True, height=130)
    where = Counter((_what(row), rank.labels[row["error_type"]]) for row in own)
    sums: Counter[str] = Counter()
    for (what, _), count in where.items():
        sums[what] += count
    places = ranked(dict(sums), 15)
    merged: Counter[tuple[str, str]] = Counter()
    for (what, kind), count in where.items():
        merged[places.labels[what], kind] += count
    named = [{"name": what, "series": kind, "value": count} for (what, kind), count in merged.items()]
    names = name_bars(named, places.order, "What failed", "Errors", scale, legend_at="right")
    note = _BEGAN
    if later:
        note += f"; {later:,} later ones are not in the upper panel"
    body = alt.vconcat(bars, names, spacing=28).resolve_scale(color="shared")
    return Drawn(columns, table, body, note)


def _own(rows: list[Row]) -> list[Row]:
    """Return the rows without those that a fork copied, which the source has as well."""
    return [row for row in rows if row["is_copy"] is not True]


def _what(row: Row) -> str:
    kind = str(row["item_type"])
    return "session" if kind == "error" else label(f"{kind.replace('_', ' ')}: {label(row['name'])}")


def scores(rows: list[Row], days: Days) -> Drawn:
    """Draw how often each score has each value."""
    values: dict[str, list[float]] = {}
    texts: Counter[str] = Counter()
    for row in _own(rows):
        value = known(row["score"])
        if value is None:
            texts[str(row["name"])] += 1
        else:
            values.setdefault(str(row["name"]), []).append(value)
    order = sorted(values, key=lambda name: (-len(values[name]), name))
    columns = ("score", "scores", "mean", "least", "largest", "scores that are no number")
    table: list[tuple[Any, ...]] = [
        (name, len(of), sum(of) / len(of), min(of), max(of), texts[name])
        for name, of in ((each, values[each]) for each in order)
    ]
    table += [(name, 0, None, None, None, count) for name, count in sorted(texts.items()) if name not in values]
    note = _BEGAN
    if not order:
        return Drawn(columns, table)
    panels = [_histogram(label(name), values[name]) for name in order[:_SCORES]]
    if len(order) > _SCORES:
        note += f"; the {_SCORES} most frequent of {len(order):,}"
    body = alt.concat(*panels, columns=2, spacing=24)
    return Drawn(columns, table, body, note)


def _histogram(name: str, values: Sequence[float]) -> Panel:
    """Return how often each value occurs, or how many are in each of some ranges if there are many values."""
    distinct = sorted(set(values))
    low, high = distinct[0], distinct[-1]
    size = high / _BINS - low / _BINS
    is_whole = all(value == int(value) for value in distinct) and high - low <= _WHOLE
    if is_exact := is_whole or len(distinct) <= _FEW or size < _TINY:
        found = Counter(values)
        shown = [low + step for step in range(int(high - low) + 1)] if is_whole else distinct
        bins = [(f"{value:g}", found[value]) for value in shown]
    else:
        size = _step(size)
        places = Counter(math.floor(value / size + 1e-9) for value in values)
        bins = [(f"{place * size:.6g}", places[place]) for place in range(min(places), max(places) + 1)]
    mean = sum(values) / len(values)
    head = f"{name}: mean {mean:.3g} of {len(values):,}"
    axis = alt.Axis(title="Value" if is_exact else "Value, from", labelAngle=0, labelOverlap="parity")
    x = alt.X("bin:N", sort=None, scale=alt.Scale(domain=[text for text, _ in bins], paddingInner=0.1), axis=axis)
    return (
        alt.Chart(data({"bin": text, "value": count} for text, count in bins), width=230, height=110)
        .properties(title=alt.TitleParams(text=head, fontSize=12, fontWeight="normal", offset=6, frame="group"))
        .mark_bar(color=BLUE)
        .encode(x=x, y=alt.Y("value:Q", axis=counts("Scores")))
    )


def _step(size: float) -> float:
    """Return the smallest of 1, 2, 5, 10, 20 ... (or 0.5, 0.2, 0.1 ...) that is not below a size."""
    power: float = 10 ** math.floor(math.log10(size))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= size * (1 - 1e-9))


def queries(rows: list[Row], days: Days) -> Drawn:
    """Draw the queries of each type, and how many a cache answered."""
    colour = {"from a cache": ORANGE, "not from a cache": SKY, "not known": GREY}
    states = {True: "from a cache", False: "not from a cache", None: "not known"}
    found: dict[Any, Counter[str]] = {}
    times: dict[Any, list[float]] = {}
    for row in _own(rows):
        found.setdefault(row["query_type"], Counter())[states[row["is_cache_hit"]]] += 1
        time = known(row["execution_time_ms"])
        if time is not None and time >= 0:
            times.setdefault(row["query_type"], []).append(time)
    columns = ("type", "queries", *colour, "hits of known", "mean time, ms")
    order = sorted(found, key=lambda kind: (-found[kind].total(), str(kind)))
    table = [
        (
            *(kind, found[kind].total(), *(found[kind][state] for state in colour)),
            ratio(found[kind]["from a cache"], found[kind]["from a cache"] + found[kind]["not from a cache"]),
            ratio(sum(times.get(kind, [])), len(times.get(kind, []))),
        )
        for kind in order
    ]
    if not rows:
        return Drawn(columns, table)
    rank = ranked({kind: of.total() for kind, of in found.items()}, _BARS)
    merged: Counter[tuple[str, str]] = Counter()
    for kind, of in found.items():
        for state, count in of.items():
            merged[rank.labels[kind], state] += count
    parts = [{"name": name, "series": state, "value": count} for (name, state), count in merged.items()]
    body = name_bars(parts, rank.order, "Type", "Queries", used_colours(colour, parts))
    return Drawn(columns, table, body, _BEGAN)

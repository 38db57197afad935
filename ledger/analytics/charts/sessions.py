"""Charts of how sessions ended, how long they took, and what is known about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

import altair as alt

from ledger.analytics.charts.style import (
    BLUE,
    GREEN,
    MUTED,
    OUTCOMES,
    STEP,
    WIDTH,
    DayAxis,
    Panel,
    colours,
    counts,
    data,
    day_bars,
    name_bars,
    percents,
    ratio_bars,
    stacked,
)
from ledger.analytics.charts.values import (
    Days,
    Drawn,
    Ranked,
    known,
    label,
    number,
    ranked,
    ratio,
)
from ledger.analytics.quantities import duration_text

Row = dict[str, Any]
#: Maximum number of attributes, and of values of each, if all are drawn and if one is.
_ATTRIBUTES, _VALUES, _VALUES_OF_ONE = 6, 8, 25
#: Upper limits of the bars of durations, in milliseconds, with their labels.
_DURATIONS = (
    *((1_000, "below 1 s"), (10_000, "1-10 s"), (60_000, "10-60 s"), (600_000, "1-10 min")),
    *((3_600_000, "10-60 min"), (21_600_000, "1-6 h"), (86_400_000, "6-24 h"), (float("inf"), "a day or more")),
)
_UNKNOWN = "not known"


def session_outcomes(rows: list[Row], days: Days) -> Drawn:
    """Draw how the sessions of each day ended, and the share that succeeded."""
    by_day: dict[Any, Counter[str]] = {}
    for row in rows:
        of_day = by_day.setdefault(row["day"], Counter())
        of_day[str(row["outcome"])] += 1
        of_day["success"] += row["is_success"] is True
        of_day["unknown"] += row["is_success"] is None and row["outcome"] != "open"
    columns = ("day", "sessions", *OUTCOMES, "succeeded", "success ratio")
    table = [
        (day, sum(of[each] for each in OUTCOMES), *(of[each] for each in OUTCOMES), of["success"], _success(of))
        for day, of in sorted(by_day.items())
    ]
    axis = DayAxis(days)
    if not rows:
        return Drawn(columns, table)
    parts = [
        {**axis.at(day), "series": outcome, "value": of[outcome]} for day, of in by_day.items() for outcome in OUTCOMES
    ]
    bars = day_bars(axis, parts, counts("Sessions"), colours(OUTCOMES), last=False, height=150)
    points = [{**axis.at(day), "value": _success(of)} for day, of in by_day.items() if _success(of) is not None]
    line = (
        alt.Chart(data(points), width=WIDTH, height=80)
        .mark_line(color=GREEN, point=alt.OverlayMarkDef(color=GREEN, filled=True, size=24))
        .encode(x=axis.x(), y=alt.Y("value:Q", axis=percents("Success ratio"), scale=alt.Scale(domain=[0, 1])))
    )
    return Drawn(columns, table, stacked([bars, line]))


def _success(of: Counter[str]) -> float | None:
    """Return the successes per session that is not open, and of which it is known."""
    return ratio(of["success"], of["completed"] + of["failed"] + of["abandoned"] - of["unknown"])


def session_durations(rows: list[Row], days: Days) -> Drawn:
    """Draw how many sessions took how long, by how they ended."""
    found = Counter((_bin(row["duration_ms"]), str(row["outcome"])) for row in rows)
    bins = [name for _, name in _DURATIONS]
    if any(name == _UNKNOWN for name, _ in found):
        bins.append(_UNKNOWN)
    columns = ("duration", "sessions", *OUTCOMES)
    table = [
        (name, sum(found[name, each] for each in OUTCOMES), *(found[name, each] for each in OUTCOMES)) for name in bins
    ]
    if not rows:
        return Drawn(columns, [])
    times = [value for row in rows if (value := known(row["duration_ms"])) is not None]
    note = "from the first event to the last"
    if times:
        note += f"; median {duration_text(median(times))}"
    order = list(OUTCOMES)
    parts = [
        {"name": name, "series": outcome, "value": count, "order": order.index(outcome)}
        for (name, outcome), count in found.items()
        if outcome in OUTCOMES
    ]
    body = (
        alt.Chart(data(parts), width=WIDTH, height=200)
        .mark_bar()
        .encode(
            x=alt.X(
                "name:N",
                sort=None,
                scale=alt.Scale(domain=bins, paddingInner=0.1),
                axis=alt.Axis(title="Duration", labelAngle=0),
            ),
            y=alt.Y("value:Q", axis=counts("Sessions"), stack="zero"),
            color=alt.Color("series:N", scale=colours(OUTCOMES), legend=alt.Legend(title=None)),
            order=alt.Order("order:Q"),
        )
    )
    return Drawn(columns, table, body, note)


def _bin(value: Any) -> str:
    duration = known(value)
    return _UNKNOWN if duration is None or duration < 0 else next(name for end, name in _DURATIONS if duration < end)


def outcomes(rows: list[Row], days: Days) -> Drawn:
    """Draw how sessions ended by the values of attributes, and the share that succeeded."""
    columns = (
        *("attribute", "value", "sessions", *OUTCOMES, "succeeded", "success ratio", "mean reward", "mean turns"),
        "cost, USD",
    )
    names = (
        *("name", "value", "session_count", "completed_count", "failed_count", "abandoned_count", "open_count"),
        *("success_count", "success_ratio", "reward_average", "turn_average", "cost_usd"),
    )
    table = [tuple(row[name] for name in names) for row in rows]
    if not rows:
        return Drawn(columns, table)
    panels = []
    for name, of_name in _by_attribute(rows):
        rank = _values(of_name, is_only=len(of_name) == len(rows))
        sums: dict[str, Counter[str]] = {}
        for row in of_name:
            of = sums.setdefault(rank.labels[row["value"]], Counter())
            of.update({outcome: int(number(row[f"{outcome}_count"])) for outcome in OUTCOMES})
            of["success"] += int(number(row["success_count"]))
            of["unknown"] += int(number(row["unknown_count"]))
        parts = [
            {"name": shown, "series": outcome, "value": of[outcome]}
            for shown, of in sums.items()
            for outcome in OUTCOMES
        ]
        shares = [{"name": shown, "value": _success(of)} for shown, of in sums.items() if _success(of) is not None]
        panels.append(_outcome_panel(label(name), parts, shares, rank.order))
    body = alt.vconcat(*panels, spacing=18).resolve_scale(color="shared")
    return Drawn(columns, table, body, _left_out(rows))


def _outcome_panel(name: str, parts: list[Row], shares: list[Row], order: Sequence[str]) -> Panel:
    bars = name_bars(parts, order, name, "Sessions", colours(OUTCOMES), width=330).encode(y=_values_axis(order, name))
    return alt.hconcat(bars, ratio_bars(shares, order, "Success ratio", GREEN, width=130), spacing=16)


def attribute_distribution(rows: list[Row], days: Days) -> Drawn:
    """Draw how many sessions have each value of each attribute."""
    columns = ("attribute", "value", "sessions", "of those with the attribute", "users")
    names = ("name", "value", "session_count", "session_ratio", "user_count")
    table = [tuple(row[name] for name in names) for row in rows]
    if not rows:
        return Drawn(columns, table)
    panels = []
    for name, of_name in _by_attribute(rows):
        rank = _values(of_name, is_only=len(of_name) == len(rows))
        sums: Counter[str] = Counter()
        for row in of_name:
            sums[rank.labels[row["value"]]] += int(number(row["session_count"]))
        whole, largest = sum(sums.values()), max(sums.values())
        bars = [
            {"name": shown, "value": count, "text": f"{count:,} ({count / whole:.0%})" if whole else f"{count:,}"}
            for shown, count in sums.items()
        ]
        base = alt.Chart(data(bars), width=WIDTH - 100, height=STEP * len(rank.order)).encode(
            x=alt.X("value:Q", scale=alt.Scale(domain=[0, largest * 1.15 or 1]), axis=_unlabelled("Sessions")),
            y=_values_axis(rank.order, label(name)),
        )
        panels.append(
            alt.layer(
                base.mark_bar(height=STEP - 6, color=BLUE),
                base.mark_text(align="left", dx=4, fontSize=10, color=MUTED).encode(text="text:N"),
            )
        )
    return Drawn(columns, table, alt.vconcat(*panels, spacing=18), _left_out(rows))


def _unlabelled(title: str) -> alt.Axis:
    return alt.Axis(title=title, labels=False, ticks=False, grid=False)


def _values_axis(order: Sequence[str], name: str) -> alt.Y:
    """Return the channel of the values of an attribute, with labels of one width so that panels are aligned."""
    axis = alt.Axis(title=name, titleAngle=0, titleAlign="left", titleAnchor="start", titleY=-10, titleX=-150)
    axis.minExtent = 160
    return alt.Y("name:N", sort=None, scale=alt.Scale(domain=list(order)), axis=axis)


def _by_attribute(rows: list[Row]) -> list[tuple[Any, list[Row]]]:
    """Return the rows of each attribute that is drawn: of those that most sessions have, the most telling first.

    An attribute that differs from session to session, such as an order number, says little and comes last.
    """
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(row["name"], []).append(row)

    def rank(item: tuple[Any, list[Row]]) -> tuple[Any, ...]:
        name, of_name = item
        sessions = sum(number(row["session_count"]) for row in of_name)
        return len(of_name) > max(_VALUES, sessions / 2), -sessions, str(name)

    return sorted(found.items(), key=rank)[:_ATTRIBUTES]


def _values(rows: list[Row], *, is_only: bool) -> Ranked:
    sizes = {row["value"]: number(row["session_count"]) for row in rows}
    return ranked(sizes, _VALUES_OF_ONE if is_only else _VALUES)


def _left_out(rows: list[Row]) -> str:
    """Return how many attributes are left out, if there are many."""
    left = len({row["name"] for row in rows}) - _ATTRIBUTES
    return f"{_ATTRIBUTES} attributes, {left:,} others are left out" if left > 0 else ""

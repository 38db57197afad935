"""Charts of what happens day by day."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import altair as alt

from ledger.analytics.charts.style import (
    BLUE,
    INK,
    ORANGE,
    RED,
    SKY,
    DayAxis,
    Panel,
    colours,
    counts,
    data,
    day_bars,
    legend,
    stacked,
)
from ledger.analytics.charts.values import (
    Days,
    Drawn,
    known,
    labels,
    number,
    summed,
)

Row = dict[str, Any]
#: Maximum number of users of a chart.
_USERS = 15
#: Maximum number of days whose numbers are written into the cells of a heat map.
_WRITTEN = 16


def daily_activity(rows: list[Row], days: Days) -> Drawn:
    """Draw sessions, users, messages, calls and errors by day."""
    columns = (
        *("day", "sessions", "users", "messages", "user messages", "tool calls", "failed tool calls", "model calls"),
        *("failed model calls", "input tokens", "output tokens", "cost, USD", "errors"),
    )
    names = (
        *("day", "session_count", "user_count", "message_count", "turn_count", "tool_call_count"),
        *("failed_tool_call_count", "model_call_count", "failed_model_call_count", "input_token_count"),
        *("output_token_count", "cost_usd", "error_count"),
    )
    table = [tuple(row[name] for name in names) for row in rows]
    axis = DayAxis(days)
    shown = [row for row in rows if axis.has(row["day"])]
    if not shown:
        return Drawn(columns, table)
    calls = {"failed": RED, "not failed": BLUE}
    panels = [
        ("Messages", {"by users": ORANGE, "others": SKY}, "message_count", "turn_count"),
        ("Tool calls", calls, "tool_call_count", "failed_tool_call_count"),
        ("Model calls", calls, "model_call_count", "failed_model_call_count"),
        ("Errors", {"errors": RED}, "error_count", "error_count"),
    ]
    used = [panel for panel in panels if any(number(row[panel[2]]) for row in shown)]
    drawn = [_sessions_and_users(axis, shown, last=not used)]
    for position, (name, colour, whole, part) in enumerate(used):
        first, rest = next(iter(colour)), list(colour)[-1]
        parts = [
            {**axis.at(row["day"]), "series": series, "value": value}
            for row in shown
            for series, value in ((first, number(row[part])), (rest, number(row[whole]) - number(row[part])))
        ]
        last = position == len(used) - 1
        drawn.append(day_bars(axis, parts, counts(name), colours(colour), last=last, named=len(colour) == 1))
    return Drawn(columns, table, stacked(drawn))


def _sessions_and_users(axis: DayAxis, rows: Iterable[Row], *, last: bool) -> Panel:
    """Return a panel with sessions as bars and users as points."""
    shown = list(rows)
    channels: dict[str, Any] = {
        "x": axis.x(visible=last),
        "y": alt.Y("value:Q", axis=counts("Sessions, users")),
        "color": alt.Color("series:N", scale=colours({"sessions": BLUE, "users": ORANGE}), legend=legend()),
    }
    sessions, users = (
        alt.Chart(
            data({**axis.at(row["day"]), "series": series, "value": number(row[column])} for row in shown),
            width=axis.width,
            height=84,
        ).encode(**channels)
        for series, column in (("sessions", "session_count"), ("users", "user_count"))
    )
    points = users.mark_point(filled=True, size=30, opacity=1, stroke="white", strokeWidth=1)
    return alt.layer(sessions.mark_bar(size=axis.bar), points)


def user_activity(rows: list[Row], days: Days) -> Drawn:
    """Draw the messages in the sessions of each user by day, as a heat map."""
    columns = ("user", "days", "session-days", "messages", "tool calls", "model calls", "cost, USD", "errors")
    names = ("session_count", "message_count", "tool_call_count", "model_call_count", "cost_usd", "error_count")
    users = summed(rows, ["user_id"], names)
    active: dict[Any, set[Any]] = {}
    for row in rows:
        active.setdefault(row["user_id"], set()).add(row["day"])
    order = sorted(users, key=lambda user: (-users[user]["message_count"], str(user)))
    table = [(user, len(active[user]), *(users[user][name] for name in names)) for user in order]
    axis = DayAxis(days, width=430)
    shown = [row for row in rows if axis.has(row["day"])]
    note = f"the {_USERS} with most messages, of {len(users):,}" if len(users) > _USERS else ""
    if not shown:
        return Drawn(columns, table)
    drawn = labels({user: user for user in order[:_USERS]})
    placed = [
        {**axis.at(row["day"]), "name": drawn[row["user_id"]], "value": number(row["message_count"])}
        for row in shown
        if row["user_id"] in drawn
    ]
    body = _heat_map(axis, placed, list(drawn.values()), "Messages")
    return Drawn(columns, table, body, note)


def _heat_map(axis: DayAxis, cells: list[Row], order: list[str], title: str) -> Panel:
    """Return cells of days and names, the darker the more, with their numbers if there is room for them."""
    largest = max(cell["value"] for cell in cells) or 1
    width = max(1.0, axis.width / axis.days.length - 1)
    channels: dict[str, Any] = {
        "x": axis.x(),
        "y": alt.Y("name:N", sort=None, scale=alt.Scale(domain=order), axis=alt.Axis(title="User", grid=False)),
    }

    def chart(shown: list[Row]) -> Panel:
        return alt.Chart(data(shown), width=axis.width, height=22 * len(order)).encode(**channels)

    scale = alt.Scale(domain=[0, largest], range=[0.06, 1])
    key = alt.Legend(title=title, orient="right", symbolType="square", symbolFillColor=BLUE, tickCount=4, format="~s")
    boxes = chart(cells).mark_rect(color=BLUE, width=width, height=20)
    layers = [boxes.encode(opacity=alt.Opacity("value:Q", scale=scale, legend=key))]
    if axis.days.length <= _WRITTEN:
        for colour, is_dark in (("white", True), (INK, False)):
            part = [cell for cell in cells if (cell["value"] > 0.5 * largest) is is_dark]
            layers.append(chart(part).mark_text(color=colour, fontSize=10).encode(text=alt.Text("value:Q", format=",")))
    return alt.layer(*layers)


def storage_growth(rows: list[Row], days: Days) -> Drawn:
    """Draw the rows that were recorded on each day, and how the values grew."""
    names = (
        *("day", "row_count", "event_count", "session_count", "character_count", "total_row_count"),
        "total_character_count",
    )
    columns = ("day", "rows", "events", "sessions", "characters", "rows so far", "characters so far")
    table = [tuple(row[name] for name in names) for row in rows]
    axis = DayAxis(days)
    shown = [row for row in rows if axis.has(row["day"])]
    if not shown:
        return Drawn(columns, table)
    parts = [{**axis.at(row["day"]), "series": "rows", "value": number(row["row_count"])} for row in shown]
    bars = day_bars(axis, parts, counts("Rows a day"), colours({"rows": BLUE}), last=False, height=110, named=True)
    sums = [{**axis.at(row["day"]), "value": known(row["total_character_count"])} for row in shown]
    line = (
        alt.Chart(data(sums), width=axis.width, height=110)
        .mark_line(color=ORANGE, strokeWidth=2, point=alt.OverlayMarkDef(color=ORANGE, filled=True, size=24))
        .encode(x=axis.x(), y=alt.Y("value:Q", axis=counts("Characters so far"), scale=alt.Scale(zero=True)))
    )
    return Drawn(columns, table, stacked([bars, line]), "the sum begins at the first day")

"""What charts have in common: colours, axes and panels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

import altair as alt

from ledger.analytics.charts.values import Days

#: A panel of a chart: any object of Altair.
Panel = Any
#: Height of a horizontal bar and the space around it, in pixels.
STEP = 20
#: Width of the panels of a chart, in pixels.
WIDTH = 560
#: Colours of text, of what is less important, and of lines behind the data. A page gives them other ones in the dark.
INK, MUTED, GRID = "#1f2328", "#59636e", "#d8dee4"
#: Colours that people with any colour vision can tell apart: those of Okabe and Ito that are dark enough on white.
BLUE, ORANGE, GREEN, PINK, SKY, RED, GREY = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c959f"),
)
SERIES = (BLUE, ORANGE, GREEN, PINK, SKY, RED)
#: Colours of how sessions end and of the status of calls.
OUTCOMES = {"completed": GREEN, "failed": RED, "abandoned": ORANGE, "open": SKY}
STATUSES = {"completed": BLUE, "failed": RED, "not finished": GREY}
#: The largest width of a bar, in pixels: with few days, bars would be as wide as a hand.
_WIDEST = 44
#: Maximum number of labels of an axis of days.
_LABELS = 9

#: An expression of Vega: 0, 500, 1k, 2M, 3B. The axis's own format writes 0k, and G for billions. Halves have no label.
_SHORT = "datum.value % 1 ? '' : replace(format(datum.value, '~s'), 'G', 'B')"
#: Fonts of one width, so that what was measured here fits where the picture is looked at.
_FONT = "Arial, Helvetica, 'Liberation Sans', sans-serif"
_AXIS = {
    "labelColor": INK,
    "titleColor": MUTED,
    "tickColor": GRID,
    "domainColor": GRID,
    "gridColor": GRID,
    "labelFontSize": 11,
    "titleFontSize": 11,
    "titleFontWeight": "normal",
    "labelLimit": 240,
    "titlePadding": 6,
}
_CONFIG: dict[str, Any] = {
    "font": _FONT,
    "view": {"stroke": None},
    "axis": _AXIS,
    "axisX": {"grid": False},
    "axisY": {"ticks": False, "domain": False, "labelPadding": 6},
    "legend": {"labelColor": INK, "titleColor": MUTED, "labelFontSize": 11, "symbolType": "square", "labelLimit": 240},
    "title": {
        "color": INK,
        "subtitleColor": MUTED,
        "anchor": "start",
        "fontSize": 15,
        "subtitleFontSize": 12,
        "subtitlePadding": 4,
        "offset": 12,
        "frame": "bounds",
    },
    "header": {"labelColor": INK, "titleColor": MUTED, "labelFontSize": 11},
    "concat": {"spacing": 14},
}


def styled(body: Any, title: str = "", subtitle: str = "") -> Any:
    """Return a chart with the colours and fonts of all, and with a title on white if one is given."""
    chart = body.copy(deep=False)
    if not title:
        return chart.properties(background="transparent", padding=4).configure(**_CONFIG)
    titled = chart.properties(title=alt.TitleParams(text=title, subtitle=subtitle), background="white", padding=16)
    return titled.configure(**_CONFIG)


def data(rows: Iterable[Mapping[str, Any]]) -> alt.Data:
    """Return rows as the data of a chart."""
    return alt.Data(values=[dict(row) for row in rows])


def empty(days: Days) -> Panel:
    """Return the chart that says that there is no data."""
    words = f"No data on {days.text}" if days.length == 1 else f"No data from {days.text}"
    chart = alt.Chart(data([{"text": words}]), width=WIDTH, height=120)
    return chart.mark_text(fontSize=15, color=MUTED).encode(text="text:N")


def colours(names: Mapping[str, str] | Sequence[str], *, rest: int = 0) -> alt.Scale:
    """Return the colour of each series, in their order.

    Args:
        names: The colours by name, or names that get those of ``SERIES``.
        rest: More than 0 if the last name stands for others: it is grey.
    """
    if isinstance(names, Mapping):
        return alt.Scale(domain=list(names), range=list(names.values()))
    used = list(SERIES[: len(names)])
    return alt.Scale(domain=list(names), range=[*used[: len(names) - 1], GREY] if rest else used)


def legend(title: str | None = None) -> alt.Legend:
    """Return a legend on the right of its panel."""
    return alt.Legend(title=title, orient="right")


def counts(title: str) -> alt.Axis:
    """Return a vertical axis of whole numbers: 0, 500, 1k, 2M, 3B."""
    return alt.Axis(title=title, labelExpr=_SHORT, tickMinStep=1, tickCount=4, minExtent=40)


def _amounts(title: str) -> alt.Axis:
    """Return a horizontal axis of whole numbers."""
    return alt.Axis(title=title, labelExpr=_SHORT, tickMinStep=1, tickCount=5, grid=True)


def percents(title: str) -> alt.Axis:
    """Return an axis of shares, 0 to 100 %."""
    return alt.Axis(title=title, format=".0%", tickCount=3, minExtent=40)


class DayAxis:
    """An axis of days. What belongs to a day is drawn at its noon."""

    def __init__(self, days: Days, width: int = WIDTH, most: int = _LABELS) -> None:
        self.days, self.width, self._most = days, width, most
        #: Width of a bar, in pixels.
        self.bar = max(1.0, min(_WIDEST, 0.8 * width / days.length))

    def x(self, *, title: str | None = "Day", visible: bool = True) -> alt.X:
        """Return the channel; an axis that is not visible has ticks without labels."""
        begin, end = _noon(self.days.first) - _HALF, _noon(self.days.last) + _HALF
        shown = [_noon(day) for day in self._labelled()]
        form = "%b %Y" if self.days.length > 300 else "%-d %b"
        axis = alt.Axis(values=shown, format=form, title=title if visible else None, labels=visible, labelAngle=0)
        return alt.X("noon:T", axis=axis, scale=alt.Scale(type="utc", domain=[begin, end], nice=False))

    def at(self, day: date) -> dict[str, Any]:
        """Return where a day is, and its text."""
        return {"day": str(day), "noon": _noon(day)}

    def has(self, day: Any) -> bool:
        """Return True if the axis has the day."""
        return isinstance(day, date) and self.days.first <= day <= self.days.last

    def _labelled(self) -> list[date]:
        """Return the days with labels: every one, or those of some step, Mondays, or first days of months."""
        every = self.days.all()
        for step in (1, 2, 3):
            if len(every) <= step * self._most:
                return every[::step]
        mondays = [day for day in every if day.weekday() == 0]
        if len(mondays) <= 2 * self._most:
            return mondays if len(mondays) <= self._most else mondays[::2]
        months = [day for day in every if day.day == 1]
        return months[:: -(-len(months) // self._most)]


_HALF = 12 * 60 * 60 * 1000


def _noon(day: date) -> int:
    """Return noon of a day in UTC, in milliseconds since 1970."""
    return int((datetime.combine(day, time(12), UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1))


def day_bars(
    axis: DayAxis,
    rows: Iterable[Mapping[str, Any]],
    y: alt.Axis,
    scale: alt.Scale,
    *,
    last: bool,
    height: int = 84,
    named: bool = False,
) -> Panel:
    """Return a panel of stacked bars by day.

    Args:
        axis: The axis of days.
        rows: ``day``, ``noon``, ``series`` and ``value`` of each part of a bar.
        y: The axis of the values.
        scale: The colours; its domain is the order of the parts, from the bottom.
        last: True for the lowest panel, which has the labels of the days.
        height: Height in pixels.
        named: True if the title of ``y`` names the only series, so that no legend is needed.
    """
    order = list(scale.to_dict()["domain"])
    numbered = [{**row, "order": order.index(row["series"])} for row in rows if row["value"]]
    return (
        alt.Chart(data(numbered), width=axis.width, height=height)
        .mark_bar(size=axis.bar)
        .encode(
            x=axis.x(visible=last),
            y=alt.Y("value:Q", axis=y, stack="zero"),
            color=alt.Color("series:N", scale=scale, legend=None if named else legend()),
            order=alt.Order("order:Q"),
        )
    )


def used_colours(names: Mapping[str, str], parts: Iterable[Mapping[str, Any]]) -> alt.Scale:
    """Return the colours of those series that have a part, so that the legend names no other."""
    used = {part["series"] for part in parts}
    return colours({name: colour for name, colour in names.items() if name in used})


def stacked(panels: Sequence[Any], *, shared: bool = False) -> Panel:
    """Return panels one below the other, with a legend each, or with one if they share their colours."""
    return alt.vconcat(*panels, spacing=14).resolve_scale(color="shared" if shared else "independent")


def name_axis(order: Sequence[str], title: str, *, visible: bool = True) -> alt.Y:
    """Return the channel of names on the left, in this order."""
    axis = alt.Axis(title=title if visible else None, labels=visible)
    return alt.Y("name:N", sort=None, scale=alt.Scale(domain=list(order)), axis=axis)


def name_bars(
    parts: Sequence[Mapping[str, Any]],
    order: Sequence[str],
    title: str,
    unit: str,
    scale: alt.Scale,
    *,
    width: int = WIDTH,
    legend_at: Literal["top", "right"] = "top",
) -> Panel:
    """Return a panel of stacked horizontal bars, with their names on the left.

    Args:
        parts: ``name``, ``series`` and ``value`` of each part of a bar.
        order: The names, from the top.
        title: What the names are.
        unit: What is counted.
        scale: The colours; its domain is the order of the parts, from the left.
        width: Width in pixels.
        legend_at: Where the legend is: ``top`` or ``right``.
    """
    series = list(scale.to_dict()["domain"])
    numbered = [{**part, "order": series.index(part["series"])} for part in parts if part["value"]]
    return (
        alt.Chart(data(numbered), width=width, height=STEP * len(order))
        .mark_bar(height=STEP - 6)
        .encode(
            x=alt.X("value:Q", axis=_amounts(unit), stack="zero"),
            y=name_axis(order, title),
            color=alt.Color("series:N", scale=scale, legend=alt.Legend(title=None, orient=legend_at)),
            order=alt.Order("order:Q"),
        )
    )


def ratio_bars(
    rows: Iterable[Mapping[str, Any]], order: Sequence[str], title: str, colour: str, *, width: int, longest: float = 1
) -> Panel:
    """Return a panel of bars for shares, with their percents, beside the panel that has the names.

    Args:
        rows: ``name`` and ``value`` of each share, 0 to 1.
        order: The names, from the top.
        title: What the shares are.
        colour: The colour of the bars.
        width: Width in pixels.
        longest: The share whose bar leaves just the room for its text.
    """
    shares = [{**row, "text": f"{row['value']:.{1 if 0 < row['value'] < 0.1 else 0}%}"} for row in rows]
    axis = alt.Axis(title=title, labels=False, ticks=False, grid=False)
    base = alt.Chart(data(shares), width=width, height=STEP * len(order)).encode(
        x=alt.X("value:Q", scale=alt.Scale(domain=[0, longest * 1.4]), axis=axis),
        y=name_axis(order, "", visible=False),
    )
    return alt.layer(
        base.mark_bar(height=STEP - 6, color=colour),
        base.mark_text(align="left", dx=4, fontSize=10, color=MUTED).encode(text="text:N"),
    )

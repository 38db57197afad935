"""A chart with its title and its numbers, as an Altair object, SVG, PNG and JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ledger.analytics.charts.values import Days
from ledger.extras import require_extra

if TYPE_CHECKING:
    import altair as alt

#: Version of Vega-Lite that vl-convert compiles charts with. Any release of the extra has it.
_VEGA_LITE = "6.4"


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart, and the numbers that it shows.

    Attributes:
        name: The name of the chart, such as ``tool_usage``.
        title: What is shown.
        days: The days that were asked about.
        note: What one must know to read the chart, beside its title; may be empty.
        body: The chart without title, as an Altair object that can be part of another chart.
        columns: Names of the columns of ``rows``, with units.
        rows: The numbers of the chart as a table, all of them: also what the chart sums up as others.
    """

    name: str
    title: str
    days: Days
    note: str
    body: alt.TopLevelMixin
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    @property
    def subtitle(self) -> str:
        """The days and the note."""
        return f"{self.days.text} (UTC)" + (f"; {self.note}" if self.note else "")

    @property
    def chart(self) -> Any:
        """The whole chart as an Altair object, which a notebook shows and ``save`` writes."""
        from ledger.analytics.charts.style import styled

        return styled(self.body, self.title, self.subtitle)

    @property
    def untitled(self) -> Any:
        """The chart without title and background, for a page that has both."""
        from ledger.analytics.charts.style import styled

        return styled(self.body)

    def to_svg(self) -> str:
        """Return the chart as SVG. Neither a browser nor a network is used."""
        return svg_of(self.chart)

    def to_png(self, scale: float = 2) -> bytes:
        """Return the chart as PNG. Neither a browser nor a network is used.

        Args:
            scale: Pixels of the picture for each pixel of the chart.
        """
        require_extra("charts", "vl_convert")
        import vl_convert

        return vl_convert.vegalite_to_png(self.chart.to_dict(), _VEGA_LITE, scale=scale, allowed_base_urls=[])

    def to_json(self) -> str:
        """Return the chart's Vega-Lite specification as indented JSON, with its data."""
        return json.dumps(self.chart.to_dict(), ensure_ascii=False, indent=2)


def svg_of(chart: Any) -> str:
    """Return an Altair object as SVG."""
    require_extra("charts", "vl_convert")
    import vl_convert

    return vl_convert.vegalite_to_svg(chart.to_dict(), _VEGA_LITE, allowed_base_urls=[])

"""Charts of the answers of ``Analytics``; see docs/analytics.md."""

from __future__ import annotations

from ledger.analytics.charts.catalogue import CHARTS, Chart, draw
from ledger.analytics.charts.picture import Picture
from ledger.analytics.charts.values import Days

__all__ = ["CHARTS", "Chart", "Days", "Picture", "draw"]

"""Fixtures of the warehouses' tests."""

from __future__ import annotations

from support.warehouse_fixtures import ask, direct, place, sink, sinks, warehouse

__all__ = ["ask", "direct", "place", "sink", "sinks", "warehouse"]

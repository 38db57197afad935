"""Fixtures of the relay's tests."""

from __future__ import annotations

from support.stores import clock, store
from support.warehouse_fixtures import ask, direct, place, sink, sinks, warehouse

__all__ = ["ask", "clock", "direct", "place", "sink", "sinks", "store", "warehouse"]

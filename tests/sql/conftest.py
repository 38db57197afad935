"""Fixtures of the SQL tests."""

from __future__ import annotations

from support.warehouse_fixtures import ask, direct, place, warehouse

__all__ = ["ask", "direct", "place", "warehouse"]

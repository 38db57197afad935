"""Fixtures of the stores' tests."""

from __future__ import annotations

from support.stores import clock, store

__all__ = ["clock", "store"]

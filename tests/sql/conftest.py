"""Fixtures of the SQL tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.googlesql import GoogleSql
from support.sql_targets import OnDuckDB
from support.warehouse_fixtures import ask, direct, place, warehouse

__all__ = ["ask", "direct", "place", "warehouse"]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnDuckDB]:
    """A DuckDB file without rows, which stays open for all statements of a module."""
    opened = OnDuckDB(tmp_path_factory.mktemp("duckdb"))
    with opened.kept_open():
        yield opened


@pytest.fixture(scope="session")
def judge() -> GoogleSql:
    """Google's reference implementation, without tables."""
    return GoogleSql()

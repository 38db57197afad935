"""URLs that are none of a ledger or a warehouse: what is said of them, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ledger import ConfigurationError
from ledger.stores.sqlite.store import SqliteStore
from ledger.stores.urls import parse_url
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.urls import parse_warehouse_url

PARSERS = [parse_url, parse_warehouse_url]


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://app:SECRET@db/app", "'postgresql://***@db/app'"),
        ("postgres+asyncpg://app:S@C/RET@db:5432/app", "'postgres+asyncpg://***@db:5432/app'"),
        ("mysql://SECRET@db", "'mysql://***@db'"),
        ("postgres://db/app?user=app&password=SECRET&sslmode=require", "?user=app&password=***&sslmode=require'"),
        ("postgres://db/app?sslPassword=S@CRET", "'postgres://db/app?sslPassword=***'"),
        ("app:SECRET@db/app", "'***@db/app'"),
        ("host=db password=SECRET", "'host=db password=***'"),
        ("https://db/?access_token=SECRET;x=1", "access_token=***;x=1'"),
    ],
)
def test_a_password_in_a_url_that_is_refused_is_not_shown(parse: Callable[[str], object], url: str, shown: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse(url)
    assert shown in str(refused.value)
    assert "CRET" not in str(refused.value)


def test_a_password_is_not_shown_either_where_the_url_is_no_text() -> None:
    with pytest.raises(ConfigurationError, match="not valid UTF-8") as refused:
        parse_warehouse_url("postgres://app:SECRET\ud800@db/app")
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize("parse", PARSERS)
def test_who_names_a_postgres_database_is_told_how_to_bring_one_in(parse: Callable[[str], object]) -> None:
    with pytest.raises(ConfigurationError, match=r"is not a Postgres database; `ledger import-store` imports"):
        parse("postgresql+psycopg://db/app")
    with pytest.raises(ConfigurationError) as refused:
        parse("ledger.db")
    assert str(refused.value).endswith(("PROJECT/DATASET.", "(a path from the root)."))
    assert "'ledger.db'" in str(refused.value)


def test_a_warehouse_may_be_a_dataset_or_a_file() -> None:
    assert isinstance(parse_warehouse_url("bigquery://my-project/sessions"), Dataset)
    assert parse_warehouse_url("duckdb:////w.duckdb") == Path("/w.duckdb")


def test_a_file_is_not_opened_with_a_setting_or_a_path_that_it_cannot_have(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="synchronous must be FULL or NORMAL, not 'OFF'"):
        SqliteStore(tmp_path / "l.db", synchronous="OFF")
    with pytest.raises(ConfigurationError, match="NUL character"):
        SqliteStore(f"{tmp_path}/l\0.db")
    assert not list(tmp_path.iterdir())

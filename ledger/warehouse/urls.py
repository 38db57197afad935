"""Which warehouse is behind a URL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.errors import ConfigurationError
from ledger.extras import require_extra
from ledger.warehouse.base import Warehouse

if TYPE_CHECKING:
    from ledger.warehouse.bigquery.settings import Dataset

#: Where other programs' URLs hold secrets: in an option of such a name, and before the last @, for a password may hold
#: another one, and slashes.
_SECRET_OPTION = re.compile(r"((?:pass|pwd|secret|token|key)[^=&;\s]*=)[^&;\s]+", re.IGNORECASE)
_USER = re.compile(r"^([a-z][a-z0-9+.-]*://)?.*@", re.IGNORECASE | re.DOTALL)


def parse_warehouse_url(url: str) -> Path | Dataset:
    """The DuckDB file or the dataset that a URL names; nothing is opened.

    Args:
        url: ``duckdb:///relative/path.duckdb``, ``duckdb:////absolute/path.duckdb`` or ``bigquery://PROJECT/DATASET``.

    Raises:
        ConfigurationError: No warehouse is behind such a URL.
    """
    if any("\ud800" <= character <= "\udfff" for character in url):
        raise ConfigurationError(f"The warehouse's URL is {without_secrets(url)!r}, which is no UTF-8 text.")
    scheme, separator, rest = url.partition("://")
    if scheme == "bigquery" and separator:
        from ledger.warehouse.bigquery.settings import parse

        return parse(rest)
    if scheme != "duckdb" or not rest.startswith("/") or rest == "/" or "?" in rest or "\0" in rest:
        raise ConfigurationError(
            f"The warehouse's URL is {without_secrets(url)!r}; it must look like bigquery://PROJECT/DATASET, "
            "duckdb:///ledger.duckdb (a path from here) or duckdb:////var/lib/ledger.duckdb (a path from the root)."
            + of_postgres(url, "warehouse")
        )
    return Path(rest[1:]).absolute()


def without_secrets(url: str) -> str:
    """A URL that was refused, as an error may show it."""
    return _USER.sub(lambda match: f"{match[1] or ''}***@", _SECRET_OPTION.sub(r"\1***", url))


def of_postgres(url: str, wanted: str) -> str:
    """What is to be said besides to those who come from a store in Postgres; nothing where the URL is of no such."""
    if not url.lower().startswith("postgres"):
        return ""
    return f" A {wanted} is no Postgres database; `ledger import-store` brings the sessions of one into a ledger."


def duckdb_url(path: Path) -> str:
    """The URL of a DuckDB file, the same from wherever it is named."""
    return f"duckdb:///{path.absolute()}"


def open_warehouse(url: str) -> Warehouse:
    """The warehouse behind a URL; nothing is asked of it, and nothing made.

    Raises:
        ConfigurationError: No warehouse is behind such a URL.
        MissingExtra: It is in BigQuery, and the extra is not installed.
    """
    place = parse_warehouse_url(url)
    if isinstance(place, Path):
        from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse

        return DuckDBWarehouse(place)
    require_extra("bigquery")
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

    return BigQueryWarehouse(place)

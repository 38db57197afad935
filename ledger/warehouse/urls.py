"""Parse warehouse URLs and open the warehouses that they name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.errors import ConfigurationError
from ledger.extras import require_extra
from ledger.files import absolute_path
from ledger.settings import GOOGLE_CLOUD_PROJECT
from ledger.warehouse.base import Warehouse

if TYPE_CHECKING:
    from ledger.warehouse.bigquery.settings import Dataset

#: Two patterns of secrets that URLs of other programs may contain. The first matches options whose names suggest a
#: secret. The second matches everything before the last @, because a password may contain @ and slashes.
_SECRET_OPTION = re.compile(r"((?:pass|pwd|secret|token|key)[^=&;\s]*=)[^&;\s]+", re.IGNORECASE)
_USER_INFO = re.compile(r"^([a-z][a-z0-9+.-]*://)?.*@", re.IGNORECASE | re.DOTALL)
_EXAMPLES = {"ledger": "sqlite:///ledger.db", "warehouse": "duckdb:///ledger.duckdb"}


def parse_warehouse_url(url: str) -> Path | Dataset:
    """Return the DuckDB file or the dataset that a URL names, without opening it.

    Args:
        url: ``duckdb:///relative/path.duckdb``, ``duckdb:////absolute/path.duckdb`` or ``bigquery://PROJECT/DATASET``.

    Raises:
        ConfigurationError: The URL does not name a warehouse.
    """
    if any("\ud800" <= character <= "\udfff" for character in url):
        raise ConfigurationError(f"The warehouse's URL is {without_secrets(url)!r}, which is not valid UTF-8.")
    scheme, separator, rest = url.partition("://")
    if scheme == "bigquery" and separator:
        from ledger.warehouse.bigquery.settings import parse

        return parse(rest)
    if scheme != "duckdb" or not rest.startswith("/") or rest == "/" or "?" in rest or "\0" in rest:
        raise ConfigurationError(
            f"The warehouse's URL is {without_secrets(url)!r}; it must look like bigquery://PROJECT/DATASET, "
            "duckdb:///ledger.duckdb (a path from here) or duckdb:////var/lib/ledger.duckdb (a path from the root)."
            + postgres_hint(url, "warehouse")
        )
    return absolute_path(file_path(rest[1:], "warehouse"))


def file_path(text: str, what: str) -> Path:
    """Return the file that a path in a URL names, in which ``~/`` is the home folder.

    Args:
        text: The path: what follows ``scheme:///``.
        what: ``ledger`` or ``warehouse``, for error messages.

    Raises:
        ConfigurationError: The path is SQLAlchemy's word for a database in memory, or the home folder is not known.
    """
    if text.startswith((":memory:", "file::memory:")):
        raise ConfigurationError(
            f"The {what}'s URL names a database in memory, and a {what} is a file ({_EXAMPLES[what]}), which "
            "connections and processes share. For a test use a file in a temporary folder, such as pytest's tmp_path."
        )
    if text != "~" and not text.startswith("~/"):
        return Path(text)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(
            f"The {what}'s URL has the path {text}, and the home folder is not known; set HOME, or write the folder."
        ) from error


def without_secrets(url: str) -> str:
    """Return a URL for an error message, with its secrets replaced by ``***``."""
    return _USER_INFO.sub(lambda match: f"{match[1] or ''}***@", _SECRET_OPTION.sub(r"\1***", url))


def postgres_hint(url: str, expected: str) -> str:
    """Return a hint for an error message if the URL names a Postgres database; otherwise an empty string."""
    if not url.lower().startswith("postgres"):
        return ""
    return f" A {expected} is not a Postgres database; `ledger import-store` imports the sessions of one into a ledger."


def duckdb_url(path: Path) -> str:
    """Return the URL of a DuckDB file; all paths of a file give the same URL, unless symbolic links differ."""
    return f"duckdb:///{absolute_path(path)}"


def recorded_url(target: Path | Dataset, environment: Mapping[str, str] | None = None) -> str:
    """Return the URL under which a ledger records what it has shipped to a warehouse.

    Args:
        target: The warehouse.
        environment: The environment variables; None for those of the process.
    """
    if isinstance(target, Path):
        return duckdb_url(target)
    return replace(target, project=target.project or GOOGLE_CLOUD_PROJECT.text(environment) or "").url


def file_beside(ledger: Path) -> Path | None:
    """Return the default warehouse of a ledger in a SQLite file: ledger.duckdb for ledger.db.

    The result is None if that is the name of the ledger itself.
    """
    beside = ledger.with_suffix(".duckdb")
    return None if beside == ledger else beside


def duckdb_file(url: str) -> Path | None:
    """Return the DuckDB file that a warehouse's URL names; None if the warehouse is no file."""
    location = parse_warehouse_url(url) if url.startswith("duckdb:///") else None
    return location if isinstance(location, Path) else None


def duckdb_files(path: Path) -> list[Path]:
    """Return the paths of a DuckDB file and of its write-ahead log. Some may not exist."""
    return [path, path.with_name(f"{path.name}.wal")]


def open_warehouse(
    url: str, *, check_lost: Callable[[Path, str], object] = lambda path, found: None, like: Path | None = None
) -> Warehouse:
    """Return the warehouse that a URL names, without connecting to it or creating it.

    Args:
        url: The URL.
        check_lost: Called with the path of a DuckDB file before the file is filled anew; see ``DuckDBWarehouse``.
        like: A file whose group and mode a new DuckDB file gets; None to let only the owner read it.

    Raises:
        ConfigurationError: The URL does not name a warehouse.
        MissingExtra: The warehouse is in BigQuery, and the extra ``bigquery`` is not installed.
    """
    target = parse_warehouse_url(url)
    if isinstance(target, Path):
        from ledger.warehouse.duckdb.warehouse import DuckDBWarehouse

        return DuckDBWarehouse(target, check_lost=partial(check_lost, target), like=like)
    require_extra("bigquery")
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

    return BigQueryWarehouse(target)

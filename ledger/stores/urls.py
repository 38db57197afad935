"""Parse the URLs of stores, and open the store that a URL names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ledger.clock import Clock, NewId
from ledger.errors import ConfigurationError
from ledger.extras import require_extra
from ledger.stores.base import EventStore
from ledger.warehouse.urls import file_path, postgres_hint, without_secrets

if TYPE_CHECKING:
    from ledger.warehouse.bigquery.settings import Dataset


#: Path of a file, given in place of a URL: it begins as a path does, or ends as the name of a SQLite file.
_PATH = re.compile(r"(/|~/|\.{1,2}/).*|[^:@=?]+\.(db|sqlite|sqlite3)(\?.*)?", re.DOTALL)


class SqliteFile(NamedTuple):
    """The parts of a ``sqlite://`` URL."""

    path: Path
    synchronous: str = "FULL"
    max_bytes: int | None = None
    read_only: bool = False


def url_of(location: str | os.PathLike[str]) -> str:
    """Return the URL of a ledger, given its URL or the path of its file.

    Raises:
        ConfigurationError: A URL cannot name the path.
    """
    if isinstance(location, str):  # options may follow a path, as in a URL
        return f"sqlite:///{location}" if _PATH.fullmatch(location) else location
    path = os.fsdecode(location)
    if "?" in path:
        raise ConfigurationError(f"The ledger's path is {path}: a ledger's name cannot have a question mark.")
    return f"sqlite:///{path}"


def parse_url(url: str | os.PathLike[str]) -> SqliteFile | Dataset:
    """Parse a store's URL; nothing is opened.

    Raises:
        ConfigurationError: The URL names no store.
    """
    url = url_of(url)
    scheme, separator, rest = url.partition("://")
    if scheme == "bigquery" and separator:
        from ledger.warehouse.bigquery.settings import parse

        return parse(rest)
    path, _, options = rest.partition("?")
    if (scheme == "sqlite" and path in ("", "/")) or url.startswith((":memory:", "file::memory:")):
        file_path(":memory:", "ledger")  # such a URL is SQLAlchemy's for a database in memory
    if scheme != "sqlite" or not separator or not path.startswith("/"):
        raise ConfigurationError(
            f"The ledger's URL is {without_secrets(url)!r}; it must look like sqlite:///ledger.db (a path from here), "
            "sqlite:///~/ledger.db (a path from the home folder), sqlite:////var/lib/ledger.db (a path from the root) "
            "or bigquery://PROJECT/DATASET. A path may stand for a URL if it ends with .db, or begins with / or ./."
            + postgres_hint(url, "ledger")
        )
    file = file_path(path[1:], "ledger")
    settings = dict(option.partition("=")[::2] for option in options.split("&") if option)
    synchronous = settings.pop("synchronous", "FULL").upper()
    bound = settings.pop("max_bytes", None)
    if bound is not None and not (bound.isascii() and bound.isdecimal() and 0 < int(bound) < 2**63):
        raise ConfigurationError(f"The ledger's URL has max_bytes={bound}; it must be a whole number above 0.")
    if (mode := settings.pop("mode", "rw")) not in ("ro", "rw"):
        raise ConfigurationError(f"The ledger's URL has mode={mode}; it must be ro (nothing is written) or rw.")
    if settings:
        unknown = ", ".join(settings)
        raise ConfigurationError(
            f"The ledger's URL has an unknown option {unknown}; there are mode, synchronous and max_bytes."
        )
    return SqliteFile(file, synchronous, None if bound is None else int(bound), mode == "ro")


def open_store(url: str | os.PathLike[str], *, create: bool, clock: Clock, ids: NewId) -> EventStore:
    """Open the event store that a URL names.

    Args:
        url: ``sqlite:///FILE`` or ``bigquery://PROJECT/DATASET``, or the path of a file. A file with ``mode=ro``, or
            that this process may not write, is opened read-only.
        create: True to create a missing file. Opening a store in BigQuery never creates anything.
        clock, ids: Sources of times and ids.

    Raises:
        ConfigurationError: The URL names no store.
        MissingExtra: The store is in BigQuery, and the extra is not installed.
    """
    file = parse_url(url)
    if not isinstance(file, SqliteFile):
        require_extra("bigquery")
        from ledger.stores.bigquery.store import BigQueryStore

        return BigQueryStore(file, clock=clock)
    from ledger.stores.sqlite.read_only import ASKED, ReadOnlyStore, why_read_only
    from ledger.stores.sqlite.store import SqliteStore

    why = ASKED if file.read_only else why_read_only(file.path)
    if why is not None:
        return ReadOnlyStore(file.path, why=why, clock=clock, ids=ids)
    return SqliteStore(
        file.path, create=create, synchronous=file.synchronous, max_bytes=file.max_bytes, clock=clock, ids=ids
    )

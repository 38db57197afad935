"""Parse the URLs of stores, and open the store that a URL names."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ledger.clock import Clock, NewId
from ledger.errors import ConfigurationError
from ledger.extras import require_extra
from ledger.stores.base import EventStore
from ledger.warehouse.urls import postgres_hint, without_secrets

if TYPE_CHECKING:
    from ledger.warehouse.bigquery.settings import Dataset


class SqliteFile(NamedTuple):
    """The parts of a ``sqlite://`` URL."""

    path: str
    synchronous: str
    max_bytes: int | None


def parse_url(url: str) -> SqliteFile | Dataset:
    """Parse a store's URL; nothing is opened.

    Raises:
        ConfigurationError: The URL names no store.
    """
    scheme, separator, rest = url.partition("://")
    if scheme == "bigquery" and separator:
        from ledger.warehouse.bigquery.settings import parse

        return parse(rest)
    path, _, options = rest.partition("?")
    if scheme != "sqlite" or not separator or not path.startswith("/") or path == "/":
        raise ConfigurationError(
            f"The ledger's URL is {without_secrets(url)!r}; it must look like sqlite:///ledger.db (a path from here), "
            "sqlite:////var/lib/ledger.db (a path from the root) or bigquery://PROJECT/DATASET."
            + postgres_hint(url, "ledger")
        )
    settings = dict(option.partition("=")[::2] for option in options.split("&") if option)
    synchronous = settings.pop("synchronous", "FULL").upper()
    bound = settings.pop("max_bytes", None)
    if bound is not None and not (bound.isascii() and bound.isdecimal() and 0 < int(bound) < 2**63):
        raise ConfigurationError(f"The ledger's URL has max_bytes={bound}; it must be a whole number above 0.")
    if settings:
        unknown = ", ".join(settings)
        raise ConfigurationError(
            f"The ledger's URL has an unknown option {unknown}; there are synchronous and max_bytes."
        )
    return SqliteFile(path[1:], synchronous, None if bound is None else int(bound))


def open_store(url: str, *, create: bool, clock: Clock, ids: NewId) -> EventStore:
    """Open the event store that a URL names.

    Args:
        url: ``sqlite:///FILE`` or ``bigquery://PROJECT/DATASET``.
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
    from ledger.stores.sqlite.store import SqliteStore

    return SqliteStore(
        file.path, create=create, synchronous=file.synchronous, max_bytes=file.max_bytes, clock=clock, ids=ids
    )

"""Which store is behind a URL."""

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
    """What a ``sqlite://`` URL says."""

    path: str
    synchronous: str
    max_bytes: int | None


def parse_url(url: str) -> SqliteFile | Dataset:
    """What a URL says; nothing is opened.

    Raises:
        ConfigurationError: No store is behind such a URL.
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
        raise ConfigurationError(f"The ledger's URL says max_bytes={bound}; it must be a whole number above 0.")
    if settings:
        unknown = ", ".join(settings)
        raise ConfigurationError(
            f"The ledger's URL has an unknown option {unknown}; there are synchronous and max_bytes."
        )
    return SqliteFile(path[1:], synchronous, None if bound is None else int(bound))


def open_store(url: str, *, create: bool, clock: Clock, ids: NewId) -> EventStore:
    """The event store behind a URL. ``create`` is about a file; in BigQuery nothing is ever created by opening.

    Raises:
        ConfigurationError: No store is behind such a URL.
        MissingExtra: It is in BigQuery, and the extra is not installed.
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

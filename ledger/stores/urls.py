"""Which store is behind a URL."""

from __future__ import annotations

from typing import NamedTuple

from ledger.clock import Clock, NewId
from ledger.errors import ConfigurationError
from ledger.stores.base import EventStore


class SqliteFile(NamedTuple):
    """What a ``sqlite://`` URL says."""

    path: str
    synchronous: str


def parse_url(url: str) -> SqliteFile:
    """What a URL says; nothing is opened.

    Raises:
        ConfigurationError: No store is behind such a URL.
    """
    scheme, separator, rest = url.partition("://")
    path, _, options = rest.partition("?")
    if scheme != "sqlite" or not separator or not path.startswith("/") or path == "/":
        raise ConfigurationError(
            f"The ledger's URL is {url!r}; it must look like sqlite:///ledger.db (a path from here) or "
            "sqlite:////var/lib/ledger.db (a path from the root)."
        )
    settings = dict(option.partition("=")[::2] for option in options.split("&") if option)
    synchronous = settings.pop("synchronous", "FULL").upper()
    if settings:
        raise ConfigurationError(f"The ledger's URL has an unknown option {', '.join(settings)}; there is synchronous.")
    return SqliteFile(path[1:], synchronous)


def open_store(url: str, *, create: bool, clock: Clock, ids: NewId) -> EventStore:
    """The event store behind a URL.

    Raises:
        ConfigurationError: No store is behind such a URL.
    """
    file = parse_url(url)
    from ledger.stores.sqlite import SqliteStore

    return SqliteStore(file.path, create=create, synchronous=file.synchronous, clock=clock, ids=ids)

"""Opening and closing a ledger: its settings, its store and its warehouse."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from ledger.clock import Clock, NewId, new_id, utc_now
from ledger.errors import ConfigurationError, InvalidInput
from ledger.holding import ending
from ledger.settings import (
    LEDGER_RELAY,
    LEDGER_SESSION_DEFAULT_TTL_HOURS,
    LEDGER_SESSION_MAX_TTL_HOURS,
    LEDGER_URL,
    LEDGER_WAREHOUSE,
    Setting,
)
from ledger.stores.base import EventStore, outbox_store
from ledger.stores.urls import open_store, url_of
from ledger.warehouse.urls import file_beside, parse_warehouse_url

if TYPE_CHECKING:
    from ledger.model.profiles import Profile
    from ledger.tiers.attached import AttachedWarehouse
    from ledger.tiers.local import LocalTier
    from ledger.warehouse.base import Warehouse

DEFAULT_URL = LEDGER_URL.default
Relay = Literal["off", "background"]
RELAYS: tuple[Relay, ...] = get_args(Relay)
#: Default time that ``close`` waits for rows to be shipped, in seconds.
DRAIN_SECONDS = 10.0


class _Unset(Enum):
    UNSET = "not given"

    def __repr__(self) -> str:
        return "UNSET"


#: Default of an argument for which None has a meaning of its own.
UNSET: Any = _Unset.UNSET
#: Exclusive upper bound of the default and the maximum TTL, in hours: a hundred years.
LONGEST_HOURS = 876_600


class LedgerConnection:
    """An open store and its warehouse; see ``SessionLedger`` for the arguments."""

    def __init__(
        self,
        url: str | os.PathLike[str] | None = None,
        *,
        create: bool = True,
        warehouse: str | None = None,
        relay: Relay | None = None,
        default_ttl_hours: float | None = UNSET,
        max_ttl_hours: float | None = UNSET,
        strict_values: bool = False,
        clock: Clock = utc_now,
        ids: NewId = new_id,
    ) -> None:
        self._default_ttl, self._max_ttl = _lifetimes(default_ttl_hours, max_ttl_hours)
        self.url = url_of(url or LEDGER_URL.text() or DEFAULT_URL)
        self._clock = clock
        self._ids = ids
        self._strict_values = strict_values
        self._profiles: dict[str | None, Profile] = {}  # by session_type
        self._titled: set[str] = set()  # cache: sessions known to have a title or question
        self._forks: dict[str, bool] = {}  # cache: whether a session is a fork
        self._by_key: dict[tuple[str, str], str] = {}  # cache: (owner, key) to the latest session of get_or_create
        mode = _relay(relay)
        warehouse_url = warehouse or LEDGER_WAREHOUSE.text()
        _check_relay(mode, self.url, warehouse_url)
        from ledger.stores.sqlite.read_only import ReadOnlyStore

        self.store: EventStore = open_store(self.url, create=create, clock=clock, ids=ids)
        self._is_read_only = isinstance(self.store, ReadOnlyStore)
        self._warehouse: AttachedWarehouse | None = None
        # A ledger in BigQuery is its own warehouse: LEDGER_WAREHOUSE, which is for ledgers in files, does not apply.
        if warehouse_url is not None and (warehouse is not None or self.store.capabilities.outbox):
            try:
                self._attach(warehouse_url, background=mode == "background")
            except BaseException:
                self.close(drain=0)
                raise
        else:
            self._use_default_warehouse()

    @classmethod
    def open(
        cls,
        url: str | os.PathLike[str] | None = None,
        *,
        create: bool = True,
        warehouse: str | None = None,
        relay: Relay | None = None,
        default_ttl_hours: float | None = UNSET,
        max_ttl_hours: float | None = UNSET,
        strict_values: bool = False,
        clock: Clock = utc_now,
        ids: NewId = new_id,
    ) -> Self:
        """Open a ledger; the same as calling the class."""
        return cls(
            url,
            create=create,
            warehouse=warehouse,
            relay=relay,
            default_ttl_hours=default_ttl_hours,
            max_ttl_hours=max_ttl_hours,
            strict_values=strict_values,
            clock=clock,
            ids=ids,
        )

    @property
    def warehouse(self) -> AttachedWarehouse:
        """The warehouse that this ledger ships to.

        Its methods are ``sync``, ``status``, ``query``, ``refused``, ``retry`` and ``dismiss``.

        Raises:
            ConfigurationError: The ledger was opened without a warehouse.
        """
        if self._warehouse is None:
            if self.store.capabilities.warehouse:
                raise ConfigurationError(
                    f"{self.url} is its own warehouse and ships nowhere. Query it with ledger.sql(), and in a terminal "
                    "with `ledger sql`."
                )
            raise ConfigurationError(
                f"{self.url} was opened without a warehouse; name one: SessionLedger.open(url, warehouse=...), or "
                "LEDGER_WAREHOUSE."
            )
        return self._warehouse

    def close(self, *, drain: float = DRAIN_SECONDS) -> int:
        """Wait for running appends and close the store; a second call does nothing.

        Args:
            drain: Maximum time to wait for a background relay to ship waiting rows, in seconds.

        Returns:
            The number of rows that the background relay has not shipped; 0 without a background relay. These rows are
            kept in the file, and the next relay ships them.

        Raises:
            InvalidInput: ``drain`` is not a number of seconds; the ledger stays open.
        """
        check_drain(drain)
        with ending(self.store.close):
            waiting = 0 if self._warehouse is None else self._warehouse.close(drain)
            self._warehouse = None
            return waiting

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url!r}>"

    def __reduce_ex__(self, protocol: object) -> Any:
        raise uncopyable(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _attach(self, warehouse_url: str, *, background: bool) -> None:
        """Attach a warehouse. Rows are shipped to it, and sessions that are not in the store are read from it."""
        from ledger.tiers.attached import AttachedWarehouse
        from ledger.tiers.local import local_tier
        from ledger.tiers.store import TwoTierStore
        from ledger.warehouse.urls import duckdb_file, duckdb_files

        local = local_tier(self.store)
        background = background and not self._is_read_only  # a relay records what it has shipped
        attached = AttachedWarehouse(local, warehouse_url, background=background, clock=self._clock)
        self._warehouse = attached
        file = duckdb_file(warehouse_url)
        self.store = TwoTierStore(
            local,
            lambda: _warehouse_for(local, warehouse_url),
            name=lambda: attached.outbox.warehouse,
            files=[] if file is None else duckdb_files(file),
            clock=self._clock,
            ids=self._ids,
        )
        attached.start()

    def _use_default_warehouse(self) -> None:
        """Read archived sessions from the DuckDB file beside the ledger, if the ledger ships to it."""
        outbox = outbox_store(self.store)
        file = None if outbox is None else file_beside(outbox.path)
        if file is None:
            return
        from ledger.tiers.local import local_tier
        from ledger.tiers.store import TwoTierStore
        from ledger.warehouse.urls import duckdb_files, duckdb_url

        local, url = local_tier(self.store), duckdb_url(file)
        self.store = TwoTierStore(
            local,
            lambda: _warehouse_for(local, url),
            name=lambda: url,
            files=duckdb_files(file),
            is_default=True,
            clock=self._clock,
            ids=self._ids,
        )


def uncopyable(ledger: object) -> TypeError:
    """Return the error for pickling or copying a ledger."""
    return TypeError(
        f"{ledger!r} cannot be pickled or copied: it has open files and connections. Threads and views share one "
        "ledger; in another process, open it again with its URL, and make views from that one."
    )


def _warehouse_for(local: LocalTier, url: str) -> Warehouse:
    """Return the warehouse of a store. A ledger that reads no warehouse does not import ``warehouse_for``."""
    from ledger.tiers.opening import warehouse_for

    return warehouse_for(local, url)


def check_seconds(seconds: object, name: str, *, at_most: float) -> None:
    """Raise InvalidInput unless ``seconds`` is a number from 0 to ``at_most``.

    ``name`` is the name of the checked argument, for the error message.
    """
    if isinstance(seconds, int | float) and not isinstance(seconds, bool):
        with suppress(OverflowError):  # an integer too large for a float
            if 0 <= float(seconds) <= at_most:
                return
    is_huge = isinstance(seconds, int) and abs(seconds) >= 10**40  # str() refuses integers of thousands of digits
    shown = "a number of more than 40 digits" if is_huge else repr(seconds)[:70]
    bound = "" if at_most == math.inf else f" and at most {at_most:g}"
    raise InvalidInput(f"{name} must be seconds, 0 or more{bound}, not {shown}.")


def check_drain(drain: object) -> None:
    """Raise InvalidInput unless ``drain`` is a number from 0 to the longest timeout of a thread, in seconds."""
    check_seconds(drain, "drain", at_most=threading.TIMEOUT_MAX)


def longest_ttl(hours: float | None = UNSET, environment: Mapping[str, str] | None = None) -> timedelta | None:
    """Return the maximum TTL; None for no limit.

    Args:
        hours: The maximum TTL in hours, or None. If not given, ``LEDGER_SESSION_MAX_TTL_HOURS``, else None.
        environment: Environment variables; None for those of this process.

    Raises:
        ConfigurationError: The TTL is invalid.
    """
    return _ttl(hours, "max_ttl_hours", LEDGER_SESSION_MAX_TTL_HOURS, environment)


def _lifetimes(
    default_hours: float | None, max_hours: float | None, environment: Mapping[str, str] | None = None
) -> tuple[timedelta | None, timedelta | None]:
    """Return the default TTL (None for no expiry) and the maximum TTL (None for no limit).

    An argument takes precedence over the environment. If neither sets the default TTL, it is the maximum TTL.

    Raises:
        ConfigurationError: A TTL is invalid, or the default TTL that was set exceeds the maximum.
    """
    longest = longest_ttl(max_hours, environment)
    default = _default_ttl(default_hours, environment)
    if longest is None or (default_hours is UNSET and LEDGER_SESSION_DEFAULT_TTL_HOURS.text(environment) is None):
        return default or longest, longest
    if default is None or default > longest:
        wrong = "none, but every session has an end with" if default is None else "more than"
        raise ConfigurationError(
            f"default_ttl_hours is {wrong} the maximum TTL (max_ttl_hours); check "
            "LEDGER_SESSION_DEFAULT_TTL_HOURS and LEDGER_SESSION_MAX_TTL_HOURS."
        )
    return default, longest


def wrong_settings(environment: Mapping[str, str]) -> Iterator[tuple[Setting, ConfigurationError]]:
    """Yield each setting whose value would make opening a ledger fail, with the error. Nothing is opened.

    The URL of the ledger is not among these settings.
    """
    url, warehouse = LEDGER_URL.text(environment) or DEFAULT_URL, LEDGER_WAREHOUSE.text(environment)
    checks: tuple[tuple[Setting, Callable[[], object]], ...] = (
        (LEDGER_RELAY, lambda: _check_relay(_relay(None, environment), url, warehouse)),
        (LEDGER_SESSION_MAX_TTL_HOURS, lambda: longest_ttl(UNSET, environment)),
        (LEDGER_SESSION_DEFAULT_TTL_HOURS, lambda: _default_ttl(UNSET, environment)),
        (LEDGER_WAREHOUSE, lambda: None if warehouse is None else parse_warehouse_url(warehouse)),
    )
    wrong = False
    for setting, check in checks:
        try:
            check()
        except ConfigurationError as error:
            wrong = True
            yield setting, error
    if not wrong:
        try:
            _lifetimes(UNSET, UNSET, environment)
        except ConfigurationError as error:
            yield LEDGER_SESSION_DEFAULT_TTL_HOURS, error


def _relay(relay: str | None, environment: Mapping[str, str] | None = None) -> str:
    relay = relay or LEDGER_RELAY.text(environment) or LEDGER_RELAY.default
    if relay not in RELAYS:
        raise ConfigurationError(f"relay is {relay!r}; it must be {' or '.join(RELAYS)}. Check LEDGER_RELAY.")
    return relay


def _check_relay(relay: str, url: str, warehouse: str | None) -> None:
    if warehouse is None and relay != "off":
        if url.startswith("bigquery:"):
            raise ConfigurationError(
                f"relay is {relay}, but {url} needs no relay: what is appended is in BigQuery. Open it without relay, "
                "and unset LEDGER_RELAY."
            )
        raise ConfigurationError(f"relay is {relay}, and no warehouse is named; set LEDGER_WAREHOUSE.")


def _default_ttl(hours: Any, environment: Mapping[str, str] | None) -> timedelta | None:
    return _ttl(hours, "default_ttl_hours", LEDGER_SESSION_DEFAULT_TTL_HOURS, environment)


def _ttl(hours: Any, name: str, setting: Setting, environment: Mapping[str, str] | None) -> timedelta | None:
    if hours is UNSET:
        text = setting.text(environment) or "none"
        try:
            hours = None if text.lower() == "none" else float(text)
        except ValueError:
            hours = text
    if hours is None:
        return None
    if isinstance(hours, bool) or not isinstance(hours, int | float) or not 0 < hours < LONGEST_HOURS:
        raise ConfigurationError(f"{name} is {hours!r}; it must be hours above 0, or none. Check {setting.name}.")
    return timedelta(hours=hours)

"""Opening and closing a ledger: its store, and the warehouse that it ships to."""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ledger.clock import Clock, NewId, new_id, utc_now
from ledger.errors import ConfigurationError, InvalidInput
from ledger.settings import (
    LEDGER_RELAY,
    LEDGER_SESSION_DEFAULT_TTL_HOURS,
    LEDGER_SESSION_MAX_TTL_HOURS,
    LEDGER_URL,
    LEDGER_WAREHOUSE,
    Setting,
)
from ledger.stores.base import EventStore
from ledger.stores.urls import open_store

if TYPE_CHECKING:
    from ledger.model.profiles import Profile
    from ledger.tiers.attached import AttachedWarehouse

DEFAULT_URL = LEDGER_URL.default
RELAYS = ("off", "background")
#: Seconds for which closing waits for rows to be shipped.
DRAIN_SECONDS = 10.0


#: An argument that was not given, where None means something.
UNSET: Any = object()
#: Hours that a session lives, and may live, where nobody says otherwise.
DEFAULT_TTL_HOURS, MAX_TTL_HOURS = 24.0, 168.0
#: A hundred years: as good as none.
LONGEST_HOURS = 876_600


class LedgerConnection:
    """A store, and the warehouse behind it, for as long as they are open; the arguments are ``SessionLedger``'s."""

    def __init__(
        self,
        url: str | None = None,
        *,
        create: bool = True,
        warehouse: str | None = None,
        relay: str | None = None,
        default_ttl_hours: float | None = UNSET,
        max_ttl_hours: float | None = UNSET,
        clock: Clock = utc_now,
        ids: NewId = new_id,
    ) -> None:
        self._default_ttl, self._max_ttl = _lifetimes(default_ttl_hours, max_ttl_hours)
        self.url = url or LEDGER_URL.text() or DEFAULT_URL
        self._clock = clock
        self._ids = ids
        self._profiles: dict[str | None, Profile] = {}  # by session_type
        self._titled: set[str] = set()  # sessions that have a title, as far as is remembered
        self._by_key: dict[tuple[str, str], str] = {}  # owner and key to the session that was last begun under it
        relay = relay or LEDGER_RELAY.text() or LEDGER_RELAY.default
        if relay not in RELAYS:
            raise ConfigurationError(f"relay is {relay!r}; it must be {' or '.join(RELAYS)}. Check LEDGER_RELAY.")
        place = warehouse or LEDGER_WAREHOUSE.text()
        if place is None and relay != "off":
            raise ConfigurationError(f"relay is {relay}, and no warehouse is named; set LEDGER_WAREHOUSE.")
        self.store: EventStore = open_store(self.url, create=create, clock=clock, ids=ids)
        self._warehouse: AttachedWarehouse | None = None
        # A ledger in BigQuery is its own warehouse, whatever the environment says for those in files.
        if place is not None and (warehouse is not None or self.store.capabilities.outbox):
            try:
                self._attach(place, background=relay == "background")
            except BaseException:
                self.store.close()
                raise

    @classmethod
    def open(
        cls,
        url: str | None = None,
        *,
        create: bool = True,
        warehouse: str | None = None,
        relay: str | None = None,
        default_ttl_hours: float | None = UNSET,
        max_ttl_hours: float | None = UNSET,
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
            clock=clock,
            ids=ids,
        )

    @property
    def warehouse(self) -> AttachedWarehouse:
        """The warehouse that this ledger ships to: ``sync``, ``status``, ``query``, ``refused``, ``retry``.

        Raises:
            ConfigurationError: It was opened without one.
        """
        if self._warehouse is None:
            raise ConfigurationError(
                f"{self.url} was opened without a warehouse; name one: SessionLedger.open(url, warehouse=...), or "
                "LEDGER_WAREHOUSE."
            )
        return self._warehouse

    def close(self, *, drain: float = DRAIN_SECONDS) -> int:
        """Let appends under way finish and close the store; calling it again does nothing.

        Args:
            drain: Seconds for which a relay in the background may ship what waits.

        Returns:
            How many rows still wait for the warehouse, where a relay in the background ships them. They are in the
            file, and the next one ships them.

        Raises:
            InvalidInput: ``drain`` is no time; the ledger stays open.
        """
        check_drain(drain)
        attached, self._warehouse = self._warehouse, None
        try:
            return attached.close(drain) if attached is not None else 0
        finally:
            self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _attach(self, place: str, *, background: bool) -> None:
        from ledger.tiers.attached import AttachedWarehouse
        from ledger.tiers.local import local_tier
        from ledger.tiers.store import TwoTierStore
        from ledger.warehouse.urls import open_warehouse

        local = local_tier(self.store)
        attached = AttachedWarehouse(local, place, background=background)
        self._warehouse = attached
        self.store = TwoTierStore(
            local,
            lambda: open_warehouse(place),
            name=lambda: attached.outbox.warehouse,
            clock=self._clock,
            ids=self._ids,
        )


def check_seconds(seconds: object, name: str, *, at_most: float) -> None:
    """Raise InvalidInput unless these are seconds, 0 or more; the message names ``name``."""
    if isinstance(seconds, int | float) and not isinstance(seconds, bool):
        with suppress(OverflowError):  # of an integer that no clock can count to
            if 0 <= float(seconds) <= at_most:
                return
    vast = isinstance(seconds, int) and abs(seconds) >= 10**40  # Python writes no number of thousands of digits
    given = "a number of more than 40 digits" if vast else repr(seconds)[:70]
    bound = "" if at_most == math.inf else f" and at most {at_most:g}"
    raise InvalidInput(f"{name} must be seconds, 0 or more{bound}, not {given}.")


def check_drain(drain: object) -> None:
    """Raise InvalidInput unless a thread can be waited for so many seconds."""
    check_seconds(drain, "drain", at_most=threading.TIMEOUT_MAX)


def _lifetimes(default_hours: float | None, max_hours: float | None) -> tuple[timedelta | None, timedelta | None]:
    """How long a session lives where nobody says, and at most: from arguments, else from the environment."""
    longest = _span(max_hours, "max_ttl_hours", LEDGER_SESSION_MAX_TTL_HOURS, MAX_TTL_HOURS)
    named = default_hours is not UNSET or LEDGER_SESSION_DEFAULT_TTL_HOURS.is_set()
    default = _span(default_hours, "default_ttl_hours", LEDGER_SESSION_DEFAULT_TTL_HOURS, DEFAULT_TTL_HOURS)
    if default is not None and longest is not None and default > longest:
        if named:
            raise ConfigurationError(
                "default_ttl_hours is more than max_ttl_hours; check LEDGER_SESSION_DEFAULT_TTL_HOURS and "
                "LEDGER_SESSION_MAX_TTL_HOURS."
            )
        default = longest
    return default, longest


def _span(hours: Any, name: str, setting: Setting, otherwise: float) -> timedelta | None:
    if hours is UNSET:
        text = setting.text() or str(otherwise)
        try:
            hours = None if text.lower() == "none" else float(text)
        except ValueError:
            hours = text
    if hours is None:
        return None
    if isinstance(hours, bool) or not isinstance(hours, int | float) or not 0 < hours < LONGEST_HOURS:
        raise ConfigurationError(f"{name} is {hours!r}; it must be hours above 0, or none. Check {setting.name}.")
    return timedelta(hours=hours)

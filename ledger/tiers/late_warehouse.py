"""The warehouse of a two-tier store, which is opened by the first operation that needs it."""

from __future__ import annotations

from collections.abc import Callable

from ledger import forking
from ledger.errors import StoreRejected
from ledger.holding import TimedLock
from ledger.warehouse.base import Warehouse

#: Seconds that a call waits while another thread opens or closes the warehouse.
OPENING_TIMEOUT = 60.0
_NAME = "the warehouse of this ledger"


class LateWarehouse:
    """A warehouse that is opened when it is first needed. Thread-safe; a forked child opens one of its own.

    Args:
        open_warehouse: Function that opens the warehouse. If it fails, the next operation calls it again. Only one
            thread calls it at a time.
    """

    def __init__(self, open_warehouse: Callable[[], Warehouse]) -> None:
        self._open_warehouse = open_warehouse
        self._opening = TimedLock(_NAME)  # guards the two attributes below
        self._warehouse: Warehouse | None = None
        self._closed = False
        forking.register(self, forking.Stage.USERS)

    def opened(self) -> Warehouse:
        """Return the warehouse; the first call opens it.

        Raises:
            StoreRejected: ``close`` was called.
            LedgerError: The warehouse cannot be opened.
        """
        return self._opening.call(OPENING_TIMEOUT, self._opened)

    def _opened(self) -> Warehouse:
        if self._closed:
            raise StoreRejected("The ledger is closed; open it again with SessionLedger.open().")
        if self._warehouse is None:
            self._warehouse = self._open_warehouse()
        return self._warehouse

    def close(self) -> None:
        """Close the warehouse if it is open; a second call does nothing."""
        self._opening.call(OPENING_TIMEOUT, self._close)
        forking.unregister(self)

    def _close(self) -> None:
        self._closed = True
        if self._warehouse is not None:
            self._warehouse.close()
        self._warehouse = None

    def before_fork(self, deadline: float) -> bool:
        """Wait until no thread is opening the warehouse; see ``ledger.forking``."""
        return self._opening.hold_for_fork(deadline)

    def after_fork_in_parent(self) -> None:
        """Allow threads to open the warehouse again."""
        self._opening.release_after_fork()

    def after_fork_in_child(self, clean: bool) -> None:
        """Leave the parent's warehouse open and unused. The child's first read that needs a warehouse opens its own."""
        if self._warehouse is not None:
            forking.keep(self._warehouse)
            self._warehouse = None
        self._opening = TimedLock(_NAME)

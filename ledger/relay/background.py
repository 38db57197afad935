"""A relay that goes on by itself, as a thread of the program that appends or as a process of its own."""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections.abc import Callable

import tenacity

from ledger.errors import LeaseHeld
from ledger.outbox.contract import Outbox
from ledger.relay.loop import Relay

log = logging.getLogger("ledger.relay")
#: Seconds that a row waits for others to go with it.
AGE = 1.0
#: The longest pause after failures, in seconds.
LONGEST_PAUSE = 60.0
#: Seconds that an interrupted relay gets to say so in the store.
_LAST_WORDS = 1.0
#: Seconds that a relay which nobody closed gets to end its batch when the program ends.
_AT_EXIT = 10.0


def run(relay: Relay, stop: threading.Event, *, age: float = AGE) -> None:
    """Ship what is appended until told to stop; whatever fails is tried again, ever more seldom.

    Args:
        relay: Not closed at the end.
        stop: Ends it, after the batch that is under way.
        age: Seconds that a row waits for others to go with it.
    """
    trying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Exception),  # said, counted and kept for `ledger status` already
        wait=tenacity.wait_random_exponential(multiplier=age, max=LONGEST_PAUSE),
        stop=tenacity.stop_when_event_set(stop),
        sleep=tenacity.sleep_using_event(stop),
        retry_error_callback=lambda state: None,
    )
    while not stop.is_set():
        trying(relay.sync, stop=stop.is_set)
        stop.wait(age)


def sync_now(
    relay: Relay,
    outbox: Outbox,
    *,
    timeout: float,
    progress: Callable[[int], None] = lambda rows: None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Have everything shipped that is recorded by now, by this relay or by another that is at it.

    Args:
        relay, outbox: Of one store and warehouse.
        timeout: Seconds to wait for another relay.
        progress: Told how many rows are settled.

    Returns:
        How many rows this relay sent.

    Raises:
        LeaseHeld: Another relay is at it, and did not get there in time.
        LedgerError: As for ``Relay.sync``.
    """
    until, deadline = outbox.last_seq(), time.monotonic() + timeout
    while True:
        try:
            return relay.sync(progress=progress)
        except LeaseHeld:
            if outbox.checkpoint().seq >= until and not outbox.rows_to_redrive(1, max_bytes=1):
                return 0
            if time.monotonic() >= deadline:
                raise
            sleep(0.05)


def drain(relay: Relay, seconds: float, *, now: Callable[[], float] = time.monotonic) -> None:
    """Ship what waits, within a bound: no batch is begun after it.

    Raises:
        LedgerError: As for ``Relay.sync``.
    """
    deadline = now() + seconds
    relay.sync(stop=lambda: now() >= deadline)


class BackgroundRelay:
    """A relay in a thread of its own, which never holds up an append.

    Args:
        relay: Closed at the end.
        age: Seconds that a row waits for others to go with it.
    """

    def __init__(self, relay: Relay, *, age: float = AGE) -> None:
        self._relay = relay
        self._stop = threading.Event()
        self._seconds = 0.0
        self._thread = threading.Thread(target=self._run, args=(age,), name="ledger-relay", daemon=True)
        self._thread.start()
        _RUNNING.add(self)

    def close(self, seconds: float) -> bool:
        """Ship what waits for so many seconds at most, then stop.

        Returns:
            Whether the relay has come to its end. One that waits for an answer of the warehouse is cut off, and what
            became of its batch is found out the next time.
        """
        self._seconds = seconds
        return self.stop(seconds)

    def stop(self, seconds: float) -> bool:
        """Stop after the batch under way, which gets so many seconds; see ``close``."""
        self._stop.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._relay.abandon()
            self._thread.join(_LAST_WORDS)
        return not self._thread.is_alive()

    def _run(self, age: float) -> None:
        run(self._relay, self._stop, age=age)
        try:
            if self._seconds > 0:
                drain(self._relay, self._seconds)
        except Exception:  # noqa: BLE001 - said and kept by the relay; what is left is reported by whoever closes
            return
        finally:
            self._relay.close()


#: A thread that is within native code when the interpreter ends takes the process down with it.
_RUNNING: weakref.WeakSet[BackgroundRelay] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    deadline = time.monotonic() + _AT_EXIT
    for each in list(_RUNNING):
        each.stop(max(0.0, deadline - time.monotonic()))

"""Run a relay continuously, in a thread of the program that appends or in a process of its own."""

from __future__ import annotations

import atexit

# Warehouses import it too, and it cannot be imported any more once the interpreter has begun to end.
import concurrent.futures.thread  # noqa: F401
import logging
import threading
import time
import weakref
from collections.abc import Callable

import tenacity

from ledger import forking
from ledger.errors import LeaseHeld, LedgerError
from ledger.outbox.contract import Outbox
from ledger.relay.loop import Relay

log = logging.getLogger("ledger.relay")
#: Seconds to wait between two calls of ``Relay.sync``. New rows accumulate in that time.
AGE = 1.0
#: Maximum pause between retries, in seconds.
LONGEST_PAUSE = 60.0
#: Seconds to wait for an abandoned relay, so that it can record its failure in the store.
_LAST_WORDS = 1.0
#: When the interpreter exits, relays that were not closed finish their batches. This is the number of seconds to wait
#: for all of them together.
_AT_EXIT = 10.0


def run(relay: Relay, stop: threading.Event, *, age: float = AGE) -> None:
    """Ship new rows until ``stop`` is set. After a failure, try again with exponential backoff.

    Args:
        relay: The relay. This function does not close it.
        stop: When this event is set, the loop ends after the batch in flight.
        age: Seconds to wait after each ``Relay.sync``.
    """
    backoff = tenacity.wait_random_exponential(multiplier=age, max=LONGEST_PAUSE)
    pause = age

    def draw(state: tenacity.RetryCallState) -> None:
        """Choose the pause after an attempt before it is made, so that the relay's message can say it."""
        nonlocal pause
        pause = backoff(state)

    trying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Exception),  # the relay has logged, counted and recorded it
        before=draw,
        wait=lambda state: pause,
        stop=tenacity.stop_when_event_set(stop),
        sleep=tenacity.sleep_using_event(stop),
        retry_error_callback=lambda state: None,
    )
    while not stop.is_set():
        trying(relay.sync, stop=stop.is_set, retry_in=lambda: pause)
        stop.wait(age)


def sync_now(
    relay: Relay,
    outbox: Outbox,
    *,
    timeout: float,
    progress: Callable[[int], None] = lambda rows: None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Ship all rows recorded before the call, or wait until the relay that holds the lease has shipped them.

    Args:
        relay: The relay.
        outbox: The outbox that the relay ships from.
        timeout: Seconds to wait while another relay holds the lease.
        progress: Function called after each batch of this relay, with the number of rows that the batch acknowledged.
        sleep: Function that waits for a number of seconds, called between two attempts.

    Returns:
        The number of rows that this relay sent; 0 if another relay shipped them all.

    Raises:
        LeaseHeld: Another relay holds the lease and has not shipped the rows within the timeout.
        LedgerError: ``Relay.sync`` raised it.
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
    """Ship the waiting rows. Once ``seconds`` have passed, no further batch is started.

    Raises:
        LedgerError: ``Relay.sync`` raised it.
    """
    deadline = now() + seconds
    relay.sync(stop=lambda: now() >= deadline)


class BackgroundRelay(forking.Renewed):
    """A relay in a daemon thread, which ``start`` starts. Appends never wait for it.

    A forked child starts a thread and a relay of its own. As with relays of other processes, the one that holds the
    lease ships the rows of all.

    Args:
        make: Function that returns a new relay, which is closed when the thread ends.
        age: Seconds to wait after each ``Relay.sync``.

    Attributes:
        cut_off: What the relay was doing, ``starting`` or ``shipping``, when ``close`` or ``stop`` did not wait any
            longer; None if the thread ended by itself.
    """

    def __init__(self, make: Callable[[], Relay], *, age: float = AGE) -> None:
        self._make = make
        self._age = age
        self._seconds = 0.0
        self._relay: Relay | None = make()
        self.cut_off: str | None = None
        self._stop = threading.Event()
        self._thread = self._new_thread()

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, args=(self._stop,), name="ledger-relay", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        _RUNNING.add(self)
        forking.register(self, forking.Stage.USERS)
        self._thread.start()

    def renew(self) -> None:
        """Start a thread in a child, unless the parent has stopped its own.

        The inherited relay is not closed, because the parent uses its lease and its connections.
        """
        if self._thread.ident is None or self._thread.is_alive() or self._stop.is_set():
            return
        self._relay = None
        self._stop = threading.Event()
        thread = self._thread = self._new_thread()
        thread.start()

    def close(self, seconds: float) -> bool:
        """Ship the waiting rows, stop the thread, and wait at most ``seconds`` for it.

        If the thread still runs after that, for example because the warehouse does not answer, its relay is abandoned.
        The next relay recovers the batch in flight.

        Returns:
            True if the thread has ended; False if it still runs although its relay was abandoned.
        """
        self._seconds = seconds
        return self.stop(seconds)

    def stop(self, seconds: float) -> bool:
        """Stop the thread after the batch in flight, without shipping the waiting rows.

        Like ``close``, it waits for the thread, and abandons the relay of a thread that still runs.

        Returns:
            True if the thread has ended; False if it still runs although its relay was abandoned.
        """
        self._stop.set()
        if self._thread.ident is None:  # an exception interrupted the start
            if self._relay is not None:
                self._relay.close()
            return True
        try:
            self._thread.join(seconds)
        except BaseException:
            self._abandon()
            raise
        if self._thread.is_alive():
            self._abandon()
            self._thread.join(_LAST_WORDS)
        return not self._thread.is_alive()

    def _abandon(self) -> None:
        if self._relay is not None:
            self.cut_off = "starting" if self._relay.abandon() else "shipping"

    def _run(self, stop: threading.Event) -> None:
        if self._relay is None:  # in a child: most end soon, or execute another program, and need no relay
            stop.wait(self._age)
            if stop.is_set() and not self._seconds:
                return
            try:
                self._relay = self._make()
            except LedgerError as error:
                log.warning("No relay runs in this forked process: %s", error, extra={"error_code": error.code})
                return
        relay = self._relay
        run(relay, stop, age=self._age)
        try:
            if self._seconds > 0:
                drain(relay, self._seconds)
        except Exception:  # noqa: BLE001 - the relay has recorded it; the caller of close() reports the rows left
            return
        finally:
            relay.close()


#: All background relays. They are stopped at exit, because a thread inside native code crashes the process while the
#: interpreter shuts down.
_RUNNING: weakref.WeakSet[BackgroundRelay] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    deadline = time.monotonic() + _AT_EXIT
    for each in list(_RUNNING):
        each.stop(max(0.0, deadline - time.monotonic()))

"""A warehouse in trouble: random faults as of `proxy.Plan`, and on demand an outage, or a request held up in midway."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from faults.proxy import Plan

#: Seconds for which a request is held up at most; clients wait longer for an answer.
HELD_SECONDS = 20.0


class Trap:
    """Waits for a request that is still to come, and may hold it up on its way to the warehouse.

    Args:
        request: Its name.
        nth: Which of those of this name, from now on.
        holds: Whether it is held up until ``release``.
    """

    def __init__(self, request: str, nth: int, *, holds: bool) -> None:
        self.request = request
        self.left = nth
        self.holds = holds
        self.caught = threading.Event()
        self.lag = 0.0
        self.lost = False
        self._open = threading.Event()

    def release(self, *, lost: bool = False, lag: float = 0.0) -> None:
        """Let it go on after so many seconds, or never; does nothing where none was held."""
        self.lost, self.lag = lost, lag
        self._open.set()

    def hold(self, ending: threading.Event) -> bool:
        """Wait for what becomes of the request; whether it goes on."""
        self.caught.set()
        if self.holds:
            self._open.wait(HELD_SECONDS)
            ending.wait(self.lag)
        return not self.lost


class Trouble(Plan):
    """Random faults, an outage while ``away`` is set, and traps; see ``Plan`` for the arguments."""

    def __init__(self, seed: int, rate: float, **more: Any) -> None:
        super().__init__(seed, rate, **more)
        self.away = False
        self.turned_away: Counter[str] = Counter()  # by an outage, which is not in the log
        self._traps: list[Trap] = []
        self._trapping = threading.Lock()
        self._ending = threading.Event()

    def trap(self, request: str, nth: int = 1, *, holds: bool = False) -> Trap:
        """Set a trap; only one at a time."""
        made = Trap(request, nth, holds=holds)
        with self._trapping:
            self._traps = [made]
        return made

    def end(self) -> None:
        """No more trouble: what is held up goes on."""
        self.off()
        self.away = False
        with self._trapping:
            traps, self._traps = self._traps, []
        for trap in traps:
            trap.release()
        self._ending.set()

    def strike(self, request: str) -> str | None:
        """The kind of fault this request gets, if any, once it is no longer held up."""
        trap = self._caught(request)
        if trap is not None and not trap.hold(self._ending):
            return "reset_before"
        if self.away:
            with self._trapping:
                self.turned_away[request] += 1
                return ("unavailable", "reset_before")[self.turned_away.total() % 2]
        return super().strike(request)

    def _caught(self, request: str) -> Trap | None:
        """The trap that this request has gone into."""
        with self._trapping:
            for trap in self._traps:
                if trap.request == request:
                    trap.left -= 1
                    if trap.left == 0:
                        self._traps.remove(trap)
                        return trap
        return None

"""Exceptions that strike a call at a random moment: out of a signal handler in the main thread, as Ctrl-C or an alarm
does, and by ``PyThreadState_SetAsyncExc`` in every other thread, as libraries that limit a task's time do."""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from faults.interruption import Interruption, TimeLimit

T = TypeVar("T")
_set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc  # holds the GIL


STRUCK = (TimeLimit, Interruption)
#: Seconds after which an alarm that may not strike yet is sent again.
_LATER = 0.01


class Target:
    """A thread whose calls may be struck; made in that thread.

    Args:
        struck: Called with ``signal`` or ``thread`` when an exception strikes.
        may_strike: Asked at that moment; while it says no, the exception waits.

    Attributes:
        on_its_way: True from the moment at which an exception is set for another thread until its call has ended.
    """

    def __init__(self, struck: Callable[[str], object], may_strike: Callable[[], bool] = lambda: True) -> None:
        self._struck = struck
        self._may_strike = may_strike
        self.on_its_way = False
        self._id = ctypes.c_ulong(threading.get_ident())
        self._is_main = threading.current_thread() is threading.main_thread()
        self._due = 0.0  # when a call of another thread than the main one is struck; 0 for never
        self._setting = False
        self._armed = False
        self._error: type[BaseException] = TimeLimit
        if self._is_main:
            signal.signal(signal.SIGALRM, self._on_alarm)

    def call(self, act: Callable[[], T], delay: float | None, error: type[BaseException]) -> T:
        """Call ``act``; if ``delay`` is not None, an exception strikes after so many seconds, unless it ends before.

        Returns:
            What ``act`` returned. If an exception strikes after the last line of ``act``, its result is lost.
        """
        if delay is None:
            return act()
        result: list[T] = []
        failure: BaseException | None = None
        try:
            try:
                self._arm(delay, error)
                result.append(act())
            except BaseException as raised:  # noqa: BLE001 - raised again below
                failure = raised
            self._disarm()
        except STRUCK as raised:  # between two lines of this method; no second one strikes
            failure = failure or raised
            self._disarm()
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # else the exception and this frame would keep each other, and what its frames hold
        return result[0]

    def strike_if_due(self) -> None:
        """Strike the thread if it is time; called by another thread, again and again."""
        due = self._due
        if not due or time.monotonic() < due or not self._may_strike():
            return
        self._setting = True  # before the flag is read: see _disarm
        if self._armed:
            self._due = 0.0
            self._armed = False
            self.on_its_way = True
            self._struck("thread")
            _set_exception(self._id, ctypes.py_object(self._error))
        self._setting = False

    def _arm(self, delay: float, error: type[BaseException]) -> None:
        self._error = error
        self._armed = True
        if self._is_main:
            signal.setitimer(signal.ITIMER_REAL, max(delay, 1e-6))
        else:
            self._due = time.monotonic() + delay

    def _disarm(self) -> None:
        self._armed = False
        self._due = 0.0
        if self._is_main:
            signal.setitimer(signal.ITIMER_REAL, 0)
            return
        while self._setting:  # an exception may be on its way
            time.sleep(0)
        _set_exception(self._id, None)  # one that has not struck yet never will
        self.on_its_way = False

    def _on_alarm(self, *_: Any) -> None:
        if not self._may_strike():
            signal.setitimer(signal.ITIMER_REAL, _LATER)
        elif self._armed:
            self._armed = False
            self._struck("signal")
            raise self._error

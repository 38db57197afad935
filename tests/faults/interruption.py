"""Interrupts a thread at a chosen place, as an exception out of a signal handler would. Needs Python 3.12."""

from __future__ import annotations

import dis
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from types import CodeType, ModuleType
from typing import Any

#: After these instructions, and at the start of a function, CPython runs signal handlers.
CALLS = {"CALL", "CALL_KW", "CALL_FUNCTION_EX", "JUMP_BACKWARD"}
TOOL = 4  # a free one of the six that sys.monitoring has


class Interruption(BaseException):
    """What a signal handler raises, like KeyboardInterrupt."""


class TimeLimit(Exception):
    """What a signal handler raises when something takes too long."""


def interrupters(*modules: ModuleType, error: type[BaseException] = Interruption) -> Iterator[Interrupter]:
    """One for each place in some modules where a signal can strike, in order, until one has found no place left."""
    for point in count():
        interrupter = Interrupter(point, error, *modules)
        yield interrupter
        if not interrupter.struck:
            assert point > 3, "no instruction was reported"
            return


class Interrupter:
    """Raises an error in one thread where a signal could strike for the n-th time within some modules."""

    def __init__(self, point: int, error: type[BaseException], *modules: ModuleType) -> None:
        self.left = point
        self.error = error
        self.struck = False
        self._codes = [code for module in modules for code in _codes(vars(module), module.__name__)]
        self._before: dict[int, str] = {}
        self._thread = 0

    def run(self, act: Callable[[], Any]) -> Any:
        """Call ``act`` in this thread; returns what it returns."""
        monitoring = sys.monitoring
        self._thread = threading.get_ident()
        monitoring.use_tool_id(TOOL, "interrupter")
        try:
            monitoring.register_callback(TOOL, monitoring.events.INSTRUCTION, self._reached)
            for code in self._codes:
                monitoring.set_local_events(TOOL, code, monitoring.events.INSTRUCTION)
            return act()
        finally:
            self.left = sys.maxsize
            for code in self._codes:
                monitoring.set_local_events(TOOL, code, 0)
            monitoring.free_tool_id(TOOL)

    def _reached(self, code: CodeType, offset: int) -> None:
        if threading.get_ident() != self._thread:
            return
        frame = id(sys._getframe(1))
        name, before = dis.opname[code.co_code[offset]], self._before.get(frame)
        self._before[frame] = name
        if name == "RESUME" or (before in CALLS and name != "PUSH_EXC_INFO"):  # a call that raised looks for no signal
            self.left -= 1
            if self.left == -1:
                self.struck = True
                raise self.error


def _codes(names: dict[str, Any], module: str) -> Iterator[CodeType]:
    for value in names.values():
        if getattr(value, "__module__", None) == module:
            if isinstance(value, type):
                yield from _codes(dict(vars(value)), module)
            elif hasattr(value, "__code__"):
                yield from _with_inner(value.__code__)


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)

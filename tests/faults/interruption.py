"""Interrupts a thread at a chosen place, as an exception out of a signal handler would. Needs Python 3.12.

A *place* is a point of the code at which CPython may run a signal handler: the start of a function, the resumption of a
generator, the return from a function written in C (also one that ran Python code, as a class does when it is called),
and the jump back to the head of a loop.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from itertools import count
from pathlib import Path
from types import CodeType, FunctionType, ModuleType, TracebackType
from typing import Any, Self

TOOL = 4  # a free one of the six that sys.monitoring has


class Interruption(BaseException):
    """What a signal handler raises, like KeyboardInterrupt."""


class TimeLimit(Exception):
    """What a signal handler raises when something takes too long."""


class Interrupter:
    """Raises an error in one thread at the n-th place within some code.

    As a context manager it watches the code for the whole block, which is cheaper than for each ``run``.

    Attributes:
        struck: True if the last ``run`` raised the error.
        place: Where it was raised: the file and the line, and the function.
        passed: Number of places that the last ``run`` came by.
    """

    def __init__(self, codes: Collection[CodeType], point: int = 0, error: type[BaseException] = Interruption) -> None:
        self.point, self.error = point, error
        self.struck, self.place, self.passed = False, "", 0
        self._codes = codes
        self._thread: int | None = None
        self._watching = False

    def __enter__(self) -> Self:
        events = sys.monitoring.events
        sys.monitoring.use_tool_id(TOOL, "interrupter")
        for event in (events.PY_START, events.PY_RESUME, events.C_RETURN):
            sys.monitoring.register_callback(TOOL, event, self._reached)
        sys.monitoring.register_callback(TOOL, events.JUMP, self._jumped)
        watched = events.PY_START | events.PY_RESUME | events.CALL | events.JUMP
        for code in self._codes:
            sys.monitoring.set_local_events(TOOL, code, watched)
        self._watching = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching = False
        for code in self._codes:
            sys.monitoring.set_local_events(TOOL, code, 0)
        sys.monitoring.free_tool_id(TOOL)

    def run(self, act: Callable[[], Any]) -> Any:
        """Call ``act`` in this thread; returns what it returns."""
        if not self._watching:
            with self:
                return self.run(act)
        self.struck, self.place, self.passed = False, "", 0
        self._thread = threading.get_ident()
        try:
            return act()
        finally:
            self._thread = None

    def _reached(self, code: CodeType, *_: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        self.passed += 1
        if self.passed == self.point + 1:
            self.struck = True
            frame = sys._getframe(1)
            while frame.f_code is not code and frame.f_back is not None:
                frame = frame.f_back
            self.place = f"{code.co_filename.rpartition('ledger/')[2]}:{frame.f_lineno} {code.co_qualname}"
            raise self.error

    def _jumped(self, code: CodeType, start: int, end: int) -> Any:
        if end > start:
            return sys.monitoring.DISABLE  # only at a jump back does CPython look for signals
        return self._reached(code)


def interrupters(*modules: ModuleType, error: type[BaseException] = Interruption) -> Iterator[Interrupter]:
    """One for each place in some modules, in order, until one has found no place left."""
    codes = codes_below(*(module.__name__ for module in modules))
    for point in count():
        interrupter = Interrupter(codes, point, error)
        yield interrupter
        if not interrupter.struck:
            assert point > 3, "no place was reported"
            return


def codes_below(*names: str) -> list[CodeType]:
    """The code of all functions in modules and packages of these names that are loaded."""
    files = tuple(_files_of(sys.modules[name]) for name in names)
    found: dict[CodeType, None] = {}
    for value in gc.get_objects():
        if isinstance(value, FunctionType) and value.__code__.co_filename.startswith(files):
            for code in _with_inner(value.__code__):
                found[code] = None
    return list(found)


def _files_of(module: ModuleType) -> str:
    file = Path(module.__file__ or "")
    return f"{file.parent}/" if file.name == "__init__.py" else str(file)


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)

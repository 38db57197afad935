"""Work that runs in a thread of its own while the relay sends what it prepared before. Waits for it have a limit."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import TypeVar

log = logging.getLogger("ledger.relay")
T = TypeVar("T")
#: Seconds that the end of the block waits for work in progress, whose result nobody needs any more.
WORK_TIMEOUT = 10.0


class Ahead:
    """A context manager in whose block work runs ahead, one piece at a time.

    The thread is a daemon: an executor's threads would be waited for without a limit at the end of the block and when
    the interpreter exits, and the work may ask a warehouse that does not answer.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def start(self, work: Callable[[], T]) -> Callable[[], T]:
        """Start work and return a function that waits for its result. Work that was started before has ended."""
        result: Future[T] = Future()
        self._thread = threading.Thread(target=_run, args=(work, result), name="ledger-relay-ahead", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is shutting down and starts no threads: work runs when it is needed
            return work
        return result.result

    def __enter__(self) -> Ahead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None or self._thread.ident is None:  # none was started
            return
        self._thread.join(WORK_TIMEOUT)
        if self._thread.is_alive():
            log.info("The relay ended while a batch was still being read; its result is dropped.")


def _run(work: Callable[[], T], result: Future[T]) -> None:
    try:
        result.set_result(work())
    except BaseException as error:  # noqa: BLE001 - the function that waits for the result raises it
        result.set_exception(error)

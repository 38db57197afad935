"""Ctrl-C ends the process in time, whatever its main thread is doing.

Python raises KeyboardInterrupt in the main thread, and only between two of its instructions. A command may therefore
not end soon: the main thread is inside a call into SQLite or waits for another thread, or the exception strikes while
a C extension imports a module, and the extension discards it. A thread of this module learns of the signal at once and
ends the process if the command has not. A store, a warehouse and a file being written stay whole, as after a crash.
"""

from __future__ import annotations

import _thread
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Exit code of a command that Ctrl-C ended.
INTERRUPTED = 130
#: Seconds that a command has to end after the first Ctrl-C. The second Ctrl-C ends it at once.
SECONDS_TO_END = 1.5
#: Seconds by which KeyboardInterrupt is put off while a module is imported.
_SECONDS_TO_IMPORT = 1.0
#: Seconds between two looks at whether the second Ctrl-C has come and KeyboardInterrupt was raised.
_PAUSE = 0.02
#: The signal by which the thread has the main thread call the handler again. By default it does nothing.
_ASK_AGAIN = signal.SIGURG
_MESSAGE = "error: Interrupted. (interrupted)\n"
_SHOW_CURSOR = "\x1b[?25h"
_interrupted = threading.Event()  # set by Ctrl-C
_raised = threading.Event()  # set once KeyboardInterrupt was raised
_imports_too_long = threading.Event()


@contextmanager
def interruptible() -> Iterator[None]:
    """Context manager in whose block Ctrl-C ends the process, with a message and the exit code ``INTERRUPTED``.

    However the block ends after Ctrl-C, that is the exit code. Another exception is taken for a consequence, such as
    that of a module that was imported only in part. Nothing changes if the process ignores SIGINT, as one that a shell
    starts in the background does.
    """
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            _watch()
            signal.signal(_ASK_AGAIN, _interrupt)
            signal.signal(signal.SIGINT, _interrupt)
        yield
    except KeyboardInterrupt:
        _end()
    except BaseException as error:
        if _interrupted.is_set() and getattr(error, "code", None) != INTERRUPTED:  # else it has written the message
            _end()
        raise


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but not inside an import before its time: some C extensions crash on it."""
    _interrupted.set()
    while frame is not None and not _imports_too_long.is_set():
        if frame.f_code.co_filename.startswith("<frozen importlib._bootstrap"):
            return  # the thread asks again
        frame = frame.f_back
    if not _raised.is_set():
        _raised.set()
        raise KeyboardInterrupt


def _watch() -> None:
    """Start the thread that learns of signals. Python's handler writes each signal's number to a pipe."""
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
    threading.Thread(target=_end_in_time, args=(receiver,), name="ledger-interrupts", daemon=True).start()


def _end_in_time(receiver: int) -> None:
    """Wait for Ctrl-C. End the process after the second one, or if the first has not ended it in time.

    A command with a handler of its own for SIGINT, such as `ledger relay`, may take longer.
    """
    _next_interrupt(receiver)
    if signal.getsignal(signal.SIGINT) is _interrupt:
        start = time.monotonic()
        while (seconds := time.monotonic() - start) < SECONDS_TO_END:
            time.sleep(_PAUSE)
            if select.select([receiver], [], [], 0)[0] and signal.SIGINT in os.read(receiver, 512):
                break
            if seconds > _SECONDS_TO_IMPORT:
                _imports_too_long.set()
            if not _raised.is_set():
                _thread.interrupt_main(_ASK_AGAIN)
    else:
        _next_interrupt(receiver)
    _end()


def _next_interrupt(receiver: int) -> None:
    while os.read(receiver, 1)[0] != signal.SIGINT:
        pass


def _end() -> None:
    """Write the message and end the process without a further step: each could wait for what is interrupted."""
    _raised.set()  # the handler raises no more
    shown = _SHOW_CURSOR + "\r\n" if sys.stderr.isatty() else ""
    os.write(2, (shown + _MESSAGE).encode())
    os._exit(INTERRUPTED)

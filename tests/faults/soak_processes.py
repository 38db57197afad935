"""The processes of a soak, started ahead of need: loading Google's clients takes longer than most of them live."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("soak_worker.py")
#: Seconds for what takes one or two, on a machine with nothing else to do.
RETRY_TIMEOUT = 120.0


def until(condition: Callable[[], Any], what: str, seconds: float = RETRY_TIMEOUT) -> Any:
    """Wait until a condition holds; what it gave.

    Raises:
        AssertionError: It does not within so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"within {seconds:g} s: {what}"
        time.sleep(0.01)
    return found


class Worker:
    """A process that has loaded everything and waits for its orders.

    Args:
        number: Counts the workers of a run.
        said: What it writes to standard error goes there.
        environment: The whole of it.
    """

    def __init__(self, number: int, said: Path, environment: Mapping[str, str]) -> None:
        self.number = number
        self.name = f"worker {number}"
        self.said = said
        with open(said, "wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-W", "error", str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=dict(environment),
            )
        self._tell: Callable[[dict[str, Any]], None] = lambda line: None
        self._other: list[str] = []
        self._is_ready = threading.Event()
        self._reader = threading.Thread(target=self._read, name=f"soak-{number}")
        self._reader.start()

    def obey(self, what: str, tell: Callable[[dict[str, Any]], None] = lambda line: None, **orders: Any) -> Worker:
        """Give the process its orders, once; ``tell`` gets each line it says, in a thread of its own."""
        self.warm()
        self.name = f"{what} {self.number}"
        self._tell = tell
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps(orders) + "\n").encode())
        self._process.stdin.flush()
        return self

    def warm(self) -> None:
        """Wait until it has loaded everything."""
        assert self._is_ready.wait(RETRY_TIMEOUT), f"{self.name} has not started: {self.errors()}"

    @property
    def code(self) -> int | None:
        """How it ended; None where it has not."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until nothing is left of it, also of what it said."""
        self._process.kill()
        self._end()

    def end(self, seconds: float = RETRY_TIMEOUT) -> int:
        """SIGTERM, and wait; how it ended."""
        self._process.terminate()
        return self.wait(seconds)

    def wait(self, seconds: float = RETRY_TIMEOUT) -> int:
        """Wait until it has ended by itself; how."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} does not end: {self.errors()}") from None
        self._end()
        return self._process.returncode

    def lines(self) -> str:
        """The end of what a command wrote to standard output."""
        return "".join(self._other)[-3000:]

    def errors(self) -> str:
        """The end of what it wrote to standard error."""
        return self.said.read_text(errors="replace")[-3000:]

    def _end(self) -> None:
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # it never read its orders
                    pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                found = json.loads(line)
                said = found if isinstance(found, dict) else None
            except ValueError:  # a command's own words, or cut off by a kill
                said = None
            if said is None or not said.keys() & {"ready", "event", "error"}:
                self._other.append(line.decode(errors="replace"))
            elif "ready" in said:
                self._is_ready.set()
            else:
                self._tell(said)


class Workers:
    """All processes of a run, some of them spare; a context manager that leaves none behind.

    Args:
        folder: For what they write to standard error.
        environment: Settings beside those of this process, without the ledger's own.
        spare: How many are loaded ahead of need; ``wanted`` from then on.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], *, spare: int = 2) -> None:
        self._folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LEDGER_", "BIGQUERY_"))}
        self._environment = kept | dict(environment)
        self._spare: deque[Worker] = deque()
        self.wanted = spare
        self.all: list[Worker] = []

    def __enter__(self) -> Workers:
        self._fill()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.all:
            worker.kill()

    def take(self) -> Worker:
        """A process that waits for orders, or soon will."""
        worker = self._spare.popleft()
        self._fill()
        return worker

    def warm(self) -> None:
        """Wait until the next one follows orders at once."""
        self._spare[0].warm()

    def _fill(self) -> None:
        while len(self._spare) < self.wanted:
            number = len(self.all) + 1
            worker = Worker(number, self._folder / f"worker-{number}.log", self._environment)
            self.all.append(worker)
            self._spare.append(worker)

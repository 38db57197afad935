"""What the processes of a torture run share: a file in memory that survives whoever is killed."""

from __future__ import annotations

import mmap
import os
import time
from collections import Counter
from pathlib import Path

#: Processes that append, threads of each, and rows of the board for each process's forked children.
PROCESSES, THREADS, CHILDREN = 4, 4, 8
ROWS = PROCESSES * THREADS + PROCESSES * CHILDREN
#: Places for sessions that all threads use; each holds one generation of sessions after another.
PLACES = 12
RUN, PAUSE, END = range(3)
#: What can be left out of a run, to find the cause of a failure.
TROUBLE = ("kills", "forks", "interrupts", "disk", "clocks", "warehouse")
#: Weight of each action in the plan.
ACTIONS = {
    "message": 30,
    "fields": 20,
    "read": 25,
    "read_version": 8,
    "history": 4,
    "list": 5,
    "create": 5,
    "search": 6,
    "scan": 3,
    "share": 5,
    "look_as_revoked": 8,
    "fork_session": 4,
    "rewind": 4,
    "archive": 3,
    "hydrate": 3,
    "delete": 1,
    "maintain": 1,
    "sync": 2,
    "query": 2,
    "backup": 1,
    "export": 1,
    "import": 1,
    "fork": 4,
}
OUTCOMES = ("done", "refused", "struck", "unknown")
FAULTS = (
    *(
        "kill",
        "end in order",
        "fork: return",
        "fork: os._exit",
        "fork: exec",
        "fork: kill",
        "struck by signal",
        "struck by thread",
    ),
    *("disk_full", "io_error", "short_write", "size_limit", "clock: seconds", "clock: hours", "clock: days"),
    *("events acknowledged", "events of children", "reads checked", "revoked guests refused", "sent again"),
)
NAMES = (*FAULTS, *(f"{action} {outcome}" for action in ACTIONS for outcome in OUTCOMES))
_INDEX = {name: index for index, name in enumerate(NAMES)}
_GENERATION = 1 << 32  # an acknowledged version is kept as generation * this + version


class Board:
    """Numbers of 64 bits, each written by one process, or only ever growing.

    Args:
        path: The file; made if it is missing.
    """

    def __init__(self, path: Path) -> None:
        sections = {
            "phase": 1,
            "generation": PLACES,
            "off": len(TROUBLE),
            "doomed": PLACES,
            "clock": PROCESSES,
            "ending": PROCESSES,
            "acknowledged": ROWS * PLACES,
            "since": ROWS,
            "action": ROWS,
            "parked": ROWS,
            "counts": ROWS * len(NAMES),
        }
        size = 8 * sum(sections.values())
        with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            if os.fstat(file.fileno()).st_size < size:
                file.truncate(size)
            self._cells = memoryview(mmap.mmap(file.fileno(), size)).cast("q")
        at = 0
        for name, length in sections.items():
            setattr(self, name, self._cells[at : at + length])
            at += length

    phase: memoryview
    generation: memoryview
    off: memoryview
    doomed: memoryview
    clock: memoryview
    ending: memoryview
    acknowledged: memoryview
    since: memoryview
    action: memoryview
    parked: memoryview
    counts: memoryview

    def has(self, trouble: str) -> bool:
        """Whether the run has this of ``TROUBLE``."""
        return not self.off[TROUBLE.index(trouble)]

    def count(self, row: int, name: str) -> None:
        """Count one more of ``NAMES``."""
        self.counts[row * len(NAMES) + _INDEX[name]] += 1

    def counted(self) -> Counter[str]:
        """The sums over all rows."""
        return Counter(
            {name: sum(self.counts[row * len(NAMES) + index] for row in range(ROWS)) for name, index in _INDEX.items()}
        )

    def acknowledge(self, row: int, place: int, generation: int, version: int) -> None:
        """Tell all processes that a version of a place's session was acknowledged."""
        cell, value = row * PLACES + place, generation * _GENERATION + version
        self.acknowledged[cell] = max(self.acknowledged[cell], value)

    def floor(self, place: int, generation: int) -> int:
        """The highest version of the session that anybody was told of; a read that begins now sees it."""
        cells = [self.acknowledged[row * PLACES + place] for row in range(ROWS)]
        return max((cell % _GENERATION for cell in cells if cell // _GENERATION == generation), default=0)

    def begin(self, row: int, action: str) -> None:
        """Take note that a call begins."""
        self.action[row] = list(ACTIONS).index(action) if action in ACTIONS else -1
        self.since[row] = time.monotonic_ns()

    def end(self, row: int) -> None:
        """Take note that it has ended."""
        self.since[row] = 0

    def overdue(self, row: int, seconds: float) -> str:
        """The action whose call has taken longer than that; empty if there is none."""
        since = self.since[row]
        if not since or time.monotonic_ns() - since < seconds * 1e9:
            return ""
        index = self.action[row]
        return list(ACTIONS)[index] if index >= 0 else "close"

"""What callers were told in a torture run, in files that are synced line by line."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.soak_sides import Event


class Journal:
    """The lines of one thread; a line is whole or not there."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, kind: str, *what: Any) -> None:
        """Write a line; it is synced on return. Where the disk is full by a fault, try until that is over."""
        line = (json.dumps([kind, *what]) + "\n").encode()
        while True:
            try:
                os.write(self._file, b"\n" + line)
                os.fdatasync(self._file)
                return
            except OSError:
                os.sched_yield()

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


@dataclass
class Account:
    """All that was written in the journals of a run.

    Attributes:
        acknowledged: Event to version.
        created: Sessions whose making was acknowledged.
        refused: Events of which an error said that nothing was written, and the error.
        doomed: Sessions that somebody was about to delete for good.
        deleted: Those whose deletion was acknowledged.
        backups, exports: File to the least versions of its sessions.
        forks: Seconds that each fork took.
        violations: Kind, and what was seen.
    """

    acknowledged: dict[Event, int] = field(default_factory=dict)
    created: set[str] = field(default_factory=set)
    refused: dict[Event, str] = field(default_factory=dict)
    doomed: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    backups: dict[str, dict[str, int]] = field(default_factory=dict)
    exports: dict[str, dict[str, int]] = field(default_factory=dict)
    forks: list[float] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[str, str]] = field(default_factory=list)

    def hear(self, kind: str, *what: Any) -> None:
        """Take note of a line."""
        if kind == "acknowledged":
            session_id, event_id, version = what
            there = self.acknowledged.setdefault((session_id, event_id), version)
            if there != version:
                self.violations.append(("two versions", f"{session_id} {event_id}: {there}, and then {version}"))
        elif kind == "refused":
            session_id, event_id, error = what
            self.refused[session_id, event_id] = error
        elif kind == "refusal":
            self.refusals[what[0]] += 1
        elif kind in ("backups", "exports"):
            getattr(self, kind)[what[0]] = what[1]
        elif kind == "forks":
            self.forks.append(what[0])
        elif kind == "violation":
            self.violations.append((what[0], what[1]))
        else:
            getattr(self, kind).add(what[0])


def read(folder: Path) -> Account:
    """Return what the journals of a folder tell."""
    account = Account()
    for path in sorted(folder.glob("*.journal")):
        for line in path.read_bytes().split(b"\n"):
            if line.startswith(b"[") and line.endswith(b"]"):  # else cut off by a kill
                account.hear(*json.loads(line))
    return account

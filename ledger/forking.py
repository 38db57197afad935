"""Prepare open embedded stores for a fork of the process, and reopen them afterwards.

SQLite remembers in the memory of a process which file locks the process holds. A forked child inherits this memory, but
not the locks. If the child keeps an inherited connection and opens another, the new connection therefore has no lock.
What the child then commits is lost when the parent closes the file. To prevent this, every open embedded store
closes its connections before the fork. Afterwards the parent and the child open new ones.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """Protocol of a store whose methods are called before and after each fork of the process."""

    def before_fork(self) -> None:
        """Prepare for the fork. An embedded store waits for the threads that use it, and closes every connection."""

    def after_fork_in_parent(self) -> None:
        """Make the store usable again in the parent."""

    def after_fork_in_child(self) -> None:
        """Make the store usable in the child. Connections inherited from the parent must not be used or closed."""


_OPEN: weakref.WeakSet[ForkAware] = weakref.WeakSet()
_FORKING: list[ForkAware] = []


def register(store: ForkAware) -> None:
    """Have the methods of a store called at each fork, until the store is unregistered or garbage-collected."""
    _OPEN.add(store)


def unregister(store: ForkAware) -> None:
    """Have the methods of a store no longer called at a fork."""
    _OPEN.discard(store)


def _before_fork() -> None:
    _FORKING[:] = list(_OPEN)
    for store in _FORKING:
        store.before_fork()


def _after_fork_in_parent() -> None:
    while _FORKING:
        _FORKING.pop().after_fork_in_parent()


def _after_fork_in_child() -> None:
    while _FORKING:
        _FORKING.pop().after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)

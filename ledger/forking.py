"""Fork hooks of open embedded stores.

SQLite records its file locks per process. A child inherits the records but not the locks: a connection that it opens
beside an inherited one holds no lock, and its commits are lost when the parent closes the file. So every store closes
its connections before a fork and opens new ones in parent and child.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """A store that closes its file while the process forks."""

    def before_fork(self) -> None:
        """Close every connection."""

    def after_fork_in_parent(self) -> None:
        """Allow connections again."""

    def after_fork_in_child(self) -> None:
        """Start without connections; never use or close one that the parent has open."""


_OPEN: weakref.WeakSet[ForkAware] = weakref.WeakSet()
_FORKING: list[ForkAware] = []


def register(store: ForkAware) -> None:
    """Call the hooks of a store at each fork, until ``unregister`` or until it is garbage-collected."""
    _OPEN.add(store)


def unregister(store: ForkAware) -> None:
    """Stop calling the hooks of a store."""
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

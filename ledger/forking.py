"""What open embedded stores do when the process forks.

SQLite keeps account of its locks by process and file. A child inherits the account and not the locks: a connection
that it opens beside an inherited one holds none, and what it commits is lost when its parent closes. So all are closed
around a fork, and opened again on both sides.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forks(Protocol):
    """A store that lets go of its file while the process forks."""

    def before_fork(self) -> None:
        """Close every connection."""

    def after_fork_in_parent(self) -> None:
        """Open again."""

    def after_fork_in_child(self) -> None:
        """Open anew, and never touch what the parent has open."""


_OPEN: weakref.WeakSet[Forks] = weakref.WeakSet()
_FORKING: list[Forks] = []


def register(store: Forks) -> None:
    """Tell a store of forks, for as long as it lives or until ``unregister``."""
    _OPEN.add(store)


def unregister(store: Forks) -> None:
    """Tell a store of forks no more."""
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

"""Prepare open stores, warehouses and relays for a fork of the process, and make them usable again afterwards.

SQLite and DuckDB remember in the memory of a process which file locks the process holds. A forked child inherits this
memory, but not the locks. If the child keeps an inherited connection and opens another, the new connection therefore
has no lock, and what the child commits may be lost. Threads are not inherited either.

Every open resource that a fork concerns is therefore registered here. A fork calls three methods of each:

====================================  ==================================================================================
``before_fork(deadline)``             Blocks new calls, waits for calls in progress until the deadline, and closes what
                                      a child must not inherit. Returns True if the resource is then *clean*.
``after_fork_in_parent()``            Unblocks the resource. Called if ``before_fork`` was called, even if that failed.
``after_fork_in_child(clean)``        Makes the resource usable. If it is not clean, refuses every call instead, and
                                      passes what was inherited to ``keep``, so that it is never closed.
====================================  ==================================================================================

The stages are prepared in their order, and released in the reverse order. All resources together have ``BUDGET``
seconds: each may use half of what is left, and the last all of it. If several threads fork at the same
time, their forks run one after another. A thread whose turn does not come within the budget forks all the same, and in
its child no resource is clean.

If a hook raises an exception, for example one from a signal handler, CPython prints it and forks all the same. No step
in this module therefore relies on the steps before it. A resource is clean only if its ``before_fork`` returned True
for this fork. Each hook that runs after a fork is registered ``_ATTEMPTS`` times, and each call does what earlier calls
left undone. The ``after`` methods may be called again after an exception, and must allow that. If a signal handler
forks while its own thread is in a hook, only the resources that the hook has already prepared are clean in that child.
"""

from __future__ import annotations

import gc
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from enum import IntEnum
from functools import partial
from threading import Lock, get_ident
from typing import Protocol

#: Maximum seconds that all resources together may delay a fork.
BUDGET = 0.9
#: How often each hook that follows a fork is registered.
_ATTEMPTS = 3


class Stage(IntEnum):
    """The order in which resources are prepared for a fork. A resource that uses others is prepared before them."""

    USERS = 0
    WAREHOUSES = 1
    STORES = 2


class ForkAware(Protocol):
    """Protocol of a resource whose methods are called before and after each fork of the process."""

    def before_fork(self, deadline: float) -> bool:
        """Prepare for a fork, until ``deadline`` on the monotonic clock. Return True if the resource is clean."""

    def after_fork_in_parent(self) -> None:
        """Make the resource usable again in the parent; does nothing if it is usable."""

    def after_fork_in_child(self, clean: bool) -> None:
        """Make the resource usable in the child if it is clean, or else refuse every call from now on."""


class Renewed:
    """Base class of resources that need nothing before a fork, and start anew in the child."""

    def before_fork(self, deadline: float) -> bool:
        """Return True."""
        return True

    def after_fork_in_parent(self) -> None:
        """Do nothing."""

    def after_fork_in_child(self, clean: bool) -> None:
        """Replace what the child must not share with its parent. ``clean`` has no effect."""
        self.renew()

    def renew(self) -> None:
        """Start anew, without the parent's threads, connections and locks; allow a second call."""
        raise NotImplementedError


class Guard(Renewed):
    """Holds a lock that a forked child replaces, since a thread of the parent may have held it: ``with guard.lock:``.

    The lock must guard what another thread can leave half done without harm, as it is left in the child.

    Args:
        make: Function that returns a new lock.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[bool]] = Lock) -> None:
        self._make = make
        self.renew()
        register(self, Stage.USERS)

    def renew(self) -> None:
        """Replace the lock by a new one."""
        self.lock = self._make()


class _Fork:
    """A fork in progress.

    Attributes:
        thread: The thread that forks.
        preparing: True until the hook before the fork has ended.
        begun: The resources whose ``before_fork`` was called and that are not released yet.
        clean: The resources in ``begun`` whose ``before_fork`` returned True.
        attempts: How often the hook after the fork was called in the parent.
    """

    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.preparing = True
        self.begun: list[ForkAware] = []
        self.clean: list[ForkAware] = []
        self.attempts = 0


_registered: dict[int, tuple[Stage, weakref.ref[ForkAware]]] = {}
#: The forks in progress; the first has its turn. A queue alone, without a lock, cannot be left locked by an exception.
_forks: deque[_Fork] = deque()
#: In a child: the resources that were not made usable yet, and whether each is clean.
_inherited: list[tuple[ForkAware, bool]] = []
_process = os.getpid()


def register(resource: ForkAware, stage: Stage = Stage.STORES) -> None:
    """Have the methods of a resource called at each fork, until it is unregistered or garbage-collected."""
    key = id(resource)
    _registered[key] = stage, weakref.ref(resource, partial(_registered.pop, key))


def unregister(resource: ForkAware) -> None:
    """Have the methods of a resource no longer called at a fork."""
    _registered.pop(id(resource), None)


def wait_for_forks(deadline: float) -> bool:
    """Wait until no other thread forks, and return True; return False if the deadline passes first.

    Before a resource opens a connection, it registers itself, then marks itself as opening, and then calls this
    function. In this order, a fork at the same time either sees the mark or is seen by this function.
    """
    thread = get_ident()
    while any(each.thread != thread for each in _forks.copy()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.0005)
    return True


def keep(*inherited: object) -> None:
    """Keep objects in this process for good, so that they are never finalized, not even when the process exits.

    If a child process closed an inherited SQLite connection, SQLite could checkpoint or delete a WAL that other
    processes still use.
    """
    cycle: list[object] = list(inherited)
    cycle.append(cycle)
    gc.freeze()  # from now on the collector, too, ignores the cycle


def precede_other_hooks() -> None:
    """Have the resources prepared before the hooks that other libraries registered until now.

    The hooks before a fork run in the reverse order of their registration. A second call in a fork does nothing: like
    a fork in a signal handler, it finds the fork of its thread prepared.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before_fork)


def _resources() -> list[ForkAware]:
    """Return the registered resources by stage, in the order of registration within a stage."""
    stages = sorted(_registered.copy().values(), key=lambda each: each[0])
    return [resource for _, reference in stages if (resource := reference()) is not None]


def _has_turn(fork: _Fork) -> bool:
    return next(iter(_forks.copy()), None) is fork


def _before_fork() -> None:
    deadline = time.monotonic() + BUDGET
    fork = _Fork(get_ident())
    outer = [each for each in _forks.copy() if each.thread == fork.thread]
    try:
        _forks.append(fork)
        if outer:  # a signal handler forks while its thread is in a hook, or this is the second hook of a fork
            fork.clean = list(outer[-1].clean)
            return
        if not _wait_for_turn(fork, deadline):
            return
        _prepare_all(fork, deadline)
    finally:
        fork.preparing = False


def _prepare_all(fork: _Fork, deadline: float) -> None:
    # Not within the block of ``_before_fork``: CPython 3.13.0 excludes the jump at a loop's end from a try block, and
    # an exception there would skip ``finally``.
    errors = [error for each in _shares(_resources(), deadline) if (error := _prepare(fork, *each)) is not None]
    if errors:
        raise errors[0]


def _wait_for_turn(fork: _Fork, deadline: float) -> bool:
    while not _has_turn(fork) and time.monotonic() < deadline:
        time.sleep(0.0005)
    return _has_turn(fork)


def _shares(resources: list[ForkAware], deadline: float) -> Iterator[tuple[ForkAware, float]]:
    """Yield each resource with the time until which it may delay the fork."""
    for left, resource in zip(range(len(resources) - 1, -1, -1), resources, strict=True):
        now = time.monotonic()
        yield resource, now + (deadline - now) / 2 if left else deadline


def _prepare(fork: _Fork, resource: ForkAware, deadline: float) -> BaseException | None:
    """Call ``before_fork`` of one resource. Return the exception that it raised, or None."""
    if not _has_turn(fork):  # this is the child of a signal handler that forked during the hook
        return None
    fork.begun.append(resource)
    try:
        if resource.before_fork(deadline):
            fork.clean.append(resource)
    except BaseException as error:  # noqa: BLE001 - the hook raises it when it has prepared the others
        return error
    return None


def _own_forks() -> list[_Fork]:
    """Return this thread's forks for which the hook before the fork has ended, the last one first."""
    thread = get_ident()
    return [each for each in reversed(_forks.copy()) if each.thread == thread and not each.preparing]


def _after_fork_in_parent() -> None:
    errors = []
    for fork in _own_forks():
        fork.attempts += 1
        for resource in reversed(fork.begun.copy()):
            if resource in fork.clean:
                fork.clean.remove(resource)  # first: a signal handler may fork now
            try:
                resource.after_fork_in_parent()
                fork.begun.remove(resource)
            except BaseException as error:  # noqa: BLE001 - the hook raises it when it has released the others
                errors.append(error)
        if not fork.begun or fork.attempts >= _ATTEMPTS:
            _forks.remove(fork)
    if errors:
        raise errors[0]


def _after_fork_in_child() -> None:
    global _process
    if _process != os.getpid():
        fork = next(iter(_own_forks()), None)
        clean = [] if fork is None else fork.clean
        # The unclean ones come first: another resource on the same file must find that it cannot be used.
        _inherited[:] = sorted(((each, each in clean) for each in _resources()), key=lambda each: each[1])
        _process = os.getpid()
    _forks.clear()
    errors = []
    for each in _inherited.copy():
        try:
            each[0].after_fork_in_child(each[1])
            _inherited.remove(each)
        except BaseException as error:  # noqa: BLE001 - the hook raises it when the others are usable
            errors.append(error)
    if errors:
        raise errors[0]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)
    for _ in range(_ATTEMPTS):
        os.register_at_fork(after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)

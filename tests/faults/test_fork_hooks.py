"""What a fork asks of the resources that are registered: the order, the time, and what an exception leaves undone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from faults.interruption import Interruption, interrupters
from ledger import forking

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")


class Resource:
    """A resource that notes what it is told."""

    def __init__(self, name: str, notes: list[Any], before: Callable[[float], bool] = lambda _: True) -> None:
        self.name, self.notes, self.before = name, notes, before
        self.blocked = False

    def before_fork(self, deadline: float) -> bool:
        self.blocked = True
        self.notes.append(f"before {self.name}")
        return self.before(deadline)

    def after_fork_in_parent(self) -> None:
        self.blocked = False
        self.notes.append(f"parent {self.name}")

    def after_fork_in_child(self, clean: bool) -> None:
        self.blocked = False
        self.notes.append(f"child {self.name} {clean}")


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only this test's resources; the ledgers of other tests are not asked."""
    monkeypatch.setattr(forking, "_registered", {})
    yield
    assert not forking._forks


def fork(notes: list[Any]) -> list[str]:
    """Fork as CPython does, and return what the child noted."""
    reader, writer = os.pipe()
    notes.clear()
    pid = os.fork()
    if pid == 0:
        os.write(writer, "\n".join(note for note in notes if note.startswith("child")).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read().decode().split("\n")
    os.waitpid(pid, 0)
    return said


def refuse(_: float) -> bool:
    return False


def fail(_: float) -> bool:
    raise ZeroDivisionError


def test_stages_are_prepared_in_order_and_released_in_reverse(hooks):
    notes: list[Any] = []
    stages = {"store": forking.Stage.STORES, "relay": forking.Stage.USERS, "warehouse": forking.Stage.WAREHOUSES}
    resources = [Resource(name, notes) for name in stages]
    for resource in resources:
        forking.register(resource, stages[resource.name])
    assert set(fork(notes)) == {"child store True", "child relay True", "child warehouse True"}
    order = ["relay", "warehouse", "store"]
    assert notes == [f"before {name}" for name in order] + [f"parent {name}" for name in reversed(order)]
    forking.unregister(resources[0])
    del resources[1]
    assert fork(notes) == ["child warehouse True"]


def test_a_child_learns_which_resources_are_not_clean_and_learns_it_first(hooks, monkeypatch):
    printed: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda it: printed.append(it.exc_type))
    notes: list[Any] = []
    ways = {"good": lambda _: True, "busy": refuse, "broken": fail, "fine": lambda _: True}
    resources = [Resource(name, notes, before) for name, before in ways.items()]
    for resource in resources:
        forking.register(resource)
    assert fork(notes) == ["child busy False", "child broken False", "child good True", "child fine True"]
    assert printed == [ZeroDivisionError]
    assert not any(resource.blocked for resource in resources)


def test_no_resource_takes_the_time_of_all_and_the_last_has_what_is_left(hooks, monkeypatch):
    monkeypatch.setattr(forking, "BUDGET", 1000.0)
    limits: list[float] = []

    def note(deadline: float) -> bool:
        limits.append(deadline - time.monotonic())
        return True

    resources = [Resource(f"{n}", [], note) for n in range(3)]
    for resource in resources:
        forking.register(resource)
    fork([])
    assert [round(limit, -1) for limit in limits] == [500, 500, 1000]


def test_threads_that_fork_at_once_do_so_one_after_the_other(hooks):
    inside: list[int] = []
    together: list[int] = []

    def alone(_: float) -> bool:
        inside.append(1)
        together.append(len(inside))
        time.sleep(0.001)
        inside.pop()
        return True

    resource = Resource("it", [], alone)
    forking.register(resource)
    said: list[list[str]] = []
    threads = [threading.Thread(target=lambda: said.append(fork([]))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert together == [1] * 6
    assert not resource.blocked


def test_a_fork_that_does_not_get_its_turn_has_nothing_clean(hooks, monkeypatch):
    notes: list[Any] = []
    resource = Resource("it", notes)
    forking.register(resource)
    monkeypatch.setattr(forking, "BUDGET", 0.01)
    other = forking._Fork(0)
    forking._forks.append(other)
    assert not forking.wait_for_forks(time.monotonic())
    assert fork(notes) == ["child it False"]
    assert notes == []
    forking._forks.remove(other)
    assert forking.wait_for_forks(time.monotonic())
    assert fork(notes) == ["child it True"]


def test_a_fork_within_the_hooks_of_a_fork_has_clean_what_was_prepared_so_far(hooks):
    """The hooks are called, without a fork: CPython's own hooks, such as that of thread pools, allow no fork here."""
    notes: list[Any] = []
    clean: list[list[Any]] = []

    def fork_again(_: float) -> bool:
        forking._before_fork()
        clean.append([resource.name for resource in forking._forks[-1].clean])
        for _attempt in range(forking._ATTEMPTS):
            forking._after_fork_in_parent()
        return True

    for resource in (resources := [Resource("first", notes), Resource("second", notes, fork_again)]):
        forking.register(resource)
    assert sorted(fork(notes)) == ["child first True", "child second True"]
    assert clean == [["first"]]
    assert notes == ["before first", "before second", "parent second", "parent first"]
    assert not any(resource.blocked for resource in resources)


def test_hooks_interrupted_anywhere_leave_no_fork_in_progress_and_nothing_blocked(hooks):
    def hooks_of_a_fork() -> None:
        """Call the hooks as CPython does, which prints what they raise and goes on."""
        for hook in (forking._before_fork, *[forking._after_fork_in_parent] * forking._ATTEMPTS):
            try:
                hook()
            except Interruption:
                continue

    for interrupter in interrupters(forking):
        resources = [Resource(name, []) for name in ("one", "two")]
        for resource in resources:
            forking.register(resource)
        interrupter.run(hooks_of_a_fork)
        assert not forking._forks
        assert not any(resource.blocked for resource in resources)
        for resource in resources:
            forking.unregister(resource)

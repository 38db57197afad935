"""Google's gRPC clients, whose channels are closed before each fork of the process.

If gRPC has threads at a fork, the child may abort or hang: its pollers belong to the parent, and the threads may have
held locks. With GRPC_ENABLE_FORK_SUPPORT the child may hang too, because gRPC's own hook locks each open channel.
Without an open channel gRPC ends its threads, and the child starts it anew. gRPC's hook before a fork stops the threads
that the closing of a channel needs, so the channels are closed before that hook.

Source: https://github.com/grpc/grpc/blob/master/src/python/grpcio/grpc/_cython/_cygrpc/fork_posix.pyx.pxi
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ledger import forking
from ledger.errors import StoreRejected
from ledger.holding import TimedLock, ending

#: Maximum seconds that a call waits for a fork to end, or for another thread to create a client.
_WAIT_SECONDS = 60.0
#: Share of a fork's time that calls in progress have to end by themselves.
_PATIENCE = 0.5
#: Maximum seconds to wait until gRPC has ended its threads, which takes some 20 ms after the last channel is closed.
_SHUTDOWN_SECONDS = 0.3
#: What the names of gRPC's own threads begin with (src/core/util/thd.h and its callers).
_GRPC_THREADS = ("event_engine", "grpc_", "lifeguard")


class _Call:
    """A block that uses a client."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()


class GrpcClients:
    """Clients by name. Each is created on first use, and closed before a fork; its next use creates another.

    A fork waits for calls in progress, but not for longer than half of its time. Calls that remain are cancelled, and
    fail with errors that are retried.
    """

    def __init__(self) -> None:
        self._inherited = False  # True in a child that was forked while a client was being created
        self._start()
        forking.register(self, forking.Stage.WAREHOUSES)

    def _start(self) -> None:
        self._opening = TimedLock("the connections to BigQuery")  # held while a client is created
        self._clients: dict[str, Any] = {}
        self._calls: set[_Call] = set()

    @contextmanager
    def use(self, name: str, create: Callable[[], Any]) -> Iterator[Any]:
        """Context manager that returns a client for the calls of its block.

        Args:
            name: Name of the client.
            create: Function that creates it, on its first use and on the first use after a fork.

        Raises:
            StoreUnavailable: Another thread has been creating a client for a minute.
            StoreRejected: A signal handler interrupted this thread while it created a client, or this process was
                forked at that moment.
        """
        if self._inherited:
            raise StoreRejected(
                "This process was forked while another thread connected to BigQuery, and cannot use the ledger. Fork "
                "before the first use of the ledger, or start the process with the method spawn."
            )
        call, calls = _Call(), self._calls

        def client() -> Any:
            if name not in self._clients:
                self._clients[name] = create()
                _precede_hooks_of_grpc()
            calls.add(call)
            return self._clients[name]

        with ending(lambda: calls.discard(call)):
            yield self._opening.call(_WAIT_SECONDS, client)

    def close(self) -> None:
        """Close all clients, whose calls are cancelled."""
        for name in list(self._clients):
            client = self._clients.pop(name, None)  # None: another thread closes it
            if client is not None:
                client.transport.close()

    def before_fork(self, deadline: float) -> bool:
        """Block new calls, wait for the present ones, and close all clients; see ``ledger.forking``."""
        started = time.monotonic()
        held = self._opening.hold_for_fork(deadline)
        self._wait_for_calls(started + _PATIENCE * (deadline - started))
        if self._clients:
            self.close()
            self._wait_for_calls(deadline)  # which notice that they were cancelled
            _wait_for_grpc(min(deadline, time.monotonic() + _SHUTDOWN_SECONDS))
        return held

    def after_fork_in_parent(self) -> None:
        """Allow new calls again."""
        self._opening.release_after_fork()

    def after_fork_in_child(self, clean: bool) -> None:
        """Start without clients. If the parent was creating one, refuse all calls."""
        if not clean:
            self._inherited = True
            forking.keep(self._clients)
        self._start()

    def _wait_for_calls(self, deadline: float) -> None:
        """Wait until no other thread is in a call, or until the deadline."""
        own = threading.get_ident()
        while any(call.thread != own for call in self._calls.copy()) and time.monotonic() < deadline:
            time.sleep(0.001)


def _wait_for_grpc(deadline: float) -> None:
    """Wait until gRPC has ended its threads, whose locks a child would inherit.

    If other code in the process has channels too, gRPC goes on until the deadline. Where threads cannot be listed, wait
    for as long as gRPC usually takes.
    """
    looks = 0  # how often no thread was found: a new thread has its name after a moment
    while looks < 2 and time.monotonic() < deadline:
        time.sleep(0.002)
        try:
            tasks = list(Path("/proc/self/task").iterdir())
        except FileNotFoundError:  # not Linux
            time.sleep(0.1)
            return
        looks = 0 if any(_name_of(task).startswith(_GRPC_THREADS) for task in tasks) else looks + 1


def _name_of(task: Path) -> str:
    """Return the name of a thread of this process; an empty string if the thread has ended."""
    try:
        return (task / "comm").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


@functools.cache
def _precede_hooks_of_grpc() -> None:
    """Have channels closed before gRPC's hook runs, which the first channel of the process has registered."""
    forking.precede_other_hooks()

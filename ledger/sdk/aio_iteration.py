"""AsyncIteration: the ledger's iterators for programs with an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
import types
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, Self, TypeVar

T = TypeVar("T")


class AsyncIteration(AsyncIterator[Any]):
    """Asynchronous iterator that wraps one of the ledger's iterators and runs its steps in a thread of their own.

    The call that returns the iteration starts to open it in that thread. ``await`` the iteration, or use
    ``async with``, to wait until it is open and to see errors. Without ``after`` or ``last``, a subscription delivers
    the events that are appended from then on. If a task is cancelled while it waits for an item, the next step returns
    that item, so no item is lost. Tasks may share an iteration: each item goes to one of them.

    Attributes:
        position: The ``position`` of a ``Subscription`` after the last item returned; None for other iterators.
    """

    def __init__(self, opening: Callable[[], Iterator[Any]]) -> None:
        self.position: int | None = None
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._next: Future[Future[Any]] | None = None
        self._end = object()
        self._closed = False
        self._lock = threading.Lock()  # guards the current step: tasks may run in several loops
        context = contextvars.copy_context()
        # A daemon, so that a subscription without a timeout does not keep the program from exiting.
        thread = threading.Thread(target=_work, args=(self._work,), name="ledger-aio-iteration", daemon=True)
        thread.start()
        weakref.finalize(self, self._work.put, None)
        self._iterator: Future[Iterator[Any]] = self._submit(lambda: context.run(opening))
        self._context = context

    async def _opened(self) -> Self:
        iterator = await asyncio.shield(asyncio.wrap_future(self._iterator))
        if self.position is None:
            self.position = getattr(iterator, "position", None)
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self._opened().__await__()

    async def __anext__(self) -> Any:
        await self._opened()
        while True:
            step = self._step()
            # A task cancelled here leaves the step's item to the next caller, even if the step is done by then.
            outcome = await asyncio.shield(asyncio.wrap_future(step))
            if self._claim(step):
                item, self.position = outcome.result()
                if item is self._end:
                    raise StopAsyncIteration
                return item

    def _step(self) -> Future[Future[Any]]:
        """Return the future of the current step; start a step if there is none.

        The result of that future is the outcome of the step, which is itself a future that is done.
        """
        with self._lock:
            if self._next is None:
                if self._closed:
                    raise StopAsyncIteration
                iterator, end, run = self._iterator.result(), self._end, self._context.run

                def advance() -> tuple[Any, int | None]:
                    return run(next, iterator, end), getattr(iterator, "position", None)

                self._next = self._submit(partial(_outcome, advance))
            return self._next

    def _claim(self, step: Future[Future[Any]]) -> bool:
        """Return True if the caller is the first to claim a step's item."""
        with self._lock:
            if self._next is not step:
                return False
            self._next = None
            return True

    async def aclose(self) -> None:
        """End the iteration, including a step that waits; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        closing = self._submit(self._close)
        # A generator can be closed only by the thread that runs it; a Subscription that waits, only by another.
        if self._iterator.done() and self._iterator.exception() is None:
            iterator = self._iterator.result()
            if not isinstance(iterator, types.GeneratorType):
                getattr(iterator, "close", lambda: None)()
        self._work.put(None)
        await asyncio.shield(asyncio.wrap_future(closing))

    async def close(self) -> None:
        """Call ``aclose``."""
        await self.aclose()

    async def __aenter__(self) -> Self:
        return await self._opened()

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()

    def _close(self) -> None:
        if self._iterator.exception() is None:
            getattr(self._iterator.result(), "close", lambda: None)()

    def _submit(self, call: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # so that cancelling a waiting task cannot cancel the future
        self._work.put(partial(_fulfil, future, call))
        return future


def _work(jobs: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    """Run jobs until None. The thread does not refer to the iteration, so that an unused iteration can be collected."""
    while (job := jobs.get()) is not None:
        job()
        del job


def _fulfil(future: Future[T], call: Callable[[], T]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - raised to the task that awaits the future
        future.set_exception(error)
    else:
        future.set_result(result)


def _outcome(call: Callable[[], T]) -> Future[T]:
    """Make a call and return its result or exception as a future that is done.

    The exception is raised only in the task that claims the step.
    """
    future: Future[T] = Future()
    _fulfil(future, call)
    return future

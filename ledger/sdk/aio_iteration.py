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
from typing import Any, Self, TypeAlias, TypeVar, cast

from ledger import forking
from ledger.errors import StoreRejected

T = TypeVar("T")
R = TypeVar("R")
#: A finished reading of an item: the item, or the mark of the end, with the position.
_Outcome: TypeAlias = "Future[tuple[T | object, int | None]]"


class AsyncIteration(forking.Renewed, AsyncIterator[T]):
    """Asynchronous iterator that runs an iterator of the ledger, such as a ``Subscription``, in a thread of its own.

    A method that returns an iteration does not wait until the thread has opened the iterator. ``await`` the iteration,
    or use ``async with``, to wait for that and to see errors. A subscription without ``after`` and ``last`` delivers
    the events that are appended after it was opened.

    If a task is cancelled while it waits for an item, the item goes to the next task that asks for one, so no item is
    lost. Several tasks may share an iteration. Each item then goes to one of the tasks.

    A forked child cannot continue an iteration that its parent opened; each step raises StoreRejected.

    Attributes:
        position: The ``position`` of a ``Subscription`` after the last item returned; None for other iterators.
    """

    def __init__(self, opening: Callable[[], Iterator[T]]) -> None:
        self.position: int | None = None
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._next: Future[_Outcome[T]] | None = None
        self._end = object()
        self._closed = False
        self._lock = threading.Lock()  # guards the current step: tasks may run in several loops
        context = contextvars.copy_context()
        # A daemon, so that a subscription without a timeout does not keep the program from exiting.
        thread = threading.Thread(target=_work, args=(self._work,), name="ledger-aio-iteration", daemon=True)
        weakref.finalize(self, self._work.put, None)  # first: nothing else would end the thread
        thread.start()
        self._iterator: Future[Iterator[T]] = self._submit(lambda: context.run(opening))
        self._context = context
        forking.register(self, forking.Stage.USERS)

    def renew(self) -> None:
        """End the iteration: its thread does not exist in the child, and may have been in a step."""
        self._lock = threading.Lock()
        self._closed, self._next = True, None
        self._iterator = Future()
        self._iterator.set_exception(
            StoreRejected(
                "This iteration was opened before this process was forked, and its thread exists only in the parent. "
                "Open another in this process; a subscription continues with after=position."
            )
        )

    async def _opened(self) -> Self:
        iterator = await asyncio.shield(asyncio.wrap_future(self._iterator))
        if self.position is None:
            self.position = getattr(iterator, "position", None)
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self._opened().__await__()

    async def __anext__(self) -> T:
        await self._opened()
        while True:
            step = self._step()
            # A task cancelled here leaves the step's item to the next caller, even if the step is done by then.
            outcome = await asyncio.shield(asyncio.wrap_future(step))
            if self._claim(step):
                item, self.position = outcome.result()
                if item is self._end:
                    raise StopAsyncIteration
                return cast("T", item)

    def _step(self) -> Future[_Outcome[T]]:
        """Return a future for the reading of the next item. If no reading is under way, start one.

        The result of the future is what ``_outcome`` returns: a second future, which holds the item or the exception.
        """
        with self._lock:
            if self._next is None:
                if self._closed:
                    raise StopAsyncIteration
                iterator, end, run = self._iterator.result(), self._end, self._context.run

                def advance() -> tuple[T | object, int | None]:
                    return run(next, iterator, end), getattr(iterator, "position", None)

                self._next = self._submit(partial(_outcome, advance))
            return self._next

    def _claim(self, step: Future[_Outcome[T]]) -> bool:
        """Return True if the caller is the first with this future of ``_step``. That caller gets the item."""
        with self._lock:
            if self._next is not step:
                return False
            self._next = None
            return True

    async def aclose(self) -> None:
        """End the iteration, even while a task waits for an item. A second call does nothing."""
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

    def _submit(self, call: Callable[[], R]) -> Future[R]:
        future: Future[R] = Future()
        future.set_running_or_notify_cancel()  # so that cancelling a waiting task cannot cancel the future
        self._work.put(partial(_fulfil, future, call))
        return future


def _work(jobs: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    """Run the jobs of a queue until one is None. An iteration runs this function in its thread.

    The function does not refer to the iteration, so that an unused iteration can be garbage-collected.
    """
    while (job := jobs.get()) is not None:
        job()
        del job


def _fulfil(future: Future[R], call: Callable[[], R]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - raised to the task that awaits the future
        future.set_exception(error)
    else:
        future.set_result(result)


def _outcome(call: Callable[[], R]) -> Future[R]:
    """Run ``call`` and return a finished future that holds its result or exception.

    Several tasks may wait for this call. Only the one that gets the item reads the future, and so gets the exception.
    """
    future: Future[R] = Future()
    _fulfil(future, call)
    return future

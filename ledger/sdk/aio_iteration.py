"""Iterators of the ledger for programs with an event loop: each step is taken in a thread of the iteration's own."""

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
    """An iterator of the ledger's, each step of which is taken in a thread of its own.

    It is opened by the call that gives it, in that thread; ``await`` it, or use ``async with``, to know that it is
    open (from where on a subscription follows) and that nothing was refused. A step that was cancelled is not lost: the
    next one hands out what it brought. Tasks may share an iteration: each step's result is handed to one of them.

    Attributes:
        position: That of the iterator after what was handed out last, where it has one; see ``Subscription``.
    """

    def __init__(self, opening: Callable[[], Iterator[Any]]) -> None:
        self.position: int | None = None
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._next: Future[Future[Any]] | None = None
        self._end = object()
        self._closed = False
        self._lock = threading.Lock()  # of the step under way: tasks may be in several loops
        context = contextvars.copy_context()
        # A daemon: a subscription that waits for good must not keep the program from ending.
        thread = threading.Thread(target=_work, args=(self._work,), name="ledger-aio-iteration", daemon=True)
        thread.start()
        weakref.finalize(self, self._work.put, None)
        self._iterator: Future[Iterator[Any]] = self._begin(lambda: context.run(opening))
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
            # Who is cancelled here leaves what the step brings to the next one, even where the step is done by then.
            outcome = await asyncio.shield(asyncio.wrap_future(step))
            if self._take(step):
                item, self.position = outcome.result()
                if item is self._end:
                    raise StopAsyncIteration
                return item

    def _step(self) -> Future[Future[Any]]:
        """The step under way, begun where none is; what it gives is its outcome, for whoever takes it."""
        with self._lock:
            if self._next is None:
                if self._closed:
                    raise StopAsyncIteration
                iterator, end, run = self._iterator.result(), self._end, self._context.run

                def take() -> tuple[Any, int | None]:
                    return run(next, iterator, end), getattr(iterator, "position", None)

                self._next = self._begin(partial(_tried, take))
            return self._next

    def _take(self, step: Future[Future[Any]]) -> bool:
        """Whether what a step brought is the caller's: it is that of the first who asks."""
        with self._lock:
            if self._next is not step:
                return False
            self._next = None
            return True

    async def aclose(self) -> None:
        """End the iteration, also a step that waits; calling it again does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        closing = self._begin(self._close)
        # A generator can be closed by its own thread only; what waits in a step must be told from outside.
        if self._iterator.done() and self._iterator.exception() is None:
            iterator = self._iterator.result()
            if not isinstance(iterator, types.GeneratorType):
                getattr(iterator, "close", lambda: None)()
        self._work.put(None)
        await asyncio.shield(asyncio.wrap_future(closing))

    async def close(self) -> None:
        """The same as ``aclose``."""
        await self.aclose()

    async def __aenter__(self) -> Self:
        return await self._opened()

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()

    def _close(self) -> None:
        if self._iterator.exception() is None:
            getattr(self._iterator.result(), "close", lambda: None)()

    def _begin(self, call: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # from here on no waiting task that is cancelled can take it back
        self._work.put(partial(_fulfil, future, call))
        return future


def _work(jobs: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    """What the thread of an iteration does. It knows the iteration's jobs only, so that one left alone can go."""
    while (job := jobs.get()) is not None:
        job()
        del job


def _fulfil(future: Future[T], call: Callable[[], T]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
        future.set_exception(error)
    else:
        future.set_result(result)


def _tried(call: Callable[[], T]) -> Future[T]:
    """What became of a call, as a future that is done: whoever waits for it need not be who gets it."""
    future: Future[T] = Future()
    _fulfil(future, call)
    return future

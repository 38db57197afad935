"""AsyncSessionLedger: the SDK for programs with an event loop. Every method is ``SessionLedger``'s, run in a thread.

Nothing is implemented twice: the methods are made from those of ``SessionLedger`` when this module is loaded, so one
that is added there is here as well.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import types
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache, cached_property, wraps
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, get_origin, get_type_hints

from ledger.errors import StoreRejected
from ledger.sdk.aio_iteration import AsyncIteration
from ledger.sdk.ledger import SessionLedger
from ledger.sdk.opening import DRAIN_SECONDS, check_drain

T = TypeVar("T")
#: Calls of one ledger under way at once. More wait; it is plenty, since concurrent appends share a commit.
THREADS = 32
#: What a property may hold that needs no thread: it is handed out as it is.
_PLAIN = (str, bytes, int, float, type(None))


class _Threads:
    """Threads of a ledger's own: one whose disk hangs must not take the threads of the rest of the program."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._under_way: set[Future[Any]] = set()

    def submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Begin a call in a thread, with the context variables of here."""
        run = contextvars.copy_context().run
        with self._lock:
            if self._pool is None and not self._closed:
                self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="ledger-aio")
            if self._pool is None:
                # Once closed, what is still called is refused by the ledger itself, in a thread of the loop's.
                return asyncio.get_running_loop().run_in_executor(None, run, call)
            future = self._pool.submit(run, call)
            self._under_way.add(future)
        future.add_done_callback(self._done)
        return asyncio.wrap_future(future)

    def _done(self, future: Future[Any]) -> None:
        with self._lock:
            self._under_way.discard(future)

    def under_way(self) -> set[Future[Any]]:
        """The calls that were begun and are not done."""
        with self._lock:
            return set(self._under_way)

    def close(self) -> None:
        """Let the threads go when they are done."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)


class _Delegate:
    """An object whose methods run in threads.

    Args:
        target: Gives what they are called on; called in a thread.
        threads: Where.
    """

    def __init__(self, target: _Once[Any], threads: _Threads) -> None:
        self._target = target
        self._threads = threads

    if TYPE_CHECKING:  # made from the class that it stands for, see _delegating

        def __getattr__(self, name: str) -> Any: ...

    def _submit(self, name: str, /, *args: Any, **named: Any) -> asyncio.Future[Any]:
        return self._threads.submit(lambda: getattr(self._target(), name)(*args, **named))

    def _view(self, name: str, /, *args: Any, **named: Any) -> Any:
        """What a method gives that returns another of its kind."""
        made = _Once(lambda: getattr(self._target(), name)(*args, **named))
        if self._target.ready:
            made()
        return type(self)._over(made, self._threads)

    @classmethod
    def _over(cls, target: _Once[Any], threads: _Threads) -> Self:
        view = cls.__new__(cls)
        _Delegate.__init__(view, target, threads)
        return view

    def _read(self, name: str) -> Any:
        """The value of a property: as it is where it is plain, else with methods that are awaited."""
        if not self._target.ready:
            raise StoreRejected(f"{name} is not there yet: the ledger opens when it is awaited, entered or first used.")
        value = getattr(self._target(), name)
        kind: Any = type(value)
        return value if isinstance(value, _PLAIN) else _class_over(kind)(_ready(value), self._threads)


class _Once(Generic[T]):
    """What ``make`` gives, called once however many threads need it first; what it raises, each of them gets."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._lock = threading.Lock()
        self._make = make
        self._made: list[T] = []
        self._given_up = False

    @property
    def ready(self) -> bool:
        """Whether a call takes no time any more."""
        return bool(self._made)

    def __call__(self) -> T:
        with self._lock:
            if not self._made:
                if self._given_up:
                    raise StoreRejected("This ledger is closed; open another.")
                self._made.append(self._make())
            return self._made[0]

    def give_up(self) -> T | None:
        """What was made; where nothing was, nothing will be."""
        with self._lock:
            self._given_up = True
            return self._made[0] if self._made else None


def _ready(value: T) -> _Once[T]:
    once = _Once(lambda: value)
    once()
    return once


def _result_of(method: Callable[..., Any]) -> Any:
    """The class that a method says it returns; None where that cannot be told."""
    said = types.SimpleNamespace(__annotations__={"result": getattr(method, "__annotations__", {}).get("return")})
    try:
        hint = get_type_hints(said, globalns=getattr(method, "__globals__", {}))["result"]
    except NameError:  # a name that only type checkers see
        return None
    return get_origin(hint) or hint


def _method(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """A method in its place: with its name, its words and its arguments."""
    result = _result_of(original)
    if result is Self:

        def viewing(self: _Delegate, *args: Any, **named: Any) -> Any:
            return self._view(name, *args, **named)

        return wraps(original)(viewing)
    if isinstance(result, type) and issubclass(result, Iterator):

        def iterating(self: _Delegate, *args: Any, **named: Any) -> Any:
            return AsyncIteration(lambda: getattr(self._target(), name)(*args, **named))

        return wraps(original)(iterating)

    async def awaited(self: _Delegate, *args: Any, **named: Any) -> Any:
        return await self._submit(name, *args, **named)

    return wraps(original)(awaited)


def _signed_as(name: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Show the arguments that ``SessionLedger`` has under a name, as those of a method written here."""
    original = inspect.getattr_static(SessionLedger, name)

    def decorate(method: Callable[..., T]) -> Callable[..., T]:
        method.__signature__ = inspect.signature(getattr(original, "__func__", original))  # type: ignore[attr-defined]
        return method

    return decorate


def _property(name: str, original: Any) -> property:
    return property(lambda self: self._read(name), doc=original.__doc__)


def _delegating(kind: type[Any]) -> Callable[[type[T]], type[T]]:
    """A class decorator: each public name of ``kind`` that the class has not itself is passed on."""

    def decorate(made: type[T]) -> type[T]:
        for name in dir(kind):
            if name.startswith("_") or hasattr(made, name):
                continue
            found = inspect.getattr_static(kind, name)
            if isinstance(found, staticmethod | classmethod):
                found = found.__func__
            if callable(found):
                setattr(made, name, _method(name, found))
                getattr(made, name).__qualname__ = f"{made.__qualname__}.{name}"
            else:
                setattr(made, name, _property(name, found if isinstance(found, property | cached_property) else kind))
        return made

    return decorate


@cache
def _class_over(kind: Any) -> type[_Delegate]:
    """A class whose methods are those of another, awaited."""
    return _delegating(kind)(type(f"Async{kind.__name__}", (_Delegate,), {"__doc__": kind.__doc__}))


@_delegating(SessionLedger)
class AsyncSessionLedger(_Delegate):
    """``SessionLedger`` for an event loop: the same methods with the same arguments, awaited.

    Each call runs in a thread, so that the loop goes on while an append waits for the disk; concurrent appends share a
    commit. ``replay`` and ``subscribe`` give an ``AsyncIteration``, for ``async for``; ``for_user`` gives a view at
    once, without ``await``, whose refusal may come with its first use; ``warehouse`` and ``store`` have methods that
    are awaited too.

    A task that is cancelled while it waits for an append stops waiting, and the append goes on: it may be recorded or
    not. Give it an ``event_id`` and append again, and it is recorded once.

    ::

        async with AsyncSessionLedger("sqlite:///ledger.db") as ledger:
            session_id = await ledger.create_session("ada", "How many orders?")
            async for event, session in ledger.replay(session_id):
                ...

    The file is opened in a thread, by the first use, ``async with`` or ``await AsyncSessionLedger(url)``; what cannot
    be opened is refused then. It may be used from several loops, one after the other or each in a thread of its own.
    """

    @_signed_as("__init__")
    def __init__(self, url: str | None = None, **settings: Any) -> None:
        self._owner = True
        super().__init__(_Once(lambda: SessionLedger.open(url, **settings)), _Threads())

    @classmethod
    def _over(cls, target: _Once[Any], threads: _Threads) -> Self:
        view = super()._over(target, threads)
        view._owner = False
        return view

    @classmethod
    @_signed_as("open")
    def open(cls, url: str | None = None, **settings: Any) -> Self:
        """Open a ledger; the same as calling the class. ``await`` it to know that it is open."""
        return cls(url, **settings)

    @property
    def store(self) -> Any:
        """The store behind, with methods that are awaited."""
        return self._read("store")

    @property
    def url(self) -> str:
        """Where the ledger is."""
        return str(self._read("url"))

    async def close(self, *, drain: float = DRAIN_SECONDS) -> int:
        """Let the calls finish that were begun before, and close, also where the task is cancelled. A view ends.

        Raises:
            InvalidInput: ``drain`` is no time; the ledger stays open.
        """
        check_drain(drain)
        before = self._threads.under_way() if self._owner else set()

        def closing() -> int:
            wait(before)
            ledger = self._target.give_up()
            return 0 if ledger is None else ledger.close(drain=drain)

        try:
            return await asyncio.shield(self._threads.submit(closing))
        finally:
            if self._owner:
                self._threads.close()

    async def _opened(self) -> Self:
        await self._threads.submit(self._target)
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self._opened().__await__()

    async def __aenter__(self) -> Self:
        return await self._opened()

    async def __aexit__(self, *raised: object) -> None:
        await self.close()


def asynchronous(ledger: SessionLedger) -> AsyncSessionLedger:
    """An open ledger for an event loop. Both are the same one: closing either closes it."""
    made = AsyncSessionLedger._over(_ready(ledger), _Threads())
    made._owner = True
    return made

"""AsyncSessionLedger: the SDK for programs with an event loop.

Each method runs the ``SessionLedger`` method of the same name in a thread. The methods other than ``open`` and
``close`` are generated from those of ``SessionLedger`` when this module is imported. Type checkers read their
signatures in ``aio_methods.pyi``, which ``tools/aio_methods.py`` generates.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import threading
import types
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache, cached_property, wraps
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, get_origin, get_type_hints

from ledger import forking
from ledger.errors import StoreRejected
from ledger.sdk.aio_iteration import AsyncIteration
from ledger.sdk.ledger import SessionLedger
from ledger.sdk.opening import DRAIN_SECONDS, check_drain, uncopyable

if TYPE_CHECKING:
    from ledger.sdk.aio_methods import AsyncEventStore, LedgerMethods
else:
    LedgerMethods = object

P = ParamSpec("P")
T = TypeVar("T")
#: Maximum number of concurrent calls of one ledger; further calls wait. Concurrent appends share a commit.
THREADS = 32
#: Types of property values that are returned unchanged. Values of other types are wrapped in a delegate.
_PLAIN = (str, bytes, int, float, type(None))


class _Threads(forking.Renewed):
    """A thread pool of one ledger, so that calls waiting for its disk do not fill the event loop's default pool.

    A forked child starts threads of its own.
    """

    def __init__(self) -> None:
        self._closed = False
        self.renew()
        forking.register(self, forking.Stage.USERS)

    def renew(self) -> None:
        """Start without threads, and without calls under way; the first call starts a thread."""
        self._pool: ThreadPoolExecutor | None = None
        self._under_way: set[Future[Any]] = set()
        self._lock = threading.Lock()

    def submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Start a call in a thread with the current context variables, and return its future."""
        run = contextvars.copy_context().run
        with self._lock:
            if self._pool is None and not self._closed:
                self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="ledger-aio")
            if self._pool is None:
                # Closed: the ledger itself refuses the call, in a thread of the loop's default pool.
                return asyncio.get_running_loop().run_in_executor(None, run, call)
            future = self._pool.submit(run, call)
            self._under_way.add(future)
        future.add_done_callback(self._done)
        return asyncio.wrap_future(future)

    def _done(self, future: Future[Any]) -> None:
        with self._lock:
            self._under_way.discard(future)

    def under_way(self) -> set[Future[Any]]:
        """Return the futures of the calls that have not finished."""
        with self._lock:
            return set(self._under_way)

    def close(self) -> None:
        """Shut the pool down without waiting; running calls finish."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)


class _Delegate:
    """Base class of proxies. A proxy has the methods of its target object, and runs them in threads.

    ``_delegating`` generates the methods.

    Args:
        target: Function that returns the target; it is called in a thread.
        threads: The thread pool.
    """

    def __init__(self, target: _Once[Any], threads: _Threads) -> None:
        self._target = target
        self._threads = threads

    def _submit(self, name: str, /, *args: Any, **named: Any) -> asyncio.Future[Any]:
        return self._threads.submit(lambda: getattr(self._target(), name)(*args, **named))

    def _view(self, name: str, /, *args: Any, **named: Any) -> Any:
        """Return a delegate for the result of a method that returns Self, even if the target is not open yet."""
        result = _Once(lambda: getattr(self._target(), name)(*args, **named))
        if self._target.ready:
            result()
        return type(self)._over(result, self._threads)

    def __reduce_ex__(self, protocol: object) -> Any:
        raise uncopyable(self)

    @classmethod
    def _over(cls, target: _Once[Any], threads: _Threads) -> Self:
        view = cls.__new__(cls)
        _Delegate.__init__(view, target, threads)
        return view

    def _read(self, name: str) -> Any:
        """Return the value of a property of the target. A value of a type not in ``_PLAIN`` is wrapped in a delegate.

        Raises:
            StoreRejected: The target is not open yet.
        """
        if not self._target.ready:
            raise StoreRejected(f"The ledger is not open yet, so it has no {name}: await the ledger or enter it first.")
        value = getattr(self._target(), name)
        kind: Any = type(value)
        return value if isinstance(value, _PLAIN) else _class_over(kind)(_ready(value), self._threads)


class _Once(forking.Renewed, Generic[T]):
    """Callable that makes a value in its first call and returns the same value in every call. Safe for threads.

    A child that is forked while another thread makes the value makes its own.

    Args:
        make: Function that makes the value. If it raises an exception, the call raises it, and the next call tries
            again.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: list[T] = []  # empty or one; the value may be None
        self._cancelled = False
        self.renew()
        forking.register(self, forking.Stage.USERS)

    def renew(self) -> None:
        """Replace the lock, which another thread may have held."""
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        """True if the value has been made, so that a call returns at once."""
        return bool(self._values)

    def __call__(self) -> T:
        with self._lock:
            if not self._values:
                if self._cancelled:
                    raise StoreRejected("This ledger is closed; open another.")
                self._values.append(self._make())
            return self._values[0]

    def cancel(self) -> T | None:
        """Return the value if it has been made. Otherwise, return None, and let all later calls raise StoreRejected."""
        with self._lock:
            self._cancelled = True
            return self._values[0] if self._values else None


def _ready(value: T) -> _Once[T]:
    once = _Once(lambda: value)
    once()
    return once


def _return_type(method: Callable[..., Any]) -> Any:
    """Return the class that a method's return annotation names, or None if the annotation cannot be resolved."""
    method = inspect.unwrap(method)
    annotated = types.SimpleNamespace(__annotations__={"result": getattr(method, "__annotations__", {}).get("return")})
    try:
        hint = get_type_hints(annotated, globalns=getattr(method, "__globals__", {}))["result"]
    except NameError:  # imported under TYPE_CHECKING
        return None
    return get_origin(hint) or hint


def _is_iterator(result: Any) -> bool:
    """Return True for the type of an iterator, which an ``AsyncIteration`` runs."""
    return isinstance(result, type) and issubclass(result, Iterator)


def _method(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a delegate's method that calls the target's method ``name``. ``original`` gives its signature."""
    result = _return_type(original)
    if result is Self:

        def viewing(self: _Delegate, *args: Any, **named: Any) -> Any:
            return self._view(name, *args, **named)

        return wraps(original)(viewing)
    if _is_iterator(result):

        def iterating(self: _Delegate, *args: Any, **named: Any) -> Any:
            return AsyncIteration(lambda: getattr(self._target(), name)(*args, **named))

        iterated = wraps(original)(iterating)
        iterated.__signature__ = inspect.signature(original).replace(return_annotation=AsyncIteration)  # type: ignore[attr-defined]
        return iterated

    async def awaited(self: _Delegate, *args: Any, **named: Any) -> Any:
        return await self._submit(name, *args, **named)

    return wraps(original)(awaited)


def _signed_as(
    original: Callable[Concatenate[Any, P], Any],
) -> Callable[[Callable[..., T]], Callable[Concatenate[Any, P], T]]:
    """Return a decorator that gives a method the signature of another."""

    def decorate(method: Callable[..., T]) -> Callable[Concatenate[Any, P], T]:
        method.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
        return method

    return decorate


def _property(name: str, original: Any) -> property:
    return property(lambda self: self._read(name), doc=original.__doc__)


def _delegating(kind: type[Any]) -> Callable[[type[T]], type[T]]:
    """Return a class decorator that adds a delegating member for each public member of ``kind``.

    Names that the decorated class has already are left as they are.
    """

    def decorate(delegate: type[T]) -> type[T]:
        for name in dir(kind):
            if name.startswith("_") or hasattr(delegate, name):
                continue
            member = inspect.getattr_static(kind, name)
            if isinstance(member, staticmethod | classmethod):
                member = member.__func__
            if callable(member):
                setattr(delegate, name, _method(name, member))
                getattr(delegate, name).__qualname__ = f"{delegate.__qualname__}.{name}"
            else:
                documented = member if isinstance(member, property | cached_property) else kind
                setattr(delegate, name, _property(name, documented))
        return delegate

    return decorate


@cache
def _class_over(kind: Any) -> type[_Delegate]:
    """Return a delegate class for targets of the class ``kind``."""
    return _delegating(kind)(type(f"Async{kind.__name__}", (_Delegate,), {"__doc__": kind.__doc__}))


@_delegating(SessionLedger)
class AsyncSessionLedger(_Delegate, LedgerMethods):
    """``SessionLedger`` for an event loop. It has the same methods with the same arguments. Calls are awaited.

    Each call runs in a thread, so that the loop is free while an append waits for the disk; concurrent appends share a
    commit. ``replay`` and ``subscribe`` return an ``AsyncIteration``, for ``async for``. ``for_user`` is not awaited;
    if the ledger is not open yet, the view's first call raises the errors of ``for_user``. The methods of ``warehouse``
    and ``store`` are awaited too.

    Cancelling a task that waits for an append does not stop the append, which may be recorded or not. Append again with
    the same ``event_id``, and the event is recorded once.

    ::

        async with AsyncSessionLedger("sqlite:///ledger.db") as ledger:
            session_id = await ledger.create_session("ada", "How many orders?")
            async for event, session in ledger.replay(session_id):
                ...

    Calling the class does not open the store. ``async with``, ``await AsyncSessionLedger(url)`` and the first method
    call do: whichever comes first opens the store in a thread, and raises the errors of opening. A ledger may be used
    from several loops, one after the other or each in its own thread.
    """

    @_signed_as(SessionLedger.__init__)
    def __init__(self, url: str | os.PathLike[str] | None = None, **settings: Any) -> None:
        self._owner = True
        self._given = url
        super().__init__(_Once(lambda: SessionLedger.open(url, **settings)), _Threads())

    @classmethod
    def _over(cls, target: _Once[Any], threads: _Threads) -> Self:
        view = super()._over(target, threads)
        view._owner = False
        view._given = None
        return view

    @classmethod
    @_signed_as(SessionLedger.__init__)
    def open(cls, url: str | os.PathLike[str] | None = None, **settings: Any) -> Self:
        """Return a ledger; the same as calling the class. ``await`` the ledger to open the store and see errors."""
        return cls(url, **settings)

    @property
    def store(self) -> AsyncEventStore:
        """The store; its methods are awaited."""
        store: AsyncEventStore = self._read("store")
        return store

    @property
    def url(self) -> str:
        """The ledger's URL."""
        return str(self._read("url"))

    async def close(self, *, drain: float = DRAIN_SECONDS) -> int:
        """Wait for all calls that have been started, then close the ledger.

        Even if the task is cancelled, the calls finish and the ledger is closed. Closing a view waits for no calls and
        closes only the view.

        Args:
            drain: As for ``SessionLedger.close``, in seconds.

        Returns:
            The number of rows that the background relay has not shipped.

        Raises:
            InvalidInput: ``drain`` is not a number of seconds; the ledger stays open.
        """
        check_drain(drain)
        before = self._threads.under_way() if self._owner else set()

        def closing() -> int:
            wait(before)
            ledger = self._target.cancel()
            return 0 if ledger is None else ledger.close(drain=drain)

        try:
            return await asyncio.shield(self._threads.submit(closing))
        finally:
            if self._owner:
                self._threads.close()

    def __repr__(self) -> str:
        name = type(self).__name__
        if not self._target.ready:
            given = "" if self._given is None else f" {str(self._given)!r}"
            return f"<{name}{given}, not open yet>"
        ledger = self._target()
        own = f"<{name} {ledger.url!r}>"
        return own if ledger.user_id is None else f"<view of {ledger.user_id!r} of {own}>"

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
    """Return an AsyncSessionLedger for an open ledger; closing either closes both."""
    delegate = AsyncSessionLedger._over(_ready(ledger), _Threads())
    delegate._owner = True
    return delegate

"""A store that holds every call until it is let go, for the asynchronous ledger."""

from __future__ import annotations

import threading
from typing import Any

#: Seconds after which a test that waits for another thread has failed.
RETRY_TIMEOUT = 20


class HeldStore:
    """A store whose appends wait until they are let go."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.go = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.fails: Exception | None = None

    def append(self, *args: Any, **named: Any) -> Any:
        self.waiting.release()
        assert self.go.wait(RETRY_TIMEOUT)
        if self.fails is not None:
            raise self.fails
        return self._store.append(*args, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

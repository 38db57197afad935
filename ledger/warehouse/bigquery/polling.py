"""Retries of the requests that wait for a statement, which change nothing and may be repeated on their own.

If one of them failed, Google's client would cancel the statement that it waits for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from google.api_core.retry import Retry

from ledger.warehouse.bigquery.errors import is_transient

#: Maximum time for which one request is repeated, in seconds.
POLLING_SECONDS = 60.0


class _Polling(Retry):
    """A retry, as Google's client takes it, that repeats GET requests and sends any other request once."""

    def __call__(self, call: Callable[..., Any], on_error: Any = None) -> Callable[..., Any]:
        if isinstance(call, partial) and call.keywords.get("method") == "GET":
            return super().__call__(call, on_error)
        return call


POLLING = _Polling(predicate=is_transient, initial=0.1, maximum=8.0, timeout=POLLING_SECONDS)

"""Trying again: only what may succeed later, jittered, bounded, and logged once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import tenacity

from ledger.errors import LedgerError

log = logging.getLogger("ledger.bigquery")
#: Tries of one call; the patience of a place usually ends it before.
ATTEMPTS = 30


def retrying(doing: str, retry_timeout: float, sleep: Callable[[float], None] = time.sleep) -> tenacity.Retrying:
    """Calls a function again while it raises an error whose ``retryable`` flag is set.

    Args:
        doing: What is tried, for the log.
        retry_timeout: Seconds after which no new try begins; the last error is raised as it is.
        sleep: Waits between tries.
    """

    def say_once(state: tenacity.RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            log.warning("%s is tried again for up to %g s: %s", doing, retry_timeout, state.outcome.exception())

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, LedgerError) and error.retryable),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=8),
        stop=tenacity.stop_before_delay(retry_timeout) | tenacity.stop_after_attempt(ATTEMPTS),
        before_sleep=say_once,
        sleep=sleep,
        reraise=True,
    )

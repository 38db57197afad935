"""Retries of what may succeed later: with jitter, bounded, logged once. ``reasons`` says which errors these are."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import tenacity

from ledger.errors import LedgerError

log = logging.getLogger("ledger.bigquery")
#: Attempts of one call; the dataset's ``retry_timeout`` usually ends them before.
MAX_ATTEMPTS = 30


def retrying(doing: str, retry_timeout: float, sleep: Callable[[float], None] = time.sleep) -> tenacity.Retrying:
    """A retrier that calls a function again while it raises an error whose ``retryable`` flag is set.

    Args:
        doing: What is tried, for the log.
        retry_timeout: Seconds after which no new attempt begins; the last error is raised as it is.
        sleep: Waits between attempts.
    """

    def log_first_failure(state: tenacity.RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            log.warning("%s is tried again for up to %g s: %s", doing, retry_timeout, state.outcome.exception())

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, LedgerError) and error.retryable),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=8),
        stop=tenacity.stop_before_delay(retry_timeout) | tenacity.stop_after_attempt(MAX_ATTEMPTS),
        before_sleep=log_first_failure,
        sleep=sleep,
        reraise=True,
    )

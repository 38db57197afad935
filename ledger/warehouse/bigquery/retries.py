"""Repeat calls that fail with a transient error; the module ``reasons`` lists these errors.

The waits between attempts are random. The time and the number of attempts are limited. Only the first failure of a
call is logged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import tenacity

from ledger.errors import LedgerError

log = logging.getLogger("ledger.bigquery")
#: Maximum attempts of one call; the dataset's ``retry_timeout`` usually ends them earlier.
MAX_ATTEMPTS = 30


def retrying(doing: str, retry_timeout: float, sleep: Callable[[float], None] = time.sleep) -> tenacity.Retrying:
    """Return a retrier that repeats a call while it raises an error whose ``retryable`` flag is set.

    Args:
        doing: Name of the call, for the log, such as ``The append``.
        retry_timeout: Seconds after which no further attempt starts. The error of the last attempt is then raised.
        sleep: Called with the seconds to wait before the next attempt.
    """

    def log_first_failure(state: tenacity.RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            log.warning("%s is retried for up to %g s: %s", doing, retry_timeout, state.outcome.exception())

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, LedgerError) and error.retryable),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=8),
        stop=tenacity.stop_before_delay(retry_timeout) | tenacity.stop_after_attempt(MAX_ATTEMPTS),
        before_sleep=log_first_failure,
        sleep=sleep,
        reraise=True,
    )

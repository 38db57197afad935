"""BigQuery's errors by meaning: transient, permanent, nothing executed. A further error is one more line in a set.

``errors`` reads the sets for every call, ``appends`` and ``streams`` for rows; ``retries`` repeats calls whose error is
retryable. Codes are gRPC's, reasons those of REST errors; patterns are searched for in the message.
"""

from __future__ import annotations

import concurrent.futures
import re

import grpc
import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth

_Code = grpc.StatusCode


def _words(*patterns: str, ignore_case: bool = False) -> re.Pattern[str]:
    """Return a pattern that matches any of these."""
    return re.compile("|".join(patterns), re.IGNORECASE if ignore_case else 0)


# Transient errors: the same call may succeed later.

#: Classes of transient errors (google.api_core.exceptions).
TRANSIENT_ERRORS = (
    api.TooManyRequests,  # 429; nothing was executed
    api.ServerError,  # 500 to 504, and gRPC's UNAVAILABLE, INTERNAL, UNKNOWN, DEADLINE_EXCEEDED, DATA_LOSS
    api.Aborted,  # gRPC's ABORTED
    api.Cancelled,  # gRPC's CANCELLED: by the server, or by a connection that ended
    api.RetryError,  # a deadline of Google's own retries
)
#: Transient HTTP statuses, including those for which Google's library has no class: 408, 520.
TRANSIENT_STATUSES = frozenset({408, *range(500, 600)})
#: Reasons of transient REST errors of any status (cloud.google.com/bigquery/docs/error-messages).
TRANSIENT_REASONS = frozenset(
    {
        "rateLimitExceeded",  # quotas are refilled
        "quotaExceeded",
        "jobRateLimitExceeded",
        "tableUnavailable",  # the service is moving the table
    }
)
#: Messages of statements that were refused or aborted by a conflict, of any status; nothing was executed.
TRANSIENT_WORDS = _words(
    r"aborted due to concurrent update",  # the later of two transactions that change one table
    r"Could not serialize access",  # the same for a single statement
    r"Failed to commit DuckLake",  # the same from the emulator
)
#: Classes of network errors.
NETWORK_ERRORS = (
    requests.exceptions.RequestException,
    auth.TransportError,
    auth.TimeoutError,
    concurrent.futures.TimeoutError,
    TimeoutError,
    ConnectionError,
)
#: Codes of streams and appends to a new table, for seconds to minutes (apache/beam PR 38132).
NEW_TABLE_UNKNOWN = frozenset({_Code.NOT_FOUND})

# Errors that prove that nothing was executed.

#: Classes of errors that refuse a request before it is executed; without a token nothing is sent.
NOTHING_DONE = (api.TooManyRequests, auth.GoogleAuthError)
#: Messages of connections that could not be established (gRPC core, urllib3, c-ares, getaddrinfo).
NEVER_SENT = _words(
    r"failed to connect to all addresses",
    r"Failed to establish a new connection",
    r"Connection refused",
    r"Failed to resolve",
    r"errors resolving",
    r"address lookup failed",
    r"Domain name not found",
    r"Name or service not known",
    r"DNS resolution failed",
    r"Temporary failure in name resolution",
)

# Permanent errors whose class or status is one of those above.

#: A statement would read more than ``maximum_bytes_billed``; BigQuery reports the job's failure as HTTP 500.
OVER_BUDGET = "bytesBilledLimitExceeded"
#: Reasons of permanent REST errors of any status.
PERMANENT_REASONS = frozenset({OVER_BUDGET})
#: Classes of permanent errors: 501 and gRPC's UNIMPLEMENTED are ServerErrors.
PERMANENT_ERRORS = (api.MethodNotImplemented,)
#: The message of a request above gRPC's size limit, which gRPC reports as RESOURCE_EXHAUSTED.
MESSAGE_TOO_LARGE = _words(r"message larger than max")
#: Permanent refusals of a token server; gRPC reports any failure to get a token as UNAVAILABLE.
TOKEN_REFUSED = _words(
    r"Getting metadata from plugin failed.*(invalid_|unauthorized_client|access_denied|reauth)", ignore_case=True
)
#: Classes of errors for requests that cannot be made: a malformed address, proxy or header in the settings.
REQUEST_MALFORMED = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    requests.exceptions.URLRequired,
    requests.exceptions.InvalidHeader,
    requests.exceptions.TooManyRedirects,
)
#: Classes of errors for request bodies that the client could not send: a bug in the ledger.
BODY_UNSENDABLE = (requests.exceptions.StreamConsumedError, requests.exceptions.UnrewindableBodyError)

# Codes of appended rows (google.rpc.Code in AppendRowsResponse.error). A code in no set is retried.

#: Permanent refusals of rows on a default stream.
PERMANENT_CODES = frozenset(
    {_Code.INVALID_ARGUMENT, _Code.PERMISSION_DENIED, _Code.FAILED_PRECONDITION, _Code.UNAUTHENTICATED}
)
#: The table does not exist.
TABLE_MISSING = frozenset({_Code.NOT_FOUND})
#: An earlier attempt appended the rows: no other process writes to a relay's stream at that offset.
ROWS_THERE = frozenset({_Code.ALREADY_EXISTS})
#: The stream is finalized or missing, or has another length than expected.
STREAM_ENDED = frozenset({_Code.OUT_OF_RANGE, _Code.NOT_FOUND, _Code.FAILED_PRECONDITION, _Code.INVALID_ARGUMENT})
#: The stream does not exist: the service removes an unused stream after some days.
STREAM_GONE = frozenset({_Code.NOT_FOUND, _Code.FAILED_PRECONDITION, _Code.INVALID_ARGUMENT})
#: The rows themselves are refused, unless the message matches ``NOT_ABOUT_ROWS``.
ROWS_INVALID = frozenset({_Code.INVALID_ARGUMENT})
#: Messages about a stream that another relay finalized, or about columns that streams do not know yet.
NOT_ABOUT_ROWS = _words(r"finali[sz]ed", r"schema", ignore_case=True)

_CODES = {code.value[0]: code for code in _Code}


def code_of_number(number: int) -> grpc.StatusCode | None:
    """Return the gRPC code with a number of google.rpc.Code; None if the number is unknown."""
    return _CODES.get(number)


def code_of(error: BaseException | None) -> grpc.StatusCode | None:
    """Return the gRPC code of an error of Google's client or of gRPC; None if it has none."""
    if isinstance(error, api.GoogleAPICallError):
        return error.grpc_status_code
    return error.code() if isinstance(error, grpc.Call) else None

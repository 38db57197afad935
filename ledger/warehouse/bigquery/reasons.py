"""Sets of BigQuery's errors: transient errors, permanent errors, and errors which prove that nothing was executed.

To handle a further error, add a line to a set. ``errors`` uses the sets for all calls; ``appends`` and ``streams`` use
them for the responses to appended rows. ``jobs`` repeats calls whose error is retryable. A code is a gRPC status
code, and a reason is the ``reason`` of a REST error. Patterns are searched for in the error's message.
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
    """Return one pattern that matches whatever one of the given patterns matches."""
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
#: Reasons of REST errors that are transient whatever their status (cloud.google.com/bigquery/docs/error-messages).
TRANSIENT_REASONS = frozenset(
    {
        "rateLimitExceeded",  # quotas are refilled
        "quotaExceeded",
        "jobRateLimitExceeded",
        "tableUnavailable",  # the service is moving the table
    }
)
#: Messages of statements that were refused or aborted because of a conflict. The errors are transient whatever their
#: status, and nothing was executed.
TRANSIENT_WORDS = _words(
    r"aborted due to concurrent update",  # the later of two transactions that change one table
    r"Could not serialize access",  # the same for a single statement
    r"Too many DML statements outstanding",  # more than 20 wait for one table; the reason may be invalidQuery
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
#: Codes with which BigQuery refuses to append to a table or stream that does not exist, to create a stream for such a
#: table, and, for seconds to minutes, those that were just made (apache/beam PR 38132).
MISSING = frozenset({_Code.NOT_FOUND})
#: Messages of appends whose rows have a column that the table does not have. For minutes after the column was added,
#: streams refuse it too (snowplow-bigquery-loader, issues 366 and 367).
COLUMN_UNKNOWN = _words(r"more fields than", r"extra fields", r"no such field", ignore_case=True)

# Errors that prove that nothing was executed.

#: Classes of errors after which nothing was executed. Either the request was refused before it was executed, or no
#: token was obtained, and without a token no request is sent.
NOTHING_DONE = (api.TooManyRequests, auth.GoogleAuthError)
#: Messages which say that no connection could be established (gRPC core, urllib3, c-ares, getaddrinfo).
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
#: The message of the ValueError of a call on a gRPC channel that was closed, as before a fork (grpc/_cython/_cygrpc).
CHANNEL_CLOSED = _words(r"Cannot invoke RPC")

# Permanent errors whose class or status is one of those above.

#: The reason that BigQuery gives if a statement would read more than ``maximum_bytes_billed``. The error is permanent,
#: although BigQuery reports it with HTTP status 500.
OVER_BUDGET = "bytesBilledLimitExceeded"
#: Reasons of REST errors that are permanent whatever their status.
PERMANENT_REASONS = frozenset({OVER_BUDGET})
#: Classes of permanent errors. MethodNotImplemented (HTTP 501, gRPC's UNIMPLEMENTED) is a subclass of ServerError,
#: whose errors are otherwise transient.
PERMANENT_ERRORS = (api.MethodNotImplemented,)
#: The message of a request above gRPC's size limit. gRPC reports RESOURCE_EXHAUSTED, which is otherwise transient.
MESSAGE_TOO_LARGE = _words(r"message larger than max")
#: Messages which say that a token server permanently refused a token. gRPC reports every failure to get a token as
#: UNAVAILABLE, so only the message shows that a retry is useless.
TOKEN_REFUSED = _words(
    r"Getting metadata from plugin failed.*(invalid_|unauthorized_client|access_denied|reauth)", ignore_case=True
)
#: Classes of errors for requests that cannot be made because an address, proxy or header in the settings is wrong.
REQUEST_MALFORMED = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    requests.exceptions.URLRequired,
    requests.exceptions.InvalidHeader,
    requests.exceptions.TooManyRedirects,
)
#: Classes of errors for request bodies that the client could not send, which is a bug in the ledger.
BODY_UNSENDABLE = (requests.exceptions.StreamConsumedError, requests.exceptions.UnrewindableBodyError)

# Codes of appended rows (google.rpc.Code in AppendRowsResponse.error). A code in no set is retried.

#: Codes with which a default stream refuses rows permanently.
PERMANENT_CODES = frozenset(
    {_Code.INVALID_ARGUMENT, _Code.PERMISSION_DENIED, _Code.FAILED_PRECONDITION, _Code.UNAUTHENTICATED}
)
#: Codes which mean that the stream already has rows at the offset of the request. Only the relay itself writes to its
#: stream, so an earlier attempt has appended these rows.
ROWS_THERE = frozenset({_Code.ALREADY_EXISTS})
#: Codes which mean that the stream is finalized, is missing, or has another length than expected.
STREAM_ENDED = frozenset({_Code.OUT_OF_RANGE, _Code.NOT_FOUND, _Code.FAILED_PRECONDITION, _Code.INVALID_ARGUMENT})
#: Codes which mean that the stream does not exist. BigQuery removes an unused stream after some days.
STREAM_GONE = frozenset({_Code.NOT_FOUND, _Code.FAILED_PRECONDITION, _Code.INVALID_ARGUMENT})
#: Codes which mean that the rows themselves are refused, unless the message matches ``NOT_ABOUT_ROWS``.
ROWS_INVALID = frozenset({_Code.INVALID_ARGUMENT})
#: Messages about a stream that another relay finalized, or about columns that streams do not know yet.
NOT_ABOUT_ROWS = _words(r"finali[sz]ed", r"schema", ignore_case=True)

_CODES = {code.value[0]: code for code in _Code}


def code_of_number(number: int) -> grpc.StatusCode | None:
    """Return the gRPC status code for a number of google.rpc.Code; None if the number is unknown."""
    return _CODES.get(number)


def code_of(error: BaseException | None) -> grpc.StatusCode | None:
    """Return the gRPC status code of an error of Google's client or of gRPC; None if the error has no code."""
    if isinstance(error, api.GoogleAPICallError):
        return error.grpc_status_code
    return error.code() if isinstance(error, grpc.Call) else None

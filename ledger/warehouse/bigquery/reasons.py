"""Which of BigQuery's errors pass, and what the others say: sets named by meaning, a new one is one line here.

``errors`` reads them for every call, ``appends`` and ``streams`` for rows, ``retries`` tries again what came out as
retryable. Codes are gRPC's, reasons are those of REST errors, words are looked for in the message.
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
    """A pattern that finds any of these."""
    return re.compile("|".join(patterns), re.IGNORECASE if ignore_case else 0)


# Errors that pass: the same call may succeed later.

#: Classes of errors that pass by themselves (google.api_core.exceptions).
TRANSIENT_ERRORS = (
    api.TooManyRequests,  # 429; nothing was done
    api.ServerError,  # 500 to 504, and gRPC's UNAVAILABLE, INTERNAL, UNKNOWN, DEADLINE_EXCEEDED, DATA_LOSS
    api.Aborted,  # gRPC's ABORTED
    api.Cancelled,  # gRPC's CANCELLED: by the server, or by a connection that ended
    api.RetryError,  # a deadline of Google's own retries
)
#: HTTP statuses that pass, including those that Google's library has no class for: 408, 520.
TRANSIENT_STATUSES = frozenset({408, *range(500, 600)})
#: Reasons of REST errors that pass, whatever their status (cloud.google.com/bigquery/docs/error-messages).
TRANSIENT_REASONS = frozenset(
    {
        "rateLimitExceeded",  # quotas are refilled
        "quotaExceeded",
        "jobRateLimitExceeded",
        "tableUnavailable",  # while the service moves a table
    }
)
#: Words of statements that were refused or aborted for now, whatever their status; nothing of them was done.
TRANSIENT_WORDS = _words(
    r"aborted due to concurrent update",  # the later of two transactions that change one table
    r"Could not serialize access",  # the same, of a single statement
    r"Failed to commit DuckLake",  # the same, in the emulator's words
)
#: Classes of errors of the network.
NETWORK_ERRORS = (
    requests.exceptions.RequestException,
    auth.TransportError,
    auth.TimeoutError,
    concurrent.futures.TimeoutError,
    TimeoutError,
    ConnectionError,
)
#: What a new table answers to streams and appends for seconds to minutes (apache/beam PR 38132).
NEW_TABLE_UNKNOWN = frozenset({_Code.NOT_FOUND})

# Errors after which it is known that nothing was done.

#: Classes of errors that refuse a request before it is carried out; without a token nothing is sent.
NOTHING_DONE = (api.TooManyRequests, auth.GoogleAuthError)
#: Words that say that there was no connection to send anything over (gRPC core, urllib3, c-ares, getaddrinfo).
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

# Errors that stay, though their class or status is one of those above.

#: A statement would read more than ``maximum_bytes_billed``; a job that ended by it is reported as an error 500.
OVER_BUDGET = "bytesBilledLimitExceeded"
#: Reasons of REST errors that stay, whatever their status.
PERMANENT_REASONS = frozenset({OVER_BUDGET})
#: Classes of errors that stay: 501 and gRPC's UNIMPLEMENTED are ServerErrors.
PERMANENT_ERRORS = (api.MethodNotImplemented,)
#: Words of a message that is over gRPC's limit, which it reports as RESOURCE_EXHAUSTED.
MESSAGE_TOO_LARGE = _words(r"message larger than max")
#: Words of a token's server that refuses for good; gRPC reports any failure to get a token as UNAVAILABLE.
TOKEN_REFUSED = _words(
    r"Getting metadata from plugin failed.*(invalid_|unauthorized_client|access_denied|reauth)", ignore_case=True
)
#: Requests that could not be made: an address, a proxy or a header in the settings is malformed.
REQUEST_MALFORMED = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    requests.exceptions.URLRequired,
    requests.exceptions.InvalidHeader,
    requests.exceptions.TooManyRedirects,
)
#: Requests whose body the client could not send: a mistake in the ledger.
BODY_UNSENDABLE = (requests.exceptions.StreamConsumedError, requests.exceptions.UnrewindableBodyError)

# Codes in answers to rows (google.rpc.Code in AppendRowsResponse.error). One that is in no set is retried.

#: Refusals of rows on a default stream that no repetition mends.
PERMANENT_CODES = frozenset(
    {_Code.INVALID_ARGUMENT, _Code.PERMISSION_DENIED, _Code.FAILED_PRECONDITION, _Code.UNAUTHENTICATED}
)
#: There is no table for the rows.
TABLE_MISSING = frozenset({_Code.NOT_FOUND})
#: The rows are there already, by an earlier try: nobody else writes to a relay's stream at that offset.
ROWS_THERE = frozenset({_Code.ALREADY_EXISTS})
#: A stream is finalized, or is no more, or ends elsewhere than was thought.
STREAM_ENDED = frozenset({_Code.OUT_OF_RANGE, _Code.NOT_FOUND, _Code.FAILED_PRECONDITION, _Code.INVALID_ARGUMENT})
#: There is no such stream: the service forgets one that nobody wrote to after some days.
STREAM_GONE = frozenset({_Code.NOT_FOUND, _Code.FAILED_PRECONDITION, _Code.INVALID_ARGUMENT})
#: The rows themselves are refused, unless the words of ``NOT_ABOUT_ROWS`` say otherwise.
ROWS_INVALID = frozenset({_Code.INVALID_ARGUMENT})
#: Words about the stream, which another relay ended, or about columns that streams do not know of yet.
NOT_ABOUT_ROWS = _words(r"finali[sz]ed", r"schema", ignore_case=True)

_CODES = {code.value[0]: code for code in _Code}


def code_of_number(number: int) -> grpc.StatusCode | None:
    """The code with a number of google.rpc.Code; None for one that is not known."""
    return _CODES.get(number)


def code_of(error: BaseException | None) -> grpc.StatusCode | None:
    """The code of Google's error, wrapped or as gRPC raised it; None where it has none."""
    if isinstance(error, api.GoogleAPICallError):
        return error.grpc_status_code
    return error.code() if isinstance(error, grpc.Call) else None

"""What Google's clients raise, as the ledger's errors: one place, the cause chained."""

from __future__ import annotations

import concurrent.futures
import re

import grpc
import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from ledger.errors import (
    ConfigurationError,
    InvalidInput,
    LedgerError,
    StoreError,
    StoreRejected,
    StoreUnavailable,
    ValueTooLarge,
)
from ledger.warehouse import catalog

#: Permission to the role that carries it and is the smallest that the ledger needs.
_ROLES = {
    "bigquery.jobs.create": "roles/bigquery.jobUser on the project",
    "bigquery.readsessions.create": "roles/bigquery.readSessionUser on the project",
    "bigquery.datasets.create": "roles/bigquery.user on the project",
    "bigquery.datasets.update": "roles/bigquery.dataOwner on the dataset",
    "bigquery.tables.create": "roles/bigquery.dataEditor on the dataset",
    "bigquery.tables.update": "roles/bigquery.dataEditor on the dataset",
    "bigquery.tables.getData": "roles/bigquery.dataViewer on the dataset",
    "bigquery.tables.get": "roles/bigquery.dataViewer on the dataset",
}
_EDITOR = "roles/bigquery.dataEditor on the dataset and roles/bigquery.jobUser on the project"
_LATER = (
    api.TooManyRequests,
    api.ServerError,  # 500 to 504, and gRPC's UNAVAILABLE, INTERNAL, UNKNOWN, DEADLINE_EXCEEDED, DATA_LOSS
    api.Aborted,
    api.Cancelled,
    api.RetryError,
)
#: Reasons of REST errors that pass, whatever their status: quotas are refilled, and a table may be away for a while.
_LATER_REASONS = ("rateLimitExceeded", "quotaExceeded", "jobRateLimitExceeded", "tableUnavailable")
#: And one that does not, though a job that ended by it is told of as an error 500.
_OVER_BUDGET = "bytesBilledLimitExceeded"
_NETWORK = (
    requests.exceptions.RequestException,
    auth.TransportError,
    auth.TimeoutError,
    concurrent.futures.TimeoutError,
    TimeoutError,
    ConnectionError,
)
#: Requests that could not be made: an address, a proxy or a header in the settings is malformed.
_UNMADE = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    requests.exceptions.URLRequired,
    requests.exceptions.InvalidHeader,
    requests.exceptions.TooManyRedirects,
)
#: Of two transactions that change one table BigQuery aborts the later; the emulator says it in DuckLake's words.
_LOST_RACE = re.compile(r"aborted due to concurrent update|Could not serialize access|Failed to commit DuckLake")
#: There was no connection to send anything over.
_NEVER_SENT = re.compile(
    r"failed to connect to all addresses|Failed to establish a new connection|Connection refused|Failed to resolve"
    r"|errors resolving|address lookup failed|Domain name not found|Name or service not known|DNS resolution failed"
    r"|Temporary failure in name resolution"
)
_TOO_LARGE = re.compile(r"(?i)(payload|request|row|query|resolved).{0,40}(too large|exceeds|larger than)")
_TOO_LARGE_MESSAGE = re.compile(r"message larger than max")
#: gRPC calls a failure to get a token UNAVAILABLE; these words of the token's server say that it will stay so.
_NO_TOKEN = re.compile(r"(?i)Getting metadata from plugin failed.*(invalid_|unauthorized_client|access_denied|reauth)")
_TABLE_NOT_FOUND = re.compile(r"Not found: Table \S+[.:](\w+)")
_OF_A_REQUEST = re.compile(r"^(GET|POST|PUT|PATCH|DELETE) \S+: ")
_ADDRESS = re.compile(r"HTTPS?Connection(Pool)?\(host='[^']*', port=\d+\):? ?| with url: \S+|ipv[46]:\S+ ?")
#: Tokens, keys and signatures, as Google's clients have been seen to quote them.
_SECRETS = (
    re.compile(r"\bBearer\s+[^\s'\",]+"),
    re.compile(r"\bya29\.[\w.-]+|\beyJ[\w-]+\.[\w.-]+|\bAIza[\w-]{35}|-----BEGIN .*"),
    re.compile(r"(?<=[^\s?]\?)[\w%.~-]+=[^\s'\")]+"),  # what a URL says after its ?
    re.compile(
        r"(?i)(?<![\w.])['\"]?(access_token|id_token|refresh_token|client_secret|private_key|assertion|authorization|"
        r"signature|api_?key)['\"]?\s*[:=]\s*['\"]?(bearer\s|basic\s)?[^\s'\",}]+"
    ),
)


class OutcomeLost(StoreUnavailable):
    """The answer did not come, and the request may have been carried out. It never leaves the package."""


def translate(error: Exception, doing: str, *, own: bool = True) -> LedgerError:
    """The ledger's error for one of Google's, to be raised ``from`` it.

    Args:
        error: What the client raised.
        doing: What was tried, for the message: ``The append``.
        own: Whether the statement was the ledger's own; a user's is theirs to mend.
    """
    if isinstance(error, LedgerError):
        return error
    if isinstance(error, grpc.Call):  # from a call that Google's wrapper was not around
        error = api.from_grpc_error(error)
    said = message_of(error)
    if _is_of_credentials(error, said):
        return ConfigurationError(
            f"{doing} failed: Google refuses the credentials ({said}). Run `gcloud auth application-default login`, or "
            "check GOOGLE_APPLICATION_CREDENTIALS."
        )
    if _may_pass(error, said):
        kind = OutcomeLost if is_uncertain(error) else StoreUnavailable
        return kind(f"{doing} failed, for now: {said}")
    if isinstance(error, _UNMADE) or (isinstance(error, requests.exceptions.SSLError) and "certificate" in said):
        return ConfigurationError(
            f"{doing} failed: BigQuery cannot be asked ({said}). Check BIGQUERY_EMULATOR_HOST, HTTPS_PROXY and the "
            "certificates that this machine trusts."
        )
    if isinstance(error, _NETWORK) and not _is_unsent(error):
        kind = OutcomeLost if is_uncertain(error) else StoreUnavailable
        return kind(f"{doing} failed: BigQuery cannot be reached ({said}).")
    if isinstance(error, api.GoogleAPICallError):
        return _refusal(error, doing, said, own)
    # What is left is no answer of BigQuery's: an answer that Google's client did not understand, or a mistake here.
    return StoreError(f"{doing} failed: {type(error).__name__}: {said}")


def is_uncertain(error: Exception) -> bool:
    """Whether the request may have been carried out all the same."""
    if never_sent(error):
        return False
    if isinstance(error, api.TooManyRequests) or _LOST_RACE.search(str(error)):
        return False
    if isinstance(error, auth.GoogleAuthError):  # without a token nothing was sent
        return False
    return isinstance(error, (*_LATER, *_NETWORK)) or _is_of_the_server(error)


def never_sent(error: Exception) -> bool:
    """Whether there was no connection to send anything over."""
    return _NEVER_SENT.search(str(error)) is not None


def message_of(error: Exception) -> str:
    """What an error says, on one line, without the address that was asked, and without tokens and keys.

    Google's clients quote the header that they could not send, and the answer of a token's server in whole.
    """
    # Errors about credentials have further arguments, for programs.
    text = error.args[0] if isinstance(error, auth.GoogleAuthError) and error.args else getattr(error, "message", None)
    first = next(iter(str(text or error).strip().splitlines()), "") or type(error).__name__
    said = _ADDRESS.sub("", _OF_A_REQUEST.sub("", first))
    for secret in _SECRETS:
        said = secret.sub("***", said)
    return said[:500]


def _is_of_credentials(error: Exception, said: str) -> bool:
    if isinstance(error, auth.GoogleAuthError):
        passes = isinstance(error, auth.TransportError | auth.TimeoutError)
        return not passes and not error.retryable
    return _NO_TOKEN.search(said) is not None


def _may_pass(error: Exception, said: str) -> bool:
    """Whether the same call may succeed later without anybody changing anything, the network apart."""
    reason = _reason(error)
    if reason == _OVER_BUDGET or isinstance(error, api.MethodNotImplemented) or _TOO_LARGE_MESSAGE.search(said):
        return False
    if isinstance(error, _LATER) or _is_of_the_server(error) or _LOST_RACE.search(said) or reason in _LATER_REASONS:
        return True
    return isinstance(error, auth.GoogleAuthError) and error.retryable


def _is_unsent(error: Exception) -> bool:
    """Whether a request was refused by the library that was to send it."""
    unfit = (requests.exceptions.StreamConsumedError, requests.exceptions.UnrewindableBodyError)
    return isinstance(error, unfit) or type(error) is requests.exceptions.InvalidJSONError


def _is_of_the_server(error: Exception) -> bool:
    """Whether the status is one of the server's that Google's library has no class for: 408, 520."""
    status = error.code if isinstance(error, api.GoogleAPICallError) else None
    return status is not None and (status == 408 or status >= 500)


def _reason(error: Exception) -> str:
    """The machine-readable reason of a REST error: ``accessDenied``, ``quotaExceeded`` ..."""
    errors = getattr(error, "errors", None) or [{}]
    first = errors[0]
    return str(first.get("reason", "")) if isinstance(first, dict) else ""


def _refusal(error: api.GoogleAPICallError, doing: str, said: str, own: bool) -> LedgerError:
    if isinstance(error, (api.Unauthorized, api.Unauthenticated)):
        return ConfigurationError(
            f"{doing} failed: Google does not accept the credentials ({said}). Run "
            "`gcloud auth application-default login`, or check GOOGLE_APPLICATION_CREDENTIALS."
        )
    if _reason(error) == "responseTooLarge":  # 403, as if it were a matter of permissions
        kind = StoreRejected if own else InvalidInput
        return kind(f"{doing} has an answer that is larger than BigQuery gives: {said} Select fewer rows or columns.")
    if isinstance(error, api.Forbidden):
        return ConfigurationError(f"{doing} is not permitted: {said} {_remedy(error, said)}")
    if not own and isinstance(error, api.NotFound) and _is_no_table_of_the_ledger(said):
        return InvalidInput(f"The statement cannot be answered: {said}")
    if isinstance(error, api.NotFound) or (own and "unction not found" in said):
        return ConfigurationError(
            f"{doing} failed: {said}. Create the ledger's dataset, tables and views with `create_sessions_table.py "
            "--project PROJECT --dataset DATASET` (or `ledger init`), and check the project, dataset and location."
        )
    if error.code == 413 or _TOO_LARGE_MESSAGE.search(said):
        return _too_large(doing, said)
    if _reason(error) == _OVER_BUDGET or "bytes billed" in said:
        return StoreRejected(
            f"{doing} would read more than it may: {said} Narrow it to a range of created_at, or raise "
            "maximum_bytes_billed in the ledger's URL."
        )
    if not own and isinstance(error, api.BadRequest):
        return InvalidInput(f"The statement cannot be answered: {said}")
    if _TOO_LARGE.search(said):
        return _too_large(doing, said)
    return StoreRejected(f"{doing} was refused: {said}")


def _is_no_table_of_the_ledger(said: str) -> bool:
    """Whether a user's statement names a table that is not there, and should not be."""
    found = _TABLE_NOT_FOUND.search(said)
    return found is not None and found[1] not in {item.name for item in catalog.objects()}


def _too_large(doing: str, said: str) -> ValueTooLarge:
    return ValueTooLarge(
        f"{doing} is larger than BigQuery takes: {said}. Split the event, or store large content elsewhere."
    )


def _remedy(error: api.GoogleAPICallError, said: str) -> str:
    if _reason(error) == "accessNotConfigured" or "has not been used" in said or "SERVICE_DISABLED" in str(error):
        return "Enable the BigQuery API: gcloud services enable bigquery.googleapis.com bigquerystorage.googleapis.com"
    if _reason(error) == "billingNotEnabled" or "billing" in said.lower() or "free tier" in said:
        return "Enable billing for the project, or use its sandbox for queries only."
    if _reason(error) == "policyViolation" or "organization's policy" in said:
        return "A policy of the organization (VPC Service Controls) forbids it; ask its administrators."
    named = set(re.findall(r"bigquery\.\w+\.\w+", said))
    role = next((role for permission, role in _ROLES.items() if permission in named), _EDITOR)
    return f"Grant {role}."

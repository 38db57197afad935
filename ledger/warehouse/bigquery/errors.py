"""Translation of the errors of Google's clients to the ledger's. Which of them pass stands in ``reasons``."""

from __future__ import annotations

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
from ledger.warehouse.bigquery import reasons

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
_TOO_LARGE = re.compile(r"(?i)(payload|request|row|query|resolved).{0,40}(too large|exceeds|larger than)")
_TABLE_NOT_FOUND = re.compile(r"Not found: Table \S+[.:](\w+)")
_REQUEST_LINE = re.compile(r"^(GET|POST|PUT|PATCH|DELETE) \S+: ")
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
    """No answer came, and the request may have been carried out. It is internal: stores raise OutcomeUnknown."""


def translate(error: Exception, doing: str, *, own: bool = True) -> LedgerError:
    """The ledger's error for one of Google's, to be raised ``from`` it.

    Args:
        error: What the client raised.
        doing: What was tried, for the message: ``The append``.
        own: Whether the statement was the ledger's own; errors in a user's statement are InvalidInput.
    """
    if isinstance(error, LedgerError):
        return error
    if isinstance(error, grpc.Call):  # from a call that Google's wrapper was not around
        error = api.from_grpc_error(error)
    message = message_of(error)
    if _is_credentials_error(error, message):
        return ConfigurationError(
            f"{doing} failed: Google refuses the credentials ({message}). Run `gcloud auth application-default login`, "
            "or check GOOGLE_APPLICATION_CREDENTIALS."
        )
    if _is_transient(error, message):
        kind = OutcomeLost if is_uncertain(error) else StoreUnavailable
        return kind(f"{doing} failed, for now: {message}")
    if isinstance(error, reasons.REQUEST_MALFORMED) or (
        isinstance(error, requests.exceptions.SSLError) and "certificate" in message
    ):
        return ConfigurationError(
            f"{doing} failed: BigQuery cannot be asked ({message}). Check BIGQUERY_EMULATOR_HOST, HTTPS_PROXY and the "
            "certificates that this machine trusts."
        )
    if isinstance(error, reasons.NETWORK_ERRORS) and not _is_unsendable(error):
        kind = OutcomeLost if is_uncertain(error) else StoreUnavailable
        return kind(f"{doing} failed: BigQuery cannot be reached ({message}).")
    if isinstance(error, api.GoogleAPICallError):
        return _refusal(error, doing, message, own)
    # What is left is no answer of BigQuery's: an answer that Google's client did not understand, or a mistake here.
    return StoreError(f"{doing} failed: {type(error).__name__}: {message}")


def is_uncertain(error: Exception) -> bool:
    """Whether the request may have been carried out although it failed."""
    if never_sent(error) or isinstance(error, reasons.NOTHING_DONE) or reasons.TRANSIENT_WORDS.search(str(error)):
        return False
    return isinstance(error, (*reasons.TRANSIENT_ERRORS, *reasons.NETWORK_ERRORS)) or _has_transient_status(error)


def never_sent(error: Exception) -> bool:
    """Whether there was no connection to send anything over."""
    return reasons.NEVER_SENT.search(str(error)) is not None


def message_of(error: Exception) -> str:
    """An error's message on one line, without the address of the request, tokens and keys.

    Google's clients quote the header that they could not send, and the whole answer of a token's server.
    """
    # Errors about credentials have further arguments, for programs.
    text = error.args[0] if isinstance(error, auth.GoogleAuthError) and error.args else getattr(error, "message", None)
    first = next(iter(str(text or error).strip().splitlines()), "") or type(error).__name__
    message = _ADDRESS.sub("", _REQUEST_LINE.sub("", first))
    for secret in _SECRETS:
        message = secret.sub("***", message)
    return message[:500]


def _is_credentials_error(error: Exception, message: str) -> bool:
    """Whether the credentials are refused, rather than their server out of reach."""
    if isinstance(error, auth.GoogleAuthError):
        return not isinstance(error, auth.TransportError | auth.TimeoutError) and not error.retryable
    return reasons.TOKEN_REFUSED.search(message) is not None


def _is_transient(error: Exception, message: str) -> bool:
    """Whether the same call may succeed later without anybody changing anything; the network is not considered."""
    reason = _reason(error)
    if reason in reasons.PERMANENT_REASONS or isinstance(error, reasons.PERMANENT_ERRORS):
        return False
    if reasons.MESSAGE_TOO_LARGE.search(message):
        return False
    if isinstance(error, reasons.TRANSIENT_ERRORS) or _has_transient_status(error):
        return True
    if reason in reasons.TRANSIENT_REASONS or reasons.TRANSIENT_WORDS.search(message):
        return True
    return isinstance(error, auth.GoogleAuthError) and error.retryable


def _is_unsendable(error: Exception) -> bool:
    """Whether the client library itself could not send the request."""
    return isinstance(error, reasons.BODY_UNSENDABLE) or type(error) is requests.exceptions.InvalidJSONError


def _has_transient_status(error: Exception) -> bool:
    return isinstance(error, api.GoogleAPICallError) and error.code in reasons.TRANSIENT_STATUSES


def _reason(error: Exception) -> str:
    """The reason of a REST error: ``accessDenied``, ``quotaExceeded`` ...; empty if it has none."""
    errors = getattr(error, "errors", None) or [{}]
    first = errors[0]
    return str(first.get("reason", "")) if isinstance(first, dict) else ""


def _refusal(error: api.GoogleAPICallError, doing: str, message: str, own: bool) -> LedgerError:
    """The error for a call that BigQuery refused for good, with what to do about it."""
    if isinstance(error, (api.Unauthorized, api.Unauthenticated)):
        return ConfigurationError(
            f"{doing} failed: Google does not accept the credentials ({message}). Run "
            "`gcloud auth application-default login`, or check GOOGLE_APPLICATION_CREDENTIALS."
        )
    if _reason(error) == "responseTooLarge":  # 403, as if it were a matter of permissions
        kind = StoreRejected if own else InvalidInput
        return kind(
            f"{doing} has an answer that is larger than BigQuery gives: {message} Select fewer rows or columns."
        )
    if isinstance(error, api.Forbidden):
        return ConfigurationError(f"{doing} is not permitted: {message} {_remedy(error, message)}")
    if not own and isinstance(error, api.NotFound) and _names_foreign_table(message):
        return InvalidInput(f"The statement cannot be answered: {message}")
    if isinstance(error, api.NotFound) or (own and "unction not found" in message):
        return ConfigurationError(
            f"{doing} failed: {message}. Create the ledger's dataset, tables and views with `create_sessions_table.py "
            "--project PROJECT --dataset DATASET` (or `ledger init`), and check the project, dataset and location."
        )
    if error.code == 413 or reasons.MESSAGE_TOO_LARGE.search(message):
        return _too_large(doing, message)
    if _reason(error) == reasons.OVER_BUDGET or "bytes billed" in message:
        return StoreRejected(
            f"{doing} would read more than it may: {message} Narrow it to a range of created_at, or raise "
            "maximum_bytes_billed in the ledger's URL."
        )
    if not own and isinstance(error, api.BadRequest):
        return InvalidInput(f"The statement cannot be answered: {message}")
    if _TOO_LARGE.search(message):
        return _too_large(doing, message)
    return StoreRejected(f"{doing} was refused: {message}")


def _names_foreign_table(message: str) -> bool:
    """Whether the table that was not found is none of the ledger's."""
    table = _TABLE_NOT_FOUND.search(message)
    return table is not None and table[1] not in {item.name for item in catalog.objects()}


def _too_large(doing: str, message: str) -> ValueTooLarge:
    return ValueTooLarge(
        f"{doing} is larger than BigQuery takes: {message}. Split the event, or store large content elsewhere."
    )


def _remedy(error: api.GoogleAPICallError, message: str) -> str:
    """What to do about a missing permission."""
    if _reason(error) == "accessNotConfigured" or "has not been used" in message or "SERVICE_DISABLED" in str(error):
        return "Enable the BigQuery API: gcloud services enable bigquery.googleapis.com bigquerystorage.googleapis.com"
    if _reason(error) == "billingNotEnabled" or "billing" in message.lower() or "free tier" in message:
        return "Enable billing for the project, or use its sandbox for queries only."
    if _reason(error) == "policyViolation" or "organization's policy" in message:
        return "A policy of the organization (VPC Service Controls) forbids it; ask its administrators."
    named = set(re.findall(r"bigquery\.\w+\.\w+", message))
    role = next((role for permission, role in _ROLES.items() if permission in named), _EDITOR)
    return f"Grant {role}."

"""Translate the errors of Google's clients to the ledger's errors. ``reasons`` lists which are transient."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

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
from ledger.warehouse.schema import schema, unknown

T = TypeVar("T")
_EDITOR = "roles/bigquery.dataEditor on the dataset and roles/bigquery.jobUser on the project"
_VIEWER = "roles/bigquery.dataViewer on the dataset and roles/bigquery.jobUser on the project"
#: Maps a permission to the role that an error message recommends: the smallest one that grants the permission and is
#: enough for the ledger.
_ROLES = {
    "bigquery.jobs.create": "roles/bigquery.jobUser on the project",
    "bigquery.readsessions.create": "roles/bigquery.readSessionUser on the project",
    "bigquery.datasets.create": "roles/bigquery.user on the project",
    "bigquery.datasets.update": "roles/bigquery.dataOwner on the dataset",
    "bigquery.tables.create": "roles/bigquery.dataEditor on the dataset",
    "bigquery.tables.update": "roles/bigquery.dataEditor on the dataset",
    "bigquery.tables.updateData": _EDITOR,
    "bigquery.tables.getData": "roles/bigquery.dataViewer on the dataset",
    "bigquery.tables.get": "roles/bigquery.dataViewer on the dataset",
}
_TOO_LARGE = re.compile(r"(?i)(payload|request|row|query|resolved).{0,40}(too large|exceeds|larger than)")
_TABLE_NOT_FOUND = re.compile(r"Not found: Table \S+[.:](\w+)")
#: Patterns of messages about an unknown name, and what the name should be.
_UNKNOWN_NAMES = (
    (_TABLE_NOT_FOUND, "table or view"),
    (re.compile(r"Unrecognized name: `?(\w+)`?(?: at |$|;)"), "column"),
    (re.compile(r"Unrecognized name: `?\w+`?\.`?(\w+)"), "column"),
    (re.compile(r"Name (\w+) not found inside \w+"), "column"),
    (re.compile(r"Table-valued function not found: `?(?:[^\s`]+\.)?(\w+)"), "table function"),
)
#: Messages about one of the ledger's own statements in a dataset that lacks a function or a column of this release.
_LACKS_NAME = re.compile(r"unction not found|Unrecognized name|not found inside|is not present in table")
_REQUEST_LINE = re.compile(r"^(GET|POST|PUT|PATCH|DELETE) \S+: ")
_ADDRESS = re.compile(r"HTTPS?Connection(Pool)?\(host='[^']*', port=\d+\):? ?| with url: \S+|ipv[46]:\S+ ?")
#: Patterns of tokens, keys and signatures, in the forms that occur in error messages of Google's clients.
_SECRETS = (
    re.compile(r"\bBearer\s+[^\s'\",]+"),
    re.compile(r"\bya29\.[\w.-]+|\beyJ[\w-]+\.[\w.-]+|\bAIza[\w-]{35}|-----BEGIN .*"),
    re.compile(r"(?<=[^\s?]\?)[\w%.~-]+=[^\s'\")]+"),  # the query string of a URL
    re.compile(
        r"(?i)(?<![\w.])['\"]?(access_token|id_token|refresh_token|client_secret|private_key|assertion|authorization|"
        r"signature|api_?key)['\"]?\s*[:=]\s*['\"]?(bearer\s|basic\s)?[^\s'\",}]+"
    ),
)


class OutcomeLost(StoreUnavailable):
    """Raised if the response to a request is lost. The request may or may not have been executed.

    The error is internal; stores raise OutcomeUnknown.
    """


class NotYetVisible(StoreUnavailable):
    """Raised if BigQuery does not find a table, column or stream that exists, because it was made minutes ago.

    The error is internal; the request was not executed, and is repeated for ``jobs.NEW_OBJECT_SECONDS``.
    """


class Place(NamedTuple):
    """The project and the dataset of a call, for messages."""

    project: str = "PROJECT"
    dataset: str = "DATASET"


#: The place of calls whose dataset is not known.
_ANYWHERE = Place()


def translate(
    error: Exception, doing: str, *, own: bool = True, writes: bool = False, place: Place = _ANYWHERE
) -> LedgerError:
    """Return the ledger's error for an error of Google's clients. The caller raises the result ``from`` the original.

    Args:
        error: The error that Google's client raised. A LedgerError is returned unchanged.
        doing: Name of the call, for the message, such as ``The append``.
        own: False if a user wrote the statement; mistakes in it are then reported as InvalidInput.
        writes: True if the call changes something. The role that a message names is then one that may write.
        place: The dataset of the call.
    """
    if isinstance(error, LedgerError):
        return error
    if isinstance(error, grpc.Call):  # raised by a call without Google's wrapper
        error = api.from_grpc_error(error)
    message = message_of(error)
    if _is_credentials_error(error, message):
        return _credentials_refused(doing, message)
    if _is_transient(error, message):
        kind = OutcomeLost if is_uncertain(error) else StoreUnavailable
        return kind(f"{doing} failed; a retry may succeed: {message}")
    if isinstance(error, ValueError) and reasons.CHANNEL_CLOSED.search(message):
        return StoreUnavailable(f"{doing} failed: the connection was closed, as before a fork of the process.")
    if isinstance(error, reasons.REQUEST_MALFORMED) or (
        isinstance(error, requests.exceptions.SSLError) and "certificate" in message
    ):
        return ConfigurationError(
            f"{doing} failed: no request can be made ({message}). Check BIGQUERY_EMULATOR_HOST, HTTPS_PROXY and the "
            "certificates that this machine trusts."
        )
    if isinstance(error, reasons.NETWORK_ERRORS) and not _is_unsendable(error):
        kind = OutcomeLost if is_uncertain(error) else StoreUnavailable
        return kind(f"{doing} failed: BigQuery cannot be reached ({message}).")
    if isinstance(error, api.GoogleAPICallError):
        return _refusal(error, doing, message, own, writes, place)
    # The rest does not come from BigQuery: a response that Google's client cannot parse, or a bug.
    return StoreError(f"{doing} failed: {type(error).__name__}: {message}")


def once(doing: str, call: Callable[[], T], *, place: Place = _ANYWHERE) -> T:
    """Return the result of a function that calls Google's client. Errors of the client become errors of the ledger.

    Args:
        doing: Name of the call, for messages, such as ``Listing tables``.
        call: The function. It is called once, and tells the client not to retry. Repeating the call must be safe: if
            the answer is lost, StoreUnavailable is raised, although the call may have succeeded.
        place: The dataset of the call.

    Raises:
        LedgerError: The call failed. The ``__cause__`` of this error is the error of Google's client.
    """
    try:
        return call()
    except LedgerError:
        raise
    except Exception as error:
        translated = translate(error, doing, place=place)
        if isinstance(translated, OutcomeLost):
            translated = StoreUnavailable(str(translated))
        raise translated from error


def none_if_absent(get: Callable[[], T]) -> T | None:
    """Return the result of a function that asks Google's client for an object; None if the object does not exist."""
    try:
        return get()
    except api.NotFound:
        return None


def is_over_budget(error: Exception) -> bool:
    """Return True if BigQuery refused a statement because it would be billed more than its maximum."""
    if not isinstance(error, api.GoogleAPICallError):
        return False
    return _reason(error) == reasons.OVER_BUDGET or "bytes billed" in message_of(error)


def is_uncertain(error: Exception) -> bool:
    """Return True if the request may have been executed although it failed."""
    if never_sent(error) or isinstance(error, reasons.NOTHING_DONE) or reasons.TRANSIENT_WORDS.search(str(error)):
        return False
    return isinstance(error, (*reasons.TRANSIENT_ERRORS, *reasons.NETWORK_ERRORS)) or _has_transient_status(error)


def is_transient(error: BaseException) -> bool:
    """Return True if the same call may succeed later, or if BigQuery could not be reached."""
    if not isinstance(error, Exception):
        return False
    return isinstance(translate(error, "The call"), StoreUnavailable)


def never_sent(error: Exception) -> bool:
    """Return True if no connection could be established, so nothing was sent."""
    return reasons.NEVER_SENT.search(str(error)) is not None


def message_of(error: Exception) -> str:
    """Return the first line of an error's message. The request's address and all tokens and keys are left out.

    A message may contain secrets for two reasons. Google's clients quote headers that they could not send, and they
    quote whole responses of token servers.
    """
    if isinstance(error, grpc.Call):  # whose text lists all its attributes
        error = api.from_grpc_error(error)
    # Errors about credentials have further arguments, which are no text for readers.
    text = error.args[0] if isinstance(error, auth.GoogleAuthError) and error.args else getattr(error, "message", None)
    first = next(iter(str(text or error).strip().splitlines()), "") or type(error).__name__
    message = _ADDRESS.sub("", _REQUEST_LINE.sub("", first))
    for secret in _SECRETS:
        message = secret.sub("***", message)
    return message[:500]


def _is_credentials_error(error: Exception, message: str) -> bool:
    """Return True if the credentials were refused; False if the token server could not be reached."""
    if isinstance(error, auth.GoogleAuthError):
        return not isinstance(error, auth.TransportError | auth.TimeoutError) and not error.retryable
    return reasons.TOKEN_REFUSED.search(message) is not None


def _is_transient(error: Exception, message: str) -> bool:
    """Return True if the same call may succeed later without any repair.

    ``translate`` treats network errors separately.
    """
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
    """Return True if the client library could not encode or send the request body."""
    return isinstance(error, reasons.BODY_UNSENDABLE) or type(error) is requests.exceptions.InvalidJSONError


def _has_transient_status(error: Exception) -> bool:
    return isinstance(error, api.GoogleAPICallError) and error.code in reasons.TRANSIENT_STATUSES


def _reason(error: Exception) -> str:
    """Return the reason of a REST error, such as ``accessDenied``; an empty string if it has none."""
    errors = getattr(error, "errors", None) or [{}]
    first = errors[0]
    return str(first.get("reason", "")) if isinstance(first, dict) else ""


def _refusal(
    error: api.GoogleAPICallError, doing: str, message: str, own: bool, writes: bool, place: Place
) -> LedgerError:
    """Return the ledger's error for a permanent refusal; its message names the remedy, if one is known."""
    if isinstance(error, (api.Unauthorized, api.Unauthenticated)):
        return _credentials_refused(doing, message)
    if _reason(error) == "responseTooLarge":  # BigQuery reports it as 403, like a missing permission
        kind = StoreRejected if own else InvalidInput
        return kind(f"{doing} has a result larger than BigQuery returns: {message} Select fewer rows or columns.")
    if isinstance(error, api.Forbidden):
        return ConfigurationError(f"{doing} is not permitted: {message} {_remedy(error, message, writes)}")
    if not own and isinstance(error, api.NotFound) and _names_foreign_table(message):
        return _with_suggestion(message)
    if isinstance(error, api.NotFound) or (own and _LACKS_NAME.search(message)):
        return ConfigurationError(
            f"{doing} failed: {message}. Create or update the ledger's dataset, tables and views with "
            f"`create_sessions_table.py --project {place.project} --dataset {place.dataset}` (or `ledger init`), and "
            "check the project, dataset and location."
        )
    if error.code == 413 or reasons.MESSAGE_TOO_LARGE.search(message):
        return _too_large(doing, message)
    if is_over_budget(error):
        return StoreRejected(
            f"{doing} would read more bytes than allowed: {message} Narrow it to a range of created_at, or raise "
            "maximum_bytes_billed in the ledger's URL (for a look-up by id, lookup_maximum_bytes_billed)."
        )
    if not own and isinstance(error, api.BadRequest):
        return _with_suggestion(message)
    if _TOO_LARGE.search(message):
        return _too_large(doing, message)
    return StoreRejected(f"{doing} was refused: {message}")


def _names_foreign_table(message: str) -> bool:
    """Return True if a "not found" message names a table that is not one of the ledger's."""
    table = _TABLE_NOT_FOUND.search(message)
    return table is not None and table[1] not in {item.name for item in catalog.objects()}


def _with_suggestion(message: str) -> InvalidInput:
    """Return the error for a mistake in a user's statement; it suggests the ledger's names for a misspelt one."""
    for pattern, what in _UNKNOWN_NAMES:
        match = pattern.search(message)
        if match is None or "Did you mean" in message:  # BigQuery's own suggestion, which knows the statement's aliases
            continue
        names = {
            "column": [column.name for item in schema() for column in item.columns],
            "table function": [item.name for item in schema() if item.kind == "function"],
            "table or view": [item.name for item in schema() if item.kind != "function"],
        }[what]
        return InvalidInput(f"{unknown(what, match[1], names)} BigQuery says: {message}")
    return InvalidInput(f"The statement cannot be answered: {message}")


def _credentials_refused(doing: str, message: str) -> ConfigurationError:
    return ConfigurationError(
        f"{doing} failed: Google refuses the credentials ({message}). Run `gcloud auth application-default login`, or "
        "check GOOGLE_APPLICATION_CREDENTIALS."
    )


def _too_large(doing: str, message: str) -> ValueTooLarge:
    return ValueTooLarge(
        f"{doing} is larger than BigQuery accepts: {message}. Split the event, or store large content elsewhere."
    )


def _remedy(error: api.GoogleAPICallError, message: str, writes: bool) -> str:
    """Return the remedy for a call that was forbidden, as a sentence for the error message."""
    if _reason(error) == "accessNotConfigured" or "has not been used" in message or "SERVICE_DISABLED" in str(error):
        return "Enable the BigQuery API: gcloud services enable bigquery.googleapis.com bigquerystorage.googleapis.com"
    if _reason(error) == "billingNotEnabled" or "billing" in message.lower() or "free tier" in message:
        return "Enable billing for the project, or use its sandbox for queries only."
    if _reason(error) == "policyViolation" or "organization's policy" in message:
        return "A policy of the organization (VPC Service Controls) forbids it; ask its administrators."
    named = set(re.findall(r"bigquery\.\w+\.\w+", message))
    role = next((role for permission, role in _ROLES.items() if permission in named), None)
    if role is None or (writes and "dataViewer" in role):
        role = _EDITOR if writes else _VIEWER
    return f"Grant {role}."

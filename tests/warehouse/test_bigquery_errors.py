"""Google's errors as the ledger's: each has a counterpart, what may pass is tried again, and nothing secret is said."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.auth.credentials import Credentials
from google.auth.transport.grpc import AuthMetadataPlugin
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from ledger.errors import (
    ConfigurationError,
    InvalidInput,
    LedgerError,
    StoreError,
    StoreRejected,
    StoreUnavailable,
    ValueTooLarge,
)
from ledger.warehouse.bigquery.errors import OutcomeLost, Place, translate
from support.bigquery_answers import rest


def tree(root: type) -> list[type]:
    """A class and those below it, as far as Google's libraries and requests define them."""
    below = [kind for child in root.__subclasses__() for kind in tree(child)]
    return [kind for kind in (root, *below) if kind.__module__.split(".")[0] in ("google", "requests")]


# The counterpart of every class

COUNTERPARTS: dict[type, type[LedgerError]] = {
    # Redirections and uploads, which these clients do not do; were one to come, the same call would get it again.
    **dict.fromkeys(
        (
            *(api.GoogleAPICallError, api.Redirection, api.MovedPermanently, api.NotModified, api.TemporaryRedirect),
            *(api.ResumeIncomplete, api.ResumableTransferError, api.TransferStalledError, api.UnseekableStreamError),
            *(api.UploadCancelledError, api.MissingStatusHeaderError),
        ),
        StoreRejected,
    ),
    **dict.fromkeys(
        (
            *(api.ClientError, api.BadRequest, api.InvalidArgument, api.FailedPrecondition, api.OutOfRange),
            *(api.MethodNotAllowed, api.Conflict, api.AlreadyExists, api.LengthRequired, api.PreconditionFailed),
            *(api.RequestRangeNotSatisfiable, api.MethodNotImplemented),
        ),
        StoreRejected,
    ),
    **dict.fromkeys(
        (api.Unauthorized, api.Unauthenticated, api.Forbidden, api.PermissionDenied, api.NotFound), ConfigurationError
    ),
    # Refused before anything was done.
    **dict.fromkeys((api.TooManyRequests, api.ResourceExhausted), StoreUnavailable),
    # Said of a call that may have been carried out.
    **dict.fromkeys(
        (
            *(api.Aborted, api.Cancelled, api.ServerError, api.InternalServerError, api.Unknown, api.DataLoss),
            *(api.BadGateway, api.ServiceUnavailable, api.GatewayTimeout, api.DeadlineExceeded),
        ),
        OutcomeLost,
    ),
    # Without a token nothing is sent: the network can mend that, other credentials the rest.
    **dict.fromkeys((auth.TransportError, auth.TimeoutError), StoreUnavailable),
    **dict.fromkeys(
        (
            *(auth.GoogleAuthError, auth.RefreshError, auth.ReauthFailError, auth.ReauthSamlChallengeFailError),
            *(auth.UserAccessTokenError, auth.DefaultCredentialsError, auth.MalformedError, auth.InvalidResource),
            *(auth.InvalidOperation, auth.InvalidValue, auth.InvalidType, auth.OSError, auth.MutualTLSChannelError),
            *(auth.ClientCertError, auth.OAuthError, auth.ResponseError),
        ),
        ConfigurationError,
    ),
    **dict.fromkeys(
        (
            *(requests.exceptions.RequestException, requests.exceptions.HTTPError, requests.exceptions.ConnectionError),
            *(requests.exceptions.ProxyError, requests.exceptions.SSLError, requests.exceptions.Timeout),
            *(requests.exceptions.ConnectTimeout, requests.exceptions.ReadTimeout, requests.exceptions.RetryError),
            *(requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError),
            requests.exceptions.JSONDecodeError,  # an answer that a proxy gave in place of BigQuery
        ),
        OutcomeLost,
    ),
    **dict.fromkeys(
        (
            *(requests.exceptions.InvalidURL, requests.exceptions.InvalidProxyURL, requests.exceptions.MissingSchema),
            *(requests.exceptions.InvalidSchema, requests.exceptions.URLRequired, requests.exceptions.InvalidHeader),
            requests.exceptions.TooManyRedirects,
        ),
        ConfigurationError,
    ),
    # A request that the client itself could not send is a mistake in the ledger, which no class of its tree stands for.
    **dict.fromkeys(
        (
            requests.exceptions.InvalidJSONError,
            requests.exceptions.StreamConsumedError,
            requests.exceptions.UnrewindableBodyError,
        ),
        StoreError,
    ),
}


ROOTS = (api.GoogleAPICallError, auth.GoogleAuthError, requests.exceptions.RequestException)


def made(kind: type) -> Exception:
    error: Exception = (
        requests.exceptions.JSONDecodeError("no JSON", "<html>", 0)
        if kind is requests.exceptions.JSONDecodeError
        else kind("said")
    )
    return error


@pytest.mark.parametrize("root", ROOTS)
def test_every_class_of_googles_clients_has_a_counterpart(root):
    assert [kind.__name__ for kind in tree(root) if kind not in COUNTERPARTS] == []


@pytest.mark.parametrize("kind", COUNTERPARTS, ids=lambda kind: f"{kind.__module__.split('.')[0]}.{kind.__name__}")
def test_an_error_becomes_its_counterpart_and_says_what_was_tried(kind):
    found = translate(made(kind), "The append")
    assert type(found) is COUNTERPARTS[kind]
    assert str(found).startswith("The append ")
    assert found.retryable is isinstance(found, StoreUnavailable)


def test_errors_of_the_socket_are_those_of_the_network():
    for error in (TimeoutError("late"), ConnectionResetError("reset"), api.RetryError("late", cause=None)):
        assert type(translate(error, "The state")) is OutcomeLost


def test_a_deadline_of_googles_own_retries_may_pass():
    error = api.RetryError("Timeout of 600.0s exceeded", cause=api.ServiceUnavailable("busy"))
    found = translate(error, "The append")
    assert type(found) is OutcomeLost
    assert found.retryable


def test_a_server_error_without_a_status_may_pass():
    error = api.ServerError("said")
    assert error.code is None
    assert type(translate(error, "The append")) is OutcomeLost


def test_a_quota_that_is_used_up_is_refilled_whatever_the_status():
    for status in (400, 403, 429):
        assert type(translate(rest(status, "quotaExceeded", "Quota exceeded"), "The append")) is StoreUnavailable


def test_an_error_of_the_ledgers_stays_what_it_is():
    own = StoreRejected("closed")
    assert translate(own, "The state") is own


def test_an_answer_that_google_s_client_does_not_understand_is_a_store_error_that_names_it():
    found = translate(KeyError("jobReference"), "The state")
    assert type(found) is StoreError
    assert str(found) == "The state failed: KeyError: 'jobReference'"


@pytest.mark.parametrize(
    ("message", "role"),
    [
        (
            "Access Denied: Project p: User does not have bigquery.jobs.create permission in project p.",
            "roles/bigquery.jobUser on the project",
        ),
        (
            "request failed: the user does not have 'bigquery.readsessions.create' permission for 'projects/p'",
            "roles/bigquery.readSessionUser on the project",
        ),
        (
            "Access Denied: Project p: User does not have bigquery.datasets.create permission in project p.",
            "roles/bigquery.user on the project",
        ),
        (
            "Access Denied: Dataset p:d: Permission bigquery.datasets.update denied on dataset p:d.",
            "roles/bigquery.dataOwner on the dataset",
        ),
        (
            "Access Denied: Dataset p:d: Permission bigquery.tables.create denied on dataset p:d.",
            "roles/bigquery.dataEditor on the dataset",
        ),
        (
            "Access Denied: Table p:d.t: Permission bigquery.tables.update denied on table p:d.t.",
            "roles/bigquery.dataEditor on the dataset",
        ),
        (
            "Access Denied: Table p:d.t: User does not have bigquery.tables.getData permission for table p:d.t.",
            "roles/bigquery.dataViewer on the dataset",
        ),
        (
            "Access Denied: Table p:d.t: Permission bigquery.tables.get denied on table p:d.t (or it may not exist).",
            "roles/bigquery.dataViewer on the dataset",
        ),
        (
            "Access Denied: Table p:d.t: Permission bigquery.tables.updateData denied on table p:d.t.",
            "roles/bigquery.dataEditor on the dataset and roles/bigquery.jobUser on the project",
        ),
    ],
)
def test_a_permission_that_is_missing_is_answered_with_the_role_that_carries_it(message, role):
    found = translate(rest(403, "accessDenied", message), "The state")
    assert type(found) is ConfigurationError
    assert str(found) == f"The state is not permitted: {message} Grant {role}."


DENIED = "Access Denied: Table p:d.t: User does not have permission to query table p:d.t, or perhaps it does not exist."


@pytest.mark.parametrize(
    ("message", "writes", "role"),
    [
        (DENIED, False, "roles/bigquery.dataViewer on the dataset and roles/bigquery.jobUser on the project"),
        (DENIED, True, "roles/bigquery.dataEditor on the dataset and roles/bigquery.jobUser on the project"),
        (
            "Access Denied: Table p:d.t: Permission bigquery.tables.getData denied on table p:d.t.",
            *(True, "roles/bigquery.dataEditor on the dataset and roles/bigquery.jobUser on the project"),
        ),
        (
            "Access Denied: Project p: User does not have bigquery.jobs.create permission in project p.",
            *(True, "roles/bigquery.jobUser on the project"),
        ),
    ],
)
def test_who_only_reads_is_not_told_to_take_a_role_that_writes(message, writes, role):
    found = translate(rest(403, "accessDenied", message), "Listing sessions", writes=writes)
    assert str(found) == f"Listing sessions is not permitted: {message} Grant {role}."


def test_the_remedy_names_the_project_and_the_dataset():
    missing = rest(404, "notFound", "Not found: Dataset ledger:agents was not found in location US")
    found = str(translate(missing, "Listing sessions", place=Place("ledger", "agents")))
    assert "`create_sessions_table.py --project ledger --dataset agents` (or `ledger init`)" in found


BUDGET = "Query exceeded limit for bytes billed: 1000. 10485760 or higher required."


@pytest.mark.parametrize(
    ("status", "reason", "message", "kind", "advice"),
    [
        (403, "rateLimitExceeded", "Exceeded rate limits: too many table update operations", StoreUnavailable, ""),
        (403, "quotaExceeded", "Quota exceeded: too many DML statements", StoreUnavailable, ""),
        (429, "rateLimitExceeded", "Exceeded rate limits", StoreUnavailable, ""),
        (400, "tableUnavailable", "The table is temporarily unavailable", StoreUnavailable, ""),
        (400, "jobRateLimitExceeded", "Exceeded rate limits", StoreUnavailable, ""),
        (408, "timeout", "The request timed out", OutcomeLost, ""),
        (500, "internalError", "Error encountered during execution", OutcomeLost, ""),
        (503, "backendError", "Error encountered during execution", OutcomeLost, ""),
        (520, "", "unknown", OutcomeLost, ""),
        (501, "notImplemented", "Not implemented", StoreRejected, ""),
        (401, "authError", "Request had invalid authentication credentials.", ConfigurationError, "gcloud auth"),
        (
            *(403, "accessNotConfigured", "BigQuery API has not been used in project 1 before or it is disabled."),
            *(ConfigurationError, "gcloud services enable bigquery.googleapis.com bigquerystorage.googleapis.com"),
        ),
        (403, "billingNotEnabled", "Not enabled for this project.", ConfigurationError, "Enable billing"),
        (
            *(403, "accessDenied", "Access Denied: BigQuery: Streaming insert is not allowed in the free tier"),
            *(ConfigurationError, "Enable billing"),
        ),
        (
            *(403, "policyViolation", "Request is prohibited by organization's policy."),
            *(ConfigurationError, "VPC Service Controls"),
        ),
        (400, "bytesBilledLimitExceeded", BUDGET, StoreRejected, "maximum_bytes_billed"),
        (500, "bytesBilledLimitExceeded", BUDGET, StoreRejected, "maximum_bytes_billed"),  # of a job that was polled
        (413, "uploadTooLarge", "Request Entity Too Large", ValueTooLarge, "Split the event"),
        (400, "invalid", "Request payload size exceeds the limit: 10485760 bytes.", ValueTooLarge, "Split the event"),
        (400, "invalid", "The row is too large", ValueTooLarge, "Split the event"),
        (400, "invalidQuery", "Resolved standard SQL query is too large", ValueTooLarge, "Split the event"),
        (403, "responseTooLarge", "Response too large to return.", StoreRejected, "Select fewer"),
        (400, "resourcesExceeded", "Resources exceeded during query execution: 126%", StoreRejected, ""),
        (404, "notFound", "Not found: Dataset p:d was not found in US", ConfigurationError, "create_sessions_table.py"),
        (404, "notFound", "Not found: Table p:d.sessions", ConfigurationError, "create_sessions_table.py"),
        (
            *(400, "invalidQuery", "Table-valued function not found: `p.d.session_state` at [1:15]"),
            *(ConfigurationError, "create_sessions_table.py"),
        ),
        (400, "invalidQuery", "Unrecognized name: idempotency_key at [1:8]", ConfigurationError, "`ledger init`"),
        (
            *(400, "invalidQuery", "Query error: Column idempotency_key is not present in table `p.d.t` at [4:9]"),
            *(ConfigurationError, "Create or update the ledger's dataset, tables and views"),
        ),
        (409, "duplicate", "Already Exists: Table p:d.t", StoreRejected, ""),
    ],
)
def test_an_answer_of_the_service_is_told_by_its_reason(status, reason, message, kind, advice):
    found = translate(rest(status, reason, message), "The state")
    assert type(found) is kind
    assert message in str(found)
    assert advice in str(found)
    assert "googleapis.com/bigquery/v2" not in str(found)


@pytest.mark.parametrize(
    ("status", "reason", "message", "kind"),
    [
        (400, "invalidQuery", "Unrecognized name: titel at [1:8]", InvalidInput),
        (400, "invalidQuery", "Table-valued function not found: `p.d.state` at [1:15]", InvalidInput),
        (400, "invalidQuery", "The query is too large.", InvalidInput),
        (400, "resourcesExceeded", "Resources exceeded during query execution", InvalidInput),
        (403, "responseTooLarge", "Response too large to return.", InvalidInput),
        (404, "notFound", "Not found: Table p:d.nowhere was not found in location US", InvalidInput),
        (404, "notFound", "Not found: Table p:d.sessions was not found in location US", ConfigurationError),
        (404, "notFound", "Not found: Dataset p:d was not found in location US", ConfigurationError),
        (400, "bytesBilledLimitExceeded", BUDGET, StoreRejected),
        (403, "accessDenied", "Access Denied: Table p:d.t: User does not have permission", ConfigurationError),
        (403, "quotaExceeded", "Quota exceeded", StoreUnavailable),
    ],
)
def test_a_mistake_in_a_users_statement_is_the_users(status, reason, message, kind):
    found = translate(rest(status, reason, message), "The query", own=False)
    assert type(found) is kind
    assert message in str(found)


@pytest.mark.parametrize(
    ("message", "suggestion"),
    [
        ("Unrecognized name: sumary at [1:8]", "There is no column 'sumary'. Did you mean summary? BigQuery says: "),
        (
            "Name sumary not found inside s at [1:10]",
            "There is no column 'sumary'. Did you mean summary? BigQuery says: ",
        ),
        ("Unrecognized name: sumary; Did you mean summary? at [1:8]", "The statement cannot be answered: "),
        ("Table-valued function not found: `p.d.sesion_state` at [1:15]", "Did you mean session_state"),
        ("Unrecognized name: zzzz at [1:8]", "There is no column 'zzzz'. `ledger schema` lists them. BigQuery says: "),
    ],
)
def test_an_unknown_name_has_a_suggestion_of_the_ledger_or_of_bigquery(message, suggestion):
    found = str(translate(rest(400, "invalidQuery", message), "The query", own=False))
    assert suggestion in found
    assert found.endswith(message)


@pytest.mark.parametrize(
    "message",
    [
        "Transaction is aborted due to concurrent update against table p:d.session_locks",
        "Could not serialize access to table p:d.session_locks due to concurrent update",
    ],
)
@pytest.mark.parametrize("status", [400, 500])
def test_a_transaction_that_lost_a_race_changed_nothing_and_may_be_tried_again(status, message):
    assert type(translate(rest(status, "invalidQuery", message), "The append")) is StoreUnavailable


# gRPC: a server that answers every call with one error


class Refusing(grpc.GenericRpcHandler):
    """Answers every call with the status that it was given last."""

    status = status_pb2.Status()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def refuse(_request: Any, context: grpc.ServicerContext) -> Any:
            context.abort_with_status(rpc_status.to_status(self.status))

        if details.method.endswith("AppendRows"):
            return grpc.stream_stream_rpc_method_handler(refuse)
        return grpc.unary_unary_rpc_method_handler(refuse)


@pytest.fixture(scope="module")
def refusing() -> Iterator[tuple[Refusing, grpc.Channel]]:
    handler = Refusing()
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, [handler])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield handler, channel
        server.stop(None).wait()


def refused(refusing: tuple[Refusing, grpc.Channel], code: int, message: str, **info: str) -> list[grpc.RpcError]:
    """The errors of a call, and of a stream, that the server refuses; without Google's wrapper around them."""
    handler, channel = refusing
    handler.status = status_pb2.Status(code=code, message=message)
    if info:
        handler.status.details.add().Pack(error_details_pb2.ErrorInfo(domain="googleapis.com", **info))
    with pytest.raises(grpc.RpcError) as of_a_call:
        channel.unary_unary("/google/CreateReadSession")(b"")
    with pytest.raises(grpc.RpcError) as of_a_stream:
        next(channel.stream_stream("/google/AppendRows")(iter([b""])))
    return [of_a_call.value, of_a_stream.value]


@pytest.mark.parametrize(
    ("code", "message", "kind", "advice"),
    [
        (code_pb2.CANCELLED, "cancelled", OutcomeLost, ""),
        (code_pb2.UNKNOWN, "unknown", OutcomeLost, ""),
        (code_pb2.DEADLINE_EXCEEDED, "Deadline Exceeded", OutcomeLost, ""),
        (code_pb2.ABORTED, "Closing the stream because server is restarted.", OutcomeLost, ""),
        (code_pb2.INTERNAL, "Internal error encountered.", OutcomeLost, ""),
        (code_pb2.UNAVAILABLE, "The service is currently unavailable.", OutcomeLost, ""),
        (code_pb2.DATA_LOSS, "lost", OutcomeLost, ""),
        (code_pb2.RESOURCE_EXHAUSTED, "Exceeds quota.", StoreUnavailable, ""),
        (
            *(code_pb2.RESOURCE_EXHAUSTED, "Received message larger than max (10485761 vs. 10485760)"),
            *(ValueTooLarge, "Split the event"),
        ),
        (code_pb2.INVALID_ARGUMENT, "AppendRows request too large: 11 MB", ValueTooLarge, "Split the event"),
        (code_pb2.INVALID_ARGUMENT, "The given value is not a valid timestamp.", StoreRejected, ""),
        (code_pb2.NOT_FOUND, "Table is not found: projects/p/datasets/d/t", ConfigurationError, "create_sessions"),
        (code_pb2.ALREADY_EXISTS, "Offset 1 exists", StoreRejected, ""),
        (
            *(code_pb2.PERMISSION_DENIED, "Permission 'TABLES_UPDATE_DATA' denied on resource 't'"),
            *(ConfigurationError, "Grant roles/bigquery.dataEditor"),
        ),
        (code_pb2.UNAUTHENTICATED, "Request had invalid credentials", ConfigurationError, "gcloud auth"),
        (code_pb2.FAILED_PRECONDITION, "failed precondition", StoreRejected, ""),
        (code_pb2.OUT_OF_RANGE, "Offset 9 is beyond", StoreRejected, ""),
        (code_pb2.UNIMPLEMENTED, "no such method", StoreRejected, ""),
    ],
)
def test_a_status_of_grpc_is_told_as_over_rest(refusing, code, message, kind, advice):
    for error in refused(refusing, code, message):
        for raised in (error, api.from_grpc_error(error)):
            found = translate(raised, "The append", writes=True)
            assert type(found) is kind
            assert message in str(found)
            assert advice in str(found)


def test_an_api_that_is_not_enabled_is_told_by_the_details_of_the_status(refusing):
    for error in refused(refusing, code_pb2.PERMISSION_DENIED, "No.", reason="SERVICE_DISABLED"):
        assert "gcloud services enable" in str(translate(error, "The frame"))


def test_a_server_that_is_not_there_may_be_there_later():
    with grpc.insecure_channel("127.0.0.1:1") as channel, pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/google/CreateReadSession")(b"")
    found = translate(raised.value, "The append")
    assert found.retryable
    assert "127.0.0.1" not in str(found)


class Refused(Credentials):
    """Credentials that get no token."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def refresh(self, request: Any) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (auth.RefreshError("invalid_grant: Revoked.", {"id_token": "eyJhbGciOi.s3cret.s3cret"}), ConfigurationError),
        (auth.TransportError("HTTPSConnectionPool(host='oauth2.googleapis.com', port=443): timed out"), OutcomeLost),
    ],
)
def test_a_token_that_grpc_cannot_get_is_told_from_an_outage(error, kind, caplog):
    plugin = grpc.metadata_call_credentials(AuthMetadataPlugin(Refused(error), None))
    both = grpc.composite_channel_credentials(grpc.local_channel_credentials(), plugin)
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        port = server.add_secure_port("127.0.0.1:0", grpc.local_server_credentials())
        server.start()
        with (
            caplog.at_level(logging.CRITICAL),
            grpc.secure_channel(f"127.0.0.1:{port}", both) as channel,
            pytest.raises(grpc.RpcError) as raised,
        ):
            channel.unary_unary("/google/CreateReadSession")(b"")
        server.stop(None).wait()
    found = translate(raised.value, "The append")
    assert type(found) is kind
    assert "s3cret" not in str(found)

"""Checks of ``ledger doctor`` for a ledger in BigQuery. They read metadata, and queries are only dry runs."""

from __future__ import annotations

import re
import shlex
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.cli.commands.dataset import SECONDS, DatasetState, look, try_views
from ledger.cli.doctor.findings import NOTE, OK, PROBLEM, Finding
from ledger.errors import ConfigurationError, LedgerError
from ledger.settings import (
    BIGQUERY_EMULATOR_GRPC_HOST,
    BIGQUERY_EMULATOR_HOST,
    GOOGLE_APPLICATION_CREDENTIALS,
    LEDGER_URL,
)
from ledger.warehouse.bigquery.settings import Dataset, Emulator, emulator

if TYPE_CHECKING:
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

#: Timeout for opening a connection to an emulator, in seconds.
CONNECT_SECONDS = 3.0
LOGIN = "gcloud auth application-default login"
EDITOR = "roles/bigquery.dataEditor on the dataset"
#: Messages of BigQuery that a quota, or a rate that one limits, is exceeded.
_QUOTA = re.compile(r"(?i)quota exceeded|exceeds? (the )?quota|exceeded rate limits")
#: Permissions on a table that an append requires.
PERMISSIONS = ("bigquery.tables.getData", "bigquery.tables.updateData")
_CREDENTIALS = {
    "oauth2": "of a user",
    "oauth2.service_account": "of a service account",
    "auth.compute_engine": "of this machine",
}
_KINDS = ("table", "view", "function")


def examine(dataset: Dataset, environment: Mapping[str, str], setting: str = LEDGER_URL.name) -> Iterator[Finding]:
    """Run the checks of a dataset, and yield their findings in the order in which problems should be fixed.

    The checks stop after a problem that makes the remaining ones impossible.

    Args:
        dataset: The dataset.
        environment: The environment variables.
        setting: The name of the variable that names the dataset.
    """
    try:
        configured = emulator(environment)
    except ConfigurationError as error:
        yield Finding("emulator", PROBLEM, str(error), "set it to host:port, or unset it to use BigQuery")
        return
    if configured is not None:
        unreachable = _unreachable(configured)
        yield _emulator(configured, unreachable)
        if configured.rest in unreachable:
            return
    elif BIGQUERY_EMULATOR_GRPC_HOST.text(environment):
        detail = "BIGQUERY_EMULATOR_GRPC_HOST is set without BIGQUERY_EMULATOR_HOST: BigQuery is used"
        yield Finding("emulator", NOTE, detail, "set BIGQUERY_EMULATOR_HOST as well, or unset both")
    credentials = _credentials(environment, configured)
    yield credentials
    if credentials.status == PROBLEM:
        return

    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

    with closing(BigQueryWarehouse(dataset, environment=environment)) as warehouse:
        yield from _service(warehouse, setting)


def _emulator(configured: Emulator, unreachable: Mapping[str, str]) -> Finding:
    if unreachable:
        addresses = " or ".join(f"{address} ({setting})" for address, setting in unreachable.items())
        remedy = "start one with `ledger emulator`, correct the address, or unset both to use BigQuery"
        return Finding("emulator", PROBLEM, f"nothing answers at {addresses}", remedy)
    return Finding("emulator", OK, f"REST {configured.rest}, gRPC {configured.grpc}")


def _unreachable(configured: Emulator) -> dict[str, str]:
    """Return the addresses that accept no connection. The dictionary maps each of them to the name of its setting."""
    addresses = {configured.rest: BIGQUERY_EMULATOR_HOST.name, configured.grpc: BIGQUERY_EMULATOR_GRPC_HOST.name}
    return {address: setting for address, setting in addresses.items() if not _connects(address)}


def _connects(address: str) -> bool:
    host, _, port = address.removeprefix("http://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _credentials(environment: Mapping[str, str], configured: Emulator | None) -> Finding:
    """Check that Google's libraries find credentials. The finding tells their kind and file, and no secret in them."""
    if configured is not None:
        return Finding("credentials", OK, "none needed for an emulator")
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    key_file = GOOGLE_APPLICATION_CREDENTIALS.text(environment)
    if key_file and not Path(key_file).is_file():
        detail = f"GOOGLE_APPLICATION_CREDENTIALS is {key_file}, which does not exist"
        return Finding("credentials", PROBLEM, detail, f"correct the path, or unset it and run {LOGIN}")
    try:
        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    except GoogleAuthError as error:
        detail = f"{key_file} is not usable: {type(error).__name__}" if key_file else "Google's libraries find none"
        remedy = f"{LOGIN}, or set GOOGLE_APPLICATION_CREDENTIALS to a key file"
        return Finding("credentials", PROBLEM, detail, remedy)
    return Finding("credentials", OK, f"{_identity(credentials)}{f', from {key_file}' if key_file else ''}")


def _identity(credentials: Any) -> str:
    """Describe credentials by their kind and, if known, the address of the service account. Nothing is sent."""
    kind = type(credentials).__module__.removeprefix("google.").removesuffix(".credentials")
    email = getattr(credentials, "service_account_email", None)
    return f"{_CREDENTIALS.get(kind, kind)}{f', {email}' if email and '@' in email else ''}"


def _service(warehouse: BigQueryWarehouse, setting: str) -> Iterator[Finding]:
    """Check the project, the API, the dataset, its objects, and that the account may read and write."""
    clients = warehouse.clients
    try:
        project = clients.project
    except LedgerError:
        remedy = "use bigquery://PROJECT/DATASET, or set GOOGLE_CLOUD_PROJECT"
        yield Finding("project", PROBLEM, "not configured", remedy)
        return
    yield Finding("project", OK, project)
    name = warehouse.dataset.name
    url = f"bigquery://{project}/{name}"
    try:
        dataset = _dataset(warehouse)
    except LedgerError as error:
        yield Finding(
            "api", PROBLEM, str(error), _remedy(error, "check the project, and that its BigQuery API is enabled")
        )
        return
    yield Finding("api", OK, "BigQuery answers")
    if dataset is None:
        detail = f"{project}.{name} does not exist"
        yield Finding("dataset", PROBLEM, detail, f"check {setting}, or create it: {_creation(warehouse.dataset, url)}")
        return
    yield _location(warehouse.dataset, project, dataset.location)
    try:
        state = look(warehouse, dataset)
    except LedgerError as error:
        yield Finding("tables", PROBLEM, str(error), _remedy(error, f"grant {EDITOR}"))
        return
    init = f"ledger --url {url} init"
    yield from _objects(state, init)
    yield _reading(warehouse, state, init)
    if any(item.name == "session_events" for item in state.missing):
        return
    yield _writing(warehouse)
    yield _streaming(warehouse)
    yield _expiration(warehouse)


def _dataset(warehouse: BigQueryWarehouse) -> Any:
    """Look up the dataset in BigQuery, and return it, or None if it does not exist."""
    from ledger.warehouse.bigquery.clients import ONCE
    from ledger.warehouse.bigquery.errors import none_if_absent, once

    rest, name = warehouse.clients.rest, warehouse.dataset.name
    return once(
        "Looking up the dataset",
        lambda: none_if_absent(lambda: rest.get_dataset(name, retry=ONCE, timeout=SECONDS)),
    )


def _creation(dataset: Dataset, url: str) -> str:
    """Return the command that creates a dataset in the location of its URL; without one, how to choose it."""
    if dataset.location:
        return f"ledger --url {shlex.quote(f'{url}?location={dataset.location}')} init"
    return f"ledger --url {url} init (in the US; for elsewhere: --url '{url}?location=EU')"


def _location(dataset: Dataset, project: str, location: str | None) -> Finding:
    name = f"{project}.{dataset.name}"
    if location and dataset.location and location.upper() != dataset.location.upper():
        detail = f"{name} is in {location}, and the ledger's URL says location={dataset.location}"
        return Finding("dataset", PROBLEM, detail, f"use location={location}, or omit it")
    return Finding("dataset", OK, f"{name}, in {location}" if location else name)


def _objects(state: DatasetState, init: str) -> Iterator[Finding]:
    """Check that the dataset has all objects of the ledger, and that its views and functions are of this release."""
    from ledger.warehouse import catalog
    from ledger.warehouse.bigquery.tables import digest

    for kind in _KINDS:
        missing = _names(item for item in state.missing if item.kind == kind)
        if missing:
            yield Finding(f"{kind}s", PROBLEM, f"missing: {missing}", init)
        else:
            yield Finding(f"{kind}s", OK, _names(item for item in catalog.objects() if item.kind == kind))
    if state.missing:
        return
    if state.label == digest():
        yield Finding("release", OK, "views and functions are of this release")
    else:
        release = "are of another release" if state.label else "may be of another release: the dataset has no label"
        yield Finding("release", NOTE, f"views and functions {release}", f"update them: {init}")


def _names(items: Iterable[Any]) -> str:
    return ", ".join(item.name for item in items)


def _reading(warehouse: BigQueryWarehouse, state: DatasetState, init: str) -> Finding:
    if state.missing:
        return Finding("read", NOTE, "not checked, since objects are missing")
    try:
        try_views(warehouse)
    except LedgerError as error:
        return Finding("read", PROBLEM, str(error), _remedy(error, f"update views and functions: {init}"))
    return Finding("read", OK, "a dry run over the views succeeds")


def _writing(warehouse: BigQueryWarehouse) -> Finding:
    from google.api_core.exceptions import GoogleAPICallError

    from ledger.warehouse.bigquery.clients import ONCE

    clients = warehouse.clients
    table = f"{clients.project}.{warehouse.dataset.name}.session_events"
    try:
        answer = clients.rest.test_iam_permissions(table, PERMISSIONS, retry=ONCE, timeout=SECONDS)
    except (GoogleAPICallError, OSError) as error:
        from ledger.warehouse.bigquery.errors import message_of

        return Finding("write", NOTE, f"permissions cannot be checked: {message_of(error)}")
    lacking = [name for name in PERMISSIONS if name not in answer.get("permissions", ())]
    if lacking:
        return Finding("write", PROBLEM, f"not permitted: {', '.join(lacking)}", f"grant {EDITOR}")
    return Finding("write", OK, "permitted on session_events")


def _streaming(warehouse: BigQueryWarehouse) -> Finding:
    """Check that the write stream of session_events, to which appends are sent, can be reached over gRPC."""
    from ledger.warehouse.bigquery.clients import ONCE
    from ledger.warehouse.bigquery.errors import once

    name = "storage write"
    clients, dataset = warehouse.clients, warehouse.dataset
    if dataset.transport == "insertall":
        return Finding(name, OK, "not used: the ledger's URL says transport=insertall")
    path = f"projects/{clients.project}/datasets/{dataset.name}/tables/session_events/streams/_default"
    try:
        with clients.writing() as write:
            once("Reading the stream", lambda: write.get_write_stream(name=path, retry=ONCE, timeout=SECONDS))
    except LedgerError as error:
        if not error.retryable or _QUOTA.search(str(error)):
            return Finding(name, PROBLEM, str(error), _remedy(error, f"grant {EDITOR}"))
        remedy = (
            "allow gRPC to bigquerystorage.googleapis.com:443, or add transport=insertall to the ledger's URL"
            if clients.emulator is None
            else "check BIGQUERY_EMULATOR_GRPC_HOST"
        )
        return Finding(name, PROBLEM, str(error), remedy)
    return Finding(name, OK, "the stream of session_events answers over gRPC")


def _expiration(warehouse: BigQueryWarehouse) -> Finding:
    """Say how long BigQuery keeps the rows of a day."""
    try:
        expiration = warehouse.expiration()
    except LedgerError as error:
        return Finding("expiration", PROBLEM, str(error), _remedy(error, f"grant {EDITOR}"))
    if expiration.kept is None:
        return Finding("expiration", OK, "none: the table session_events keeps all rows")
    detail = f"the table session_events keeps the rows of a day for {expiration.days()}, then BigQuery drops them"
    return Finding("expiration", NOTE, detail, "sessions must end by then: see docs/bigquery.md")


def _remedy(error: LedgerError, default: str) -> str:
    """Return the remedy for an error.

    If a quota is exceeded, the remedy is to wait or to raise it. If the error is retryable otherwise, the remedy is to
    check the network. If the error's message already names a role or a
    command, the remedy is empty. For other errors it is ``default``.
    """
    if _QUOTA.search(str(error)):
        return "wait, or raise the quota: IAM & Admin, Quotas & System Limits in the console of Google Cloud"
    if error.retryable:
        return "check the network, and HTTPS_PROXY if you use a proxy; then try again"
    return "" if re.search(r"roles/|gcloud |`", str(error)) else default

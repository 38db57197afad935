"""What ``ledger doctor`` looks at where the ledger is in BigQuery. It reads, asks and dry-runs; it changes nothing."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.cli.commands.dataset import SECONDS, DatasetState, look, once, try_views
from ledger.cli.doctor.findings import NOTE, OK, PROBLEM, Finding
from ledger.errors import ConfigurationError, LedgerError
from ledger.settings import BIGQUERY_EMULATOR_GRPC_HOST, BIGQUERY_EMULATOR_HOST, GOOGLE_APPLICATION_CREDENTIALS
from ledger.warehouse.bigquery.settings import Dataset, Emulator, emulator

if TYPE_CHECKING:
    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

#: Seconds in which an address must take a connection.
CONNECT_SECONDS = 3.0
LOGIN = "gcloud auth application-default login"
EDITOR = "roles/bigquery.dataEditor on the dataset"
#: What appending needs of a table.
PERMISSIONS = ("bigquery.tables.getData", "bigquery.tables.updateData")
_WHOSE = {
    "oauth2": "a user's",
    "oauth2.service_account": "a service account's",
    "auth.compute_engine": "those of this machine",
}
_KINDS = ("table", "view", "function")


def examine(place: Dataset, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Everything there is to find about a dataset, in the order in which to mend it; it ends where nothing further can
    be asked."""
    try:
        known = emulator(environment)
    except ConfigurationError as error:
        yield Finding("emulator", PROBLEM, str(error), "set it to host:port, or unset it for the real service")
        return
    if known is not None:
        silent = _silent(known)
        yield _emulator(known, silent)
        if known.rest in silent:
            return
    elif BIGQUERY_EMULATOR_GRPC_HOST.text(environment):
        detail = "BIGQUERY_EMULATOR_GRPC_HOST is set without BIGQUERY_EMULATOR_HOST: the real service is used"
        yield Finding("emulator", NOTE, detail, "set BIGQUERY_EMULATOR_HOST as well, or unset both")
    credentials = _credentials(environment, known)
    yield credentials
    if credentials.status == PROBLEM:
        return

    from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse

    with closing(BigQueryWarehouse(place, environment=environment)) as warehouse:
        yield from _service(warehouse)


def _emulator(known: Emulator, silent: Mapping[str, str]) -> Finding:
    if silent:
        where = " or ".join(f"{address} ({setting})" for address, setting in silent.items())
        remedy = "start the emulator, mend the address, or unset both for the real service"
        return Finding("emulator", PROBLEM, f"nothing answers at {where}", remedy)
    return Finding("emulator", OK, f"REST {known.rest}, gRPC {known.grpc}")


def _silent(known: Emulator) -> dict[str, str]:
    """The addresses that take no connection, each with the setting that names it."""
    addresses = {known.rest: BIGQUERY_EMULATOR_HOST.name, known.grpc: BIGQUERY_EMULATOR_GRPC_HOST.name}
    return {address: setting for address, setting in addresses.items() if not _connects(address)}


def _connects(address: str) -> bool:
    host, _, port = address.removeprefix("http://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _credentials(environment: Mapping[str, str], known: Emulator | None) -> Finding:
    """Which credentials Google's libraries find: whose and where from, nothing of what is in them."""
    if known is not None:
        return Finding("credentials", OK, "an emulator needs none")
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    named = GOOGLE_APPLICATION_CREDENTIALS.text(environment)
    if named and not Path(named).is_file():
        detail = f"GOOGLE_APPLICATION_CREDENTIALS names {named}, which is not there"
        return Finding("credentials", PROBLEM, detail, f"mend the path, or unset it and run {LOGIN}")
    try:
        found, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    except GoogleAuthError as error:
        detail = f"{named} cannot be used: {type(error).__name__}" if named else "Google's libraries find none"
        remedy = f"{LOGIN}, or set GOOGLE_APPLICATION_CREDENTIALS to a key file"
        return Finding("credentials", PROBLEM, detail, remedy)
    return Finding("credentials", OK, f"{_whose(found)}{f', from {named}' if named else ''}")


def _whose(credentials: Any) -> str:
    """Who the credentials stand for, as far as they say without being used."""
    kind = type(credentials).__module__.removeprefix("google.").removesuffix(".credentials")
    email = getattr(credentials, "service_account_email", None)
    return f"{_WHOSE.get(kind, kind)}{f', {email}' if email and '@' in email else ''}"


def _service(warehouse: BigQueryWarehouse) -> Iterator[Finding]:
    """Project, API, dataset and what is in it."""
    clients, place = warehouse.clients, warehouse.dataset
    try:
        project = clients.project
    except LedgerError:
        remedy = "write bigquery://PROJECT/DATASET, or set GOOGLE_CLOUD_PROJECT"
        yield Finding("project", PROBLEM, "none is named", remedy)
        return
    yield Finding("project", OK, project)
    url = f"bigquery://{project}/{place.name}"
    try:
        dataset = _dataset(warehouse)
    except LedgerError as error:
        yield Finding(
            "api", PROBLEM, str(error), _remedy(error, "check the project, and that its BigQuery API is enabled")
        )
        return
    yield Finding("api", OK, "BigQuery answers")
    if dataset is None:
        detail = f"there is no dataset {project}.{place.name}"
        yield Finding("dataset", PROBLEM, detail, f"check LEDGER_URL, or make it: ledger --url {url} init")
        return
    yield _location(place, project, dataset.location)
    try:
        standing = look(warehouse, dataset)
    except LedgerError as error:
        yield Finding("tables", PROBLEM, str(error), _remedy(error, f"grant {EDITOR}"))
        return
    init = f"ledger --url {url} init"
    yield from _objects(standing, init)
    yield _reading(warehouse, standing, init)
    if any(item.name == "session_events" for item in standing.missing):
        return
    yield _writing(warehouse)
    yield _streaming(warehouse)


def _dataset(warehouse: BigQueryWarehouse) -> Any:
    """The dataset; None where there is none."""
    from google.api_core.exceptions import NotFound

    from ledger.warehouse.bigquery.clients import ONCE

    def get() -> Any:
        try:
            return warehouse.clients.rest.get_dataset(warehouse.dataset.name, retry=ONCE, timeout=SECONDS)
        except NotFound:
            return None

    return once("Looking up the dataset", get)


def _location(place: Dataset, project: str, location: str | None) -> Finding:
    name = f"{project}.{place.name}"
    if location and place.location and location.upper() != place.location.upper():
        detail = f"{name} is in {location}, and the ledger's URL says location={place.location}"
        return Finding("dataset", PROBLEM, detail, f"write location={location}, or leave it out")
    return Finding("dataset", OK, f"{name}, in {location}" if location else name)


def _objects(standing: DatasetState, init: str) -> Iterator[Finding]:
    """Whether everything is there, and made by this release."""
    from ledger.warehouse import catalog
    from ledger.warehouse.bigquery.tables import digest

    for kind in _KINDS:
        missing = _names(item for item in standing.missing if item.kind == kind)
        if missing:
            yield Finding(f"{kind}s", PROBLEM, f"missing: {missing}", init)
        else:
            yield Finding(f"{kind}s", OK, _names(item for item in catalog.objects() if item.kind == kind))
    if standing.missing:
        return
    if standing.label == digest():
        yield Finding("release", OK, "views and functions are this release's")
    else:
        said = "are another release's" if standing.label else "may be another release's: the dataset has no label"
        yield Finding("release", NOTE, f"views and functions {said}", f"bring them up to date: {init}")


def _names(items: Iterable[Any]) -> str:
    return ", ".join(item.name for item in items)


def _reading(warehouse: BigQueryWarehouse, standing: DatasetState, init: str) -> Finding:
    if standing.missing:
        return Finding("read", NOTE, "not asked, since objects are missing")
    try:
        try_views(warehouse)
    except LedgerError as error:
        return Finding("read", PROBLEM, str(error), _remedy(error, f"bring views and functions up to date: {init}"))
    return Finding("read", OK, "a dry run over the views resolves")


def _writing(warehouse: BigQueryWarehouse) -> Finding:
    from google.api_core.exceptions import GoogleAPICallError

    from ledger.warehouse.bigquery.clients import ONCE

    clients = warehouse.clients
    table = f"{clients.project}.{warehouse.dataset.name}.session_events"
    try:
        answer = clients.rest.test_iam_permissions(table, PERMISSIONS, retry=ONCE, timeout=SECONDS)
    except (GoogleAPICallError, OSError) as error:
        from ledger.warehouse.bigquery.errors import message_of

        return Finding("write", NOTE, f"permissions cannot be asked for here: {message_of(error)}")
    lacking = [name for name in PERMISSIONS if name not in answer.get("permissions", ())]
    if lacking:
        return Finding("write", PROBLEM, f"not permitted: {', '.join(lacking)}", f"grant {EDITOR}")
    return Finding("write", OK, "permitted on session_events")


def _streaming(warehouse: BigQueryWarehouse) -> Finding:
    """Whether the stream that appends go to can be seen over gRPC."""
    from ledger.warehouse.bigquery.clients import ONCE

    name = "storage write"
    clients, place = warehouse.clients, warehouse.dataset
    if place.transport == "insertall":
        return Finding(name, OK, "not used: the ledger's URL says transport=insertall")
    path = f"projects/{clients.project}/datasets/{place.name}/tables/session_events/streams/_default"
    try:
        once("The look at its stream", lambda: clients.write.get_write_stream(name=path, retry=ONCE, timeout=SECONDS))
    except LedgerError as error:
        if not error.retryable:
            return Finding(name, PROBLEM, str(error), _remedy(error, f"grant {EDITOR}"))
        remedy = (
            "let gRPC to bigquerystorage.googleapis.com:443 through, or add transport=insertall to the ledger's URL"
            if clients.emulator is None
            else "check BIGQUERY_EMULATOR_GRPC_HOST"
        )
        return Finding(name, PROBLEM, str(error), remedy)
    return Finding(name, OK, "the stream of session_events answers over gRPC")


def _remedy(error: LedgerError, otherwise: str) -> str:
    """What to do about an error, where its own words name no role and no command."""
    if error.retryable:
        return "check the network, and HTTPS_PROXY where there is a proxy; then try again"
    return "" if re.search(r"roles/|gcloud |`", str(error)) else otherwise

"""Google's clients for one dataset, created on first use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from requests.adapters import HTTPAdapter

from ledger import forking
from ledger.errors import ConfigurationError, LedgerError, StoreRejected
from ledger.extras import require_extra
from ledger.settings import GOOGLE_CLOUD_PROJECT
from ledger.warehouse.bigquery.channels import GrpcClients
from ledger.warehouse.bigquery.errors import Place
from ledger.warehouse.bigquery.settings import Dataset, emulator

if TYPE_CHECKING:
    from google.cloud import bigquery
    from google.cloud.bigquery_datatransfer import DataTransferServiceClient
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient, BigQueryWriteClient

#: Timeout of one REST request, in seconds. A statement may run longer, because BigQuery responds every ten seconds
#: while the statement runs.
ANSWER_SECONDS = 60.0
T = TypeVar("T")
#: Names of the attributes of ``Clients`` that the first use creates.
_CREATED = ("_credentials_and_project", "_rest")
#: The ``retry`` argument of every call to Google's clients. None disables their own retries; ``Jobs`` does that.
ONCE: Any = None


class Clients(forking.Renewed):
    """Google's REST and Storage clients for one dataset.

    The clients use Google's default credentials. For an emulator they use none. A forked child creates clients of its
    own, since the inherited REST connections are the parent's; see ``GrpcClients`` for the others.

    Args:
        dataset: The dataset. If its project is empty, the project is taken from the environment or the credentials.
        environment: Environment variables; None for those of this process.

    Raises:
        ConfigurationError: An emulator's address is malformed.
    """

    def __init__(self, dataset: Dataset, environment: Mapping[str, str] | None = None) -> None:
        self.dataset = dataset
        self.emulator = emulator(environment)
        self._environment = environment
        self._lock = threading.RLock()
        self._closed = False
        self._grpc = GrpcClients()
        self.forks = 0  # how many forks lie between the process that created this object and the present one
        forking.register(self, forking.Stage.WAREHOUSES)

    def renew(self) -> None:
        """Forget the inherited clients and credentials; they are not closed, since the parent uses their connections.

        A second call in the same child does no harm.
        """
        created = [self.__dict__.pop(name) for name in _CREATED if name in self.__dict__]
        if created:
            forking.keep(*created)
        self._lock = threading.RLock()
        self.forks += 1

    @property
    def project(self) -> str:
        """The project of the dataset.

        Raises:
            ConfigurationError: Neither the URL, the environment nor the credentials name a project.
        """
        return self.dataset.project or self._credentials_and_project[1]

    @property
    def place(self) -> Place:
        """The project and the dataset, for messages. A project that is not known yet is not looked up."""
        found = self.__dict__.get("_credentials_and_project", ("", ""))[1]
        return Place(self.dataset.project or found or "PROJECT", self.dataset.name)

    @property
    def rest(self) -> bigquery.Client:
        """The client for datasets, tables and queries."""
        return self._make(lambda: self._rest)

    def writing(self) -> AbstractContextManager[BigQueryWriteClient]:
        """Context manager that returns the client for the Storage Write API, for the calls of its block."""
        credentials = self._storage_credentials()
        return self._grpc.use("write", lambda: self._make(lambda: self._new_write(credentials)))

    def reading(self) -> AbstractContextManager[BigQueryReadClient]:
        """Context manager that returns the client for the Storage Read API, for the calls of its block."""
        credentials = self._storage_credentials()
        return self._grpc.use("read", lambda: self._make(lambda: self._new_read(credentials)))

    @contextmanager
    def transfers(self) -> Iterator[DataTransferServiceClient]:
        """Context manager that opens a client of the Data Transfer Service for its block.

        Raises:
            MissingExtra: The client is not installed.
            ConfigurationError: The dataset is one of an emulator, and none has the service.
        """
        require_extra("schedules")
        if self.emulator is not None:
            raise ConfigurationError(
                "An emulator has no scheduled queries. To bring the tables up to date, run `ledger refresh`."
            )
        from google.cloud.bigquery_datatransfer import DataTransferServiceClient

        credentials = self._storage_credentials()
        with self._make(lambda: DataTransferServiceClient(credentials=credentials)) as client:
            yield client

    def close(self) -> None:
        """Close all clients; a second call does nothing."""
        self._closed = True
        with self._lock:
            if "_rest" in self.__dict__:
                self._rest.close()
        self._grpc.close()

    def _make(self, make: Callable[[], T]) -> T:
        """Return the client that ``make`` returns.

        Raises:
            StoreRejected: These clients were closed.
            ConfigurationError: The client cannot be created with the present settings.
        """
        if self._closed:
            raise StoreRejected(f"{self.dataset.url} is closed; open it again.")
        with self._lock:
            try:
                return make()
            except LedgerError:
                raise
            except Exception as error:
                raise ConfigurationError(
                    f"Google's client cannot be created with these settings ({type(error).__name__}): check the "
                    "credentials, GOOGLE_CLOUD_UNIVERSE_DOMAIN and GOOGLE_API_USE_MTLS_ENDPOINT."
                ) from error

    def _storage_credentials(self) -> Any:
        """Return Google's credentials, or None for an emulator.

        They are looked up before a client is created, because that may take seconds, and a fork waits for a client
        that is being created.
        """
        return self._make(lambda: None if self.emulator else self._credentials_and_project[0])

    @cached_property
    def _credentials_and_project(self) -> tuple[Any, str]:
        """Google's credentials and the default project."""
        named = GOOGLE_CLOUD_PROJECT.text(self._environment)
        if self.emulator is not None:
            from google.auth.credentials import AnonymousCredentials

            credentials: Any = AnonymousCredentials()
            project = named
        else:
            import google.auth
            from google.auth.exceptions import GoogleAuthError

            try:
                credentials, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
            except Exception as error:
                # An error of another class comes from a malformed key file, and may quote its content.
                cause = error if isinstance(error, GoogleAuthError) else f"{type(error).__name__}."
                raise ConfigurationError(
                    f"No Google credentials were found: {cause} Run `gcloud auth application-default login`, or set "
                    "GOOGLE_APPLICATION_CREDENTIALS to a key file; for an emulator set BIGQUERY_EMULATOR_HOST."
                ) from error
            project = named or project
        if not self.dataset.project and not project:
            raise ConfigurationError(
                "No Google Cloud project is set: write bigquery://PROJECT/DATASET, or set GOOGLE_CLOUD_PROJECT."
            )
        return credentials, project or ""

    @cached_property
    def _rest(self) -> bigquery.Client:
        from google.cloud import bigquery

        options = {} if self.emulator is None else {"api_endpoint": self.emulator.rest}
        client = bigquery.Client(
            project=self.project,
            credentials=self._credentials_and_project[0],
            location=self.dataset.location,
            client_options=options,
            client_info=_client_info(),
        )
        for scheme in ("https://", "http://"):
            client._http.mount(scheme, _WithTimeout())
        return client

    def _new_write(self, credentials: Any) -> BigQueryWriteClient:
        from google.cloud.bigquery_storage_v1 import BigQueryWriteClient
        from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport

        if self.emulator is None:
            return BigQueryWriteClient(credentials=credentials)
        return BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=self._channel()))

    def _new_read(self, credentials: Any) -> BigQueryReadClient:
        from google.cloud.bigquery_storage_v1 import BigQueryReadClient
        from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

        if self.emulator is None:
            return BigQueryReadClient(credentials=credentials)
        return BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=self._channel()))

    def _channel(self) -> Any:
        """Return an unencrypted gRPC channel to the emulator. Like a channel to BigQuery, it has no size limit."""
        import grpc

        assert self.emulator is not None  # noqa: S101 - the callers have checked it
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        return grpc.insecure_channel(self.emulator.grpc, options=unlimited)


class _WithTimeout(HTTPAdapter):
    """An HTTP adapter with a default timeout, because Google's client has no timeout unless a call sets one."""

    def send(self, request: Any, stream: bool = False, timeout: Any = None, *args: Any, **kwargs: Any) -> Any:
        return super().send(request, stream, timeout or ANSWER_SECONDS, *args, **kwargs)


def _client_info() -> Any:
    """Return a user agent that names this package, as Google requires of libraries that use its clients."""
    from importlib import metadata

    from google.api_core.client_info import ClientInfo

    return ClientInfo(user_agent=f"session-ledger/{metadata.version('session-ledger')}")

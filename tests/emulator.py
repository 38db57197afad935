"""BigQuery in this process: REST and gRPC on random ports, served by local-bigquery over DuckDB.

Nothing here is imported before a test asks for the emulator: it loads FastAPI, DuckDB and the Google clients.

Where BIGQUERY_EMULATOR_HOST is set (and BIGQUERY_EMULATOR_GRPC_HOST for the Storage API), that one is used instead.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.cloud import bigquery
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient, BigQueryWriteClient

PROJECT = "ledger"
EXTENSIONS = ("icu", "ducklake", "spatial")


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running emulator; the clients live as long as it does."""

    rest: str  # http://host:port
    grpc: str  # host:port
    project: str
    client: bigquery.Client
    write: BigQueryWriteClient
    read: BigQueryReadClient


def extension_directory(root: Path) -> Path:
    """A DuckDB `extension_directory` that holds the extensions installed from PyPI; downloads nothing.

    Args:
        root: An empty folder to make it in; the files are linked, not copied.

    Raises:
        ModuleNotFoundError: An extension's package is not installed.
        FileNotFoundError: It is, but for another DuckDB release.
    """
    import duckdb

    with duckdb.connect() as connection:
        row = connection.execute("SELECT version()").fetchone()
        platform = connection.execute("PRAGMA platform").fetchone()
    assert row, "duckdb names its version"
    assert platform, "duckdb names its platform"
    folder = root / row[0] / platform[0]
    folder.mkdir(parents=True)
    for name in EXTENSIONS:
        package = importlib.import_module(f"duckdb_extension_{name}")
        file = Path(package.__path__[0]) / "extensions" / row[0] / f"{name}.duckdb_extension"
        (folder / file.name).symlink_to(file.resolve(strict=True))
    return root


class _OfflineDuckDB:
    """The duckdb module as the emulator sees it: every connection finds the extensions on disk, none is fetched.

    Only the emulator gets it, so that the product's own connections are tested as a user has them.
    """

    def __init__(self, extensions: Path) -> None:
        import duckdb

        self._duckdb = duckdb
        self._config = {"extension_directory": str(extensions), "autoinstall_known_extensions": "false"}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._duckdb, name)

    def connect(self, *args: Any, config: dict[str, str] | None = None, **kwargs: Any) -> Any:
        return self._duckdb.connect(*args, config=self._config | (config or {}), **kwargs)


def _lock_offsets() -> None:
    """Make the emulator's append atomic, as the service's is.

    It compares the offset, inserts and counts in three steps: two connections at one offset would both be accepted.
    """
    from local_bigquery.grpc import write

    append, lock = write._append, threading.Lock()

    def locked(stream: Any, rows: Any, offset: Any) -> Any:
        with lock:
            return append(stream, rows, offset)

    write._append = locked


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[tuple[str, str]]:
    """Run local-bigquery in this process, once per process; yields its REST URL and its gRPC address.

    Args:
        folder: An empty folder for its data.
    """
    from local_bigquery.engine import database
    from local_bigquery.settings import settings

    settings.data_dir = folder / "data"
    settings.default_project_id = PROJECT
    database.duckdb = _OfflineDuckDB(extension_directory(folder / "extensions"))

    import local_bigquery
    import uvicorn
    from local_bigquery.grpc import server

    _lock_offsets()
    storage, grpc_port = server.start("127.0.0.1", 0)
    # No websockets and no lifespan: the emulator has neither, and uvicorn warns about the former's library.
    config = uvicorn.Config(local_bigquery.app, port=0, log_level="warning", ws="none", lifespan="off")
    rest = uvicorn.Server(config)
    thread = threading.Thread(target=rest.run, name="bigquery-emulator", daemon=True)
    thread.start()
    while not rest.started and thread.is_alive():
        thread.join(0.01)
    if not thread.is_alive():
        raise RuntimeError("the BigQuery emulator did not start")
    try:
        port = rest.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc_port}"
    finally:
        rest.should_exit = True
        thread.join()
        storage.stop(None).wait()
        database.connection().close()


@contextlib.contextmanager
def connect(rest: str, grpc_address: str, project: str = PROJECT) -> Iterator[Emulator]:
    """Clients without credentials for an emulator that runs."""
    import grpc
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient, BigQueryWriteClient
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport
    from google.cloud.bigquery_storage_v1.services.big_query_write.transports import (
        BigQueryWriteGrpcTransport,
    )

    client = bigquery.Client(project=project, credentials=AnonymousCredentials(), client_options={"api_endpoint": rest})
    with contextlib.closing(client), grpc.insecure_channel(grpc_address) as channel:
        yield Emulator(
            rest=rest,
            grpc=grpc_address,
            project=project,
            client=client,
            write=BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=channel)),
            read=BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel)),
        )


@contextlib.contextmanager
def emulator(folder: Path) -> Iterator[Emulator]:
    """The emulator the environment names, else one of our own in `folder`."""
    if host := os.environ.get("BIGQUERY_EMULATOR_HOST"):
        rest = host if "://" in host else f"http://{host}"
        address = os.environ.get("BIGQUERY_EMULATOR_GRPC_HOST") or f"{rest.split('://')[1].split(':')[0]}:9060"
        with connect(rest, address) as running:
            yield running
        return
    with serve(folder) as (rest, address), connect(rest, address) as running:
        yield running

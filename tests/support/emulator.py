"""BigQuery in this process: REST and gRPC on random ports, served by local-bigquery over DuckDB as for `ledger demo`.

Nothing here is imported before a test asks for the emulator: it loads FastAPI, DuckDB and the Google clients.

Where BIGQUERY_EMULATOR_HOST is set (and BIGQUERY_EMULATOR_GRPC_HOST for the Storage API), that one is used instead.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.cloud import bigquery
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient, BigQueryWriteClient

PROJECT = "ledger"
#: The one that runs in this process.
_OURS: list[Emulator] = []
_FORGET: list[Callable[[], None]] = []


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running emulator, as strict as the service (`service.layer`); the clients live as long as it does.

    The three clients work behind the layer's back, as whoever sets up a test or looks at what it did.
    """

    rest: str  # http://host:port
    grpc: str  # host:port
    project: str
    client: bigquery.Client
    write: BigQueryWriteClient
    read: BigQueryReadClient
    bare: tuple[str, str] = ("", "")  # the two addresses behind the layer

    def behind(self) -> Emulator:
        """The emulator without the layer, for tests about the emulator itself."""
        return replace(self, rest=self.bare[0], grpc=self.bare[1])


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
    """The emulator the environment names, else one of our own in `folder`, behind the stricter layer."""
    from service.layer import service
    from service.stand_in import behaviours

    if host := os.environ.get("BIGQUERY_EMULATOR_HOST"):
        rest = host if "://" in host else f"http://{host}"
        address = os.environ.get("BIGQUERY_EMULATOR_GRPC_HOST") or f"{rest.split('://')[1].split(':')[0]}:9060"
        with connect(rest, address) as running, service(rest, address, behaviours()) as stricter:
            yield replace(running, rest=stricter.rest, grpc=stricter.grpc, bare=(running.rest, running.grpc))
        return
    from ledger.cli.demo.emulator import serve
    from support.emulator_catalog import keep_in_memory, like_needs_no_filter

    with (
        serve(folder) as (rest, address),
        connect(rest, address) as running,
        service(rest, address, behaviours()) as stricter,
    ):
        like_needs_no_filter()
        _FORGET.append(keep_in_memory())
        _OURS.append(running)
        yield replace(running, rest=stricter.rest, grpc=stricter.grpc, bare=(running.rest, running.grpc))
        _OURS.clear()
        _FORGET.clear()


def forget_answers() -> None:
    """Drop the answers that an emulator of our own has given.

    It keeps each as a table, and looks through all tables for every name: after some thousand answers it takes several
    times as long for the next.
    """
    if not _OURS:
        return
    from local_bigquery.engine import database

    for (table,) in database.fetch("SELECT table_name FROM duckdb_tables() WHERE schema_name = '_results'"):
        database.execute(f"DROP TABLE IF EXISTS emulator._results.{database.quote(table)}")
    database.execute("DELETE FROM emulator.jobs")
    for forget in _FORGET:
        forget()

"""BigQuery's emulator for as long as it is needed: local-bigquery, over DuckDB's extensions as PyPI carries them.

``python -m ledger.cli.demo.emulator FOLDER`` serves until standard input ends, as it does when its starter ends.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ledger.errors import MissingExtra, StoreUnavailable
from ledger.settings import BIGQUERY_EMULATOR_GRPC_HOST, BIGQUERY_EMULATOR_HOST
from ledger.warehouse.bigquery.settings import Emulator

#: The project that the emulator begins with.
PROJECT = "ledger"
EXTENSIONS = ("icu", "ducklake", "spatial")
_PACKAGES = ("local-bigquery", *(f"duckdb-extension-{name}" for name in EXTENSIONS))


@contextmanager
def named() -> Iterator[None]:
    """The environment names an emulator: the one it named before, else one that runs for as long as this is entered.

    Raises:
        MissingExtra, StoreUnavailable: As for ``running``.
    """
    if BIGQUERY_EMULATOR_HOST.text():
        yield
        return
    with running() as found:
        rest, grpc = BIGQUERY_EMULATOR_HOST.name, BIGQUERY_EMULATOR_GRPC_HOST.name
        before = os.environ.pop(grpc, None)
        os.environ |= {rest: found.rest, grpc: found.grpc}
        try:
            yield
        finally:
            del os.environ[rest], os.environ[grpc]
            if before is not None:
                os.environ[grpc] = before


@contextmanager
def running() -> Iterator[Emulator]:
    """An empty emulator in a process of its own, which is gone afterwards with all that it held.

    Raises:
        MissingExtra: It is not installed; the message says how to.
        StoreUnavailable: It did not start.
    """
    extension_files()
    with tempfile.TemporaryDirectory(prefix="ledger-emulator-") as folder:
        said = Path(folder) / "said"
        program = [sys.executable, "-P", "-m", "ledger.cli.demo.emulator", folder]
        with (
            open(said, "wb") as errors,
            subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as child,  # noqa: S603 - this very program
        ):
            try:
                first = child.stdout.readline().decode() if child.stdout else ""
                addresses = first.split()
                if len(addresses) != 2:
                    last = said.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
                    raise StoreUnavailable(f"BigQuery's emulator did not start: {last[0]}")
                yield Emulator(*addresses)
            finally:
                _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.stdin is not None:
        child.stdin.close()
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()


def extension_files() -> tuple[str, list[Path]]:
    """Where DuckDB looks for extensions within its ``extension_directory``, and the files that belong there.

    Raises:
        MissingExtra: A package of the emulator is missing, or is for another DuckDB; the message says what to install.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name.replace("-", "_")) is None]
    if missing:
        raise MissingExtra(
            f"BigQuery's emulator needs Python 3.13 or later and {', '.join(missing)}: pip install "
            f"{' '.join(_PACKAGES)}. Or start one elsewhere, and set BIGQUERY_EMULATOR_HOST to its host:port."
        )
    import duckdb

    with duckdb.connect() as connection:
        row = connection.execute("SELECT version(), (SELECT platform FROM pragma_platform())").fetchone()
    version, platform = ("", "") if row is None else row
    files = []
    for name in EXTENSIONS:
        package = importlib.import_module(f"duckdb_extension_{name}")
        file = Path(package.__path__[0]) / "extensions" / version / f"{name}.duckdb_extension"
        if not file.exists():
            raise MissingExtra(
                f"duckdb-extension-{name} is not for DuckDB {version}, which is installed: pip install {_pins()}."
            )
        files.append(file.resolve())
    return f"{version}/{platform}", files


def _pins() -> str:
    """DuckDB and its extensions in one version: that of the extensions, since PyPI carries few."""
    from importlib import metadata

    version = metadata.version(f"duckdb-extension-{EXTENSIONS[0]}")
    return " ".join(f"'{name}=={version}'" for name in ("duckdb", *_PACKAGES[1:]))


class _OfflineDuckDB:
    """The duckdb module as the emulator sees it: every connection finds the extensions on disk, none is fetched.

    Only the emulator gets it, so that connections of others in the process stay as they are.
    """

    def __init__(self, extensions: Path) -> None:
        import duckdb

        self._duckdb: Any = duckdb
        self._config = {
            "extension_directory": str(extensions),
            "autoinstall_known_extensions": "false",
            "threads": "1",  # for its few rows a second thread costs more than it brings
        }

    def __getattr__(self, name: str) -> Any:
        return getattr(self._duckdb, name)

    def connect(self, *args: Any, config: dict[str, str] | None = None, **kwargs: Any) -> Any:
        return self._duckdb.connect(*args, config=self._config | (config or {}), **kwargs)


class _AsLargeAsTheService:
    """The grpc module as the emulator sees it: its server takes requests of 10 MB as the service does, not of 4 MB."""

    def __getattr__(self, name: str) -> Any:
        import grpc

        return getattr(grpc, name)

    def server(self, pool: Any) -> Any:
        import grpc

        return grpc.server(pool, options=[("grpc.max_receive_message_length", 10 * 2**20)])


def _lock_streams() -> None:
    """Make appending and finalizing atomic, as they are in the service.

    The emulator compares the offset, inserts and counts in three steps: two connections at one offset would both be
    accepted, and a stream could be finalized, and its rows counted, while some are on their way in.
    """
    from google.cloud.bigquery_storage_v1 import types
    from local_bigquery.grpc import server, write

    append, finalize, lock = write._append, write.finalize, threading.Lock()

    def locked_append(stream: Any, rows: Any, offset: Any) -> Any:
        with lock:
            return append(stream, rows, offset)

    def locked_finalize(request: Any) -> Any:
        with lock:
            return finalize(request)

    write._append = locked_append
    # The table of methods was filled when its module was loaded.
    server.SERVICES["google.cloud.bigquery.storage.v1.BigQueryWrite"]["FinalizeWriteStream"] = server._unary(
        locked_finalize, types.FinalizeWriteStreamRequest, types.FinalizeWriteStreamResponse
    )


@contextmanager
def serve(folder: Path) -> Iterator[tuple[str, str]]:
    """Run the emulator in this process, once per process; yields its REST URL and its gRPC address.

    Args:
        folder: An empty folder for its data.

    Raises:
        MissingExtra: It is not installed.
        StoreUnavailable: It did not start.
    """
    place, files = extension_files()
    extensions = folder / "extensions"
    (extensions / place).mkdir(parents=True)
    for file in files:
        (extensions / place / file.name).symlink_to(file)

    from local_bigquery.engine import database
    from local_bigquery.settings import settings

    settings.data_dir = folder / "data"
    settings.default_project_id = PROJECT
    database.duckdb = _OfflineDuckDB(extensions)

    import local_bigquery
    import uvicorn
    from local_bigquery.grpc import server

    _lock_streams()
    server.grpc = _AsLargeAsTheService()
    storage, grpc_port = server.start("127.0.0.1", 0)
    # No websockets and no lifespan: the emulator has neither, and uvicorn warns about the former's library.
    config = uvicorn.Config(local_bigquery.app, port=0, log_level="warning", ws="none", lifespan="off")
    rest = uvicorn.Server(config)
    thread = threading.Thread(target=rest.run, name="bigquery-emulator", daemon=True)
    thread.start()
    while not rest.started and thread.is_alive():
        thread.join(0.01)
    if not thread.is_alive():
        raise StoreUnavailable("BigQuery's emulator did not start.")
    try:
        port = rest.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc_port}"
    finally:
        rest.should_exit = True
        thread.join()
        storage.stop(None).wait()
        database.connection().close()


if __name__ == "__main__":
    with serve(Path(sys.argv[1])) as addresses:
        print(*addresses, flush=True)
        sys.stdin.read()

"""Start and stop an emulator of BigQuery.

The emulator is the package local-bigquery. The extensions of DuckDB that it needs come from packages on PyPI.

``python -m ledger.cli.demo.emulator FOLDER`` runs the emulator until the standard input is closed. The emulator
therefore ends when its parent process ends.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ledger.errors import MissingExtra, StoreUnavailable
from ledger.settings import BIGQUERY_EMULATOR_GRPC_HOST, BIGQUERY_EMULATOR_HOST
from ledger.warehouse.bigquery.settings import Emulator

#: Default project of the emulator.
PROJECT = "ledger"
EXTENSIONS = ("icu", "ducklake", "spatial")
_PACKAGES = ("local-bigquery", *(f"duckdb-extension-{name}" for name in EXTENSIONS))
#: The versions that work together. PyPI has the extensions for a few versions of DuckDB only.
LOCAL_BIGQUERY, DUCKDB = "0.3.2", "1.5.5"
#: What to do where packages are missing or another DuckDB is installed.
OWN_ENVIRONMENT = (
    f"It runs on DuckDB {DUCKDB}, so give it an environment of its own, in the checkout: "
    f"python3.13 -m venv emulator && emulator/bin/pip install '.[bigquery]' local-bigquery=={LOCAL_BIGQUERY} "
    f"duckdb=={DUCKDB} "
    f"{' '.join(f'duckdb-extension-{name}=={DUCKDB}' for name in EXTENSIONS)}; then type: emulator/bin/ledger emulator."
)
#: Macro that replaces the emulator's PARSE_JSON. With the mode ``round``, the emulator makes each positive whole number
#: a FLOAT64; BigQuery keeps those that a UINT64 holds.
_PARSE_JSON = """
CREATE OR REPLACE MACRO bq.main.parse_json(s) AS bq.main._parse_json_exact(s),
(s, mode) AS CASE
  WHEN lower(mode) = 'exact' THEN bq.main._parse_json_exact(s)
  WHEN json_type(json(s)) IN ('DOUBLE', 'HUGEINT') THEN to_json(CAST(json(s) AS DOUBLE))
  ELSE json(s)
END
"""


@contextmanager
def configured() -> Iterator[None]:
    """Make sure that BIGQUERY_EMULATOR_HOST is set in the block of a ``with`` statement.

    If the variable has a value, nothing is changed. Otherwise an emulator is started, and its addresses are set in the
    environment. At the end of the block the emulator is stopped, and the environment is restored.

    Raises:
        MissingExtra, StoreUnavailable: As for ``running``.
    """
    if BIGQUERY_EMULATOR_HOST.text():
        yield
        return
    with running() as emulator:
        rest, grpc = BIGQUERY_EMULATOR_HOST.name, BIGQUERY_EMULATOR_GRPC_HOST.name
        before = os.environ.pop(grpc, None)
        os.environ |= {rest: emulator.rest, grpc: emulator.grpc}
        try:
            yield
        finally:
            del os.environ[rest], os.environ[grpc]
            if before is not None:
                os.environ[grpc] = before


@contextmanager
def running() -> Iterator[Emulator]:
    """Run an empty emulator in a child process for the block of a ``with`` statement, and yield its addresses.

    At the end of the block the emulator is stopped, and its data is deleted.

    Raises:
        MissingExtra: The emulator is not installed; the message says how to install it.
        StoreUnavailable: The emulator did not start.
    """
    extension_files()
    with tempfile.TemporaryDirectory(prefix="ledger-emulator-") as folder:
        stderr = Path(folder) / "stderr"
        program = [sys.executable, "-P", "-m", "ledger.cli.demo.emulator", folder]
        with (
            open(stderr, "wb") as errors,
            subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as child,  # noqa: S603 - this module
        ):
            try:
                first_line = child.stdout.readline().decode() if child.stdout else ""
                addresses = first_line.split()
                if len(addresses) != 2:
                    last_line = stderr.read_text(errors="replace").strip().splitlines()[-1:] or ["no error message"]
                    raise StoreUnavailable(f"BigQuery's emulator did not start: {last_line[0]}")
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
    """Return the folder where DuckDB looks for extensions, and the extension files of the installed packages.

    The folder is a relative path, which DuckDB appends to its setting ``extension_directory``.

    Raises:
        MissingExtra: A package of the emulator is missing, or does not support the installed DuckDB. The message says
            what to install, and that an environment of its own spares the others the older DuckDB.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name.replace("-", "_")) is None]
    if missing:
        raise MissingExtra(
            f"BigQuery's emulator needs Python 3.13 or later and {', '.join(missing)}. {OWN_ENVIRONMENT} Or set "
            "BIGQUERY_EMULATOR_HOST to the host:port of a running emulator."
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
            raise MissingExtra(f"duckdb-extension-{name} is not for the installed DuckDB {version}. {OWN_ENVIRONMENT}")
        files.append(file.resolve())
    return f"{version}/{platform}", files


class _OfflineDuckDB:
    """A proxy of the duckdb module. Its connections load extensions from disk, and download none.

    Only the emulator uses it; other connections of the process are not affected.
    """

    def __init__(self, extensions: Path) -> None:
        import duckdb

        self._duckdb: Any = duckdb
        self._config = {
            "extension_directory": str(extensions),
            "autoinstall_known_extensions": "false",
            "threads": "1",  # a second thread costs more than it gains on few rows
        }

    def __getattr__(self, name: str) -> Any:
        return getattr(self._duckdb, name)

    def connect(self, *args: Any, config: dict[str, str] | None = None, **kwargs: Any) -> Any:
        return self._duckdb.connect(*args, config=self._config | (config or {}), **kwargs)


class _LargeMessageGrpc:
    """A proxy of the grpc module. Its server accepts requests of up to 10 MB, as BigQuery does, instead of 4 MB."""

    def __getattr__(self, name: str) -> Any:
        import grpc

        return getattr(grpc, name)

    def server(self, pool: Any) -> Any:
        import grpc

        return grpc.server(pool, options=[("grpc.max_receive_message_length", 10 * 2**20)])


def _lock_streams() -> None:
    """Change the emulator's code so that only one thread at a time appends to a stream or finalizes a stream.

    An append compares the offset, inserts the rows and counts them in three steps. Without a lock, the emulator would
    accept two appends at the same offset. It could also finalize a stream in the middle of an append, and return a
    wrong number of rows.
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
    # SERVICES holds the original function, so the function is replaced there too.
    server.SERVICES["google.cloud.bigquery.storage.v1.BigQueryWrite"]["FinalizeWriteStream"] = server._unary(
        locked_finalize, types.FinalizeWriteStreamRequest, types.FinalizeWriteStreamResponse
    )


def _check_free(port: int) -> None:
    """Raise StoreUnavailable if a port is in use. gRPC would share it with the program that uses it."""
    with closing(socket.socket()) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError as error:
            raise StoreUnavailable(
                f"BigQuery's emulator cannot listen on port {port}: {error.strerror}. Choose other ports (--port, "
                "--grpc-port), or 0 for any."
            ) from error


def _open(database: Any) -> None:
    """Open the emulator's database, with the macro of this module.

    Raises:
        StoreUnavailable: Another emulator has it open, or the folder cannot be used.
    """
    import duckdb

    try:
        database.connection().execute(_PARSE_JSON)
    except (duckdb.Error, OSError) as error:
        raise StoreUnavailable(f"BigQuery's emulator did not start: {str(error).splitlines()[0]}") from error


@contextmanager
def serve(folder: Path, *, data: Path | None = None, port: int = 0, grpc_port: int = 0) -> Iterator[tuple[str, str]]:
    """Run the emulator in this process for the block of a ``with`` statement. Yield its REST URL and gRPC address.

    A process can run the emulator only once.

    Args:
        folder: An empty folder for the emulator's files.
        data: Folder of the emulator's data, which may have that of an earlier run; None for a part of ``folder``.
        port, grpc_port: Ports to listen on, on this machine only; 0 for any.

    Raises:
        MissingExtra: The emulator is not installed.
        StoreUnavailable: The emulator did not start. A port may be in use, or another emulator may use ``data``.
    """
    subfolder, files = extension_files()
    for wanted in (port, grpc_port):
        _check_free(wanted)
    extensions = folder / "extensions"
    (extensions / subfolder).mkdir(parents=True)
    for file in files:
        (extensions / subfolder / file.name).symlink_to(file)

    from local_bigquery.engine import database
    from local_bigquery.settings import settings

    settings.data_dir = folder / "data" if data is None else data.absolute()
    settings.default_project_id = PROJECT
    database.duckdb = _OfflineDuckDB(extensions)

    import local_bigquery
    import uvicorn
    from local_bigquery.grpc import server

    _lock_streams()
    _open(database)
    server.grpc = _LargeMessageGrpc()
    storage, grpc_port = server.start("127.0.0.1", grpc_port)
    # The emulator uses neither websockets nor lifespan, and uvicorn's websockets support emits warnings.
    config = uvicorn.Config(local_bigquery.app, port=port, log_level="warning", ws="none", lifespan="off")
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
        thread.join(10)
        storage.stop(None).wait(10)
        database.connection().close()


if __name__ == "__main__":
    with serve(Path(sys.argv[1])) as addresses:
        print(*addresses, flush=True)
        sys.stdin.read()

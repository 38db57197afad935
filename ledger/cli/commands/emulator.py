"""``ledger emulator``: run an emulator of BigQuery until a signal arrives."""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from ledger.cli.app import command
from ledger.cli.output.progress import progress
from ledger.cli.output.shapes import print_json
from ledger.extras import require_extra
from ledger.settings import BIGQUERY_EMULATOR_GRPC_HOST, BIGQUERY_EMULATOR_HOST
from ledger.warehouse.bigquery.settings import EMULATOR_GRPC_PORT

COMMANDS: dict[str, click.Command] = {}
#: Default port of the REST interface, as of the emulator in ``docker-compose.emulator.yml``.
REST_PORT = 9050
_PORT = click.IntRange(0, 65_535)


@command(
    "emulator", "ledger emulator", "ledger emulator --data emulator-data --port 9150 --grpc-port 9160", into=COMMANDS
)
@click.option("--port", type=_PORT, default=REST_PORT, show_default=True, help="Port of the REST interface; 0 for any.")
@click.option(
    "--grpc-port", type=_PORT, default=EMULATOR_GRPC_PORT, show_default=True, help="Port of the Storage API; 0 for any."
)
@click.option(
    "--data",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the data in this folder. Without it the data is deleted at the end.",
)
def emulator(as_json: bool, url: str | None, port: int, grpc_port: int, data: Path | None) -> None:
    """Run an emulator of BigQuery until Ctrl-C or SIGTERM.

    It prints two `export` lines. Paste them in another terminal, and commands there use the emulator. It listens on
    this machine only. It needs Python 3.13 and the one version of DuckDB that its extensions are for, so give it an
    environment of its own if yours has a newer DuckDB; the error says how.
    """
    require_extra("bigquery")
    from ledger.cli.demo.emulator import PROJECT, serve

    stop = threading.Event()
    with _signals(stop), tempfile.TemporaryDirectory(prefix="ledger-emulator-") as folder, ExitStack() as stack:
        with progress("Starting BigQuery's emulator"):
            rest, grpc = stack.enter_context(serve(Path(folder), data=data, port=port, grpc_port=grpc_port))
        exports = {BIGQUERY_EMULATOR_HOST.name: rest.removeprefix("http://"), BIGQUERY_EMULATOR_GRPC_HOST.name: grpc}
        if as_json:
            print_json(exports)
        else:
            for name, value in exports.items():
                click.echo(f"export {name}={value}")
            kept = "are deleted at the end" if data is None else f"stay in {data}"
            click.echo(
                f"The emulator runs until Ctrl-C; its tables {kept}. In another terminal, after the two lines above: "
                f"ledger --url bigquery://{PROJECT}/agents init",
                err=True,
            )
        sys.stdout.flush()
        stop.wait()


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Context manager in whose block the signals that end a process set ``stop`` instead."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""``ledger seal`` and ``ledger seals``: seal the ledger, and list its seals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger.cli.app import command, opened
from ledger.cli.commands.relay import with_warehouse
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import counted, safe
from ledger.model.instants import to_text

if TYPE_CHECKING:
    from ledger.model.seals import Seal
    from ledger.sdk.ledger import SessionLedger

COMMANDS: dict[str, click.Command] = {}


@command(
    "seal",
    "ledger seal --output /mnt/worm/ledger-2026-11-30.seal",
    "ledger seal --command 'mail -s ledger auditor@example.com'",
    into=COMMANDS,
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the seal and its leaves to this new file, which `ledger verify --against` reads.",
)
@click.option(
    "--command",
    "program",
    metavar="COMMAND",
    help="Also run this program with the seal as one line of JSON on its standard input. No shell runs.",
)
@with_warehouse
def seal(as_json: bool, url: str | None, output: Path | None, program: str | None, warehouse: str | None) -> None:
    """Seal the ledger: record a Merkle root over the heads of all sessions. Run this periodically, for example by cron.

    `ledger verify --against` later finds each sealed session that was rewritten, shortened or removed. The seal is
    recorded in the ledger and in the warehouse. Whoever can write to the ledger's file can change the seals in it. So
    keep a copy elsewhere: with --output, with --command or in the warehouse.
    """
    with witnessed(url, warehouse) as ledger:
        made = ledger.seal(output=output, command=program)
    if as_json:
        print_json(made.as_json())
    else:
        click.echo(f"Sealed {_size(made)}: {made.root} (seal {made.seal_id}).")


@command("seals", "ledger seals", into=COMMANDS)
def seals(as_json: bool, url: str | None) -> None:
    """List the seals that are recorded in the ledger, oldest first."""
    with opened(url) as ledger:
        found = ledger.seals()
    if as_json:
        print_json({"seals": [each.as_json() for each in found]})
        return
    for each in found:
        click.echo(safe(f"{to_text(each.made_at)}  {each.seal_id}  {each.root}  {_size(each)}"))
    if not found:
        click.echo("There are no seals; make one with: ledger seal")


def _size(seal: Seal) -> str:
    return f"{counted(seal.sessions, 'session')} with {counted(seal.events, 'event')}"


@contextmanager
def witnessed(url: str | None, warehouse: str | None) -> Iterator[SessionLedger]:
    """Open the ledger at ``url`` for the block of a ``with`` statement, with the warehouse attached if there is one.

    The warehouse is the one at the URL ``warehouse`` or, by default, the DuckDB file of the ledger. If there is no such
    file, or if the ledger is in BigQuery, no warehouse is attached.
    """
    from ledger.sdk.ledger import SessionLedger
    from ledger.sdk.queries import warehouse_path
    from ledger.warehouse.urls import duckdb_url

    with opened(url) as ledger:
        if warehouse is None and ledger.store.capabilities.outbox and (path := warehouse_path(ledger)).exists():
            warehouse = duckdb_url(path)
        if warehouse is None or not ledger.store.capabilities.outbox:
            yield ledger
            return
    with SessionLedger.open(url, create=False, warehouse=warehouse, relay="off") as ledger:
        yield ledger

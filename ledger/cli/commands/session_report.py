"""The command that writes one session as an HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from ledger.cli.app import command, opened
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import safe
from ledger.cli.session_ids import SESSION

COMMANDS: dict[str, click.Command] = {}


@command(
    "report",
    "ledger report --session SESSION_ID --out session.html",
    "ledger report --session @ --out newest.html",
    into=COMMANDS,
)
@click.option("--session", "session_id", type=SESSION, required=True, metavar="SESSION_ID", help="The session.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    required=True,
    help="HTML file to write. It is replaced once it is complete. Only its owner may read a new file.",
)
def report(as_json: bool, url: str | None, session_id: str, out: Path) -> None:
    """Write a session as one HTML page to send and to keep.

    It has the conversation with tool calls and results, errors, model calls with cost, and each version. It loads
    nothing from elsewhere and runs no script. What is left out of a long session is told on it.
    """
    write_session_page(url, session_id, out, as_json)


def write_session_page(url: str | None, session_id: str, out: Path, as_json: bool) -> None:
    """Write the page of a session to a file, and print where it is."""
    from ledger.analytics.session_page import session_page
    from ledger.files import whole_file
    from ledger.settings import LEDGER_WAREHOUSE
    from ledger.tiers.opening import check_output

    with opened(url) as ledger:
        check_output(ledger.store, out, LEDGER_WAREHOUSE.text())
        content = session_page(ledger, session_id).encode()
        with whole_file(out, private=True) as file:
            file.write(content)
    if as_json:
        print_json({"file": str(out), "session_id": session_id, "bytes": len(content)})
    else:
        click.echo(f"{safe(str(out))}: session {safe(session_id)}, {len(content):,} bytes.", err=True)

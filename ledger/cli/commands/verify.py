"""``ledger verify``: check that stored sessions are what was recorded, and rebuild what is derived from events."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.app import command, opened
from ledger.cli.exits import FINDINGS
from ledger.cli.output.progress import progress
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import safe

if TYPE_CHECKING:
    from ledger.model.findings import Finding, Verification

COMMANDS: dict[str, click.Command] = {}


@command(
    "verify",
    "ledger verify",
    "ledger verify SESSION_ID --json",
    "ledger verify --rebuild",
    into=COMMANDS,
)
@click.argument("session_ids", nargs=-1, metavar="[SESSION_ID]...")
@click.option("--rebuild", is_flag=True, help="Compute states, heads and the search index again where they are wrong.")
def verify(as_json: bool, url: str | None, session_ids: tuple[str, ...], rebuild: bool) -> None:
    """Verify that sessions are what was recorded: all of them, or those given.

    Events are checked against the hash chain of their session; states, heads and the search index against the events.
    Without a SESSION_ID, the file and the position of each relay are checked too. Writers need not stop. The exit code
    is 15 if anything is left that is wrong.

    --rebuild computes again what is derived from events, and never changes an event. A session whose events are not
    what was recorded is left as it is.
    """
    with opened(url) as ledger:
        rows = None if session_ids or not ledger.store.capabilities.commit_order else ledger.store.last_seq()
        with progress("Verifying rows", rows) as advance:
            result = ledger.verify(*session_ids, rebuild=rebuild, progress=advance)
    if as_json:
        print_json(document(result))
    else:
        _print(result)
    if not result.clean:
        raise click.exceptions.Exit(FINDINGS)


def document(result: Verification) -> dict[str, Any]:
    """Return the result of a verification as a JSON object."""
    mended = set(result.mended)
    return {
        "clean": result.clean,
        "sessions": result.sessions,
        "events": result.events,
        "unchained_events": result.unchained,
        "archived_sessions": result.archived,
        "findings": [asdict(finding) | {"mended": finding in mended} for finding in result.findings],
        "omitted": result.omitted,
    }


def _print(result: Verification) -> None:
    """Print a line per finding, and a summary."""
    mended = set(result.mended)
    for finding in result.findings:
        click.echo(safe(_line(finding, finding in mended)))
    parts = [f"{_count(result.sessions, 'session')} and {_count(result.events, 'event')} verified: {_verdict(result)}."]
    if result.unchained:
        parts.append(f"{_count(result.unchained, 'event')} without hashes, from writers that keep no chain.")
    if result.archived:
        parts.append(f"{_count(result.archived, 'archived session')} only in a warehouse; see `ledger reconcile`.")
    click.echo(" ".join(parts))
    if any(finding.mendable for finding in result.left):
        click.echo("Mend states, heads and the search index with: ledger verify --rebuild")


def _line(finding: Finding, mended: bool) -> str:
    where = finding.session_id or "The file"
    if finding.version is not None:
        where += f", version {finding.version}"
    return f"{where}: {finding.message} ({finding.code}{'; mended' if mended else ''})"


def _verdict(result: Verification) -> str:
    number = len(result.findings) + result.omitted
    if not number:
        return "nothing differs from what was recorded"
    mended = f", {len(result.mended):,} mended" if result.mended else ""
    return f"{_count(number, 'finding')}{mended}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

"""``ledger verify``: check that stored sessions are what was recorded, and rebuild what is derived from events."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.app import command, opened
from ledger.cli.commands.relay import with_warehouse
from ledger.cli.commands.seals import witnessed
from ledger.cli.exits import FINDINGS
from ledger.cli.output.progress import progress
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import counted, safe
from ledger.model.instants import to_text

if TYPE_CHECKING:
    from ledger.model.findings import Finding, Verification
    from ledger.model.seals import SealComparison

from ledger.cli.session_ids import SESSION

COMMANDS: dict[str, click.Command] = {}


@command(
    "verify",
    "ledger verify",
    "ledger verify SESSION_ID --json",
    "ledger verify --rebuild",
    "ledger verify --against /mnt/worm/ledger.seal",
    into=COMMANDS,
)
@click.argument("session_ids", nargs=-1, type=SESSION, metavar="[SESSION_ID]...")
@click.option("--rebuild", is_flag=True, help="Compute states, heads and the search index again where they are wrong.")
@click.option(
    "--against",
    metavar="SEAL",
    help="Also compare the sessions with a seal: a file of `ledger seal --output`, latest, warehouse:latest, an id, a "
    "root.",
)
@with_warehouse
def verify(
    as_json: bool,
    url: str | None,
    session_ids: tuple[str, ...],
    rebuild: bool,
    against: str | None,
    warehouse: str | None,
) -> None:
    """Verify that sessions are what was recorded: all of them, or those given.

    Events are checked against the hash chain of their session. States, heads and the search index are checked against
    the events. Without a SESSION_ID, the file and the position of each relay are checked too. Writers need not stop.
    The exit code is 15 if something is wrong and was not repaired.

    --rebuild computes states, heads and the search index again from the events, and never changes an event. A session
    whose events were changed is left as it is.

    --against compares the sessions with an earlier seal. Only a seal can show that a history was rewritten together
    with all of its hashes, or that a session or its last events were removed. The warehouse is read for seals that are
    named `warehouse:...`, and for archived sessions.
    """
    with opened(url) if against is None else witnessed(url, warehouse) as ledger:
        rows = None if session_ids or not ledger.store.capabilities.commit_order else ledger.store.last_seq()
        with progress("Verifying rows", rows) as advance:
            result = ledger.verify(*session_ids, against=against, rebuild=rebuild, progress=advance)
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
        "against": None if result.against is None else _against(result.against),
    }


def _against(against: SealComparison) -> dict[str, Any]:
    return asdict(against) | {"seal": None if against.seal is None else against.seal.as_json()}


def _print(result: Verification) -> None:
    """Print a line per finding, and a summary."""
    mended = set(result.mended)
    for finding in result.findings:
        click.echo(safe(_line(finding, finding in mended)))
    parts = [
        f"{counted(result.sessions, 'session')} and {counted(result.events, 'event')} verified: {_verdict(result)}."
    ]
    if result.unchained:
        parts.append(f"{counted(result.unchained, 'event')} without hashes, from writers that keep no chain.")
    if result.archived:
        parts.append(f"{counted(result.archived, 'archived session')} only in a warehouse; see `ledger reconcile`.")
    click.echo(" ".join(parts))
    if result.against is not None:
        _print_against(result.against)
    if any(finding.mendable for finding in result.left):
        click.echo("Mend states, heads and the search index with: ledger verify --rebuild")


def _print_against(against: SealComparison) -> None:
    if against.seal is None:
        return
    made_at = to_text(against.seal.made_at)
    click.echo(safe(f"Compared with the seal of {made_at}: {counted(against.sessions, 'sealed session')}."))
    if against.purged_count:
        more = ", ..." if against.purged_count > len(against.purged) else ""
        said = f"{counted(against.purged_count, 'session')} of them purged since, as the ledger recorded: "
        click.echo(safe(said + ", ".join(against.purged) + more))
    if against.elsewhere:
        said = f"{counted(against.elsewhere, 'archived session')} not compared: give their warehouse with --warehouse."
        click.echo(said)


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
    return f"{counted(number, 'finding')}{mended}"

"""Commands that export, import and back up events."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from ledger.cli.app import command, opened
from ledger.cli.output.progress import progress
from ledger.cli.output.shapes import print_imported, print_json, to_terminal
from ledger.cli.output.text import counted, safe
from ledger.files import whole_file
from ledger.settings import LEDGER_WAREHOUSE

if TYPE_CHECKING:
    from ledger.errors import LedgerError
    from ledger.formats.events import Imported
    from ledger.stores.base import EventStore

from ledger.cli.session_ids import SESSION

COMMANDS: dict[str, click.Command] = {}


@command(
    "export",
    "ledger export --output ledger.jsonl",
    "ledger export SESSION_ID | jq .event_type",
    into=COMMANDS,
)
@click.argument("session_ids", nargs=-1, type=SESSION, metavar="[SESSION_ID]...")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="File to write, or - for stdout. It appears or is replaced once it is complete. Only its owner may read a new "
    "file.  [default: stdout]",
)
def export(as_json: bool, url: str | None, session_ids: tuple[str, ...], output: Path | None) -> None:
    """Export the events of the given sessions, or of all sessions, as JSON Lines.

    `ledger import` restores them byte for byte. --json requires --output, and prints the number of events.
    """
    from ledger.formats.events import export_lines
    from ledger.tiers.opening import check_output

    if output == Path("-"):
        output = None
    if as_json and output is None:
        raise click.UsageError("The export itself is JSON; --json requires --output.", click.get_current_context())
    escaped = output is None and to_terminal()
    count = 0
    with opened(url) as ledger:
        if output is not None:
            check_output(ledger.store, output, LEDGER_WAREHOUSE.text())
        with _target(output) as file, progress("Exporting events") as advance:
            for line in export_lines(ledger.store, session_ids or None):
                file.write(safe(line.decode()).encode() if escaped else line)
                count += 1
                advance(1)
            file.flush()
    if as_json:
        print_json({"events": count})
    else:
        click.echo(f"{counted(count, 'event')} exported.", err=True)


def _target(output: Path | None) -> AbstractContextManager[IO[bytes]]:
    """Return a context manager that yields the output file, or stdout if ``output`` is None. Stdout stays open.

    Raises:
        UsageError: Stdout was closed when the process was started.
    """
    if output is None and sys.__stdout__ is None:
        raise click.UsageError("Stdout is closed: name a file with --output FILE.", click.get_current_context())
    return nullcontext(sys.stdout.buffer) if output is None else whole_file(output, private=True)


@command(
    "import",
    "ledger import ledger.jsonl",
    "ledger import --format openai-chat runs.jsonl --user airline",
    "ledger import --format openai-chat --skip-refused runs.jsonl",
    "cat sessions-*.json | ledger import --format sessions-table -",
    "ssh host ledger export | ledger import -",
    into=COMMANDS,
)
@click.argument("source", metavar="FILE", type=click.File("rb"))
@click.option(
    "--format",
    "form",
    type=click.Choice(["events", "openai-chat", "sessions-table"]),
    default="events",
    show_default=True,
    help="events: output of `ledger export`. openai-chat: one recorded run per line; each becomes a session. "
    "Its messages may be those of OpenAI's Chat Completions or Responses, of Ollama or of Anthropic. "
    "sessions-table: BigQuery's export of a table with one full row per update; all files at once, in any order.",
)
@click.option("--user", default=None, help="openai-chat: owner of runs without one.  [default: imported]")
@click.option(
    "--unchained",
    is_flag=True,
    help="events: accept events without hashes, as a ledger in BigQuery exports them. Nobody can verify them later.",
)
@click.option(
    "--skip-refused",
    is_flag=True,
    help="Go on if a line cannot be recorded, list on stderr what was left out, and exit with 1 if anything was.",
)
def import_(
    as_json: bool,
    url: str | None,
    source: IO[bytes],
    form: str,
    user: str | None,
    unchained: bool,
    skip_refused: bool,
) -> None:
    """Import events, recorded runs or a table of sessions from JSON Lines. FILE may be - for stdin.

    Indented JSON, arrays and UTF-16 are read too. Events recorded before are skipped, so an import can be repeated. If
    a line is invalid, the error has the line's number, and no event of that line's session is recorded.
    """
    if user is not None and form != "openai-chat":
        raise click.UsageError(
            "--user requires --format openai-chat; events and rows have their own owners.", click.get_current_context()
        )
    if unchained and form != "events":
        raise click.UsageError("--unchained requires --format events.", click.get_current_context())
    path = Path(str(getattr(source, "name", "-")))
    size = path.stat().st_size if path.is_file() else None
    refused: list[LedgerError] | None = [] if skip_refused else None
    with opened(url, create=True) as ledger, progress("Importing", size, in_bytes=True) as advance:
        imported = _import(ledger.store, source, form, user, unchained, lambda line: advance(len(line)), refused)
    print_imported(imported, as_json, refused)
    if refused:
        raise click.exceptions.Exit(1)


def _import(
    store: EventStore,
    source: IO[bytes],
    form: str,
    user: str | None,
    unchained: bool,
    seen: Callable[[bytes], object],
    refused: list[LedgerError] | None,
) -> Imported:
    from ledger.formats.refusals import end_import

    refuse = end_import if refused is None else refused.append
    if form == "events":
        from ledger.formats.events import import_lines

        return import_lines(store, source, unchained=unchained, seen=seen, refuse=refuse)
    if form == "sessions-table":
        from ledger.formats.sessions_table import import_rows, rows_of_lines

        return import_rows(store, rows_of_lines(source, seen=seen, refuse=refuse), refuse=refuse)
    from ledger.formats.openai_chat import DEFAULT_USER, import_runs

    return import_runs(store, source, user_id=user or DEFAULT_USER, seen=seen, refuse=refuse)


@command("backup", "ledger backup ledger-2026-11-21.db", into=COMMANDS)
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
def backup(as_json: bool, url: str | None, path: Path) -> None:
    """Write a consistent copy of a ledger to a new file. The ledger may be in use. Do not use cp: it can miss rows."""
    from ledger.tiers.opening import check_output

    with opened(url) as ledger:
        check_output(ledger.store, path, LEDGER_WAREHOUSE.text())
        ledger.store.backup(path)
    size = path.stat().st_size
    if as_json:
        print_json({"path": str(path), "bytes": size})
    else:
        click.echo(f"{safe(str(path))}: {size:,} bytes.")

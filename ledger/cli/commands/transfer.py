"""Commands that import events and back up ledgers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from ledger.cli.app import command, opened
from ledger.cli.output.progress import progress
from ledger.cli.output.shapes import print_imported, print_json
from ledger.cli.output.text import safe
from ledger.settings import LEDGER_WAREHOUSE

if TYPE_CHECKING:
    from ledger.errors import LedgerError
    from ledger.formats.events import Imported
    from ledger.stores.base import EventStore

COMMANDS: dict[str, click.Command] = {}


class _Source(click.File):
    """A file that is opened, or the path of a folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the open file of a path, or the path if it is that of a folder."""
        is_folder = isinstance(value, str) and value != "-" and os.path.isdir(value)  # noqa: PTH112 - False for no path
        return Path(value) if is_folder else super().convert(value, param, ctx)


@command(
    "import",
    "ledger import ledger.jsonl",
    "ledger import --format openai-chat runs.jsonl --user airline",
    "ledger import --format openai-chat --skip-refused runs.jsonl",
    "cat sessions-*.json | ledger import --format sessions-table -",
    "ssh host ledger export | ledger import -",
    "ledger import --format parquet events/",
    into=COMMANDS,
)
@click.argument("source", metavar="FILE", type=_Source("rb"))
@click.option(
    "--format",
    "form",
    type=click.Choice(["events", "parquet", "openai-chat", "sessions-table"]),
    default="events",
    show_default=True,
    help="events: output of `ledger export`. parquet: output of `ledger export --format parquet`, or a folder or file "
    "in it. openai-chat: one recorded run per line; each becomes a session. "
    "Its messages may be those of OpenAI's Chat Completions or Responses, of Ollama or of Anthropic. "
    "sessions-table: BigQuery's export of a table with one full row per update; all files at once, in any order.",
)
@click.option("--user", default=None, help="openai-chat: owner of runs without one.  [default: imported]")
@click.option(
    "--unchained",
    is_flag=True,
    help="events, parquet: accept events without hashes, as a ledger in BigQuery exports them. Nobody can verify them "
    "later.",
)
@click.option(
    "--skip-refused",
    is_flag=True,
    help="Go on if a line cannot be recorded, list on stderr what was left out, and exit with 1 if anything was.",
)
def import_(
    as_json: bool,
    url: str | None,
    source: IO[bytes] | Path,
    form: str,
    user: str | None,
    unchained: bool,
    skip_refused: bool,
) -> None:
    """Import events, recorded runs or a table of sessions from JSON Lines, or events from Parquet.

    FILE may be - for stdin, except for Parquet. Indented JSON, arrays and UTF-16 are read too. Events recorded before
    are skipped, so an import can be repeated. If a line is invalid, the error has the line's number, and no event of
    that line's session is recorded; likewise for a row of a Parquet file.
    """
    if user is not None and form != "openai-chat":
        raise click.UsageError(
            "--user requires --format openai-chat; events and rows have their own owners.", click.get_current_context()
        )
    if unchained and form not in ("events", "parquet"):
        raise click.UsageError("--unchained requires --format events or parquet.", click.get_current_context())
    path = source if isinstance(source, Path) else Path(str(getattr(source, "name", "-")))
    if isinstance(source, Path) and form != "parquet":
        raise click.UsageError(
            f"{path} is a folder. If it has Parquet files of `ledger export`, add --format parquet.",
            click.get_current_context(),
        )
    if form == "parquet" and not path.exists():
        raise click.UsageError("--format parquet requires the path of a folder or a file.", click.get_current_context())
    size = path.stat().st_size if path.is_file() else None
    refused: list[LedgerError] | None = [] if skip_refused else None
    with opened(url, create=True) as ledger, progress("Importing", size, in_bytes=True) as advance:
        if isinstance(source, Path) or form == "parquet":
            imported = _import_parquet(ledger.store, path, unchained, advance, refused)
        else:
            imported = _import(ledger.store, source, form, user, unchained, lambda line: advance(len(line)), refused)
    print_imported(imported, as_json, refused)
    if refused:
        raise click.exceptions.Exit(1)


def _import_parquet(
    store: EventStore, path: Path, unchained: bool, seen: Callable[[int], object], refused: list[LedgerError] | None
) -> Imported:
    from ledger.formats.parquet import import_parquet
    from ledger.formats.refusals import end_import

    refuse = end_import if refused is None else refused.append
    return import_parquet(store, path, unchained=unchained, seen=seen, refuse=refuse)


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

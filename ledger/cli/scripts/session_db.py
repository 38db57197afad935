"""Commands of ``scripts/setup_session_db.py``: create, verify and drop the ledger of analysis sessions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.app import opened
from ledger.cli.commands.write import create_ledger
from ledger.cli.exits import OneLineErrors
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import counted, safe
from ledger.cli.scripts.commands import with_json, with_url
from ledger.errors import ConfigurationError, LedgerError
from ledger.stores.base import outbox_store
from ledger.stores.sqlite.database_file import own_files

if TYPE_CHECKING:
    from ledger.sdk.ledger import SessionLedger


class _Setup(OneLineErrors, click.Group):
    """A group that reports each error on one line."""


@click.group("setup_session_db", cls=_Setup)
def setup_session_db() -> None:
    """Create, verify or drop the ledger of analysis sessions.

    One ledger holds the sessions, their queries and their metrics. `create` can be repeated and keeps existing
    sessions.
    """


@setup_session_db.command("create", cls=OneLineErrors)
@with_json
@with_url
def create(as_json: bool, url: str | None) -> None:
    """Create the ledger, or upgrade it to this release.

    Example: python scripts/setup_session_db.py create --url sqlite:///sessions.db
    """
    create_ledger(url, " for analysis sessions.", as_json=as_json)


@setup_session_db.command("verify", cls=OneLineErrors)
@with_json
@with_url
def verify(as_json: bool, url: str | None) -> None:
    """Read every analysis session, and print the number of sessions and queries. The ledger is not changed.

    The exit code is 1 if a session cannot be read.

    Example: python scripts/setup_session_db.py verify --url sqlite:///sessions.db
    """
    with opened(url) as ledger:
        result = _verify(ledger)
    if as_json:
        print_json(result)
    else:
        sessions, queries = (
            counted(result["sessions"], "analysis session"),
            counted(result["queries"], "query", "queries"),
        )
        click.echo(f"{safe(result['url'])}: {sessions}, {queries}.")
        for session_id, reason in result["unreadable"].items():
            click.echo(f"{safe(session_id)} cannot be read: {safe(reason)}")
    if result["unreadable"]:
        raise click.exceptions.Exit(1)


@setup_session_db.command("drop", cls=OneLineErrors)
@click.option("--yes", is_flag=True, help="Confirm that the ledger's file and all its sessions are deleted.")
@with_json
@with_url
def drop(yes: bool, as_json: bool, url: str | None) -> None:
    """Delete the ledger's file with all sessions in it, not only analysis sessions.

    This command cannot drop a dataset in BigQuery.

    Example: python scripts/setup_session_db.py drop --yes --url sqlite:///sessions.db
    """
    with opened(url) as ledger:
        store, name = outbox_store(ledger.store), ledger.url
    if store is None:
        raise ConfigurationError(f"{name} is not a file. Drop a dataset with: bq rm -r -d PROJECT:DATASET")
    if not yes:
        raise click.UsageError(
            f"This deletes {name} and every session in it. Confirm with --yes.", click.get_current_context()
        )
    removed = [str(path) for path in own_files(store.path) if path.exists()]
    for path in removed:
        Path(path).unlink()
    if as_json:
        print_json({"url": name, "removed": removed})
    else:
        click.echo(f"Deleted {', '.join(map(safe, removed))}.")


def _verify(ledger: SessionLedger) -> dict[str, Any]:
    """Read every analysis session. Return the numbers of sessions and queries, and an error per unreadable session."""
    from ledger.compat.analysis_sessions.slots import MARK, session_of

    sessions = queries = 0
    unreadable: dict[str, str] = {}
    for session in ledger.iter_sessions(attributes={MARK: True}):
        sessions += 1
        try:
            queries += session_of(session).state.history.total_queries
        except (LedgerError, ValueError) as error:  # another program wrote values that are not an analysis session
            unreadable[session.session_id] = str(error).splitlines()[0]
    return {"url": ledger.url, "sessions": sessions, "queries": queries, "unreadable": unreadable}

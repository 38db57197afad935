"""The commands behind ``scripts/setup_session_db.py``: the ledger of analysis sessions, made, looked at, and left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.app import opened
from ledger.cli.commands.write import make_ledger
from ledger.cli.exits import OneLineErrors
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import safe
from ledger.cli.scripts.commands import with_json, with_url
from ledger.errors import ConfigurationError, LedgerError
from ledger.stores.base import outbox_store

if TYPE_CHECKING:
    from ledger.sdk.ledger import SessionLedger

_PAGE = 500


class _Setup(OneLineErrors, click.Group):
    """The group; its errors are one line each."""


@click.group("setup_session_db", cls=_Setup)
def setup_session_db() -> None:
    """Make the ledger of analysis sessions, or look at it.

    Sessions, their queries and their metrics are events of one ledger, so there is one thing to make. `create` can be
    repeated and keeps what is there.
    """


@setup_session_db.command("create", cls=OneLineErrors)
@with_json
@with_url
def create(as_json: bool, url: str | None) -> None:
    """Make the ledger, or bring it up to date.

    Example: python scripts/setup_session_db.py create --url sqlite:///sessions.db
    """
    make_ledger(url, " for analysis sessions.", as_json=as_json)


@setup_session_db.command("verify", cls=OneLineErrors)
@with_json
@with_url
def verify(as_json: bool, url: str | None) -> None:
    """Read every analysis session of the ledger, and say how many there are. Changes nothing.

    The exit code is 1 where a session cannot be read.

    Example: python scripts/setup_session_db.py verify --url sqlite:///sessions.db
    """
    with opened(url) as ledger:
        found = _verified(ledger)
    if as_json:
        print_json(found)
    else:
        click.echo(f"{safe(found['url'])}: {found['sessions']:,} analysis sessions, {found['queries']:,} queries.")
        for session_id, why in found["unreadable"].items():
            click.echo(f"{safe(session_id)} cannot be read: {safe(why)}")
    if found["unreadable"]:
        raise click.exceptions.Exit(1)


@setup_session_db.command("drop", cls=OneLineErrors)
@click.option("--yes", is_flag=True, help="Needed: the ledger's file and all sessions in it are deleted.")
@with_json
@with_url
def drop(yes: bool, as_json: bool, url: str | None) -> None:
    """Delete the ledger's file with everything in it, of whatever kind. What is in BigQuery is never dropped from here.

    Example: python scripts/setup_session_db.py drop --yes --url sqlite:///sessions.db
    """
    with opened(url) as ledger:
        store, name = outbox_store(ledger.store), ledger.url
    if store is None:
        raise ConfigurationError(f"{name} is no file; drop a dataset with BigQuery's own tools.")
    if not yes:
        raise click.UsageError(f"This deletes {name} and every session in it; add --yes.", click.get_current_context())
    removed = [str(path) for path in _files(store.path) if path.exists()]
    for path in removed:
        Path(path).unlink()
    if as_json:
        print_json({"url": name, "removed": removed})
    else:
        click.echo(f"Deleted {', '.join(map(safe, removed))}.")


def _verified(ledger: SessionLedger) -> dict[str, Any]:
    """How many analysis sessions and queries there are, and which cannot be read."""
    from ledger.compat.analysis_sessions.slots import MARK, session_of

    sessions = queries = 0
    unreadable: dict[str, str] = {}
    after: str | None = None
    while True:
        page = ledger.list_sessions(attributes={MARK: True}, after=after, limit=_PAGE)
        for found in page:
            sessions += 1
            try:
                queries += session_of(found).state.history.total_queries
            except (LedgerError, ValueError) as error:  # another program wrote what is no analysis session
                unreadable[found.session_id] = str(error).splitlines()[0]
        after = page.next
        if after is None:
            return {"url": ledger.url, "sessions": sessions, "queries": queries, "unreadable": unreadable}


def _files(path: Path) -> list[Path]:
    """A SQLite ledger's file and those that stand beside it while it is open."""
    return [path.with_name(path.name + ending) for ending in ("", "-wal", "-shm", "-turn", "-turn-queue")]

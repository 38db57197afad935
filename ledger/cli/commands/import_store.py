"""The command that brings an older session store's database into a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ledger.cli.app import command, opened
from ledger.cli.output.shapes import print_imported
from ledger.settings import LEDGER_IMPORT_FROM

if TYPE_CHECKING:
    from ledger.formats.events import Imported
    from ledger.sdk.ledger import SessionLedger

COMMANDS: dict[str, click.Command] = {}
#: What an importer takes, to the option that gives it and the kind of store that it is for.
_ONLY = {
    "user_id": ("--user", "session-states"),
    "table": ("--table", "analysis-sessions"),
    "metrics_table": ("--metrics-table", "analysis-sessions"),
}
#: The tables of each kind of store; that of sessions may have another name.
_TABLES = {
    "session-states": ("session_states",),
    "chat-store": ("chat_sessions", "chat_messages"),
    "conversations": ("conversation_sessions", "conversation_messages"),
    "analysis-sessions": ("sessions",),
}


@command(
    "import-store",
    "ledger import-store chat-store chats.db",
    "LEDGER_IMPORT_FROM=postgresql://app:SECRET@db/app ledger import-store conversations",
    "ledger import-store analysis-sessions postgresql://localhost/app --table archived_sessions",
    into=COMMANDS,
)
@click.argument("kind", type=click.Choice(["session-states", "chat-store", "conversations", "analysis-sessions"]))
@click.argument("source", metavar="[DATABASE]", envvar=LEDGER_IMPORT_FROM.name, required=False)
@click.option("--user", "user_id", help="session-states: owner of the rows that name none.  [default: session-states]")
@click.option("--table", help="analysis-sessions: the table of sessions.  [default: sessions]")
@click.option("--metrics-table", help="analysis-sessions: the table of metrics.  [default: session_metrics]")
def import_store(as_json: bool, url: str | None, kind: str, source: str | None, **options: str | None) -> None:
    """Bring in the sessions of an older store: the path of a SQLite file, or a URL for SQLAlchemy.

    A password is better given by LEDGER_IMPORT_FROM, the whole URL, than where others see the command. For
    session-states, without either, the POSTGRES_* variables name the database. It is read, never written. What is here
    already is passed over, so it can be imported again; rows that cannot be recorded are named, and then nothing is.
    """
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    context = click.get_current_context()
    for option, only in (_ONLY[name] for name in given):
        if only != kind:
            raise click.UsageError(f"{option} is for {only}.", context)
    if source is None and kind != "session-states":
        raise click.UsageError("Name the database, here or by LEDGER_IMPORT_FROM.", context)
    _check_source(kind, source, given)
    with opened(url, create=True) as ledger:
        done = _imported(kind, source, ledger, given)
    print_imported(done, as_json)


def _check_source(kind: str, source: str | None, given: dict[str, Any]) -> None:
    """Raise what the import would where the store cannot be read: a ledger that is new is not made then."""
    from ledger.compat.importing_sources import open_source

    with open_source(source) as older:
        for table in _TABLES[kind] if "table" not in given else (given["table"],):
            older.table(table)


def _imported(kind: str, source: str | None, ledger: SessionLedger, given: dict[str, Any]) -> Imported:
    if kind == "session-states":
        from ledger.compat.importing import import_session_states

        return import_session_states(source, ledger, **given)
    assert source is not None  # noqa: S101 - see above
    if kind == "chat-store":
        from ledger.compat.importing import import_chat_store

        return import_chat_store(source, ledger)
    if kind == "conversations":
        from ledger.compat.importing_services import import_conversations

        return import_conversations(source, ledger)
    from ledger.compat.importing_services import import_analysis_sessions

    return import_analysis_sessions(source, ledger, **given)

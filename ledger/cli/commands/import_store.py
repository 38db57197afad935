"""The command that imports the database of another session store."""

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
#: For each parameter of an importer: the option that sets it, and the only kind of store for which it is valid.
_ONLY = {
    "user_id": ("--user", "session-states"),
    "table": ("--table", "analysis-sessions"),
    "metrics_table": ("--metrics-table", "analysis-sessions"),
}
#: For each kind of store, the tables that its database must have. --table gives another name for ``sessions``.
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
@click.option("--user", "user_id", help="session-states: owner of rows without one.  [default: session-states]")
@click.option("--table", help="analysis-sessions: name of the sessions table.  [default: sessions]")
@click.option("--metrics-table", help="analysis-sessions: name of the metrics table.  [default: session_metrics]")
def import_store(as_json: bool, url: str | None, kind: str, source: str | None, **options: str | None) -> None:
    """Import the sessions of another session store.

    DATABASE is the path of a SQLite file or a SQLAlchemy URL. Pass a URL with a password in LEDGER_IMPORT_FROM: other
    users can see the arguments of a command. For session-states, the default is the database that the POSTGRES_*
    variables name. The database is only read. Repeating the command imports only new rows. If a row cannot be recorded,
    the error names the row and nothing is imported.
    """
    settings: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    context = click.get_current_context()
    for option, only in (_ONLY[name] for name in settings):
        if only != kind:
            raise click.UsageError(f"{option} is for {only} only.", context)
    if source is None and kind != "session-states":
        raise click.UsageError("Pass DATABASE or set LEDGER_IMPORT_FROM.", context)
    _check_source(kind, source, settings)
    with opened(url, create=True) as ledger:
        done = _imported(kind, source, ledger, settings)
    print_imported(done, as_json)


def _check_source(kind: str, source: str | None, settings: dict[str, Any]) -> None:
    """Raise an error if a table of the source cannot be read. Call this before the ledger is created."""
    from ledger.compat.importing_sources import open_source

    with open_source(source) as database:
        for table in _TABLES[kind] if "table" not in settings else (settings["table"],):
            database.table(table)


def _imported(kind: str, source: str | None, ledger: SessionLedger, settings: dict[str, Any]) -> Imported:
    if kind == "session-states":
        from ledger.compat.importing import import_session_states

        return import_session_states(source, ledger, **settings)
    assert source is not None  # noqa: S101 - checked by the caller
    if kind == "chat-store":
        from ledger.compat.importing import import_chat_store

        return import_chat_store(source, ledger)
    if kind == "conversations":
        from ledger.compat.importing_services import import_conversations

        return import_conversations(source, ledger)
    from ledger.compat.importing_services import import_analysis_sessions

    return import_analysis_sessions(source, ledger, **settings)

"""The ``ledger`` command group, and the helper functions that define its commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ledger.cli.exits import OneLineErrors
from ledger.cli.session_ids import with_whole_ids
from ledger.errors import ConfigurationError
from ledger.settings import LEDGER_URL, LEDGER_USER

if TYPE_CHECKING:
    from ledger.sdk.ledger import SessionLedger

#: The commands in groups, in the order of the help, each with its module.
GROUPS = {
    "Sessions": {
        "init": "ledger.cli.commands.write",
        "new": "ledger.cli.commands.write",
        "set": "ledger.cli.commands.write",
        "message": "ledger.cli.commands.write",
        "tool": "ledger.cli.commands.write",
        "model-call": "ledger.cli.commands.calls",
        "tag": "ledger.cli.commands.lifecycle",
        "score": "ledger.cli.commands.lifecycle",
        "remove-message": "ledger.cli.commands.lifecycle",
        "fork": "ledger.cli.commands.time_travel",
        "rewind": "ledger.cli.commands.time_travel",
    },
    "Lifecycle": {
        "complete": "ledger.cli.commands.lifecycle",
        "fail": "ledger.cli.commands.lifecycle",
        "extend": "ledger.cli.commands.lifecycle",
        "expire": "ledger.cli.commands.lifecycle",
        "delete": "ledger.cli.commands.lifecycle",
        "restore": "ledger.cli.commands.lifecycle",
    },
    "Access": {
        "grant": "ledger.cli.commands.access",
        "revoke": "ledger.cli.commands.access",
        "security": "ledger.cli.commands.security",
    },
    "Reading": {
        "show": "ledger.cli.commands.read",
        "list": "ledger.cli.commands.read",
        "search": "ledger.cli.commands.search",
        "count": "ledger.cli.commands.lifecycle",
        "history": "ledger.cli.commands.read",
        "diff": "ledger.cli.commands.read",
        "tool-calls": "ledger.cli.commands.calls",
        "replay": "ledger.cli.commands.time_travel",
        "compare": "ledger.cli.commands.time_travel",
        "tail": "ledger.cli.commands.time_travel",
    },
    "Analytics": {
        "stats": "ledger.cli.commands.stats",
        "chart": "ledger.cli.commands.chart",
        "report": "ledger.cli.commands.report",
    },
    "SQL": {
        "sql": "ledger.cli.commands.warehouse",
        "schema": "ledger.cli.commands.warehouse",
        "refresh": "ledger.cli.commands.scheduled",
        "deploy": "ledger.cli.commands.scheduled",
        "prices": "ledger.cli.commands.prices",
        "cost": "ledger.cli.commands.cost",
    },
    "Warehouse": {
        "sync": "ledger.cli.commands.relay",
        "relay": "ledger.cli.commands.relay",
        "status": "ledger.cli.commands.relay",
        "warehouse": "ledger.cli.commands.warehouses",
        "reconcile": "ledger.cli.commands.reconcile",
        "archive": "ledger.cli.commands.maintenance",
        "hydrate": "ledger.cli.commands.maintenance",
        "maintain": "ledger.cli.commands.maintenance",
        "purge": "ledger.cli.commands.maintenance",
    },
    "Integrity": {
        "verify": "ledger.cli.commands.verify",
        "seal": "ledger.cli.commands.seals",
        "seals": "ledger.cli.commands.seals",
    },
    "Export, import and backup": {
        "export": "ledger.cli.commands.export",
        "import": "ledger.cli.commands.transfer",
        "import-store": "ledger.cli.commands.import_store",
        "backup": "ledger.cli.commands.transfer",
        "restore-backup": "ledger.cli.commands.restore_backup",
    },
    "Chats": {
        "chat-init": "ledger.cli.commands.chat",
        "query": "ledger.cli.commands.chat",
        "chat-history": "ledger.cli.commands.chat",
        "chat-cleanup": "ledger.cli.commands.chat",
    },
    "Help": {
        "demo": "ledger.cli.demo.command",
        "doctor": "ledger.cli.doctor.command",
        "emulator": "ledger.cli.commands.emulator",
        "completion": "ledger.cli.commands.completion",
    },
}
#: Commands that change no session, and so may name one by a part of an id of the caller's own.
_READING = frozenset((*GROUPS["Reading"], *GROUPS["Analytics"], "export"))
#: Module of each command.
COMMANDS = {name: module for group in GROUPS.values() for name, module in group.items()}
F = TypeVar("F", bound=Callable[..., Any])


class Commands(OneLineErrors, click.Group):
    """A click group that imports the module of a command only when that command is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all command names, in the order of ``COMMANDS``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name, or None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        loaded: click.Command = import_module(COMMANDS[cmd_name]).COMMANDS[cmd_name]
        return loaded

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in groups, each with the first sentence of its help."""
        widest = max(map(len, COMMANDS))
        for title, names in GROUPS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            limit = formatter.width - 6 - widest
            lines = [(name.ljust(widest), it.get_short_help_str(limit)) for name, it in commands if it is not None]
            with formatter.section(title):
                formatter.write_dl(lines)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name. If there is none, the error suggests similar names."""
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=2, cutoff=0.7)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


class Command(click.Command):
    """A command whose help ends with examples."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, one per line."""
        with formatter.section("Examples" if len(self.examples) > 1 else "Example"):
            for example in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


_URL_HELP = (
    "URL of the ledger: sqlite:///file.db, sqlite:////absolute/file.db, or bigquery://PROJECT/DATASET; or the path of "
    "a SQLite file. sqlite:///file.db?mode=ro only reads."
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-u",
    "--url",
    envvar=LEDGER_URL.name,
    show_envvar=True,
    metavar="URL",
    help=_URL_HELP + "  [default: sqlite:///ledger.db]",
)
@click.version_option(package_name="session-ledger", prog_name="ledger")
@click.pass_context
def ledger(ctx: click.Context, url: str | None) -> None:
    """Record every change of an agent's session as an immutable, versioned row.

    The ledger is a SQLite file or a BigQuery dataset. `ledger sql` runs GoogleSQL in BigQuery or, if the ledger is a
    SQLite file, on a DuckDB file beside it. Every command accepts --json. An error is one line on stderr. The exit code
    tells the class of the error (see docs/cli.md).

    A SESSION_ID may be the beginning or the end of an id, of at least 4 characters, if no other session has it; @ is
    the newest session. A command that changes sessions takes parts of generated ids only. In BigQuery, it may be the
    beginning of a generated id, of at least 8 characters.
    """
    ctx.obj = url


def command(name: str, *examples: str, into: dict[str, click.Command]) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator that turns a function into a command with the options --json and --url.

    The function must have the parameters ``as_json`` and ``url``, besides those for its options and arguments.

    Args:
        name: Name of the command.
        examples: Command lines that the help shows as examples.
        into: The dictionary ``COMMANDS`` of the function's module. The decorator adds the command to it.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        decorated = click.command(name, cls=Command, examples=examples)(function)
        decorated.callback = with_whole_ids(function, decorated.params, opened, any_id=name in _READING)
        decorated.params += [
            click.Option(["--json", "as_json"], is_flag=True, help="Print JSON."),
            click.Option(
                ["-u", "--url"], metavar="URL", callback=_url, help="URL of the ledger, as in `ledger --url URL`."
            ),
        ]
        into[name] = decorated
        return decorated

    return decorate


def _url(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return the URL given after the command's name, or else the one given before it (``ledger --url URL new``)."""
    return value or ctx.find_root().obj


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that adds several options to a command. The help lists them in the order of ``options``."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@contextmanager
def opened(url: str | None, *, create: bool = False) -> Iterator[SessionLedger]:
    """Open the ledger at a URL for the block of a ``with`` statement, without a background relay.

    Args:
        url: URL of the ledger; None is the default URL.
        create: If the SQLite file does not exist, create it instead of raising.

    Raises:
        ConfigurationError: The URL is malformed, or the file does not exist and ``create`` is False.
    """
    from ledger.sdk.ledger import SessionLedger

    with SessionLedger.open(url, create=create, relay="off") as ledger:
        yield ledger


def default_user() -> str:
    """Return the default owner of new sessions: LEDGER_USER, or else the login name.

    Raises:
        ConfigurationError: LEDGER_USER is not set and the user has no login name, as in some containers.
    """
    import getpass

    try:
        return LEDGER_USER.text() or getpass.getuser()
    except (OSError, KeyError, ImportError) as error:  # which one depends on the Python version
        raise ConfigurationError("Your login name is not known; set LEDGER_USER or pass --user.") from error

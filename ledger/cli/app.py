"""The group of commands and what they share: where the ledger is, how to answer, what an error looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ledger.cli.exits import OneLineErrors
from ledger.errors import ConfigurationError
from ledger.settings import LEDGER_URL, LEDGER_USER

if TYPE_CHECKING:
    from ledger.sdk.ledger import SessionLedger

#: Command name to the module that holds it; help lists them in this order.
COMMANDS = {
    "init": "ledger.cli.commands.write",
    "new": "ledger.cli.commands.write",
    "set": "ledger.cli.commands.write",
    "message": "ledger.cli.commands.write",
    "tool": "ledger.cli.commands.write",
    "tag": "ledger.cli.commands.lifecycle",
    "score": "ledger.cli.commands.lifecycle",
    "remove-message": "ledger.cli.commands.lifecycle",
    "complete": "ledger.cli.commands.lifecycle",
    "fail": "ledger.cli.commands.lifecycle",
    "extend": "ledger.cli.commands.lifecycle",
    "expire": "ledger.cli.commands.lifecycle",
    "delete": "ledger.cli.commands.lifecycle",
    "restore": "ledger.cli.commands.lifecycle",
    "grant": "ledger.cli.commands.access",
    "revoke": "ledger.cli.commands.access",
    "show": "ledger.cli.commands.read",
    "list": "ledger.cli.commands.read",
    "search": "ledger.cli.commands.search",
    "count": "ledger.cli.commands.lifecycle",
    "history": "ledger.cli.commands.read",
    "diff": "ledger.cli.commands.read",
    "fork": "ledger.cli.commands.time_travel",
    "rewind": "ledger.cli.commands.time_travel",
    "replay": "ledger.cli.commands.time_travel",
    "compare": "ledger.cli.commands.time_travel",
    "tail": "ledger.cli.commands.time_travel",
    "sql": "ledger.cli.commands.warehouse",
    "sync": "ledger.cli.commands.relay",
    "relay": "ledger.cli.commands.relay",
    "status": "ledger.cli.commands.relay",
    "reconcile": "ledger.cli.commands.reconcile",
    "archive": "ledger.cli.commands.maintenance",
    "hydrate": "ledger.cli.commands.maintenance",
    "maintain": "ledger.cli.commands.maintenance",
    "export": "ledger.cli.commands.transfer",
    "import": "ledger.cli.commands.transfer",
    "import-store": "ledger.cli.commands.import_store",
    "backup": "ledger.cli.commands.transfer",
    "chat-init": "ledger.cli.commands.chat",
    "query": "ledger.cli.commands.chat",
    "chat-history": "ledger.cli.commands.chat",
    "chat-cleanup": "ledger.cli.commands.chat",
    "demo": "ledger.cli.demo.command",
    "doctor": "ledger.cli.doctor.command",
}
F = TypeVar("F", bound=Callable[..., Any])


class Commands(OneLineErrors, click.Group):
    """Loads a command's module when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of ``COMMANDS``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = import_module(COMMANDS[cmd_name]).COMMANDS[cmd_name]
        return found


class Command(click.Command):
    """A command whose help ends with an example."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, each on a line of its own."""
        with formatter.section("Examples" if len(self.examples) > 1 else "Example"):
            for example in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


_URL_HELP = "The ledger: sqlite:///file.db, sqlite:////absolute/file.db, or bigquery://PROJECT/DATASET."


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
    """Every change of an agent's session, kept as an immutable, versioned row.

    Sessions live in a SQLite file, and GoogleSQL over them runs on a DuckDB file beside it (`ledger sql`); or both are
    in a BigQuery dataset. Every command takes --json for programs. An error is one line on stderr, with an exit code
    of its own (see docs/cli.md).
    """
    ctx.obj = url


def command(name: str, *examples: str, into: dict[str, click.Command]) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a command, with --json and --url, and put it ``into`` its module's table.

    The function takes ``as_json`` and ``url`` besides its own parameters.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        made = click.command(name, cls=Command, examples=examples)(function)
        made.params += [
            click.Option(["--json", "as_json"], is_flag=True, help="Answer as JSON, for programs."),
            click.Option(
                ["-u", "--url"], metavar="URL", callback=_url, help="The ledger, as before the command's name."
            ),
        ]
        into[name] = made
        return made

    return decorate


def _url(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The command's own --url, else the one before its name."""
    return value or ctx.find_root().obj


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in this order in the help."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@contextmanager
def opened(url: str | None, *, create: bool = False) -> Iterator[SessionLedger]:
    """The ledger behind a URL; a missing file is refused unless the command is one that begins ledgers."""
    from ledger.sdk.ledger import SessionLedger

    with SessionLedger.open(url, create=create, relay="off") as found:
        yield found


def default_user() -> str:
    """The user of new sessions where none is named: LEDGER_USER, else whoever is logged in.

    Raises:
        ConfigurationError: Neither is known, as in a container whose user has no name.
    """
    import getpass

    try:
        return LEDGER_USER.text() or getpass.getuser()
    except (OSError, KeyError, ImportError) as error:  # which of them depends on Python's version
        raise ConfigurationError("It is not known who you are; set LEDGER_USER, or give --user.") from error

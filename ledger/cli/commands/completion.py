"""The command that prints a script with which a shell completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from ledger.cli.app import command
from ledger.cli.app import ledger as command_line
from ledger.cli.output.shapes import print_json

COMMANDS: dict[str, click.Command] = {}
SHELLS = ("bash", "zsh", "fish")


@command(
    "completion",
    'eval "$(ledger completion bash)"  # in ~/.bashrc',
    'eval "$(ledger completion zsh)"  # in ~/.zshrc',
    "ledger completion fish > ~/.config/fish/completions/ledger.fish",
    into=COMMANDS,
)
@click.argument("shell", metavar="[bash|zsh|fish]", type=click.Choice(SHELLS))
def completion(as_json: bool, url: str | None, shell: str) -> None:
    """Print a script with which bash, zsh or fish completes commands, options and their values."""
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click knows these shells
    # Not by source(): for bash, that first runs bash to find out its version.
    script = ShellComplete.source(kind(command_line, {}, "ledger", "_LEDGER_COMPLETE"))
    if as_json:
        print_json({"shell": shell, "script": script})
    else:
        click.echo(script)

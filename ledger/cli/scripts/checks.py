"""Support for scripts that check something and print each result. They exit with 1 if a check fails."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import click

from ledger.cli.exits import OneLineErrors
from ledger.cli.output.text import counted, one_line
from ledger.sdk.ledger import SessionManagerV2


class Checks:
    """An object that compares values, prints each result, and counts the checks and the failures."""

    def __init__(self) -> None:
        self.failed = 0
        self.count = 0

    def equal(self, name: str, actual: object, expected: object) -> None:
        """Check that two values are equal, and print the result."""
        self.count += 1
        if actual == expected:
            click.echo(f"ok    {name}")
        else:
            self.failed += 1
            click.echo(f"FAIL  {name}: {one_line(repr(actual), 200)}, not {one_line(repr(expected), 200)}")


def script(check: Callable[[SessionManagerV2, Checks], None]) -> click.Command:
    """Return a command that runs ``check`` on the ledger at --url, or on a temporary ledger.

    The command has the name of the function ``check``, and the function's docstring as its help.
    """

    @click.command(check.__name__, cls=OneLineErrors, help=check.__doc__)
    @click.option("-u", "--url", metavar="URL", help="URL of the ledger to use.  [default: a temporary ledger]")
    def run(url: str | None) -> None:
        checks = Checks()
        with (
            tempfile.TemporaryDirectory(prefix="ledger-check-") as folder,
            SessionManagerV2(url or f"sqlite:///{Path(folder) / 'check.db'}") as manager,
        ):
            check(manager, checks)
        click.echo(f"{checks.count - checks.failed} of {counted(checks.count, 'check')} passed.")
        if checks.failed or not checks.count:
            raise click.exceptions.Exit(1)

    return run

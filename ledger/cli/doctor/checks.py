"""Checks that a person runs: each says what it found, and the program ends with 1 where one failed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import click

from ledger.cli.exits import OneLineErrors
from ledger.cli.output.text import one_line
from ledger.sdk.ledger import SessionManagerV2


class Checks:
    """What was checked so far."""

    def __init__(self) -> None:
        self.failed = 0
        self.count = 0

    def equal(self, what: str, found: object, expected: object) -> None:
        """Report whether ``found`` is what was expected."""
        self.count += 1
        if found == expected:
            click.echo(f"ok    {what}")
        else:
            self.failed += 1
            click.echo(f"FAIL  {what}: {one_line(repr(found), 200)}, not {one_line(repr(expected), 200)}")


def script(check: Callable[[SessionManagerV2, Checks], None]) -> click.Command:
    """A command that runs ``check`` on a temporary ledger, or on the one that --url names."""

    @click.command(check.__name__, cls=OneLineErrors, help=check.__doc__)
    @click.option("-u", "--url", metavar="URL", help="The ledger to check on.  [default: a temporary one]")
    def run(url: str | None) -> None:
        checks = Checks()
        with (
            tempfile.TemporaryDirectory(prefix="ledger-check-") as folder,
            SessionManagerV2(url or f"sqlite:///{Path(folder) / 'check.db'}") as manager,
        ):
            check(manager, checks)
        click.echo(f"{checks.count - checks.failed} of {checks.count} checks passed.")
        if checks.failed or not checks.count:
            raise click.exceptions.Exit(1)

    return run

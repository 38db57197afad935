"""The command line: a command parses, makes one call of the SDK, and shows the answer."""

from __future__ import annotations


def main() -> None:
    """Run the ``ledger`` command; the console script starts here."""
    from ledger.cli.app import ledger

    ledger(prog_name="ledger")

"""The command line. Each command parses its arguments, calls the SDK and prints the result."""

from __future__ import annotations

from ledger.cli.interrupts import interruptible


def main() -> None:
    """Run the ``ledger`` command: the entry point of the console script."""
    with interruptible():
        from ledger.cli.app import ledger

        ledger(prog_name="ledger")

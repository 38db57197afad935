"""Writes docs/cli.md from the commands, and docs/fields.md from the fields: ``python -m ledger.cli.reference docs``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ledger.cli.app import COMMANDS, ledger
from ledger.cli.exits import EXIT_CODES, FILES, INTERRUPTED, USAGE
from ledger.cli.fields_reference import fields_reference

_INTRODUCTION = """# The command line

Written by `make docs` from the commands' own help; change that, not this page.

An answer goes to stdout, progress and errors to stderr. With `--json` the answer is one JSON document whose keys are
only ever added to. Text that agents wrote is shown as it is, with control characters written out (`\\u001b`).

An error is one line, `error: message (code)`, and an exit code that tells its class:

| Exit code | Code | Meaning |
|---|---|---|
| 0 | | done |
| 1 | | `doctor` found a problem, or `demo` a difference |
"""


def reference() -> str:
    """The page docs/cli.md."""
    lines = [
        f"| {number} | `{kind.code}` | {(kind.__doc__ or '').splitlines()[0]} |" for kind, number in EXIT_CODES.items()
    ]
    lines.insert(1, f"| {USAGE} | `usage` | A command, option or argument is wrong. |")
    lines.append(f"| {FILES} | `file_error` | A file given on the command line cannot be read or written. |")
    lines.append(f"| {INTERRUPTED} | `interrupted` | Ctrl-C. |")
    root = click.Context(ledger, info_name="ledger", **ledger.context_settings)
    parts = [_INTRODUCTION + "\n".join(lines), _section("ledger", ledger, root)]
    for name in COMMANDS:
        command = ledger.get_command(root, name)
        if command is not None:
            parts.append(_section(f"ledger {name}", command, click.Context(command, info_name=name, parent=root)))
    return "\n\n".join(parts) + "\n"


def _section(title: str, command: click.Command, context: click.Context) -> str:
    context.terminal_width = context.max_content_width = 100
    return f"## {title}\n\n```text\n{command.get_help(context).rstrip()}\n```"


#: The pages by file name.
PAGES = {"cli.md": reference, "fields.md": fields_reference}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (Path(sys.argv[1]) / name).write_text(page(), encoding="utf-8")

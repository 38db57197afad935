"""A command line for tests: each call runs one ``ledger`` command in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from ledger.cli.app import ledger as command_line


class Shell:
    """Runs ``ledger`` commands in this process, on one ledger file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    def __call__(self, *args: str, stdin: str | bytes | None = None, **environment: str) -> Result:
        env = {"LEDGER_URL": self.url, "COLUMNS": "80", "LEDGER_USER": "ada", **environment}
        result = CliRunner().invoke(command_line, list(args), input=stdin, env=env, prog_name="ledger")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def ok(self, *args: str, stdin: str | bytes | None = None) -> str:
        """What a command prints that must succeed."""
        result = self(*args, stdin=stdin)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    def json(self, *args: str) -> Any:
        """What a command answers with --json."""
        return json.loads(self.ok(*args, "--json"))

    def fails(self, *args: str, stdin: str | bytes | None = None, **environment: str) -> tuple[int, str]:
        """Exit code and error of a command that must fail, with one line on stderr and nothing on stdout."""
        result = self(*args, stdin=stdin, **environment)
        assert result.exit_code != 0, result.stdout
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1, result.stderr
        assert result.stderr.startswith("error: ")
        return result.exit_code, result.stderr.removeprefix("error: ").rstrip("\n")

"""Programs that users name to the ledger, such as the witness of a seal: their arguments, output and failures."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence

from ledger.errors import InvalidInput

#: What ``run`` raises if a program cannot be started, fails or takes too long.
FAILURES = (OSError, subprocess.SubprocessError)


def arguments_of(command: str | Sequence[str], *, otherwise: str) -> list[str]:
    """Return a command as a list of its program and arguments.

    Args:
        command: A text, as typed in a shell, or the list itself.
        otherwise: What did not happen if the command cannot be read, for the error: ``no seal was made``.

    Raises:
        InvalidInput: The command is empty or cannot be read.
    """
    try:
        arguments = shlex.split(command) if isinstance(command, str) else [os.fspath(each) for each in command]
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"The command cannot be read: {error}; {otherwise}.") from error
    if not arguments or not all(isinstance(each, str) and "\0" not in each for each in arguments):
        raise InvalidInput(f"The command must be a program and its arguments, as text; {otherwise}.")
    return arguments


def run(arguments: Sequence[str], given: bytes, *, seconds: float) -> bytes:
    """Run a program, with ``given`` on its standard input, and return its standard output.

    Raises:
        OSError, subprocess.SubprocessError: The program cannot be started, it failed, or it took more than ``seconds``;
            see ``reason_of``.
    """
    done = subprocess.run(  # noqa: S603 - the user's own command, without a shell
        arguments, input=given, capture_output=True, check=True, timeout=seconds
    )
    return done.stdout


def reason_of(error: Exception) -> str:
    """Return why a program failed, or a file could not be written, in a few words."""
    if isinstance(error, subprocess.CalledProcessError):
        said = error.stderr.decode(errors="replace").strip().splitlines()
        return f"exit code {error.returncode}{f': {said[-1][:300]}' if said else ''}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"it did not end within {error.timeout:g} seconds"
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return f"there is no {error.filename}"
    return str((error.strerror if isinstance(error, OSError) else None) or error)

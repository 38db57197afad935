"""Exit codes and error messages of the command line. Existing exit codes never change."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import click

from ledger import errors
from ledger.cli.interrupts import INTERRUPTED
from ledger.cli.output.text import escape_unshown, one_line, open_closed
from ledger.cli.wording import in_commands

#: Maps each class of errors to its exit code. A command also exits with 1 if a check fails (doctor, demo, reconcile),
#: if the warehouse refused an event, or if a warehouse holds up retention (status, maintain), or if a row has waited
#: for too long (status); and `ledger verify` with FINDINGS.
EXIT_CODES: Mapping[type[errors.LedgerError], int] = {
    errors.LedgerError: 1,
    **dict.fromkeys((errors.InvalidInput, errors.MessagesNotRead), 3),
    errors.SessionNotFound: 4,
    errors.PermissionDenied: 5,
    errors.WrongExpectedVersion: 6,
    errors.IdempotencyConflict: 7,
    errors.ValueTooLarge: 8,
    errors.CorruptEvent: 9,
    errors.UpcastMissing: 10,
    errors.CapabilityMissing: 11,
    errors.ConfigurationError: 12,
    errors.MissingExtra: 13,
    errors.SessionEnded: 14,
    errors.WitnessFailed: 16,
    errors.StoreError: 20,
    **dict.fromkeys((errors.StoreUnavailable, errors.LeaseHeld, errors.LeaseLost, errors.StreamEnded), 21),
    errors.OutcomeUnknown: 22,
    **dict.fromkeys((errors.StoreRejected, errors.SessionArchived, errors.ArchiveLost, errors.RowsRefused), 23),
    errors.BudgetExceeded: 24,
}
USAGE, FINDINGS, FILES = 2, 15, 30
#: Exit code if the reader of a pipe has closed it, as in ``ledger export | head``: what a shell says of SIGPIPE.
PIPE_CLOSED = 141


class Failure(click.ClickException):
    """An exception that click prints on one line, before the process exits with ``exit_code``.

    Attributes:
        code: The ``code`` of a ``LedgerError``. For any other error: ``usage``, ``interrupted`` or ``file_error``.
        exit_code: The exit code of the process.
    """

    def __init__(self, message: str, code: str, exit_code: int) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it as a class attribute

    def show(self, file: IO[Any] | None = None) -> None:
        """Write ``error: message (code)`` to stderr."""
        click.echo(f"error: {one_line(self.message)} ({self.code})", file=file, err=True)


class _Warning(logging.Handler):
    """A handler that writes each record as ``warning: message`` on one line of stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"warning: {one_line(record.getMessage())}", err=True)


class OneLineErrors(click.Command):
    """A command or group that reports each error on one line, and prints to a stdout of any encoding."""

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run the command. A character that stdout cannot show is written as an escape; see ``escape_unshown``."""
        open_closed()
        escape_unshown()
        return super().main(*args, **settings)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments. An expected error is raised as a ``Failure``."""
        with one_line_errors():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. An expected error is raised as a ``Failure``."""
        with one_line_errors(), _quiet():
            return super().invoke(ctx)


@contextmanager
def _quiet() -> Iterator[None]:
    """Context manager in whose block the ledger's log is printed only if stderr is a terminal.

    The log has, for example, messages about retries. Warnings of the store are always printed.
    """
    log, silence = logging.getLogger("ledger"), logging.NullHandler()
    of_store, warning = logging.getLogger("ledger.store"), _Warning()
    of_store.addHandler(warning)
    if not sys.stderr.isatty():
        log.addHandler(silence)
    try:
        yield
    finally:
        of_store.removeHandler(warning)
        log.removeHandler(silence)


def exit_code_of(error: errors.LedgerError) -> int:
    """Return the exit code of an error: that of its class in ``EXIT_CODES``, or else that of its nearest base class."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def _discard_output() -> None:
    """Discard what is still to be written to stdout and stderr, whose reader has closed the pipe."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
        except (ValueError, OSError):  # closed already
            continue
    os.close(nowhere)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Context manager that turns an expected error in its block into a ``Failure``.

    Errors of the ledger, wrong arguments, Ctrl-C, and files that cannot be read or written are expected. Any other
    exception is a bug, and is not changed, so that its traceback is printed.
    """
    try:
        yield
    except errors.LedgerError as error:
        message = in_commands(str(error), getattr(error, "session_id", ""))
        raise Failure(message, error.code, exit_code_of(error)) from error
    except click.UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command prints its help
            raise
        hint = f" See '{error.ctx.command_path} --help'." if error.ctx is not None else ""
        raise Failure(in_commands(error.format_message()) + hint, "usage", USAGE) from error
    except KeyboardInterrupt as error:
        raise Failure("Interrupted.", "interrupted", INTERRUPTED) from error
    except BrokenPipeError as error:
        _discard_output()
        raise click.exceptions.Exit(PIPE_CLOSED) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise Failure(f"{where}{error.strerror or error}.", "file_error", FILES) from error

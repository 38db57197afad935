"""Seals: records of what the ledger held, kept where those who can rewrite the ledger cannot rewrite them."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import orjson

from ledger.errors import CapabilityMissing, InvalidInput, LedgerError, WitnessFailed
from ledger.model.seals import Seal, lines
from ledger.sdk.command_base import CommandBase
from ledger.stores.base import SealingStore, outbox_store, sealing_store
from ledger.stores.user_view import UserView

#: Maximum number of seconds that the command of a witness may take.
COMMAND_SECONDS = 60.0


class Seals(CommandBase):
    """Sealing the ledger, and listing its seals."""

    def seal(self, *, output: str | os.PathLike[str] | None = None, command: str | Sequence[str] | None = None) -> Seal:
        """Seal the ledger: record a Merkle root over the heads of all sessions.

        ``verify(against=...)`` later finds each sealed session whose history was rewritten, shortened or removed. The
        seal is recorded in the ledger and, if a warehouse is attached, in the warehouse, together with earlier seals
        that the warehouse lacks. Appends go on meanwhile; what is appended later is covered by the next seal.

        Args:
            output: A file for the seal and its leaves, which replaces an earlier file of this name as a whole. Keep it
                where nobody who can write the ledger can change it.
            command: A program and its arguments, as a list or as a text that is split at spaces as a shell does; no
                shell runs. It gets the seal, without its leaves, as one line of JSON on its standard input.

        Returns:
            The seal.

        Raises:
            WitnessFailed: The seal is recorded in the ledger, and the file, the warehouse or the command did not take
                it; the error has the seal.
            InvalidInput: The command is empty, or ``output`` is the ledger's own file; no seal was made.
            StoreUnavailable, StoreRejected: No seal was made.
            CapabilityMissing: The ledger is in BigQuery.
            PermissionDenied: This is the view of one user.
        """
        store = self._sealing("seal")
        arguments = None if command is None else _arguments(command)
        path = None if output is None else _checked_path(output, store)
        seal = store.seal()
        failures: list[tuple[str, Exception]] = []
        if path is not None:
            try:
                _write(path, store, seal)
            except (OSError, LedgerError) as error:
                failures.append((f"{path} could not be written: {_reason(error)}", error))
        if self._warehouse is not None:
            from ledger.warehouse.seals import send

            try:
                send(self._warehouse.opened, store.seals(), store.store_id)
            except LedgerError as error:
                failures.append((f"{self._warehouse.url} did not take it: {error}", error))
        if arguments is not None:
            try:
                _run(arguments, seal)
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                failures.append((f"the command {arguments[0]} failed: {_reason(error)}", error))
        if failures:
            raise WitnessFailed(
                f"Seal {seal.seal_id} with root {seal.root} was made and is recorded in the ledger, but "
                f"{'; '.join(text for text, _ in failures).rstrip('.')}. Repair the cause and seal again.",
                seal=seal,
            ) from failures[0][1]
        return seal

    def seals(self) -> list[Seal]:
        """Return the seals that the ledger keeps, oldest first.

        Raises:
            CapabilityMissing: The ledger is in BigQuery.
            PermissionDenied: This is the view of one user.
        """
        return self._sealing("seals").seals()

    def _sealing(self, call: str) -> SealingStore:
        """Return the store as a ``SealingStore``; ``call`` is the name of the public method, for the message.

        Raises:
            PermissionDenied: This is the view of one user.
            CapabilityMissing: The ledger is in BigQuery.
        """
        if isinstance(self.store, UserView):
            raise self.store.everybodys(call)
        store = sealing_store(self.store)
        if store is None:
            raise CapabilityMissing(
                "A ledger in BigQuery cannot be sealed. Record sessions in a SQLite file, which can ship its rows to "
                "BigQuery, and seal that file."
            )
        return store


def _arguments(command: str | Sequence[str]) -> list[str]:
    """Return a command as a list of its program and arguments."""
    try:
        arguments = shlex.split(command) if isinstance(command, str) else [os.fspath(each) for each in command]
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"The command cannot be read: {error}; no seal was made.") from error
    if not arguments or not all(isinstance(each, str) and "\0" not in each for each in arguments):
        raise InvalidInput("The command must be a program and its arguments, as text; no seal was made.")
    return arguments


def _checked_path(output: str | os.PathLike[str], store: SealingStore) -> Path:
    path = Path(output)
    outbox = outbox_store(store)
    if outbox is not None:
        own = os.path.realpath(outbox.path)
        if os.path.realpath(path) in {own, *(f"{own}{suffix}" for suffix in ("-wal", "-shm", "-journal", "-turn"))}:
            raise InvalidInput(f"{path} belongs to the ledger itself; give the seal a file of its own.")
    return path


def _write(path: Path, store: SealingStore, seal: Seal) -> None:
    """Write a seal and its leaves to a file: beside it first, so that the name never has part of a seal."""
    beside = path.with_name(f".{path.name}.{seal.seal_id}")
    try:
        with beside.open("xb") as file:
            file.writelines(lines(seal, store.sealed(seal.seal_id)))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _run(arguments: Sequence[str], seal: Seal) -> None:
    """Run the command of a witness, with the seal on its standard input."""
    subprocess.run(  # noqa: S603 - the user's own command, without a shell
        arguments,
        input=orjson.dumps(seal.as_json(), option=orjson.OPT_APPEND_NEWLINE),
        capture_output=True,
        check=True,
        timeout=COMMAND_SECONDS,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = error.stderr.decode(errors="replace").strip().splitlines()
        return f"exit code {error.returncode}{f': {said[-1][:300]}' if said else ''}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"it did not end within {error.timeout:g} seconds"
    return str((error.strerror if isinstance(error, OSError) else None) or error)

"""The witnesses of a seal: a file, the warehouse and a program, which keep copies of the seal outside the ledger."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from ledger.errors import InvalidInput, LedgerError, WitnessFailed
from ledger.files import whole_file
from ledger.model.seals import Seal, lines
from ledger.sdk.programs import FAILURES, arguments_of, reason_of, run
from ledger.stores.base import SealingStore
from ledger.tiers.attached import AttachedWarehouse
from ledger.tiers.opening import check_output
from ledger.warehouse.seals import send

#: Maximum number of seconds that the command of a witness may take.
COMMAND_SECONDS = 60.0


class Witnesses(NamedTuple):
    """The witnesses of a seal.

    Attributes:
        store: The store that has the seal and its leaves.
        path: The file to write; None for no file.
        warehouse: The warehouse to write to; None for no warehouse.
        command: The program to run, and its arguments; None for no program.
    """

    store: SealingStore
    path: Path | None
    warehouse: AttachedWarehouse | None
    command: list[str] | None

    @classmethod
    def of(
        cls,
        store: SealingStore,
        output: str | os.PathLike[str] | None,
        warehouse: AttachedWarehouse | None,
        command: str | Sequence[str] | None,
    ) -> Witnesses:
        """Return the witnesses for the arguments of ``seal``. The path and the command are checked first.

        Raises:
            InvalidInput: The command is empty, or ``output`` exists already or is a file of the ledger or of its
                warehouse.
        """
        path = None if output is None else Path(output)
        if path is not None:
            check_output(store, path, None if warehouse is None else warehouse.url)
            if path.is_file():
                raise InvalidInput(
                    f"The file {path} exists already and may hold an earlier seal, which proves what a later cannot; "
                    "no seal was made. Name each file otherwise, for example by its date."
                )
        return cls(
            store, path, warehouse, None if command is None else arguments_of(command, otherwise="no seal was made")
        )

    def tell(self, seal: Seal) -> None:
        """Hand a seal to every witness. If one fails, the others still get the seal.

        Raises:
            WitnessFailed: At least one witness failed.
        """
        failures: list[tuple[str, Exception]] = []
        for what, tell in self._each():
            try:
                tell(seal)
            except (*FAILURES, ValueError, LedgerError) as error:
                failures.append((f"{what}: {reason_of(error)}", error))
        if failures:
            raise WitnessFailed(
                f"Seal {seal.seal_id} with root {seal.root} was made and is recorded in the ledger, but "
                f"{'; '.join(text for text, _ in failures).rstrip('.')}. Repair the cause and seal again.",
                seal=seal,
            ) from failures[0][1]

    def _each(self) -> Iterator[tuple[str, Callable[[Seal], object]]]:
        store, path, warehouse, command = self
        if path is not None:
            yield f"{path} could not be written", lambda seal: _write(path, store, seal)
        if warehouse is not None:
            told = f"{warehouse.url} did not take it"
            yield told, lambda seal: send(warehouse.opened, store.seals(), store.store_id)
        if command is not None:
            yield (
                f"the command {command[0]} failed",
                lambda seal: run(
                    command, orjson.dumps(seal.as_json(), option=orjson.OPT_APPEND_NEWLINE), seconds=COMMAND_SECONDS
                ),
            )


def _write(path: Path, store: SealingStore, seal: Seal) -> None:
    """Write a seal and its leaves to a file."""
    with whole_file(path, private=True, replace=False) as file:
        file.writelines(lines(seal, store.sealed(seal.seal_id)))

"""Refusals of an import: what cannot be recorded, where it is in the input, and whether the import goes on."""

from __future__ import annotations

from collections.abc import Callable

from ledger.errors import (
    CorruptEvent,
    IdempotencyConflict,
    InvalidInput,
    LedgerError,
    UpcastMissing,
    ValueTooLarge,
    WrongExpectedVersion,
)

#: Errors that concern a part of the input. Other errors concern the store, and end an import always.
REFUSALS = (CorruptEvent, IdempotencyConflict, InvalidInput, UpcastMissing, ValueTooLarge, WrongExpectedVersion)

#: Called with the error of a part that is left out. It raises the error, which ends the import, or returns.
Refuse = Callable[[LedgerError], object]


def end_import(error: LedgerError) -> None:
    """Raise the error: the default, with which an import ends at the first part that is refused."""
    raise error


def locate(error: LedgerError, where: str) -> None:
    """Add a position in the input to the start of an error's message."""
    error.args = (f"{where}: {error}",)

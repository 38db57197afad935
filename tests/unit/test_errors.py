"""The error tree: drawn where it is defined, stable for programs, and able to cross processes."""

from __future__ import annotations

import copy
import pickle
import re

import pytest

import ledger
from ledger import errors
from ledger.errors import LedgerError

CODES = {
    "LedgerError": "ledger_error",
    "InvalidInput": "invalid_input",
    "SessionEnded": "session_ended",
    "SessionNotFound": "session_not_found",
    "PermissionDenied": "permission_denied",
    "WrongExpectedVersion": "wrong_expected_version",
    "IdempotencyConflict": "idempotency_conflict",
    "ValueTooLarge": "value_too_large",
    "CorruptEvent": "corrupt_event",
    "UpcastMissing": "upcast_missing",
    "CapabilityMissing": "capability_missing",
    "ConfigurationError": "configuration_error",
    "MessagesNotRead": "messages_not_read",
    "MissingExtra": "missing_extra",
    "StoreError": "store_error",
    "StoreUnavailable": "store_unavailable",
    "OutcomeUnknown": "outcome_unknown",
    "StoreRejected": "store_rejected",
    "LeaseHeld": "lease_held",
    "LeaseLost": "lease_lost",
    "StreamEnded": "stream_ended",
    "SessionArchived": "session_archived",
    "ArchiveLost": "archive_lost",
    "RowsRefused": "rows_refused",
    "BudgetExceeded": "budget_exceeded",
    "WitnessFailed": "witness_failed",
}


def tree(root: type) -> list[type]:
    """A class and those below it that callers get to see: a module may have one of its own that never leaves it."""
    below = [each for child in root.__subclasses__() for each in tree(child)]
    return [root, *(each for each in below if each.__module__ == errors.__name__)]


def test_the_classes_and_their_codes_are_these():
    assert {it.__name__: it.code for it in tree(LedgerError)} == CODES
    assert set(errors.__all__) == set(CODES)


def test_only_what_may_succeed_by_itself_is_retryable():
    assert {it.__name__ for it in tree(LedgerError) if it.retryable} == {
        *("StoreUnavailable", "LeaseHeld", "LeaseLost", "StreamEnded", "OutcomeUnknown"),
    }


def test_the_tree_is_drawn_in_the_docstring():
    drawn, path = {}, []
    for line in errors.__doc__.splitlines():
        found = re.fullmatch(r"(    (?:│   |    )*)?(?:[├└]── |    )?([A-Z]\w+)(?:  .*)?", line)
        if found and found[2] in CODES:
            depth = 0 if found[2] == "LedgerError" else len(line.split("── ")[0]) // 4
            path[depth:] = [found[2]]
            drawn[found[2]] = path[depth - 1] if depth else "Exception"
    assert drawn == {it.__name__: it.__bases__[0].__name__ for it in tree(LedgerError)}


def test_every_class_is_a_public_name():
    assert all(getattr(ledger, name) is getattr(errors, name) for name in CODES)


def test_a_missing_extra_is_an_import_error_too():
    assert issubclass(errors.MissingExtra, ImportError)


@pytest.mark.parametrize(
    "error",
    [it("what happened") for it in tree(LedgerError)]
    + [
        errors.WrongExpectedVersion("m", session_id="s", expected=2, actual=3),
        errors.IdempotencyConflict("m", session_id="s", event_id="e"),
        errors.OutcomeUnknown("m", session_id="s", event_id="e"),
        errors.ValueTooLarge("m", size=9, limit=8),
        errors.CorruptEvent("m", session_id="s", version=4),
        errors.SessionEnded("m", session_id="s", status="expired"),
        errors.SessionNotFound("m", session_id="s"),
    ],
    ids=repr,
)
def test_an_error_survives_pickling_and_copying(error):
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert (str(again), vars(again)) == (str(error), vars(error))

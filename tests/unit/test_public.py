"""What `import ledger` offers, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ledger

NAMES = """
ANY_VERSION AccessLevel AppendResult Appended ArchiveLost AsyncSessionLedger BudgetExceeded
CapabilityMissing Change ConfigurationError
CorruptEvent Difference Envelope Finding IdempotencyConflict Interval InvalidInput LeaseHeld LeaseLost LedgerError Match
Message MessagesNotRead MissingExtra ModelPrice NewEvent OrderBy OutcomeUnknown Page PermissionDenied QueryStatistics
RecordedChange RecordedEvent
RegisterValue Role RowsRefused Seal SealComparison Session SessionArchived SessionEnded SessionLedger SessionManagerV2
SessionNotFound
StoreError StoreRejected StoreUnavailable StreamEnded ToolCall ToolStatus UpcastMissing ValueTooLarge Verification
WitnessFailed Written WrongExpectedVersion __version__
"""
HEAVY = {
    "google",
    "duckdb",
    "pandas",
    "pyarrow",
    "pydantic",
    "sqlglot",
    "rich",
    "click",
    "tenacity",
    "fastapi",
    "numpy",
}


def test_the_public_names_are_these():
    assert sorted(ledger.__all__) == sorted(NAMES.split())
    assert dir(ledger) == sorted(ledger.__all__)


def test_every_public_name_is_there():
    assert all(getattr(ledger, name) is not None for name in ledger.__all__)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nope'"):
        _ = ledger.Nope


def loaded_after(program: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_after("import ledger") & HEAVY
    assert not loaded_after("from ledger import *") & HEAVY


def test_using_the_embedded_store_loads_nothing_heavy(tmp_path):
    opened = f"from ledger import SessionLedger; it = SessionLedger('sqlite:///{tmp_path}/l.db')"
    program = f"{opened}; it.create_session('u', 'q'); it.close()"
    assert not loaded_after(program) & HEAVY


def test_the_bigquery_session_managers_name_is_the_same_class():
    assert issubclass(ledger.SessionManagerV2, ledger.SessionLedger)

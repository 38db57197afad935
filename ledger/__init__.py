"""The session ledger records every change of an agent's session as an immutable, versioned row.

Public names are imported on first use, so importing the package is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ledger.errors import (
        ArchiveLost,
        BudgetExceeded,
        CapabilityMissing,
        ConfigurationError,
        CorruptEvent,
        IdempotencyConflict,
        InvalidInput,
        LeaseHeld,
        LeaseLost,
        LedgerError,
        MessagesNotRead,
        MissingExtra,
        OutcomeUnknown,
        PermissionDenied,
        RowsRefused,
        SessionArchived,
        SessionEnded,
        SessionNotFound,
        StoreError,
        StoreRejected,
        StoreUnavailable,
        StreamEnded,
        UpcastMissing,
        ValueTooLarge,
        WitnessFailed,
        WrongExpectedVersion,
    )
    from ledger.model.events import (
        ANY_VERSION,
        Appended,
        AppendResult,
        Change,
        Envelope,
        NewEvent,
        RecordedChange,
        RecordedEvent,
    )
    from ledger.model.fields import AccessLevel, Role, ToolStatus
    from ledger.model.findings import Finding, Verification
    from ledger.model.fold import Difference, Interval, RegisterValue, Written
    from ledger.model.page import Page
    from ledger.model.prices import ModelPrice
    from ledger.model.queries import OrderBy
    from ledger.model.query_statistics import QueryStatistics
    from ledger.model.seals import Seal, SealComparison
    from ledger.model.search import Match
    from ledger.model.session import Message, Session, ToolCall
    from ledger.sdk.aio import AsyncSessionLedger
    from ledger.sdk.ledger import SessionLedger, SessionManagerV2

__version__ = "0.3.0.dev0"

_MODULES = {
    "ledger.sdk.aio": ("AsyncSessionLedger",),
    "ledger.errors": (
        *("ArchiveLost", "BudgetExceeded", "CapabilityMissing", "ConfigurationError", "CorruptEvent"),
        "IdempotencyConflict",
        *("InvalidInput", "LeaseHeld", "LeaseLost", "LedgerError", "MessagesNotRead", "MissingExtra", "OutcomeUnknown"),
        *("PermissionDenied", "RowsRefused", "SessionArchived", "SessionEnded", "SessionNotFound", "StoreError"),
        *("StoreRejected", "StoreUnavailable", "StreamEnded", "UpcastMissing", "ValueTooLarge"),
        "WitnessFailed",
        "WrongExpectedVersion",
    ),
    "ledger.model.events": (
        *("ANY_VERSION", "AppendResult", "Appended", "Change", "Envelope", "NewEvent"),
        *("RecordedChange", "RecordedEvent"),
    ),
    "ledger.model.fields": ("AccessLevel", "Role", "ToolStatus"),
    "ledger.model.findings": ("Finding", "Verification"),
    "ledger.model.fold": ("Difference", "Interval", "RegisterValue", "Written"),
    "ledger.model.page": ("Page",),
    "ledger.model.queries": ("OrderBy",),
    "ledger.model.prices": ("ModelPrice",),
    "ledger.model.seals": ("Seal", "SealComparison"),
    "ledger.model.search": ("Match",),
    "ledger.model.query_statistics": ("QueryStatistics",),
    "ledger.model.session": ("Message", "Session", "ToolCall"),
    "ledger.sdk.ledger": ("SessionLedger", "SessionManagerV2"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "ANY_VERSION",
    "AccessLevel",
    "AppendResult",
    "Appended",
    "ArchiveLost",
    "AsyncSessionLedger",
    "BudgetExceeded",
    "CapabilityMissing",
    "Change",
    "ConfigurationError",
    "CorruptEvent",
    "Difference",
    "Envelope",
    "Finding",
    "IdempotencyConflict",
    "Interval",
    "InvalidInput",
    "LeaseHeld",
    "LeaseLost",
    "LedgerError",
    "Match",
    "Message",
    "MessagesNotRead",
    "MissingExtra",
    "ModelPrice",
    "NewEvent",
    "OrderBy",
    "OutcomeUnknown",
    "Page",
    "PermissionDenied",
    "QueryStatistics",
    "RecordedChange",
    "RecordedEvent",
    "RegisterValue",
    "Role",
    "RowsRefused",
    "Seal",
    "SealComparison",
    "Session",
    "SessionArchived",
    "SessionEnded",
    "SessionLedger",
    "SessionManagerV2",
    "SessionNotFound",
    "StoreError",
    "StoreRejected",
    "StoreUnavailable",
    "StreamEnded",
    "ToolCall",
    "ToolStatus",
    "UpcastMissing",
    "ValueTooLarge",
    "Verification",
    "WitnessFailed",
    "Written",
    "WrongExpectedVersion",
    "__version__",
]


if not TYPE_CHECKING:  # a type checker that saw it would take any name of this module for Any

    def __getattr__(name: str) -> Any:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""Every error that the ledger raises, as one tree.

::

    LedgerError
    ├── InvalidInput           the arguments cannot be recorded; nothing was written (also a ValueError)
    ├── SessionNotFound        no session has this id, or the caller may not see it (also a LookupError)
    ├── MessagesNotRead        a session was read without the messages that are asked for (also an AttributeError)
    ├── SessionEnded           the session is expired, archived or deleted; nothing was written
    ├── PermissionDenied       the caller may not make this change, or a user's view does not offer this call
    ├── WrongExpectedVersion   another caller appended first; nothing was written
    ├── IdempotencyConflict    this event_id is already recorded with other content
    ├── ValueTooLarge          an event exceeds the store's limit; nothing was written
    ├── CorruptEvent           a stored row differs from what was recorded
    ├── UpcastMissing          a stored row has a schema version that this release cannot read
    ├── CapabilityMissing      the store does not have the capability
    ├── WitnessFailed          a seal was recorded, but could not be written to a witness
    ├── ConfigurationError     a setting is missing or wrong
    │   └── MissingExtra       an optional package is not installed (also an ImportError)
    └── StoreError
        ├── StoreUnavailable   nothing was written; the same call may succeed later
        │   ├── LeaseHeld      another relay holds the lease
        │   ├── LeaseLost      another relay has taken the lease; nothing was saved
        │   └── StreamEnded    a write stream accepts no more rows; the relay recovers
        ├── OutcomeUnknown     the answer was lost; append again with the same event_id
        └── StoreRejected      the store refuses the call until something is repaired
            ├── BudgetExceeded     the day's maximum of bytes billed would be passed; nothing was run
            ├── SessionArchived    the session's rows are only in a warehouse, which is not attached
            │   └── ArchiveLost    the warehouse does not have the archived session
            └── RowsRefused    the warehouse refused a batch of rows, and stored none of them

Every class has a ``code`` for programs, which never changes, and a flag ``retryable``. If the flag is True, the same
call with the same ``event_id`` may succeed later without any repair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

__all__ = [
    "ArchiveLost",
    "BudgetExceeded",
    "CapabilityMissing",
    "ConfigurationError",
    "CorruptEvent",
    "IdempotencyConflict",
    "InvalidInput",
    "LeaseHeld",
    "LeaseLost",
    "LedgerError",
    "MessagesNotRead",
    "MissingExtra",
    "OutcomeUnknown",
    "PermissionDenied",
    "RowsRefused",
    "SessionArchived",
    "SessionEnded",
    "SessionNotFound",
    "StoreError",
    "StoreRejected",
    "StoreUnavailable",
    "StreamEnded",
    "UpcastMissing",
    "ValueTooLarge",
    "WitnessFailed",
    "WrongExpectedVersion",
]


class LedgerError(Exception):
    """Base class of all errors of this package."""

    code: ClassVar[str] = "ledger_error"
    retryable: ClassVar[bool] = False


class InvalidInput(LedgerError, ValueError):
    """The arguments cannot be recorded; nothing was written."""

    code = "invalid_input"


class SessionNotFound(LedgerError, LookupError):
    """No session has this id, or the caller may not see it."""

    code = "session_not_found"

    def __init__(self, message: str, *, session_id: str = "") -> None:
        super().__init__(message)
        self.session_id = session_id


class MessagesNotRead(LedgerError, AttributeError):
    """The session was read without its messages; the message says how to read them."""

    code = "messages_not_read"


class SessionEnded(LedgerError):
    """The session is expired, archived or deleted and takes no more events; nothing was written.

    Attributes:
        session_id: The session.
        status: ``expired``, ``archived`` or ``deleted``.
    """

    code = "session_ended"

    def __init__(self, message: str, *, session_id: str = "", status: str = "") -> None:
        super().__init__(message)
        self.session_id = session_id
        self.status = status


class PermissionDenied(LedgerError):
    """The caller may see the session but may not change it in this way, or a user's view does not offer this call."""

    code = "permission_denied"


class WrongExpectedVersion(LedgerError):
    """The session is not at the expected version; nothing was written.

    Attributes:
        session_id: The session.
        expected: The version that the caller passed.
        actual: The session's version; 0 if the session does not exist.
    """

    code = "wrong_expected_version"

    def __init__(self, message: str, *, session_id: str = "", expected: int = 0, actual: int = 0) -> None:
        super().__init__(message)
        self.session_id = session_id
        self.expected = expected
        self.actual = actual


class IdempotencyConflict(LedgerError):
    """An event with this event_id is already recorded with other content; nothing was written.

    Attributes:
        session_id: The session.
        event_id: The recorded event's id.
        idempotency_key: The key that the caller gave as ``event_id``; equal to ``event_id`` if it was a UUID.
    """

    code = "idempotency_conflict"

    def __init__(
        self, message: str, *, session_id: str = "", event_id: str = "", idempotency_key: str | None = None
    ) -> None:
        super().__init__(message)
        self.session_id = session_id
        self.event_id = event_id
        self.idempotency_key = idempotency_key or event_id


class ValueTooLarge(LedgerError):
    """An event exceeds the store's limit; nothing was written.

    Attributes:
        size: Size of the event in bytes, or 0 if unknown: the keys, the values, and a fixed number of bytes per row.
        limit: Maximum size in bytes; 0 if unknown.
    """

    code = "value_too_large"

    def __init__(self, message: str, *, size: int = 0, limit: int = 0) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class CorruptEvent(LedgerError):
    """A stored row differs from what was recorded. Reads raise this error; they never skip the row."""

    code = "corrupt_event"

    def __init__(self, message: str, *, session_id: str = "", version: int = 0) -> None:
        super().__init__(message)
        self.session_id = session_id
        self.version = version


class UpcastMissing(LedgerError):
    """A stored row has a schema_version that this release cannot upcast."""

    code = "upcast_missing"


class CapabilityMissing(LedgerError):
    """The store does not have the capability that the call needs."""

    code = "capability_missing"


class WitnessFailed(LedgerError):
    """A seal was recorded in the ledger, but could not be written to a witness: a file, a warehouse or a command.

    Attributes:
        seal: The seal.
    """

    code = "witness_failed"

    def __init__(self, message: str, *, seal: Any = None) -> None:
        super().__init__(message)
        self.seal = seal


class ConfigurationError(LedgerError):
    """A setting is missing or wrong; the message names it."""

    code = "configuration_error"


class MissingExtra(ConfigurationError, ImportError):
    """An optional package is not installed; the message says how to install it."""

    code = "missing_extra"


class StoreError(LedgerError):
    """The store or the warehouse failed."""

    code = "store_error"


class StoreUnavailable(StoreError):
    """The store cannot be reached or is busy; nothing was written."""

    code = "store_unavailable"
    retryable = True


class OutcomeUnknown(StoreError):
    """The answer to an append was lost: the event may or may not be recorded.

    Attributes:
        session_id: The id of the session.
        event_id: The id of the event. Append the event again with both ids: the store records it only if it is not
            recorded yet.
    """

    code = "outcome_unknown"
    retryable = True

    def __init__(self, message: str, *, session_id: str = "", event_id: str = "") -> None:
        super().__init__(message)
        self.session_id = session_id
        self.event_id = event_id


class StoreRejected(StoreError):
    """The store refuses the call until something is repaired; nothing was written."""

    code = "store_rejected"


class BudgetExceeded(StoreRejected):
    """A statement would pass the maximum of bytes billed in a day; it was not run.

    Attributes:
        spent: Bytes that were billed today (UTC), as far as they are known.
        maximum: The maximum.
    """

    code = "budget_exceeded"

    def __init__(self, message: str, *, spent: int = 0, maximum: int = 0) -> None:
        super().__init__(message)
        self.spent = spent
        self.maximum = maximum


class LeaseHeld(StoreUnavailable):
    """Another relay holds the lease; nothing was sent."""

    code = "lease_held"


class LeaseLost(StoreUnavailable):
    """Another relay has taken the lease; nothing was saved."""

    code = "lease_lost"


class StreamEnded(StoreUnavailable):
    """A write stream to the warehouse accepts no more rows.

    The batch that was being sent may be in the warehouse or not. The relay finds out when it recovers.
    """

    code = "stream_ended"


class SessionArchived(StoreRejected):
    """The session is archived: its rows are only in a warehouse, which is not attached.

    Attributes:
        head: The session's head, as it was when the store dropped the rows.
        state: The part of the session's state that the store keeps of an archived session.
        warehouses: URLs of the warehouses that have the rows.
    """

    code = "session_archived"

    def __init__(self, message: str, *, head: Any = None, state: Any = None, warehouses: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.head = head
        self.state = state
        self.warehouses = tuple(warehouses)


class ArchiveLost(SessionArchived):
    """The session is archived, and the warehouse has none of its rows, or only earlier ones."""

    code = "archive_lost"


class RowsRefused(StoreRejected):
    """The warehouse refused a batch and accepted none of its rows; sending it again unchanged will not help.

    Attributes:
        reasons: Maps the index of a refused row in the batch to the reason. Empty if the warehouse named no row.
        certain: True if the rows are certainly the cause. False if the table or the request may be the cause.
        expired: True if the rows named are of days that the warehouse has dropped: it has no row of their sessions.
    """

    code = "rows_refused"

    def __init__(
        self, message: str, reasons: Mapping[int, str] | None = None, *, certain: bool = True, expired: bool = False
    ) -> None:
        super().__init__(message)
        self.reasons = dict(reasons or {})
        self.certain = certain
        self.expired = expired

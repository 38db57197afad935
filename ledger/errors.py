"""Every error the ledger raises, as one tree.

::

    LedgerError
    ├── InvalidInput           what was handed in cannot be recorded; nothing was written
    ├── SessionNotFound        no session has this id (or none that this caller may see)
    ├── SessionEnded           the session is expired, archived or deleted; nothing was written
    ├── PermissionDenied       a read grant where a write is needed, or what is not one user's to ask for
    ├── WrongExpectedVersion   somebody else appended first; nothing was written
    ├── IdempotencyConflict    this event_id was recorded before with other content
    ├── ValueTooLarge          an event is over the store's limit; nothing was written
    ├── CorruptEvent           a stored row cannot be what was recorded
    ├── UpcastMissing          a stored row has a shape this version of the code does not know
    ├── CapabilityMissing      this store cannot do what was asked of it
    ├── ConfigurationError     a setting is missing or wrong
    │   └── MissingExtra       an optional package is not installed (also an ImportError)
    └── StoreError
        ├── StoreUnavailable   nothing was written; the same call may succeed later
        │   ├── LeaseHeld      another relay ships these rows now
        │   ├── LeaseLost      another relay took over; nothing was saved
        │   └── StreamEnded    a write stream takes no more rows; the relay recovers and goes on
        ├── OutcomeUnknown     the answer was lost; append again with the same event_id
        └── StoreRejected      the store refuses for good until something is mended
            ├── SessionArchived    the session's rows are only in a warehouse that is not attached
            │   └── ArchiveLost    the warehouse that should have an archived session does not
            └── RowsRefused    the warehouse will never take these rows as they are

Every class has a stable ``code`` for programs and a ``retryable`` flag: True means that the same call, made again
with the same ``event_id``, may succeed without anybody changing anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = [
    "ArchiveLost",
    "CapabilityMissing",
    "ConfigurationError",
    "CorruptEvent",
    "IdempotencyConflict",
    "InvalidInput",
    "LeaseHeld",
    "LeaseLost",
    "LedgerError",
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
    "WrongExpectedVersion",
]


class LedgerError(Exception):
    """Base of all errors of this package."""

    code: ClassVar[str] = "ledger_error"
    retryable: ClassVar[bool] = False


class InvalidInput(LedgerError):
    """What was handed in cannot be recorded as it is; nothing was written."""

    code = "invalid_input"


class SessionNotFound(LedgerError):
    """No session has this id."""

    code = "session_not_found"

    def __init__(self, message: str, *, session_id: str = "") -> None:
        super().__init__(message)
        self.session_id = session_id


class SessionEnded(LedgerError):
    """The session is expired, archived or deleted, and takes no more events; nothing was written.

    Attributes:
        session_id: The session.
        status: expired, archived or deleted.
    """

    code = "session_ended"

    def __init__(self, message: str, *, session_id: str = "", status: str = "") -> None:
        super().__init__(message)
        self.session_id = session_id
        self.status = status


class PermissionDenied(LedgerError):
    """The caller may see the session but not change it, or asks a user's view for what is not that user's."""

    code = "permission_denied"


class WrongExpectedVersion(LedgerError):
    """The session is not at the version the caller expected; nothing was written.

    Attributes:
        session_id: The session.
        expected: The version the caller gave, in events.
        actual: The version found, in events; 0 where there is no such session.
    """

    code = "wrong_expected_version"

    def __init__(self, message: str, *, session_id: str = "", expected: int = 0, actual: int = 0) -> None:
        super().__init__(message)
        self.session_id = session_id
        self.expected = expected
        self.actual = actual


class IdempotencyConflict(LedgerError):
    """An event with this event_id was recorded before, with other content; nothing was written."""

    code = "idempotency_conflict"

    def __init__(self, message: str, *, session_id: str = "", event_id: str = "") -> None:
        super().__init__(message)
        self.session_id = session_id
        self.event_id = event_id


class ValueTooLarge(LedgerError):
    """An event holds more bytes than the store takes in one; nothing was written.

    Attributes:
        size: Bytes of the event that was handed in: its keys, its values and its rows.
        limit: Bytes that the store takes.
    """

    code = "value_too_large"

    def __init__(self, message: str, *, size: int = 0, limit: int = 0) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class CorruptEvent(LedgerError):
    """A stored row is not what was recorded; it is never skipped in silence."""

    code = "corrupt_event"

    def __init__(self, message: str, *, session_id: str = "", version: int = 0) -> None:
        super().__init__(message)
        self.session_id = session_id
        self.version = version


class UpcastMissing(LedgerError):
    """A stored row has a schema_version that this code cannot bring up to its own."""

    code = "upcast_missing"


class CapabilityMissing(LedgerError):
    """The store does not offer what was asked for."""

    code = "capability_missing"


class ConfigurationError(LedgerError):
    """A setting is missing or wrong; the message names it."""

    code = "configuration_error"


class MissingExtra(ConfigurationError, ImportError):
    """An optional package is not installed; the message says how to install it."""

    code = "missing_extra"


class StoreError(LedgerError):
    """The store behind the ledger failed."""

    code = "store_error"


class StoreUnavailable(StoreError):
    """The store cannot serve now; nothing was written."""

    code = "store_unavailable"
    retryable = True


class OutcomeUnknown(StoreError):
    """The answer to an append was lost: it may or may not be recorded.

    Attributes:
        session_id, event_id: Append again with these: the store records it once, whatever happened before.
    """

    code = "outcome_unknown"
    retryable = True

    def __init__(self, message: str, *, session_id: str = "", event_id: str = "") -> None:
        super().__init__(message)
        self.session_id = session_id
        self.event_id = event_id


class StoreRejected(StoreError):
    """The store refuses, and will until somebody changes something; nothing was written."""

    code = "store_rejected"


class LeaseHeld(StoreUnavailable):
    """Another relay ships these rows now; nothing was sent."""

    code = "lease_held"


class LeaseLost(StoreUnavailable):
    """Another relay took over; nothing was saved."""

    code = "lease_lost"


class StreamEnded(StoreUnavailable):
    """A write stream takes no more rows. Whether it took the batch under way is known once the relay has recovered."""

    code = "stream_ended"


class SessionArchived(StoreRejected):
    """The session is archived: its rows are only in a warehouse, which this store does not reach.

    Attributes:
        head: The session's head when its rows were dropped; no store owns it.
        state: The fields that the store kept.
    """

    code = "session_archived"

    def __init__(self, message: str, *, head: Any = None, state: Any = None) -> None:
        super().__init__(message)
        self.head = head
        self.state = state


class ArchiveLost(SessionArchived):
    """The session is archived, and the warehouse that should have its rows has none of them."""

    code = "archive_lost"


class RowsRefused(StoreRejected):
    """The warehouse will never take these rows as they are; it took none of the batch.

    Attributes:
        reasons: Index of a row within the batch to what is wrong with it; empty if the warehouse named no row.
        certain: Whether the refusal is about the rows, and not about the table or the request as a whole.
    """

    code = "rows_refused"

    def __init__(self, message: str, reasons: Mapping[int, str] | None = None, *, certain: bool = True) -> None:
        super().__init__(message)
        self.reasons = dict(reasons or {})
        self.certain = certain

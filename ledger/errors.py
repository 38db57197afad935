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
        ├── OutcomeUnknown     the answer was lost; append again with the same event_id
        └── StoreRejected      the store refuses for good until something is mended

Every class has a stable ``code`` for programs and a ``retryable`` flag: True means that the same call, made again
with the same ``event_id``, may succeed without anybody changing anything.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "CapabilityMissing",
    "ConfigurationError",
    "CorruptEvent",
    "IdempotencyConflict",
    "InvalidInput",
    "LedgerError",
    "MissingExtra",
    "OutcomeUnknown",
    "PermissionDenied",
    "SessionEnded",
    "SessionNotFound",
    "StoreError",
    "StoreRejected",
    "StoreUnavailable",
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

"""The system clock, and the generators of ids and salts.

``utc_now`` and ``new_id`` are the defaults of the parameters ``clock`` and ``ids`` of stores and of the SDK.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime

import uuid_utils

from ledger.errors import ConfigurationError
from ledger.model.instants import to_micros

Clock = Callable[[], datetime]
NewId = Callable[[datetime], str]


def utc_now() -> datetime:
    """Return the system time as a timezone-aware datetime in UTC."""
    return datetime.now(UTC)


def new_id(now: datetime) -> str:
    """Return a new UUIDv7 for an instant. Ids of instants that differ by a microsecond or more sort in time order.

    The id starts with the instant in whole milliseconds. The next field of a UUIDv7 is called ``rand_a``. Other
    generators may put random bits into this field; this function puts the fraction of the millisecond into it.

    Source: RFC 9562, section 6.2, method 3.

    Raises:
        ConfigurationError: The clock is before 1970, which a UUIDv7 cannot express.
    """
    micros = to_micros(now)
    if micros < 0:
        raise ConfigurationError(
            f"The clock says {now.isoformat()}, which is before 1970; nothing was written. Set this machine's clock."
        )
    uuid = str(uuid_utils.uuid7(nanoseconds=micros * 1000))
    return f"{uuid[:15]}{micros % 1000 * 4096 // 1000:03x}{uuid[18:]}"


def new_salt() -> str:
    """Return a new salt for the hash of a value: 128 random bits as hexadecimal text."""
    return os.urandom(16).hex()

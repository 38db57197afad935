"""The machine's clock and a source of ids, the defaults of ``clock`` and ``ids`` in stores and the SDK; and salts."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime

import uuid_utils

from ledger.model.instants import to_micros

Clock = Callable[[], datetime]
NewId = Callable[[datetime], str]


def utc_now() -> datetime:
    """The time by the machine's clock, aware, in UTC."""
    return datetime.now(UTC)


def new_id(now: datetime) -> str:
    """A fresh UUIDv7 for an instant; ids sort by the microsecond they were made for.

    Source: RFC 9562, section 6.2, method 3: the bits behind the milliseconds hold the rest of the time.
    """
    micros = to_micros(now)
    made = str(uuid_utils.uuid7(nanoseconds=micros * 1000))
    return f"{made[:15]}{micros % 1000 * 4096 // 1000:03x}{made[18:]}"


def new_salt() -> str:
    """Return a fresh salt for the hash of a value: 128 random bits as hex."""
    return os.urandom(16).hex()

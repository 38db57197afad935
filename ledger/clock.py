"""The clock and the source of ids: the only two places where time and chance enter, both passed in everywhere else."""

from __future__ import annotations

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
    """A fresh UUIDv7 for an instant; ids made for one millisecond still sort in the order they were made."""
    return str(uuid_utils.uuid7(nanoseconds=to_micros(now) * 1000))

"""The clock and the source of ids: the only two places where time and chance enter, both passed in everywhere else."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime

import uuid_utils

from ledger.model.instants import to_micros

Clock = Callable[[], datetime]
NewId = Callable[[datetime], str]
_62_BITS = (1 << 62) - 1
_last = ""


def utc_now() -> datetime:
    """The time by the machine's clock, aware, in UTC."""
    return datetime.now(UTC)


def new_id(now: datetime) -> str:
    """A fresh UUIDv7 for an instant; those a thread makes for one millisecond sort in the order they were made."""
    global _last
    made = str(uuid_utils.uuid7(nanoseconds=to_micros(now) * 1000))
    # Without a lock, which an interruption could leave held: threads that meet here may only swap their order.
    last = _last
    if made < last and made[:13] == last[:13]:
        made = _after(last)
    _last = made
    return made


def _after(last: str) -> str:
    """A UUIDv7 of the same millisecond beyond ``last``, by a random step: a forked child takes another one.

    Source: RFC 9562, section 6.2, method 2.
    """
    number = int(last.replace("-", ""), 16)
    tail = (number >> 64 & 0xFFF) << 62 | number & _62_BITS
    tail += 1 + int.from_bytes(os.urandom(5))
    text = f"{number >> 76 << 76 | tail >> 62 << 64 | 2 << 62 | tail & _62_BITS:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

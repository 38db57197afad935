"""What a store and a warehouse compare of a session's rows: everything that tells a row, and no value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple


class SessionKey(NamedTuple):
    """What tells a session from every other in a warehouse, where two stores may have used one id of a caller's own."""

    session_id: str
    created_at: datetime


class RowDigest(NamedTuple):
    """A row without its value. Erasing the value leaves it as it is."""

    version: int
    event_id: str
    field: str
    key: str
    event_hash: str | None
    value_hash: str | None

    @property
    def slot(self) -> tuple[str, str, str]:
        """What tells the row from every other of its session."""
        return self.event_id, self.field, self.key


class SessionDigest(NamedTuple):
    """What the rows of a session amount to.

    Attributes:
        rows: How many they are.
        slots: How many of them differ in (event_id, field, key): fewer where a row is there more than once.
        version: The highest.
        digest: Of all of them, whatever their order.
    """

    rows: int
    slots: int
    version: int
    digest: str


class Tombstone(NamedTuple):
    """What is left of an archived session whose rows were dropped.

    Attributes:
        amount: What its rows amounted to.
        events: The version of each of its events, by id.
    """

    amount: SessionDigest
    events: Mapping[str, int]


#: Of a session without a row.
NOTHING = SessionDigest(0, 0, 0, "")


def session_digest(rows: Iterable[RowDigest]) -> SessionDigest:
    """What the rows of one session amount to.

    Source: sql/statements/reconcile_sessions.sql
    """
    slots: set[tuple[str, str, str]] = set()
    digests: list[str] = []
    last = 0
    for row in rows:
        version, event_id, field, key, event_hash, value_hash = row
        slots.add((event_id, field, key))
        last = max(last, version)
        # No id and no key holds a line break, so no two rows have the same text.
        text = f"{version}\n{event_id}\n{field}\n{key}\n{event_hash or ''}\n{value_hash or ''}"
        digests.append(sha256(text.encode()).hexdigest())
    if not digests:
        return NOTHING
    digests.sort()
    return SessionDigest(len(digests), len(slots), last, sha256("".join(digests).encode()).hexdigest())

"""Digests of rows and of whole sessions, by which a store and a warehouse are compared. Digests hold no values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple


class SessionKey(NamedTuple):
    """A session's identity in a warehouse. The id alone is not enough: two stores may have used the same custom id."""

    session_id: str
    created_at: datetime


class RowDigest(NamedTuple):
    """The identity and hashes of a row, without its value. Erasing the value changes neither identity nor hashes.

    The idempotency key is a part, since the event's hash covers it, and a relay of a release without it drops it.
    """

    version: int
    event_id: str
    field: str
    key: str
    event_hash: str | None
    value_hash: str | None
    idempotency_key: str | None

    @property
    def row_id(self) -> tuple[str, str, str]:
        """The row's identity within its session: (event_id, field, key)."""
        return self.event_id, self.field, self.key


class SessionDigest(NamedTuple):
    """Digest of all rows of a session.

    Attributes:
        rows: Number of rows.
        distinct_rows: Number of distinct (event_id, field, key); less than ``rows`` if a row is duplicated.
        version: Highest version.
        digest: Hash over the rows; their order does not matter.
    """

    rows: int
    distinct_rows: int
    version: int
    digest: str


class Tombstone(NamedTuple):
    """The record that a store keeps of an archived session whose rows it dropped.

    Attributes:
        digest: The digest of the dropped rows.
        events: Mapping from the event_id of each of the session's events to the event's version.
    """

    digest: SessionDigest
    events: Mapping[str, int]


#: The digest of a session without rows.
NOTHING = SessionDigest(0, 0, 0, "")


def session_digest(rows: Iterable[RowDigest]) -> SessionDigest:
    """Return the digest of one session's rows.

    Source: sql/statements/reconcile_sessions.sql
    """
    distinct: set[tuple[str, str, str]] = set()
    digests: list[str] = []
    last = 0
    for row in rows:
        version, event_id, field, key, event_hash, value_hash, idempotency_key = row
        distinct.add((event_id, field, key))
        last = max(last, version)
        # Ids and keys hold no line breaks, and what may hold some is last, so the text is unambiguous.
        text = f"{version}\n{event_id}\n{field}\n{key}\n{event_hash or ''}\n{value_hash or ''}"
        if idempotency_key is not None:
            text += f"\n{idempotency_key}"
        digests.append(sha256(text.encode()).hexdigest())
    if not digests:
        return NOTHING
    digests.sort()
    return SessionDigest(len(digests), len(distinct), last, sha256("".join(digests).encode()).hexdigest())

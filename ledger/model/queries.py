"""Criteria of a list or a search, which every store and the warehouse's projection understand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ledger.model.search import Terms


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """Which sessions to list; every criterion that is given must hold.

    Attributes:
        attributes: Attribute name to the value it must have.
        granted_to: A user with whom the session is shared, to read or to write.
        created_from, created_until: Half-open interval of created_at, aware.
        updated_before: Only sessions whose last event was recorded before this, aware.
        without: Statuses that none of them has.
        at: By when an ``expires_at`` makes the status ``expired``, aware; None where only what is recorded counts.
        unswept: Only those that are expired at ``at`` and not yet recorded so.
    """

    user_id: str | None = None
    status: str | None = None
    session_type: str | None = None
    tag: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    created_from: datetime | None = None
    created_until: datetime | None = None
    updated_before: datetime | None = None
    without: Sequence[str] = ()
    at: datetime | None = None
    unswept: bool = False
    granted_to: str | None = None


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What to look for, and in which sessions; every criterion that is given must hold.

    Attributes:
        terms: What a text must have.
        user_id: Whose sessions.
        session_id: Only this one.
        visible_to: Only sessions of this user, and those that are shared with this user, to read or to write.
        created_from, created_until: Half-open interval of the session's created_at, aware.
    """

    terms: Terms
    user_id: str | None = None
    session_id: str | None = None
    visible_to: str | None = None
    created_from: datetime | None = None
    created_until: datetime | None = None

"""Criteria of lists and searches, for stores and the warehouse's projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ledger.model.search import Terms


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """Criteria of a list of sessions; a session must meet all that are given.

    Attributes:
        user_id: The owner.
        status, session_type: The values of these fields.
        tag: A tag that the session has.
        attributes: Attribute name to required value.
        created_from, created_until: Half-open interval of created_at, aware.
        updated_before: Upper bound of the time of recording of the last event, exclusive, aware.
        without: Excluded statuses.
        at: The time at which ``expires_at`` is evaluated, aware; None for the recorded status.
        unswept: Only sessions that are expired at ``at`` but not recorded as expired.
        granted_to: A user who has a grant, ``read`` or ``write``.
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
    """Criteria of a search; a text and its session must meet all that are given.

    Attributes:
        terms: The terms that a text must contain.
        user_id: The session's owner.
        session_id: The session.
        visible_to: A user who owns the session or has a grant, ``read`` or ``write``.
        created_from, created_until: Half-open interval of the session's created_at, aware.
    """

    terms: Terms
    user_id: str | None = None
    session_id: str | None = None
    visible_to: str | None = None
    created_from: datetime | None = None
    created_until: datetime | None = None

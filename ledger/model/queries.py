"""Criteria of lists and searches, for stores and the warehouse's projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ledger.model.search import Terms


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """Criteria of a list of sessions. A session must meet all criteria that are given.

    Attributes:
        user_id: The owner.
        status, session_type: The values of these fields.
        tag: A tag that the session has.
        attributes: Mapping of attribute name to the value that the session must have. ``ledger.model.equality`` defines
            which values are equal.
        created_from, created_until: Range of the session's created_at, from inclusive, until exclusive. Both are
            timezone-aware.
        updated_before: The last event was recorded before this time, which is timezone-aware.
        without: Statuses that the session must not have.
        at: Timezone-aware time for which the status is computed: a session whose ``expires_at`` has passed counts as
            ``expired``. If None, the status is the recorded one.
        unswept: If true, the session must count as expired at ``at`` and must not be recorded as expired.
        granted_to: A user to whom the session grants access, ``read`` or ``write``.
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
    """Criteria of a search. A text and its session must meet all criteria that are given.

    Attributes:
        terms: The terms that a text must contain.
        user_id: The session's owner.
        session_id: The session that the text belongs to.
        visible_to: A user who may read the session: its owner, or a user to whom it grants access.
        created_from, created_until: Range of the session's created_at, from inclusive, until exclusive. Both are
            timezone-aware.
        role: The role of the message. Other texts than messages have none.
    """

    terms: Terms
    user_id: str | None = None
    session_id: str | None = None
    visible_to: str | None = None
    created_from: datetime | None = None
    created_until: datetime | None = None
    role: str | None = None

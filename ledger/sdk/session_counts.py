"""How many sessions there are of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ledger.model.fields import check_change
from ledger.model.page import SESSIONS_PAGE
from ledger.model.queries import SessionQuery
from ledger.model.session import Session
from ledger.model.values import canonical, check_text
from ledger.sdk.command_base import CommandBase

#: What sessions are counted by, beside their attributes.
GROUPS = ("status", "session_type", "user_id", "day")


class SessionCounts(CommandBase):
    """Counts of sessions by a column or an attribute."""

    def count_sessions(
        self,
        by: str,
        *,
        user_id: str | None = None,
        status: str | None = None,
        session_type: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        created_from: datetime | None = None,
        created_until: datetime | None = None,
    ) -> dict[Any, int]:
        """How many sessions there are of each kind, the most frequent first; deleted ones only by that status.

        Args:
            by: ``status``, ``session_type``, ``user_id``, ``day`` (of creation, in UTC), or the name of an attribute.
            user_id, status, session_type, attributes, created_from, created_until: As for ``list_sessions``.

        Returns:
            Value to number. Sessions without the value count under None. Of an attribute, text and numbers count as
            they are (1 and 1.0 are one number); true and false, objects and lists count as JSON text, ``"true"`` or
            ``'["a"]'``, along with text that reads so: among the keys of a dict ``True`` would be the number 1.

        Raises:
            InvalidInput: A criterion, or what is counted by, does not exist.
        """
        if session_type is not None:
            check_change("session_type", "", session_type, removed=False)
        profile = self._profiles.get(session_type)
        if check_text(by, "by") not in GROUPS and profile is not None:
            profile.has(by)
        now = self._clock()
        query = SessionQuery(
            *(user_id, status, session_type, None, self._criteria(session_type, attributes)),
            *(created_from, created_until),
            without=() if status == "deleted" else ("deleted",),
            at=now,
        )
        counts: Counter[Any] = Counter()
        after: str | None = None
        while True:
            page = self.store.sessions(query, after=after, limit=SESSIONS_PAGE)
            counts.update(_kind(Session(*found, now=now), by) for found in page)
            after = page.next
            if after is None:
                return dict(sorted(counts.items(), key=lambda kind: (-kind[1], kind[0] is None, str(kind[0]))))


def _kind(session: Session, by: str) -> Any:
    if by == "day":
        return session.created_at.date().isoformat()
    if by in GROUPS:
        return getattr(session, by)
    value = session.attributes.get(by)
    as_it_is = value is None or (isinstance(value, str | int | float) and not isinstance(value, bool))
    return value if as_it_is else canonical(value)

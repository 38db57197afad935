"""Counts of sessions by a column or an attribute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ledger.errors import CorruptEvent
from ledger.model.equality import comparison_text
from ledger.model.fields import check_change
from ledger.model.page import SESSIONS_PAGE, every_item
from ledger.model.queries import SessionQuery
from ledger.model.session import Session
from ledger.model.values import check_text
from ledger.sdk.arguments import criteria
from ledger.sdk.command_base import CommandBase

#: Columns that sessions can be counted by, besides attributes.
GROUPS = ("status", "session_type", "user_id", "day")


class SessionCounts(CommandBase):
    """Mixin class: counts of sessions."""

    @criteria
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
        """Count sessions by a column or an attribute. Deleted sessions are counted only with ``status="deleted"``.

        Args:
            by: ``status``, ``session_type``, ``user_id``, ``day`` (of creation, in UTC), or the name of an attribute. A
                name that no session has is no error, and counts all sessions under None; a profile refuses it.
            user_id, status, session_type, attributes, created_from, created_until: As for ``list_sessions``.

        Returns:
            A dict of value to number of sessions, most frequent first. Sessions without a value count under None. Text
            and numbers become keys unchanged; 1 and 1.0 are one key. Booleans, objects and lists are converted to JSON
            text, such as ``"true"`` or ``'["a"]'``, because in a dict the keys ``True`` and 1 are the same, and
            objects and lists cannot be keys. So the text ``"true"`` and the boolean true are counted together. Equal
            objects or lists, such as ``[1]`` and ``[1.0]``, have one text.

        Raises:
            InvalidInput: A criterion is invalid, or a profile has no such attribute.
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
        for head, state in every_item(lambda after: self.store.sessions(query, after=after, limit=SESSIONS_PAGE)):
            try:
                counts[_group(Session(head, state, now=now), by)] += 1
            except TypeError as error:  # a list or an object
                raise CorruptEvent(
                    f"Session {head.session_id}: its {by} is not what was recorded ({error}). `ledger verify` says "
                    "what is damaged.",
                    session_id=head.session_id,
                ) from error
        return dict(sorted(counts.items(), key=lambda group: (-group[1], group[0] is None, str(group[0]))))


def _group(session: Session, by: str) -> Any:
    """Return the key that a session is counted under."""
    if by == "day":
        return session.created_at.date().isoformat()
    if by in GROUPS:
        return getattr(session, by)
    value = session.attributes.get(by)
    is_key = value is None or (isinstance(value, str | int | float) and not isinstance(value, bool))
    return value if is_key else comparison_text(value)

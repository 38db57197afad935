"""Typed attributes, and how many sessions there are of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ledger.model.fields import check_change
from ledger.model.queries import SessionQuery
from ledger.model.session import Session
from ledger.model.values import canonical, check_text
from ledger.sdk.recorder import CommandBase

if TYPE_CHECKING:
    from pydantic import BaseModel

#: What sessions are counted by, beside their attributes.
GROUPS = ("status", "session_type", "user_id", "day")
_PAGE = 1000


class Grouping(CommandBase):
    """Profiles of session types, and counts."""

    def register_profile(self, session_type: str, model: type[BaseModel]) -> None:
        """Have the attributes of sessions of a type checked by a model, from now on and by this ledger alone.

        Each attribute is checked by itself when it is set, and kept as the model's field has it, its validators, its
        serializers and the model's configuration included; ``model_validator``, which looks at several, is not asked.
        In lists and counts an attribute that the model does not have is a mistake. What is recorded already stays as it
        is.

        Args:
            session_type: Of the sessions.
            model: A pydantic model whose fields are the attributes.

        Raises:
            ConfigurationError: It is no pydantic model with fields, or names a type that is not there.
        """
        from ledger.model.profiles import Profile

        self._profiles[check_text(session_type, "session_type")] = Profile(session_type, model)

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
            page = self.store.sessions(query, after=after, limit=_PAGE)
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

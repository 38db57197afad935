"""Criteria of lists and searches, for stores and the warehouse's projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from ledger.errors import InvalidInput
from ledger.model.page import position_of
from ledger.model.search import Terms

#: The orders of a list of sessions: by creation time or by the time of the last event, newest first in both.
OrderBy = Literal["created", "updated"]
ORDERS: tuple[OrderBy, ...] = get_args(OrderBy)
#: What the cursor of each order begins with. A position by creation has no word, as in earlier releases.
_PREFIX: Mapping[str, str] = {"created": "", "updated": "updated:"}


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """Criteria of a list of sessions. A session must meet all criteria that are given.

    Attributes:
        user_id: The owner.
        status, session_type: The values of these fields; a value that the field cannot have is refused.
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
        order_by: The order of the list; see ``OrderBy``.
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
    order_by: OrderBy = "created"

    def position(self, after: str | None) -> tuple[int, str] | None:
        """Return the time (in microseconds) and the id of the session after which a page begins; None if it is first.

        Args:
            after: The ``next`` of the page before; None for the first page.

        Raises:
            InvalidInput: The order does not exist, or ``after`` is not the ``next`` of a page in this order.
        """
        if not isinstance(self.order_by, str) or self.order_by not in ORDERS:
            raise InvalidInput(f"order_by must be {' or '.join(map(repr, ORDERS))}, not {str(self.order_by)[:70]!r}.")
        if after is None:
            return None
        found = "updated" if isinstance(after, str) and after.startswith(_PREFIX["updated"]) else "created"
        micros, session_id = position_of(after.removeprefix(_PREFIX[found]) if isinstance(after, str) else after)
        if found != self.order_by:
            raise InvalidInput(
                f"after is a cursor of the order {found!r}, and this list has the order {self.order_by!r}; "
                "give all pages of a list the same order_by."
            )
        return micros, session_id

    def cursor(self, micros: int, session_id: str) -> str:
        """Return the ``next`` of a page whose last session has this time, in microseconds, and this id."""
        return f"{_PREFIX[self.order_by]}{micros}:{session_id}"


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
        role: The role of the message, one of ``ROLES``; any other is refused. Other texts than messages have none.
    """

    terms: Terms
    user_id: str | None = None
    session_id: str | None = None
    visible_to: str | None = None
    created_from: datetime | None = None
    created_until: datetime | None = None
    role: str | None = None

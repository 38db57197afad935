"""Full-text search of messages, questions, titles and summaries."""

from __future__ import annotations

from datetime import datetime

from ledger.model.fields import Role
from ledger.model.page import Page
from ledger.model.queries import SearchQuery
from ledger.model.search import Match, Terms
from ledger.sdk.arguments import criteria
from ledger.sdk.command_base import CommandBase


class Search(CommandBase):
    """Mixin class: full-text search."""

    @criteria
    def search(
        self,
        text: str,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        role: Role | None = None,
        created_from: datetime | None = None,
        created_until: datetime | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> Page[Match]:
        """Return a page of the messages, questions, titles and summaries that contain every word of a text.

        Only current values are searched, and only in sessions that are not deleted. In a message, the content is
        searched or, if the content is a list of parts, the text of each part. Only whole words match. Upper and lower
        case are the same; accents matter, but not whether they are part of their letters or separate characters
        (Unicode's forms NFC and NFD). Words in double quotes must occur in that order, next to each other. Nothing else
        in the text is syntax. The search sees every append that returned before it. Sessions that are only in the
        warehouse (see ``archive_session``) are not searched.

        Args:
            text: 1 to 1,000 characters with at least one letter or digit.
            user_id: Search only sessions of this owner. A view (``for_user``) always searches its user's own sessions
                and those shared with them, and no others.
            session_id: Search only this session.
            role: Search only messages of this role, such as ``user`` or ``tool``.
            created_from, created_until: Range of the session's creation time, from inclusive, until exclusive. Both are
                timezone-aware.
            after: The ``next`` of an earlier page.
            limit: Maximum number of matches, 1 to 10,000.

        Returns:
            The matches, newest session first, and within a session by version; ``next`` is None if there are no more.

        Raises:
            InvalidInput: The text has no word, or is too long, or a criterion is invalid.
            CapabilityMissing: This Python's SQLite was built without FTS5.
        """
        query = SearchQuery(
            Terms.of(text),
            user_id=user_id,
            session_id=session_id,
            created_from=created_from,
            created_until=created_until,
            role=role,
        )
        return self.store.search(query, after=after, limit=limit)

"""Search over what is written in sessions: messages, questions, titles and summaries."""

from __future__ import annotations

from datetime import datetime

from ledger.model.page import Page
from ledger.model.queries import SearchQuery
from ledger.model.search import Match, Terms
from ledger.sdk.command_base import CommandBase


class Search(CommandBase):
    """Finding sessions by what is written in them."""

    def search(
        self,
        text: str,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        created_from: datetime | None = None,
        created_until: datetime | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> Page[Match]:
        """Messages, questions, titles and summaries in which every word occurs, as they stand now: what was replaced,
        removed or erased is not found, nor are deleted sessions.

        Words are whole words in any case, accents count, and those in double quotes must stand in a row; nothing else
        in the text is syntax. Of a message its content is searched, or the texts of the content's parts. What was
        appended before the call is found; with a warehouse, sessions that are only there are not (see ``archive``).

        Args:
            text: 1 to 1,000 characters, at least one word: letters or digits.
            user_id: Only sessions of this user. In the view of one user (``for_user``) their own and those that are
                shared with them are searched, whatever is given, and no others.
            session_id: Only this session.
            created_from, created_until: Half-open interval in which the session began, aware.
            after: The ``next`` of an earlier page.
            limit: At most this many.

        Returns:
            The newest session first, and within a session the text that was written first.

        Raises:
            InvalidInput: The text has no word, or is too long.
            CapabilityMissing: The ledger cannot search: this Python's SQLite was built without FTS5.
        """
        query = SearchQuery(
            Terms.of(text),
            user_id=user_id,
            session_id=session_id,
            created_from=created_from,
            created_until=created_until,
        )
        return self.store.search(query, after=after, limit=limit)

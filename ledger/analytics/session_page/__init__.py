"""One session as an HTML page; see ``session_page``."""

from __future__ import annotations

from ledger.analytics.session_page.page import session_page

__all__ = ["session_page"]

"""Questions that teams ask of their ledger; see docs/analytics.md."""

from __future__ import annotations

from ledger.analytics.questions import Analytics

__all__ = ["Analytics"]

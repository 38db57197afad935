"""What a check of ``ledger doctor`` reports."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: Its name.
        status: ok, note (works, but know this) or problem.
        detail: What was found.
        remedy: What to do about it; empty where nothing is to be done.
    """

    what: str
    status: str
    detail: str
    remedy: str = ""

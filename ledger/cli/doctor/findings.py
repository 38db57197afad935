"""Result of a check of ``ledger doctor``."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        what: Name of the check.
        status: ok, note (works, with a remark) or problem.
        detail: Result of the check.
        remedy: Action to take, or an empty string.
    """

    what: str
    status: str
    detail: str
    remedy: str = ""

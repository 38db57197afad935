"""The command line's words for what the SDK's messages name in Python."""

from __future__ import annotations

import re
import shlex

#: Maps what a message may say to what the terminal says instead. ``SESSION_ID`` becomes the session's id.
WORDS = {
    "create_session()": "`ledger new QUESTION`",
    "expire_session()": "`ledger expire SESSION_ID`",
    "hydrate_session()": "`ledger hydrate SESSION_ID`",
    "restore_session()": "`ledger restore SESSION_ID`",
    "history(after=...)": "`ledger history SESSION_ID`",
    "SessionLedger.open(url, warehouse=...)": "--warehouse URL",
    "warehouse=, or": "--warehouse, or",
    "max_ttl_hours, or ": "",
    "(ttl, expires_at or default_ttl_hours)": "(--ttl-hours, or LEDGER_SESSION_DEFAULT_TTL_HOURS)",
}
_WORDS = re.compile("|".join(map(re.escape, WORDS)))


def in_commands(message: str, session_id: str = "") -> str:
    """Return a message with commands instead of Python's methods and arguments.

    Args:
        message: The message of an error.
        session_id: The session that the error is about; empty if it is about none.
    """
    session = shlex.quote(session_id) if session_id else "SESSION_ID"
    return _WORDS.sub(lambda match: WORDS[match[0]].replace("SESSION_ID", session), message)

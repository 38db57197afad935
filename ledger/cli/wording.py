"""The command line's words for what the SDK's messages name in Python."""

from __future__ import annotations

import re
import shlex

#: Maps what a message may say to what the terminal says instead. ``{}`` stands for any text: the n-th ``{}`` on the
#: right is the text of the n-th on the left. ``SESSION_ID`` becomes the session's id.
WORDS = {
    # calls
    "create_session()": "`ledger new QUESTION`",
    "create one with create_session()": "create one with `ledger chat-init`",
    "expire_session()": "`ledger expire SESSION_ID`",
    "Set an earlier expires_at with update_session()": (
        "Set an earlier end with `ledger set SESSION_ID expires_at TIME`"
    ),
    "hydrate_session()": "`ledger hydrate SESSION_ID`",
    "restore_session()": "`ledger restore SESSION_ID`",
    "delete_session()": "`ledger delete SESSION_ID`",
    "history(after=...)": "`ledger history SESSION_ID`",
    "Read them with get_messages({}), or with get_session({}, messages=True).": (
        "Read them with `ledger show SESSION_ID --messages`."
    ),
    "Query it with ledger.sql(), and in a terminal with `ledger sql`": "Query it with `ledger sql`",
    "forget_warehouse(even_if_needed=True)": "--yes",
    "open it again with SessionLedger.open()": "run the command again",
    "create another with for_user()": "run the command again",
    "use the ledger that for_user() was called on": "use the ledger of all users",
    "call for_user() on the ledger": "use the ledger of all users",
    ".replace(tzinfo=timezone.utc)": "2026-11-21T09:00:00Z",
    "must be a datetime with a time zone": "must be a time with a UTC offset",
    "a Message(role=..., content=...)": "a message",
    # arguments
    "SessionLedger.open(url, warehouse=...)": "--warehouse URL",
    "warehouse=, or": "--warehouse, or",
    "after is a cursor of": "--after is a cursor of",
    "the same order_by": "the same --order-by",
    "open the ledger with that (warehouse=, or LEDGER_WAREHOUSE)": "set LEDGER_WAREHOUSE to it",
    "open the ledger with one of them (warehouse=, or LEDGER_WAREHOUSE)": "set LEDGER_WAREHOUSE to one of them",
    "a subscription continues with after=position": "`ledger tail` continues with --after",
    "shared=True lists the sessions shared with a user: give their user_id": (
        "--shared lists the sessions shared with a user: name the user with --user"
    ),
    "user_id is missing: give the owner of the session": "The session needs an owner: name one with --user",
    "Event {} of session {} may or may not be recorded: append it again with the same event_id": (
        "Event {} of session {} may or may not be recorded: run the command again with this id as --event-id"
    ),
    "call again with the event_id": "run the command again with --event-id",
    "under this event_id": "under this --event-id",
    "Use a new event_id": "Use a new --event-id",
    "after must be the next of an earlier page": "--after must be a cursor that an earlier page has printed",
    "after is {}, and the last seq of this ledger is {}: after is of": (
        "--after is {}, and the last sequence number of this ledger is {}: --after is of"
    ),
    # values
    "ttl is None": "--ttl-hours is none",
    "ttl is ": "--ttl-hours is ",
    "ttl must": "--ttl-hours must",
    "give a ttl": "give --ttl-hours",
    "None means no expiry": "none means no expiry",
    "(ttl, expires_at or default_ttl_hours)": "(--ttl-hours, or LEDGER_SESSION_DEFAULT_TTL_HOURS)",
    "max_ttl_hours, or ": "",
    "default_ttl_hours is ": "The default TTL is ",
    "max_ttl_hours is ": "The maximum TTL is ",
    " (max_ttl_hours)": "",
    "partition_expiration_days is ": "--partition-expiration-days is ",
    "record None or text": "record null or text",
    "a number, a Decimal, a boolean, bytes, a date, a time, a datetime, None, or a list of one of these": (
        "a JSON number, true, false or null, or an array of one of these"
    ),
    "is a list that contains None": "is an array that contains null",
}
_LONGEST_FIRST = sorted(WORDS, key=len, reverse=True)
_WORDS = re.compile(
    "|".join(
        f"(?P<w{at}>{re.escape(words).replace(re.escape('{}'), '.+?')})" for at, words in enumerate(_LONGEST_FIRST)
    ),
    re.DOTALL,
)


def in_commands(message: str, session_id: str = "") -> str:
    """Return a message with commands and options instead of Python's methods, arguments and values.

    Args:
        message: The message of an error.
        session_id: The session that the error is about; empty if it is about none.
    """
    session = shlex.quote(session_id) if session_id else "SESSION_ID"

    def said(match: re.Match[str]) -> str:
        words = _LONGEST_FIRST[int((match.lastgroup or "w0")[1:])]
        instead = WORDS[words].replace("SESSION_ID", session)
        kept = re.fullmatch(re.escape(words).replace(re.escape("{}"), "(.+?)"), match[0], re.DOTALL)
        return instead.format(*kept.groups()) if kept is not None and "{}" in instead else instead

    return _WORDS.sub(said, message)

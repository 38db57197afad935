"""Session ids as people type them: a part of an id, or @ for the newest session."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import wraps
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from ledger.errors import InvalidInput, SessionNotFound

if TYPE_CHECKING:
    from ledger.sdk.ledger import SessionLedger

#: The id that stands for the newest session.
NEWEST = "@"
#: Maximum number of ids that are listed if several have a part, and that are looked up.
_LISTED, _SEEN = 5, 1000
_WHOLE = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
#: Minimum length of a part, so that a slip is not taken for an id.
_SHORTEST = 4
#: A part of a generated id. Commands that change a session take no part of other ids: ``delete order-1`` must never
#: delete ``order-10``.
_PART = re.compile(r"[0-9a-f-]{4,35}")
#: The beginning of a UUIDv7 that tells a range of creation times: 8 digits are a minute.
_BEGINNING = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{0,4}|-[0-9a-f]{4}-[0-9a-f-]*)?")


class SessionId(click.types.StringParamType):
    """The type of an argument or option that names a session. ``with_whole_ids`` replaces its value by a whole id."""

    name = "text"


#: The type of all arguments and options that name a session.
SESSION = SessionId()
session_argument = click.argument("session_id", type=SESSION)


def with_whole_ids(
    function: Callable[..., Any],
    parameters: Iterable[click.Parameter],
    open_ledger: Callable[[str | None], Any],
    *,
    any_id: bool,
) -> Callable[..., Any]:
    """Return the function of a command, which then gets whole ids in place of parts of ids.

    Args:
        function: The function. It has the parameter ``url``.
        parameters: The parameters of the command.
        open_ledger: Function that opens the ledger at a URL as a context manager.
        any_id: True to look for parts of ids of the caller's own too; see ``whole_id``.
    """
    names = [each.name for each in parameters if isinstance(each.type, SessionId) and each.name is not None]
    if not names:
        return function

    @wraps(function)
    def run(**values: Any) -> Any:
        typed = [each for name in names for each in _texts(values[name])]
        if all(map(_WHOLE.fullmatch, typed)):
            return function(**values)
        with open_ledger(values["url"]) as ledger:
            whole = {text: whole_id(ledger, text, any_id=any_id) for text in typed}
        try:
            return function(**{**values, **{name: _replaced(values[name], whole) for name in names}})
        except SessionNotFound as error:
            if error.session_id not in typed or not 0 < len(error.session_id) < _SHORTEST or error.session_id == NEWEST:
                raise
            raise SessionNotFound(
                f"There is no session {error.session_id}. A part of a session id has at least {_SHORTEST} characters; "
                "type more of the id.",
                session_id=error.session_id,
            ) from error

    return run


def whole_id(ledger: SessionLedger, text: str, *, any_id: bool) -> str:
    """Return the id of the session that a text names: an id, @ for the newest session, or a part of an id.

    The part is its beginning or its end. A session that has the text as its own id comes first. In BigQuery only the
    beginning is looked up, since it tells the day. A text that is no part of an id is returned as it is.

    Raises:
        InvalidInput: The text is part of several ids.
        SessionNotFound: The text is @, and there is no session.
    """
    from ledger.stores.base import outbox_store

    if text != NEWEST and not (any_id and len(text) >= _SHORTEST) and not _PART.fullmatch(text):
        return text
    if ledger.get_session(text) is not None:
        return text
    if text == NEWEST:
        newest = ledger.list_sessions(limit=1)
        if not newest:
            raise SessionNotFound('There is no session; create one with: ledger new "QUESTION"')
        return newest[0].session_id
    store = outbox_store(ledger.store)
    seen = _begun(ledger, text) if store is None else store.ids_with(text, limit=_SEEN)
    found = [each for each in seen if any_id or _WHOLE.fullmatch(each)]
    if len(found) > 1 or len(seen) == _SEEN:  # ids that were not looked up may have the part too
        found = found if len(found) > 1 else seen
        listed = ", ".join(found[:_LISTED]) + (" and more" if len(found) > _LISTED else "")
        raise InvalidInput(f"{text} is part of several session ids: {listed}. Type more of the id.")
    return found[0] if found else text


def _begun(ledger: SessionLedger, beginning: str) -> list[str]:
    """Return the generated ids with this beginning, of sessions that are not deleted."""
    if not _BEGINNING.fullmatch(beginning) or beginning[14:15] not in ("", "7"):
        return []
    digits = beginning.replace("-", "")[:12]
    first, last = (int(digits.ljust(12, fill), 16) for fill in "0f")
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    try:
        span = epoch + timedelta(milliseconds=first), epoch + timedelta(milliseconds=last + 1)
    except OverflowError:
        return []
    sessions = ledger.iter_sessions(created_from=span[0], created_until=span[1])
    return list(islice((it.session_id for it in sessions if it.session_id.startswith(beginning)), _LISTED + 1))


def _texts(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else value


def _replaced(value: str | tuple[str, ...] | None, whole: Mapping[str, str]) -> Any:
    if value is None:
        return None
    return whole[value] if isinstance(value, str) else tuple(whole[each] for each in value)

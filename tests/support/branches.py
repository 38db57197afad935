"""Sessions to fork and to rewind, and what is compared of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ledger import Change, Session, SessionLedger
from ledger.testing import recorded

#: What a fork has of its own.
OWN = ("lineage", "child", "grant", "expires_at")


def content(session: Session | None) -> dict[str, Any]:
    """All of a session but its ids, times, versions and what is its own: values, and the order of what has one."""
    assert session is not None
    slots = {slot: it.text for slot, it in session._state.items() if slot[0] not in OWN and slot[0] != "message"}
    return {
        **{"/".join(slot): text for slot, text in slots.items()},
        "messages": [(it.message_id, it.role, it.content) for it in session.messages or ()],
        "calls": session.calls,
        "queries": list(session.queries) and in_order(session, "query"),
        "scores": in_order(session, "score"),
    }


def in_order(session: Session, field: str) -> list[str]:
    slots = [slot for slot in session._state if slot[0] == field]
    return [key for _, key in sorted(slots, key=lambda slot: (session._state[slot].version, slot[1]))]


def read(ledger: SessionLedger, session_id: str, version: int | None = None) -> dict[str, Any]:
    return content(ledger.get_session(session_id, version=version, messages=True))


def everything(ledger: SessionLedger) -> list[tuple[Any, ...]]:
    return list(ledger.store.rows_after(0, 100_000))


# Large states


def many(ledger: SessionLedger, messages: int, name: Callable[[int], str] = "m{:05}".format) -> str:
    """A session of so many messages, brought in at once."""
    first = recorded(1, 0, [Change("status", value="completed"), Change("question", value="q")])
    rest = (
        recorded(number + 2, number + 1, [Change("message", name(number), {"role": "user", "content": number})])
        for number in range(messages)
    )
    ledger.store.ingest([first, *rest])
    return "s"

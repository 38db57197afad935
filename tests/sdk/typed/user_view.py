"""Programs of one user's view, in both classes; ``tests/sdk/test_types.py`` checks and runs them."""

from __future__ import annotations

from typing import assert_type

from ledger import AppendResult, AsyncSessionLedger, Session, SessionLedger
from ledger.sdk.frames import MessagePage, SessionPage


def main(url: str) -> None:
    with SessionLedger(url) as ledger:
        ada = assert_type(ledger.for_user("ada"), SessionLedger)
        assert_type(ada.user_id, str | None)
        session_id = assert_type(ada.create_session(question="How many orders?"), str)
        assert_type(ada.grant_access(session_id, "bob", "read"), AppendResult)
        bob = ledger.for_user("bob")
        assert_type(bob.get_session(session_id), Session | None)
        assert_type(bob.get_grants(session_id), dict[str, str])
        assert_type(bob.list_sessions(shared=True), SessionPage)


async def asynchronous_main(url: str) -> None:
    async with AsyncSessionLedger(url) as ledger:
        ada = assert_type(ledger.for_user("ada"), AsyncSessionLedger)
        session_id = assert_type(await ada.create_session(question="How many orders?"), str)
        assert_type(await ada.add_message(session_id, "user", "hello"), AppendResult)
        assert_type(await ada.get_messages(session_id), MessagePage)
        assert_type([each async for each in ada.iter_sessions()], list[Session])

"""Mistakes that a type checker finds: each line names the code of its error. Nothing here is run."""

from __future__ import annotations

from ledger import AsyncSessionLedger, SesionLedger, SessionLedger, SessionManagerV2  # error: attr-defined


def sync_mistakes(ledger: SessionLedger, manager: SessionManagerV2) -> None:
    ledger.add_mesage("s", "user", "hello")  # error: attr-defined
    ledger.add_message("s", "user", "hello", tokens=7)  # error: call-arg
    ledger.add_message("s", "user", "hello", expected_version="1")  # error: arg-type
    ledger.add_message("s", "usr", "hello")  # error: arg-type
    ledger.update_tool_call_status("s", "search", "done")  # error: arg-type
    ledger.grant_access("s", "bob", "admin")  # error: arg-type
    ledger.search("hello", role="bot")  # error: arg-type
    SessionLedger("sqlite:///l.db", relay="on")  # error: arg-type
    print(ledger.get_session("s").question)  # error: union-attr
    ledger.create_session("ada", ttl=24)  # error: arg-type
    ledger.for_user("ada").list_session()  # error: attr-defined
    manager.get_sesion("s")  # error: attr-defined
    SessionLedger.open("sqlite:///l.db", warehous="duckdb:///w.duckdb")  # error: call-arg


async def async_mistakes(ledger: AsyncSessionLedger) -> None:
    await ledger.add_mesage("s", "user", "hello")  # error: attr-defined
    await ledger.add_message("s", "user", "hello", tokens=7)  # error: call-arg
    await ledger.add_message("s", "user", "hello", expected_version="1")  # error: arg-type
    await ledger.add_message("s", "usr", "hello")  # error: arg-type
    await ledger.update_tool_call_status("s", "search", "done")  # error: arg-type
    print((await ledger.get_session("s")).question)  # error: union-attr
    ledger.add_message("s", "user", "hello")  # error: unused-coroutine
    print(ledger.get_messages("s").next)  # error: attr-defined
    await ledger.create_session("ada", ttl=24)  # error: arg-type
    await ledger.for_user("ada").list_session()  # error: attr-defined
    await ledger.warehouse.synch()  # error: attr-defined
    await ledger.store.stat("s")  # error: attr-defined
    AsyncSessionLedger("sqlite:///l.db", warehous="duckdb:///w.duckdb")  # error: call-arg
    AsyncSessionLedger.open("sqlite:///l.db", warehous="duckdb:///w.duckdb")  # error: call-arg
    for _ in ledger.replay("s"):  # error: attr-defined
        pass


def misspelt_class(ledger: SesionLedger) -> None:
    """The name is an error where it is imported; what it stands for is Any."""

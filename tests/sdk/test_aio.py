"""AsyncSessionLedger: the same surface as SessionLedger's, and a loop that goes on while the disk is waited for."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from pathlib import Path
from typing import Any

import pytest

from ledger import (
    AsyncSessionLedger,
    ConfigurationError,
    InvalidInput,
    PermissionDenied,
    SessionLedger,
    SessionNotFound,
    StoreRejected,
    StoreUnavailable,
)
from ledger.sdk.aio import asynchronous
from ledger.testing import START, CountedIds, SetClock
from support.held_store import RETRY_TIMEOUT, HeldStore


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


# The surface


def test_the_surface_is_that_of_the_session_ledger() -> None:
    assert public(AsyncSessionLedger) - public(SessionLedger) == {"store", "url"}  # attributes of an instance there
    assert public(SessionLedger) <= public(AsyncSessionLedger)


@pytest.mark.parametrize(
    "name", sorted(name for name in public(SessionLedger) if callable(getattr(SessionLedger, name)))
)
def test_a_method_has_the_arguments_and_the_words_of_its_twin(name: str) -> None:
    ours, theirs = getattr(AsyncSessionLedger, name), getattr(SessionLedger, name)
    assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters
    assert (ours.__name__, ours.__qualname__) == (name, f"AsyncSessionLedger.{name}")
    assert inspect.getdoc(ours)
    if name not in ("open", "close"):
        assert inspect.getdoc(ours) == inspect.getdoc(theirs)


def test_the_class_takes_what_the_session_ledger_takes() -> None:
    assert inspect.signature(AsyncSessionLedger).parameters == inspect.signature(SessionLedger).parameters


def test_all_is_awaited_but_views_and_iterations() -> None:
    methods = {name for name in public(SessionLedger) if callable(getattr(SessionLedger, name))}
    at_once = {name for name in methods if not inspect.iscoroutinefunction(getattr(AsyncSessionLedger, name))}
    assert at_once == {"open", "for_user", "iter_sessions", "replay", "subscribe"}


def test_a_method_that_is_added_to_the_session_ledger_is_here_by_itself() -> None:
    from ledger.sdk.aio import _class_over

    class Longer(SessionLedger):
        def newly(self, session_id: str) -> int:
            """It is new."""
            return len(session_id)

    made: Any = _class_over(Longer)
    assert inspect.iscoroutinefunction(made.newly)
    assert made.newly.__doc__ == "It is new."


# What is recorded


def test_it_records_what_the_session_ledger_would(url: str) -> None:
    def settings() -> dict[str, Any]:
        return {"clock": SetClock(), "ids": CountedIds()}

    async def record() -> str:
        async with AsyncSessionLedger(url, **settings()) as ledger:
            session_id = await ledger.create_session("ada", "How many orders?", fields={"title": "Orders"})
            await ledger.add_message(session_id, "user", "hello", event_id="m1")
            appended = await ledger.add_message(session_id, "user", "hello", event_id="m1")
            assert appended.replayed
            assert [message.content for message in await ledger.get_messages(session_id)] == ["hello"]
            return str(session_id)

    session_id = asyncio.run(record())
    with SessionLedger(url) as ledger:
        assert [event.event_type for event in ledger.history(session_id)] == ["session.created", "message.added"]


def test_a_view_is_of_its_user_alone(url: str) -> None:
    async def use() -> None:
        async with AsyncSessionLedger(url) as ledger:
            session_id = await ledger.create_session("ada", "secret")
            bob = ledger.for_user("bob")
            assert isinstance(bob, AsyncSessionLedger)
            assert bob.user_id == "bob"
            assert await bob.get_session(session_id) is None
            assert await ledger.for_user("ada").get_session(session_id) is not None
            with pytest.raises(PermissionDenied):
                bob.for_user("ada")
            await bob.close()
            with pytest.raises(StoreRejected):
                await bob.get_session(session_id)
            assert await ledger.get_session(session_id) is not None

    asyncio.run(use())


def test_a_view_may_be_made_before_the_ledger_is_open(url: str) -> None:
    async def use() -> None:
        ledger = AsyncSessionLedger(url)
        ada = ledger.for_user("ada")
        session_id = await ada.create_session(question="mine")
        assert (await ledger.get_session(session_id)).user_id == "ada"
        await ledger.close()

    asyncio.run(use())


def test_the_store_behind_is_awaited_too(url: str) -> None:
    async def use() -> None:
        async with AsyncSessionLedger(url) as ledger:
            await ledger.create_session("ada", session_id="s")
            assert len(await ledger.store.events("s")) == 1
            assert ledger.store.capabilities.compare_and_append is True
            assert ledger.url == url
            with pytest.raises(ConfigurationError, match="without a warehouse"):
                _ = ledger.warehouse

    asyncio.run(use())


def test_a_warehouse_is_awaited_too(url: str, tmp_path: Path) -> None:
    async def use() -> None:
        async with AsyncSessionLedger(url, warehouse=f"duckdb:///{tmp_path}/w.duckdb") as ledger:
            await ledger.create_session("ada", session_id="s")
            assert await ledger.warehouse.sync() > 0
            assert (await ledger.warehouse.status()).waiting_rows == 0

    asyncio.run(use())


# The loop goes on


def test_the_loop_goes_on_while_an_append_waits_for_the_disk(plain: SessionLedger, held: HeldStore) -> None:
    async def use() -> None:
        ledger = asynchronous(plain)
        append = asyncio.create_task(ledger.create_session("ada", session_id="s"))
        assert await asyncio.to_thread(held.waiting.acquire, timeout=RETRY_TIMEOUT)
        turns = 0
        for _ in range(1000):
            await asyncio.sleep(0)
            turns += 1
        assert turns == 1000
        assert not append.done()
        assert await ledger.get_session("s") is None  # others read meanwhile
        held.go.set()
        assert await append == "s"

    asyncio.run(use())


def test_many_appends_wait_together(plain: SessionLedger, held: HeldStore) -> None:
    async def use() -> None:
        ledger = asynchronous(plain)
        tasks = [asyncio.create_task(ledger.create_session("ada", session_id=f"s{number}")) for number in range(100)]
        for _ in range(20):  # that many are in the store at once, which can then share a commit
            assert await asyncio.to_thread(held.waiting.acquire, timeout=RETRY_TIMEOUT)
        held.go.set()
        assert len(set(await asyncio.gather(*tasks))) == 100
        assert len(await ledger.list_sessions("ada", limit=200)) == 100

    asyncio.run(use())


def test_a_ledger_whose_disk_hangs_takes_no_threads_of_the_program(plain: SessionLedger, held: HeldStore) -> None:
    async def use() -> None:
        ledger = asynchronous(plain)
        tasks = [asyncio.create_task(ledger.create_session("ada")) for _ in range(60)]
        assert await asyncio.to_thread(held.waiting.acquire, timeout=RETRY_TIMEOUT)
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 7), RETRY_TIMEOUT) == 7
        held.go.set()
        await asyncio.gather(*tasks)

    asyncio.run(use())


def test_errors_come_through_as_they_are(plain: SessionLedger) -> None:
    async def use() -> None:
        ledger = asynchronous(plain)
        with pytest.raises(SessionNotFound) as error:
            await ledger.add_message("nowhere", "user", "hello")
        assert error.value.session_id == "nowhere"
        with pytest.raises(InvalidInput):
            await ledger.create_session("")
        with pytest.raises(TypeError):
            await ledger.get_session()

    asyncio.run(use())


def test_a_store_that_is_unavailable_says_so(plain: SessionLedger, held: HeldStore) -> None:
    held.fails = StoreUnavailable("out")
    held.go.set()
    with pytest.raises(StoreUnavailable):
        asyncio.run(asynchronous(plain).create_session("ada"))


def test_an_append_that_was_cancelled_goes_on_and_is_recorded_once(plain: SessionLedger, held: HeldStore) -> None:
    async def use() -> None:
        ledger = asynchronous(plain)
        append = asyncio.create_task(ledger.create_session("ada", event_id="begin"))
        assert await asyncio.to_thread(held.waiting.acquire, timeout=RETRY_TIMEOUT)
        append.cancel()
        with pytest.raises(asyncio.CancelledError):
            await append
        held.go.set()
        session_id = await ledger.create_session("ada", event_id="begin")
        assert len(await ledger.history(session_id)) == 1

    asyncio.run(use())


def test_context_variables_reach_the_thread(url: str) -> None:
    who = contextvars.ContextVar("who", default="nobody")
    seen = []

    def clock() -> Any:
        seen.append(who.get())
        return START

    async def use() -> None:
        who.set("ada")
        async with AsyncSessionLedger(url, clock=clock) as ledger:
            await ledger.create_session("ada")

    asyncio.run(use())
    assert "ada" in seen

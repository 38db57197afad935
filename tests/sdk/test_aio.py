"""AsyncSessionLedger: the same surface as SessionLedger's, and a loop that goes on while the disk is waited for."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Iterator
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
from ledger.sdk.aio import AsyncIteration, asynchronous
from ledger.testing import START, CountedIds, SetClock

#: Seconds after which a test that waits for another thread has failed.
RETRY_TIMEOUT = 20


class HeldStore:
    """A store whose appends wait until they are let go."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.go = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.fails: Exception | None = None

    def append(self, *args: Any, **named: Any) -> Any:
        self.waiting.release()
        assert self.go.wait(RETRY_TIMEOUT)
        if self.fails is not None:
            raise self.fails
        return self._store.append(*args, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/l.db"


@pytest.fixture
def plain(url: str) -> Iterator[SessionLedger]:
    with SessionLedger(url, clock=SetClock(), ids=CountedIds()) as opened:
        yield opened


@pytest.fixture
def held(plain: SessionLedger) -> Iterator[HeldStore]:
    """The store of ``plain``, whose appends wait from now on."""
    store = HeldStore(plain.store)
    plain.store = store
    yield store
    store.go.set()


async def under_way(events: AsyncIteration) -> Any:
    """The step of an iteration that tasks wait for, as soon as it has begun."""
    for _ in range(1000):
        if events._next is not None:
            return events._next
        await asyncio.sleep(0)
    raise AssertionError("no step has begun")


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
    assert at_once == {"open", "for_user", "replay", "subscribe"}


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


# Opening and closing


def test_a_ledger_opens_when_it_is_awaited(url: str, tmp_path: Path) -> None:
    async def use() -> None:
        ledger = AsyncSessionLedger.open(url)
        assert not (tmp_path / "l.db").exists()
        with pytest.raises(StoreRejected, match="not open yet"):
            _ = ledger.store
        assert await ledger is ledger
        assert (tmp_path / "l.db").exists()
        await ledger.close()

    asyncio.run(use())


def test_what_cannot_be_opened_is_refused_when_it_is_awaited(url: str) -> None:
    async def use() -> None:
        ledger = AsyncSessionLedger(url, create=False)
        with pytest.raises(ConfigurationError, match="no ledger"):
            await ledger
        assert await ledger.close() == 0
        with pytest.raises(ConfigurationError):
            await AsyncSessionLedger("nonsense://")

    asyncio.run(use())


def test_many_first_uses_open_one_ledger(url: str) -> None:
    async def use() -> None:
        ledger = AsyncSessionLedger(url)
        ids = await asyncio.gather(*(ledger.create_session("ada") for _ in range(20)))
        assert len(await ledger.list_sessions("ada")) == len(set(ids)) == 20
        await ledger.close()

    asyncio.run(use())


def test_a_closed_ledger_refuses_and_closing_again_does_nothing(url: str) -> None:
    async def use() -> None:
        ledger = await AsyncSessionLedger(url)
        assert await ledger.close() == 0
        assert await ledger.close() == 0
        with pytest.raises(StoreRejected):
            await ledger.list_sessions()
        never_opened = AsyncSessionLedger(url)
        await never_opened.close()
        with pytest.raises(StoreRejected, match="closed"):
            await never_opened.list_sessions()

    asyncio.run(use())


@pytest.mark.parametrize("drain", ["x", None, -1, float("nan"), 10**400, True], ids="{!s:.9}".format)
def test_what_is_no_time_to_drain_is_refused_and_the_ledger_stays_open(url: str, drain: Any) -> None:
    async def use() -> None:
        ledger = AsyncSessionLedger(url)
        for _ in range(2):  # not open yet, and then open
            with pytest.raises(InvalidInput, match="drain"):
                await ledger.close(drain=drain)
            await ledger.create_session("ada")
        assert len(await ledger.list_sessions()) == 2
        assert await ledger.close(drain=0) == 0

    asyncio.run(use())


def test_closing_waits_for_what_is_under_way(plain: SessionLedger, held: HeldStore) -> None:
    async def use() -> None:
        ledger = asynchronous(plain)
        append = asyncio.create_task(ledger.create_session("ada", session_id="s"))
        assert await asyncio.to_thread(held.waiting.acquire, timeout=RETRY_TIMEOUT)
        closing = asyncio.create_task(ledger.close())
        for _ in range(100):
            await asyncio.sleep(0)
        assert not closing.done()
        held.go.set()
        await closing
        assert await append == "s"

    asyncio.run(use())


def test_one_ledger_serves_one_loop_after_the_other(url: str) -> None:
    ledger = AsyncSessionLedger(url)
    session_id = asyncio.run(ledger.create_session("ada"))
    assert asyncio.run(ledger.get_session(session_id)).user_id == "ada"
    asyncio.run(ledger.close())


# Iterations


def test_a_replay_is_gone_through_with_async_for(url: str) -> None:
    async def use() -> None:
        async with AsyncSessionLedger(url) as ledger:
            session_id = await ledger.create_session("ada", "How many?")
            await ledger.update_summary(session_id, "many")
            seen = [(event.event_type, session.version) async for event, session in ledger.replay(session_id)]
            assert seen == [("session.created", 1), ("summary.updated", 2)]
            with pytest.raises(SessionNotFound):
                await ledger.replay("nowhere")
            with pytest.raises(SessionNotFound):
                async for _ in ledger.replay("nowhere"):
                    pass

    asyncio.run(use())


def test_a_replay_may_be_left_half_way(url: str) -> None:
    async def use() -> None:
        async with AsyncSessionLedger(url) as ledger:
            session_id = await ledger.create_session("ada")
            await ledger.update_summary(session_id, "many")
            async with ledger.replay(session_id) as replay:
                async for _ in replay:
                    break
            with pytest.raises(StopAsyncIteration):
                await anext(replay)
            await replay.aclose()

    asyncio.run(use())


def test_a_subscription_hands_out_events_as_they_come(url: str) -> None:
    async def use() -> None:
        async with AsyncSessionLedger(url) as ledger, ledger.subscribe() as events:
            assert isinstance(events, AsyncIteration)
            coming = asyncio.create_task(anext(events))
            await asyncio.sleep(0)
            await ledger.create_session("ada", session_id="s")
            delivery = await asyncio.wait_for(coming, RETRY_TIMEOUT)
            assert delivery.event.session_id == "s"
            assert events.position == delivery.seq

    asyncio.run(use())


def test_a_step_that_was_cancelled_loses_no_event(url: str) -> None:
    async def use() -> None:
        async with AsyncSessionLedger(url) as ledger, ledger.subscribe() as events:
            begun = events.position
            step = asyncio.create_task(anext(events))
            await asyncio.sleep(0)
            step.cancel()
            with pytest.raises(asyncio.CancelledError):
                await step
            await ledger.create_session("ada", session_id="s")
            assert events.position == begun
            assert (await asyncio.wait_for(anext(events), RETRY_TIMEOUT)).event.session_id == "s"

    asyncio.run(use())


def test_a_step_that_was_done_when_its_task_was_cancelled_loses_no_event(plain: SessionLedger) -> None:
    async def use() -> None:
        async with asynchronous(plain).subscribe() as events:
            step = asyncio.create_task(anext(events))
            brought = await under_way(events)
            plain.create_session("ada", session_id="s")
            brought.result(RETRY_TIMEOUT)  # the loop stands still, and does not hear of it before the task is cancelled
            step.cancel()
            with pytest.raises(asyncio.CancelledError):
                await step
            assert (await asyncio.wait_for(anext(events), RETRY_TIMEOUT)).event.session_id == "s"

    asyncio.run(use())


def test_tasks_that_share_a_subscription_are_handed_each_event_once(plain: SessionLedger) -> None:
    async def use() -> None:
        async with asynchronous(plain).subscribe() as events:
            steps = [asyncio.create_task(anext(events)) for _ in range(3)]
            await asyncio.sleep(0)
            for name in "abc":
                plain.create_session("ada", session_id=name)
            came = await asyncio.wait_for(asyncio.gather(*steps), RETRY_TIMEOUT)
            assert sorted(it.event.session_id for it in came) == ["a", "b", "c"]
            assert events.position == plain.store.last_seq()

    asyncio.run(use())


@pytest.mark.parametrize("leaving", [0, 1])
def test_one_of_two_that_wait_may_be_cancelled_and_the_other_gets_the_event(plain: SessionLedger, leaving: int) -> None:
    async def use() -> None:
        async with asynchronous(plain).subscribe() as events:
            steps = [asyncio.create_task(anext(events)) for _ in range(2)]
            brought = await under_way(events)
            plain.create_session("ada", session_id="s")
            brought.result(RETRY_TIMEOUT)
            steps[leaving].cancel()
            assert (await asyncio.wait_for(steps[1 - leaving], RETRY_TIMEOUT)).event.session_id == "s"
            with pytest.raises(asyncio.CancelledError):
                await steps[leaving]

    asyncio.run(use())


def test_a_step_that_fails_fails_for_one_task_and_the_iteration_goes_on() -> None:
    class Failing(Iterator[int]):
        def __init__(self) -> None:
            self.steps = 0

        def __next__(self) -> int:
            self.steps += 1
            if self.steps == 1:
                raise StoreUnavailable("out")
            return self.steps

    async def use() -> None:
        async with AsyncIteration(Failing) as events:
            came = await asyncio.gather(anext(events), anext(events), return_exceptions=True)
            assert [type(it) for it in came] == [StoreUnavailable, int]
            assert await anext(events) == 3

    asyncio.run(use())


def test_closing_ends_a_subscription_that_waits(url: str) -> None:
    async def use() -> None:
        async with AsyncSessionLedger(url) as ledger:
            events = await ledger.subscribe()
            waiting = asyncio.create_task(anext(events, "ended"))
            await asyncio.sleep(0)
            await events.close()
            assert await asyncio.wait_for(waiting, RETRY_TIMEOUT) == "ended"

    asyncio.run(use())


def test_a_subscription_with_a_timeout_ends_and_goes_on_when_it_is_asked_again(url: str) -> None:
    async def use() -> None:
        async with AsyncSessionLedger(url) as ledger, ledger.subscribe(after=0, timeout=0) as events:
            assert [it async for it in events] == []
            await ledger.create_session("ada")
            assert len([it async for it in events]) == 1

    asyncio.run(use())

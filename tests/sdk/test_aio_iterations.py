"""AsyncSessionLedger: opening and closing, replays and subscriptions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger import (
    AsyncSessionLedger,
    ConfigurationError,
    InvalidInput,
    SessionLedger,
    SessionNotFound,
    StoreRejected,
    StoreUnavailable,
)
from ledger.sdk.aio import AsyncIteration, asynchronous
from support.held_store import RETRY_TIMEOUT, HeldStore


async def under_way(events: AsyncIteration) -> Any:
    """The step of an iteration that tasks wait for, as soon as it has begun."""
    for _ in range(1000):
        if events._next is not None:
            return events._next
        await asyncio.sleep(0)
    raise AssertionError("no step has begun")


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


def test_a_ledger_that_is_closed_ends_its_threads(url: str) -> None:
    before = set(threading.enumerate())
    ledger = AsyncSessionLedger(url)

    async def scenario() -> set[threading.Thread]:
        await ledger.create_session("ada")
        ours = {thread for thread in set(threading.enumerate()) - before if thread.name.startswith("ledger-aio")}
        await ledger.close()
        return ours

    ours = asyncio.run(scenario())
    assert ours
    for thread in ours:
        thread.join(RETRY_TIMEOUT)
        assert not thread.is_alive()


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

"""Seed 4, analysis sessions: one test for each sentence of its description that says what it does."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from ledger import (
    AsyncSessionLedger,
    Change,
    InvalidInput,
    SessionEnded,
    SessionLedger,
    SessionNotFound,
    WrongExpectedVersion,
)
from ledger.compat.analysis_sessions import (
    QueryRecord,
    Session,
    SessionAnalytics,
    SessionStore,
    SessionType,
    close_session_store,
    get_session_store,
)
from ledger.compat.analysis_sessions.tasks import cleanup_expired_sessions, delete_old_archived_sessions
from ledger.testing import START, SetClock
from support.analysis import DAY, HOUR, price, run

# The store


def test_the_usage_example_does_what_it_says(session_store: SessionStore) -> None:
    async def scenario() -> None:
        session = await session_store.create_session(
            assets=["AAPL", "GOOGL"],
            session_type=SessionType.COMPARATIVE,
            user_id="analyst_001",
            ttl_hours=24,
        )
        query = QueryRecord(
            query_type="price",
            parameters={"symbol": "AAPL"},
            result_summary="AAPL: $175.43 (+2.3%)",
        )
        session.add_query(query)
        session.state.update_context("preference", "detailed")
        await session_store.update_session(session.id, session)
        retrieved = await session_store.get_session(session.id)
        assert retrieved is not None
        assert retrieved.state.history.total_queries == 1
        assert retrieved.state.history.queries == [query]
        assert retrieved.state.context == {"preference": "detailed"}
        assert (retrieved.type, retrieved.assets) == (SessionType.COMPARATIVE, ["AAPL", "GOOGL"])
        assert (retrieved.user_id, retrieved.expires_at) == ("analyst_001", START + timedelta(days=1))

    run(scenario)


def test_sessions_create_and_persist_and_their_state_survives_restarts(url: str) -> None:
    async def first() -> str:
        async with SessionStore(url) as store:
            return (await store.create_session(["AAPL"], tags=["weekly"], context={"a": 1})).id

    async def after_the_restart(session_id: str) -> None:
        async with SessionStore(url) as store:
            session = await store.get_session(session_id)
            assert session is not None
            assert (session.tags, session.state.context, session.user_id) == (["weekly"], {"a": 1}, "anonymous")

    session_id = run(first)
    run(lambda: after_the_restart(session_id))


def test_get_session_gives_none_where_there_is_none(session_store: SessionStore, ledger: SessionLedger) -> None:
    assert run(lambda: session_store.get_session("nowhere")) is None
    chat = ledger.create_session("ada", "no analysis")
    assert run(lambda: session_store.get_session(chat)) is None


def test_all_of_a_session_comes_back_as_it_was_saved(session_store: SessionStore) -> None:
    async def scenario() -> None:
        session = await session_store.create_session(["AAPL"], user_id="ada")
        session.add_query(price(at=2, result_summary={"last": 1.5}, execution_time_ms=4.5))
        session.add_query(price(at=1, cache_hit=True))
        session.state.set_preference("currency", "EUR")
        session.state.store_intermediate_result("mean", 3)
        session.tags.append("x")
        session.assets.append("MSFT")
        session.type = SessionType.PORTFOLIO
        await session_store.update_session(session.id, session)
        found = await session_store.get_session(session.id)
        assert found is not None
        assert [it.timestamp for it in found.state.history.queries] == [
            START + timedelta(seconds=1),
            START + timedelta(seconds=2),
        ]
        session.state.history.queries.sort(key=lambda query: query.timestamp)
        changed = {"last_accessed_at"}
        assert found.model_dump(exclude=changed) == session.model_dump(exclude=changed)

    run(scenario)


def test_update_session_appends_only_what_changed(session_store: SessionStore, ledger: SessionLedger) -> None:
    async def scenario() -> None:
        session = await session_store.create_session(["AAPL"], context={"a": 1, "b": 2})
        await session_store.update_session(session.id, session)
        assert len(ledger.history(session.id)) == 1
        session.state.update_context("a", 10)
        del session.state.context["b"]
        await session_store.update_session(session.id, session)
        _, updated = ledger.history(session.id)
        assert {(it.field, it.key, it.value, it.removed) for it in updated.changes} == {
            ("context", "a", 10, False),
            ("context", "b", None, True),
        }

    run(scenario)


def test_two_programs_that_change_different_things_both_succeed(session_store: SessionStore) -> None:
    async def scenario() -> None:
        one = await session_store.create_session(["AAPL"], context={"a": 1})
        other = await session_store.get_session(one.id)
        assert other is not None
        one.add_query(price())
        other.add_query(price("MSFT", at=1))
        other.state.update_context("b", 2)
        await asyncio.gather(session_store.update_session(one.id, one), session_store.update_session(one.id, other))
        found = await session_store.get_session(one.id)
        assert found is not None
        assert found.state.history.total_queries == 2
        assert found.state.context == {"a": 1, "b": 2}

    run(scenario)


def test_a_session_that_no_store_gave_adds_and_takes_nothing_away(session_store: SessionStore) -> None:
    async def scenario() -> None:
        session = await session_store.create_session(["AAPL"], context={"a": 1})
        copy = Session.from_dict(session.to_dict())
        session.state.update_context("b", 2)
        await session_store.update_session(session.id, session)
        copy.state.update_context("c", 3)
        await session_store.update_session(session.id, copy)
        found = await session_store.get_session(session.id)
        assert found is not None
        assert found.state.context == {"a": 1, "b": 2, "c": 3}

    run(scenario)


def test_update_session_refuses_what_cannot_be(session_store: SessionStore, ledger: SessionLedger) -> None:
    async def scenario() -> None:
        session = await session_store.create_session(["AAPL"])
        with pytest.raises(InvalidInput, match="not other"):
            await session_store.update_session("other", session)
        with pytest.raises(SessionNotFound):
            await session_store.update_session("nowhere", Session(id="nowhere"))
        session.state.update_context("bad", object())
        with pytest.raises(InvalidInput):
            await session_store.update_session(session.id, session)
        session.state.context.clear()
        session.expires_at = START + timedelta(days=8)
        with pytest.raises(InvalidInput, match="168"):
            await session_store.update_session(session.id, session)
        assert len(ledger.history(session.id)) == 1

    run(scenario)


def test_more_than_a_thousand_changes_are_saved_as_well(session_store: SessionStore) -> None:
    async def scenario() -> None:
        session = await session_store.create_session(["AAPL"])
        session.state.context = {f"name {number}": number for number in range(1500)}
        await session_store.update_session(session.id, session)
        found = await session_store.get_session(session.id)
        assert found is not None
        assert found.state.context == session.state.context

    run(scenario)


@pytest.mark.parametrize(
    "given",
    [
        {"assets": [1]},
        {"assets": [{"symbol": "AAPL"}]},
        {"assets": None},
        {"assets": 5},
        {"assets": "AAPL"},
        {"tags": [{}]},
        {"tags": "ab"},
        {"context": [1]},
        {"context": "ab"},
        {"context": 5},
        {"context": {1: 1}},
    ],
)
def test_create_session_refuses_what_no_analysis_session_can_hold(
    session_store: SessionStore, ledger: SessionLedger, given: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput, match=next(iter(given))):
        run(lambda: session_store.create_session(**{"assets": ["AAPL"], **given}))
    assert list(ledger.list_sessions()) == []


def test_update_session_refuses_what_no_analysis_session_can_hold(
    session_store: SessionStore, ledger: SessionLedger
) -> None:
    async def scenario() -> None:
        session_id = (await session_store.create_session(["AAPL"])).id
        broken = [await session_store.get_session(session_id) for _ in range(3)]
        broken[0].assets = [1]
        broken[1].tags = None
        broken[2].state.history.queries.append(price().model_copy(update={"parameters": [1]}))
        for session in broken:
            with pytest.raises(InvalidInput, match="Nothing was written"):
                await session_store.update_session(session_id, session)
        assert len(ledger.history(session_id)) == 1

    run(scenario)


def test_a_session_that_another_program_made_odd_breaks_no_list_and_no_statistics(
    session_store: SessionStore, ledger: SessionLedger, clock: SetClock
) -> None:
    async def scenario() -> None:
        good = await session_store.create_session(["AAPL"], user_id="ada")
        odd = await session_store.create_session(["AAPL"], user_id="ada")
        ledger.add_query(odd.id, "price", parameters=[1], execution_time_ms="12ms", query_id="q")  # type: ignore[arg-type]
        ledger.append(odd.id, "odd.added", [Change("query", "r", {"query_type": "price", "timestamp": "soon"})])
        odd_attributes = {"assets": [{"symbol": "X"}], "metrics": "m", "older_metrics": 1}
        ledger.set_attributes(odd.id, odd_attributes)
        strange = {"session_type": "no such type", "attribute": {"analysis_session": True, "assets": 5}}
        ledger.create_session("ada", fields=strange, session_id="strange", ttl=timedelta(seconds=DAY))
        found = await session_store.get_session(odd.id)
        assert found.assets == ['{"symbol":"X"}']
        assert [(it.query_id, it.parameters, it.execution_time_ms) for it in found.state.history.queries] == [
            ("q", {"parameters": [1]}, None),
            ("r", {}, None),
        ]
        await session_store.track_query(odd.id, price())
        assert ledger.get_session(odd.id).queries["q"]["parameters"] == [1]
        listed = await session_store.list_user_sessions("ada")
        assert {each.id for each in listed} == {good.id, odd.id}
        with pytest.raises(InvalidInput, match="session_type"):
            await session_store.get_session("strange")
        analytics = SessionAnalytics(session_store)
        assert (await analytics.get_session_stats())["total_sessions"] == 3
        assert (await analytics.get_user_session_summary("ada"))["total_queries"] == 3
        assert len(json.loads(await analytics.export_session_metrics())) == 3
        clock.move(2 * DAY)
        assert await session_store.cleanup_expired_sessions() == 3
        assert (await analytics.get_session_stats())["abandoned_sessions"] == 3
        assert len(await session_store.list_user_sessions("ada", include_archived=True)) == 2

    run(scenario)


def test_delete_session_removes_a_session(session_store: SessionStore) -> None:
    async def scenario() -> None:
        session = await session_store.create_session(["AAPL"], user_id="ada")
        assert await session_store.delete_session(session.id) is True
        assert await session_store.delete_session(session.id) is False
        assert await session_store.get_session(session.id) is None
        assert list(await session_store.list_user_sessions("ada", include_archived=True)) == []
        with pytest.raises(SessionNotFound):
            await session_store.update_session(session.id, session)

    run(scenario)


def test_list_user_sessions_lists_with_filtering_and_pagination(session_store: SessionStore, clock: SetClock) -> None:
    async def scenario() -> None:
        made = []
        for kind in (SessionType.EQUITY, SessionType.CRYPTO, SessionType.EQUITY, SessionType.EQUITY):
            made.append((await session_store.create_session(["AAPL"], kind, "ada")).id)
            clock.move(1)
        await session_store.create_session(["AAPL"], user_id="bob")
        await session_store.archive_session(made[2])
        listed = await session_store.list_user_sessions("ada")
        assert [it.id for it in listed] == [made[3], made[1], made[0]]
        everything = await session_store.list_user_sessions("ada", include_archived=True)
        assert [(it.id, it.is_archived) for it in everything] == [
            *((made[3], False), (made[2], True), (made[1], False), (made[0], False)),
        ]
        equity = await session_store.list_user_sessions("ada", session_type=SessionType.EQUITY)
        assert [it.id for it in equity] == [made[3], made[0]]
        first = await session_store.list_user_sessions("ada", limit=2)
        second = await session_store.list_user_sessions("ada", limit=2, after=first.next)
        assert [it.id for it in (*first, *second)] == [made[3], made[1], made[0]]
        assert [it.id for it in await session_store.list_user_sessions("ada", limit=1, offset=1)] == [made[1]]
        with pytest.raises(InvalidInput):
            await session_store.list_user_sessions("ada", session_type="nonsense")

    run(scenario)


def test_extend_session_extends_the_ttl(session_store: SessionStore, clock: SetClock) -> None:
    async def scenario() -> None:
        session = await session_store.create_session(["AAPL"], ttl_hours=2)
        clock.move(HOUR)
        extended = await session_store.extend_session(session.id, 3)
        assert extended.expires_at == START + timedelta(hours=5)
        with pytest.raises(InvalidInput, match="session_max_ttl_hours"):
            await session_store.extend_session(session.id, 168)
        with pytest.raises(InvalidInput):
            await session_store.extend_session(session.id, 0)
        with pytest.raises(SessionNotFound):
            await session_store.extend_session("nowhere", 1)
        clock.move(DAY)
        with pytest.raises(SessionEnded):
            await session_store.extend_session(session.id, 1)

    run(scenario)


def test_archive_session_keeps_a_session_that_takes_no_more(session_store: SessionStore) -> None:
    async def scenario() -> None:
        session = await session_store.create_session(["AAPL"])
        session.add_query(price())
        await session_store.update_session(session.id, session)
        assert await session_store.archive_session(session.id) is True
        assert await session_store.archive_session(session.id) is False
        assert await session_store.archive_session("nowhere") is False
        found = await session_store.get_session(session.id)
        assert found is not None
        assert found.is_archived
        assert found.state.history.total_queries == 1
        session.state.update_context("late", True)
        with pytest.raises(SessionEnded):
            await session_store.update_session(session.id, session)

    run(scenario)


def test_sessions_expire_correctly_and_cleanup_archives_them(session_store: SessionStore, clock: SetClock) -> None:
    async def scenario() -> None:
        short = await session_store.create_session(["AAPL"], ttl_hours=1)
        long = await session_store.create_session(["AAPL"], ttl_hours=48)
        clock.move(2 * HOUR)
        with pytest.raises(SessionEnded):
            await session_store.track_query(short.id, price())
        assert await session_store.cleanup_expired_sessions() == 1
        assert await session_store.cleanup_expired_sessions() == 0
        archived, still = await session_store.get_session(short.id), await session_store.get_session(long.id)
        assert archived is not None
        assert still is not None
        assert (archived.is_archived, still.is_archived) == (True, False)

    run(scenario)


def test_sessions_of_other_kinds_are_left_alone(
    session_store: SessionStore, ledger: SessionLedger, clock: SetClock
) -> None:
    chat = ledger.create_session("ada", "a chat", ttl=timedelta(hours=1))
    clock.move(60 * DAY)
    assert cleanup_expired_sessions(session_store)["archived_sessions"] == 0
    assert delete_old_archived_sessions(session_store)["deleted_sessions"] == 0
    found = ledger.get_session(chat)
    assert found is not None
    assert found.status == "expired"


def test_the_store_is_a_singleton_that_initializes_itself(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_URL", url)

    async def scenario() -> None:
        store = get_session_store()
        assert get_session_store() is store
        assert await get_session_store() is store
        session = await store.create_session(["AAPL"])
        await close_session_store()
        again = get_session_store()
        assert again is not store
        assert await again.get_session(session.id) is not None
        await close_session_store()

    run(scenario)


def test_a_users_view_of_the_store_holds_their_sessions_alone(session_store: SessionStore) -> None:
    async def scenario() -> None:
        ada, bob = session_store.for_user("ada"), session_store.for_user("bob")
        session = await ada.create_session(["AAPL"])
        assert session.user_id == "ada"
        assert await bob.get_session(session.id) is None
        assert await ada.get_session(session.id) is not None

    run(scenario)


def test_an_id_of_your_own_is_taken_once(session_store: SessionStore) -> None:
    async def scenario() -> None:
        assert (await session_store.create_session(["AAPL"], session_id="mine")).id == "mine"
        with pytest.raises(WrongExpectedVersion):
            await session_store.create_session(["AAPL"], session_id="mine")

    run(scenario)


def test_the_store_works_over_an_async_ledger(url: str) -> None:
    async def scenario() -> None:
        async with AsyncSessionLedger(url) as ledger:
            store = SessionStore(ledger)
            session = await store.create_session(["AAPL"])
            await store.close()
            assert await ledger.get_session(session.id) is not None

    run(scenario)


@pytest.mark.parametrize("status", ["expired", "archived"])
def test_an_analysis_session_that_has_ended_names_the_way_on_in_the_ledger(
    session_store: SessionStore, ledger: SessionLedger, status: str
) -> None:
    reopen = ledger.restore_session if status == "expired" else ledger.hydrate_session

    async def scenario() -> None:
        session = await session_store.create_session(assets=["AAPL"], user_id="ada")
        query = QueryRecord(query_type="price", parameters={}, result_summary="x")
        if status == "archived":
            await session_store.archive_session(session.id)
        else:
            ledger.expire_session(session.id)
        with pytest.raises(SessionEnded, match=r"nothing was written\. Reopen it in the ledger with ") as refused:
            await session_store.track_query(session.id, query)
        assert f"{reopen.__name__}()" in str(refused.value)
        reopen(session.id)
        await session_store.track_query(session.id, query)

    run(scenario)

"""Subscriptions: every event once, in the order of the commits, from anywhere on, whoever appends."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import Queue

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import CapabilityMissing, Change, CorruptEvent, InvalidInput, SessionLedger, StoreRejected
from ledger.sdk import subscriptions
from ledger.sdk.subscriptions import Delivery, Subscription
from ledger.testing import CountedIds, SetClock

#: Seconds after which a test that waits for an event fails.
LONG = 30


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/l.db?synchronous=NORMAL"


@pytest.fixture
def ledger(url: str) -> Iterator[SessionLedger]:
    with SessionLedger.open(url, clock=SetClock(), ids=CountedIds()) as opened:
        yield opened


def told(deliveries: Iterable[Delivery]) -> list[tuple[str, int, str]]:
    return [(event.session_id, event.version, event.event_type) for _, event in deliveries]


def two_sessions(ledger: SessionLedger) -> None:
    """Eight events: of ada's session a, and of bob's session b."""
    ledger.create_session("ada", "q", session_id="a", fields={"tag": {"x": True, "y": True}})
    ledger.create_session("bob", session_id="b")
    for number in range(3):
        ledger.add_message("a", "user", number)
        ledger.update_session("b", {"title": f"t{number}", "summary": "s"})


EVENTS = [
    ("a", 1, "session.created"),
    ("b", 1, "session.created"),
    *(
        (name, number, kind)
        for number in (2, 3, 4)
        for name, kind in (("a", "message.added"), ("b", "session.updated"))
    ),
]


def test_all_events_come_once_in_the_order_of_the_commits(ledger):
    two_sessions(ledger)
    found = list(ledger.subscribe(0, timeout=0))
    assert told(found) == EVENTS
    assert [event for _, event in found if event.session_id == "a"] == list(ledger.history("a"))
    assert [seq for seq, _ in found] == sorted({seq for seq, _ in found})


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(cut=st.integers(0, 8), at_once=st.integers(1, 9))
def test_a_subscription_goes_on_behind_any_delivery(ledger, cut, at_once):
    if ledger.get_session("a") is None:
        two_sessions(ledger)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subscriptions, "_ROWS", at_once)
        first = ledger.subscribe(0, timeout=0)
        before = [next(first) for _ in range(cut)]
        after = before[-1].seq if before else 0
        assert first.position == after
        assert told(before) + told(ledger.subscribe(after, timeout=0)) == EVENTS


def test_without_a_place_only_what_comes_is_handed_out(ledger):
    two_sessions(ledger)
    subscription = ledger.subscribe(timeout=0)
    assert list(subscription) == []
    ledger.update_summary("a", "new")
    assert told(subscription) == [("a", 5, "summary.updated")]
    ledger.update_summary("b", "new")
    assert told(subscription) == [("b", 5, "summary.updated")]  # one that ended for now goes on


@pytest.mark.parametrize(
    ("criteria", "wanted"),
    [
        ({"session_id": "a"}, [it for it in EVENTS if it[0] == "a"]),
        ({"user_id": "bob"}, [it for it in EVENTS if it[0] == "b"]),
        ({"event_types": "message"}, [it for it in EVENTS if it[2] == "message.added"]),
        ({"event_types": ["message.", "session.c"]}, [it for it in EVENTS if it[2] != "session.updated"]),
        ({"session_id": "a", "event_types": "session.updated"}, []),
        ({"session_id": "later"}, []),
    ],
    ids=str,
)
def test_filters_let_through_what_meets_all_and_the_position_passes_the_rest(ledger, criteria, wanted):
    two_sessions(ledger)
    subscription = ledger.subscribe(0, timeout=0, **criteria)
    assert told(subscription) == wanted
    assert subscription.position == ledger.store.last_seq()
    assert told(ledger.subscribe(last=2, timeout=0, **criteria)) == wanted[-2:]


@pytest.mark.parametrize("last", [1, 3, 7, 8, 9, 10_000])
def test_the_newest_events_come_first_and_then_the_next(ledger, last):
    two_sessions(ledger)
    subscription = ledger.subscribe(last=last, timeout=0)
    assert told(subscription) == EVENTS[-last:]
    ledger.update_summary("a", "new")
    assert told(subscription) == [("a", 5, "summary.updated")]
    assert told(ledger.subscribe(subscription.position, timeout=0)) == []


@pytest.mark.parametrize("last", [1, 2, 5, 8, 9])
@pytest.mark.parametrize("criteria", [{}, {"session_id": "b"}, {"event_types": "message"}, {"user_id": "eve"}], ids=str)
def test_who_goes_on_from_the_position_gets_the_newest_events_and_what_comes_after(ledger, last, criteria):
    two_sessions(ledger)
    subscription = ledger.subscribe(last=last, timeout=0, **criteria)
    begun = subscription.position
    newest = told(subscription)
    ledger.add_message("b", "user", "new", event_id="new")
    after = told(subscription)
    assert told(ledger.subscribe(begun, timeout=0, **criteria)) == newest + after
    if not newest:
        assert begun == subscription.position - 1  # one row came since


def test_a_user_who_goes_on_from_the_position_gets_the_newest_events(ledger):
    two_sessions(ledger)
    ada = ledger.for_user("ada")
    subscription = ada.subscribe(last=2, timeout=0)
    begun = subscription.position
    newest = told(subscription)
    assert newest == [("a", 3, "message.added"), ("a", 4, "message.added")]
    assert told(ada.subscribe(begun, timeout=0)) == newest


def test_a_timeout_without_end_is_none(ledger):
    two_sessions(ledger)
    assert told([next(ledger.subscribe(0, timeout=float("inf")))]) == EVENTS[:1]


def test_the_newest_of_an_empty_ledger_are_none(ledger):
    assert list(ledger.subscribe(last=5, timeout=0)) == []
    assert list(ledger.subscribe(0, timeout=0)) == []


@pytest.mark.parametrize(
    "given",
    [
        *({"after": it} for it in (-1, 1, 3, 99, "7", True, 1.5, 2**63)),
        *({"last": it} for it in (0, -1, 10_001, "3", True)),
        {"after": 0, "last": 1},
        *({"timeout": it} for it in (-1, "1", True, float("nan"), 10**400, 10**5000)),
        *(
            {name: it}
            for name in ("session_id", "user_id", "event_types")
            for it in ("", 7 if name != "event_types" else [7])
        ),
        {"event_types": ["message", ""]},
        {"event_types": None},
        {"event_types": 5},
    ],
    ids=lambda given: f"{given!s:.60}" if given != {"timeout": 10**5000} else "a vast timeout",
)
def test_what_is_no_place_and_no_filter_is_refused(ledger, given):
    two_sessions(ledger)
    with pytest.raises(InvalidInput):
        ledger.subscribe(**given)


def test_a_ledger_without_an_order_of_commits_has_nothing_to_follow(ledger, monkeypatch):
    from ledger.stores.bigquery.store import BigQueryStore
    from ledger.warehouse.bigquery.settings import Dataset

    ledger.store.close()
    ledger.store = BigQueryStore(Dataset("project", "dataset"))
    with pytest.raises(CapabilityMissing, match="history"):
        ledger.subscribe()


# Waiting


class Following:
    """A thread that follows a subscription and says what came."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self._came: Queue[Delivery | BaseException | None] = Queue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            for delivery in self.subscription:
                self._came.put(delivery)
            self._came.put(None)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self._came.put(error)

    def next(self) -> Delivery | BaseException | None:
        return self._came.get(timeout=LONG)

    def join(self) -> None:
        self._thread.join(LONG)
        assert not self._thread.is_alive()


def test_what_another_thread_appends_comes_until_the_subscription_is_closed(ledger):
    two_sessions(ledger)
    following = Following(ledger.subscribe())
    for number in range(3):
        ledger.add_message("a", "user", number)
        delivery = following.next()
        assert isinstance(delivery, Delivery)
        assert delivery.event.version == 5 + number
    following.subscription.close()
    assert following.next() is None
    following.join()
    assert list(following.subscription) == []


def test_a_subscription_ends_with_its_block(ledger):
    with ledger.subscribe() as subscription:
        following = Following(subscription)
    assert following.next() is None
    following.join()


def test_what_another_process_appends_comes(ledger, url):
    ledger.create_session("ada", session_id="a", ttl=None)  # its clock does not stand still
    following = Following(ledger.subscribe(event_types="message"))
    program = f"""
from ledger import SessionLedger
with SessionLedger.open({url!r}) as ledger:
    for number in range(3):
        ledger.add_message("a", "user", number)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    came = [following.next() for _ in range(3)]
    assert [it.event.changes[0].value["content"] for it in came if isinstance(it, Delivery)] == [0, 1, 2]
    following.subscription.close()
    following.join()


def test_a_subscription_ends_with_its_ledger(ledger):
    following = Following(ledger.subscribe())
    ledger.close()
    assert isinstance(following.next(), StoreRejected)
    following.join()


def test_many_who_append_at_once_are_followed_without_a_gap(ledger):
    for number in range(4):
        ledger.create_session("ada", session_id=f"s{number}")
    following = Following(ledger.subscribe())

    def append(number: int) -> None:
        for step in range(25):
            ledger.add_message(f"s{number}", "user", step)

    threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    came = [following.next() for _ in range(100)]
    for thread in threads:
        thread.join()
    following.subscription.close()
    following.join()
    versions = [(it.event.session_id, it.event.version) for it in came if isinstance(it, Delivery)]
    assert {name: [v for it, v in versions if it == name] for name, _ in versions} == {
        f"s{number}": list(range(2, 27)) for number in range(4)
    }


# Who sees what, and what cannot be read


def test_a_user_follows_their_own_sessions_and_what_is_shared(ledger):
    two_sessions(ledger)
    ada = ledger.for_user("ada")
    assert {session_id for session_id, _, _ in told(ada.subscribe(0, timeout=0))} == {"a"}
    subscription = ada.subscribe(timeout=0)
    ledger.update_summary("b", "hidden")
    assert list(subscription) == []
    assert subscription.position == ledger.store.last_seq()
    ledger.grant_access("b", "ada", "read")
    ledger.update_summary("b", "shown")
    assert told(subscription) == [("b", 6, "access.granted"), ("b", 7, "summary.updated")]
    ledger.revoke_access("b", "ada")
    ledger.update_summary("b", "hidden again")
    ledger.update_summary("a", "own")
    assert told(subscription) == [("a", 5, "summary.updated")]
    assert told(ada.subscribe(last=2, timeout=0)) == [("a", 4, "message.added"), ("a", 5, "summary.updated")]
    assert told(ada.subscribe(subscription.position, timeout=0)) == []
    assert list(ledger.for_user("eve").subscribe(0, timeout=0)) == []
    assert list(ada.subscribe(0, user_id="bob", timeout=0)) == []


def test_what_a_user_may_not_see_is_read_once(ledger, monkeypatch):
    ledger.create_session("bob", session_id="b")
    ada = ledger.for_user("ada")
    subscription = ada.subscribe(0, timeout=0)
    assert list(subscription) == []
    reads: list[int] = []
    rows_after = type(ledger.store).rows_after

    def counted(self, seq, *args, **more):
        reads.append(seq)
        return rows_after(self, seq, *args, **more)

    monkeypatch.setattr(type(ledger.store), "rows_after", counted)
    assert list(subscription) == []
    assert reads == []


def test_what_is_brought_in_comes_as_well(ledger, tmp_path):
    two_sessions(ledger)
    with SessionLedger.open(f"sqlite:///{tmp_path}/other.db") as other:
        subscription = other.subscribe(timeout=0)
        other.store.ingest(ledger.history("a"))
        assert told(subscription) == [it for it in EVENTS if it[0] == "a"]


def test_a_row_that_is_not_as_recorded_is_an_error_and_not_passed_over(ledger):
    ledger.create_session("ada", session_id="a")
    ledger.append("a", "a.b", [Change("title", value="x")])
    ledger.store._local._run(
        lambda connection: connection.execute("UPDATE session_events SET occurred_at = 'x' WHERE version = 2")
    )
    subscription = ledger.subscribe(0, timeout=0)
    assert next(subscription).event.version == 1
    for _ in range(2):
        with pytest.raises(CorruptEvent, match="version 2"):
            next(subscription)


def test_the_pauses_of_a_subscription_that_waits_grow_up_to_a_bound(ledger, monkeypatch):
    subscription, pauses = ledger.subscribe(timeout=3600), []

    def wait(seconds):
        pauses.append(seconds)
        if len(pauses) == 20:
            ledger.create_session("ada", session_id="s")

    monkeypatch.setattr(subscription._closed, "wait", wait)
    assert next(subscription).event.session_id == "s"
    assert pauses == sorted(pauses)
    assert pauses[0] < pauses[-1] == pauses[-2] < 1

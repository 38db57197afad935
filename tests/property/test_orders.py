"""Pages of a list by last event, while events are appended between them: no session is given twice, none is lost."""

from __future__ import annotations

from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import Change
from ledger.model.queries import SessionQuery
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import SetClock, event
from ledger.testing.harness import listed

SESSIONS = 7
#: Between two pages: the sessions that get an event, each with the seconds that pass before; a clock may go back.
BETWEEN = st.lists(st.tuples(st.integers(0, SESSIONS - 1), st.sampled_from([0, 0, 1, 5, -3])), max_size=3)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("orders") / "l.db"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    first=st.lists(st.sampled_from([0, 1]), min_size=SESSIONS, max_size=SESSIONS),
    between=st.lists(BETWEEN, max_size=SESSIONS),
    limits=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    by_tag=st.booleans(),
)
def test_a_session_is_given_once_unless_an_event_moves_it_to_the_front(
    path: Path, first: list[int], between: list[list[tuple[int, int]]], limits: list[int], by_tag: bool
) -> None:
    path.unlink(missing_ok=True)
    clock, numbers = SetClock(), count(SESSIONS)
    with closing(SqliteStore(path, clock=clock, synchronous="NORMAL")) as store:
        for number, seconds in enumerate(first):
            clock.move(seconds)
            tag = [Change("tag", "even", True)] if number % 2 == 0 else []
            store.append(f"s{number}", event(number, Change("title", value="t"), *tag, user_id="ada"))
        query = SessionQuery(order_by="updated", tag="even" if by_tag else None)
        asked = {f"s{number}" for number in range(0, SESSIONS, 2 if by_tag else 1)}
        given_ids: list[str] = []
        moved: set[str] = set()
        after, pages = None, 0
        while pages == 0 or after is not None:
            page = store.sessions(query, after=after, limit=limits[pages % len(limits)])
            keys = [(head.updated_at, head.session_id) for head, _ in page]
            assert keys == sorted(keys, reverse=True)
            given_ids += [session_id for _, session_id in keys]
            after = page.next
            for number, seconds in between[pages] if pages < len(between) else []:
                clock.move(seconds)
                store.append(f"s{number}", event(next(numbers), Change("title", value="u")))
                moved.add(f"s{number}")
            pages += 1
        assert len(given_ids) == len(set(given_ids))
        assert asked - moved <= set(given_ids) <= asked
        assert set(listed(store, query, 2)) == asked

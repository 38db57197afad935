"""The contract of sessions that have ended: which appends are refused, and the status that lists show."""

from __future__ import annotations

from datetime import timedelta

from ledger import Change, SessionEnded
from ledger.model.instants import to_text
from ledger.model.queries import SessionQuery
from ledger.stores.base import EventStore
from ledger.testing.harness import Harness, Refused, begin, events_of, listed
from ledger.testing.streams import START, SetClock, event, uuid7

HOUR = timedelta(hours=1)
NOW = START + HOUR
IDS = [uuid7(START, number) for number in range(8)]
#: Each session's recorded status, its ``expires_at``, and its status at the time ``NOW``.
LIVES = dict(
    zip(
        IDS,
        [
            ("active", None, "active"),
            ("active", START + 2 * HOUR, "active"),
            ("active", NOW, "expired"),
            ("waiting", START, "expired"),
            ("completed", START, "completed"),
            ("expired", START, "expired"),
            ("deleted", START, "deleted"),
            ("archived", None, "archived"),
        ],
        strict=True,
    )
)


def fill(store: EventStore) -> None:
    """Create the sessions of ``LIVES``."""
    for session_id, (status, end, _) in LIVES.items():
        ends = Change("expires_at", value=None if end is None else to_text(end))
        begin(store, session_id, Change("status", value=status), ends)


class LifetimesContract(Harness):
    """Tests of ended sessions, which must refuse events that require an open session.

    Lists must show a session as expired once its ``expires_at`` has passed, even if no event has recorded that yet.
    """

    def test_an_event_for_open_sessions_is_refused_where_the_session_has_ended(
        self, store: EventStore, clock: SetClock, refused: Refused
    ) -> None:
        fill(store)
        clock.now = NOW
        ended = ("expired", "deleted") if self.capabilities.tiered else ("expired", "deleted", "archived")
        closed = [session_id for session_id, life in LIVES.items() if life[2] in ended]
        said = event(50, Change("title", value="t"), require_open=True)
        errors = refused.each(SessionEnded, closed, lambda session_id: store.append(session_id, said))
        assert [(error.session_id, error.status) for error in errors] == [(it, LIVES[it][2]) for it in closed]
        for session_id in LIVES.keys() - closed:
            reopened = LIVES[session_id][2] == "archived"  # reopening is an event too
            assert store.append(session_id, said).version == 2 + reopened
        for session_id in closed:  # other events are accepted
            assert store.append(session_id, event(51, Change("title", value="t"))).version == 2

    def test_what_an_append_says_of_the_end_holds_for_the_next(
        self, store: EventStore, clock: SetClock, refused: Refused
    ) -> None:
        begin(store)
        store.append("s", event(1, Change("title", value="t"), require_open=True))
        store.append("s", event(2, Change("status", value="expired"), require_open=True))
        refused(SessionEnded, lambda: store.append("s", event(3, Change("title", value="u"), require_open=True)))
        store.append("s", event(4, Change("status", value="active"), Change("expires_at", value=to_text(NOW))))
        store.append("s", event(5, Change("title", value="v"), require_open=True))
        clock.now = NOW
        refused(SessionEnded, lambda: store.append("s", event(6, Change("title", value="w"), require_open=True)))
        assert len(events_of(store)) == 5

    def test_an_event_that_is_there_is_replayed_after_the_end(self, store: EventStore) -> None:
        begin(store)
        said = event(1, Change("title", value="t"), require_open=True)
        store.append("s", said)
        store.append("s", event(2, Change("status", value="expired")))
        assert store.append("s", said).replayed

    def test_lists_ask_for_the_status_of_a_time(self, store: EventStore, clock: SetClock) -> None:
        fill(store)
        for status in ("active", "expired", "waiting"):  # few, since listing may be slow
            now = [it for it, life in reversed(LIVES.items()) if life[2] == status]
            assert listed(store, SessionQuery(status=status, at=NOW)) == now, status
            recorded = [it for it, life in reversed(LIVES.items()) if life[0] == status]
            assert listed(store, SessionQuery(status=status)) == recorded, status
        others = [it for it, life in reversed(LIVES.items()) if life[2] not in ("deleted", "expired")]
        assert listed(store, SessionQuery(without=("deleted", "expired"), at=NOW), 3) == others
        assert listed(store, SessionQuery(at=NOW, unswept=True)) == [IDS[3], IDS[2]]
        clock.move(100)
        store.append(IDS[1], event(50, Change("title", value="t")))
        assert listed(store, SessionQuery(updated_before=clock.now, without=("deleted", "expired"))) == [
            *(IDS[number] for number in (7, 4, 3, 2, 0))
        ]

"""Forks and rewinds that are broken off, made by many at once, or overtaken by appends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import pytest

from ledger import (
    Appended,
    Change,
    IdempotencyConflict,
    OutcomeUnknown,
    SessionLedger,
    StoreUnavailable,
    WrongExpectedVersion,
)
from ledger.stores.base import EventStore
from support.branches import content, read

# Broken off, and in between


class Failing:
    """A store whose appends beyond the first so many fail; the one at the limit may be recorded all the same."""

    def __init__(self, store: EventStore, appends: int, *, recorded: bool, kind: type[BaseException]) -> None:
        self._store, self._left, self._recorded, self._kind = store, appends, recorded, kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append(self, *args: Any, **more: Any) -> Appended:
        self._left -= 1
        if self._left >= 0:
            return self._store.append(*args, **more)
        if self._left == -1 and self._recorded:
            self._store.append(*args, **more)
        raise self._kind("cut off")


def cut_off(
    ledger: SessionLedger, appends: int, recorded: bool, kind: type[BaseException], call: Callable[[], object]
) -> BaseException | None:
    """What a call raises whose appends fail beyond the first so many; None where it needs no more."""
    store = ledger.store
    ledger.store = Failing(store, appends, recorded=recorded, kind=kind)
    try:
        call()
    except (OutcomeUnknown, StoreUnavailable, KeyboardInterrupt) as error:
        return error
    finally:
        ledger.store = store
    return None


FAILURES = [(False, StoreUnavailable), (True, OutcomeUnknown), (False, OutcomeUnknown), (False, KeyboardInterrupt)]


@pytest.mark.usefixtures("small_events")
@pytest.mark.parametrize(("recorded", "kind"), FAILURES)
@pytest.mark.parametrize("given_id", [True, False], ids=["own key", "no key"])
def test_a_fork_broken_off_after_any_event_is_finished_by_the_same_call(ledger, sid, recorded, kind, given_id):
    whole = read(ledger, sid)
    for appends in count():
        key = f"fork {appends}" if given_id else None
        before = ledger.get_session(sid).version
        about = {"event_id": key} if key else {}
        error = cut_off(ledger, appends, recorded, kind, partial(ledger.fork_session, sid, at_version=9, **about))
        noted = [it for it in ledger.history(sid, after=before) if it.event_type == "session.forked"]
        if error is None:
            break
        assert isinstance(error, OutcomeUnknown if appends and kind is StoreUnavailable else kind)
        for event in noted:
            half = ledger.get_session(event.changes[0].key, messages=True)
            assert half is None or half.status == "copying" or content(half) == whole
        if isinstance(error, OutcomeUnknown):
            assert error.session_id == sid
            about = about or {"event_id": error.event_id}
        elif noted:  # whoever looks at the source finds what it needs
            about = about or {"event_id": noted[0].event_id}
        fork = ledger.fork_session(sid, at_version=9, **about)
        assert not about or ledger.fork_session(sid, **about) == fork
        assert read(ledger, fork) == whole
        assert ledger.get_session(fork).lineage["version"] == 9
        assert len(ledger.history(sid, after=before)) == 1
        assert len(ledger.history(fork)) == len(ledger.history(ledger.fork_session(sid, at_version=9)))
    assert appends > 4
    assert list(ledger.list_sessions(status="copying")) == []


@pytest.mark.usefixtures("small_events")
@pytest.mark.parametrize(("recorded", "kind"), FAILURES)
@pytest.mark.parametrize("given_id", [True, False], ids=["own key", "no key"])
def test_a_fork_of_a_guest_who_may_read_is_finished_by_the_same_call(ledger, sid, recorded, kind, given_id):
    whole, events = read(ledger, sid), ledger.history(sid)
    for appends in count():
        about = {"event_id": f"fork {appends}"} if given_id else {}

        def call(about: dict[str, str] = about) -> str:
            return ledger.for_user("bob").fork_session(sid, at_version=9, **about)

        error = cut_off(ledger, appends, recorded, kind, call)
        if error is None:
            break
        if not given_id and isinstance(error, KeyboardInterrupt):
            continue  # without a key, nothing says what to call again
        about |= {"event_id": error.event_id} if isinstance(error, OutcomeUnknown) else {}
        fork = call()
        assert call() == ledger.for_user("bob").fork_session(sid, **about) == fork
        assert read(ledger, fork) == whole
    assert appends > 3
    assert ledger.history(sid) == events


def emptied(ledger: SessionLedger, *ends: Callable[[str], object]) -> str:
    """A session of twelve messages, added by versions 2 to 13, that lost them after what ``ends`` did to it."""
    sid = ledger.create_session("ada", "q")
    for number in range(12):
        ledger.add_message(sid, "user", number, message_id=f"m{number:02}")
    for end in ends:
        end(sid)
    ledger.append(sid, "a.b", [Change("message", f"m{number:02}", removed=True) for number in range(12)])
    return sid


@pytest.mark.usefixtures("small_events")
@pytest.mark.parametrize(("recorded", "kind"), FAILURES)
def test_a_rewind_broken_off_after_any_event_is_finished_by_the_same_call(ledger, recorded, kind):
    for appends in count():
        sid = emptied(ledger)
        before = read(ledger, sid, 13)

        rewind = partial(ledger.rewind, sid, 13, event_id="back")
        error = cut_off(ledger, appends, recorded, kind, partial(rewind, expected_version=14))
        if error is None:
            break
        assert isinstance(error, OutcomeUnknown if appends and kind is StoreUnavailable else kind)
        if 0 < appends < 3:
            assert ledger.get_session(sid).status == "rewinding"
        again, once_more = rewind(expected_version=14) if appends else rewind(), rewind()
        assert (again.event_id, again.version) == (once_more.event_id, once_more.version)
        assert read(ledger, sid) == before
        rewound = [it.event_type for it in ledger.history(sid, after=14)]
        assert rewound == ["session.rewinding"] * 3 + ["session.rewound"]
    assert appends == 4


@pytest.mark.usefixtures("small_events")
def test_a_half_fork_keeps_what_others_wrote_to_it_and_gets_the_rest(ledger, sid):
    store, whole = ledger.store, read(ledger, sid)
    ledger.store = Failing(store, 3, recorded=False, kind=StoreUnavailable)
    with pytest.raises(OutcomeUnknown) as broken:
        ledger.fork_session(sid, new_session_id="fork", event_id="k")
    ledger.store = store
    assert str(broken.value).count("event_id")
    ledger.update_session("fork", {"title": "Mine"})
    assert ledger.fork_session(sid, event_id="k") == "fork"
    assert read(ledger, "fork") == {**whole, "title/": '"Mine"'}
    with pytest.raises(WrongExpectedVersion):
        ledger.fork_session(sid, new_session_id="fork")


@pytest.mark.usefixtures("small_events")
def test_a_half_fork_that_expired_is_finished_and_lives(ledger, sid, clock):
    store = ledger.store
    ledger.store = Failing(store, 3, recorded=False, kind=StoreUnavailable)
    with pytest.raises(OutcomeUnknown):
        ledger.fork_session(sid, at_version=8, new_session_id="fork", event_id="k")
    ledger.store = store
    clock.move(25 * 3600)
    ledger.expire_old_sessions()
    ledger.fork_session(sid, event_id="k")
    assert ledger.get_session("fork").status == "active"
    ledger.add_message("fork", "user", "on we go")


@pytest.mark.usefixtures("small_events")
def test_many_who_finish_one_fork_make_one(ledger, sid):
    whole, made = read(ledger, sid), []
    threads = [
        threading.Thread(target=lambda: made.append(ledger.fork_session(sid, at_version=9, event_id="k")))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(set(made))) == (6, 1)
    assert read(ledger, made[0]) == whole
    alone = ledger.fork_session(sid, at_version=9)
    assert len(ledger.history(made[0])) == len(ledger.history(alone))


class Between:
    """A store to which somebody else appends before each append, so many times from the first of them on."""

    def __init__(self, store: EventStore, write: Callable[[int], object], times: int, *, first: int = 1) -> None:
        self._store, self._write, self._times, self._done = store, write, first - 1 + times, 0
        self._first = first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append(self, *args: Any, **more: Any) -> Appended:
        if self._done < self._times:
            self._done += 1
            if self._done >= self._first:
                self._write(self._done)
        return self._store.append(*args, **more)


@pytest.mark.usefixtures("small_events")
@pytest.mark.parametrize("times", [1, 2, 5])
def test_what_is_appended_to_the_source_meanwhile_is_not_in_the_fork(ledger, sid, times):
    store, whole = ledger.store, read(ledger, sid)

    def write(number: int) -> None:
        inner, ledger.store = ledger.store, store
        ledger.add_tags(sid, f"t{number}")
        ledger.store = inner

    ledger.store = Between(store, write, times)
    fork = ledger.fork_session(sid)
    ledger.store = store
    assert read(ledger, fork) == whole
    assert ledger.get_session(fork).lineage["version"] == 9
    assert len(ledger.get_session(sid).tags) == times + 1


@pytest.mark.usefixtures("small_events")
@pytest.mark.parametrize("expected", [{}, {"expected_version": 14}])
def test_what_others_append_after_the_first_event_of_a_rewind_is_kept(ledger, expected):
    sid = ledger.create_session("ada", "q")
    for number in range(12):
        ledger.add_message(sid, "user", number, message_id=f"m{11 - number:02}")
    ledger.append(sid, "a.b", [Change("message", f"m{number:02}", removed=True) for number in range(12)])
    store = ledger.store

    def write(number: int) -> None:
        inner, ledger.store = ledger.store, store
        ledger.add_message(sid, "user", "urgent", message_id=f"m05 {number}")
        if number == 2:
            ledger.remove_message(sid, "m11")  # the first, which is back already
        ledger.store = inner

    ledger.store = Between(store, write, 2, first=2)
    done = ledger.rewind(sid, 13, event_id="back", **expected)
    ledger.store = store
    session = ledger.get_session(sid, messages=True)
    assert [it.content for it in session.messages] == [*range(1, 12), "urgent", "urgent"]
    assert (session.status, session.version) == ("active", done.version)
    again = ledger.rewind(sid, 13, event_id="back", **expected)
    assert (again.version, again.replayed) == (done.version, True)


@pytest.mark.usefixtures("small_events")
@pytest.mark.parametrize("expected", [{}, {"expected_version": 16}], ids=["any version", "expected version"])
@pytest.mark.parametrize("target", [13, 14], ids=["active", "expired, which is not restored"])
def test_what_others_append_to_a_broken_off_rewind_is_kept_whatever_its_status(ledger, expected, target):
    sid = emptied(ledger, ledger.expire_session, ledger.restore_session)
    rewind = partial(ledger.rewind, sid, target, event_id="back", **expected)
    assert isinstance(cut_off(ledger, 1, False, StoreUnavailable, rewind), OutcomeUnknown)
    ledger.add_tags(sid, "new")
    ledger.complete_session(sid)
    done, again = rewind(), rewind()
    session = ledger.get_session(sid, messages=True)
    assert [it.content for it in session.messages] == [*range(12)]
    assert (session.tags, session.status, session.version) == (("new",), "completed", done.version)
    assert (again.version, again.replayed) == (done.version, True)


@pytest.mark.usefixtures("small_events")
def test_a_broken_off_rewind_keeps_the_status_where_the_earlier_one_is_not_restored(ledger):
    sid = emptied(ledger, ledger.expire_session, ledger.restore_session, ledger.complete_session)
    rewind = partial(ledger.rewind, sid, 14, event_id="back")
    assert isinstance(cut_off(ledger, 1, False, StoreUnavailable, rewind), OutcomeUnknown)
    assert ledger.require_session(sid).status == "completed"
    rewind()
    assert ledger.require_session(sid).status == "completed"


@pytest.mark.usefixtures("small_events")
def test_a_completed_session_is_rewound_in_several_events_after_its_end_too(ledger, clock):
    end = clock() + timedelta(days=1)
    sid = emptied(ledger, lambda sid: ledger.update_session(sid, {"expires_at": end}), ledger.complete_session)
    clock.move(25 * 3600)
    assert ledger.require_session(sid).expires_at < clock()
    ledger.rewind(sid, 13)
    assert len(ledger.history(sid, after=16)) > 2
    assert [it.content for it in ledger.get_messages(sid)] == [*range(12)]


@pytest.mark.usefixtures("small_events")
def test_the_key_of_a_rewind_in_several_events_is_refused_for_another_version(ledger):
    sid = emptied(ledger)
    ledger.rewind(sid, 13, event_id="back")
    version = ledger.require_session(sid).version
    for other in (5, 12):
        with pytest.raises(IdempotencyConflict):
            ledger.rewind(sid, other, event_id="back")
    assert ledger.require_session(sid).version == version


@pytest.mark.usefixtures("small_events")
@pytest.mark.parametrize("times", [1, 2, 3])
def test_what_is_appended_before_the_first_event_of_a_rewind_is_taken_back_too(ledger, times):
    sid, store = ledger.create_session("ada", "q"), ledger.store
    for number in range(9):
        ledger.add_message(sid, "user", number)
    then = read(ledger, sid, 5)
    ledger.update_session(sid, {"message": {"new": {"role": "user", "content": 1}}})

    def write(number: int) -> None:
        inner, ledger.store = ledger.store, store
        ledger.update_session(sid, {"title": f"t{number}", "context": {str(number): 1}})
        ledger.store = inner

    ledger.store = Between(store, write, times)
    ledger.rewind(sid, 5)
    ledger.store = store
    assert read(ledger, sid) == then
    ledger.store = Between(store, lambda number: write(number + 10), 1)
    ledger.update_session(sid, {"title": "x"})
    version = ledger.get_session(sid).version
    ledger.store = Between(store, lambda number: write(number + 20), 1)
    with pytest.raises(WrongExpectedVersion):
        ledger.rewind(sid, 5, expected_version=version)
    ledger.store = store
    assert ledger.get_session(sid).version == version + 1
